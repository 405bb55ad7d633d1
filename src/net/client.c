/* SPDX-License-Identifier: Apache-2.0
 * The client: calls over libcurl's multi interface. Redirects are followed here and not by libcurl, one hop
 * after the other: what is sent where, how often and to which schemes is decided in one place (start_hop).
 * libcurl reads no variable of the environment for us: proxies are always set. One thread. */
#include "net/client.h"

#include <pthread.h>
#include <strings.h>

#include "base/clock.h"
#include "net/client_internal.h"

#define NET_STALL_RATE 512L /* bytes a second */
#define NET_MAX_REPLY ((uint64_t)1 << 20)

static pthread_once_t global_once = PTHREAD_ONCE_INIT;
static bool global_ok;

static void global_init(void) { global_ok = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK; }

/* ---- client ---- */

static void fill_defaults(NetConfig *c) {
    if (!c->user_agent) c->user_agent = "ingot";
    if (c->connect_timeout_ms <= 0) c->connect_timeout_ms = 15000;
    if (c->stall_timeout_ms == 0) c->stall_timeout_ms = 30000;
    if (c->buffer_bytes <= 0) c->buffer_bytes = 256 << 10;
    if (c->max_redirects <= 0) c->max_redirects = 8;
    if (c->max_head_bytes == 0) c->max_head_bytes = 64 << 10;
}

Status net_client_new(NetClient **out, const NetConfig *cfg, Err *e) {
    pthread_once(&global_once, global_init);
    if (!global_ok) return err_set(e, ERR_INTERNAL, "libcurl cannot start");
    NetClient *c = mem_new(NetClient);
    if (!c) return err_set(e, ERR_NOMEM, "out of memory for an http client");
    c->cfg = *cfg;
    c->epoll_fd = c->wake_fd = -1;
    fill_defaults(&c->cfg);
    c->multi = curl_multi_init();
    Status st = c->multi ? OK : err_set(e, ERR_NOMEM, "out of memory for an http client");
    if (st == OK && c->cfg.many > 0) st = net__many_open(c, e);
    if (st != OK) {
        net_client_free(c);
        return st;
    }
    *out = c;
    return OK;
}

void net_client_free(NetClient *c) {
    if (!c) return;
    while (c->calls) net_cancel(c->calls);
    if (c->multi) curl_multi_cleanup(c->multi);
    net__many_close(c);
    mem_free(c);
}

int net_n_running(const NetClient *c) { return c->n_calls; }

void net_wake(NetClient *c) {
    if (c->cfg.many > 0) net__many_wake(c);
    else curl_multi_wakeup(c->multi);
}

/* ---- life of a call ---- */

static void call_free(NetCall *c) {
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->list);
    mem_free(c->url);
    sb_deinit(&c->head);
    sb_deinit(&c->body);
    arena_deinit(&c->arena);
    mem_free(c);
}

static void call_link(NetCall *c) {
    NetClient *k = c->client;
    c->next = k->calls;
    if (k->calls) k->calls->prev = c;
    k->calls = c;
    k->n_calls++;
}

static void call_unlink(NetCall *c) {
    NetClient *k = c->client;
    if (c->prev) c->prev->next = c->next;
    else k->calls = c->next;
    if (c->next) c->next->prev = c->prev;
    c->prev = c->next = NULL;
    k->n_calls--;
}

void net_cancel(NetCall *c) {
    if (!c) return;
    curl_multi_remove_handle(c->client->multi, c->easy);
    call_unlink(c);
    call_free(c);
}

/* ---- libcurl's callbacks: a short count ends the transfer ---- */

static size_t on_header(char *p, size_t size, size_t n, void *ctx) {
    NetCall *c = ctx;
    return net__head_line(c, (Slice){p, size * n}) == OK ? n : 0;
}

static Status take_body(NetCall *c, Slice part) {
    c->n_got += part.n;
    if (c->redirect) return c->n_got <= NET_MAX_SKIPPED ? OK : ERR_FULL;
    if (c->rq.on_body) return c->rq.on_body(c->rq.ctx, c, part, &c->err);
    if (c->n_got > c->rq.max_reply)
        return err_set(&c->err, ERR_FULL, "%.120s: the answer is over %llu bytes", c->host,
                       (unsigned long long)c->rq.max_reply);
    sb_put(&c->body, part.p, part.n);
    return sb_check(&c->body, &c->err);
}

static size_t on_write(char *p, size_t size, size_t n, void *ctx) {
    return take_body(ctx, (Slice){p, size * n}) == OK ? size * n : 0;
}

static size_t on_read(char *p, size_t size, size_t n, void *ctx) {
    NetCall *c = ctx;
    size_t want = (size_t)MIN((uint64_t)size * n, c->rq.n_body - c->n_sent);
    if (want == 0) return 0;
    if (!c->rq.read) memcpy(p, c->rq.body.p + c->n_sent, want);
    else if (c->rq.read(c->rq.ctx, c->n_sent, p, want, &c->err) != OK) return CURL_READFUNC_ABORT;
    c->n_sent += want;
    return want;
}

static int on_seek(void *ctx, curl_off_t at, int origin) {
    NetCall *c = ctx;
    if (origin != SEEK_SET || at < 0 || (uint64_t)at > c->rq.n_body) return CURL_SEEKFUNC_FAIL;
    c->n_sent = (uint64_t)at;
    return CURL_SEEKFUNC_OK;
}

/* ---- starting ---- */

static const char *const *copy_lines(Arena *a, const char *const *v, int n) {
    const char **out = arena_new_n(a, const char *, (size_t)n + 1);
    for (int i = 0; out && i < n; i++) out[i] = arena_dup(a, v[i], strlen(v[i]));
    return out;
}

static bool line_ok(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7F) return false;
    return n > 0 && memchr(s, ':', n) != NULL;
}

static Status check_lines(const char *const *v, int n, Err *e) {
    for (int i = 0; i < n; i++)
        if (!line_ok(v[i], strlen(v[i])))
            return err_set(e, ERR_ARG, "header %d is not \"Name: value\" in one line", i + 1);
    return OK;
}

/* What sign gives joins the secrets. */
static Status add_signed(NetCall *c, Err *e) {
    StrBuf lines = {0};
    Status st = c->rq.sign(c->rq.ctx, &lines, e);
    if (st == OK) st = sb_check(&lines, e);
    int n = 0;
    for (size_t i = 0; i < lines.n; i++) n += lines.p[i] == '\n';
    const char **v = arena_new_n(&c->arena, const char *, (size_t)(n + c->rq.n_secrets) + 1);
    int k = 0;
    for (; v && k < c->rq.n_secrets; k++) v[k] = c->rq.secrets[k];
    for (const char *p = sb_str(&lines); st == OK && v && *p; k++) {
        size_t len = strcspn(p, "\n");
        v[k] = arena_dup(&c->arena, p, len);
        p += len + (p[len] == '\n');
    }
    sb_deinit(&lines);
    if (st != OK) return st;
    if (!arena_ok(&c->arena)) return err_set(e, ERR_NOMEM, "out of memory for a request");
    c->rq.secrets = v;
    c->rq.n_secrets = k;
    return OK;
}

static Status copy_request(NetCall *c, const NetRequest *rq, Err *e) {
    Arena *a = &c->arena;
    c->rq = *rq;
    NetRequest *r = &c->rq;
    const char *method = rq->method ? rq->method : "GET";
    r->method = arena_dup(a, method, strlen(method));
    r->url = arena_dup(a, rq->url, strlen(rq->url));
    r->headers = copy_lines(a, rq->headers, rq->n_headers);
    r->secrets = copy_lines(a, rq->secrets, rq->n_secrets);
    if (!rq->read) r->n_body = rq->body.n;
    if (r->max_reply == 0) r->max_reply = NET_MAX_REPLY;
    c->url = mem_dup(rq->url, strlen(rq->url));
    if (!arena_ok(a) || !c->url) return err_set(e, ERR_NOMEM, "out of memory for a request");
    return rq->sign ? add_signed(c, e) : OK;
}

static bool put_lines(NetCall *c, const char *const *v, int n) {
    for (int i = 0; i < n; i++) {
        struct curl_slist *more = curl_slist_append(c->list, v[i]);
        if (!more) return false;
        c->list = more;
    }
    return true;
}

static Status make_lines(NetCall *c) {
    static const char *const NO_EXPECT[] = {"Expect:"};
    curl_slist_free_all(c->list);
    c->list = NULL;
    bool ok = put_lines(c, NO_EXPECT, 1) && put_lines(c, c->rq.headers, c->rq.n_headers);
    if (ok && net_same_origin(c->url, c->rq.url)) ok = put_lines(c, c->rq.secrets, c->rq.n_secrets);
    return ok ? OK : err_set(&c->err, ERR_NOMEM, "out of memory for the head of a request");
}

static const char *proxy_for(const NetConfig *cfg, const char *url) {
    const char *p = strncasecmp(url, "https:", 6) == 0 ? cfg->https_proxy : cfg->http_proxy;
    if (!p) p = cfg->all_proxy;
    return p ? p : "";
}

static CURLcode set_bounds(NetCall *c) {
    const NetConfig *cfg = &c->client->cfg;
    CURL *h = c->easy;
    long stall_s = cfg->stall_timeout_ms < 0 ? 0 : (cfg->stall_timeout_ms + 999) / 1000;
    CURLcode rc = CURLE_OK;
    rc |= curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    rc |= curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, (long)cfg->connect_timeout_ms);
    rc |= curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)c->rq.timeout_ms);
    rc |= curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, NET_STALL_RATE);
    rc |= curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, stall_s);
    rc |= curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
    rc |= curl_easy_setopt(h, CURLOPT_BUFFERSIZE, (long)cfg->buffer_bytes);
    rc |= curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, (long)cfg->buffer_bytes);
    return rc;
}

static CURLcode set_peer(NetCall *c) {
    const NetConfig *cfg = &c->client->cfg;
    CURL *h = c->easy;
    CURLcode rc = CURLE_OK;
    rc |= curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    rc |= curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    rc |= curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, cfg->insecure ? 0L : 1L);
    rc |= curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, cfg->insecure ? 0L : 2L);
    rc |= curl_easy_setopt(h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (cfg->ca_file) rc |= curl_easy_setopt(h, CURLOPT_CAINFO, cfg->ca_file);
    if (cfg->ca_dir) rc |= curl_easy_setopt(h, CURLOPT_CAPATH, cfg->ca_dir);
    rc |= curl_easy_setopt(h, CURLOPT_PROXY, proxy_for(cfg, c->url));
    rc |= curl_easy_setopt(h, CURLOPT_NOPROXY, cfg->no_proxy ? cfg->no_proxy : "");
    rc |= curl_easy_setopt(h, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    rc |= curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    rc |= curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
    rc |= curl_easy_setopt(h, CURLOPT_USERAGENT, cfg->user_agent);
    return rc;
}

static CURLcode set_message(NetCall *c) {
    CURL *h = c->easy;
    const char *m = c->rq.method;
    bool head = strcmp(m, "HEAD") == 0;
    bool sends = c->rq.n_body > 0 || strcmp(m, "PUT") == 0 || strcmp(m, "POST") == 0;
    CURLcode rc = CURLE_OK;
    rc |= curl_easy_setopt(h, CURLOPT_URL, c->url);
    if (head) rc |= curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
    else if (sends) {
        rc |= curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
        rc |= curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->rq.n_body);
    }
    if (!head) rc |= curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, m);
    rc |= curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->list);
    rc |= curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->detail);
    rc |= curl_easy_setopt(h, CURLOPT_PRIVATE, c);
    rc |= curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    rc |= curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
    rc |= curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_write);
    rc |= curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
    rc |= curl_easy_setopt(h, CURLOPT_READFUNCTION, on_read);
    rc |= curl_easy_setopt(h, CURLOPT_READDATA, c);
    rc |= curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_seek);
    rc |= curl_easy_setopt(h, CURLOPT_SEEKDATA, c);
    return rc;
}

/* Send the request to c->url: the first time, or after a redirect. */
static Status start_hop(NetCall *c) {
    c->status = 0;
    c->head_done = c->redirect = false;
    c->n_head = 0;
    c->n_got = c->n_sent = 0;
    c->detail[0] = '\0';
    sb_clear(&c->head);
    net__url_host(c->host, c->url);
    TRY(make_lines(c));
    curl_easy_reset(c->easy);
    CURLcode rc = set_bounds(c) | set_peer(c) | set_message(c);
    if (rc != CURLE_OK)
        return err_set(&c->err, ERR_INTERNAL, "%.120s: libcurl refuses a setting", c->host);
    if (curl_multi_add_handle(c->client->multi, c->easy) != CURLM_OK)
        return err_set(&c->err, ERR_NOMEM, "%.120s: libcurl refuses a request", c->host);
    return OK;
}

static Status call_begin(NetCall *c, const NetRequest *rq, Err *e) {
    TRY(copy_request(c, rq, e));
    c->easy = curl_easy_init();
    if (!c->easy) return err_set(e, ERR_NOMEM, "out of memory for a request");
    Status st = start_hop(c);
    if (st != OK) err_set(e, st, "%s", c->err.msg);
    return st;
}

Status net_start(NetCall **out, NetClient *k, const NetRequest *rq, Err *e) {
    TRY(net_check_url(rq->url, e));
    TRY(check_lines(rq->headers, rq->n_headers, e));
    TRY(check_lines(rq->secrets, rq->n_secrets, e));
    NetCall *c = mem_new(NetCall);
    if (!c) return err_set(e, ERR_NOMEM, "out of memory for a request");
    c->client = k;
    arena_init(&c->arena, 2048);
    Status st = call_begin(c, rq, e);
    if (st != OK) {
        call_free(c);
        return st;
    }
    call_link(c);
    if (out) *out = c;
    return OK;
}

/* ---- ending ---- */

static Status next_hop(NetCall *c) {
    char *to = NULL;
    const NetConfig *cfg = &c->client->cfg;
    if (++c->n_hops > cfg->max_redirects)
        return err_set(&c->err, ERR_FORMAT, "%.120s: more than %d redirects", c->host,
                       cfg->max_redirects);
    if (strcmp(c->rq.method, "GET") != 0 && strcmp(c->rq.method, "HEAD") != 0 && c->status < 307)
        return err_set(&c->err, ERR_UNSUPPORTED, "%.120s: %s answered by a redirect with status %d",
                       c->host, c->rq.method, c->status);
    Status st = net__url_join(&to, c->url, net_header(c, "location"), &c->err);
    if (st != OK) {
        err_in(&c->err, c->host);
        return st;
    }
    mem_free(c->url);
    c->url = to;
    return start_hop(c);
}

static void finish(NetCall *c, CURLcode rc) {
    curl_multi_remove_handle(c->client->multi, c->easy);
    /* an over-long body of a redirect was cut off, and does not matter */
    if (c->redirect && c->head_done && c->err.code == OK) {
        if (next_hop(c) == OK) return;
    }
    Status st = net__judge(c, rc);
    call_unlink(c);
    if (c->rq.on_done) c->rq.on_done(c->rq.ctx, c, st, &c->err);
    call_free(c);
}

void net_client_end(NetClient *k) {
    for (NetCall *c; (c = k->calls) != NULL;) {
        err_set(&c->err, ERR_CANCELLED, "%.120s: given up", c->host);
        c->redirect = false;
        finish(c, CURLE_OK);
    }
}

static NetCall *next_done(NetClient *k, CURLcode *rc) {
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(k->multi, &left)) != NULL) {
        char *p = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        *rc = m->data.result;
        if (curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p) == CURLE_OK && p)
            return (NetCall *)(void *)p;
    }
    return NULL;
}

static void finish_done(NetClient *k, int *n_done) {
    CURLcode rc = CURLE_OK;
    for (NetCall *c; (c = next_done(k, &rc)) != NULL; (*n_done)++) finish(c, rc);
}

static Status step(NetClient *k, int *n_done, Err *e) {
    int running;
    CURLMcode m = curl_multi_perform(k->multi, &running);
    if (m != CURLM_OK) return err_set(e, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(m));
    finish_done(k, n_done);
    return OK;
}

Status net_poll_ns(NetClient *k, uint64_t timeout_ns, Err *e) {
    int n_done = 0;
    if (k->cfg.many <= 0)
        return net_poll(k, (int)MIN((timeout_ns + 999999) / 1000000, (uint64_t)INT32_MAX), e);
    TRY(net__many_step(k, timeout_ns, e));
    finish_done(k, &n_done);
    return OK;
}

Status net_poll(NetClient *k, int timeout_ms, Err *e) {
    int n_done = 0;
    if (k->cfg.many > 0) return net_poll_ns(k, (uint64_t)MAX(timeout_ms, 0) * 1000000, e);
    TRY(step(k, &n_done, e));
    if (n_done > 0 || timeout_ms <= 0) return OK;
    CURLMcode m = curl_multi_poll(k->multi, NULL, 0, timeout_ms, NULL);
    if (m != CURLM_OK) return err_set(e, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(m));
    return step(k, &n_done, e);
}

/* ---- reading a call ---- */

int net_status(const NetCall *c) { return c->head_done ? c->status : 0; }
Slice net_header(const NetCall *c, const char *name) { return net__find_header(&c->head, name); }
const char *net_url(const NetCall *c) { return c->url; }
Slice net_body(const NetCall *c) { return (Slice){sb_str(&c->body), c->body.n}; }
NetFault net_fault(const NetCall *c) { return c->fault; }

int net_os_error(const NetCall *c) {
    long v = 0;
    return curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &v) == CURLE_OK ? (int)v : 0;
}

int64_t net_retry_after(const NetCall *c) {
    curl_off_t s = 0;
    if (!c->head_done || curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &s) != CURLE_OK) return 0;
    return s > 0 ? (int64_t)s : 0;
}

/* ---- one answer, waited for ---- */

typedef struct Ask {
    NetAnswer *out;
    bool done, again;
    int64_t retry_after;
    Status st;
    Err err;
} Ask;

static void ask_done(void *ctx, NetCall *c, Status st, const Err *err) {
    Ask *a = ctx;
    a->done = true;
    a->again = net_may_retry(c);
    a->retry_after = net_retry_after(c);
    a->st = st;
    a->err = *err;
    net_answer_deinit(a->out);
    a->out->status = net_status(c);
    a->out->fault = net_fault(c);
    a->out->head = c->head;
    a->out->body = c->body;
    c->head = c->body = (StrBuf){0};
}

/* The callbacks of rq get rq->ctx, the end of the call gets the Ask. */
typedef struct AskCtx {
    Ask ask;
    const NetRequest *rq;
} AskCtx;

static Status ask_sign(void *ctx, StrBuf *lines, Err *e) {
    const NetRequest *rq = ((AskCtx *)ctx)->rq;
    return rq->sign(rq->ctx, lines, e);
}
static Status ask_read(void *ctx, uint64_t at, void *p, size_t n, Err *e) {
    const NetRequest *rq = ((AskCtx *)ctx)->rq;
    return rq->read(rq->ctx, at, p, n, e);
}
static Status ask_hop(void *ctx, NetCall *c, Err *e) {
    const NetRequest *rq = ((AskCtx *)ctx)->rq;
    return rq->on_hop(rq->ctx, c, e);
}
static Status ask_head(void *ctx, NetCall *c, Err *e) {
    const NetRequest *rq = ((AskCtx *)ctx)->rq;
    return rq->on_head(rq->ctx, c, e);
}
static Status ask_body(void *ctx, NetCall *c, Slice part, Err *e) {
    const NetRequest *rq = ((AskCtx *)ctx)->rq;
    return rq->on_body(rq->ctx, c, part, e);
}
static void ask_end(void *ctx, NetCall *c, Status st, const Err *err) {
    ask_done(&((AskCtx *)ctx)->ask, c, st, err);
}

static bool stopped(const NetClient *k) {
    return k->cfg.stop && atomic_load_explicit(k->cfg.stop, memory_order_relaxed) != 0;
}

static Status fail_stopped(Err *e) { return err_set(e, ERR_CANCELLED, "stopped"); }

static Status ask_once(AskCtx *x, NetClient *k, Err *e) {
    NetRequest rq = *x->rq;
    NetCall *call = NULL;
    rq.ctx = x;
    if (rq.sign) rq.sign = ask_sign;
    if (rq.read) rq.read = ask_read;
    if (rq.on_hop) rq.on_hop = ask_hop;
    if (rq.on_head) rq.on_head = ask_head;
    if (rq.on_body) rq.on_body = ask_body;
    rq.on_done = ask_end;
    NetAnswer *out = x->ask.out;
    x->ask = (Ask){.out = out};
    TRY(net_start(&call, k, &rq, e));
    while (!x->ask.done) {
        Status st = stopped(k) ? fail_stopped(e) : net_poll(k, 200, e);
        if (st == OK) continue;
        if (!x->ask.done) net_cancel(call);
        return st;
    }
    return OK;
}

static bool is_safe(const NetRequest *rq) {
    return rq->retry_post || !rq->method || strcmp(rq->method, "POST") != 0;
}

/* Sleep, driving the other calls. */
static Status wait_ms(NetClient *k, int ms, Err *e) {
    uint64_t until = clock_now_ns() + (uint64_t)ms * 1000000;
    for (uint64_t now; (now = clock_now_ns()) < until;) {
        if (stopped(k)) return fail_stopped(e);
        TRY(net_poll(k, (int)MIN((until - now) / 1000000 + 1, (uint64_t)200), e));
    }
    return OK;
}

Status net_ask(NetAnswer *out, NetClient *k, const NetRequest *rq, Err *e) {
    AskCtx x = {.ask = {.out = out}, .rq = rq};
    for (int n = 1;; n++) {
        TRY(ask_once(&x, k, e));
        int ms = net_backoff_ms(n, x.ask.retry_after, clock_now_ns());
        if (!x.ask.again || rq->once || !is_safe(rq) || n > k->cfg.retries || ms < 0) break;
        TRY(wait_ms(k, ms, e));
    }
    return x.ask.st == OK ? OK : err_set(e, x.ask.st, "%s", x.ask.err.msg);
}

Slice net_answer_header(const NetAnswer *a, const char *name) {
    return net__find_header(&a->head, name);
}

void net_answer_deinit(NetAnswer *a) {
    sb_deinit(&a->head);
    sb_deinit(&a->body);
    *a = (NetAnswer){0};
}
