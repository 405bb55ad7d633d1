/* SPDX-License-Identifier: Apache-2.0
 * Prepared statements: binding with sticky failure, stepping, columns. */
#include "store/internal.h"

Status store_prepare(StoreStmt **out, Store *s, const char *sql, Err *e) {
    StoreStmt *q = mem_new(StoreStmt);
    if (!q) return err_set(e, ERR_NOMEM, "%s: statement", s->name);
    q->s = s;
    int rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &q->q, NULL);
    if (rc != SQLITE_OK || !q->q) {
        Status st = store__fail(s, rc != SQLITE_OK ? rc : SQLITE_MISUSE, e);
        mem_free(q);
        return st;
    }
    *out = q;
    return OK;
}

void store_stmt_free(StoreStmt *q) {
    if (!q) return;
    sqlite3_finalize(q->q);
    mem_free(q);
}

static void bound(StoreStmt *q, int rc) {
    if (q->bind_rc == SQLITE_OK) q->bind_rc = rc;
}

void store_bind_int(StoreStmt *q, int i, int64_t v) { bound(q, sqlite3_bind_int64(q->q, i, v)); }

/* A NULL pointer would bind NULL: an empty text is "". */
void store_bind_text(StoreStmt *q, int i, Slice v) {
    const char *p = v.n > 0 ? v.p : "";
    bound(q, sqlite3_bind_text64(q->q, i, p, v.n, SQLITE_TRANSIENT, SQLITE_UTF8));
}

void store_bind_blob(StoreStmt *q, int i, const void *p, size_t n) {
    bound(q, sqlite3_bind_blob64(q->q, i, n > 0 ? p : "", n, SQLITE_TRANSIENT));
}

void store_bind_null(StoreStmt *q, int i) { bound(q, sqlite3_bind_null(q->q, i)); }

Status store_step(bool *row, StoreStmt *q, Err *e) {
    int rc = q->bind_rc != SQLITE_OK ? q->bind_rc : sqlite3_step(q->q);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) return store__fail(q->s, rc, e);
    *row = rc == SQLITE_ROW;
    return OK;
}

Status store_run(StoreStmt *q, Err *e) {
    bool row = true;
    Status st = OK;
    while (st == OK && row) st = store_step(&row, q, e);
    store_reset(q);
    return st;
}

void store_reset(StoreStmt *q) {
    sqlite3_reset(q->q); /* repeats the error that the step gave */
    sqlite3_clear_bindings(q->q);
    q->bind_rc = SQLITE_OK;
}

int64_t store_int(const StoreStmt *q, int i) {
    return sqlite3_column_type(q->q, i) == SQLITE_INTEGER ? sqlite3_column_int64(q->q, i) : 0;
}

/* The pointer first, then the length: SQLite may convert in the first call. */
static Slice column(const StoreStmt *q, int i, int type) {
    if (sqlite3_column_type(q->q, i) != type) return (Slice){"", 0};
    const void *p = type == SQLITE_TEXT ? (const void *)sqlite3_column_text(q->q, i)
                                        : sqlite3_column_blob(q->q, i);
    int n = sqlite3_column_bytes(q->q, i);
    return p && n > 0 ? (Slice){p, (size_t)n} : (Slice){"", 0};
}

Slice store_text(const StoreStmt *q, int i) { return column(q, i, SQLITE_TEXT); }

Slice store_blob(const StoreStmt *q, int i) { return column(q, i, SQLITE_BLOB); }

bool store_is_null(const StoreStmt *q, int i) {
    return sqlite3_column_type(q->q, i) == SQLITE_NULL;
}
