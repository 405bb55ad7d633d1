/* SPDX-License-Identifier: Apache-2.0
 * Passes over a whole row of logits, a block at a time. The inner loops have constant lengths and no
 * branches, so that they compile to vector instructions; their sums are written in lanes, so that the
 * order of additions is the one written here whatever the compiler does with it.
 *
 * exp is our own: exp(-d) = 2^-n * p(r / 8)^8 with r = n * log(2) - d, |r| <= log(2) / 2, and p the first
 * nine terms of the series. Its relative error stays under 2e-15, and it gives the same bits everywhere,
 * which no two maths libraries do. */
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

/* d[j] = how far x[j] lies below the best, cut off where exp would leave the normal numbers. */
static void block_depth(double *d, const float *x, const Law *l) {
    double best = l->best, per_temp = l->per_temp;
    for (int j = 0; j < SAMPLE_BLOCK; j++) d[j] = (best - (double)x[j]) * per_temp;
    for (int j = 0; j < SAMPLE_BLOCK; j++) d[j] = d[j] < 708 ? d[j] : 708;
}

/* d[j] = exp(-d[j]), 0 <= d[j] <= 708. Adding 1.5 * 2^52 rounds to a whole number, which then stands in the
 * lowest bits. */
static void block_exp(double *d) {
    for (int j = 0; j < SAMPLE_BLOCK; j++) {
        double shifted = d[j] * 0x1.71547652b82fep0 + 0x1.8p52, n = shifted - 0x1.8p52, scale;
        double r = ((n * 0x1.62e42fefa3800p-1 - d[j]) + n * 0x1.ef35793c76730p-45) * 0.125;
        double p = r * (1.0 / 40320) + 1.0 / 5040;
        uint64_t bits;
        p = ((p * r + 1.0 / 720) * r + 1.0 / 120) * r + 1.0 / 24;
        p = ((p * r + 1.0 / 6) * r + 0.5) * r;
        p = (p + 1) * r + 1;
        p *= p;
        p *= p;
        p *= p;
        memcpy(&bits, &shifted, sizeof bits);
        bits = (1023 - bits) << 52;
        memcpy(&scale, &bits, sizeof scale);
        d[j] = p * scale;
    }
}

/* Adding 2^52 rounds to a whole number below it, which is then the fraction's bits. */
static void block_weights(uint64_t *w, const double *p, double one) {
    for (int j = 0; j < SAMPLE_BLOCK; j++) {
        double shifted = p[j] * one + 0x1p52;
        uint64_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        w[j] = bits - UINT64_C(0x4330000000000000);
    }
}

Law sample__law(const Row *r, double temp) {
    int bits = 0;
    while (bits < 31 && (1ll << bits) < r->n) bits++;
    /* At 1e-300 and below all but ties with the best are without weight already. */
    return (Law){.best = (double)r->top,
                 .per_temp = 1 / MAX(temp, 1e-300),
                 .one = ldexp(1, MIN(51, 62 - bits))};
}

void sample__weigh(uint64_t *w, const float *x, int n, const Law *l) {
    float buf[SAMPLE_BLOCK];
    double d[SAMPLE_BLOCK];
    uint64_t full[SAMPLE_BLOCK];
    block_depth(d, block_of(buf, x, n, 0), l);
    block_exp(d);
    block_weights(full, d, l->one);
    memcpy(w, full, (size_t)n * sizeof *w);
}

uint64_t sample__sum_blocks(uint64_t *sum, const Row *r, const Law *l) {
    uint64_t total = 0, w[SAMPLE_BLOCK];
    for (int b = 0; b < r->n_block; b++) {
        int at = b * SAMPLE_BLOCK, n = MIN(SAMPLE_BLOCK, r->n - at);
        sum[b] = 0;
        if (sample__depth(l, r->peak[b]) > 40) continue; /* 2^51 * exp(-40) is below a half */
        sample__weigh(w, r->x + at, n, l);
        for (int j = 0; j < n; j++) sum[b] += w[j];
        total += sum[b];
    }
    return total;
}

double sample__log_sum_exp(const float *x, int n, float best) {
    Law l = {.best = (double)best, .per_temp = 1};
    float buf[SAMPLE_BLOCK];
    double d[SAMPLE_BLOCK], total = 0;
    for (int b = 0; b < sample__n_block(n); b++) {
        double lane[LANES] = {0};
        block_depth(d, block_of(buf, x, n, b), &l);
        block_exp(d);
        for (int i = 0; i < SAMPLE_BLOCK; i += LANES)
            for (int j = 0; j < LANES; j++) lane[j] += d[i + j];
        total += (lane[0] + lane[1]) + (lane[2] + lane[3]);
    }
    return (double)best + log(total);
}
