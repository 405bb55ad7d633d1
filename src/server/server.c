/* SPDX-License-Identifier: Apache-2.0
 * Life of the server, and the four calls it gets from the loop. */
#include "server/server.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "server/prepare.h"

enum { SAMPLE_MS = 1000, LOGGED_TARGET = 512, N_PREP = 2, MAX_BODY = 8 << 20, STALL_MS = 30000 };

static void on_request(void *ctx, HttpReq *r) { server__route(ctx, r); }

/* Take the model over. Jobs that prepare later see it through their queue's lock. */
static void take_model(Server *s) {
    ServerConfig *c = atomic_exchange(&s->coming, NULL);
    if (!c) return;
    s->cfg.tok = c->tok;
    s->cfg.chat = c->chat;
    s->cfg.model = c->model;
    s->cfg.adapters = c->adapters;
    s->cfg.n_adapters = c->n_adapters;
    s->cfg.vocab = c->vocab;
    s->cfg.n_embd = c->n_embd;
    s->cfg.batch_lines = c->batch_lines;
    s->cfg.engine = c->engine;
    mem_free(c);
}

static void reload(Server *s) {
    Err e = {0}, tls = {0};
    if (s->cfg.keys && keys_reload(s->cfg.keys, &e) != OK)
        log_error("keys: %s; the old ones stay in force", e.msg);
    if (http_reload_tls(s->http, &tls) != OK)
        log_error("certificate: %s; the old one stays in force", tls.msg);
    if (e.code == OK && tls.code == OK) log_info("keys and certificates were read again");
}

static void on_wake(void *ctx) {
    Server *s = ctx;
    take_model(s);
    if (atomic_exchange(&s->reload_asked, false)) reload(s);
    if (s->cfg.feedback) feedback_poll(s->cfg.feedback);
    server__batches_poll(s);
    server__jobs_poll(s);
}

/* What the parser and the limits refuse has no route yet: a body that both kinds of clients read. */
static void on_refuse(void *ctx, StrBuf *b, int status, const char *why) {
    JsonW w;
    (void)ctx;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_obj(&w, "error");
    jw_cstr(&w, "message", why);
    jw_cstr(&w, "type", api_error_type(status));
    jw_null(&w, "param");
    jw_null(&w, "code");
    jw_end_obj(&w);
    jw_cstr(&w, "detail", why);
    jw_end_obj(&w);
}

static void on_tick(void *ctx) {
    Server *s = ctx;
    server__health_sample(&s->health);
    server__jobs_poll(s); /* those whose clients have read on */
    server__jobs_ping(s);
    server__batches_tick(s);
    server__trace_flush(s);
}

static Status server_init(Server *s, Err *e) {
    const ServerConfig *c = &s->cfg;
    if (getrandom(&s->seed_base, sizeof s->seed_base, 0) != (ssize_t)sizeof s->seed_base) {
        return err_set(e, ERR_IO, "getrandom: %s", strerror(errno));
    }
    server__health_sample(&s->health);
    s->started = (int64_t)time(NULL);
    server__stats_init(&s->stats);
    TRY(server__describe(&s->openapi, s, e));
    if (s->cfg.limits.max_body_bytes == 0) s->cfg.limits.max_body_bytes = MAX_BODY;
    if (s->cfg.limits.write_timeout_ms == 0) s->cfg.limits.write_timeout_ms = STALL_MS;
    HttpConfig h = {.host = c->host,
                    .port = c->port,
                    .limits = s->cfg.limits,
                    .tls_cert = c->tls_cert,
                    .tls_key = c->tls_key,
                    .hsts_s = c->hsts_s,
                    .cors = c->cors,
                    .on_refuse = on_refuse,
                    .body_limit = server__body_limit,
                    .on_request = on_request,
                    .on_wake = on_wake,
                    .on_reply = c->on_line ? server__log_reply : NULL,
                    .on_tick = on_tick,
                    .tick_ms = SAMPLE_MS,
                    .ctx = s};
    TRY(http_new(&s->http, &h, e));
    return prep_new(&s->prep, c->n_prep > 0 ? c->n_prep : N_PREP, server__prepare, server__knock, s,
                    e);
}

Status server_new(Server **out, const ServerConfig *c, Err *e) {
    Server *s = mem_new(Server);
    if (!s) return err_set(e, ERR_NOMEM, "server");
    s->cfg = *c;
    if (!s->cfg.model) s->cfg.model = "model";
    Status st = server_init(s, e);
    if (st != OK) {
        server_free(s);
        return st;
    }
    *out = s;
    return OK;
}

void server_free(Server *s) {
    if (!s) return;
    prep_free(s->prep);
    s->prep = NULL;
    if (s->http) http_free(s->http); /* closes what is open */
    server__jobs_free(s);
    mem_free(atomic_exchange(&s->coming, NULL));
    otlp_deinit(&s->spans);
    sb_deinit(&s->openapi);
    mem_free(s);
}

Status server_attach(Server *s, const ServerConfig *c, Err *e) {
    ServerConfig *copy = mem_new(ServerConfig);
    if (!copy) return err_set(e, ERR_NOMEM, "a model's names");
    *copy = *c;
    mem_free(atomic_exchange(&s->coming, copy));
    http_wake(s->http);
    return OK;
}

int server_port(const Server *s) { return http_port(s->http); }

Status server_run(Server *s, int grace_ms, Err *e) {
    Status st = http_run(s->http, grace_ms, e);
    prep_free(s->prep); /* from here on nobody asks anything of the engine */
    s->prep = NULL;
    server__batches_end(s);
    server__jobs_free(s);
    server__trace_flush(s);
    return st;
}

void server_reload(Server *s) {
    atomic_store(&s->reload_asked, true);
    http_wake(s->http);
}

void server_wake(Server *s) { http_wake(s->http); }

void server_stop(Server *s) { http_stop(s->http); }
