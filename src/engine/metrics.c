/* SPDX-License-Identifier: Apache-2.0
 * Tables of bounds, and the few moments in a request's life at which its numbers are written. */
#include "engine/metrics.h"

#include <string.h>

static const double lengths[] = {1,   2,   5,   10,  20,  50,  100, 200, 500, 1e3, 2e3,
                                 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7};
static const double answers[] = {1, 2, 5, 10, 20};
static const double rows[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
static const double first_token[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                     1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
static const double between[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                 .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
static const double whole[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                               30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};

_Static_assert(COUNT_OF(lengths) <= METRICS_BOUNDS && COUNT_OF(first_token) <= METRICS_BOUNDS &&
                   COUNT_OF(whole) <= METRICS_BOUNDS,
               "the longest tables fit");

#define BOUNDS(h, table) ((h)->bound = (table), (h)->n = (int)COUNT_OF(table))

/* The series 1, 2, 5, 10 .. up to max. */
static void bound_lengths(Hist *h, int max) {
    BOUNDS(h, lengths);
    while (h->n > 1 && lengths[h->n - 1] > max) h->n--;
}

void metrics_init(Metrics *m, int n_blocks, int block_tok, int max_ctx) {
    Hist *const of_length[] = {&m->prompt_len, &m->new_len, &m->prefill_computed,
                               &m->params_max_tok};
    Hist *const of_whole[] = {&m->e2e_s, &m->queue_s, &m->inference_s, &m->prefill_s, &m->decode_s};
    memset(m, 0, sizeof *m);
    m->blocks = n_blocks;
    m->block_tok = block_tok;
    for (size_t i = 0; i < COUNT_OF(of_length); i++) bound_lengths(of_length[i], max_ctx);
    for (size_t i = 0; i < COUNT_OF(of_whole); i++) BOUNDS(of_whole[i], whole);
    BOUNDS(&m->params_n, answers);
    BOUNDS(&m->iteration_tok, rows);
    BOUNDS(&m->ttft_s, first_token);
    BOUNDS(&m->itl_s, between);
    BOUNDS(&m->tpot_s, between);
}

void metrics_observe(Hist *h, double v) {
    int i = 0;
    while (i < h->n && v > h->bound[i]) i++;
    metrics_add(&h->bucket[i], 1);
    atomic_store_explicit(&h->sum, atomic_load_explicit(&h->sum, memory_order_relaxed) + v,
                          memory_order_relaxed);
}

void metrics_tokens(Metrics *m, ReqTimes *t, int n, double now) {
    metrics_add(&m->new_tok, (uint64_t)n);
    if (t->first <= 0.0) {
        t->first = now;
        metrics_observe(&m->ttft_s, now - t->arrival);
    } else if (now > t->last) { /* tokens of the same step have no gap between them */
        metrics_observe(&m->itl_s, now - t->last);
    }
    t->last = now;
}

void metrics_prompt(Metrics *m, int n_prompt, int n_cached) {
    metrics_add(&m->prompt_tok_cached, (uint64_t)n_cached);
    metrics_add(&m->prompt_tok_computed, (uint64_t)(n_prompt - n_cached));
    metrics_add(&m->prompt_tok, (uint64_t)n_prompt);
}

void metrics_finish(Metrics *m, int reason, bool complete, const ReqFacts *f, double now) {
    ReqTimes t = f->t;
    metrics_add(&m->finished[reason], 1);
    if (!complete) return;
    if (t.first <= 0.0) t.first = t.last = now;
    metrics_observe(&m->e2e_s, now - t.arrival);
    metrics_observe(&m->queue_s, t.scheduled - t.arrival);
    metrics_observe(&m->inference_s, t.last - t.scheduled);
    metrics_observe(&m->prefill_s, t.first - t.scheduled);
    metrics_observe(&m->decode_s, t.last - t.first);
    if (f->n_new > 1) metrics_observe(&m->tpot_s, (t.last - t.first) / (f->n_new - 1));
    metrics_observe(&m->prompt_len, f->n_prompt);
    metrics_observe(&m->new_len, f->n_new);
    metrics_observe(&m->prefill_computed, f->n_prompt - f->n_cached);
    if (f->n > 0) metrics_observe(&m->params_n, f->n);
    metrics_observe(&m->params_max_tok, f->max_new);
}

double metrics_kv_usage(const Metrics *m) {
    return m->blocks ? (double)metrics_gauge(&m->blocks_used) / m->blocks : 0.0;
}

HistView metrics_hist(const Hist *h) {
    HistView v = {.bound = h->bound, .n = h->n};
    for (int i = 0; i <= h->n; i++) {
        v.count += metrics_get(&h->bucket[i]);
        if (i < h->n) v.upto[i] = v.count;
    }
    v.sum = atomic_load_explicit(&h->sum, memory_order_relaxed);
    return v;
}
