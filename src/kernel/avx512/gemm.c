/* SPDX-License-Identifier: Apache-2.0
 * f32 matrix product on AVX-512: 12 rows x 32 columns of C in 24 registers, one broadcast of A per row and
 * step, two loads of B per step. */
#include "kernel/internal.h"
#include "kernel/pack_sse.h"

enum { MR = 12, NR = 32 };

static void pack_a(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m, int k) {
    pack_panel(dst, src, rs, cs, m, k, MR);
}

static void pack_b(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k, int n) {
    pack_panel(dst, src, cs, rs, n, k, NR);
}

/* A whole 12 x 32 tile; c rows ldc apart. */
static void tile_full(float *c, size_t ldc, const float *a, const float *b, int kp,
                      bool accumulate) {
    __m512 s[MR][2];
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++) {
        s[i][0] = accumulate ? _mm512_loadu_ps(c + (size_t)i * ldc) : _mm512_setzero_ps();
        s[i][1] = accumulate ? _mm512_loadu_ps(c + (size_t)i * ldc + 16) : _mm512_setzero_ps();
    }
    for (int k = 0; k < kp; k++) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
        _mm_prefetch((const char *)(b + 16 * NR), _MM_HINT_T0);
        _mm_prefetch((const char *)(b + 16 * NR + 16), _MM_HINT_T0);
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[i]);
            s[i][0] = _mm512_fmadd_ps(x, b0, s[i][0]);
            s[i][1] = _mm512_fmadd_ps(x, b1, s[i][1]);
        }
        a += MR;
        b += NR;
    }
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++) {
        _mm512_storeu_ps(c + (size_t)i * ldc, s[i][0]);
        _mm512_storeu_ps(c + (size_t)i * ldc + 16, s[i][1]);
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

void kern_avx512_gemm(Kern *k) {
    k->gemm_f32 = (GemmCore){.name = "f32 avx512 12x32",
                             .mr = MR,
                             .nr = NR,
                             .kr = 1,
                             .elem = sizeof(float),
                             .pack_a = pack_a,
                             .pack_b = pack_b,
                             .tile = tile};
}
