/* SPDX-License-Identifier: Apache-2.0
 * Passes over a whole row of logits, a block at a time. Sums of weights are sums of whole numbers, the others are
 * written in lanes, so that the order of additions is the one written here whatever the compiler does with it. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/sample_internal.h"

enum { LANES = 4 };

/* Block b of x, filled up with -inf in buf where the row ends. */
static const float *block_of(float *buf, const float *x, int n, int b) {
    int at = b * SAMPLE_BLOCK, len = MIN(SAMPLE_BLOCK, n - at);
    if (len == SAMPLE_BLOCK) return x + at;
    for (int j = 0; j < SAMPLE_BLOCK; j++) buf[j] = j < len ? x[at + j] : -INFINITY;
    return buf;
}

/* ---- greatest logits ---- */

/* The greatest of x[SAMPLE_BLOCK]; *bad is set if one is NaN or +inf. */
static float block_peak(const float *x, int *bad) {
    float a[LANES], b[LANES];
    int odd[LANES] = {0};
    for (int j = 0; j < LANES; j++) a[j] = b[j] = -INFINITY;
    for (int i = 0; i < SAMPLE_BLOCK; i += 2 * LANES) {
        const float *y = x + i, *z = x + i + LANES;
        for (int j = 0; j < LANES; j++) a[j] = y[j] > a[j] ? y[j] : a[j];
        for (int j = 0; j < LANES; j++) b[j] = z[j] > b[j] ? z[j] : b[j];
        for (int j = 0; j < LANES; j++) odd[j] |= !(y[j] <= FLT_MAX) | !(z[j] <= FLT_MAX);
    }
    for (int j = 0; j < LANES; j++) {
        a[0] = a[j] > a[0] ? a[j] : a[0];
        a[0] = b[j] > a[0] ? b[j] : a[0];
        *bad |= odd[j];
    }
    return a[0];
}

static Status bad_logit(const float *x, int n, Err *e) {
    int i = 0;
    while (i < n - 1 && x[i] <= FLT_MAX) i++;
    return err_set(e, ERR_INTERNAL, "logit of token %d is %g: the model's weights are broken", i,
                   (double)x[i]);
}

Status sample__look(Row *r, const float *x, int n, float *peak, Err *e) {
    float buf[SAMPLE_BLOCK], best = -INFINITY;
    int bad = 0, n_block = sample__n_block(n), at = -1;
    for (int b = 0; b < n_block; b++) {
        float p = block_peak(block_of(buf, x, n, b), &bad);
        if (peak) peak[b] = p;
        if (p <= best) continue;
        best = p;
        at = b * SAMPLE_BLOCK;
    }
    if (bad) return bad_logit(x, n, e);
    while (at >= 0 && x[at] != best) at++;
    *r = (Row){.x = x, .peak = peak, .n = n, .n_block = n_block, .best = at, .top = best};
    return OK;
}

int sample__rank(const float *x, int n, int32_t id) {
    float own = x[id];
    int rank = 1;
    for (int i = 0; i < n; i++) rank += (x[i] > own) | ((x[i] == own) & (i < id));
    return rank;
}

/* ---- weights ---- */

Law sample__law(const Kern *k, const Row *r, double temp) {
    int bits = 0;
    while (bits < 31 && (1ll << bits) < r->n) bits++;
    /* At 1e-38 and below all but ties with the best are without weight already. */
    return (Law){.kern = k,
                 .best = r->top,
                 .per_temp = (float)(1 / MAX(temp, 1e-38)),
                 .one = ldexp(1, MIN(51, 62 - bits))};
}

static uint64_t weigh_block(uint64_t w[SAMPLE_BLOCK], const float *x, int n, int b, const Law *l) {
    float buf[SAMPLE_BLOCK];
    return l->kern->weigh(w, block_of(buf, x, n, b), l->best, l->per_temp, l->one);
}

void sample__weigh(uint64_t *w, const float *x, int n, const Law *l) {
    uint64_t full[SAMPLE_BLOCK];
    weigh_block(full, x, n, 0, l);
    memcpy(w, full, (size_t)n * sizeof *w);
}

uint64_t sample__sum_blocks(uint64_t *sum, const Row *r, const Law *l) {
    uint64_t total = 0, w[SAMPLE_BLOCK];
    for (int b = 0; b < r->n_block; b++) {
        /* 2^51 * exp(-40) is below a half */
        bool counts = sample__depth(l, r->peak[b]) <= 40;
        sum[b] = counts ? weigh_block(w, r->x, r->n, b, l) : 0;
        total += sum[b];
    }
    return total;
}

double sample__log_sum_exp(const Kern *k, const float *x, int n, float best) {
    float buf[SAMPLE_BLOCK];
    double d[SAMPLE_BLOCK], total = 0;
    for (int b = 0; b < sample__n_block(n); b++) {
        double lane[LANES] = {0};
        k->exp_below(d, block_of(buf, x, n, b), (double)best, 1);
        for (int i = 0; i < SAMPLE_BLOCK; i += LANES)
            for (int j = 0; j < LANES; j++) lane[j] += d[i + j];
        total += (lane[0] + lane[1]) + (lane[2] + lane[3]);
    }
    return (double)best + log(total);
}
