/* SPDX-License-Identifier: Apache-2.0
 * What the engine tells of itself: gauges, counters and histograms, in one plain struct that exporters read
 * while the engine writes. Names and buckets follow vLLM's V1 metrics, so that dashboards fit; what is here
 * as `prefix_hits` leaves an exporter as vllm:prefix_cache_hits_total.
 *
 * Who writes: the engine thread; `running`, `waiting`, `waiting_tok` and `refused` whoever holds the engine's
 * lock. Nobody else does, so a write is a plain load and store, both relaxed, and costs no locked instruction.
 *
 * What a reader may see: every number whole and as it was at some moment, counters never going back. Numbers of
 * one request may be from different moments (its tokens counted, its end not yet; a histogram's sum with one
 * value more or less than its buckets). Whoever was told by on_done that a request is over sees all that was
 * counted for it.
 *
 * Intervals of a request: arrival (submit), scheduled (the first step with a row of it), first and last token
 * (the end of the step that brought them). Requests that bring no tokens: the end of the step that completed
 * them stands for both. */
#ifndef INGOT_ENGINE_METRICS_H
#define INGOT_ENGINE_METRICS_H

#include <stdatomic.h>

#include "base/platform.h"

enum {
    METRICS_BOUNDS = 24,  /* of a histogram, at most */
    METRICS_FINISH = 5,   /* values of FinishReason */
    METRICS_SPEC_POS = 32 /* places of a draft that are counted one by one */
};

/* A histogram with fixed bounds. bucket[i] counts values v with bound[i-1] < v <= bound[i], the last one those
 * above all bounds: not cumulative. */
typedef struct Hist {
    const double *bound; /* [const] static */
    int n;               /* [const] bounds */
    _Atomic uint64_t bucket[METRICS_BOUNDS + 1];
    _Atomic double sum;
} Hist;

/* A histogram as it was read: buckets cumulative, as exporters give them. */
typedef struct HistView {
    const double *bound;
    int n;
    uint64_t upto[METRICS_BOUNDS]; /* values <= bound[i] */
    uint64_t count;
    double sum;
} HistView;

typedef struct Metrics {
    /* gauges */
    _Atomic int running, waiting; /* requests */
    _Atomic int
        waiting_deferred; /* of those: until another's prompt is read; the others need room */
    _Atomic int64_t waiting_tok; /* prompt tokens of those that wait */
    _Atomic int blocks_used;     /* of the KV cache, held by running requests */
    _Atomic int blocks_cached;   /* findable by their prefix, held or not */
    int blocks, block_tok;       /* [const] the cache's blocks, tokens of one */
    _Atomic int64_t left_tok;    /* that running requests may still take */
    _Atomic uint64_t tok_s;      /* rows a second, over the last steps */

    /* counters */
    _Atomic uint64_t steps;
    _Atomic uint64_t refused;                       /* requests that found the queue full */
    _Atomic uint64_t prefix_queries, prefix_hits;   /* tokens looked up at admission, found */
    _Atomic uint64_t resumed_queries, resumed_hits; /* the same after a preemption */
    _Atomic uint64_t preemptions;
    _Atomic uint64_t prompt_tok; /* of requests whose prompt was read to its end */
    _Atomic uint64_t prompt_tok_computed, prompt_tok_cached; /* by source; they add up to it */
    _Atomic uint64_t prompt_rows; /* prompt tokens that went through the model, again included */
    _Atomic uint64_t new_tok;     /* generated */
    _Atomic uint64_t finished[METRICS_FINISH]; /* by FinishReason */
    _Atomic uint64_t spec_drafts;              /* times tokens were proposed */
    _Atomic uint64_t spec_draft_tok, spec_accepted_tok;
    _Atomic uint64_t spec_accepted_at[METRICS_SPEC_POS]; /* drafts whose token i was accepted */

    /* histograms of steps and tokens */
    Hist iteration_tok; /* rows of a step */
    Hist ttft_s;        /* arrival to first token */
    Hist itl_s;         /* between steps that brought tokens to a request */
    /* of requests that ended by an end token or their length; the others are in `finished` alone */
    Hist e2e_s;       /* arrival to end */
    Hist queue_s;     /* arrival to scheduled */
    Hist inference_s; /* scheduled to last token */
    Hist prefill_s;   /* scheduled to first token */
    Hist decode_s;    /* first to last token */
    Hist tpot_s;      /* decode / (new tokens - 1), where there are two */
    Hist prompt_len, new_len;
    Hist prefill_computed; /* prompt tokens not found in the prefix cache */
    Hist params_n, params_max_tok;
} Metrics;

/* When a request came, was scheduled, brought tokens; 0: not yet. Seconds of one clock. */
typedef struct ReqTimes {
    double arrival, scheduled, first, last;
} ReqTimes;

/* What is known of a request at its end. */
typedef struct ReqFacts {
    ReqTimes t;
    int n_prompt, n_cached, n_new; /* tokens */
    int n, max_new;                /* as asked for */
} ReqFacts;

/* All zero, bounds of lengths up to max_ctx. */
void metrics_init(Metrics *m, int n_blocks, int block_tok, int max_ctx);

/* ---- writing: see above who may ---- */
static inline void metrics_add(_Atomic uint64_t *c, uint64_t n) {
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void metrics_set(_Atomic int *g, int v) {
    atomic_store_explicit(g, v, memory_order_relaxed);
}
void metrics_observe(Hist *h, double v);
/* A token (or several) at `now`, to a request with these times, which are brought up to date. */
void metrics_tokens(Metrics *m, ReqTimes *t, int n, double now);
/* A prompt was read to its end, n_cached tokens of it from the prefix cache. */
void metrics_prompt(Metrics *m, int n_prompt, int n_cached);
/* The end of a request; complete: it was not cut short. */
void metrics_finish(Metrics *m, int reason, bool complete, const ReqFacts *f, double now);

/* ---- reading: any thread ---- */
static inline uint64_t metrics_get(const _Atomic uint64_t *c) {
    return atomic_load_explicit(c, memory_order_relaxed);
}
static inline int metrics_gauge(const _Atomic int *g) {
    return atomic_load_explicit(g, memory_order_relaxed);
}
/* Share of the KV cache's blocks that are held, 0 .. 1. */
double metrics_kv_usage(const Metrics *m);
HistView metrics_hist(const Hist *h);

#endif
