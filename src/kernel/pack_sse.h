/* SPDX-License-Identifier: Apache-2.0
 * Packing of f32 panels with instructions every x86-64 has, shared by the AVX2 and AVX-512 cores. */
#ifndef INGOT_KERNEL_PACK_SSE_H
#define INGOT_KERNEL_PACK_SSE_H

#include <immintrin.h>
#include <string.h>

/* Lanes lie `lane` floats apart, k contiguous: 4 x 4 transposes. n_lanes % 4 == 0, k % 4 == 0. */
static inline void pack_transpose4(float *dst, const float *src, ptrdiff_t lane, int n_lanes, int k,
                                   int P) {
    for (int j = 0; j < k; j += 4)
        for (int i = 0; i < n_lanes; i += 4) {
            const float *s = src + i * lane + j;
            float *d = dst + (size_t)j * (size_t)P + i;
            __m128 r0 = _mm_loadu_ps(s), r1 = _mm_loadu_ps(s + lane);
            __m128 r2 = _mm_loadu_ps(s + 2 * lane), r3 = _mm_loadu_ps(s + 3 * lane);
            _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
            _mm_storeu_ps(d, r0);
            _mm_storeu_ps(d + P, r1);
            _mm_storeu_ps(d + 2 * P, r2);
            _mm_storeu_ps(d + 3 * P, r3);
        }
}

/* dst[k][P] from n_lanes <= P lanes `lane` apart and k steps `step` apart; missing lanes are zero. */
static inline void pack_panel(float *dst, const float *src, ptrdiff_t lane, ptrdiff_t step,
                              int n_lanes, int k, int P) {
    int k4 = step == 1 && n_lanes == P ? k / 4 * 4 : 0;
    if (k4 > 0) {
        pack_transpose4(dst, src, lane, P / 4 * 4, k4, P);
        for (int j = 0; j < k4; j++)
            for (int i = P / 4 * 4; i < P; i++)
                dst[(size_t)j * (size_t)P + (size_t)i] = src[i * lane + j];
    }
    for (int j = k4; j < k; j++) {
        float *d = dst + (size_t)j * (size_t)P;
        const float *s = src + j * step;
        if (lane == 1 && n_lanes == P) {
            memcpy(d, s, (size_t)P * sizeof *d);
            continue;
        }
        for (int i = 0; i < n_lanes; i++) d[i] = s[i * lane];
        for (int i = n_lanes; i < P; i++) d[i] = 0.0f;
    }
}

#endif
