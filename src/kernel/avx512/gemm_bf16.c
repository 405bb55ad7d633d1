/* SPDX-License-Identifier: Apache-2.0
 * bf16 matrix product on AVX-512 BF16: 12 rows x 32 columns of f32 sums, two steps of k an instruction.
 * Panels: A [k/2][12][2], B [k/2][32][2]. */
#include <immintrin.h>
#include <string.h>

#include "kernel/internal.h"
#include "tensor/half.h"

enum { MR = 12, NR = 32 };

/* bf16 of 16 floats each, lane i of the result = pair (lo[i], hi[i]). */
static inline __m512i pair16(__m512 lo, __m512 hi) {
    __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(lo));
    __m512i h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(hi));
    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}

/* Lanes contiguous in memory: 16 at a time. Returns how many lanes are done. */
static int pack_contiguous(uint16_t *d, const float *s0, const float *s1, int n_lanes) {
    int i = 0;
    for (; i + 16 <= n_lanes; i += 16) {
        __m512 hi = s1 ? _mm512_loadu_ps(s1 + i) : _mm512_setzero_ps();
        _mm512_storeu_si512(d + 2 * i, pair16(_mm512_loadu_ps(s0 + i), hi));
    }
    return i;
}

static void pack(uint16_t *dst, const float *src, ptrdiff_t lane, ptrdiff_t step, int n_lanes,
                 int k, int P) {
    for (int j = 0; j < k; j += 2) {
        uint16_t *d = dst + (size_t)(j / 2) * 2 * (size_t)P;
        const float *s0 = src + j * step, *s1 = j + 1 < k ? s0 + step : NULL;
        int i = lane == 1 ? pack_contiguous(d, s0, s1, n_lanes) : 0;
        for (; i < n_lanes; i++) {
            d[2 * i] = half_f32_to_bf16(s0[i * lane]);
            d[2 * i + 1] = s1 ? half_f32_to_bf16(s1[i * lane]) : 0;
        }
        memset(d + 2 * n_lanes, 0, (size_t)(P - n_lanes) * 2 * sizeof *d);
    }
}

static void pack_a(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m, int k) {
    pack(dst, src, rs, cs, m, k, MR);
}

static void pack_b(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k, int n) {
    pack(dst, src, cs, rs, n, k, NR);
}

static void tile_full(float *c, size_t ldc, const uint16_t *a, const uint16_t *b, int kp,
                      bool accumulate) {
    __m512 s[MR][2];
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++) {
        s[i][0] = accumulate ? _mm512_loadu_ps(c + (size_t)i * ldc) : _mm512_setzero_ps();
        s[i][1] = accumulate ? _mm512_loadu_ps(c + (size_t)i * ldc + 16) : _mm512_setzero_ps();
    }
    for (int k = 0; k < kp; k += 2) {
        __m512bh b0 = (__m512bh)_mm512_load_si512(b), b1 = (__m512bh)_mm512_load_si512(b + 32);
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            int32_t pair;
            memcpy(&pair, a + 2 * i, sizeof pair);
            __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            s[i][0] = _mm512_dpbf16_ps(s[i][0], b0, x);
            s[i][1] = _mm512_dpbf16_ps(s[i][1], b1, x);
        }
        a += 2 * MR;
        b += 2 * NR;
    }
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++) {
        _mm512_storeu_ps(c + (size_t)i * ldc, s[i][0]);
        _mm512_storeu_ps(c + (size_t)i * ldc + 16, s[i][1]);
    }
}

static void tile(float *c, size_t ldc, const void *a, const void *b, int kp, int m, int n,
                 bool accumulate) {
    if (m == MR && n == NR) {
        tile_full(c, ldc, a, b, kp, accumulate);
        return;
    }
    float t[MR * NR] ALIGNED(64) = {0};
    for (int i = 0; accumulate && i < m; i++)
        memcpy(t + i * NR, c + (size_t)i * ldc, (size_t)n * sizeof *c);
    tile_full(t, NR, a, b, kp, accumulate);
    for (int i = 0; i < m; i++) memcpy(c + (size_t)i * ldc, t + i * NR, (size_t)n * sizeof *c);
}

void kern_avx512_gemm_bf16(Kern *k) {
    k->gemm_bf16 = (GemmCore){.name = "bf16 avx512 12x32",
                              .mr = MR,
                              .nr = NR,
                              .kr = 2,
                              .elem = sizeof(uint16_t),
                              .pack_a = pack_a,
                              .pack_b = pack_b,
                              .tile = tile};
}
