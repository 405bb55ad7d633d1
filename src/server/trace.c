/* SPDX-License-Identifier: Apache-2.0
 * Spans of requests: the HTTP request, the generation inside it, and of that waiting, prefill, decoding. They are
 * gathered here and handed to `on_spans` as OTLP bodies, at most a second late; what finds no room is dropped and
 * counted. No text of prompts or answers is in them. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "net/otlp.h"
#include "server/internal.h"

enum { MAX_SPANS = 2048, BATCH_SPANS = 512 };

void server__trace_start(Job *j, const HttpReq *r) {
    Server *s = j->server;
    uint64_t random[3] = {server__draw(s), server__draw(s), server__draw(s)};
    if (!api_trace_read(&j->trace, http_header(r, "traceparent"))) j->trace.sampled = true;
    api_trace_fill(&j->trace, random);
}

/* ---- times ---- */

/* What to add to the steady clock for nanoseconds since 1970. */
static uint64_t clock_offset(void) {
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec - clock_now_ns();
}

static uint64_t at(double seconds, uint64_t offset) { return (uint64_t)(seconds * 1e9) + offset; }

/* ---- spans ---- */

static void draw_span(char out[17], Server *s) {
    snprintf(out, 17, "%016llx", (unsigned long long)(server__draw(s) | 1));
}

static void put_http(OtlpBatch *b, const Job *j, int status, const char *error, uint64_t offset) {
    char name[96];
    snprintf(name, sizeof name, "%s %s", j->route->method, j->route->path);
    OtlpSpan span = {.trace = j->trace.trace,
                     .span = j->trace.span,
                     .parent = j->trace.parent,
                     .name = name,
                     .kind = OTLP_SERVER,
                     .start_ns = j->t_start_ns + offset,
                     .end_ns = clock_now_ns() + offset,
                     .error = status >= 500 ? error : NULL};
    otlp_begin(b, &span);
    otlp_str(b, "http.request.method", slice_of(j->route->method));
    otlp_str(b, "http.route", slice_of(j->route->path));
    otlp_int(b, "http.response.status_code", status);
    otlp_str(b, "gen_ai.request.id", slice_of(j->request_id));
    otlp_end(b);
}

static void put_generation(OtlpBatch *b, const Job *j, const char *id, uint64_t offset) {
    const char *model = j->adapter ? j->adapter : j->server->cfg.model;
    char name[256];
    Usage u = server__usage(j);
    snprintf(name, sizeof name, "%s %s", j->route->operation, model);
    OtlpSpan span = {.trace = j->trace.trace,
                     .span = id,
                     .parent = j->trace.span,
                     .name = name,
                     .kind = OTLP_INTERNAL,
                     .start_ns = j->t_start_ns + offset,
                     .end_ns = clock_now_ns() + offset};
    otlp_begin(b, &span);
    otlp_str(b, "gen_ai.operation.name", slice_of(j->route->operation));
    otlp_str(b, "gen_ai.provider.name", slice_of("ingot"));
    otlp_str(b, "gen_ai.request.model", slice_of(model));
    otlp_str(b, "gen_ai.response.model", slice_of(model));
    otlp_int(b, "gen_ai.request.choice.count", j->q.n);
    otlp_num(b, "gen_ai.request.temperature", j->q.temperature);
    otlp_num(b, "gen_ai.request.top_p", j->q.top_p);
    otlp_int(b, "gen_ai.usage.input_tokens", u.prompt);
    otlp_int(b, "gen_ai.usage.output_tokens", u.completion);
    otlp_int(b, "gen_ai.usage.cache_read.input_tokens", u.cached);
    otlp_end(b);
}

static void put_phase(OtlpBatch *b, const Job *j, const char *parent, const char *name, double from,
                      double to, uint64_t offset) {
    char id[17];
    if (!(from > 0) || !(to >= from)) return;
    draw_span(id, j->server);
    OtlpSpan span = {.trace = j->trace.trace,
                     .span = id,
                     .parent = parent,
                     .name = name,
                     .kind = OTLP_INTERNAL,
                     .start_ns = at(from, offset),
                     .end_ns = at(to, offset)};
    otlp_begin(b, &span);
    otlp_end(b);
}

void server__trace_end(Job *j, const Err *failed) {
    Server *s = j->server;
    uint64_t offset = clock_offset();
    int status = server__status(j, failed);
    if (!s->cfg.on_spans || !j->trace.sampled) return;
    if (s->spans.n > MAX_SPANS) {
        s->stats.n_spans_dropped++;
        return;
    }
    put_http(&s->spans, j, status, failed ? err_name(failed->code) : NULL, offset);
    if (j->n_answers > 0 && j->route->operation) {
        const ReqTimes *t = &server__choice(j, 0)->times;
        char id[17];
        draw_span(id, s);
        put_generation(&s->spans, j, id, offset);
        put_phase(&s->spans, j, id, "engine.queue", t->arrival, t->scheduled, offset);
        put_phase(&s->spans, j, id, "engine.prefill", t->scheduled, t->first, offset);
        put_phase(&s->spans, j, id, "engine.decode", t->first, t->last, offset);
    }
    if (s->spans.n >= BATCH_SPANS) server__trace_flush(s);
}

void server__trace_flush(Server *s) {
    StrBuf body = {0};
    if (s->spans.n == 0) return;
    int n = s->spans.n;
    otlp_take(&s->spans, &body, "ingot", s->cfg.version ? s->cfg.version : "0");
    bool sent = !body.failed && s->cfg.on_spans(s->cfg.ctx, (Slice){sb_str(&body), body.n});
    if (!sent) s->stats.n_spans_dropped += (uint64_t)n;
    sb_deinit(&body);
}
