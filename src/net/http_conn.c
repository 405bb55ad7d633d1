/* SPDX-License-Identifier: Apache-2.0
 * One connection: bytes in, requests out, one at a time. pump() moves it as far as it can go; every
 * callback ends there. Reading goes on while a request is handled, since only a read shows that the client
 * left, but stops once READ_AHEAD bytes wait; from then on the scan asks the kernel instead. (Of a client
 * that sent more than both buffers hold, the end is behind those bytes and shows with the next answer.) */
#include <poll.h>
#include <sys/socket.h>

#include "net/internal.h"

enum {
    READ_AHEAD = 16 << 10,  /* bytes of later requests kept while one is handled */
    OUT_PAUSE = 256 << 10,  /* no further request is taken while this much waits for the client */
    STALL_BYTES = 64 << 10, /* a client must take this much, or all, in write_timeout_ms */
    FREE_BYTES = 64 << 10,  /* of a body that do not count in max_held_bytes */
    LINGER_MS = 2000
};

static size_t out_waiting(const HttpConn *c) {
    return evbuffer_get_length(bufferevent_get_output(c->bev));
}

static void set_deadline(HttpConn *c, int timeout_ms) {
    c->deadline_ms = http__now_ms() + (uint64_t)timeout_ms;
}

void http__conn_put(HttpConn *c, const void *p, size_t n) {
    if (n == 0) return;
    c->n_queued += n;
    if (bufferevent_write(c->bev, p, n) == 0) return;
    c->broken = true;
    event_active(c->resume, EV_TIMEOUT, 0);
}

static void tell_gone(HttpConn *c) {
    void (*fn)(void *) = c->req.gone_fn;
    c->req.gone_fn = NULL;
    if (c->state == CONN_HANDLED && fn) fn(c->req.gone_ctx);
}

static void conn_free(HttpConn *c) {
    c->server->n_held -= c->n_held;
    if (c->resume) event_free(c->resume);
    if (c->bev) bufferevent_free(c->bev); /* closes the socket */
    http__parse_deinit(&c->req.parse);
    mem_free(c);
}

void http__conn_close(HttpConn *c) {
    HttpServer *s = c->server;
    tell_gone(c);
    if (c->prev) c->prev->next = c->next;
    if (c->next) c->next->prev = c->prev;
    if (s->conns == c) s->conns = c->next;
    s->n_conns--;
    conn_free(c);
    if (s->stopping && s->n_conns == 0) event_base_loopbreak(s->base);
}

/* ---- moving on ---- */

/* ---- what bodies take ---- */

/* A body that body_limit lets be larger than others: there are few of them, and they do not count here. */
static bool is_large(const HttpConn *c) {
    return c->req.parse.max_body > c->server->cfg.limits.max_body_bytes;
}

/* The body's memory counts, but for a first part that as many as there may be connections can have. */
static void count_body(HttpConn *c) {
    size_t cap = c->req.parse.body.cap, held = cap > FREE_BYTES && !is_large(c) ? cap : 0;
    c->server->n_held += held - c->n_held;
    c->n_held = held;
}

/* Over the limit of all bodies together with so much more? */
static bool is_over(const HttpConn *c, size_t more) {
    const HttpServer *s = c->server;
    size_t most = s->cfg.limits.max_held_bytes;
    return s->n_held > most || more > most - s->n_held;
}

static const char much_is_read[] = "too much is being read at this time, try again later";

/* A head that announces more than there is room for is refused before a byte of it is read. */
static void check_announced(HttpConn *c) {
    HttpParse *p = &c->req.parse;
    uint64_t n = p->chunked ? 0 : p->hp.content_length;
    if (p->state == PARSE_BODY && n > FREE_BYTES && !is_large(c) && is_over(c, n))
        http__parse_fail(p, 503, much_is_read);
}

/* What the server says to this head. Few large bodies at a time: each is in memory whole. */
static size_t body_limit(HttpParse *p) {
    HttpReq *r = (HttpReq *)(void *)((char *)p - offsetof(HttpReq, parse));
    const HttpServer *s = r->conn->server;
    http__take_client(r); /* who asks is asked here, too */
    size_t usual = s->cfg.limits.max_body_bytes, most = s->cfg.body_limit(s->cfg.ctx, r);
    int n = 0;
    for (const HttpConn *o = s->conns; o; o = o->next)
        n += o != r->conn && o->req.parse.state == PARSE_BODY && o->req.parse.max_body > usual;
    if (most > usual && n >= HTTP_MAX_LARGE)
        http__parse_fail(p, 503, "too many large uploads, try again later");
    return most;
}

/* The server's limits as they are now, for the request that comes. */
static void take_limits(HttpConn *c) {
    const HttpLimits *l = &c->server->cfg.limits;
    HttpParse *p = &c->req.parse;
    p->max_head = l->max_header_bytes;
    p->max_line = l->max_line_bytes;
    p->max_target = l->max_target_bytes;
    p->max_body = l->max_body_bytes;
    if (c->server->cfg.body_limit) p->body_limit = body_limit;
}

/* ---- reading ---- */

/* So much of the body must be there when this time is over, unless all of it is. */
static void begin_body_window(HttpConn *c) {
    const HttpLimits *l = &c->server->cfg.limits;
    c->body_goal =
        c->req.parse.body.n + (size_t)l->min_body_rate * (size_t)l->body_timeout_ms / 1000;
    set_deadline(c, l->body_timeout_ms);
}

/* Take bytes for the request being read; true when it is whole or refused. */
static bool feed(HttpConn *c) {
    struct evbuffer *in = bufferevent_get_input(c->bev);
    HttpParse *p = &c->req.parse;
    bool was_fresh = http__parse_is_fresh(p), had_no_body = p->state == PARSE_HEAD;
    if (was_fresh) take_limits(c); /* they may have changed since the last request */
    while (p->state < PARSE_DONE && evbuffer_get_length(in) > 0) {
        struct evbuffer_iovec v;
        if (evbuffer_peek(in, -1, NULL, &v, 1) < 1) break;
        bool in_head = p->state == PARSE_HEAD;
        evbuffer_drain(in, http__parse_feed(p, v.iov_base, v.iov_len));
        if (in_head) check_announced(c);
        count_body(c);
        if (c->n_held > 0 && is_over(c, 0)) http__parse_fail(p, 503, much_is_read);
    }
    if (was_fresh && !http__parse_is_fresh(p))
        set_deadline(c, c->server->cfg.limits.header_timeout_ms);
    if (had_no_body && p->state == PARSE_BODY) begin_body_window(c);
    if (p->state == PARSE_BODY && p->wants_continue) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        p->wants_continue = false;
        http__conn_put(c, go_on, sizeof go_on - 1);
    }
    return p->state >= PARSE_DONE;
}

static void dispatch(HttpConn *c) {
    HttpParse *p = &c->req.parse;
    c->state = CONN_HANDLED;
    c->deadline_ms = 0;
    http__take_id(&c->req);
    http__take_client(&c->req);
    if (++c->n_requests >= c->server->cfg.limits.max_requests) p->keep_alive = false;
    if (p->state == PARSE_FAILED) {
        http__reply_refuse(&c->req, p->status, p->why);
    } else if (http__is_preflight(&c->req)) {
        http__reply_preflight(&c->req);
    } else {
        c->server->cfg.on_request(c->server->cfg.ctx, &c->req);
    }
}

static void discard_input(HttpConn *c) {
    struct evbuffer *in = bufferevent_get_input(c->bev);
    evbuffer_drain(in, evbuffer_get_length(in));
}

/* FLUSH with all bytes sent -> LINGER; true when there is nothing to wait for. */
static bool flushed(HttpConn *c) {
    if (c->server->tls) http__tls_goodbye(c->bev);
    if (c->peer_shut || c->server->stopping) return true;
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
    c->state = CONN_LINGER;
    set_deadline(c, LINGER_MS);
    return false;
}

/* Read on unless enough is waiting. (libevent's own high watermark would call on_read over and over.) */
static void pace_reading(HttpConn *c) {
    bool want = evbuffer_get_length(bufferevent_get_input(c->bev)) < READ_AHEAD;
    if (want == c->reading || c->peer_shut) return;
    c->reading = want;
    int rc = want ? bufferevent_enable(c->bev, EV_READ) : bufferevent_disable(c->bev, EV_READ);
    if (rc != 0) c->broken = true;
}

/* As far as it goes; may close c. */
static void pump(HttpConn *c) {
    while (c->state == CONN_READ && !c->broken && out_waiting(c) < OUT_PAUSE && feed(c))
        dispatch(c);
    if (c->state == CONN_FLUSH || c->state == CONN_LINGER) discard_input(c);
    pace_reading(c);
    if (c->broken || (c->state == CONN_FLUSH && out_waiting(c) == 0 && flushed(c)))
        http__conn_close(c);
}

void http__conn_answered(HttpConn *c) {
    HttpReq *r = &c->req;
    bool keep = r->parse.keep_alive && !c->server->stopping && !c->peer_shut;
    http__parse_reset(&r->parse);
    count_body(c);
    take_limits(c);
    *r = (HttpReq){.conn = c, .parse = r->parse};
    c->state = keep ? CONN_READ : CONN_FLUSH;
    c->deadline_ms = 0;
    if (keep) set_deadline(c, c->server->cfg.limits.idle_timeout_ms);
    event_active(c->resume, EV_TIMEOUT, 0);
}

/* ---- callbacks ---- */

static void on_read(struct bufferevent *bev, void *ctx) {
    (void)bev;
    pump(ctx);
}

static void on_write(struct bufferevent *bev, void *ctx) {
    HttpConn *c = ctx;
    void (*fn)(void *) = c->req.sent_fn;
    (void)bev;
    if (fn && c->state == CONN_HANDLED && out_waiting(c) == 0) {
        c->req.sent_fn = NULL;
        fn(c->req.sent_ctx);
    }
    pump(c);
}

static void on_resume(evutil_socket_t fd, short what, void *ctx) {
    (void)fd;
    (void)what;
    pump(ctx);
}

/* End of file or a broken connection (or the end of a TLS handshake). Answers already complete are still sent after an end of file. */
static void on_event(struct bufferevent *bev, short what, void *ctx) {
    HttpConn *c = ctx;
    (void)bev;
    if (what & BEV_EVENT_CONNECTED) return;
    c->peer_shut = true;
    bool sendable = (what & BEV_EVENT_EOF) && out_waiting(c) > 0;
    if (!sendable || (c->state != CONN_READ && c->state != CONN_FLUSH)) {
        http__conn_close(c);
        return;
    }
    c->state = CONN_FLUSH;
    c->deadline_ms = 0;
}

/* ---- opening, scanning, stopping ---- */

static void name_peer(HttpConn *c, const struct sockaddr *a) {
    char ip[INET6_ADDRSTRLEN] = "?";
    bool v6 = a->sa_family == AF_INET6;
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)(const void *)a;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)(const void *)a;
    const void *addr = v6 ? (const void *)&a6->sin6_addr : (const void *)&a4->sin_addr;
    evutil_inet_ntop(a->sa_family, addr, ip, sizeof ip);
    evutil_snprintf(c->peer, sizeof c->peer, v6 ? "[%s]:%d" : "%s:%d", ip,
                    ntohs(v6 ? a6->sin6_port : a4->sin_port));
}

static bool conn_setup(HttpConn *c, evutil_socket_t fd) {
    HttpServer *s = c->server;
    const HttpLimits *l = &s->cfg.limits;
    http__parse_init(&c->req.parse, l->max_header_bytes, l->max_body_bytes);
    take_limits(c);
    c->req.conn = c;
    c->resume = event_new(s->base, -1, 0, on_resume, c);
    c->bev = s->tls ? http__tls_socket(s, fd)
                    : bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
    if (!c->bev) evutil_closesocket(fd);
    if (!c->bev || !c->resume) return false;
    bufferevent_setcb(c->bev, on_read, on_write, on_event, c);
    c->reading = true;
    return bufferevent_enable(c->bev, EV_READ | EV_WRITE) == 0;
}

static void take_address(HttpConn *c, const struct sockaddr *a) {
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)(const void *)a;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)(const void *)a;
    if (a->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a6->sin6_addr)) {
        memcpy(c->ip, &a6->sin6_addr, 16);
        memcpy(c->address, c->ip, 16);
    } else if (a->sa_family == AF_INET6) {
        memcpy(c->ip, &a6->sin6_addr, 16);
        memcpy(c->address, c->ip, 8);
    } else if (a->sa_family == AF_INET) {
        memset(c->ip + 10, 0xff, 2);
        memcpy(c->ip + 12, &a4->sin_addr, 4);
        memcpy(c->address, c->ip, 16);
    }
}

/* Which limit has a connection more than it allows? 0: none. */
static int over_limit(const HttpServer *s, const HttpConn *c) {
    const HttpLimits *l = &s->cfg.limits;
    int n = 0;
    if (s->n_conns >= l->max_connections) return 503;
    if (l->max_per_address >= l->max_connections || http__is_proxy(s, c->ip)) return 0;
    for (const HttpConn *o = s->conns; o; o = o->next)
        n += memcmp(o->address, c->address, sizeof c->address) == 0;
    return n >= l->max_per_address ? 429 : 0;
}

void http__conn_open(HttpServer *s, evutil_socket_t fd, const struct sockaddr *peer) {
    HttpConn *c = mem_new(HttpConn);
    if (!c) {
        evutil_closesocket(fd);
        return;
    }
    c->server = s;
    if (!conn_setup(c, fd)) {
        conn_free(c);
        return;
    }
    name_peer(c, peer);
    take_address(c, peer);
    int refuse = over_limit(s, c);
    c->next = s->conns;
    if (s->conns) s->conns->prev = c;
    s->conns = c;
    s->n_conns++;
    set_deadline(c, s->cfg.limits.header_timeout_ms);
    if (refuse == 0) return;
    c->state = CONN_HANDLED;
    http__reply_refuse(&c->req, refuse,
                       refuse == 429 ? "too many connections from your address"
                                     : "too many connections");
}

static void on_deadline(HttpConn *c) {
    const HttpParse *p = &c->req.parse;
    bool in_body = c->state == CONN_READ && p->state == PARSE_BODY;
    if (in_body && p->body.n >= c->body_goal) {
        begin_body_window(c);
        return;
    }
    if (c->state != CONN_READ || http__parse_is_fresh(&c->req.parse) || out_waiting(c) > 0) {
        http__conn_close(c);
        return;
    }
    c->state = CONN_HANDLED;
    http__reply_refuse(&c->req, 408, "the request did not arrive in time");
}

/* True when the client took less than STALL_BYTES (or all that waited) in write_timeout_ms. */
static bool reader_stalls(HttpConn *c, uint64_t now_ms) {
    size_t waiting = out_waiting(c);
    uint64_t sent = c->n_queued - waiting;
    if (waiting == 0) {
        c->stall_ms = 0;
        return false;
    }
    if (c->stall_ms == 0 || sent >= c->stall_goal) {
        c->stall_goal = sent + MIN(waiting, (size_t)STALL_BYTES);
        c->stall_ms = now_ms + (uint64_t)c->server->cfg.limits.write_timeout_ms;
        return false;
    }
    return now_ms >= c->stall_ms;
}

/* Did the client leave while its bytes filled the read-ahead, so that nothing is read? */
static bool left_unread(const HttpConn *c) {
    if (c->state != CONN_HANDLED || c->reading) return false;
    struct pollfd p = {.fd = bufferevent_getfd(c->bev), .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0;
}

void http__conn_scan(HttpConn *c, uint64_t now_ms) {
    if (reader_stalls(c, now_ms) || left_unread(c)) {
        http__conn_close(c);
    } else if (c->deadline_ms != 0 && now_ms >= c->deadline_ms) {
        on_deadline(c);
    }
}

void http__conn_stop(HttpConn *c) {
    if (c->state == CONN_HANDLED) return;
    c->state = CONN_FLUSH;
    pump(c);
}
