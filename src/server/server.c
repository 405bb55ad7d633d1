/* SPDX-License-Identifier: Apache-2.0
 * Life of the server, and the four calls it gets from the loop. */
#include "server/server.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/history.h"
#include "server/prepare.h"

enum {
    SAMPLE_MS = 1000,
    LOGGED_TARGET = 512,
    N_PREP = 2,
    MAX_BODY = 8 << 20,
    MAX_HELD = 256 << 20,
    STALL_MS = 30000
};

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

/* ---- reloading ---- */

typedef struct Reload {
    Server *s;
    const KeysConfig *plain;
} Reload;

/* The last step that can fail; what it changes is in force at once. */
static Status reload_keys(void *ctx, Err *e) {
    const Reload *r = ctx;
    Status st = r->s->cfg.keys ? keys_reload(r->s->cfg.keys, r->plain, e) : OK;
    if (st != OK) err_in(e, "keys");
    return st;
}

static void fill_limits(HttpLimits *l) {
    if (l->max_body_bytes == 0) l->max_body_bytes = MAX_BODY;
    if (l->max_held_bytes == 0) l->max_held_bytes = MAX_HELD;
    if (l->write_timeout_ms == 0) l->write_timeout_ms = STALL_MS;
}

static void reload(Server *s) {
    Err e = {0};
    ServerLive live = s->live;
    const ServerConfig *c = &s->cfg;
    live.keys = NULL;
    Status st = c->on_reload ? c->on_reload(c->ctx, &live, &e) : OK;
    Reload r = {s, live.keys};
    fill_limits(&live.limits);
    if (st == OK) st = http_reload(s->http, &live.limits, reload_keys, &r, &e);
    live.keys = NULL;
    if (st == OK) s->live = live;
    if (c->on_reloaded) c->on_reloaded(c->ctx, &e);
    else if (st == OK) log_info("keys and certificates were read again");
    else log_error("%s; everything stays as it was", e.msg);
}

/* ---- calls of the loop ---- */

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
    server__history_tick(s);
    server__sessions_tick(s->sessions, clock_now_s());
    server__jobs_poll(s); /* those whose clients have read on */
    server__jobs_ping(s);
    server__batches_tick(s);
    server__trace_flush(s);
}

static void on_reply(void *ctx, const HttpReq *r, int status) {
    Server *s = ctx;
    server__history_note(s->history, status);
    if (s->cfg.on_line) server__log_reply(s, r, status);
}

static Status server_init(Server *s, Err *e) {
    const ServerConfig *c = &s->cfg;
    if (getrandom(&s->seed_base, sizeof s->seed_base, 0) != (ssize_t)sizeof s->seed_base) {
        return err_set(e, ERR_IO, "getrandom: %s", strerror(errno));
    }
    server__health_sample(&s->health);
    s->started = (int64_t)time(NULL);
    s->started_mono = clock_now_s();
    TRY(server__history_new(&s->history, e));
    TRY(server__sessions_new(&s->sessions, e));
    server__stats_init(&s->stats);
    TRY(server__describe(&s->openapi, s, e));
    s->live = c->live;
    fill_limits(&s->live.limits);
    TRY(api_rates_new(&s->rates, e));
    HttpConfig h = {.host = c->host,
                    .port = c->port,
                    .limits = s->live.limits,
                    .tls_cert = c->tls_cert,
                    .tls_key = c->tls_key,
                    .hsts_s = c->hsts_s,
                    .cors = c->cors,
                    .proxies = c->proxies,
                    .n_proxies = c->n_proxies,
                    .on_refuse = on_refuse,
                    .body_limit = server__body_limit,
                    .on_request = on_request,
                    .on_wake = on_wake,
                    .on_reply = on_reply,
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
    s->http = NULL;
    server__jobs_free(s);
    api_rates_free(s->rates);
    mem_free(atomic_exchange(&s->coming, NULL));
    otlp_deinit(&s->spans);
    sb_deinit(&s->openapi);
    server__history_free(s->history);
    server__sessions_free(s->sessions);
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
    TRY(prep_start(s->prep, e));
    Status st = http_run(s->http, grace_ms, e);
    prep_free(s->prep); /* from here on nobody asks anything of the engine */
    s->prep = NULL;
    server__batches_end(s);
    server__jobs_free(s);
    server__trace_flush(s);
    return st;
}

void server_use_feedback(Server *s, Feedback *f) { s->cfg.feedback = f; }

void server_use_batches(Server *s, Batches *b) { s->cfg.batches = b; }

void server_reload(Server *s) {
    atomic_store(&s->reload_asked, true);
    http_wake(s->http);
}

void server_wake(Server *s) { http_wake(s->http); }

void server_stop(Server *s) { http_stop(s->http); }
