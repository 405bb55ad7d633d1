/* SPDX-License-Identifier: Apache-2.0
 * Sixteen floats for kernel/quant_lanes.inc. No operation rounds more or less often than its plain-C
 * counterpart; a + b, a * b and the like are written as such. */
#ifndef INGOT_KERNEL_AVX512_LANES_H
#define INGOT_KERNEL_AVX512_LANES_H

#include <immintrin.h>

#include "base/platform.h"

typedef __m512 Ln;
typedef __mmask16 LnMask;
enum { LN = 16 };

static ALWAYS_INLINE Ln ln_set(float v) { return _mm512_set1_ps(v); }
static ALWAYS_INLINE Ln ln_load(const float *p) { return _mm512_loadu_ps(p); }
static ALWAYS_INLINE void ln_store(float *p, Ln v) { _mm512_storeu_ps(p, v); }
/* a < b ? a : b, a > b ? a : b */
static ALWAYS_INLINE Ln ln_min(Ln a, Ln b) { return _mm512_min_ps(a, b); }
static ALWAYS_INLINE Ln ln_max(Ln a, Ln b) { return _mm512_max_ps(a, b); }
static ALWAYS_INLINE Ln ln_abs(Ln v) { return _mm512_abs_ps(v); }
static ALWAYS_INLINE Ln ln_sqrt(Ln v) { return _mm512_sqrt_ps(v); }
static ALWAYS_INLINE LnMask ln_less(Ln a, Ln b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static ALWAYS_INLINE LnMask ln_and(LnMask a, LnMask b) { return a & b; }
static ALWAYS_INLINE bool ln_all(LnMask m) { return m == 0xffff; }
/* m ? a : b */
static ALWAYS_INLINE Ln ln_select(LnMask m, Ln a, Ln b) { return _mm512_mask_mov_ps(b, m, a); }
/* p[0], p[stride], ...; stride < 2^26 */
static ALWAYS_INLINE Ln ln_gather(const float *p, int stride) {
    __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_i32gather_ps(_mm512_mullo_epi32(lane, _mm512_set1_epi32(stride)), p, 4);
}
/* fit_nearest, as floats */
static ALWAYS_INLINE Ln ln_nearest(Ln v) {
    __m512i u = _mm512_castps_si512(v + _mm512_set1_ps(12582912.0f));
    u = _mm512_and_si512(u, _mm512_set1_epi32(0x7fffff));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(u, _mm512_set1_epi32(0x400000)));
}
/* The low bytes of the integer parts. */
static ALWAYS_INLINE void ln_bytes(uint8_t *y, Ln v) {
    _mm_storeu_si128((__m128i *)y, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v)));
}

#endif
