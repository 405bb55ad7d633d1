/* SPDX-License-Identifier: Apache-2.0
 * f32 matrix product on AVX2 and FMA: 6 rows x 16 columns of C in 12 registers, one broadcast of A per row
 * and step, two loads of B per step. */
#include "kernel/internal.h"
#include "kernel/pack_sse.h"

enum { MR = 6, NR = 16 };

static void pack_a(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m, int k) {
    pack_panel(dst, src, rs, cs, m, k, MR);
}

static void pack_b(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k, int n) {
    pack_panel(dst, src, cs, rs, n, k, NR);
}

/* A whole 6 x 16 tile; c rows ldc apart. */
static void tile_full(float *c, size_t ldc, const float *a, const float *b, int kp,
                      bool accumulate) {
    __m256 s[MR][2];
#pragma GCC unroll 6
    for (int i = 0; i < MR; i++) {
        s[i][0] = accumulate ? _mm256_loadu_ps(c + (size_t)i * ldc) : _mm256_setzero_ps();
        s[i][1] = accumulate ? _mm256_loadu_ps(c + (size_t)i * ldc + 8) : _mm256_setzero_ps();
    }
    for (int k = 0; k < kp; k++) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
        _mm_prefetch((const char *)(b + 16 * NR), _MM_HINT_T0);
#pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
            __m256 x = _mm256_broadcast_ss(a + i);
            s[i][0] = _mm256_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm256_fmadd_ps(x, b1, s[i][1]);
        }
        a += MR;
        b += NR;
    }
#pragma GCC unroll 6
    for (int i = 0; i < MR; i++) {
        _mm256_storeu_ps(c + (size_t)i * ldc, s[i][0]);
        _mm256_storeu_ps(c + (size_t)i * ldc + 8, s[i][1]);
    }
}

/* Tiles at the edge go through a whole one beside C: the same chain of additions. */
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

void kern_avx2_gemm(Kern *k) {
    k->gemm_f32 = (GemmCore){.name = "f32 avx2 6x16",
                             .mr = MR,
                             .nr = NR,
                             .kr = 1,
                             .elem = sizeof(float),
                             .pack_a = pack_a,
                             .pack_b = pack_b,
                             .tile = tile};
}
