/* SPDX-License-Identifier: Apache-2.0
 * Lines for the operator. As text, one for each answer; as JSON, also one when a request has been read and one when it
 * has ended, all with its id. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "server/internal.h"

enum { LOGGED_TARGET = 512 };

static bool has_lines(const Server *s) { return s->cfg.on_line && !s->live.quiet; }

static void put_line(const Server *s, const StrBuf *b) {
    if (!b->failed) s->cfg.on_line(s->cfg.ctx, sb_str(b));
}

/* ---- text ---- */

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

static void put_access(StrBuf *b, const HttpReq *r, int status) {
    Slice method = http_method(r);
    sb_printf(b, "INFO:     %s - \"", http_peer(r));
    if (http_version(r) != 0) {
        sb_printf(b, "%.*s ", (int)method.n, method.p);
        put_target(b, http_target(r));
        sb_printf(b, " HTTP/%d.%d", http_version(r) / 10, http_version(r) % 10);
    } else {
        sb_putc(b, '-'); /* no request line could be read */
    }
    sb_printf(b, "\" %d %s", status, http_reason(status));
}

/* Gigabytes rounded to two places, at least one of them written: 6.6, 0.0, 5.98. */
static void put_gb(StrBuf *b, double bytes) {
    char text[32];
    int n = snprintf(text, sizeof text, "%.2f", bytes / (double)(1 << 30));
    if (n > 0 && text[n - 1] == '0') text[n - 1] = '\0';
    sb_printf(b, "%sGB", text);
}

void server_resources(StrBuf *b, const char *operation) {
    double rss = (double)server__rss(), limit = (double)mem_limit_bytes();
    time_t now = time(NULL);
    struct tm tm = {0};
    char stamp[32] = "";
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S", &tm);
    sb_printf(b, "%s | [%s] GPU: none - VRAM: 0.0GB (allocated) / 0.0GB (reserved) | RAM: ", stamp,
              operation);
    put_gb(b, rss);
    sb_putc(b, '/');
    put_gb(b, limit);
    sb_printf(b, " (%.1f%%)", limit > 0 ? 100 * rss / limit : 0.0);
}

static void put_resources(const Job *j, const char *operation) {
    const Server *s = j->server;
    StrBuf b = {0};
    if (s->cfg.json_log || !s->cfg.log_resources || !has_lines(s) || !j->route->operation) return;
    server_resources(&b, operation);
    put_line(s, &b);
    sb_deinit(&b);
}

/* ---- JSON ---- */

static void open_event(JsonW *w, StrBuf *b, const char *level, const char *event) {
    char text[40] = "", stamp[64];
    struct timespec now = {0};
    struct tm tm = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp, sizeof stamp, "%s.%03ldZ", text, now.tv_nsec / 1000000);
    jw_init(w, b);
    jw_obj(w, NULL);
    jw_cstr(w, "timestamp", stamp);
    jw_cstr(w, "level", level);
    jw_cstr(w, "event", event);
}

static void put_reply(StrBuf *b, const HttpReq *r, int status) {
    JsonW w;
    StrBuf target = {0};
    put_target(&target, http_target(r));
    open_event(&w, b, status >= 500 ? "error" : "info", "http_request");
    jw_cstr(&w, "request_id", http_request_id(r));
    jw_cstr(&w, "peer", http_peer(r));
    jw_str(&w, "method", http_method(r));
    jw_str(&w, "path", (Slice){sb_str(&target), target.n});
    jw_int(&w, "status_code", status);
    jw_end_obj(&w);
    sb_deinit(&target);
}

void server__log_reply(void *ctx, const HttpReq *r, int status) {
    const Server *s = ctx;
    StrBuf b = {0};
    if (!has_lines(s)) return;
    if (s->cfg.json_log) put_reply(&b, r, status);
    else put_access(&b, r, status);
    put_line(s, &b);
    sb_deinit(&b);
}

static bool logs(const Job *j) { return j->server->cfg.json_log && has_lines(j->server); }

static void put_request(JsonW *w, const Job *j) {
    jw_cstr(w, "request_id", j->request_id);
    jw_cstr(w, "endpoint", j->route->path);
    jw_cstr(w, "model", j->adapter ? j->adapter : j->server->cfg.model);
    if (j->q.user.n > 0) jw_str(w, "user_id", j->q.user);
    jw_int(w, "prompt_length", j->n_prompt_tok);
}

void server__log_received(const Job *j) {
    StrBuf b = {0};
    JsonW w;
    put_resources(j, "Before generation");
    if (!logs(j)) return;
    open_event(&w, &b, "info", "request_received");
    put_request(&w, j);
    jw_int(&w, "max_tokens",
           j->q.max_completion_tokens ? j->q.max_completion_tokens : j->q.max_tokens);
    jw_bool(&w, "stream", j->q.stream);
    jw_end_obj(&w);
    put_line(j->server, &b);
    sb_deinit(&b);
}

static void put_numbers(JsonW *w, const Job *j, double took) {
    int64_t n = j->n_answers > 0 ? server__usage(j).completion : 0;
    jw_num(w, "duration", (double)(int64_t)(took * 1e6) / 1e6);
    jw_num(w, "latency", (double)(int64_t)(took * 1e6) / 1e6);
    jw_int(w, "output_length", n);
    jw_num(w, "tokens_per_second", took > 0 ? (double)(int64_t)((double)n / took * 100) / 100 : 0);
}

/* Where it was found stands for a traceback. */
static void put_failure(JsonW *w, const Err *failed) {
    char where[256];
    snprintf(where, sizeof where, "%s:%d", failed->file ? failed->file : "?", failed->line);
    jw_cstr(w, "error", failed->msg);
    jw_cstr(w, "traceback", where);
}

void server__log_ended(const Job *j, const Err *failed) {
    double took = (double)(clock_now_ns() - j->t_start_ns) * 1e-9;
    StrBuf b = {0};
    JsonW w;
    put_resources(j, "After generation");
    if (!logs(j)) return;
    int status = server__status(j, failed);
    open_event(&w, &b, status >= 500 ? "error" : "info",
               failed ? "request_failed" : "request_completed");
    put_request(&w, j);
    put_numbers(&w, j, took);
    jw_int(&w, "status_code", status);
    if (failed) put_failure(&w, failed);
    jw_end_obj(&w);
    put_line(j->server, &b);
    sb_deinit(&b);
}
