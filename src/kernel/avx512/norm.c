/* SPDX-License-Identifier: Apache-2.0
 * RMSNorm and LayerNorm of one row on AVX-512. The formulas are in ref/norm.c. */
#include <math.h>

#include "kernel/avx512/vec.h"
#include "kernel/internal.h"

static ALWAYS_INLINE void store(float *p, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(p, m, v); }

static ALWAYS_INLINE void store_add(float *p, __mmask16 m, __m512 v) {
    store(p, m, _mm512_add_ps(vec_load(p, m), v));
}

/* Sum of f(element) over a row, four chains of 16. Lanes past the end are zero in what f is given. */
typedef __m512 (*TermFn)(__m512 sum, const float *x, size_t i, __mmask16 m, __m512 mean);

static ALWAYS_INLINE __m512 term_x(__m512 sum, const float *x, size_t i, __mmask16 m, __m512 mean) {
    (void)mean;
    return _mm512_add_ps(sum, vec_load(x + i, m));
}

static ALWAYS_INLINE __m512 term_sq(__m512 sum, const float *x, size_t i, __mmask16 m,
                                    __m512 mean) {
    __m512 v = _mm512_maskz_sub_ps(m, vec_load(x + i, m), mean);
    return _mm512_fmadd_ps(v, v, sum);
}

static ALWAYS_INLINE float row_sum(TermFn term, const float *x, size_t n, float mean) {
    __m512 mv = _mm512_set1_ps(mean), s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(),
                                              _mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) s[j] = term(s[j], x, i + 16 * j, VEC_FULL, mv);
    }
    for (; i < n; i += 16) s[0] = term(s[0], x, i, vec_mask(n - i), mv);
    return vec_sum(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static void rmsnorm(float *y, float *rstd, const float *x, const float *w, int C, float eps) {
    size_t n = (size_t)C;
    float r = 1.0f / sqrtf(row_sum(term_sq, x, n, 0.0f) / (float)C + eps);
    __m512 rv = _mm512_set1_ps(r);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 h = _mm512_mul_ps(vec_load(x + i, m), rv);
        store(y + i, m, _mm512_mul_ps(h, vec_load(w + i, m)));
    }
    *rstd = r;
}

static void rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w,
                        float rstd, int C) {
    size_t n = (size_t)C;
    __m512 r = _mm512_set1_ps(rstd), s = _mm512_setzero_ps(), t = s;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 g = _mm512_mul_ps(vec_load(dy + i, m), vec_load(w + i, m));
        __m512 sum = _mm512_fmadd_ps(g, vec_load(x + i, m), s);
        s = t; /* two chains in turn */
        t = sum;
    }
    float gh = vec_sum(_mm512_add_ps(s, t)) * rstd / (float)C;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 d = vec_load(dy + i, m), h = _mm512_mul_ps(vec_load(x + i, m), r);
        __m512 g = _mm512_mul_ps(d, vec_load(w + i, m));
        __m512 u = _mm512_fnmadd_ps(h, _mm512_set1_ps(gh), g);
        store_add(dx + i, m, _mm512_mul_ps(r, u));
        store_add(dw + i, m, _mm512_mul_ps(d, h));
    }
}

static void layernorm(float *y, float *stat, const float *x, const float *w, const float *b, int C,
                      float eps) {
    size_t n = (size_t)C;
    float mean = row_sum(term_x, x, n, 0.0f) / (float)C;
    float rstd = 1.0f / sqrtf(row_sum(term_sq, x, n, mean) / (float)C + eps);
    __m512 mv = _mm512_set1_ps(mean), r = _mm512_set1_ps(rstd);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 h = _mm512_mul_ps(_mm512_sub_ps(vec_load(x + i, m), mv), r);
        __m512 bias = b ? vec_load(b + i, m) : _mm512_setzero_ps();
        store(y + i, m, _mm512_fmadd_ps(h, vec_load(w + i, m), bias));
    }
    stat[0] = mean;
    stat[1] = rstd;
}

static void layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
                          const float *w, const float *stat, int C) {
    size_t n = (size_t)C;
    __m512 mean = _mm512_set1_ps(stat[0]), r = _mm512_set1_ps(stat[1]);
    __m512 gs = _mm512_setzero_ps(), ghs = gs;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 g = _mm512_mul_ps(vec_load(dy + i, m), vec_load(w + i, m));
        __m512 h = _mm512_mul_ps(_mm512_sub_ps(vec_load(x + i, m), mean), r);
        gs = _mm512_add_ps(gs, g); /* g is 0 past the end */
        ghs = _mm512_fmadd_ps(g, h, ghs);
    }
    __m512 gm = _mm512_set1_ps(vec_sum(gs) / (float)C),
           gh = _mm512_set1_ps(vec_sum(ghs) / (float)C);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 d = vec_load(dy + i, m);
        __m512 h = _mm512_mul_ps(_mm512_sub_ps(vec_load(x + i, m), mean), r);
        __m512 g = _mm512_sub_ps(_mm512_mul_ps(d, vec_load(w + i, m)), gm);
        store_add(dx + i, m, _mm512_mul_ps(r, _mm512_fnmadd_ps(h, gh, g)));
        store_add(dw + i, m, _mm512_mul_ps(d, h));
        if (db) store_add(db + i, m, d);
    }
}

void kern_avx512_norm(Kern *k) {
    k->rmsnorm = rmsnorm;
    k->rmsnorm_bwd = rmsnorm_bwd;
    k->layernorm = layernorm;
    k->layernorm_bwd = layernorm_bwd;
}
