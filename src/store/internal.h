/* SPDX-License-Identifier: Apache-2.0
 * Inside store/: the two objects, and turning SQLite's results into ours. */
#ifndef INGOT_STORE_INTERNAL_H
#define INGOT_STORE_INTERNAL_H

#include <sqlite3.h>

#include "store/store.h"

enum { STORE_BUSY_MS = 5000, STORE_MAX_VALUE = 16 << 20 };

struct Store {
    sqlite3 *db;      /* owned */
    char *name;       /* owned: the path, for messages */
    const char *what; /* borrowed from the schema */
    bool read_only;
};

struct StoreStmt {
    Store *s;        /* borrowed */
    sqlite3_stmt *q; /* owned */
    int bind_rc;     /* first binding that failed; SQLITE_OK */
};

/* Fill e for a result that is no success. */
MUST_CHECK Status store__fail(const Store *s, int rc, Err *e);
/* SQLite is ready for use and its system calls pass fault points. (faults.c) */
MUST_CHECK Status store__init(Err *e);
/* Whose file is it, is it whole, and up to the last version with it unless it is for reading alone. (schema.c) */
MUST_CHECK Status store__check_schema(Store *s, const StoreSchema *schema, Err *e);
/* The integer that a pragma gives. (schema.c) */
MUST_CHECK Status store__pragma_int(int64_t *out, Store *s, const char *sql, Err *e);

#endif
