/* SPDX-License-Identifier: Apache-2.0
 * AdamW on AVX-512. */
#include "kernel/avx512/vec.h"
#include "kernel/internal.h"

static void adamw(float *p, float *m, float *v, const float *g, size_t n, const AdamwArgs *a) {
    const __m512 b1 = _mm512_set1_ps(a->beta1), b2 = _mm512_set1_ps(a->beta2);
    const __m512 r1 = _mm512_set1_ps(1.0f - a->beta1), r2 = _mm512_set1_ps(1.0f - a->beta2);
    const __m512 c1 = _mm512_set1_ps(a->c1), c2 = _mm512_set1_ps(a->c2);
    const __m512 eps = _mm512_set1_ps(a->eps), wd = _mm512_set1_ps(a->weight_decay);
    const __m512 lr = _mm512_set1_ps(a->lr), gs = _mm512_set1_ps(a->grad_scale);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = vec_mask(n - i);
        __m512 gi = _mm512_mul_ps(vec_load(g + i, k), gs), pi = vec_load(p + i, k);
        __m512 mi = _mm512_fmadd_ps(b1, vec_load(m + i, k), _mm512_mul_ps(r1, gi));
        __m512 vi = _mm512_mul_ps(_mm512_mul_ps(r2, gi), gi);
        vi = _mm512_fmadd_ps(b2, vec_load(v + i, k), vi);
        __m512 root = _mm512_add_ps(_mm512_sqrt_ps(_mm512_mul_ps(vi, c2)), eps);
        __m512 step = _mm512_div_ps(_mm512_mul_ps(mi, c1), root);
        step = _mm512_fmadd_ps(wd, pi, step);
        _mm512_mask_storeu_ps(m + i, k, mi);
        _mm512_mask_storeu_ps(v + i, k, vi);
        _mm512_mask_storeu_ps(p + i, k, _mm512_fnmadd_ps(lr, step, pi));
    }
}

void kern_avx512_optim(Kern *k) { k->adamw = adamw; }
