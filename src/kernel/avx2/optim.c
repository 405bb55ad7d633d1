/* SPDX-License-Identifier: Apache-2.0
 * AdamW on AVX2. */
#include "kernel/avx2/vec.h"
#include "kernel/internal.h"

static void adamw(float *p, float *m, float *v, const float *g, size_t n, const AdamwArgs *a) {
    const __m256 b1 = _mm256_set1_ps(a->beta1), b2 = _mm256_set1_ps(a->beta2);
    const __m256 r1 = _mm256_set1_ps(1.0f - a->beta1), r2 = _mm256_set1_ps(1.0f - a->beta2);
    const __m256 c1 = _mm256_set1_ps(a->c1), c2 = _mm256_set1_ps(a->c2);
    const __m256 eps = _mm256_set1_ps(a->eps), wd = _mm256_set1_ps(a->weight_decay);
    const __m256 lr = _mm256_set1_ps(a->lr), gs = _mm256_set1_ps(a->grad_scale);
    for (size_t i = 0; i < n; i += 8) {
        size_t left = n - i;
        __m256 gi = _mm256_mul_ps(vec_load(g + i, left), gs), pi = vec_load(p + i, left);
        __m256 mi = _mm256_fmadd_ps(b1, vec_load(m + i, left), _mm256_mul_ps(r1, gi));
        __m256 vi = _mm256_mul_ps(_mm256_mul_ps(r2, gi), gi);
        vi = _mm256_fmadd_ps(b2, vec_load(v + i, left), vi);
        __m256 root = _mm256_add_ps(_mm256_sqrt_ps(_mm256_mul_ps(vi, c2)), eps);
        __m256 step = _mm256_div_ps(_mm256_mul_ps(mi, c1), root);
        step = _mm256_fmadd_ps(wd, pi, step);
        vec_store(m + i, left, mi);
        vec_store(v + i, left, vi);
        vec_store(p + i, left, _mm256_fnmadd_ps(lr, step, pi));
    }
}

void kern_avx2_optim(Kern *k) { k->adamw = adamw; }
