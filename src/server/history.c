/* SPDX-License-Identifier: Apache-2.0
 * The ring of samples; history.h says what they are. */
#include "server/history.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

const HistoryName server__history_series[HISTORY_N] = {
    [HISTORY_REQUESTS] = {"requests_s", "requests that ended, a second", false},
    [HISTORY_PROMPT_TOK] = {"prompt_tokens_s", "tokens of prompts read, a second", false},
    [HISTORY_NEW_TOK] = {"new_tokens_s", "tokens generated, a second", false},
    [HISTORY_RUNNING] = {"running", "requests in the batch", false},
    [HISTORY_WAITING] = {"waiting", "requests that wait", false},
    [HISTORY_ACTIVE] = {"active", "requests that are not answered yet", false},
    [HISTORY_CONNECTIONS] = {"connections", "clients connected", false},
    [HISTORY_BATCH] = {"batch", "rows of a step, mean", false},
    [HISTORY_KV] = {"kv", "share of the KV cache's blocks that are held, 0 to 1", false},
    [HISTORY_PREFIX_HIT] = {"prefix_hit", "share of prompt tokens found in the prefix cache",
                            false},
    [HISTORY_PREEMPTIONS] = {"preemptions_s", "requests that lost their blocks, a second", false},
    [HISTORY_TTFT_P50] = {"ttft_p50", "seconds to the first token, median", true},
    [HISTORY_TTFT_P95] = {"ttft_p95", "95 of 100 below it", true},
    [HISTORY_TTFT_P99] = {"ttft_p99", "99 of 100 below it", true},
    [HISTORY_ITL_P50] = {"itl_p50", "seconds from token to token, median", true},
    [HISTORY_ITL_P95] = {"itl_p95", "95 of 100 below it", true},
    [HISTORY_ITL_P99] = {"itl_p99", "99 of 100 below it", true},
    [HISTORY_ERR_CLIENT] = {"err_client_s", "refused as wrong (4xx), a second", false},
    [HISTORY_ERR_DENIED] = {"err_denied_s", "without a right key (401, 403), a second", false},
    [HISTORY_ERR_BUSY] = {"err_busy_s", "sent away (429, 503), a second", false},
    [HISTORY_ERR_TIMEOUT] = {"err_timeout_s", "out of time (408, 504), a second", false},
    [HISTORY_ERR_LEFT] = {"err_left_s", "whose client left, a second", false},
    [HISTORY_ERR_SERVER] = {"err_server_s", "failed (other 5xx), a second", false},
    [HISTORY_MEMORY] = {"memory_bytes", "resident memory", true},
    [HISTORY_CPU] = {"cpu", "processor time of the machine in use, percent", false},
    [HISTORY_CPU_SELF] = {"cpu_self", "of that, this process, percent", false},
};

enum { N_ERR = HISTORY_ERR_SERVER - HISTORY_ERR_CLIENT + 1 };

/* Counters as they were at one moment. */
typedef struct Counts {
    double t, cpu_s;
    uint64_t requests, prompt_tok, new_tok, steps, queries, hits, preemptions;
    uint64_t err[N_ERR];
    double rows; /* of all steps */
} Counts;

/* Buckets of the two histograms of times. */
typedef struct Times {
    uint64_t ttft[METRICS_BOUNDS + 1], itl[METRICS_BOUNDS + 1];
} Times;

struct History {
    uint64_t n; /* samples ever taken; sample i is at i % HISTORY_LEN */
    Counts last;
    bool has_last;
    uint64_t err[N_ERR];
    uint64_t n_times;
    Times times[HISTORY_WINDOW + 1];
    HistoryRow row[HISTORY_LEN];
};

Status server__history_new(History **out, Err *e) {
    *out = mem_new(History);
    return *out ? OK : err_set(e, ERR_NOMEM, "the history of %d samples", HISTORY_LEN);
}

void server__history_free(History *h) { mem_free(h); }

/* ---- errors by kind ---- */

static HistorySeries kind_of(int status) {
    switch (status) {
    case 401:
    case 403: return HISTORY_ERR_DENIED;
    case 408:
    case 504: return HISTORY_ERR_TIMEOUT;
    case 429:
    case 503: return HISTORY_ERR_BUSY;
    case 499: return HISTORY_ERR_LEFT;
    default: return status >= 500 ? HISTORY_ERR_SERVER : HISTORY_ERR_CLIENT;
    }
}

void server__history_note(History *h, int status) {
    if (status >= 400) h->err[kind_of(status) - HISTORY_ERR_CLIENT]++;
}

uint64_t server__history_errors(const History *h) {
    uint64_t sum = 0;
    for (int i = 0; i < N_ERR; i++) sum += h->err[i];
    return sum;
}

/* ---- taking a sample ---- */

static Counts read_counts(const History *h, const HistoryNow *now) {
    const Metrics *m = now->m;
    Counts c = {.t = now->t, .cpu_s = now->cpu_s, .requests = now->n_requests};
    memcpy(c.err, h->err, sizeof c.err);
    if (!m) return c;
    c.prompt_tok = metrics_get(&m->prompt_tok);
    c.new_tok = metrics_get(&m->new_tok);
    c.steps = metrics_get(&m->steps);
    c.queries = metrics_get(&m->prefix_queries);
    c.hits = metrics_get(&m->prefix_hits);
    c.preemptions = metrics_get(&m->preemptions);
    c.rows = atomic_load_explicit(&m->iteration_tok.sum, memory_order_relaxed);
    return c;
}

static void read_buckets(uint64_t *out, const Hist *h) {
    for (int i = 0; i <= h->n; i++) out[i] = metrics_get(&h->bucket[i]);
}

/* The value below which a share q of what came between two readings of a histogram lies. */
static float quantile(const Hist *h, const uint64_t *from, const uint64_t *to, double q) {
    double count = 0, below = 0;
    for (int i = 0; i <= h->n; i++) count += (double)(to[i] - from[i]);
    if (count <= 0) return NAN;
    for (int i = 0; i < h->n; i++) {
        double here = (double)(to[i] - from[i]), low = i > 0 ? h->bound[i - 1] : 0;
        if (here > 0 && below + here >= q * count)
            return (float)(low + (h->bound[i] - low) * (q * count - below) / here);
        below += here;
    }
    return (float)h->bound[h->n - 1]; /* above all bounds: that is all that is known */
}

static void put_quantiles(History *h, float *v, const Metrics *m) {
    static const double q[3] = {0.5, 0.95, 0.99};
    Times *to = &h->times[h->n_times % (HISTORY_WINDOW + 1)];
    read_buckets(to->ttft, &m->ttft_s);
    read_buckets(to->itl, &m->itl_s);
    h->n_times++;
    uint64_t back = MIN(h->n_times, HISTORY_WINDOW + 1);
    const Times *from = &h->times[(h->n_times - back) % (HISTORY_WINDOW + 1)];
    for (int i = 0; i < 3; i++) {
        v[HISTORY_TTFT_P50 + i] = quantile(&m->ttft_s, from->ttft, to->ttft, q[i]);
        v[HISTORY_ITL_P50 + i] = quantile(&m->itl_s, from->itl, to->itl, q[i]);
    }
}

static float rate(uint64_t from, uint64_t to, double dt) {
    return to >= from ? (float)((double)(to - from) / dt) : NAN;
}

static void put_rates(float *v, const Counts *a, const Counts *b, int n_cpu) {
    double dt = b->t - a->t;
    uint64_t steps = b->steps - a->steps, queries = b->queries - a->queries;
    v[HISTORY_REQUESTS] = rate(a->requests, b->requests, dt);
    v[HISTORY_PROMPT_TOK] = rate(a->prompt_tok, b->prompt_tok, dt);
    v[HISTORY_NEW_TOK] = rate(a->new_tok, b->new_tok, dt);
    v[HISTORY_PREEMPTIONS] = rate(a->preemptions, b->preemptions, dt);
    v[HISTORY_BATCH] = steps > 0 ? (float)((b->rows - a->rows) / (double)steps) : 0;
    if (queries > 0) v[HISTORY_PREFIX_HIT] = (float)((double)(b->hits - a->hits) / (double)queries);
    for (int i = 0; i < N_ERR; i++) v[HISTORY_ERR_CLIENT + i] = rate(a->err[i], b->err[i], dt);
    v[HISTORY_CPU_SELF] = (float)(100 * (b->cpu_s - a->cpu_s) / dt / MAX(n_cpu, 1));
}

static void put_gauges(float *v, const HistoryNow *now) {
    v[HISTORY_RUNNING] = now->m ? (float)metrics_gauge(&now->m->running) : 0;
    v[HISTORY_WAITING] = now->m ? (float)metrics_gauge(&now->m->waiting) : 0;
    v[HISTORY_KV] = now->m ? (float)metrics_kv_usage(now->m) : 0;
    v[HISTORY_ACTIVE] = (float)now->n_active;
    v[HISTORY_CONNECTIONS] = (float)now->n_connections;
    v[HISTORY_MEMORY] = (float)now->rss_bytes;
    v[HISTORY_CPU] = (float)now->cpu_percent;
}

void server__history_add(History *h, const HistoryNow *now) {
    Counts c = read_counts(h, now);
    HistoryRow *row = &h->row[h->n % HISTORY_LEN];
    if (h->has_last && now->t <= h->last.t) return;
    if (h->has_last) {
        row->t = now->t;
        for (int i = 0; i < HISTORY_N; i++) row->v[i] = NAN;
        put_rates(row->v, &h->last, &c, now->n_cpu);
        put_gauges(row->v, now);
        if (now->m) put_quantiles(h, row->v, now->m);
        h->n++;
    }
    h->last = c;
    h->has_last = true;
}

/* ---- reading ---- */

void server__history_range(uint64_t *from, uint64_t *to, const History *h, int step) {
    uint64_t size = (uint64_t)step, oldest = h->n > HISTORY_LEN ? h->n - HISTORY_LEN : 0;
    *from = (oldest + size - 1) / size;
    *to = MAX(h->n / size, *from);
}

static float merged(const History *h, uint64_t first, int step, int series) {
    double sum = 0;
    float newest = NAN;
    int n = 0;
    for (int i = 0; i < step; i++) {
        float x = h->row[(first + (uint64_t)i) % HISTORY_LEN].v[series];
        if (isnan(x)) continue;
        newest = x;
        sum += (double)x;
        n++;
    }
    return n == 0 || server__history_series[series].newest ? newest : (float)(sum / n);
}

HistoryRow server__history_group(const History *h, uint64_t k, int step) {
    uint64_t first = k * (uint64_t)step;
    HistoryRow out = {.t = h->row[(first + (uint64_t)step - 1) % HISTORY_LEN].t};
    for (int i = 0; i < HISTORY_N; i++) out.v[i] = merged(h, first, step, i);
    return out;
}
