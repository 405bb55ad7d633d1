/* SPDX-License-Identifier: Apache-2.0
 * ingot keys: make, list and revoke the API keys of a server (api/keys.h). The key alone goes to standard output, so that a
 * script can take it; what to know about it goes to standard error. */
#include <stdio.h>
#include <time.h>

#include "api/keys.h"
#include "cli/cli.h"
#include "store/store.h"
#include "text/json.h"

typedef struct KeysCmd {
    const char *name, *scopes, *models, *expires, *state_dir;
    int64_t rpm, tpm;
    bool json;
} KeysCmd;

#define AT(field) offsetof(KeysCmd, field)
#define STATE_DIR_OPT                                                                      \
    {                                                                                      \
        .key = "state_dir", .type = OPT_STR, .offset = AT(state_dir), .metavar = "FOLDER", \
        .help = "where keys.db is [INGOT_STATE_DIR, or ~/.local/state/ingot]"              \
    }
#define JSON_OPT \
    { .key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print a JSON object" }

static const OptSpec create_opts[] = {
    {.key = "name",
     .type = OPT_STR,
     .offset = AT(name),
     .metavar = "NAME",
     .help = "who or what the key is for; instead of the argument"},
    {.key = "scopes",
     .type = OPT_STR,
     .offset = AT(scopes),
     .def = "inference,batch,feedback",
     .metavar = "LIST",
     .help = "what it may do: inference, batch, feedback, admin (all and the metrics)"},
    {.key = "models",
     .type = OPT_STR,
     .offset = AT(models),
     .metavar = "LIST",
     .help = "models it may use, with commas between; one may end in *; all by default"},
    {.key = "expires",
     .type = OPT_STR,
     .offset = AT(expires),
     .def = "never",
     .metavar = "WHEN",
     .help = "30m, 12h, 90d from now, a day as 2027-01-31 (its beginning, UTC), or never"},
    {.key = "rpm",
     .type = OPT_INT,
     .offset = AT(rpm),
     .def = "0",
     .min = 0,
     .max = KEYS_MAX_RATE,
     .help = "requests a minute; 0: what the server allows everybody"},
    {.key = "tpm",
     .type = OPT_INT,
     .offset = AT(tpm),
     .def = "0",
     .min = 0,
     .max = KEYS_MAX_RATE,
     .help = "tokens a minute, prompt and answer; 0: likewise"},
    JSON_OPT,
    STATE_DIR_OPT,
};
static const OptSpec list_opts[] = {JSON_OPT, STATE_DIR_OPT};
#undef AT

static const CliSpec create_spec = {
    .usage = "ingot keys create [NAME] [options]",
    .about =
        "Makes an API key and prints it. It is stored as a digest: this is the only time it can be "
        "read.\n"
        "A server that runs knows it after SIGHUP.\n"
        "\n"
        "example:\n"
        "  KEY=$(ingot keys create chat --expires 90d)\n"
        "  curl -H \"Authorization: Bearer $KEY\" http://127.0.0.1:8000/v1/models",
    .opts = create_opts,
    .n_opts = (int)COUNT_OF(create_opts),
    .min_pos = 0,
    .max_pos = 1,
};
static const CliSpec list_spec = {
    .usage = "ingot keys list [options]",
    .about = "Shows the keys there are, those revoked or expired included.",
    .opts = list_opts,
    .n_opts = (int)COUNT_OF(list_opts),
    .min_pos = 0,
    .max_pos = 0,
};
static const CliSpec revoke_spec = {
    .usage = "ingot keys revoke ID [options]",
    .about =
        "Revokes the key with this id (the part between the dashes). A server that runs knows it "
        "after SIGHUP.",
    .opts = list_opts,
    .n_opts = (int)COUNT_OF(list_opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* ---- the file ---- */

static Status keys_path(StrBuf *path, const KeysCmd *c, bool make, Err *e) {
    TRY(config_state_dir(path, &cli_env, c->state_dir, e));
    if (make) TRY(store_make_dir(sb_str(path), e));
    sb_puts(path, "/keys.db");
    return sb_check(path, e);
}

/* ---- times ---- */

/* Days from 1970-01-01 to a day of the Gregorian calendar (years from March on, so that a leap day is the last). */
static int64_t days_of(int64_t y, int64_t m, int64_t d) {
    y -= m <= 2;
    int64_t era = y / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool read_day(int64_t *out, const char *text) {
    int y, m, d, n = 0;
    static const int length[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (sscanf(text, "%4d-%2d-%2d%n", &y, &m, &d, &n) != 3 || n != 10 || text[n]) return false;
    if (y < 1970 || m < 1 || m > 12 || d < 1 || d > length[m - 1]) return false;
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    if (m == 2 && d == 29 && !leap) return false;
    *out = days_of(y, m, d) * 86400;
    return true;
}

static bool read_span(int64_t *out, const char *text) {
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'m', 60}, {'h', 3600}, {'d', 86400}};
    char digits[8] = {0};
    size_t n = strlen(text);
    uint64_t v = 0;
    if (n < 2 || n > sizeof digits) return false;
    memcpy(digits, text, n - 1);
    if (!str_to_u64(&v, digits) || v == 0) return false;
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (text[n - 1] != units[i].unit) continue;
        *out = (int64_t)v * units[i].seconds;
        return true;
    }
    return false;
}

static Status read_expires(int64_t *out, const char *text, int64_t now_s, Err *e) {
    int64_t t = 0;
    if (strcmp(text, "never") == 0) *out = 0;
    else if (read_day(&t, text)) *out = t;
    else if (read_span(&t, text)) *out = now_s + t;
    else
        return err_set(e, ERR_ARG, "--expires %.40s: want 30m, 12h, 90d, 2027-01-31 or never",
                       text);
    return OK;
}

static const char *show_time(char buf[32], int64_t t_s) {
    time_t t = (time_t)t_s;
    struct tm tm;
    if (t_s == 0 || !gmtime_r(&t, &tm)) return "-";
    strftime(buf, 32, "%Y-%m-%d %H:%M", &tm);
    return buf;
}

/* ---- create ---- */

static int print_made(const KeysCmd *c, const KeyNew *n, const char *text) {
    char id[9] = {0};
    memcpy(id, text + 3, 8);
    if (c->json) {
        StrBuf b = {0};
        JsonW w;
        jw_init(&w, &b);
        jw_obj(&w, NULL);
        jw_cstr(&w, "id", id);
        jw_cstr(&w, "key", text);
        jw_cstr(&w, "name", n->name);
        jw_int(&w, "expires", n->expires_s);
        jw_end_obj(&w);
        int rc = cli_print_json(&b);
        sb_deinit(&b);
        return rc;
    }
    puts(text);
    fprintf(stderr, "key %s: shown once, keep it; a running server knows it after SIGHUP\n", id);
    return cli_flush_stdout();
}

static int create(const KeysCmd *c, const char *name) {
    Err e = {0};
    StrBuf path = {0};
    char text[KEYS_MAX_TEXT];
    KeyNew n = {.name = c->name ? c->name : name,
                .models = c->models,
                .rpm = c->rpm,
                .tpm = c->tpm,
                .now_s = (int64_t)time(NULL)};
    Status st = keys_scopes_parse(&n.scopes, c->scopes, &e);
    if (st == OK) st = read_expires(&n.expires_s, c->expires, n.now_s, &e);
    if (st == OK) st = keys_path(&path, c, true, &e);
    if (st == OK) st = keys_create(text, sb_str(&path), &n, &e);
    sb_deinit(&path);
    return st == OK ? print_made(c, &n, text) : cli_fail(&e);
}

static int cmd_create(int argc, char **argv) {
    KeysCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &create_spec, &c, argc, argv);
    if (rc < 0 && c.name && a.pos.n > 0) rc = cli_usage(&create_spec, "two names");
    if (rc < 0) rc = create(&c, a.pos.n > 0 ? a.pos.v[0] : "default");
    cli_args_deinit(&a);
    return rc;
}

/* ---- list ---- */

static const char *state_of(const KeyRow *r) {
    if (r->revoked_s != 0) return "revoked";
    return r->expires_s != 0 && r->expires_s <= (int64_t)time(NULL) ? "expired" : "valid";
}

static void put_json_row(void *ctx, const KeyRow *r) {
    JsonW *w = ctx;
    StrBuf scopes = {0};
    keys_scopes_format(&scopes, r->scopes);
    jw_obj(w, NULL);
    jw_cstr(w, "id", r->id);
    jw_cstr(w, "name", r->name);
    jw_cstr(w, "state", state_of(r));
    jw_cstr(w, "scopes", sb_str(&scopes));
    jw_cstr(w, "models", r->models);
    jw_int(w, "created", r->created_s);
    jw_int(w, "expires", r->expires_s);
    jw_int(w, "revoked", r->revoked_s);
    jw_int(w, "last_used", r->used_s);
    jw_int(w, "rpm", r->rpm);
    jw_int(w, "tpm", r->tpm);
    jw_end_obj(w);
    if (scopes.failed) w->b->failed = true;
    sb_deinit(&scopes);
}

static void put_text_row(void *ctx, const KeyRow *r) {
    StrBuf *b = ctx;
    char made[32], end[32], used[32];
    sb_printf(b, "%-8s  %-7s  %-16s  %-16s  %-16s  ", r->id, state_of(r),
              show_time(made, r->created_s), show_time(end, r->expires_s),
              show_time(used, r->used_s));
    keys_scopes_format(b, r->scopes);
    sb_printf(b, "  %s  %s", r->models[0] ? r->models : "*", r->name);
    if (r->rpm > 0) sb_printf(b, "  %lld requests/min", (long long)r->rpm);
    if (r->tpm > 0) sb_printf(b, "  %lld tokens/min", (long long)r->tpm);
    sb_putc(b, '\n');
}

static Status list_json(StrBuf *b, const char *path, Err *e) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_arr(&w, "keys");
    TRY(keys_list(path, put_json_row, &w, e));
    jw_end_arr(&w);
    jw_end_obj(&w);
    return sb_check(b, e);
}

static Status list_text(StrBuf *b, const char *path, Err *e) {
    sb_printf(b, "%-8s  %-7s  %-16s  %-16s  %-16s  %s\n", "id", "state", "created", "expires",
              "last used", "scopes  models  name");
    TRY(keys_list(path, put_text_row, b, e));
    return sb_check(b, e);
}

static int list(const KeysCmd *c) {
    Err e = {0};
    StrBuf path = {0}, b = {0};
    Status st = keys_path(&path, c, false, &e);
    if (st == OK)
        st = c->json ? list_json(&b, sb_str(&path), &e) : list_text(&b, sb_str(&path), &e);
    int rc = st == OK ? CLI_OK : cli_fail(&e);
    if (st == OK && c->json) rc = cli_print_json(&b);
    if (st == OK && !c->json) {
        fwrite(b.p, 1, b.n, stdout);
        rc = cli_flush_stdout();
    }
    sb_deinit(&path);
    sb_deinit(&b);
    return rc;
}

static int cmd_list(int argc, char **argv) {
    KeysCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &list_spec, &c, argc, argv);
    if (rc < 0) rc = list(&c);
    cli_args_deinit(&a);
    return rc;
}

/* ---- revoke ---- */

static int revoke(const KeysCmd *c, const char *id) {
    Err e = {0};
    StrBuf path = {0};
    Status st = keys_path(&path, c, false, &e);
    if (st == OK) st = keys_revoke(sb_str(&path), id, (int64_t)time(NULL), &e);
    sb_deinit(&path);
    if (st != OK) return cli_fail(&e);
    if (c->json) printf("{\"id\":\"%s\",\"revoked\":true}\n", id); /* eight letters and digits */
    else fprintf(stderr, "key %s: revoked; a running server knows it after SIGHUP\n", id);
    return cli_flush_stdout();
}

static int cmd_revoke(int argc, char **argv) {
    KeysCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &revoke_spec, &c, argc, argv);
    if (rc < 0) rc = revoke(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}

static const CliCommand commands[] = {
    {"create", "make a key and print it", cmd_create},
    {"list", "show the keys there are", cmd_list},
    {"revoke", "make a key invalid", cmd_revoke},
};

int cmd_keys(int argc, char **argv) {
    static const CliGroup group = {
        .name = "ingot keys",
        .about = "API keys of a server: who may ask, for what, until when. A server that finds "
                 "keys wants "
                 "one with every\n"
                 "request but health checks.",
        .cmds = commands,
        .n_cmds = (int)COUNT_OF(commands),
    };
    return cli_dispatch(&group, argc, argv);
}
