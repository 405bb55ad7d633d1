/* SPDX-License-Identifier: Apache-2.0
 * RMSNorm and LayerNorm of one row on AVX2. The formulas are in ref/norm.c. */
#include <math.h>

#include "kernel/avx2/vec.h"
#include "kernel/internal.h"

static ALWAYS_INLINE void store_add(float *p, size_t left, __m256 v) {
    vec_store(p, left, _mm256_add_ps(vec_load(p, left), v));
}

/* Sum of f(element) over a row, four chains of 8. */
typedef __m256 (*TermFn)(__m256 sum, const float *x, size_t left, __m256 mean);

static ALWAYS_INLINE __m256 term_x(__m256 sum, const float *x, size_t left, __m256 mean) {
    (void)mean;
    return _mm256_add_ps(sum, vec_load(x, left));
}

static ALWAYS_INLINE __m256 term_sq(__m256 sum, const float *x, size_t left, __m256 mean) {
    __m256 v = _mm256_sub_ps(vec_load(x, left), mean);
    if (left < 8) v = _mm256_and_ps(v, _mm256_castsi256_ps(vec_mask(left)));
    return _mm256_fmadd_ps(v, v, sum);
}

static ALWAYS_INLINE float row_sum(TermFn term, const float *x, size_t n, float mean) {
    __m256 mv = _mm256_set1_ps(mean), s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(),
                                              _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) s[j] = term(s[j], x + i + 8 * j, 8, mv);
    }
    for (; i < n; i += 8) s[0] = term(s[0], x + i, n - i, mv);
    return vec_sum(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static void rmsnorm(float *y, float *rstd, const float *x, const float *w, int C, float eps) {
    size_t n = (size_t)C;
    float r = 1.0f / sqrtf(row_sum(term_sq, x, n, 0.0f) / (float)C + eps);
    __m256 rv = _mm256_set1_ps(r);
    for (size_t i = 0; i < n; i += 8) {
        __m256 h = _mm256_mul_ps(vec_load(x + i, n - i), rv);
        vec_store(y + i, n - i, _mm256_mul_ps(h, vec_load(w + i, n - i)));
    }
    *rstd = r;
}

static void rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w,
                        float rstd, int C) {
    size_t n = (size_t)C;
    __m256 r = _mm256_set1_ps(rstd), s = _mm256_setzero_ps(), t = s;
    for (size_t i = 0; i < n; i += 8) {
        __m256 g = _mm256_mul_ps(vec_load(dy + i, n - i), vec_load(w + i, n - i));
        __m256 sum = _mm256_fmadd_ps(g, vec_load(x + i, n - i), s);
        s = t; /* two chains in turn */
        t = sum;
    }
    float gh = vec_sum(_mm256_add_ps(s, t)) * rstd / (float)C;
    for (size_t i = 0; i < n; i += 8) {
        size_t left = n - i;
        __m256 d = vec_load(dy + i, left), h = _mm256_mul_ps(vec_load(x + i, left), r);
        __m256 g = _mm256_mul_ps(d, vec_load(w + i, left));
        __m256 u = _mm256_fnmadd_ps(h, _mm256_set1_ps(gh), g);
        store_add(dx + i, left, _mm256_mul_ps(r, u));
        store_add(dw + i, left, _mm256_mul_ps(d, h));
    }
}

static void layernorm(float *y, float *stat, const float *x, const float *w, const float *b, int C,
                      float eps) {
    size_t n = (size_t)C;
    float mean = row_sum(term_x, x, n, 0.0f) / (float)C;
    float rstd = 1.0f / sqrtf(row_sum(term_sq, x, n, mean) / (float)C + eps);
    __m256 mv = _mm256_set1_ps(mean), r = _mm256_set1_ps(rstd);
    for (size_t i = 0; i < n; i += 8) {
        __m256 h = _mm256_mul_ps(_mm256_sub_ps(vec_load(x + i, n - i), mv), r);
        __m256 bias = b ? vec_load(b + i, n - i) : _mm256_setzero_ps();
        vec_store(y + i, n - i, _mm256_fmadd_ps(h, vec_load(w + i, n - i), bias));
    }
    stat[0] = mean;
    stat[1] = rstd;
}

static void layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
                          const float *w, const float *stat, int C) {
    size_t n = (size_t)C;
    __m256 mean = _mm256_set1_ps(stat[0]), r = _mm256_set1_ps(stat[1]);
    __m256 gs = _mm256_setzero_ps(), ghs = gs;
    for (size_t i = 0; i < n; i += 8) {
        __m256 g = _mm256_mul_ps(vec_load(dy + i, n - i), vec_load(w + i, n - i));
        __m256 h = _mm256_mul_ps(_mm256_sub_ps(vec_load(x + i, n - i), mean), r);
        gs = _mm256_add_ps(gs, g); /* g is 0 past the end */
        ghs = _mm256_fmadd_ps(g, h, ghs);
    }
    __m256 gm = _mm256_set1_ps(vec_sum(gs) / (float)C),
           gh = _mm256_set1_ps(vec_sum(ghs) / (float)C);
    for (size_t i = 0; i < n; i += 8) {
        size_t left = n - i;
        __m256 d = vec_load(dy + i, left);
        __m256 h = _mm256_mul_ps(_mm256_sub_ps(vec_load(x + i, left), mean), r);
        __m256 g = _mm256_sub_ps(_mm256_mul_ps(d, vec_load(w + i, left)), gm);
        store_add(dx + i, left, _mm256_mul_ps(r, _mm256_fnmadd_ps(h, gh, g)));
        store_add(dw + i, left, _mm256_mul_ps(d, h));
        if (db) store_add(db + i, left, d);
    }
}

void kern_avx2_norm(Kern *k) {
    k->rmsnorm = rmsnorm;
    k->rmsnorm_bwd = rmsnorm_bwd;
    k->layernorm = layernorm;
    k->layernorm_bwd = layernorm_bwd;
}
