/* SPDX-License-Identifier: Apache-2.0
 * What `ingot serve` does on SIGHUP: the command line, the file of --config and the environment are read again as they
 * were at the start, and what may change while it runs is put in force, all of it or nothing. What differs is said, by
 * option. Loop thread. */
#include <stdio.h>
#include <strings.h>

#include "base/log.h"
#include "cli/serve.h"

struct ServeReload {
    int argc;
    char **argv;         /* borrowed */
    const OptSet *first; /* borrowed: as it was at the start */
    CliArgs now, next;   /* owned; with what they are read into */
    ServeCmd *now_cmd, *next_cmd;
    KeysConfig keys; /* of the reload that runs */
    const char **plain;
};

/* Options that a reload puts in force. The log's file and the files of keys and certificates are opened again. */
static const char *const live[] = {"api_key",    "body_memory",     "log_level",
                                   "max_body",   "max_connections", "max_per_address",
                                   "rate_limit", "timeout",         "token_rate_limit"};

static bool is_live(const char *key) {
    for (size_t i = 0; i < COUNT_OF(live); i++) {
        if (strcmp(live[i], key) == 0) return true;
    }
    return false;
}

/* ---- from options ---- */

LogLevel cli_serve_level(const ServeCmd *c) {
    static const char *const words[] = {"error", "warn", "info", "debug"};
    if (strncasecmp(c->log_level, "crit", 4) == 0) return LOG_ERROR;
    for (int i = 0; i < (int)COUNT_OF(words); i++) {
        if (strncasecmp(words[i], c->log_level, strlen(words[i])) == 0) return (LogLevel)i;
    }
    return LOG_INFO;
}

Status cli_serve_live(ServerLive *out, const ServeCmd *c, Err *e) {
    ServerLive l = {.limits = {.max_connections = (int)c->max_connections,
                               .max_per_address = (int)c->max_per_address},
                    .timeout_s = c->timeout,
                    .quiet = cli_serve_level(c) < LOG_INFO};
    TRY(cli_size(&l.limits.max_body_bytes, "--max-body", c->max_body, e));
    TRY(cli_size(&l.limits.max_held_bytes, "--body-memory", c->body_memory, e));
    TRY(api_rate_parse(&l.requests, "--rate-limit", c->rate_limit, e));
    TRY(api_rate_parse(&l.tokens, "--token-rate-limit", c->token_rate_limit, e));
    if (l.limits.max_held_bytes / 4 < l.limits.max_body_bytes)
        return err_set(e, ERR_ARG, "--body-memory %s: less than four bodies (--max-body %s)",
                       c->body_memory, c->max_body);
    *out = l;
    return OK;
}

Status cli_serve_plain(KeysConfig *out, const char ***list, const ServeCmd *c, Err *e) {
    int n = 0;
    const char **v = mem_new_n(const char *, (size_t)c->api_keys.n + CONFIG_N_API_KEYS + 1);
    if (!v) return err_set(e, ERR_NOMEM, "keys");
    for (int i = 0; i < c->api_keys.n; i++) v[n++] = c->api_keys.v[i];
    for (int i = 0; i < cli_env.n_api_keys && c->api_keys.n == 0; i++) v[n++] = cli_env.api_key[i];
    out->plain = v;
    out->n_plain = n;
    *list = v;
    return OK;
}

/* ---- reading again ---- */

Status cli_serve_reload_new(ServeReload **out, const OptSet *first, int argc, char **argv, Err *e) {
    ServeReload *r = mem_new(ServeReload);
    if (!r) return err_set(e, ERR_NOMEM, "reloading");
    *r = (ServeReload){.first = first, .argc = argc, .argv = argv};
    *out = r;
    return OK;
}

static void drop(CliArgs *a, ServeCmd **c) {
    cli_args_deinit(a);
    mem_free(*c);
    *c = NULL;
}

static void end_keys(ServeReload *r) {
    mem_free(r->plain);
    r->plain = NULL;
}

void cli_serve_reload_free(ServeReload *r) {
    if (!r) return;
    drop(&r->now, &r->now_cmd);
    drop(&r->next, &r->next_cmd);
    end_keys(r);
    mem_free(r);
}

Status cli_serve_reload_begin(ServeReload *r, ServerLive *l, Err *e) {
    r->next_cmd = mem_new(ServeCmd);
    if (!r->next_cmd) return err_set(e, ERR_NOMEM, "reloading");
    TRY(cli_read(&r->next, &cli_serve_spec, r->next_cmd, r->argc, r->argv, e));
    TRY(cli_serve_settle(r->next_cmd, &r->next, true, e));
    TRY(cli_serve_live(l, r->next_cmd, e));
    TRY(cli_serve_plain(&r->keys, &r->plain, r->next_cmd, e));
    l->keys = &r->keys;
    return OK;
}

/* ---- saying what changed ---- */

static void show(StrBuf *b, const OptSet *o, const char *key) {
    if (strcmp(key, "api_key") == 0) sb_puts(b, opt_given(o, key) ? "[not shown]" : "none");
    else opt_format(o, key, b);
}

/* One option that differs from what is in force. False: it does not. */
static bool say_changed(const OptSet *old, const OptSet *new, const char *key) {
    StrBuf was = {0}, is = {0}, from = {0}, to = {0};
    opt_format(old, key, &was);
    opt_format(new, key, &is);
    bool differs = strcmp(sb_str(&was), sb_str(&is)) != 0;
    show(&from, old, key);
    show(&to, new, key);
    if (differs && is_live(key)) log_info("%s: %s -> %s", key, sb_str(&from), sb_str(&to));
    else if (differs)
        log_warn("%s: stays %s until a restart, %s is asked for", key, sb_str(&from), sb_str(&to));
    sb_deinit(&was);
    sb_deinit(&is);
    sb_deinit(&from);
    sb_deinit(&to);
    return differs;
}

static void say_all(const ServeReload *r) {
    const OptSet *now = r->now.set ? r->now.set : r->first;
    int n = 0;
    for (int i = 0; i < cli_serve_spec.n_opts; i++) {
        const char *key = cli_serve_spec.opts[i].key;
        n += say_changed(is_live(key) ? now : r->first, r->next.set, key);
    }
    log_info("read again: keys, certificates and options; %d options differ", n);
}

void cli_serve_reload_end(ServeReload *r, const Err *e) {
    Err why = {0};
    end_keys(r);
    if (e->code != OK) {
        log_error("reload: %s; everything stays as it was", e->msg);
        drop(&r->next, &r->next_cmd);
        return;
    }
    LogLevel level = cli_serve_level(r->next_cmd);
    if (!log_enabled(level)) log_set_level(level); /* the more talkative of both says it */
    say_all(r);
    log_set_level(level);
    if (log_writer_reopen(&why) != OK) log_error("%s; the log goes on in the old file", why.msg);
    drop(&r->now, &r->now_cmd);
    r->now = r->next;
    r->now_cmd = r->next_cmd;
    r->next = (CliArgs){0};
    r->next_cmd = NULL;
}
