/* SPDX-License-Identifier: Apache-2.0
 * Eight floats for kernel/quant_lanes.inc. No operation rounds more or less often than its plain-C
 * counterpart; a + b, a * b and the like are written as such. */
#ifndef INGOT_KERNEL_AVX2_LANES_H
#define INGOT_KERNEL_AVX2_LANES_H

#include <immintrin.h>
#include <string.h>

#include "base/platform.h"

typedef __m256 Ln;
typedef __m256 LnMask; /* all bits of a lane, or none */
enum { LN = 8 };

static ALWAYS_INLINE Ln ln_set(float v) { return _mm256_set1_ps(v); }
static ALWAYS_INLINE Ln ln_load(const float *p) { return _mm256_loadu_ps(p); }
static ALWAYS_INLINE void ln_store(float *p, Ln v) { _mm256_storeu_ps(p, v); }
/* a < b ? a : b, a > b ? a : b */
static ALWAYS_INLINE Ln ln_min(Ln a, Ln b) { return _mm256_min_ps(a, b); }
static ALWAYS_INLINE Ln ln_max(Ln a, Ln b) { return _mm256_max_ps(a, b); }
static ALWAYS_INLINE Ln ln_abs(Ln v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
static ALWAYS_INLINE Ln ln_sqrt(Ln v) { return _mm256_sqrt_ps(v); }
static ALWAYS_INLINE LnMask ln_less(Ln a, Ln b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static ALWAYS_INLINE LnMask ln_and(LnMask a, LnMask b) { return _mm256_and_ps(a, b); }
static ALWAYS_INLINE bool ln_all(LnMask m) { return _mm256_movemask_ps(m) == 0xff; }
/* m ? a : b */
static ALWAYS_INLINE Ln ln_select(LnMask m, Ln a, Ln b) { return _mm256_blendv_ps(b, a, m); }
/* p[0], p[stride], ...; stride < 2^26 */
static ALWAYS_INLINE Ln ln_gather(const float *p, int stride) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_i32gather_ps(p, _mm256_mullo_epi32(lane, _mm256_set1_epi32(stride)), 4);
}
/* fit_nearest, as floats */
static ALWAYS_INLINE Ln ln_nearest(Ln v) {
    __m256i u = _mm256_castps_si256(v + _mm256_set1_ps(12582912.0f));
    u = _mm256_and_si256(u, _mm256_set1_epi32(0x7fffff));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(u, _mm256_set1_epi32(0x400000)));
}
/* The low bytes of the integer parts. */
static ALWAYS_INLINE void ln_bytes(uint8_t *y, Ln v) {
    const __m256i first = _mm256_set1_epi32(0x0c080400); /* bytes 0, 4, 8, 12 of each half */
    __m256i b = _mm256_shuffle_epi8(_mm256_cvttps_epi32(v), first);
    uint32_t lo = (uint32_t)_mm256_extract_epi32(b, 0), hi = (uint32_t)_mm256_extract_epi32(b, 4);
    memcpy(y, &lo, sizeof lo);
    memcpy(y + 4, &hi, sizeof hi);
}

#endif
