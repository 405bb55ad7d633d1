/* SPDX-License-Identifier: Apache-2.0
 * keys.db: its table, reading it, and what an operator does to it. */
#include "api/keys_internal.h"
#include "base/io.h"

static const char *const steps[] = {
    "CREATE TABLE keys ("
    "  id      TEXT PRIMARY KEY NOT NULL,"
    "  name    TEXT NOT NULL,"
    "  digest  BLOB NOT NULL UNIQUE CHECK (length(digest) = 32)," /* SHA-256 of the whole text */
    "  scopes  INTEGER NOT NULL,"                                 /* KeyScope */
    "  models  TEXT NOT NULL,"
    "  created INTEGER NOT NULL," /* seconds of the time of day; 0: never */
    "  expires INTEGER NOT NULL,"
    "  revoked INTEGER NOT NULL,"
    "  used    INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID",
    /* a minute; 0: as for everybody */
    "ALTER TABLE keys ADD COLUMN rpm INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE keys ADD COLUMN tpm INTEGER NOT NULL DEFAULT 0",
};

const StoreSchema keys__schema = {.what = "keys",
                                  .app_id = 0x494e474b /* INGK */,
                                  .steps = steps,
                                  .n_steps = COUNT_OF(steps)};

/* ---- reading ---- */

static void copy(char *out, Slice s) {
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
}

static bool is_rate(int64_t v) { return v >= 0 && v <= KEYS_MAX_RATE; }

static bool row_of(KeyEntry *k, const StoreStmt *q) {
    Slice id = store_text(q, 0), name = store_text(q, 1), digest = store_blob(q, 2);
    Slice models = store_text(q, 4);
    if (!keys__is_id(id) || keys__check_name(name, NULL) != OK || digest.n != sizeof k->digest)
        return false;
    if (keys__check_models(models, NULL) != OK) return false;
    *k = (KeyEntry){.row = {.scopes = (uint32_t)store_int(q, 3) & KEY_SCOPE_ALL,
                            .created_s = store_int(q, 5),
                            .expires_s = store_int(q, 6),
                            .revoked_s = store_int(q, 7),
                            .used_s = store_int(q, 8),
                            .rpm = store_int(q, 9),
                            .tpm = store_int(q, 10)}};
    if (!is_rate(k->row.rpm) || !is_rate(k->row.tpm)) return false;
    copy(k->row.id, id);
    copy(k->row.name, name);
    copy(k->row.models, models);
    memcpy(&k->digest, digest.p, sizeof k->digest);
    return true;
}

Status keys__read(Store *s, Status (*fn)(void *ctx, const KeyEntry *k, Err *e), void *ctx, Err *e) {
    StoreStmt *q = NULL;
    KeyEntry k;
    bool row = false;
    TRY(store_prepare(&q, s,
                      "SELECT id, name, digest, scopes, models, created, expires, revoked, used, "
                      "rpm, tpm FROM keys ORDER BY created, id",
                      e));
    Status st = store_step(&row, q, e);
    for (int n = 0; st == OK && row; n++) {
        if (n == KEYS_MAX_ROWS) {
            st = err_set(e, ERR_FULL, "over %d keys", KEYS_MAX_ROWS);
        } else if (!row_of(&k, q)) {
            st = err_set(e, ERR_FORMAT, "row %d of the keys is damaged", n + 1);
        } else {
            st = fn(ctx, &k, e);
        }
        if (st == OK) st = store_step(&row, q, e);
    }
    store_stmt_free(q);
    return st;
}

Status keys__open_read(Store **out, const char *path, Err *e) {
    Store *s = NULL;
    Err why = {0};
    Status st = store_open_read(out, path, &keys__schema, &why);
    if (st == ERR_FORMAT && store_open(&s, path, &keys__schema, NULL) == OK) {
        store_close(s);
        return store_open_read(out, path, &keys__schema, e);
    }
    return st == OK ? OK : err_set(e, st, "%s", why.msg);
}

typedef struct Listing {
    void (*fn)(void *ctx, const KeyRow *r);
    void *ctx;
} Listing;

static Status list_one(void *ctx, const KeyEntry *k, Err *e) {
    const Listing *l = ctx;
    (void)e;
    l->fn(l->ctx, &k->row);
    return OK;
}

Status keys_list(const char *path, void (*fn)(void *ctx, const KeyRow *r), void *ctx, Err *e) {
    Store *s = NULL;
    Listing l = {fn, ctx};
    Err why = {0};
    Status st = keys__open_read(&s, path, &why);
    if (st == ERR_NOT_FOUND) return OK;
    st = st == OK ? keys__read(s, list_one, &l, e) : err_set(e, st, "%s", why.msg);
    store_close(s);
    return st;
}

/* ---- making and revoking ---- */

static Status insert(Store *s, const char *id, const char *text, const KeyNew *n, Err *e) {
    StoreStmt *q = NULL;
    Sha256 digest;
    TRY(sha_256(&digest, text, strlen(text), e));
    TRY(store_prepare(&q, s,
                      "INSERT INTO keys (id, name, digest, scopes, models, created, expires, "
                      "revoked, used, rpm, tpm) "
                      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, ?8, ?9)",
                      e));
    store_bind_text(q, 1, slice_of(id));
    store_bind_text(q, 2, slice_of(n->name));
    store_bind_blob(q, 3, &digest, sizeof digest);
    store_bind_int(q, 4, n->scopes);
    store_bind_text(q, 5, slice_of(n->models));
    store_bind_int(q, 6, n->now_s);
    store_bind_int(q, 7, n->expires_s);
    store_bind_int(q, 8, n->rpm);
    store_bind_int(q, 9, n->tpm);
    Status st = store_run(q, e);
    store_stmt_free(q);
    return st;
}

static Status check_new(const KeyNew *n, Err *e) {
    TRY(keys__check_name(slice_of(n->name), e));
    TRY(keys__check_models(slice_of(n->models), e));
    if (n->scopes & ~(uint32_t)KEY_SCOPE_ALL) return err_set(e, ERR_ARG, "unknown scope");
    if (!is_rate(n->rpm) || !is_rate(n->tpm))
        return err_set(e, ERR_ARG, "a rate of %lld and %lld a minute, want 0 to %d",
                       (long long)n->rpm, (long long)n->tpm, KEYS_MAX_RATE);
    if (n->expires_s != 0 && n->expires_s <= n->now_s)
        return err_set(e, ERR_ARG, "a key that has expired already");
    return OK;
}

Status keys_create(char out[KEYS_MAX_TEXT], const char *path, const KeyNew *n, Err *e) {
    KeyNew k = *n;
    Store *s = NULL;
    char text[KEYS_MAX_TEXT], id[KEYS_MAX_ID];
    if (!k.models) k.models = "";
    if (k.scopes == 0) k.scopes = KEY_SCOPE_INFERENCE | KEY_SCOPE_BATCH | KEY_SCOPE_FEEDBACK;
    TRY(check_new(&k, e));
    TRY(keys__make(text, id, e));
    TRY(store_open(&s, path, &keys__schema, e));
    Status st = insert(s, id, text, &k, e);
    store_close(s);
    if (st == OK) memcpy(out, text, sizeof text);
    return st;
}

static Status set_revoked(Store *s, const char *id, int64_t now_s, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_prepare(&q, s,
                      "UPDATE keys SET revoked = iif(revoked = 0, ?2, revoked) WHERE id = ?1", e));
    store_bind_text(q, 1, slice_of(id));
    store_bind_int(q, 2, now_s);
    Status st = store_run(q, e);
    store_stmt_free(q);
    if (st == OK && store_changes(s) == 0)
        st = err_set(e, ERR_NOT_FOUND, "no key with id \"%s\"", id);
    return st;
}

Status keys_revoke(const char *path, const char *id, int64_t now_s, Err *e) {
    Store *s = NULL;
    if (!keys__is_id(slice_of(id)))
        return err_set(e, ERR_ARG, "\"%.64s\" is not the id of a key: %d letters and digits", id,
                       KEYS_ID_LEN);
    if (!io_exists(path)) return err_set(e, ERR_NOT_FOUND, "no key with id \"%s\"", id);
    TRY(store_open(&s, path, &keys__schema, e));
    Status st = set_revoked(s, id, now_s, e);
    store_close(s);
    return st;
}
