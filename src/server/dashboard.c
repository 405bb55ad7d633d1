/* SPDX-License-Identifier: Apache-2.0
 * GET /dashboard/data: the last hour in numbers and the requests that are not answered yet, for the page /dashboard and
 * for `ingot top`. Query: since=T, only rows later than T (seconds since 1970, as in an answer's rows); step=N, N
 * samples as one row, 1 to 60; rows=N, at most the newest N rows, 900 unless told.
 *
 *   {"now": T, "started": T, "every_s": 1, "step": N, "version", "model", "loaded": true,
 *    "limits": {"memory_bytes", "processors", "kv_blocks", "block_tokens", "context"},
 *    "totals": {"requests", "errors", "prompt_tokens", "new_tokens"},    since the start
 *    "names": ["t", "requests_s", ...], "rows": [[T, 0.5, ...], ...],   null: there was nothing to measure
 *    "n_requests": 2, "requests": [{"id", "route", "model", "key", "state", "stream", "prompt_tokens", "tokens",
 *      "age_s"}, ...]}                                                   oldest first, at most MAX_LISTED
 *
 * state: "preparing" (no tokens are known yet), "waiting" (for its first token), "generating", "writing". A group of
 * `step` samples is one row when it is complete, and always the same samples, so a client may ask again and again with
 * the time of the last row it has. */
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/history.h"
#include "server/internal.h"

enum { MAX_ROWS = 900, MAX_LISTED = 200 };

/* ---- sampling ---- */

static double cpu_seconds(void) {
    struct rusage u = {0};
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* Seconds since 1970 at the start, and from there by the clock that never goes back. */
static double now_of(const Server *s) {
    return (double)s->started + clock_now_s() - s->started_mono;
}

static uint64_t n_ended(const ServeStats *t) {
    uint64_t n = 0;
    for (int i = 0; i < server__n_routes; i++) {
        if (server__routes[i].operation) n += t->n_ok[i] + t->n_failed[i];
    }
    return n;
}

void server__history_tick(Server *s) {
    HistoryNow now = {.t = floor(now_of(s) * 1000) / 1000, /* as it is printed */
                      .m = s->cfg.engine.metrics,
                      .n_requests = n_ended(&s->stats),
                      .n_active = s->stats.n_active,
                      .n_connections = http_n_connections(s->http),
                      .rss_bytes = s->health.rss_bytes,
                      .cpu_percent = s->health.cpu_percent,
                      .cpu_s = cpu_seconds(),
                      .n_cpu = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    server__history_add(s->history, &now);
}

/* ---- rows ---- */

/* What the query asks for. */
typedef struct Ask {
    double since, step, most;
} Ask;

/* Six digits are what there is in a number. */
static void put_value(StrBuf *b, double v) {
    if (v == 0) sb_puts(b, ",0"); /* most are, and this is the loop's thread */
    else if (isfinite(v)) sb_printf(b, ",%.6g", v);
    else sb_puts(b, ",null");
}

static void put_row(StrBuf *b, const HistoryRow *row, bool first) {
    sb_printf(b, "%s[%.3f", first ? "" : ",", row->t);
    for (int i = 0; i < HISTORY_N; i++) put_value(b, (double)row->v[i]);
    sb_putc(b, ']');
}

/* The newest `most` rows of those later than `since`, oldest first. */
static void put_rows(JsonW *w, const History *h, const Ask *ask) {
    uint64_t from, to, k;
    int step = (int)ask->step;
    server__history_range(&from, &to, h, step);
    if (to - from > (uint64_t)ask->most) from = to - (uint64_t)ask->most;
    for (k = to; k > from && server__history_group(h, k - 1, step).t > ask->since; k--) continue;
    jw_arr(w, "rows");
    for (bool first = true; k < to; k++, first = false) {
        HistoryRow row = server__history_group(h, k, step);
        put_row(w->b, &row, first);
    }
    jw_end_arr(w);
}

static void put_names(JsonW *w) {
    jw_arr(w, "names");
    jw_cstr(w, NULL, "t");
    for (int i = 0; i < HISTORY_N; i++) jw_cstr(w, NULL, server__history_series[i].name);
    jw_end_arr(w);
}

/* ---- requests ---- */

static const char *state_of(const Job *j, int64_t n_tokens) {
    if (j->rendering) return "writing";
    if (!j->prepared) return "preparing";
    return n_tokens > 0 ? "generating" : "waiting";
}

/* A job that is being prepared belongs to another thread, but for what is constant. */
static void put_request(JsonW *w, const Job *j, uint64_t now_ns) {
    bool known = j->prepared;
    int64_t n = known && j->n_answers > 0 ? server__usage(j).completion : 0;
    jw_obj(w, NULL);
    jw_cstr(w, "id", j->request_id);
    jw_cstr(w, "route", j->route->path);
    if (known) jw_cstr(w, "model", j->adapter ? j->adapter : j->server->cfg.model);
    if (known && j->user.id[0]) jw_cstr(w, "key", j->user.id);
    jw_cstr(w, "state", state_of(j, n));
    jw_bool(w, "stream", j->streaming);
    jw_int(w, "prompt_tokens", known ? j->n_prompt_tok : 0);
    jw_int(w, "tokens", n);
    jw_num(w, "age_s", (double)((now_ns - j->t_start_ns) / 1000000) / 1000);
    jw_end_obj(w);
}

static void put_requests(JsonW *w, const Server *s) {
    const Job *j = s->jobs;
    uint64_t now = clock_now_ns();
    jw_int(w, "n_requests", s->stats.n_active);
    jw_arr(w, "requests");
    while (j && j->next) j = j->next;
    for (int i = 0; j && i < MAX_LISTED; j = j->prev, i++) put_request(w, j, now);
    jw_end_arr(w);
}

/* ---- the rest ---- */

static void put_limits(JsonW *w, const Server *s) {
    const Metrics *m = s->cfg.engine.metrics;
    jw_obj(w, "limits");
    jw_int(w, "memory_bytes", (int64_t)mem_limit_bytes());
    jw_int(w, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    jw_int(w, "kv_blocks", m ? m->blocks : 0);
    jw_int(w, "block_tokens", m ? m->block_tok : 0);
    jw_int(w, "context", s->cfg.engine.max_ctx);
    jw_end_obj(w);
}

static void put_totals(JsonW *w, const Server *s) {
    const Metrics *m = s->cfg.engine.metrics;
    jw_obj(w, "totals");
    jw_int(w, "requests", (int64_t)n_ended(&s->stats));
    jw_int(w, "errors", (int64_t)server__history_errors(s->history));
    jw_int(w, "prompt_tokens", m ? (int64_t)metrics_get(&m->prompt_tok) : 0);
    jw_int(w, "new_tokens", m ? (int64_t)metrics_get(&m->new_tok) : 0);
    jw_end_obj(w);
}

static void put_head(JsonW *w, const Server *s, int step) {
    jw_num(w, "now", (double)(int64_t)(now_of(s) * 1000) / 1000);
    jw_int(w, "started", s->started);
    jw_int(w, "every_s", 1);
    jw_int(w, "step", step);
    jw_cstr(w, "version", s->cfg.version ? s->cfg.version : "0");
    jw_cstr(w, "model", s->cfg.model);
    jw_bool(w, "loaded", s->cfg.engine.submit != NULL);
    put_limits(w, s);
    put_totals(w, s);
}

/* A number of the query, within its range; absent leaves *out as it was. */
static Status read_number(double *out, Slice query, const char *name, double max, Err *e) {
    StrBuf text = {0};
    bool found = false;
    double v = 0;
    Status st = http_query_get(&text, &found, query, name, e);
    if (st == OK && found) {
        if (str_to_f64(&v, sb_str(&text)) && v >= 0 && v <= max) *out = v;
        else st = err_set(e, ERR_ARG, "%s: a number from 0 to %.0f is needed", name, max);
    }
    sb_deinit(&text);
    return st;
}

static Status read_ask(Ask *out, Slice query, Err *e) {
    Ask ask = {.step = 1, .most = MAX_ROWS};
    TRY(read_number(&ask.since, query, "since", 1e12, e));
    TRY(read_number(&ask.step, query, "step", HISTORY_MAX_STEP, e));
    TRY(read_number(&ask.most, query, "rows", MAX_ROWS, e));
    ask.step = MAX(ask.step, 1);
    *out = ask;
    return OK;
}

void server__get_dashboard(Server *s, HttpReq *r) {
    Ask ask;
    Err e = {0};
    StrBuf b = {0};
    JsonW w;
    if (read_ask(&ask, http_query(r), &e) != OK) {
        server__reply_err(r, API_PLAIN, NULL, &e);
        return;
    }
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    put_head(&w, s, (int)ask.step);
    put_names(&w);
    put_rows(&w, s->history, &ask);
    put_requests(&w, s);
    jw_end_obj(&w);
    server__reply_json(r, 200, &b, NULL);
}
