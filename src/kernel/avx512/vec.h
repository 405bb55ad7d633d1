/* SPDX-License-Identifier: Apache-2.0
 * What the AVX-512 files share: masked tails, sums across lanes, exp, sigmoid. */
#ifndef INGOT_KERNEL_AVX512_VEC_H
#define INGOT_KERNEL_AVX512_VEC_H

#include <immintrin.h>
#include <string.h>

#include "kernel/internal.h"

#define VEC_FULL ((__mmask16)0xffff)

/* The first `left` of 16 lanes; all of them when there are as many. */
static ALWAYS_INLINE __mmask16 vec_mask(size_t left) {
    return left >= 16 ? VEC_FULL : (__mmask16)((1u << left) - 1u);
}

static ALWAYS_INLINE __m512 vec_load(const float *p, __mmask16 m) {
    return _mm512_maskz_loadu_ps(m, p);
}

/* v in a register: where it is used more than once, the compiler would read it from memory each time, as part of
 * the instruction that uses it, and loads would be the limit. */
static ALWAYS_INLINE __m512 vec_keep(__m512 v) {
    __asm__("" : "+v"(v));
    return v;
}

/* Sums in one order: halves, quarters, pairs. */
static ALWAYS_INLINE float vec_sum(__m512 v) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static ALWAYS_INLINE double vec_sum_pd(__m512d v) {
    __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

static ALWAYS_INLINE __m512 vec_abs(__m512 v) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)));
}

/* e^x for |x| < 126 ln 2 or so, within 2 ulp: x = n ln 2 + r, |r| <= ln 2 / 2; e^r by the polynomial of
 * Cephes' expf; times 2^n. */
static ALWAYS_INLINE __m512 vec_exp_core(__m512 x) {
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504089f)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
    return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

/* v held to [lo, hi]; NaN stays: min and max give their second operand when one is NaN. */
static ALWAYS_INLINE __m512 vec_clamp(__m512 v, float lo, float hi) {
    return _mm512_max_ps(_mm512_set1_ps(lo), _mm512_min_ps(_mm512_set1_ps(hi), v));
}

/* e^x of any x: 0 below -104, infinite above 88.8, NaN stays NaN. */
static ALWAYS_INLINE __m512 vec_exp(__m512 x) { return vec_exp_core(vec_clamp(x, -105.0f, 89.0f)); }

/* 1 / (1 + e^-x): exactly 0 below -87, 1 at the other end. The reciprocal is the processor's estimate (14
 * bits) and one step of Newton's method, a quarter of the time of a division. */
static ALWAYS_INLINE __m512 vec_sigmoid(__m512 x) {
    __m512 minus = _mm512_sub_ps(_mm512_setzero_ps(), x);
    __m512 a = _mm512_add_ps(_mm512_set1_ps(1.0f), vec_exp_core(vec_clamp(minus, -87.0f, 87.0f)));
    __m512 r = _mm512_rcp14_ps(a), e = _mm512_fnmadd_ps(a, r, _mm512_set1_ps(2.0f));
    __mmask16 keep = _mm512_cmp_ps_mask(minus, _mm512_set1_ps(87.0f), _CMP_NGT_UQ);
    return _mm512_maskz_mul_ps(keep, r, e);
}

/* The f16 scales at the head of n <= 4 blocks that lie `stride` bytes apart, in one word. */
static ALWAYS_INLINE uint64_t vec_scales4(const char *blocks, size_t stride, int n) {
    uint64_t word = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        uint16_t h = 0;
        if (i < n) memcpy(&h, blocks + (size_t)i * stride, sizeof h);
        word |= (uint64_t)h << (16 * i);
    }
    return word;
}

/* The scales of n <= 16 blocks; lanes past n are 0. */
static ALWAYS_INLINE __m512 vec_block_scales(const char *b, size_t stride, int n) {
    __m256i h = _mm256_setr_epi64x((long long)vec_scales4(b, stride, n),
                                   (long long)vec_scales4(b + 4 * stride, stride, n - 4),
                                   (long long)vec_scales4(b + 8 * stride, stride, n - 8),
                                   (long long)vec_scales4(b + 12 * stride, stride, n - 12));
    return _mm512_cvtph_ps(h);
}

/* Halves away from zero: the greatest f32 below one half, with the sign, is added before cutting off.
 * (One half itself would carry 0.49999997 over.) Out of range gives the low byte 0. */
static ALWAYS_INLINE __m512i vec_round_away(__m512 v) {
    __m512i sign = _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32((int)0x80000000u));
    __m512i half = _mm512_or_si512(sign, _mm512_castps_si512(_mm512_set1_ps(0x1.fffffep-2f)));
    return _mm512_cvttps_epi32(_mm512_add_ps(v, _mm512_castsi512_ps(half)));
}

/* The processor's conversion, but every NaN becomes the one of tensor/half.h, with its sign. */
static ALWAYS_INLINE __m256i vec_to_f16(__m512 v) {
    __m256i h = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    if (LIKELY(nan == 0)) return h;
    __m256i sign = _mm256_and_si256(h, _mm256_set1_epi16(-0x8000));
    return _mm256_mask_mov_epi16(h, nan, _mm256_or_si256(sign, _mm256_set1_epi16(0x7e00)));
}

#endif
