/* SPDX-License-Identifier: Apache-2.0 */
#include "api/keys.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/keys_internal.h"
#include "base/io.h"
#include "test.h"

static char path[256];

static void fresh(void) { snprintf(path, sizeof path, "%s/keys.db", test_tmpdir()); }

static const char *make(const char *name, uint32_t scopes, const char *models, int64_t expires_s) {
    static char text[8][KEYS_MAX_TEXT];
    static int i;
    char *out = text[i++ % 8];
    KeyNew n = {
        .name = name, .scopes = scopes, .models = models, .expires_s = expires_s, .now_s = 1000};
    OK_(keys_create(out, path, &n, TERR));
    return out;
}

/* Authorization: Bearer KEY; the peer of each call is its own. */
static Status ask(Keys *k, KeyUser *u, const char *key, uint32_t scope, const char *model,
                  int64_t now_s) {
    char h[400];
    snprintf(h, sizeof h, "Bearer %s", key);
    KeyAsk a = {.authorization = slice_of(h),
                .api_key = {"", 0},
                .model = slice_of(model),
                .scope = scope,
                .now_s = now_s};
    return keys_check(u, k, &a, TERR);
}

/* The same for who was let in before. */
static Status ask_id(Keys *k, const char *id, uint32_t scope, const char *model, int64_t now_s) {
    KeyAsk a = {.model = slice_of(model), .scope = scope, .now_s = now_s};
    return keys_check_id(k, id, &a, TERR);
}

static Keys *open_file(void) {
    Keys *k = NULL;
    KeysConfig c = {.path = path};
    OK_(keys_open(&k, &c, TERR));
    return k;
}

TEST(text_of_a_key) {
    char text[KEYS_MAX_TEXT], id[KEYS_MAX_ID], got[KEYS_MAX_ID];
    for (int i = 0; i < 200; i++) {
        OK_(keys__make(text, id, TERR));
        EQ(strlen(text), 50);
        EQ_MEM(text, "sk-", 3);
        EQ_MEM(text + 3, id, 8);
        TRUE_(keys__parse(got, slice_of(text)));
        EQ_STR(got, id);
        for (int at = 0; at < 50; at++) { /* a single wrong character is seen */
            char was = text[at];
            text[at] = was == 'x' ? 'y' : 'x';
            FALSE_(keys__parse(got, slice_of(text)));
            text[at] = was;
        }
        FALSE_(keys__parse(got, (Slice){text, 49}));
    }
}

/* The expected six are from Python's zlib.crc32 of the 44 characters before them. */
TEST(check_characters_are_crc_32_in_base_62) {
    char id[KEYS_MAX_ID];
    TRUE_(keys__parse(id, slice_of("sk-00000000-000000000000000000000000000000002QHj37")));
    FALSE_(keys__parse(id, slice_of("sk-00000000-000000000000000000000000000000002QHj3a")));
}

TEST(without_keys_everybody_may) {
    fresh();
    Keys *k = open_file();
    KeyUser u;
    FALSE_(keys_required(k));
    OK_(ask(k, &u, "", KEY_SCOPE_ADMIN, "m", 5));
    EQ_STR(u.id, "");
    EQ(u.scopes, KEY_SCOPE_ALL);
    FALSE_(io_exists(path)); /* looking makes nothing */
    keys_free(k);
    keys_free(NULL);
}

TEST(a_key_opens_what_it_was_made_for) {
    fresh();
    const char *plain = make("first", 0, NULL, 0);
    const char *admin = make("boss", KEY_SCOPE_ADMIN, NULL, 0);
    const char *narrow = make("narrow", KEY_SCOPE_INFERENCE, "small,qwen*", 0);
    Keys *k = open_file();
    KeyUser u = {0};
    TRUE_(keys_required(k));
    OK_(ask(k, &u, plain, KEY_SCOPE_INFERENCE, "any", 2000));
    EQ_STR(u.name, "first");
    EQ_MEM(u.id, plain + 3, 8);
    OK_(ask(k, &u, plain, KEY_SCOPE_BATCH, "", 2000));
    OK_(ask(k, &u, plain, KEY_SCOPE_ANY, "", 2000));
    FAILS(ERR_DENIED, ask(k, &u, plain, KEY_SCOPE_ADMIN, "", 2000));
    OK_(ask(k, &u, admin, KEY_SCOPE_ADMIN, "", 2000));
    EQ(u.scopes, KEY_SCOPE_ALL);
    OK_(ask(k, &u, admin, KEY_SCOPE_INFERENCE, "m", 2000));
    OK_(ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "small", 2000));
    OK_(ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "qwen2.5", 2000));
    OK_(ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "qwen", 2000));
    OK_(ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "", 2000)); /* no model in particular */
    FAILS(ERR_DENIED, ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "smaller", 2000));
    FAILS(ERR_DENIED, ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "smal", 2000));
    FAILS(ERR_DENIED, ask(k, &u, narrow, KEY_SCOPE_INFERENCE, "qwe", 2000));
    FAILS(ERR_DENIED, ask(k, &u, narrow, KEY_SCOPE_FEEDBACK, "small", 2000));
    keys_free(k);
}

TEST(what_is_refused) {
    fresh();
    const char *good = make("g", 0, NULL, 5000);
    Keys *k = open_file();
    KeyUser u = {.id = "as"};
    char wrong[KEYS_MAX_TEXT], other[KEYS_MAX_TEXT], id[KEYS_MAX_ID];
    OK_(ask(k, &u, good, 0, "", 4999));
    FAILS(ERR_AUTH, ask(k, &u, good, 0, "", 5000));
    EQ_STR(test_err.msg, "the API key has expired");
    FAILS(ERR_AUTH, ask(k, &u, "", 0, "", 2000));
    TRUE_(strstr(test_err.msg, "no API key") != NULL);
    OK_(keys__make(other, id, TERR));
    FAILS(ERR_AUTH, ask(k, &u, other, 0, "", 2000)); /* well-formed, unknown */
    snprintf(wrong, sizeof wrong, "%s", other);
    memcpy(wrong + 3, good + 3,
           8); /* a known id with another secret, its check characters wrong or right */
    FAILS(ERR_AUTH, ask(k, &u, wrong, 0, "", 2000));
    FAILS(ERR_AUTH, ask(k, &u, "sk-", 0, "", 2000));
    FAILS(ERR_AUTH, ask(k, &u, "x", 0, "", 2000));
    TRUE_(strstr(test_err.msg, "x") == NULL); /* a message never holds what was sent */
    static const char *const headers[] = {"",        "Basic abc", "Bearer",
                                          "Bearer ", "bearerx",   "Token t"};
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        KeyAsk a = {.authorization = slice_of(headers[i]), .api_key = {"", 0}, .model = {"", 0}};
        FAILS(ERR_AUTH, keys_check(&u, k, &a, TERR));
    }
    char h[100];
    snprintf(h, sizeof h, "bEaReR   %s", good);
    KeyAsk a = {.authorization = slice_of(h), .api_key = {"", 0}, .model = {"", 0}};
    OK_(keys_check(&u, k, &a, TERR));
    a = (KeyAsk){.authorization = {"", 0}, .api_key = slice_of(good), .model = {"", 0}};
    OK_(keys_check(&u, k, &a, TERR));
    a.authorization = slice_of("Basic abc"); /* of a proxy, for instance */
    OK_(keys_check(&u, k, &a, TERR));
    a.authorization = slice_of("Bearer wrong"); /* the first one counts */
    FAILS(ERR_AUTH, keys_check(&u, k, &a, TERR));
    keys_free(k);
}

/* What browsers send for pages. */
TEST(the_password_of_basic_is_a_key) {
    static const struct {
        const char *header, *key; /* key NULL: none */
    } t[] = {
        {"Basic dXNlcjpvbmU=", "one"},   /* user:one */
        {"basic   OnR3bw==", "two"},     /* :two */
        {"Basic dTphOmI6Yw==", "a:b:c"}, /* u:a:b:c, split at the first */
        {"Basic dXNlcjo=", NULL},        /* user: */
        {"Basic dXNlcg==", NULL},        /* user */
        {"Basic dXNlcjpvbmU", NULL},     /* no padding */
        {"Basic dXNlcjpvbmU==", NULL},   /* too much */
        {"Basic dXNl cjpvbmU=", NULL},   /* a blank in it */
        {"Basic dXNl=jpvbmU=", NULL},    /* padding in it */
        {"Basic ====", NULL},
        {"Basic ", NULL},
        {"Basic", NULL},
        {"BasicdXNlcjpvbmU=", NULL},
        {"Bearer dXNlcjpvbmU=", NULL},
    };
    char out[KEYS_MAX_BASIC];
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        Slice key = keys__basic(out, slice_of(t[i].header));
        if (!slice_eq_str(key, t[i].key ? t[i].key : ""))
            FAIL("%s: %.*s", t[i].header, (int)key.n, key.p);
    }
    char long_one[6 + 4 * KEYS_MAX_BASIC];
    for (size_t n = 4; n + 7 < sizeof long_one; n += 4) { /* fits whole or not at all */
        memset(long_one, 'O', sizeof long_one);           /* "8"s, with a colon at the head */
        memcpy(long_one, "Basic Ojg4", 10);
        long_one[6 + n] = '\0';
        EQ(keys__basic(out, slice_of(long_one)).n, n / 4 * 3 <= KEYS_MAX_BASIC ? n / 4 * 3 - 1 : 0);
    }
}

/* What a plain key is called: its digest, whatever stands before it in the list. */
static const char *plain_name(const char *key) {
    static char name[4][KEYS_MAX_ID];
    static int at;
    char hex[65];
    Sha256 d;
    OK_(sha_256(&d, key, strlen(key), TERR));
    at = (at + 1) % 4;
    snprintf(name[at], KEYS_MAX_ID, "plain-%.12s", sha_hex(hex, &d));
    return name[at];
}

TEST(basic_comes_after_a_key_of_its_own_header) {
    Keys *k = NULL;
    KeyUser u;
    const char *list[] = {"one,two"};
    KeysConfig c = {.plain = list, .n_plain = 1};
    OK_(keys_open(&k, &c, TERR));
    KeyAsk a = {.authorization = slice_of("Basic dXNlcjpvbmU="), .now_s = 1};
    OK_(keys_check(&u, k, &a, TERR));
    EQ_STR(u.id, plain_name("one"));
    a.api_key = slice_of("two"); /* what is for a proxy does not get in its way */
    OK_(keys_check(&u, k, &a, TERR));
    EQ_STR(u.id, plain_name("two"));
    a = (KeyAsk){.authorization = slice_of("Basic dXNlcjp0cmVl"), .now_s = 1}; /* user:tree */
    FAILS(ERR_AUTH, keys_check(&u, k, &a, TERR));
    keys_free(k);
}

TEST(plain_keys_may_do_all) {
    Keys *k = NULL;
    KeyUser u;
    const char *list[] = {"one,two", "three"};
    KeysConfig c = {.plain = list, .n_plain = 2};
    OK_(keys_open(&k, &c, TERR));
    TRUE_(keys_required(k));
    OK_(ask(k, &u, "two", KEY_SCOPE_ADMIN, "m", 1));
    EQ_STR(u.id, plain_name("two"));
    OK_(ask(k, &u, "three", KEY_SCOPE_ADMIN, "m", 1));
    EQ_STR(u.id, plain_name("three"));
    FAILS(ERR_AUTH, ask(k, &u, "one,two", 0, "", 1));
    FAILS(ERR_AUTH, ask(k, &u, "twoo", 0, "", 1));
    OK_(keys_reload(k, NULL, TERR));
    OK_(keys_flush(k, TERR));
    keys_free(k);
    static char long_key[300];
    memset(long_key, 'k', 257);
    const char *const wrong[] = {"", "a,", ",a", "a b", "a\tb", "\xc3\xa9", long_key};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        c = (KeysConfig){.plain = &wrong[i], .n_plain = 1};
        FAILS(ERR_ARG, keys_open(&k, &c, TERR));
    }
}

/* Guessing is slow, and does not lock out whoever has a real key behind the same proxy. */
TEST(an_address_that_guesses_is_limited) {
    fresh();
    const char *good = make("g", 0, NULL, 0);
    const char *list[] = {"weak"};
    Keys *k = NULL;
    KeyUser u;
    KeysConfig c = {.path = path, .plain = list, .n_plain = 1};
    OK_(keys_open(&k, &c, TERR));
    KeyAsk a = {.authorization = slice_of("Bearer guess"),
                .api_key = {"", 0},
                .model = {"", 0},
                .peer = "10.0.0.1:5",
                .now_s = 100};
    for (int i = 0; i < 10; i++) FAILS(ERR_AUTH, keys_check(&u, k, &a, TERR));
    FAILS(ERR_FULL, keys_check(&u, k, &a, TERR));
    a.authorization = slice_of("Bearer weak"); /* even the right one: it may have been guessed */
    FAILS(ERR_FULL, keys_check(&u, k, &a, TERR));
    char h[100];
    snprintf(h, sizeof h, "Bearer %s", good);
    a.authorization = slice_of(h);
    OK_(keys_check(&u, k, &a, TERR));
    a.authorization = slice_of("Bearer weak");
    a.peer = "10.0.0.2:5";
    OK_(keys_check(&u, k, &a, TERR));
    a.peer = "10.0.0.1:5";
    a.now_s = 160;
    OK_(keys_check(&u, k, &a, TERR));
    a.authorization = (Slice){"", 0};
    for (int i = 0; i < 50; i++)
        FAILS(ERR_AUTH, keys_check(&u, k, &a, TERR)); /* no key is no guess */
    keys_free(k);
}

TEST(reload_takes_what_changed_and_keeps_the_old_when_it_cannot) {
    fresh();
    const char *a = make("a", 0, NULL, 0);
    Keys *k = open_file();
    KeyUser u;
    const char *b = make("b", 0, NULL, 0);
    char id[9] = {0};
    memcpy(id, a + 3, 8);
    FAILS(ERR_AUTH, ask(k, &u, b, 0, "", 2000));
    OK_(keys_reload(k, NULL, TERR));
    OK_(ask(k, &u, b, 0, "", 2000));
    OK_(ask(k, &u, a, 0, "", 2000));
    OK_(keys_revoke(path, id, 3000, TERR));
    OK_(ask(k, &u, a, 0, "", 2000)); /* until it is told */
    OK_(keys_reload(k, NULL, TERR));
    FAILS(ERR_AUTH, ask(k, &u, a, 0, "", 2000));
    EQ_STR(test_err.msg, "the API key was revoked");

    FILE *f = fopen(path, "wb");
    TRUE_(f && fputs("not a table any more", f) >= 0 && fclose(f) == 0);
    FAILS(ERR_FORMAT, keys_reload(k, NULL, TERR));
    OK_(ask(k, &u, b, 0, "", 2000));
    EQ(unlink(path), 0);
    FAILS(ERR_NOT_FOUND, keys_reload(k, NULL, TERR));
    OK_(ask(k, &u, b, 0, "", 2000));
    FAILS(ERR_NOT_FOUND, keys_flush(k, TERR)); /* and does not make it again */
    FALSE_(io_exists(path));
    keys_free(k);
}

TEST(a_server_never_opens_because_keys_are_gone) {
    fresh();
    const char *a = make("a", 0, NULL, 0);
    char id[9] = {0};
    memcpy(id, a + 3, 8);
    OK_(keys_revoke(path, id, 3000, TERR));
    Keys *k = open_file();
    KeyUser u;
    TRUE_(keys_required(k)); /* a revoked key is a key there was */
    FAILS(ERR_AUTH, ask(k, &u, "", 0, "", 1));
    Store *s = NULL;
    OK_(store_open(&s, path, &keys__schema, TERR));
    OK_(store_exec(s, "DELETE FROM keys", TERR));
    store_close(s);
    OK_(keys_reload(k, NULL, TERR));
    TRUE_(keys_required(k));
    FAILS(ERR_AUTH, ask(k, &u, a, 0, "", 1));
    keys_free(k);
}

/* Rows as a test keeps them. */
typedef struct Rows {
    KeyRow v[8];
    int n;
} Rows;

static void keep(void *ctx, const KeyRow *r) {
    Rows *rows = ctx;
    if (rows->n < 8) rows->v[rows->n++] = *r;
}

static Rows rows;

static Rows *list_rows(void) {
    rows.n = 0;
    OK_(keys_list(path, keep, &rows, TERR));
    return &rows;
}

TEST(list_and_last_use) {
    fresh();
    EQ(list_rows()->n, 0);
    FALSE_(io_exists(path));
    const char *a = make("\xe1\xba\xa5m \xe8\xb6\x8a", KEY_SCOPE_ADMIN, "m1,m2", 9999);
    Keys *k = open_file();
    KeyUser u;
    Rows *r = list_rows();
    EQ(r->n, 1);
    EQ_STR(r->v[0].name, "\xe1\xba\xa5m \xe8\xb6\x8a");
    EQ_STR(r->v[0].models, "m1,m2");
    EQ(r->v[0].created_s, 1000);
    EQ(r->v[0].expires_s, 9999);
    EQ(r->v[0].used_s, 0);
    OK_(ask(k, &u, a, 0, "", 2000));
    OK_(ask(k, &u, a, 0, "", 1500));
    OK_(keys_reload(k, NULL, TERR)); /* what is not written yet is not lost */
    OK_(keys_flush(k, TERR));
    EQ(list_rows()->v[0].used_s, 2000);
    OK_(keys_flush(k, TERR));
    struct stat st;
    EQ(stat(path, &st), 0);
    EQ(st.st_mode & 0777, 0600);
    StrBuf file = {0};
    OK_(io_read_file(&file, path, 1 << 20, TERR));
    TRUE_(memmem(file.p, file.n, a + 12, 32) == NULL); /* the secret is not in the file */
    sb_deinit(&file);
    keys_free(k);
}

TEST(what_create_and_revoke_refuse) {
    fresh();
    char text[KEYS_MAX_TEXT], name[70];
    memset(name, 'n', 69);
    name[65] = '\0';
    const KeyNew wrong[] = {
        {.name = ""},
        {.name = name},
        {.name = "a\nb"},
        {.name = "\xff"},
        {.name = "\xc2\x9b" /* steers terminals */},
        {.name = "a", .models = "a,,b"},
        {.name = "a", .models = "a,"},
        {.name = "a", .models = "a b"},
        {.name = "a", .models = "*a"},
        {.name = "a", .scopes = 99},
        {.name = "a", .expires_s = 10, .now_s = 10},
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        FAILS(ERR_ARG, keys_create(text, path, &wrong[i], TERR));
    FALSE_(io_exists(path));
    name[64] = '\0';
    KeyNew fits = {.name = name, .models = "*"};
    OK_(keys_create(text, path, &fits, TERR));
    FAILS(ERR_NOT_FOUND, keys_revoke(path, "00000000", 5, TERR));
    FAILS(ERR_ARG, keys_revoke(path, "0000000", 5, TERR));
    FAILS(ERR_ARG, keys_revoke(path, "0000000'", 5, TERR));
    FAILS(ERR_NOT_FOUND, keys_revoke("/nowhere/keys.db", "00000000", 5, TERR));
    char id[9] = {0};
    memcpy(id, text + 3, 8);
    OK_(keys_revoke(path, id, 5, TERR));
    OK_(keys_revoke(path, id, 7, TERR));
    EQ(list_rows()->v[0].revoked_s, 5);
}

TEST(scopes_as_text) {
    uint32_t s = 0;
    StrBuf b = {0};
    OK_(keys_scopes_parse(&s, "inference,admin", TERR));
    EQ(s, KEY_SCOPE_INFERENCE | KEY_SCOPE_ADMIN);
    keys_scopes_format(&b, s);
    EQ_STR(sb_str(&b), "inference,admin");
    OK_(keys_scopes_parse(&s, "all", TERR));
    EQ(s, KEY_SCOPE_ALL);
    sb_clear(&b);
    keys_scopes_format(&b, s);
    EQ_STR(sb_str(&b), "inference,batch,feedback,admin");
    FAILS(ERR_ARG, keys_scopes_parse(&s, "", TERR));
    FAILS(ERR_ARG, keys_scopes_parse(&s, "inference,", TERR));
    FAILS(ERR_ARG, keys_scopes_parse(&s, "root", TERR));
    TRUE_(strstr(test_err.msg, "\"root\"") != NULL);
    sb_deinit(&b);
}

/* A row that could not be ours fails the whole reload, and says which. */
TEST(a_damaged_row_is_named) {
    fresh();
    make("a", 0, NULL, 0);
    static const char *const damage[] = {"UPDATE keys SET id = 'short'",
                                         "UPDATE keys SET name = char(10)",
                                         "UPDATE keys SET models = 'a,,b'",
                                         "UPDATE keys SET models = zeroblob(0) || ' '",
                                         "UPDATE keys SET name = ''"};
    for (size_t i = 0; i < COUNT_OF(damage); i++) {
        Store *s = NULL;
        Keys *k = NULL;
        KeysConfig c = {.path = path};
        OK_(store_open(&s, path, &keys__schema, TERR));
        OK_(store_exec(s, damage[i], TERR));
        store_close(s);
        FAILS(ERR_FORMAT, keys_open(&k, &c, TERR));
        TRUE_(strstr(test_err.msg, "row 1") != NULL);
        OK_(store_open(&s, path, &keys__schema, TERR));
        OK_(store_exec(s, "UPDATE keys SET id = 'abcdefgh', name = 'n', models = ''", TERR));
        store_close(s);
    }
}

typedef struct Race {
    Keys *k;
    const char *key;
    _Atomic bool stop;
    _Atomic int n_ok, n_wrong;
} Race;

static void *checker(void *ctx) {
    Race *r = ctx;
    char h[100];
    snprintf(h, sizeof h, "Bearer %s", r->key);
    while (!atomic_load(&r->stop)) {
        KeyUser u;
        KeyAsk a = {.authorization = slice_of(h),
                    .api_key = {"", 0},
                    .model = {"", 0},
                    .now_s = 2000};
        if (keys_check(&u, r->k, &a, NULL) == OK) atomic_fetch_add(&r->n_ok, 1);
        else atomic_fetch_add(&r->n_wrong, 1);
    }
    return NULL;
}

/* While tables come and go, a key that is in all of them is known at every moment. */
TEST(checks_go_on_while_keys_are_reloaded) {
    fresh();
    Race r = {.key = make("a", 0, NULL, 0)};
    r.k = open_file();
    pthread_t t[3];
    for (int i = 0; i < 3; i++) EQ(pthread_create(&t[i], NULL, checker, &r), 0);
    for (int i = 0; i < 30; i++) {
        make("more", 0, NULL, 0);
        OK_(keys_reload(r.k, NULL, TERR));
        OK_(keys_flush(r.k, TERR));
    }
    atomic_store(&r.stop, true);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    TRUE_(atomic_load(&r.n_ok) > 0);
    EQ(atomic_load(&r.n_wrong), 0);
    keys_free(r.k);
}

/* ---- limits of a key ---- */

TEST(a_key_has_limits_of_its_own) {
    fresh();
    char text[KEYS_MAX_TEXT];
    KeyNew n = {.name = "n", .rpm = 5, .tpm = 1000000, .now_s = 1};
    OK_(keys_create(text, path, &n, TERR));
    Keys *k = open_file();
    KeyUser u;
    OK_(ask(k, &u, text, 0, "", 2));
    EQ(u.rpm, 5);
    EQ(u.tpm, 1000000);
    EQ(list_rows()->v[0].rpm, 5);
    keys_free(k);
    n.rpm = -1;
    FAILS(ERR_ARG, keys_create(text, path, &n, TERR));
    n.rpm = KEYS_MAX_RATE + 1LL;
    FAILS(ERR_ARG, keys_create(text, path, &n, TERR));
}

/* keys.db as it was before keys had limits: the server takes it along. */
TEST(a_file_of_the_version_before) {
    fresh();
    const char *text = make("old", 0, NULL, 0);
    Store *s = NULL;
    OK_(store_open(&s, path, &keys__schema, TERR));
    OK_(store_exec(s,
                   "ALTER TABLE keys DROP COLUMN rpm; ALTER TABLE keys DROP COLUMN tpm;"
                   "PRAGMA user_version = 1",
                   TERR));
    store_close(s);
    Keys *k = open_file();
    KeyUser u;
    OK_(ask(k, &u, text, 0, "", 2));
    EQ(u.rpm, 0);
    EQ(list_rows()->n, 1);
    keys_free(k);
}

TEST(a_reload_takes_other_plain_keys) {
    fresh();
    const char *first[] = {"one,two"}, *second[] = {"three"}, *wrong[] = {"a b"};
    KeysConfig c = {.path = path, .plain = first, .n_plain = 1};
    Keys *k = NULL;
    KeyUser u;
    OK_(keys_open(&k, &c, TERR));
    OK_(ask(k, &u, "two", 0, "", 1));
    c = (KeysConfig){.plain = wrong, .n_plain = 1};
    FAILS(ERR_ARG, keys_reload(k, &c, TERR));
    OK_(ask(k, &u, "two", 0, "", 1));
    c.plain = second;
    OK_(keys_reload(k, &c, TERR));
    FAILS(ERR_AUTH, ask(k, &u, "two", 0, "", 1));
    OK_(ask(k, &u, "three", 0, "", 1));
    c.n_plain = 0;
    OK_(keys_reload(k, &c, TERR));
    FAILS(ERR_AUTH, ask(k, &u, "three", 0, "", 1));
    TRUE_(keys_required(k)); /* none being left does not open the server */
    keys_free(k);
}

/* Lines of a batch run long after its key was looked at. */
TEST(who_was_let_in_is_looked_at_again) {
    Keys *k = NULL;
    KeyUser u;
    fresh();
    const char *plain[] = {"secret"};
    const char *key = make("a", KEY_SCOPE_BATCH, "qwen*", 5000);
    KeysConfig c = {.path = path, .plain = plain, .n_plain = 1};
    OK_(keys_open(&k, &c, TERR));
    OK_(ask(k, &u, key, KEY_SCOPE_BATCH, "", 2000));
    OK_(ask_id(k, u.id, KEY_SCOPE_BATCH, "qwen2", 2000));
    FAILS(ERR_DENIED, ask_id(k, u.id, KEY_SCOPE_BATCH, "llama", 2000));
    FAILS(ERR_DENIED, ask_id(k, u.id, KEY_SCOPE_INFERENCE, "qwen2", 2000));
    FAILS(ERR_AUTH, ask_id(k, u.id, KEY_SCOPE_BATCH, "qwen2", 6000));
    FAILS(ERR_AUTH, ask_id(k, "12345678", KEY_SCOPE_BATCH, "qwen2", 2000));
    OK_(ask_id(k, plain_name("secret"), KEY_SCOPE_BATCH, "llama", 2000));
    FAILS(ERR_AUTH, ask_id(k, plain_name("other"), KEY_SCOPE_BATCH, "llama", 2000));
    FAILS(ERR_AUTH, ask_id(k, "plain-", KEY_SCOPE_BATCH, "llama", 2000));
    OK_(ask_id(k, "", KEY_SCOPE_BATCH, "llama", 2000));
    OK_(keys_revoke(path, u.id, 2500, TERR));
    OK_(keys_reload(k, NULL, TERR));
    FAILS(ERR_AUTH, ask_id(k, u.id, KEY_SCOPE_BATCH, "qwen2", 3000));
    keys_free(k);
}
