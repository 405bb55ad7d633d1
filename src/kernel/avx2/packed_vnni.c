/* SPDX-License-Identifier: Apache-2.0
 * Packed weights on AVX-VNNI, which processors without AVX-512 have: four products of bytes are added to a 32-bit sum
 * by one instruction. */
#include "kernel/avx2/packed.h"

typedef __m256i PvSum;

static ALWAYS_INLINE PvSum pv_dot_add(PvSum a, Pv c, Pv x) {
    return _mm256_dpbusd_avx_epi32(a, c, x);
}
static ALWAYS_INLINE PvSum pv_dot(Pv c, Pv x) { return pv_dot_add(pv_zero(), c, x); }
static ALWAYS_INLINE Pv pv_widen(PvSum a) { return a; }

enum { PV_EXACT = true, PV_PAIRS = true, PV_MOST = 2 };

#include "kernel/packed_dot.inc"

void kern_avx2_packed_vnni(Kern *k) { packed_fill(k); }
