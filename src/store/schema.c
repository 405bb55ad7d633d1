/* SPDX-License-Identifier: Apache-2.0
 * Is this file ours, is it whole, how old is it; and the migrations. Nothing is written before the file is known to be
 * ours or empty. */
#include "store/internal.h"

Status store__pragma_int(int64_t *out, Store *s, const char *sql, Err *e) {
    StoreStmt *q = NULL;
    bool row = false;
    TRY(store_prepare(&q, s, sql, e));
    Status st = store_step(&row, q, e);
    if (st == OK) *out = row ? store_int(q, 0) : 0;
    store_stmt_free(q);
    return st;
}

/* Version and owner as the file says; an empty file has version 0 and no owner. */
static Status identify(int64_t *version, Store *s, const StoreSchema *schema, Err *e) {
    int64_t app = 0, n_tables = 0;
    TRY(store__pragma_int(version, s, "PRAGMA user_version", e));
    TRY(store__pragma_int(&app, s, "PRAGMA application_id", e));
    TRY(store__pragma_int(&n_tables, s, "SELECT count(*) FROM sqlite_schema", e));
    bool empty = app == 0 && *version == 0 && n_tables == 0;
    if (!empty && (uint32_t)app != schema->app_id)
        return err_set(e, ERR_FORMAT, "%s: not a file of %s", s->name, schema->what);
    if (*version > schema->n_steps)
        return err_set(e, ERR_FORMAT,
                       "%s: version %lld, made by a later program (this one knows %d)", s->name,
                       (long long)*version, schema->n_steps);
    if (*version < 0 || (s->read_only && *version < schema->n_steps))
        return err_set(e, ERR_FORMAT, "%s: version %lld, want %d", s->name, (long long)*version,
                       schema->n_steps);
    return OK;
}

/* All pages reachable, all rows readable; the indexes are not compared with their tables, which takes long. */
static Status check_whole(Store *s, Err *e) {
    StoreStmt *q = NULL;
    bool row = false;
    TRY(store_prepare(&q, s, "PRAGMA quick_check(1)", e));
    Status st = store_step(&row, q, e);
    Slice said = st == OK && row ? store_text(q, 0) : (Slice){"", 0};
    if (st == OK && !slice_eq_str(said, "ok"))
        st = err_set(e, ERR_FORMAT, "%s: it is damaged: %.*s", s->name, (int)MIN(said.n, 100),
                     said.p);
    store_stmt_free(q);
    return st;
}

/* Inside a transaction: the steps that are missing, and the numbers that say so. */
static Status run_steps(Store *s, const StoreSchema *schema, Err *e) {
    int64_t version = 0;
    TRY(identify(&version, s, schema, e)); /* again: another process may have been faster */
    for (int64_t i = version; i < schema->n_steps; i++) TRY(store_exec(s, schema->steps[i], e));
    StrBuf b = {0};
    sb_printf(&b, "PRAGMA application_id = %ld; PRAGMA user_version = %d",
              (long)(int32_t)schema->app_id, schema->n_steps);
    Status st = sb_check(&b, e);
    if (st == OK) st = store_exec(s, sb_str(&b), e);
    sb_deinit(&b);
    return st;
}

static Status migrate(Store *s, const StoreSchema *schema, Err *e) {
    TRY(store_begin(s, e));
    Status st = run_steps(s, schema, e);
    if (st == OK) return store_commit(s, e);
    store_rollback(s);
    return st;
}

Status store__check_schema(Store *s, const StoreSchema *schema, Err *e) {
    int64_t version = 0;
    TRY(identify(&version, s, schema, e));
    TRY(store_exec(s, "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0", e));
    TRY(check_whole(s, e));
    if (s->read_only) return OK;
    TRY(store_exec(s,
                   "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                   "PRAGMA journal_size_limit = 4194304; PRAGMA foreign_keys = ON",
                   e));
    return version < schema->n_steps ? migrate(s, schema, e) : OK;
}
