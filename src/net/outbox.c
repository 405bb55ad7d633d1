/* SPDX-License-Identifier: Apache-2.0
 * The outbox: a list that any thread appends to under a lock, and one thread (io) that owns a client and everything
 * that was taken from the list. The lock is held for a few pointers only. */
#include "net/outbox.h"

#include <pthread.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"

enum { OUTBOX_TURN_MS = 100 };

typedef struct Post {
    struct Post *next;
    NetOutbox *box;
    Arena arena; /* owns all below */
    const char *url;
    const char **headers;
    int n_headers;
    Slice body;
    int n_tries;
    uint64_t not_before_ms;
} Post;

struct NetOutbox {
    NetOutboxConfig cfg;  /* [const] */
    pthread_t thread;     /* [const] */
    NetClient *net;       /* [io], but for net_wake */
    Post *ready, *later;  /* [io] taken from the list; to be tried again */
    int n_running;        /* [io] */
    pthread_mutex_t mu;   /* rank 30 */
    Post *first, **last;  /* [mu] the list */
    size_t bytes;         /* [mu] of bodies that are not done */
    NetOutboxStats stats; /* [mu] */
    bool closed;          /* [mu] no more is taken */
    uint64_t end_ms;      /* [mu] when the thread has to be through; 0: not soon */
};

static uint64_t now_ms(void) { return clock_now_ns() / 1000000; }

/* ---- posts ---- */

static void post_free(Post *p) {
    Arena a = p->arena; /* the post lies in it */
    arena_deinit(&a);
}

static Post *post_new(NetOutbox *o, const char *url, const char *const *headers, int n,
                      Slice body) {
    Arena a;
    arena_init(&a, 1024);
    Post *p = arena_new(&a, Post);
    const char **h = arena_new_n(&a, const char *, (size_t)n + 1);
    const char *u = arena_dup(&a, url, strlen(url)), *b = arena_dup(&a, body.p, body.n);
    for (int i = 0; h && i < n; i++) h[i] = arena_dup(&a, headers[i], strlen(headers[i]));
    if (!arena_ok(&a)) {
        arena_deinit(&a);
        return NULL;
    }
    *p = (Post){.box = o, .url = u, .headers = h, .n_headers = n, .body = {b, body.n}};
    p->arena = a;
    return p;
}

/* The post is through, one way or the other. */
static void post_done(Post *p, bool sent) {
    NetOutbox *o = p->box;
    pthread_mutex_lock(&o->mu);
    o->bytes -= p->body.n;
    o->stats.waiting--;
    if (sent) o->stats.sent++;
    else o->stats.failed++;
    pthread_mutex_unlock(&o->mu);
    post_free(p);
}

/* ---- the thread ---- */

static void retry_later(Post *p, int ms) {
    NetOutbox *o = p->box;
    p->not_before_ms = now_ms() + (uint64_t)ms;
    p->next = o->later;
    o->later = p;
    pthread_mutex_lock(&o->mu);
    o->stats.retried++;
    pthread_mutex_unlock(&o->mu);
}

static void on_done(void *ctx, NetCall *c, Status st, const Err *err) {
    Post *p = ctx;
    NetOutbox *o = p->box;
    int status = net_status(c);
    o->n_running--;
    if (st == OK && status >= 200 && status < 300) {
        post_done(p, true);
        return;
    }
    int ms = net_backoff_ms(p->n_tries, net_retry_after(c), clock_now_ns());
    bool again = net_may_retry(c) || net_fault(c) == NET_RESOLVE;
    if (again && p->n_tries < o->cfg.attempts && ms >= 0) {
        retry_later(p, ms);
        return;
    }
    if (st == OK) log_warn("outbox: a post is answered %d and dropped: %.200s", status, p->url);
    else log_warn("outbox: a post is dropped: %.200s", err->msg);
    post_done(p, false);
}

static void send_post(NetOutbox *o, Post *p) {
    Err e = {0};
    NetRequest rq = {.method = "POST",
                     .url = p->url,
                     .secrets = p->headers,
                     .n_secrets = p->n_headers,
                     .body = p->body,
                     .timeout_ms = o->cfg.timeout_ms,
                     .no_redirects = true,
                     .on_done = on_done,
                     .ctx = p};
    p->n_tries++;
    if (net_start(NULL, o->net, &rq, &e) == OK) {
        o->n_running++;
        return;
    }
    log_warn("outbox: a post is dropped: %.200s", e.msg);
    post_done(p, false);
}

/* What was posted since the last look goes behind what is ready. */
static void take_list(NetOutbox *o, bool *closed, uint64_t *end_ms) {
    Post **at = &o->ready;
    while (*at) at = &(*at)->next;
    pthread_mutex_lock(&o->mu);
    *at = o->first;
    o->first = NULL;
    o->last = &o->first;
    *closed = o->closed;
    *end_ms = o->end_ms;
    pthread_mutex_unlock(&o->mu);
}

/* What has waited long enough is ready again. */
static void take_later(NetOutbox *o) {
    uint64_t now = now_ms();
    for (Post **at = &o->later; *at;) {
        Post *p = *at;
        if (p->not_before_ms > now) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        p->next = o->ready;
        o->ready = p;
    }
}

static void send_ready(NetOutbox *o) {
    while (o->ready && o->n_running < o->cfg.max_running) {
        Post *p = o->ready;
        o->ready = p->next;
        p->next = NULL;
        send_post(o, p);
    }
}

static void drop_all(Post **list) {
    for (Post *p; (p = *list) != NULL;) {
        *list = p->next;
        post_done(p, false);
    }
}

static void *run(void *ctx) {
    NetOutbox *o = ctx;
    bool closed = false;
    for (uint64_t end_ms = 0;;) {
        Err e = {0};
        take_list(o, &closed, &end_ms);
        take_later(o);
        send_ready(o);
        bool idle = !o->ready && !o->later && o->n_running == 0;
        if (closed && (idle || now_ms() >= end_ms)) break;
        if (net_poll(o->net, idle ? 10 * OUTBOX_TURN_MS : OUTBOX_TURN_MS, &e) == OK) continue;
        log_error("outbox: ends: %s", e.msg);
        break;
    }
    return NULL;
}

/* ---- from other threads ---- */

Status net_outbox_new(NetOutbox **out, const NetOutboxConfig *cfg, Err *e) {
    NetOutbox *o = mem_new(NetOutbox);
    if (!o) return err_set(e, ERR_NOMEM, "out of memory for an outbox");
    o->cfg = *cfg;
    if (o->cfg.max_posts <= 0) o->cfg.max_posts = 1024;
    if (o->cfg.max_bytes == 0) o->cfg.max_bytes = (size_t)16 << 20;
    if (o->cfg.max_running <= 0) o->cfg.max_running = 4;
    if (o->cfg.attempts <= 0) o->cfg.attempts = 5;
    if (o->cfg.timeout_ms <= 0) o->cfg.timeout_ms = 10000;
    o->last = &o->first;
    Status st = net_client_new(&o->net, &o->cfg.net, e);
    if (st == OK) {
        pthread_mutex_init(&o->mu, NULL);
        if (pthread_create(&o->thread, NULL, run, o) == 0) {
            *out = o;
            return OK;
        }
        pthread_mutex_destroy(&o->mu);
        st = err_set(e, ERR_IO, "no thread for an outbox");
        net_client_free(o->net);
    }
    mem_free(o);
    return st;
}

void net_outbox_free(NetOutbox *o, int grace_ms) {
    if (!o) return;
    pthread_mutex_lock(&o->mu);
    o->closed = true;
    o->end_ms = now_ms() + (uint64_t)MAX(grace_ms, 0);
    pthread_mutex_unlock(&o->mu);
    net_wake(o->net);
    pthread_join(o->thread, NULL);
    net_client_end(o->net);
    drop_all(&o->ready);
    drop_all(&o->later);
    drop_all(&o->first);
    net_client_free(o->net);
    pthread_mutex_destroy(&o->mu);
    mem_free(o);
}

Status net_outbox_post(NetOutbox *o, const char *url, const char *const *headers, int n_headers,
                       Slice body, Err *e) {
    TRY(net_check_url(url, e));
    Post *p = post_new(o, url, headers, n_headers, body);
    if (!p) return err_set(e, ERR_NOMEM, "out of memory for a post");
    pthread_mutex_lock(&o->mu);
    bool full = o->closed || o->stats.waiting >= o->cfg.max_posts ||
                body.n > o->cfg.max_bytes - MIN(o->bytes, o->cfg.max_bytes);
    if (full) o->stats.refused++;
    else {
        *o->last = p;
        o->last = &p->next;
        o->bytes += body.n;
        o->stats.waiting++;
    }
    pthread_mutex_unlock(&o->mu);
    if (!full) {
        net_wake(o->net);
        return OK;
    }
    post_free(p);
    return err_set(e, ERR_FULL, "outbox: no room for a post of %zu bytes", body.n);
}

void net_outbox_stats(NetOutbox *o, NetOutboxStats *out) {
    pthread_mutex_lock(&o->mu);
    *out = o->stats;
    pthread_mutex_unlock(&o->mu);
}
