/* SPDX-License-Identifier: Apache-2.0
 * Softmax of one row and the loss on it on AVX-512. Exponents are scale * x - max with one rounding, so
 * that a large scale * x costs no accuracy. */
#include <math.h>

#include "kernel/avx512/vec.h"
#include "kernel/internal.h"

static ALWAYS_INLINE void store(float *p, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(p, m, v); }

/* Largest scale * x, rounded. */
static float row_max(const float *x, size_t n, float scale) {
    __m512 s = _mm512_set1_ps(scale), low = _mm512_set1_ps(-INFINITY);
    __m512 max[4] = {low, low, low, low};
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            max[j] = _mm512_max_ps(max[j], _mm512_mul_ps(s, _mm512_loadu_ps(x + i + 16 * j)));
        }
    }
    for (; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        max[0] = _mm512_mask_max_ps(max[0], m, max[0], _mm512_mul_ps(s, vec_load(x + i, m)));
    }
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3])));
}

static ALWAYS_INLINE __m512 exp_step(float *x, __mmask16 m, __m512 scale, __m512 shift) {
    __m512 e = vec_exp(_mm512_fmsub_ps(scale, vec_load(x, m), shift));
    store(x, m, e);
    return e;
}

/* x = exp(scale * x - shift); returns the sum. */
static float exp_sum(float *x, size_t n, float scale, float shift) {
    __m512 s = _mm512_set1_ps(scale), h = _mm512_set1_ps(shift);
    __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        sum0 = _mm512_add_ps(sum0, exp_step(x + i, VEC_FULL, s, h));
        sum1 = _mm512_add_ps(sum1, exp_step(x + i + 16, VEC_FULL, s, h));
    }
    for (; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        sum0 = _mm512_mask_add_ps(sum0, m, sum0, exp_step(x + i, m, s, h));
    }
    return vec_sum(_mm512_add_ps(sum0, sum1));
}

static void row_scale(float *x, size_t n, float s) {
    __m512 v = _mm512_set1_ps(s);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        store(x + i, m, _mm512_mul_ps(vec_load(x + i, m), v));
    }
}

static float softmax(float *x, int n, float scale) {
    float max = row_max(x, (size_t)n, scale), sum = exp_sum(x, (size_t)n, scale, max);
    row_scale(x, (size_t)n, 1.0f / sum);
    return max + logf(sum);
}

static void exp_shift(float *x, int n, float scale, float lse) {
    __m512 s = _mm512_set1_ps(scale), h = _mm512_set1_ps(lse);
    for (int i = 0; i < n; i += 16) exp_step(x + i, vec_mask((size_t)(n - i)), s, h);
}

static void softmax_bwd(float *dp, const float *p, float d, float scale, int n) {
    __m512 dv = _mm512_set1_ps(d), s = _mm512_set1_ps(scale);
    for (int i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask((size_t)(n - i));
        __m512 v = _mm512_mul_ps(vec_load(p + i, m), _mm512_sub_ps(vec_load(dp + i, m), dv));
        store(dp + i, m, _mm512_mul_ps(v, s));
    }
}

static float xent(float *x, int n, int target, float scale) {
    float max = row_max(x, (size_t)n, 1.0f), at_target = x[target];
    float sum = exp_sum(x, (size_t)n, 1.0f, max);
    row_scale(x, (size_t)n, scale / sum);
    x[target] -= scale;
    return logf(sum) - (at_target - max);
}

void kern_avx512_softmax(Kern *k) {
    k->softmax = softmax;
    k->exp_shift = exp_shift;
    k->softmax_bwd = softmax_bwd;
    k->xent = xent;
}
