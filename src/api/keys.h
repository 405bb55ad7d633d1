/* SPDX-License-Identifier: Apache-2.0
 * API keys: who may ask for what.
 *
 *   sk-<id>-<secret><check>      id 8, secret 32, check 6 characters of 0-9A-Za-z: 190 random bits in the secret; check
 *                                is the CRC-32 of all before it, so that a scanner of leaked secrets can be sure
 *
 * A key is shown once, when it is made. The file (keys.db of the state folder, store/store.h) keeps its SHA-256: a
 * random key of this length needs no slow hash. Rows: id, name, digest, scopes, models, created, expires, revoked,
 * last used, requests and tokens a minute. Beside them there are plain keys, given on the command line or in the environment, which may do all.
 *
 * A server holds a table of digests in memory; keys_check costs one SHA-256 and a look into it, no SQL. keys_reload
 * makes another table and puts it in place whole, or fails and leaves the one that is in force. Comparing takes the same
 * time wherever two digests differ. A peer that fails too often is refused for a while (ERR_FULL), unless it brings a
 * key of the long form that is right: behind a proxy all clients share one address.
 *
 * Once there was a key, none being left does not open the server: keys_required stays true.
 *
 * Keys: any thread; a short lock, never held over I/O. */
#ifndef INGOT_API_KEYS_H
#define INGOT_API_KEYS_H

#include "base/str.h"

enum {
    KEYS_MAX_ID = 20,     /* with the NUL */
    KEYS_MAX_NAME = 65,   /* with the NUL */
    KEYS_MAX_TEXT = 64,   /* of a key of ours, with the NUL */
    KEYS_MAX_PLAIN = 256, /* bytes of a plain key */
    KEYS_MAX_MODELS = 1024,
    KEYS_MAX_RATE = 1000000000
};

/* What a key may do; admin may do everything. */
typedef enum KeyScope {
    KEY_SCOPE_ANY = 0, /* whatever key it is */
    KEY_SCOPE_INFERENCE = 1,
    KEY_SCOPE_BATCH = 2,    /* files and batches */
    KEY_SCOPE_FEEDBACK = 4, /* ratings */
    KEY_SCOPE_ADMIN = 8,    /* metrics, whatever changes the server */
    KEY_SCOPE_ALL = 15
} KeyScope;

/* ---- the server's side ---- */

typedef struct Keys Keys;

typedef struct KeysConfig {
    const char *path;         /* keys.db; NULL: none. One that does not exist yet is no keys */
    const char *const *plain; /* [n_plain] each one key, or several with commas between */
    int n_plain;
    int max_fails; /* of one address in a minute; 0: 10, -1: no limit */
} KeysConfig;

/* One request's claim. */
typedef struct KeyAsk {
    Slice
        authorization; /* header Authorization: "Bearer KEY", or "Basic" with the key as password */
    Slice api_key;     /* header X-Api-Key; looked at if the other is empty */
    Slice model;       /* that is asked for; empty: none in particular */
    uint32_t scope;    /* KeyScope */
    const char *peer;  /* "127.0.0.1:43368", "[::1]:43368", "::1"; NULL: failures are not counted */
    bool quiet;        /* nor is this one: the same request is looked at again */
    int64_t now_s;     /* time of day */
} KeyAsk;

/* Who it is, when the answer was OK. */
typedef struct KeyUser {
    char id
        [KEYS_MAX_ID]; /* for logs, limits, tenants; "" without keys, "plain-" and a digest for a plain key */
    char name[KEYS_MAX_NAME]; /* as given when the key was made */
    uint32_t scopes;
    int64_t rpm, tpm; /* requests and tokens a minute; 0: as for everybody */
} KeyUser;

/* Read the file and the plain keys. ERR_ARG a plain key that is empty, over 256 bytes or not visible ASCII; what
 * store_open_read returns for the file. */
MUST_CHECK Status keys_open(Keys **out, const KeysConfig *c, Err *e);
void keys_free(Keys *k);
/* Read the file again (SIGHUP), and take c's plain keys instead of those there are, unless c is NULL. On failure all stays
 * as it was. Does I/O, of some ms. */
MUST_CHECK Status keys_reload(Keys *k, const KeysConfig *c, Err *e);
/* True when requests need a key. */
bool keys_required(Keys *k);
/* May this request? Without any keys everybody may, with all scopes. ERR_AUTH no key, one that is not known, revoked
 * or expired (401); ERR_DENIED the scope or the model is not among the key's (403); ERR_FULL too many failures (429);
 * ERR_INTERNAL when OpenSSL fails. Messages are for the client and name no key. */
MUST_CHECK Status keys_check(KeyUser *out, Keys *k, const KeyAsk *ask, Err *e);
/* The same for one that was let in before, by the id it had then (KeyUser): its key still stands and may do this. Without
 * keys, and for who came without one, OK. ask has scope, model, now_s. ERR_AUTH, ERR_DENIED. */
MUST_CHECK Status keys_check_id(Keys *k, const char *id, const KeyAsk *ask, Err *e);
/* Write into the file when keys were used last, if any was since. Waits for the disk: not on a loop's thread. */
MUST_CHECK Status keys_flush(Keys *k, Err *e);

/* ---- the operator's side: each call opens the file for itself ---- */

typedef struct KeyNew {
    const char *name;   /* 1 to 64 bytes, printable UTF-8 */
    uint32_t scopes;    /* 0: inference, batch, feedback */
    const char *models; /* names with commas between; one may end in *; NULL or "": all */
    int64_t expires_s;  /* time of day; 0: never */
    int64_t rpm, tpm;   /* requests and tokens a minute, up to KEYS_MAX_RATE; 0: as for everybody */
    int64_t now_s;
} KeyNew;

typedef struct KeyRow {
    char id[KEYS_MAX_ID], name[KEYS_MAX_NAME];
    char models[KEYS_MAX_MODELS + 1];
    uint32_t scopes;
    int64_t created_s, expires_s, revoked_s, used_s; /* 0: never */
    int64_t rpm, tpm;                                /* 0: as for everybody */
} KeyRow;

/* Make a key, and the file if it is absent; the key's text goes to out, which is the only time it can be read. */
MUST_CHECK Status keys_create(char out[KEYS_MAX_TEXT], const char *path, const KeyNew *n, Err *e);
/* Call fn with every row, oldest first. A file that does not exist has none. */
MUST_CHECK Status keys_list(const char *path, void (*fn)(void *ctx, const KeyRow *r), void *ctx,
                            Err *e);
/* Revoke the key with this id. ERR_NOT_FOUND; one that is revoked already is fine. */
MUST_CHECK Status keys_revoke(const char *path, const char *id, int64_t now_s, Err *e);
/* "inference,batch" to bits and back; "all" is every one. ERR_ARG names the word and the choices. */
MUST_CHECK Status keys_scopes_parse(uint32_t *out, const char *text, Err *e);
void keys_scopes_format(StrBuf *b, uint32_t scopes);

#endif
