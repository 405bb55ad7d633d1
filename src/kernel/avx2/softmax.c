/* SPDX-License-Identifier: Apache-2.0
 * Softmax of one row and the loss on it on AVX2. Exponents are scale * x - max with one rounding, so that
 * a large scale * x costs no accuracy. */
#include <math.h>

#include "kernel/avx2/vec.h"
#include "kernel/internal.h"

/* v with what lies past the end replaced. */
static ALWAYS_INLINE __m256 within(__m256 v, size_t left, __m256 other) {
    if (LIKELY(left >= 8)) return v;
    return _mm256_blendv_ps(other, v, _mm256_castsi256_ps(vec_mask(left)));
}

/* Largest scale * x, rounded. */
static float row_max(const float *x, size_t n, float scale) {
    __m256 s = _mm256_set1_ps(scale), low = _mm256_set1_ps(-INFINITY);
    __m256 max[4] = {low, low, low, low};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            max[j] = _mm256_max_ps(max[j], _mm256_mul_ps(s, _mm256_loadu_ps(x + i + 8 * j)));
        }
    }
    for (; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(s, vec_load(x + i, n - i));
        max[0] = _mm256_max_ps(max[0], within(v, n - i, low));
    }
    return vec_max(_mm256_max_ps(_mm256_max_ps(max[0], max[1]), _mm256_max_ps(max[2], max[3])));
}

static ALWAYS_INLINE __m256 exp_step(float *x, size_t left, __m256 scale, __m256 shift) {
    __m256 e = vec_exp(_mm256_fmsub_ps(scale, vec_load(x, left), shift));
    vec_store(x, left, e);
    return within(e, left, _mm256_setzero_ps());
}

/* x = exp(scale * x - shift); returns the sum. */
static float exp_sum(float *x, size_t n, float scale, float shift) {
    __m256 s = _mm256_set1_ps(scale), h = _mm256_set1_ps(shift), zero = _mm256_setzero_ps();
    __m256 sum[4] = {zero, zero, zero, zero};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            sum[j] = _mm256_add_ps(sum[j], exp_step(x + i + 8 * j, 8, s, h));
        }
    }
    for (; i < n; i += 8) sum[0] = _mm256_add_ps(sum[0], exp_step(x + i, n - i, s, h));
    return vec_sum(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3])));
}

static void row_scale(float *x, size_t n, float s) {
    __m256 v = _mm256_set1_ps(s);
    for (size_t i = 0; i < n; i += 8) {
        vec_store(x + i, n - i, _mm256_mul_ps(vec_load(x + i, n - i), v));
    }
}

static float softmax(float *x, int n, float scale) {
    float max = row_max(x, (size_t)n, scale), sum = exp_sum(x, (size_t)n, scale, max);
    row_scale(x, (size_t)n, 1.0f / sum);
    return max + logf(sum);
}

static void exp_shift(float *x, int n, float scale, float lse) {
    __m256 s = _mm256_set1_ps(scale), h = _mm256_set1_ps(lse);
    for (int i = 0; i < n; i += 8) exp_step(x + i, (size_t)(n - i), s, h);
}

static void softmax_bwd(float *dp, const float *p, float d, float scale, int n) {
    __m256 dv = _mm256_set1_ps(d), s = _mm256_set1_ps(scale);
    for (int i = 0; i < n; i += 8) {
        size_t left = (size_t)(n - i);
        __m256 v = _mm256_mul_ps(vec_load(p + i, left), _mm256_sub_ps(vec_load(dp + i, left), dv));
        vec_store(dp + i, left, _mm256_mul_ps(v, s));
    }
}

static float xent(float *x, int n, int target, float scale) {
    float max = row_max(x, (size_t)n, 1.0f), at_target = x[target];
    float sum = exp_sum(x, (size_t)n, 1.0f, max);
    row_scale(x, (size_t)n, scale / sum);
    x[target] -= scale;
    return logf(sum) - (at_target - max);
}

void kern_avx2_softmax(Kern *k) {
    k->softmax = softmax;
    k->exp_shift = exp_shift;
    k->softmax_bwd = softmax_bwd;
    k->xent = xent;
}
