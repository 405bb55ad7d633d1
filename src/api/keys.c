/* SPDX-License-Identifier: Apache-2.0
 * The server's side of keys: a table in memory, sorted by id, made anew by each reload and put in place whole. Hashing and
 * reading files happen outside the lock; under it there is a binary search, a comparison, a copy. */
#include "api/keys.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "api/auth_limit.h"
#include "api/keys_internal.h"
#include "base/io.h"

enum { DEFAULT_MAX_FAILS = 10 };

typedef struct Entry {
    char id[KEYS_MAX_ID], name[KEYS_MAX_NAME];
    char *models; /* owned */
    Sha256 digest;
    uint32_t scopes;
    int64_t expires_s, revoked_s, rpm, tpm;
    int64_t used_s, saved_s; /* last used; as the file has it */
} Entry;

typedef struct Table {
    Entry *v; /* owned; sorted by id */
    int n, cap;
} Table;

/* Keys that are not in the file. */
typedef struct Plain {
    Sha256 *v; /* owned */
    int n;
} Plain;

struct Keys {
    char *path; /* [const] owned; NULL: no file */
    pthread_mutex_t mu;
    Plain plain;      /* [mu] */
    Table table;      /* [mu] */
    bool required;    /* [mu] */
    AuthLimit *limit; /* [mu] owned; NULL: no limit */
};

/* ---- the table ---- */

static void table_deinit(Table *t) {
    for (int i = 0; i < t->n; i++) mem_free(t->v[i].models);
    mem_free(t->v);
    *t = (Table){0};
}

static Status table_add(void *ctx, const KeyEntry *k, Err *e) {
    Table *t = ctx;
    if (t->n == t->cap) {
        int cap = t->cap ? 2 * t->cap : 16;
        Entry *v = mem_realloc_n(t->v, (size_t)cap, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "%d keys", cap);
        t->v = v;
        t->cap = cap;
    }
    Entry *n = &t->v[t->n];
    *n = (Entry){.digest = k->digest,
                 .scopes = k->row.scopes,
                 .expires_s = k->row.expires_s,
                 .revoked_s = k->row.revoked_s,
                 .rpm = k->row.rpm,
                 .tpm = k->row.tpm,
                 .used_s = k->row.used_s,
                 .saved_s = k->row.used_s};
    memcpy(n->id, k->row.id, sizeof n->id);
    memcpy(n->name, k->row.name, sizeof n->name);
    n->models = mem_dup(k->row.models, strlen(k->row.models));
    if (!n->models) return err_set(e, ERR_NOMEM, "models of a key");
    t->n++;
    return OK;
}

static int by_id(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->id, ((const Entry *)b)->id);
}

static Entry *table_find(const Table *t, const char *id) {
    int lo = 0, hi = t->n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, c = strcmp(id, t->v[mid].id);
        if (c == 0) return &t->v[mid];
        if (c < 0) hi = mid;
        else lo = mid + 1;
    }
    return NULL;
}

/* The file's rows; a file that never was is an empty table. */
static Status table_load(Table *out, const char *path, bool may_lack, Err *e) {
    Table t = {0};
    Store *s = NULL;
    Err why = {0};
    Status st = path ? keys__open_read(&s, path, &why) : ERR_NOT_FOUND;
    if (st == ERR_NOT_FOUND && (!path || may_lack)) {
        *out = t;
        return OK;
    }
    st = st == OK ? keys__read(s, table_add, &t, e) : err_set(e, st, "%s", why.msg);
    store_close(s);
    if (st != OK) {
        table_deinit(&t);
        return st;
    }
    if (t.n > 0) qsort(t.v, (size_t)t.n, sizeof *t.v, by_id);
    *out = t;
    return OK;
}

/* ---- plain keys ---- */

static Status check_plain(Slice k, Err *e) {
    if (k.n == 0 || k.n > KEYS_MAX_PLAIN)
        return err_set(e, ERR_ARG, "an API key of %zu bytes, want 1 to %d", k.n, KEYS_MAX_PLAIN);
    for (size_t i = 0; i < k.n; i++) {
        if (k.p[i] <= 0x20 || k.p[i] >= 0x7f)
            return err_set(e, ERR_ARG, "an API key with a byte 0x%02x, want visible ASCII",
                           (unsigned)(uint8_t)k.p[i]);
    }
    return OK;
}

static Status add_plain(Plain *k, Slice key, Err *e) {
    TRY(check_plain(key, e));
    Sha256 *p = mem_realloc_n(k->v, (size_t)k->n + 1, sizeof *p);
    if (!p) return err_set(e, ERR_NOMEM, "API keys");
    k->v = p;
    TRY(sha_256(&p[k->n], key.p, key.n, e));
    k->n++;
    return OK;
}

/* Into k, which may hold some of them after a failure. */
static Status read_plain(Plain *k, const KeysConfig *c, Err *e) {
    for (int i = 0; i < c->n_plain; i++) {
        for (const char *p = c->plain[i];;) {
            size_t n = strcspn(p, ",");
            TRY(add_plain(k, (Slice){p, n}, e));
            if (!p[n]) break;
            p += n + 1;
        }
    }
    return OK;
}

/* ---- life ---- */

static Status keys_init(Keys *k, const KeysConfig *c, Err *e) {
    int max_fails = c->max_fails == 0 ? DEFAULT_MAX_FAILS : c->max_fails;
    if (c->path) {
        k->path = mem_dup(c->path, strlen(c->path));
        if (!k->path) return err_set(e, ERR_NOMEM, "keys");
    }
    if (max_fails > 0) TRY(auth_limit_new(&k->limit, max_fails, e));
    TRY(read_plain(&k->plain, c, e));
    TRY(table_load(&k->table, k->path, true, e));
    k->required = k->plain.n > 0 || k->table.n > 0;
    return OK;
}

Status keys_open(Keys **out, const KeysConfig *c, Err *e) {
    Keys *k = mem_new(Keys);
    if (!k) return err_set(e, ERR_NOMEM, "keys");
    pthread_mutex_init(&k->mu, NULL);
    Status st = keys_init(k, c, e);
    if (st != OK) {
        keys_free(k);
        return st;
    }
    *out = k;
    return OK;
}

void keys_free(Keys *k) {
    if (!k) return;
    table_deinit(&k->table);
    auth_limit_free(k->limit);
    pthread_mutex_destroy(&k->mu);
    mem_free(k->plain.v);
    mem_free(k->path);
    mem_free(k);
}

/* What was used since the last flush is known to the old table alone. */
static void carry_used(Table *to, const Table *from) {
    for (int i = 0; i < from->n; i++) {
        Entry *n = table_find(to, from->v[i].id);
        if (n) n->used_s = MAX(n->used_s, from->v[i].used_s);
    }
}

static Status load_again(Table *t, Plain *plain, Keys *k, const KeysConfig *c, Err *e) {
    pthread_mutex_lock(&k->mu);
    bool may_lack = k->table.n == 0;
    pthread_mutex_unlock(&k->mu);
    if (c) TRY(read_plain(plain, c, e));
    return table_load(t, k->path, may_lack, e);
}

Status keys_reload(Keys *k, const KeysConfig *c, Err *e) {
    Table t = {0}, old;
    Plain plain = {0}, old_plain = {0};
    Status st = load_again(&t, &plain, k, c, e);
    if (st != OK) {
        mem_free(plain.v);
        return st;
    }
    pthread_mutex_lock(&k->mu);
    carry_used(&t, &k->table);
    old = k->table;
    k->table = t;
    if (c) {
        old_plain = k->plain;
        k->plain = plain;
    }
    if (t.n > 0 || k->plain.n > 0) k->required = true;
    pthread_mutex_unlock(&k->mu);
    table_deinit(&old);
    mem_free(old_plain.v);
    return OK;
}

bool keys_required(Keys *k) {
    pthread_mutex_lock(&k->mu);
    bool required = k->required;
    pthread_mutex_unlock(&k->mu);
    return required;
}

/* ---- checking ---- */

/* The key in "Bearer KEY", or empty. */
static Slice bearer(Slice h) {
    static const char word[] = "bearer";
    size_t n = sizeof word - 1;
    if (h.n <= n || strncasecmp(h.p, word, n) != 0 || h.p[n] != ' ') return (Slice){"", 0};
    while (n < h.n && h.p[n] == ' ') n++;
    return (Slice){h.p + n, h.n - n};
}

typedef struct Claim {
    Sha256 digest;        /* of what was presented */
    char id[KEYS_MAX_ID]; /* if it has our form */
    bool ours;
} Claim;

/* All are looked at, so that the time says nothing. -1: none. */
static int find_plain(const Keys *k, const Sha256 *digest) {
    int found = -1;
    for (int i = 0; i < k->plain.n; i++) {
        if (sha_equal(&k->plain.v[i], digest)) found = i;
    }
    return found;
}

/* Plain keys have no name and no place in a list that stays: what they are told apart by is their digest. */
static void plain_id(char out[KEYS_MAX_ID], const Sha256 *digest) {
    char hex[65];
    snprintf(out, KEYS_MAX_ID, "plain-%.12s", sha_hex(hex, digest));
}

static bool is_plain_id(const Keys *k, const char *id) {
    char own[KEYS_MAX_ID];
    for (int i = 0; i < k->plain.n; i++) {
        plain_id(own, &k->plain.v[i]);
        if (strcmp(own, id) == 0) return true;
    }
    return false;
}

static Status check_entry(KeyUser *out, Entry *n, const KeyAsk *ask, Err *e) {
    if (n->revoked_s != 0) return err_set(e, ERR_AUTH, "the API key was revoked");
    if (n->expires_s != 0 && ask->now_s >= n->expires_s)
        return err_set(e, ERR_AUTH, "the API key has expired");
    n->used_s = MAX(n->used_s, ask->now_s);
    bool in_scope = (n->scopes & KEY_SCOPE_ADMIN) || (n->scopes & ask->scope) == ask->scope;
    if (!in_scope) return err_set(e, ERR_DENIED, "the API key is not allowed to do this");
    if (ask->model.n > 0 && !keys__model_allowed(n->models, ask->model))
        return err_set(e, ERR_DENIED, "the API key is not allowed to use this model");
    *out = (KeyUser){.scopes = n->scopes & KEY_SCOPE_ADMIN ? KEY_SCOPE_ALL : n->scopes,
                     .rpm = n->rpm,
                     .tpm = n->tpm};
    memcpy(out->id, n->id, sizeof out->id);
    memcpy(out->name, n->name, sizeof out->name);
    return OK;
}

/* Under the lock. A peer that failed too often gets no answer to a guess; a key of ours cannot be guessed. */
static Status check_locked(KeyUser *out, Keys *k, const KeyAsk *ask, const Claim *c, Err *e) {
    Entry *n = c->ours ? table_find(&k->table, c->id) : NULL;
    if (n && sha_equal(&n->digest, &c->digest)) return check_entry(out, n, ask, e);
    bool limited = k->limit && ask->peer;
    if (limited && auth_limit_blocked(k->limit, ask->peer, ask->now_s))
        return err_set(e, ERR_FULL, "too many requests with a wrong API key, try again later");
    int i = find_plain(k, &c->digest);
    if (i >= 0) {
        *out = (KeyUser){.scopes = KEY_SCOPE_ALL};
        plain_id(out->id, &k->plain.v[i]);
        memcpy(out->name, out->id, sizeof out->id);
        return OK;
    }
    if (limited && !ask->quiet) auth_limit_fail(k->limit, ask->peer, ask->now_s);
    return err_set(e, ERR_AUTH, "the API key is not known");
}

Status keys_check(KeyUser *out, Keys *k, const KeyAsk *ask, Err *e) {
    if (!keys_required(k)) {
        *out = (KeyUser){.scopes = KEY_SCOPE_ALL};
        return OK;
    }
    char basic[KEYS_MAX_BASIC];
    Slice key = bearer(ask->authorization);
    if (key.n == 0) key = ask->api_key; /* before "Basic", which may be for a proxy */
    if (key.n == 0) key = keys__basic(basic, ask->authorization);
    if (key.n == 0)
        return err_set(e, ERR_AUTH, "no API key: send it as \"Authorization: Bearer KEY\"");
    Claim c = {0};
    TRY(sha_256(&c.digest, key.p, key.n, e));
    c.ours = keys__parse(c.id, key);
    pthread_mutex_lock(&k->mu);
    Status st = check_locked(out, k, ask, &c, e);
    pthread_mutex_unlock(&k->mu);
    return st;
}

Status keys_check_id(Keys *k, const char *id, const KeyAsk *ask, Err *e) {
    KeyUser user;
    if (!keys_required(k) || !id[0]) return OK;
    pthread_mutex_lock(&k->mu);
    Entry *n = table_find(&k->table, id);
    Status st = OK;
    if (n) st = check_entry(&user, n, ask, e);
    else if (!is_plain_id(k, id)) st = err_set(e, ERR_AUTH, "the API key is gone");
    pthread_mutex_unlock(&k->mu);
    return st;
}

/* ---- when keys were used ---- */

typedef struct Used {
    char id[KEYS_MAX_ID];
    int64_t used_s;
} Used;

/* Those that changed since they were saved; NULL with *n = 0 when there are none or memory is out. */
static Used *collect_used(Keys *k, int *n) {
    *n = 0;
    pthread_mutex_lock(&k->mu);
    int changed = 0;
    for (int i = 0; i < k->table.n; i++) changed += k->table.v[i].used_s > k->table.v[i].saved_s;
    Used *u = changed > 0 ? mem_new_n(Used, (size_t)changed) : NULL;
    for (int i = 0; u && i < k->table.n; i++) {
        const Entry *t = &k->table.v[i];
        if (t->used_s <= t->saved_s) continue;
        u[*n].used_s = t->used_s;
        memcpy(u[(*n)++].id, t->id, sizeof t->id);
    }
    pthread_mutex_unlock(&k->mu);
    return u;
}

static void mark_saved(Keys *k, const Used *u, int n) {
    pthread_mutex_lock(&k->mu);
    for (int i = 0; i < n; i++) {
        Entry *t = table_find(&k->table, u[i].id);
        if (t) t->saved_s = MAX(t->saved_s, u[i].used_s);
    }
    pthread_mutex_unlock(&k->mu);
}

static Status write_used(Store *s, const Used *u, int n, Err *e) {
    StoreStmt *q = NULL;
    TRY(store_begin(s, e));
    Status st = store_prepare(&q, s, "UPDATE keys SET used = max(used, ?2) WHERE id = ?1", e);
    for (int i = 0; st == OK && i < n; i++) {
        store_bind_text(q, 1, slice_of(u[i].id));
        store_bind_int(q, 2, u[i].used_s);
        st = store_run(q, e);
    }
    store_stmt_free(q);
    if (st == OK) return store_commit(s, e);
    store_rollback(s);
    return st;
}

Status keys_flush(Keys *k, Err *e) {
    int n = 0;
    Store *s = NULL;
    Used *u = collect_used(k, &n);
    if (n == 0) return OK;
    Status st = io_exists(k->path) ? OK : err_set(e, ERR_NOT_FOUND, "%s: is gone", k->path);
    if (st == OK) st = store_open(&s, k->path, &keys__schema, e);
    if (st == OK) st = write_used(s, u, n, e);
    store_close(s);
    if (st == OK) mark_saved(k, u, n);
    mem_free(u);
    return st;
}
