/* SPDX-License-Identifier: Apache-2.0
 * /metrics. The engine's own numbers leave under vLLM's names, so that its dashboards and autoscalers fit; under the
 * names of the short routes' deployments what those count: a request once, when it ends, and tokens as tokens. */
#include "net/prom.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/internal.h"

/* ---- noting ---- */

static const double duration_bounds[] = {.005, .01, .025, .05, .075, .1, .25, .5, .75, 1,
                                         2.5,  5,   7.5,  10,  15,   20, 30,  60, 120, 300};
static const double completion_bounds[] = {.1, .2, .5, 1, 2, 5};
static const double length_bounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000};

void server__stats_init(ServeStats *s) {
    Hist duration = {.bound = duration_bounds, .n = COUNT_OF(duration_bounds)};
    s->request_s = s->inference_s = s->response_s = duration;
    s->completion_s = (Hist){.bound = completion_bounds, .n = COUNT_OF(completion_bounds)};
    s->response_len = (Hist){.bound = length_bounds, .n = COUNT_OF(length_bounds)};
}

void server__stats_note(Server *s, const Job *j, bool ok) {
    ServeStats *t = &s->stats;
    double took = (double)(clock_now_ns() - j->t_start_ns) * 1e-9;
    int64_t n = j->n_answers > 0 ? server__usage(j).completion : 0;
    int at = (int)(j->route - server__routes);
    t->n_tokens += (uint64_t)n;
    if (server__is_idle(j)) return; /* lines of batches are counted as such */
    if (ok) t->n_ok[at]++;
    else t->n_failed[at]++;
    metrics_observe(&t->request_s, took);
    if (!j->route->operation) return;
    if (ok) {
        metrics_observe(&t->inference_s, took);
        metrics_observe(&t->response_s, took);
        metrics_observe(&t->response_len, (double)n);
        if (j->n_user > 0)
            server__sessions_note(s->sessions, &j->session, j->n_user, clock_now_s());
    }
    if (j->route->schema == &api_complete) metrics_observe(&t->completion_s, took);
}

/* ---- the engine's ---- */

typedef enum RowKind { INT_GAUGE, COUNT, HISTOGRAM, KV_USAGE } RowKind;

typedef struct Row {
    RowKind kind;
    const char *name, *help;
    size_t offset; /* in Metrics */
} Row;

#define M(field) offsetof(Metrics, field)
static const Row engine_rows[] = {
    {INT_GAUGE, "vllm:num_requests_running", "Requests in the batch.", M(running)},
    {INT_GAUGE, "vllm:num_requests_waiting", "Requests that wait.", M(waiting)},
    {KV_USAGE, "vllm:kv_cache_usage_perc", "Share of the KV cache's blocks that are held, 0 to 1.",
     0},
    {COUNT, "vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.",
     M(prefix_queries)},
    {COUNT, "vllm:prefix_cache_hits", "Prompt tokens found there.", M(prefix_hits)},
    {COUNT, "vllm:num_preemptions", "Times a request lost its blocks to an older one.",
     M(preemptions)},
    {COUNT, "vllm:prompt_tokens", "Tokens of prompts that were read.", M(prompt_tok)},
    {COUNT, "vllm:prompt_tokens_cached", "Of these, tokens that were cached.",
     M(prompt_tok_cached)},
    {COUNT, "vllm:generation_tokens", "Tokens generated.", M(new_tok)},
    {COUNT, "vllm:spec_decode_num_drafts", "Drafts that were looked at.", M(spec_drafts)},
    {COUNT, "vllm:spec_decode_num_draft_tokens", "Tokens guessed.", M(spec_draft_tok)},
    {COUNT, "vllm:spec_decode_num_accepted_tokens", "Guesses that were right.",
     M(spec_accepted_tok)},
    {HISTOGRAM, "vllm:iteration_tokens_total", "Rows of a step.", M(iteration_tok)},
    {HISTOGRAM, "vllm:time_to_first_token_seconds", "Arrival to first token.", M(ttft_s)},
    {HISTOGRAM, "vllm:inter_token_latency_seconds", "Between steps that brought tokens.", M(itl_s)},
    {HISTOGRAM, "vllm:request_time_per_output_token_seconds", "Mean of a request.", M(tpot_s)},
    {HISTOGRAM, "vllm:time_per_output_token_seconds", "The same, under its older name.", M(tpot_s)},
    {HISTOGRAM, "vllm:e2e_request_latency_seconds", "Arrival to end.", M(e2e_s)},
    {HISTOGRAM, "vllm:request_queue_time_seconds", "Arrival to the first step.", M(queue_s)},
    {HISTOGRAM, "vllm:request_inference_time_seconds", "First step to last token.", M(inference_s)},
    {HISTOGRAM, "vllm:request_prefill_time_seconds", "First step to first token.", M(prefill_s)},
    {HISTOGRAM, "vllm:request_decode_time_seconds", "First to last token.", M(decode_s)},
    {HISTOGRAM, "vllm:request_prompt_tokens", "Tokens of a prompt.", M(prompt_len)},
    {HISTOGRAM, "vllm:request_generation_tokens", "Tokens of an answer.", M(new_len)},
    {HISTOGRAM, "vllm:request_prefill_kv_computed_tokens", "Prompt tokens that were computed.",
     M(prefill_computed)},
    {HISTOGRAM, "vllm:request_params_n", "Answers asked for.", M(params_n)},
    {HISTOGRAM, "vllm:request_params_max_tokens", "Tokens asked for.", M(params_max_tok)},
};
/* What rules of deployments call some of them. */
static const Row alias_rows[] = {
    {INT_GAUGE, "vllm_request_queue_size", "Requests that wait.", M(waiting)},
    {INT_GAUGE, "vllm_num_running_sequences", "Requests in the batch.", M(running)},
    {KV_USAGE, "vllm_kv_cache_usage_ratio", "Share of the KV cache's blocks that are held.", 0},
    {HISTOGRAM, "vllm_time_to_first_token_seconds", "Arrival to first token.", M(ttft_s)},
};
#undef M

static void put_hist(PromW *w, const char *name, const char *help, const Hist *h) {
    HistView v = metrics_hist(h);
    PromHist p = {v.bound, v.upto, v.n, v.count, v.sum};
    prom_family(w, PROM_HISTOGRAM, name, help);
    prom_hist(w, NULL, &p);
}

static void put_row(PromW *w, const Row *r, const Metrics *m) {
    const char *at = (const char *)m + r->offset;
    switch (r->kind) {
    case HISTOGRAM: put_hist(w, r->name, r->help, (const Hist *)at); return;
    case COUNT:
        prom_family(w, PROM_COUNTER, r->name, r->help);
        prom_value(w, NULL, (double)metrics_get((const _Atomic uint64_t *)at));
        return;
    case INT_GAUGE:
    case KV_USAGE: break;
    }
    prom_family(w, PROM_GAUGE, r->name, r->help);
    prom_value(w, NULL,
               r->kind == KV_USAGE ? metrics_kv_usage(m)
                                   : (double)metrics_gauge((const _Atomic int *)at));
}

static void put_finished(PromW *w, const Metrics *m) {
    static const char *const words[METRICS_FINISH] = {"stop", "length", "abort", "timeout",
                                                      "error"};
    prom_family(w, PROM_COUNTER, "vllm:request_success", "Requests that ended, by why.");
    for (int i = 0; i < METRICS_FINISH; i++) {
        char label[48];
        snprintf(label, sizeof label, "finished_reason=\"%s\"", words[i]);
        prom_value(w, label, (double)metrics_get(&m->finished[i]));
    }
}

static void put_by_source(PromW *w, const Metrics *m) {
    prom_family(w, PROM_COUNTER, "vllm:prompt_tokens_by_source", "Where prompt tokens came from.");
    prom_value(w, "source=\"local_compute\"", (double)metrics_get(&m->prompt_tok_computed));
    prom_value(w, "source=\"local_cache_hit\"", (double)metrics_get(&m->prompt_tok_cached));
    int deferred = metrics_gauge(&m->waiting_deferred);
    prom_family(w, PROM_GAUGE, "vllm:num_requests_waiting_by_reason",
                "Requests that wait, by why.");
    prom_value(w, "reason=\"capacity\"", metrics_gauge(&m->waiting) - deferred);
    prom_value(w, "reason=\"deferred\"", deferred);
}

static void put_config(PromW *w, const Metrics *m) {
    char label[96];
    snprintf(label, sizeof label,
             "block_size=\"%d\",num_gpu_blocks=\"%d\",enable_prefix_caching=\"True\"", m->block_tok,
             m->blocks);
    prom_family(w, PROM_INFO, "vllm:cache_config", "The KV cache.");
    prom_value(w, label, 1);
}

/* "a,b": adapters that requests run with, or wait for. */
static void put_names(StrBuf *b, const EngineAdapter *v, int n, bool running) {
    const char *comma = "";
    for (int i = 0; i < n; i++) {
        if ((running ? v[i].n_running : v[i].n_waiting) == 0) continue;
        sb_puts(b, comma);
        prom_escape(b, slice_of(v[i].name));
        comma = ",";
    }
}

/* The value is when it was, as it is at vLLM: of several the newest holds. */
static void put_adapters(PromW *w, const EngineDoor *door) {
    enum { MOST = 64 };
    EngineAdapter v[MOST];
    StrBuf labels = {0};
    if (!door->adapters || door->max_adapters == 0) return;
    int n = MIN(door->adapters(door->self, v, MOST), MOST);
    sb_printf(&labels, "max_lora=\"%d\",running_lora_adapters=\"", door->max_adapters);
    put_names(&labels, v, n, true);
    sb_puts(&labels, "\",waiting_lora_adapters=\"");
    put_names(&labels, v, n, false);
    sb_putc(&labels, '"');
    if (labels.failed) w->b->failed = true;
    prom_family(w, PROM_GAUGE, "vllm:lora_requests_info", "Adapters in use.");
    prom_value(w, sb_str(&labels), (double)time(NULL));
    sb_deinit(&labels);
}

static void put_positions(PromW *w, const Metrics *m) {
    if (metrics_get(&m->spec_drafts) == 0) return;
    prom_family(w, PROM_COUNTER, "vllm:spec_decode_num_accepted_tokens_per_pos",
                "Guesses that were right, by place in the draft.");
    for (int i = 0; i < METRICS_SPEC_POS; i++) {
        char label[32];
        snprintf(label, sizeof label, "position=\"%d\"", i);
        prom_value(w, label, (double)metrics_get(&m->spec_accepted_at[i]));
    }
}

static void put_engine(PromW *w, const EngineDoor *door, const char *labels) {
    const Metrics *m = door->metrics;
    w->labels = labels;
    for (size_t i = 0; i < COUNT_OF(engine_rows); i++) put_row(w, &engine_rows[i], m);
    put_finished(w, m);
    put_by_source(w, m);
    put_config(w, m);
    put_positions(w, m);
    put_adapters(w, door);
    for (size_t i = 0; i < COUNT_OF(alias_rows); i++) put_row(w, &alias_rows[i], m);
    w->labels = "";
}

/* ---- the server's ---- */

static void one(PromW *w, PromType type, const char *name, const char *help, double v) {
    prom_family(w, type, name, help);
    prom_value(w, NULL, v);
}

static void put_requests(PromW *w, const ServeStats *t) {
    uint64_t ok = 0, failed = 0;
    prom_family(w, PROM_COUNTER, "llm_requests", "Requests that ended.");
    for (int i = 0; i < server__n_routes; i++) {
        const Route *r = &server__routes[i];
        char label[160];
        if (!r->operation) continue;
        for (int k = 0; k < 2; k++) {
            snprintf(label, sizeof label, "method=\"%s\",endpoint=\"%s\",status=\"%s\"", r->method,
                     r->path, k ? "error" : "success");
            prom_value(w, label, (double)(k ? t->n_failed[i] : t->n_ok[i]));
        }
        if (r->schema != &api_complete) continue;
        ok += t->n_ok[i];
        failed += t->n_failed[i];
    }
    prom_family(w, PROM_COUNTER, "code_completion_requests", "Requests for /complete that ended.");
    prom_value(w, "status=\"success\"", (double)ok);
    prom_value(w, "status=\"error\"", (double)failed);
}

static void put_batches(PromW *w, BatchesStats b) {
    one(w, PROM_GAUGE, "batches_active", "Batches at work.", b.n_active);
    prom_family(w, PROM_COUNTER, "batch_lines", "Lines of batches that were answered.");
    prom_value(w, "status=\"success\"", (double)b.n_ok);
    prom_value(w, "status=\"error\"", (double)b.n_failed);
}

/* What a provider looks at beside the machine: are people content, and what does an answer cost? */
static void put_business(PromW *w, const Server *s) {
    const ServeStats *t = &s->stats;
    uint64_t n = 0, n_like = t->by_rating[4] + t->by_rating[5], n_ok = 0;
    for (int i = 1; i <= 5; i++) n += t->by_rating[i];
    if (n > 0)
        one(w, PROM_GAUGE, "user_satisfaction_ratio", "Share of ratings that are 4 or 5.",
            (double)n_like / (double)n);
    one(w, PROM_GAUGE, "sessions_active", "Conversations that went on in the last half hour.",
        server__sessions_open(s->sessions));
    put_hist(w, "session_length_messages", "Messages of users in a conversation that ended.",
             server__sessions_messages(s->sessions));
    put_hist(w, "session_duration_seconds", "First answer to last, in a conversation that ended.",
             server__sessions_seconds(s->sessions));
    if (s->cfg.cost_per_hour <= 0) return;
    double cost = s->cfg.cost_per_hour / 3600 * (clock_now_s() - s->started_mono);
    for (int i = 0; i < server__n_routes; i++)
        if (server__routes[i].operation) n_ok += t->n_ok[i];
    one(w, PROM_COUNTER, "machine_cost_dollars", "What this machine cost since the start.", cost);
    if (n_ok > 0)
        one(w, PROM_GAUGE, "cost_per_inference_dollars", "The same for each answer that went well.",
            cost / (double)n_ok);
}

static void put_stats(PromW *w, const Server *s) {
    const ServeStats *t = &s->stats;
    put_requests(w, t);
    put_hist(w, "llm_request_duration_seconds", "Request to answer.", &t->request_s);
    put_hist(w, "llm_inference_duration_seconds", "The same of those that went well.",
             &t->inference_s);
    put_hist(w, "code_completion_duration_seconds", "Request to answer on /complete.",
             &t->completion_s);
    put_hist(w, "response_length", "Tokens of an answer.", &t->response_len);
    put_hist(w, "response_time", "Seconds from request to answer.", &t->response_s);
    one(w, PROM_COUNTER, "tokens_generated", "Tokens of answers.", (double)t->n_tokens);
    prom_family(w, PROM_COUNTER, "feedback_ratings", "Ratings that were stored.");
    for (int i = 1; i <= 5; i++) {
        char label[24];
        snprintf(label, sizeof label, "rating=\"%d\"", i);
        prom_value(w, label, (double)t->by_rating[i]);
    }
    one(w, PROM_COUNTER, "feedback_low_ratings", "Ratings below 3.",
        (double)(t->by_rating[1] + t->by_rating[2]));
    put_business(w, s);
    if (s->cfg.batches) put_batches(w, batches_stats(s->cfg.batches));
    one(w, PROM_COUNTER, "otlp_spans_dropped", "Spans of traces that found no room.",
        (double)t->n_spans_dropped);
    one(w, PROM_COUNTER, "rate_limited_requests", "Requests refused by a rate limit.",
        (double)t->n_rate_refused);
    one(w, PROM_GAUGE, "request_bodies_bytes", "Memory that requests hold: bodies, and JSON.",
        (double)http_held_bytes(s->http));
    one(w, PROM_COUNTER, "log_lines_lost", "Lines of the log that found no room.",
        (double)log_lost());
    one(w, PROM_GAUGE, "active_requests", "Requests that are not answered yet.", t->n_active);
    one(w, PROM_GAUGE, "active_connections", "Clients connected.", http_n_connections(s->http));
    one(w, PROM_GAUGE, "model_loaded", "1 once the model is there.", s->cfg.engine.submit != NULL);
}

static double cpu_seconds(void) {
    struct rusage u = {0};
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void put_process(PromW *w, const Server *s) {
    double limit = (double)mem_limit_bytes(), rss = (double)s->health.rss_bytes;
    one(w, PROM_GAUGE, "cpu_usage", "Processor time in use, in percent of what there is.",
        s->health.cpu_percent);
    one(w, PROM_GAUGE, "memory_usage", "Resident memory, in percent of what may be used.",
        limit > 0 ? 100 * rss / limit : 0);
    one(w, PROM_GAUGE, "gpu_memory_usage", "Memory of a GPU, in percent; there is none.", 0);
    one(w, PROM_GAUGE, "process_resident_memory_bytes", "Resident memory.", rss);
    one(w, PROM_COUNTER, "process_cpu_seconds", "Processor time used.", cpu_seconds());
    one(w, PROM_GAUGE, "process_start_time_seconds", "When the server started.",
        (double)s->started);
}

void server__get_metrics(Server *s, HttpReq *r) {
    bool open = prom_wants_openmetrics(http_header(r, "Accept"));
    StrBuf b = {0}, labels = {0};
    PromW w;
    sb_puts(&labels, "model_name=\"");
    prom_escape(&labels, slice_of(s->cfg.model ? s->cfg.model : ""));
    sb_puts(&labels, "\",engine=\"0\"");
    prom_begin(&w, &b, open, NULL);
    if (s->cfg.engine.metrics) put_engine(&w, &s->cfg.engine, sb_str(&labels));
    put_stats(&w, s);
    put_process(&w, s);
    prom_end(&w);
    if (b.failed || labels.failed) server__reply_text(r, API_PLAIN, 503, NULL, "out of memory");
    else http_reply(r, 200, prom_content_type(open), NULL, (Slice){sb_str(&b), b.n});
    sb_deinit(&labels);
    sb_deinit(&b);
}
