/* SPDX-License-Identifier: Apache-2.0
 * Tables in a file: a small wrapper over SQLite. Each module keeps a file of its own with its own list of
 * migrations, so that a damaged one takes nothing else with it.
 *
 * A file is made with mode 0600, in write-ahead mode, synced at every commit: what store_commit said OK to is there
 * after a kill and after a power loss. PRAGMA user_version counts the migrations that were applied; PRAGMA
 * application_id says whose file it is. A file is untrusted: it is checked as it is opened, its schema cannot call
 * functions, and values of another type than asked for read as 0 or empty.
 *
 * One Store is one connection, for one thread at a time; several may have the same file open, also in other
 * processes. A writer waits for another one up to 5 s. Statements are prepared once and used many times:
 *
 *   store_prepare(&q, s, "SELECT name FROM keys WHERE id = ?1", e);
 *   store_bind_text(q, 1, id);
 *   st = store_step(&row, q, e);          binding that failed is reported here
 *   if (st == OK && row) name = store_text(q, 0);
 *   store_reset(q);                       ends what the statement reads, forgets its values
 *
 * Errors: ERR_IO a file that cannot be opened, read or written, a full disk, read-only, locked too long; ERR_FORMAT a
 * file that is damaged, is not SQLite, belongs to somebody else or was made by a later version; ERR_NOMEM; ERR_ARG a
 * row that breaks a constraint of its table; ERR_INTERNAL SQL that is wrong. All name the file. */
#ifndef INGOT_STORE_STORE_H
#define INGOT_STORE_STORE_H

#include "base/str.h"

typedef struct Store Store;
typedef struct StoreStmt StoreStmt;

/* What a file holds. */
typedef struct StoreSchema {
    const char *what;         /* for messages: "keys" */
    uint32_t app_id;          /* of the file, not 0 */
    const char *const *steps; /* [n_steps] SQL; step i takes a file from version i to i + 1 */
    int n_steps;
} StoreSchema;

/* Open the file at path, made if it is absent, and bring it to the last version; NULL is a file in memory. On failure
 * an existing file is as it was. */
MUST_CHECK Status store_open(Store **out, const char *path, const StoreSchema *s, Err *e);
/* The same for reading alone: nothing is made or migrated. ERR_NOT_FOUND, ERR_FORMAT an earlier version. */
MUST_CHECK Status store_open_read(Store **out, const char *path, const StoreSchema *s, Err *e);
/* NULL is fine. Statements are freed before. An open transaction is taken back. */
void store_close(Store *s);

/* Run SQL without values and rows; several statements may be in it. */
MUST_CHECK Status store_exec(Store *s, const char *sql, Err *e);
/* A transaction for writing. store_rollback is legal when there is none. */
MUST_CHECK Status store_begin(Store *s, Err *e);
MUST_CHECK Status store_commit(Store *s, Err *e);
void store_rollback(Store *s);
/* Rows that the last statement which writes has changed. */
int64_t store_changes(const Store *s);

/* One statement of SQL, made ready; s outlives it. Values are ?1, ?2 ... */
MUST_CHECK Status store_prepare(StoreStmt **out, Store *s, const char *sql, Err *e);
void store_stmt_free(StoreStmt *q); /* NULL is fine */
/* Set value i (from 1); bytes are copied. A failure is remembered and returned by the next step. */
void store_bind_int(StoreStmt *q, int i, int64_t v);
void store_bind_text(StoreStmt *q, int i, Slice v);
void store_bind_blob(StoreStmt *q, int i, const void *p, size_t n);
void store_bind_null(StoreStmt *q, int i);
/* The next row, or *row = false at the end. */
MUST_CHECK Status store_step(bool *row, StoreStmt *q, Err *e);
/* All steps of a statement without rows, and the reset. */
MUST_CHECK Status store_run(StoreStmt *q, Err *e);
/* End the statement's rows and forget its values; the next step begins anew. */
void store_reset(StoreStmt *q);
/* Column i (from 0) of the row at hand. Slices are borrowed until the next step or reset. */
int64_t store_int(const StoreStmt *q, int i);
Slice store_text(const StoreStmt *q, int i);
Slice store_blob(const StoreStmt *q, int i);
bool store_is_null(const StoreStmt *q, int i);

/* Make a folder for such files with mode 0700, and the ones above it; one that exists stays as it is. */
MUST_CHECK Status store_make_dir(const char *path, Err *e);

#endif
