/* SPDX-License-Identifier: Apache-2.0
 * batches.db: rows of files and batches. io thread. */
#include <stdio.h>

#include "api/batches_internal.h"

static const char *const steps[] = {
    "CREATE TABLE files ("
    "  n       INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id      TEXT NOT NULL UNIQUE,"
    "  owner   TEXT NOT NULL," /* id of the key; '' without keys */
    "  name    TEXT NOT NULL,"
    "  purpose TEXT NOT NULL," /* batch, batch_output */
    "  bytes   INTEGER NOT NULL,"
    "  created INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX files_by_owner ON files (owner, n);"
    "CREATE TABLE batches ("
    "  n         INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  id        TEXT NOT NULL UNIQUE,"
    "  owner     TEXT NOT NULL,"
    "  input     TEXT NOT NULL,"
    "  endpoint  TEXT NOT NULL,"
    "  period    TEXT NOT NULL," /* completion_window */
    "  out       TEXT NOT NULL," /* ids of its outputs, files once it is over */
    "  err       TEXT NOT NULL,"
    "  metadata  TEXT NOT NULL," /* JSON, or '' */
    "  state     INTEGER NOT NULL,"
    "  has_out   INTEGER NOT NULL,"
    "  has_err   INTEGER NOT NULL,"
    "  total     INTEGER NOT NULL,"
    "  completed INTEGER NOT NULL,"
    "  failed    INTEGER NOT NULL,"
    "  errors    TEXT NOT NULL," /* JSON objects with commas between, or '' */
    "  t_created INTEGER NOT NULL, t_in_progress INTEGER NOT NULL, t_expires INTEGER NOT NULL,"
    "  t_finalizing INTEGER NOT NULL, t_completed INTEGER NOT NULL, t_failed INTEGER NOT NULL,"
    "  t_expired INTEGER NOT NULL, t_cancelling INTEGER NOT NULL, t_cancelled INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX batches_by_owner ON batches (owner, n);"
    "CREATE INDEX batches_by_state ON batches (state, n);",
};

static const StoreSchema schema = {.what = "batches",
                                   .app_id = 0x494e4742 /* INGB */,
                                   .steps = steps,
                                   .n_steps = COUNT_OF(steps)};

#define FILE_COLUMNS "n, id, owner, name, purpose, bytes, created"
#define BATCH_COLUMNS                                                                       \
    "n, id, owner, input, endpoint, period, out, err, metadata, state, has_out, has_err, "  \
    "total, completed, failed, errors, t_created, t_in_progress, t_expires, t_finalizing, " \
    "t_completed, t_failed, t_expired, t_cancelling, t_cancelled"

enum { COL_STATE = 9, COL_TIMES = 16 };

Status batches__db_open(Store **out, const char *path, Err *e) {
    return store_open(out, path, &schema, e);
}

/* ---- columns ---- */

static void take(char *out, size_t cap, const StoreStmt *q, int i) {
    Slice s = store_text(q, i);
    size_t n = MIN(s.n, cap - 1);
    memcpy(out, s.p, n);
    out[n] = '\0';
}

static char *dup_column(const StoreStmt *q, int i) {
    Slice s = store_text(q, i);
    return mem_dup(s.p, s.n);
}

static void read_file(FileRow *f, const StoreStmt *q) {
    f->n = store_int(q, 0);
    take(f->id, sizeof f->id, q, 1);
    take(f->owner, sizeof f->owner, q, 2);
    take(f->name, sizeof f->name, q, 3);
    f->purpose = slice_eq_str(store_text(q, 4), "batch") ? "batch" : "batch_output";
    f->bytes = store_int(q, 5);
    f->created = store_int(q, 6);
}

void batches__row_deinit(BatchRow *r) {
    mem_free(r->metadata);
    mem_free(r->errors);
    *r = (BatchRow){0};
}

static Status read_row(BatchRow *r, const StoreStmt *q, Err *e) {
    int64_t state = store_int(q, COL_STATE);
    *r =
        (BatchRow){.n = store_int(q, 0),
                   .state = state >= 0 && state < BATCH_N_STATES ? (BatchState)state : BATCH_FAILED,
                   .has_out = store_int(q, 10) != 0,
                   .has_err = store_int(q, 11) != 0,
                   .n_total = store_int(q, 12),
                   .n_ok = store_int(q, 13),
                   .n_failed = store_int(q, 14)};
    take(r->id, sizeof r->id, q, 1);
    take(r->owner, sizeof r->owner, q, 2);
    take(r->input, sizeof r->input, q, 3);
    take(r->endpoint, sizeof r->endpoint, q, 4);
    take(r->window, sizeof r->window, q, 5);
    take(r->out, sizeof r->out, q, 6);
    take(r->err, sizeof r->err, q, 7);
    for (int i = 0; i < BATCH_N_TIMES; i++) r->t[i] = store_int(q, COL_TIMES + i);
    r->metadata = dup_column(q, 8);
    r->errors = dup_column(q, 15);
    if (r->metadata && r->errors) return OK;
    batches__row_deinit(r);
    return err_set(e, ERR_NOMEM, "a batch's row");
}

static void bind_text(StoreStmt *q, int i, const char *s) {
    store_bind_text(q, i, slice_of(s ? s : ""));
}

/* ---- one row ---- */

static Status run_and_free(StoreStmt *q, Err *e) {
    Status st = store_run(q, e);
    store_stmt_free(q);
    return st;
}

Status batches__count(int64_t *out, Store *s, const char *sql, const char *text, Err *e) {
    StoreStmt *q = NULL;
    bool row = false;
    TRY(store_prepare(&q, s, sql, e));
    bind_text(q, 1, text);
    Status st = store_step(&row, q, e);
    if (st == OK) *out = row ? store_int(q, 0) : 0;
    store_stmt_free(q);
    return st;
}

Status batches__file_add(Store *s, const FileRow *f, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_prepare(&q, s,
                      "INSERT INTO files (id, owner, name, purpose, bytes, created) "
                      "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
                      e));
    bind_text(q, 1, f->id);
    bind_text(q, 2, f->owner);
    bind_text(q, 3, f->name);
    bind_text(q, 4, f->purpose);
    store_bind_int(q, 5, f->bytes);
    store_bind_int(q, 6, f->created);
    return run_and_free(q, e);
}

Status batches__file_find(bool *found, FileRow *out, Store *s, const char *owner, Slice id,
                          Err *e) {
    StoreStmt *q = NULL;
    *found = false;
    TRY(store_prepare(&q, s,
                      "SELECT " FILE_COLUMNS " FROM files WHERE id = ?1 AND (?2 IS NULL OR "
                      "owner = ?2)",
                      e));
    store_bind_text(q, 1, id);
    if (owner) bind_text(q, 2, owner);
    Status st = store_step(found, q, e);
    if (st == OK && *found) read_file(out, q);
    store_stmt_free(q);
    return st;
}

Status batches__file_remove(Store *s, const char *id, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_prepare(&q, s, "DELETE FROM files WHERE id = ?1", e));
    bind_text(q, 1, id);
    return run_and_free(q, e);
}

Status batches__row_add(Store *s, const BatchRow *r, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_prepare(
        &q, s,
        "INSERT INTO batches (id, owner, input, endpoint, period, out, err, metadata, "
        "state, has_out, has_err, total, completed, failed, errors, t_created, "
        "t_in_progress, t_expires, t_finalizing, t_completed, t_failed, t_expired, "
        "t_cancelling, t_cancelled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0, "
        "0, 0, 0, '', ?10, 0, ?11, 0, 0, 0, 0, 0, 0)",
        e));
    const char *const text[] = {r->id,     r->owner, r->input, r->endpoint,
                                r->window, r->out,   r->err,   r->metadata};
    for (int i = 0; i < (int)COUNT_OF(text); i++) bind_text(q, i + 1, text[i]);
    store_bind_int(q, 9, r->state);
    store_bind_int(q, 10, r->t[BATCH_T_CREATED]);
    store_bind_int(q, 11, r->t[BATCH_T_EXPIRES]);
    return run_and_free(q, e);
}

Status batches__row_find(bool *found, BatchRow *out, Store *s, const char *owner, Slice id,
                         Err *e) {
    StoreStmt *q = NULL;
    *found = false;
    TRY(store_prepare(&q, s, "SELECT " BATCH_COLUMNS " FROM batches WHERE id = ?1 AND owner = ?2",
                      e));
    store_bind_text(q, 1, id);
    bind_text(q, 2, owner);
    Status st = store_step(found, q, e);
    if (st == OK && *found) st = read_row(out, q, e);
    store_stmt_free(q);
    return st;
}

Status batches__row_save(Store *s, const BatchRow *r, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_prepare(
        &q, s,
        "UPDATE batches SET state = ?2, has_out = ?3, has_err = ?4, total = ?5, "
        "completed = ?6, failed = ?7, errors = ?8, t_created = ?9, "
        "t_in_progress = ?10, t_expires = ?11, t_finalizing = ?12, t_completed = ?13, "
        "t_failed = ?14, t_expired = ?15, t_cancelling = ?16, t_cancelled = ?17 "
        "WHERE id = ?1",
        e));
    const int64_t number[] = {r->state, r->has_out, r->has_err, r->n_total, r->n_ok, r->n_failed};
    bind_text(q, 1, r->id);
    for (int i = 0; i < (int)COUNT_OF(number); i++) store_bind_int(q, i + 2, number[i]);
    bind_text(q, 8, r->errors);
    for (int i = 0; i < BATCH_N_TIMES; i++) store_bind_int(q, 9 + i, r->t[i]);
    return run_and_free(q, e);
}

/* ---- lists ---- */

static Status prepare_page(StoreStmt **q, Store *s, const char *columns, const char *table,
                           const char *more, const BatchesPage *p, Err *e) {
    char sql[700];
    snprintf(sql, sizeof sql,
             "SELECT %s FROM %s WHERE owner = ?1 AND (?2 = 0 OR n %c ?2) %s ORDER BY n %s LIMIT ?3",
             columns, table, p->ascending ? '>' : '<', more, p->ascending ? "ASC" : "DESC");
    TRY(store_prepare(q, s, sql, e));
    bind_text(*q, 1, p->owner);
    store_bind_int(*q, 2, p->after);
    store_bind_int(*q, 3, p->limit);
    return OK;
}

Status batches__files_list(Store *s, const BatchesPage *p, void (*fn)(void *ctx, const FileRow *f),
                           void *ctx, Err *e) {
    StoreStmt *q = NULL;
    bool any;
    TRY(prepare_page(&q, s, FILE_COLUMNS, "files", "AND (?4 = '' OR purpose = ?4)", p, e));
    bind_text(q, 4, p->purpose);
    Status st = store_step(&any, q, e);
    while (st == OK && any) {
        FileRow f;
        read_file(&f, q);
        fn(ctx, &f);
        st = store_step(&any, q, e);
    }
    store_stmt_free(q);
    return st;
}

Status batches__rows_list(Store *s, const BatchesPage *p, void (*fn)(void *ctx, const BatchRow *r),
                          void *ctx, Err *e) {
    StoreStmt *q = NULL;
    bool any;
    TRY(prepare_page(&q, s, BATCH_COLUMNS, "batches", "", p, e));
    Status st = store_step(&any, q, e);
    while (st == OK && any) {
        BatchRow r;
        st = read_row(&r, q, e);
        if (st != OK) break;
        fn(ctx, &r);
        batches__row_deinit(&r);
        st = store_step(&any, q, e);
    }
    store_stmt_free(q);
    return st;
}

Status batches__rows_open(Store *s, bool (*fn)(void *ctx, const BatchRow *r), void *ctx, Err *e) {
    StoreStmt *q = NULL;
    bool any, on = true;
    TRY(store_prepare(&q, s, "SELECT " BATCH_COLUMNS " FROM batches WHERE state < ?1 ORDER BY n",
                      e));
    store_bind_int(q, 1, BATCH_COMPLETED);
    Status st = store_step(&any, q, e);
    while (st == OK && any && on) {
        BatchRow r;
        st = read_row(&r, q, e);
        if (st != OK) break;
        on = fn(ctx, &r);
        batches__row_deinit(&r);
        st = store_step(&any, q, e);
    }
    store_stmt_free(q);
    return st;
}
