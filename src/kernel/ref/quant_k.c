/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks of 256 (k-types), by definition: the rules of the format's reference quantizer, byte for
 * byte. In three steps: each group of 32 (16) finds its scale and min with a search (kernel/quant_fit.h);
 * these are rounded to small integers times one or two f16 numbers of the block; the elements are rounded
 * again with what the scales have become. A group whose scale became 0 keeps what its search found.
 *
 *   q4_K, q5_K  an element weighs rms of its group + |x|; with importance w sqrt(2 mean square of the block
 *               + x^2), more scales are tried, and the groups' scales and mins are searched for as well
 *   q6_K        an element weighs x^2, with importance w */
#include <math.h>
#include <string.h>

#include "kernel/internal.h"
#include "kernel/quant_pack.h"
#include "tensor/half.h"

const FitSteps kern_fit_q4_K = {.first = -1.0f, .step = 0.1f, .last = 20};
const FitSteps kern_fit_q5_K = {.first = -0.5f, .step = 0.1f, .last = 15};

static float sum_square(const float *x, int n) {
    float sum = 0.0f;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

/* ---- q4_K, q5_K ---- */

/* What the two types have in common: everything but the bits of an element. */
typedef struct Super {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t q[QK_K];
} Super;

static void plain_weights(float ew[GROUP], const float *x) {
    float rms = sqrtf(sum_square(x, GROUP) / (float)GROUP);
    for (int i = 0; i < GROUP; i++) ew[i] = rms + fabsf(x[i]);
}

static void element_weights(float ew[GROUP], const float *x, const float *w, float square) {
    for (int i = 0; i < GROUP; i++) ew[i] = w[i] * sqrtf(square + x[i] * x[i]);
}

static void requantize(Super *s, const float *x, int top) {
    float d = half_f16_to_f32(s->d), dmin = half_f16_to_f32(s->dmin);
    for (int j = 0; j < GROUPS; j++) {
        float scale = d * (float)block_scale(s->scales, j);
        float min = dmin * (float)block_min(s->scales, j);
        if (scale == 0.0f) continue;
        for (int i = j * GROUP; i < (j + 1) * GROUP; i++) {
            int l = fit_nearest((x[i] + min) / scale);
            s->q[i] = (uint8_t)MAX(0, MIN(top, l));
        }
    }
}

static void super_plain(Super *s, const float *x, int top, const FitSteps *steps) {
    float scale[GROUPS], min[GROUPS], ew[GROUP];
    uint8_t ls[GROUPS], lm[GROUPS];
    for (int j = 0; j < GROUPS; j++) {
        const float *xj = x + j * GROUP;
        plain_weights(ew, xj);
        scale[j] = kern_ref_fit_affine(s->q + j * GROUP, &min[j], xj, ew, GROUP, top, steps);
    }
    s->d = half_f32_to_f16(pack_round_scales(ls, scale));
    s->dmin = half_f32_to_f16(pack_round_scales(lm, min));
    pack_scales(s->scales, ls, lm);
    requantize(s, x, top);
}

static void super_weighted(Super *s, const float *x, const float *w, int top, bool hold) {
    float scale[GROUPS], min[GROUPS], sum_w[GROUPS], ew[GROUP];
    uint8_t ls[GROUPS], lm[GROUPS];
    float square = 2.0f * sum_square(x, QK_K) / (float)QK_K;
    for (int j = 0; j < GROUPS; j++) {
        const float *xj = x + j * GROUP;
        element_weights(ew, xj, w + j * GROUP, square);
        sum_w[j] = 0.0f;
        for (int i = 0; i < GROUP; i++) sum_w[j] += ew[i];
        scale[j] =
            kern_ref_fit_affine(s->q + j * GROUP, &min[j], xj, ew, GROUP, top, &kern_fit_weighted);
    }
    s->d = half_f32_to_f16(kern_ref_fit_scales(ls, scale, sum_w, GROUPS));
    s->dmin = half_f32_to_f16(kern_ref_fit_scales(lm, min, sum_w, GROUPS));
    for (int j = 0; hold && j < GROUPS; j++) {
        ls[j] = MIN(ls[j], 63);
        lm[j] = MIN(lm[j], 63);
    }
    pack_scales(s->scales, ls, lm);
    requantize(s, x, top);
}

static void q4_K_one(void *y, const float *x, const float *w) {
    BlockQ4_K *b = y;
    Super s;
    if (w) super_weighted(&s, x, w, 15, false);
    else super_plain(&s, x, 15, &kern_fit_q4_K);
    b->d = s.d;
    b->dmin = s.dmin;
    memcpy(b->scales, s.scales, sizeof b->scales);
    pack_k_nibbles(b->qs, s.q);
}

static void q5_K_one(void *y, const float *x, const float *w) {
    BlockQ5_K *b = y;
    Super s;
    if (w) super_weighted(&s, x, w, 31, true);
    else super_plain(&s, x, 31, &kern_fit_q5_K);
    b->d = s.d;
    b->dmin = s.dmin;
    memcpy(b->scales, s.scales, sizeof b->scales);
    pack_k_nibbles(b->qs, s.q);
    pack_k_fifths(b->qh, s.q);
}

/* ---- q6_K ---- */

/* The first scale of largest magnitude, with its sign. */
static float first_greatest(const float *x, int n) {
    float amax = 0.0f, max = 0.0f;
    for (int i = 0; i < n; i++) {
        if (fabsf(x[i]) <= amax) continue;
        amax = fabsf(x[i]);
        max = x[i];
    }
    return max;
}

static void requantize6(uint8_t *q, const BlockQ6_K *b, const float *x) {
    float d = half_f16_to_f32(b->d);
    for (int j = 0; j < GROUPS6; j++) {
        float scale = d * (float)b->scales[j];
        if (scale == 0.0f) continue;
        for (int i = j * GROUP6; i < (j + 1) * GROUP6; i++) {
            int l = fit_nearest(x[i] / scale);
            q[i] = (uint8_t)(MAX(-32, MIN(31, l)) + 32);
        }
    }
}

static void q6_K_one(void *y, const float *x, const float *w) {
    BlockQ6_K *b = y;
    uint8_t q[QK_K];
    float scale[GROUPS6];
    for (int j = 0; j < GROUPS6; j++) {
        int at = j * GROUP6;
        scale[j] = kern_ref_fit_symmetric(q + at, x + at, w ? w + at : NULL, GROUP6, 32);
    }
    float max = first_greatest(scale, GROUPS6);
    memset(b, 0, sizeof *b);
    if (fabsf(max) < FIT_TINY) return;
    float inverse = -128.0f / max;
    b->d = half_f32_to_f16(1.0f / inverse);
    for (int j = 0; j < GROUPS6; j++)
        b->scales[j] = (int8_t)MIN(127, fit_nearest(inverse * scale[j]));
    requantize6(q, b, x);
    pack_q6(b, q);
}

/* ---- rows ---- */

typedef void (*BlockFn)(void *y, const float *x, const float *w);

static void rows_of(BlockFn one, size_t bytes, void *y, const float *x, const float *w, size_t rows,
                    size_t cols) {
    char *out = y;
    for (size_t r = 0; r < rows; r++, x += cols) {
        for (size_t i = 0; i < cols; i += QK_K, out += bytes) one(out, x + i, w ? w + i : NULL);
    }
}

static void q4_K_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q4_K_one, sizeof(BlockQ4_K), y, x, w, rows, cols);
}

static void q4_K_from_f32(void *y, const float *x, size_t n) { q4_K_quant(y, x, NULL, 1, n); }

static void q5_K_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q5_K_one, sizeof(BlockQ5_K), y, x, w, rows, cols);
}

static void q5_K_from_f32(void *y, const float *x, size_t n) { q5_K_quant(y, x, NULL, 1, n); }

static void q6_K_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q6_K_one, sizeof(BlockQ6_K), y, x, w, rows, cols);
}

static void q6_K_from_f32(void *y, const float *x, size_t n) { q6_K_quant(y, x, NULL, 1, n); }

void kern_ref_quant_k(Kern *k) {
    k->from_f32[DT_Q4_K] = q4_K_from_f32;
    k->from_f32[DT_Q5_K] = q5_K_from_f32;
    k->from_f32[DT_Q6_K] = q6_K_from_f32;
    k->quant[DT_Q4_K] = q4_K_quant;
    k->quant[DT_Q5_K] = q5_K_quant;
    k->quant[DT_Q6_K] = q6_K_quant;
}
