/* SPDX-License-Identifier: Apache-2.0
 * Packed-panel matrix product, the definition: one chain of additions over k for each element of C.
 * The scheme is Goto & van de Geijn, "Anatomy of high-performance matrix multiplication" (2008). */
#include <string.h>

#include "kernel/internal.h"

enum { MR = 4, NR = 4 };

/* dst[k][P] from lanes (rows of A, columns of B) that lie `lane` apart, k steps `step` apart. */
static void pack(float *dst, const float *src, ptrdiff_t lane, ptrdiff_t step, int n_lanes, int k,
                 int P) {
    memset(dst, 0, (size_t)k * (size_t)P * sizeof *dst);
    for (int j = 0; j < k; j++)
        for (int i = 0; i < n_lanes; i++)
            dst[(size_t)j * (size_t)P + (size_t)i] = src[i * lane + j * step];
}

static void pack_a(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m, int k) {
    pack(dst, src, rs, cs, m, k, MR);
}

static void pack_b(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k, int n) {
    pack(dst, src, cs, rs, n, k, NR);
}

static void tile(float *c, size_t ldc, const void *a, const void *b, int kp, int m, int n,
                 bool accumulate) {
    const float *pa = a, *pb = b;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float s = accumulate ? c[(size_t)i * ldc + (size_t)j] : 0.0f;
            for (int k = 0; k < kp; k++)
                s += pa[(size_t)k * MR + (size_t)i] * pb[(size_t)k * NR + (size_t)j];
            c[(size_t)i * ldc + (size_t)j] = s;
        }
}

void kern_ref_gemm(Kern *k) {
    k->gemm_f32 = (GemmCore){.name = "f32 ref 4x4",
                             .mr = MR,
                             .nr = NR,
                             .kr = 1,
                             .elem = sizeof(float),
                             .pack_a = pack_a,
                             .pack_b = pack_b,
                             .tile = tile};
}
