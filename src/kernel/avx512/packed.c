/* SPDX-License-Identifier: Apache-2.0
 * Packed weights on AVX-512: products of bytes are added in 16 bits. */
#include "kernel/avx512/packed.h"

typedef __m512i PvSum;

static ALWAYS_INLINE PvSum pv_dot(Pv c, Pv x) { return _mm512_maddubs_epi16(c, x); }
static ALWAYS_INLINE PvSum pv_dot_add(PvSum a, Pv c, Pv x) {
    return _mm512_add_epi16(a, _mm512_maddubs_epi16(c, x));
}
static ALWAYS_INLINE Pv pv_widen(PvSum a) { return _mm512_madd_epi16(a, _mm512_set1_epi16(1)); }

enum { PV_MOST_4 = 8, PV_MOST_5 = 8, PV_MOST_6 = 8, PV_MOST_8 = 8 };

#include "kernel/packed_dot.inc"

void kern_avx512_packed(Kern *k) { packed_fill(k); }
