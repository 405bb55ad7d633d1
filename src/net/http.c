/* SPDX-License-Identifier: Apache-2.0
 * The server: listening socket, loop, knocking from other threads, timers, graceful stop. What happens on
 * one connection is in http_conn.c. */
#include "net/http.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "net/internal.h"

enum {
    BACKLOG = 512,
    SCAN_MAX_MS = 250, /* how late a timeout may be noticed, at most */
    RELISTEN_MS = 100, /* pause after accept failed, out of descriptors for instance */
    REFUSED_EXTRA = 32 /* connections over the limit that still get their 503 at one time */
};

uint64_t http__now_ms(void) { return clock_now_ns() / 1000000u; }

/* ---- other threads ---- */

static void knock(const HttpServer *s) {
    uint64_t one = 1;
    int keep = errno; /* the caller may be a signal handler */
    ssize_t n = write(s->wake_fd, &one, sizeof one);
    (void)n; /* full means that the loop has a wake-up waiting already */
    errno = keep;
}

void http_stop(HttpServer *s) {
    atomic_store(&s->stop_asked, true);
    knock(s);
}

void http_wake(HttpServer *s) {
    if (!atomic_exchange(&s->wake_asked, true)) knock(s);
}

/* ---- events of the loop ---- */

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *peer, int n,
                      void *ctx) {
    HttpServer *s = ctx;
    (void)l;
    (void)n;
    int max = s->cfg.limits.max_connections;
    if (s->n_conns >= max + REFUSED_EXTRA) {
        evutil_closesocket(fd);
        return;
    }
    int on = 1;
    if (peer->sa_family != AF_UNIX) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    http__conn_open(s, fd, peer);
    if (s->n_conns > 0 && !evtimer_pending(s->ev_scan, NULL))
        event_active(s->ev_scan, EV_TIMEOUT, 0);
}

static void on_accept_error(struct evconnlistener *l, void *ctx) {
    HttpServer *s = ctx;
    log_warn("accepting a connection: %s", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    evconnlistener_disable(l);
    event_add(s->ev_relisten, &(struct timeval){0, RELISTEN_MS * 1000});
}

static void on_relisten(evutil_socket_t fd, short what, void *ctx) {
    HttpServer *s = ctx;
    (void)fd;
    (void)what;
    if (s->listener) evconnlistener_enable(s->listener);
}

static void close_listener(HttpServer *s) {
    if (s->listener) evconnlistener_free(s->listener);
    s->listener = NULL;
}

/* Whether a request is still being answered. */
static bool is_busy(const HttpServer *s) {
    for (const HttpConn *c = s->conns; c; c = c->next) {
        if (c->state != CONN_READ) return true;
    }
    return false;
}

/* Once the last answer is sent, who is still connected has nothing to wait for. */
static void end_if_drained(HttpServer *s) {
    if (!s->stopping || is_busy(s)) return;
    close_listener(s);
    for (HttpConn *c = s->conns, *next; c; c = next) {
        next = c->next;
        http__conn_close(c);
    }
    event_base_loopbreak(s->base);
}

/* Answers that run go on, and so do new connections: whoever asks is told that the server is stopping. */
static void begin_stop(HttpServer *s) {
    s->stopping = true;
    s->stop_ms = http__now_ms() + (uint64_t)s->grace_ms;
    for (HttpConn *c = s->conns, *next; c; c = next) {
        next = c->next;
        http__conn_stop(c);
    }
}

static void on_knock(evutil_socket_t fd, short what, void *ctx) {
    HttpServer *s = ctx;
    uint64_t n;
    (void)what;
    if (read(fd, &n, sizeof n) < 0) return;
    if (atomic_exchange(&s->wake_asked, false) && s->cfg.on_wake) s->cfg.on_wake(s->cfg.ctx);
    if (atomic_load(&s->stop_asked) && !s->stopping) begin_stop(s);
    end_if_drained(s);
}

static int scan_interval_ms(const HttpLimits *l) {
    int least = MIN(MIN(l->header_timeout_ms, l->body_timeout_ms),
                    MIN(l->idle_timeout_ms, l->write_timeout_ms));
    return MAX(5, MIN(SCAN_MAX_MS, least / 8));
}

static void on_scan(evutil_socket_t fd, short what, void *ctx) {
    HttpServer *s = ctx;
    (void)fd;
    (void)what;
    uint64_t now = http__now_ms();
    bool cut = s->stopping && now >= s->stop_ms;
    for (HttpConn *c = s->conns, *next; c; c = next) {
        next = c->next;
        if (cut) {
            http__conn_close(c);
        } else {
            http__conn_scan(c, now);
        }
    }
    end_if_drained(s);
    if (s->n_conns == 0) return;
    event_add(s->ev_scan, &(struct timeval){0, scan_interval_ms(&s->cfg.limits) * 1000});
}

static void on_tick(evutil_socket_t fd, short what, void *ctx) {
    HttpServer *s = ctx;
    (void)fd;
    (void)what;
    s->cfg.on_tick(s->cfg.ctx);
}

/* ---- making one ---- */

static void or_default(int *v, int def) {
    if (*v == 0) *v = def;
}

static Status fill_limits(HttpLimits *l, Err *e) {
    if (l->max_header_bytes == 0) l->max_header_bytes = 16 << 10;
    if (l->max_line_bytes == 0) l->max_line_bytes = 8 << 10;
    if (l->max_target_bytes == 0) l->max_target_bytes = 4 << 10;
    if (l->max_body_bytes == 0) l->max_body_bytes = 4 << 20;
    if (l->max_held_bytes == 0) l->max_held_bytes = 64 << 20;
    or_default(&l->max_connections, 256);
    or_default(&l->max_per_address, l->max_connections);
    or_default(&l->max_requests, 1000);
    or_default(&l->header_timeout_ms, 10000);
    or_default(&l->body_timeout_ms, 5000);
    or_default(&l->min_body_rate, 1024);
    or_default(&l->idle_timeout_ms, 60000);
    or_default(&l->write_timeout_ms, 30000);
    if (l->max_header_bytes > 64 << 10) {
        return err_set(e, ERR_ARG, "http: header limit of %zu bytes is over 65536",
                       l->max_header_bytes);
    }
    const int all[] = {l->max_connections,   l->max_per_address, l->max_requests,
                       l->header_timeout_ms, l->body_timeout_ms, l->min_body_rate,
                       l->idle_timeout_ms,   l->write_timeout_ms};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        if (all[i] < 0) return err_set(e, ERR_ARG, "http: negative limit");
    }
    return OK;
}

Status http_reload(HttpServer *s, const HttpLimits *l, Status (*last)(void *ctx, Err *e), void *ctx,
                   Err *e) {
    HttpLimits n = *l;
    SSL_CTX *tls = NULL;
    TRY(fill_limits(&n, e));
    TRY(http__tls_again(&tls, s, e));
    Status st = last ? last(ctx, e) : OK;
    if (st != OK) {
        http__tls_free(tls);
        return st;
    }
    s->cfg.limits = n;
    if (tls) {
        http__tls_free(s->tls);
        s->tls = tls;
    }
    return OK;
}

size_t http_held_bytes(const HttpServer *s) { return s->n_held; }

void http_hold(HttpServer *s, int64_t more) { s->n_held += (size_t)more; }

static int port_of(const HttpServer *s) {
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    if (getsockname(evconnlistener_get_fd(s->listener), (struct sockaddr *)&a, &n) != 0) return 0;
    if (a.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
    return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

static Status listen_on(HttpServer *s, Err *e) {
    char port[8];
    evutil_snprintf(port, sizeof port, "%d", s->cfg.port);
    struct addrinfo hint = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(s->cfg.host, port, &hint, &list);
    if (rc != 0)
        return err_set(e, ERR_IO, "cannot listen on %s: %s", s->cfg.host, gai_strerror(rc));
    const struct addrinfo *a = list; /* a name such as localhost: its IPv4 address if it has one */
    while (a->ai_next && a->ai_family != AF_INET) a = a->ai_next;
    if (a->ai_family != AF_INET) a = list;
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    errno = 0;
    s->listener = evconnlistener_new_bind(s->base, on_accept, s, flags, BACKLOG, a->ai_addr,
                                          (int)a->ai_addrlen);
    int why = errno;
    freeaddrinfo(list);
    if (!s->listener) {
        return err_set(e, ERR_IO, "cannot listen on %s port %d: %s", s->cfg.host, s->cfg.port,
                       strerror(why ? why : ENOMEM));
    }
    evconnlistener_set_error_cb(s->listener, on_accept_error);
    s->port = port_of(s);
    return OK;
}

static Status make_loop(HttpServer *s, Err *e) {
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->wake_fd < 0) return err_set(e, ERR_IO, "eventfd: %s", strerror(errno));
    struct event_config *ec = event_config_new();
    if (!ec) return err_set(e, ERR_NOMEM, "http loop");
    event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
    s->base = event_base_new_with_config(ec);
    event_config_free(ec);
    if (!s->base) return err_set(e, ERR_NOMEM, "http loop");
    s->ev_wake = event_new(s->base, s->wake_fd, EV_READ | EV_PERSIST, on_knock, s);
    s->ev_scan = evtimer_new(s->base, on_scan, s);
    s->ev_tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    s->ev_relisten = evtimer_new(s->base, on_relisten, s);
    if (!s->ev_wake || !s->ev_scan || !s->ev_tick || !s->ev_relisten ||
        event_add(s->ev_wake, NULL) != 0) {
        return err_set(e, ERR_NOMEM, "http loop");
    }
    return OK;
}

Status http_new(HttpServer **out, const HttpConfig *c, Err *e) {
    HttpServer *s = mem_new(HttpServer);
    if (!s) return err_set(e, ERR_NOMEM, "http server");
    s->cfg = *c;
    s->wake_fd = -1;
    Status st = fill_limits(&s->cfg.limits, e);
    if (st == OK && (c->port < 0 || c->port > 65535)) {
        st = err_set(e, ERR_ARG, "port %d is not in 0 .. 65535", c->port);
    }
    if (st == OK) st = http__read_proxies(s, e);
    if (st == OK) st = rng_secret(&s->id_seed, sizeof s->id_seed, e);
    if (st == OK && c->tls_cert) st = http__tls_load(&s->tls, c->tls_cert, c->tls_key, e);
    if (st == OK) st = make_loop(s, e);
    if (st == OK && c->host) st = listen_on(s, e);
    if (st != OK) {
        http_free(s);
        return st;
    }
    *out = s;
    return OK;
}

static void free_event(struct event *ev) {
    if (ev) event_free(ev);
}

void http_free(HttpServer *s) {
    if (!s) return;
    while (s->conns) http__conn_close(s->conns);
    if (s->listener) evconnlistener_free(s->listener);
    free_event(s->ev_wake);
    free_event(s->ev_scan);
    free_event(s->ev_tick);
    free_event(s->ev_relisten);
    if (s->base) event_base_free(s->base);
    http__tls_free(s->tls);
    mem_free(s->proxies);
    if (s->wake_fd >= 0) close(s->wake_fd);
    mem_free(s);
}

int http_n_connections(const HttpServer *s) { return s->n_conns; }

int http_port(const HttpServer *s) { return s->port; }

bool http_stopping(const HttpServer *s) { return s->stopping; }

/* A client that left must not kill the process: SIGPIPE is held back on this thread while the loop runs,
 * and one that came is taken away before the mask is restored. */
static int run_without_sigpipe(struct event_base *base) {
    sigset_t pipe_only, old, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &old);
    int rc = event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
    sigpending(&pending);
    if (sigismember(&pending, SIGPIPE)) sigtimedwait(&pipe_only, NULL, &(struct timespec){0, 0});
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

Status http_run(HttpServer *s, int grace_ms, Err *e) {
    s->grace_ms = MAX(0, grace_ms);
    if (s->cfg.on_tick && s->cfg.tick_ms > 0) {
        struct timeval t = {s->cfg.tick_ms / 1000, s->cfg.tick_ms % 1000 * 1000};
        event_add(s->ev_tick, &t);
    }
    int rc = run_without_sigpipe(s->base);
    close_listener(s);
    while (s->conns) http__conn_close(s->conns);
    event_del(s->ev_tick);
    return rc < 0 ? err_set(e, ERR_IO, "http loop failed") : OK;
}
