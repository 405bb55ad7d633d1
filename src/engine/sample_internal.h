/* SPDX-License-Identifier: Apache-2.0
 * Shared by the sampler's files: sample.c (options, one token), sample_row.c (passes over a whole row),
 * sample_cut.c (candidates, cuts, the draw), sample_hist.c (counts of tokens). */
#ifndef INGOT_ENGINE_SAMPLE_INTERNAL_H
#define INGOT_ENGINE_SAMPLE_INTERNAL_H

#include "engine/sample.h"

enum { SAMPLE_BLOCK = KERN_LOGITS }; /* logits that are looked at together */

/* A token that may be chosen. */
typedef struct Cand {
    uint64_t key; /* greater comes first; equal keys: lower id first */
    uint64_t w;   /* weight, see Law */
    float logit;
    int32_t id;
} Cand;

struct Sampler {
    const Kern *kern; /* borrowed */
    Cand *cand;       /* [n_vocab] */
    uint64_t *sum;    /* [blocks] weights of a block */
    float *row;       /* [n_vocab] adjusted logits */
    float *peak;      /* [blocks] greatest logit of a block */
};

/* A row that was looked through. */
typedef struct Row {
    const float *x; /* borrowed */
    const float *peak;
    int n, n_block;
    int32_t best; /* lowest id of the greatest logit */
    float top;    /* that logit: finite */
} Row;

/* A token's weight is round(exp((logit - best) / temp) * one): whole numbers, so that sums do not depend on
 * their order. `one` is the greatest power of two that lets a vocabulary's weights add up in 62 bits. */
typedef struct Law {
    const Kern *kern;
    float best, per_temp;
    double one;
} Law;

static inline int sample__n_block(int n) { return (n + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK; }

/* Peaks (NULL: not wanted) and best of x. ERR_INTERNAL: NaN or +inf. All -inf: best = -1, which is for the
 * caller to refuse. */
MUST_CHECK Status sample__look(Row *r, const float *x, int n, float *peak, Err *e);
Law sample__law(const Kern *k, const Row *r, double temp);
/* How far below the best, in units of temperature, a logit lies. */
static inline double sample__depth(const Law *l, float logit) {
    return ((double)l->best - (double)logit) * (double)l->per_temp;
}
/* w[n] of x[n], n <= SAMPLE_BLOCK; the same logit gives the same weight wherever it stands. */
void sample__weigh(uint64_t *w, const float *x, int n, const Law *l);
/* sum[block] of the row's weights; their total. */
uint64_t sample__sum_blocks(uint64_t *sum, const Row *r, const Law *l);
/* log(sum(exp(x))) to a few units in the last place. */
double sample__log_sum_exp(const Kern *k, const float *x, int n, float best);
/* 1 + how many tokens come before id. */
int sample__rank(const float *x, int n, int32_t id);

/* Steps 4 to 9 of sample.h; u in [0, 1). */
int32_t sample__draw(const Row *r, const SampleOpts *o, double u, const Sampler *s);
/* The k best of a row, best first, in s->cand; k <= 64. */
void sample__best(const Row *r, int k, const Sampler *s);

/* Penalties of the options applied to row[n]. */
void sample__penalize(float *row, int n, const SampleHist *h, const SampleOpts *o);
/* y as a logit: held within the finite floats, so that what was a number stays one. -inf stays. */
float sample__as_logit(double y);

#endif
