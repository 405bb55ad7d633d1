/* SPDX-License-Identifier: Apache-2.0
 * Life of the server, and the four calls it gets from the loop. */
#include "server/server.h"

#include <errno.h>
#include <sys/random.h>

#include "server/internal.h"

enum {
    SAMPLE_MS = 1000,
    LOGGED_TARGET = 512,
    MAX_BODY =
        1 << 20 /* some 50 ms of JSON reading on the loop's thread; a prompt needs a few KB */
};

static void on_request(void *ctx, HttpReq *r) { server__route(ctx, r); }

static void on_wake(void *ctx) { server__jobs_poll(ctx); }

static void on_tick(void *ctx) {
    Server *s = ctx;
    server__health_sample(&s->health);
}

/* The target is visible ASCII; quotes are escaped so that a line can be taken apart again. */
static void put_target(StrBuf *b, Slice t) {
    for (size_t i = 0; i < t.n && i < LOGGED_TARGET; i++) {
        if (t.p[i] == '"' || t.p[i] == '\\') {
            sb_printf(b, "%%%02X", (unsigned)t.p[i]);
        } else {
            sb_putc(b, t.p[i]);
        }
    }
    if (t.n > LOGGED_TARGET) sb_puts(b, "...");
}

static void on_reply(void *ctx, const HttpReq *r, int status) {
    const Server *s = ctx;
    Slice method = http_method(r);
    StrBuf b = {0};
    sb_printf(&b, "%s - \"", http_peer(r));
    if (http_version(r) != 0) {
        sb_printf(&b, "%.*s ", (int)method.n, method.p);
        put_target(&b, http_target(r));
        sb_printf(&b, " HTTP/%d.%d", http_version(r) / 10, http_version(r) % 10);
    } else {
        sb_putc(&b, '-'); /* no request line could be read */
    }
    sb_printf(&b, "\" %d %s", status, http_reason(status));
    if (!b.failed) s->cfg.on_access(s->cfg.access_ctx, sb_str(&b));
    sb_deinit(&b);
}

static Status server_init(Server *s, Err *e) {
    const ServerConfig *c = &s->cfg;
    if (getrandom(&s->seed_base, sizeof s->seed_base, 0) != (ssize_t)sizeof s->seed_base) {
        return err_set(e, ERR_IO, "getrandom: %s", strerror(errno));
    }
    server__health_sample(&s->health);
    if (s->cfg.limits.max_body_bytes == 0) s->cfg.limits.max_body_bytes = MAX_BODY;
    HttpConfig h = {.host = c->host,
                    .port = c->port,
                    .limits = s->cfg.limits,
                    .on_request = on_request,
                    .on_wake = on_wake,
                    .on_reply = c->on_access ? on_reply : NULL,
                    .on_tick = on_tick,
                    .tick_ms = SAMPLE_MS,
                    .ctx = s};
    return http_new(&s->http, &h, e);
}

Status server_new(Server **out, const ServerConfig *c, Err *e) {
    Server *s = mem_new(Server);
    if (!s) return err_set(e, ERR_NOMEM, "server");
    s->cfg = *c;
    Status st = server_init(s, e);
    if (st != OK) {
        mem_free(s);
        return st;
    }
    *out = s;
    return OK;
}

void server_free(Server *s) {
    if (!s) return;
    http_free(s->http); /* closes what is open, and each job goes with its client */
    mem_free(s);
}

int server_port(const Server *s) { return http_port(s->http); }

Status server_run(Server *s, int grace_ms, Err *e) { return http_run(s->http, grace_ms, e); }

void server_stop(Server *s) { http_stop(s->http); }
