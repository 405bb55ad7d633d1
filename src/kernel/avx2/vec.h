/* SPDX-License-Identifier: Apache-2.0
 * What the AVX2 files share: tails, sums across lanes, exp, sigmoid. `left` is the number of elements
 * from p to the end of the array: eight are loaded or stored, or those that are left. */
#ifndef INGOT_KERNEL_AVX2_VEC_H
#define INGOT_KERNEL_AVX2_VEC_H

#include <immintrin.h>
#include <string.h>

#include "kernel/internal.h"

/* The first `left` < 8 lanes. */
static ALWAYS_INLINE __m256i vec_mask(size_t left) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)left), lane);
}

static ALWAYS_INLINE __m256 vec_load(const float *p, size_t left) {
    if (LIKELY(left >= 8)) return _mm256_loadu_ps(p);
    return _mm256_maskload_ps(p, vec_mask(left));
}

static ALWAYS_INLINE void vec_store(float *p, size_t left, __m256 v) {
    if (LIKELY(left >= 8)) _mm256_storeu_ps(p, v);
    else _mm256_maskstore_ps(p, vec_mask(left), v);
}

static ALWAYS_INLINE __m128i vec_load_u16(const uint16_t *p, size_t left) {
    if (LIKELY(left >= 8)) return _mm_loadu_si128((const __m128i *)p);
    uint16_t t[8] = {0};
    memcpy(t, p, left * sizeof *p);
    return _mm_loadu_si128((const __m128i *)t);
}

static ALWAYS_INLINE void vec_store_u16(uint16_t *p, size_t left, __m128i v) {
    if (LIKELY(left >= 8)) {
        _mm_storeu_si128((__m128i *)p, v);
        return;
    }
    uint16_t t[8];
    _mm_storeu_si128((__m128i *)t, v);
    memcpy(p, t, left * sizeof *p);
}

static ALWAYS_INLINE __m256 vec_bf16(__m128i h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

/* Halves away from zero: the greatest f32 below one half, with the sign, is added before cutting off.
 * (One half itself would carry 0.49999997 over.) Out of range gives the low byte 0. */
static ALWAYS_INLINE __m256i vec_round_away(__m256 v) {
    __m256 sign = _mm256_and_ps(v, _mm256_set1_ps(-0.0f));
    __m256 half = _mm256_or_ps(sign, _mm256_set1_ps(0x1.fffffep-2f));
    return _mm256_cvttps_epi32(_mm256_add_ps(v, half));
}

/* v in a register: where it is used more than once, the compiler would read it from memory each time, as part of
 * the instruction that uses it, and loads would be the limit. */
static ALWAYS_INLINE __m256 vec_keep(__m256 v) {
    __asm__("" : "+x"(v));
    return v;
}

/* Sums in one order: halves, pairs. */
static ALWAYS_INLINE float vec_sum(__m256 v) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}

static ALWAYS_INLINE double vec_sum_pd(__m256d v) {
    __m128d q = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
}

static ALWAYS_INLINE float vec_max(__m256 v) {
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

static ALWAYS_INLINE __m256 vec_abs(__m256 v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }

static ALWAYS_INLINE __m256 vec_pow2(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/* v held to [lo, hi]; NaN stays: min and max give their second operand when one is NaN. */
static ALWAYS_INLINE __m256 vec_clamp(__m256 v, float lo, float hi) {
    return _mm256_max_ps(_mm256_set1_ps(lo), _mm256_min_ps(_mm256_set1_ps(hi), v));
}

/* e^x within 2 ulp; 0 below -104, infinite above 88.8, NaN stays NaN.
 * x = n ln 2 + r, |r| <= ln 2 / 2; e^r by the polynomial of Cephes' expf; times 2^n in two steps, since n
 * may be outside the exponents of f32 when the result is not. */
static ALWAYS_INLINE __m256 vec_exp(__m256 x) {
    x = vec_clamp(x, -105.0f, 89.0f);
    __m256i i = _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504089f)));
    __m256 n = _mm256_cvtepi32_ps(i);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    __m256i half = _mm256_srai_epi32(i, 1);
    p = _mm256_mul_ps(p, vec_pow2(half));
    return _mm256_mul_ps(p, vec_pow2(_mm256_sub_epi32(i, half)));
}

/* 1 / (1 + e^-x): 0 and 1 at the ends. */
static ALWAYS_INLINE __m256 vec_sigmoid(__m256 x) {
    __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps();
    return _mm256_div_ps(one, _mm256_add_ps(one, vec_exp(_mm256_sub_ps(zero, x))));
}

/* The processor's conversion, but every NaN becomes the one of tensor/half.h, with its sign. */
static ALWAYS_INLINE __m128i vec_to_f16(__m256 v) {
    __m128i h = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    if (LIKELY(_mm256_testz_si256(nan, nan))) return h;
    __m128i lanes = _mm_packs_epi32(_mm256_castsi256_si128(nan), _mm256_extracti128_si256(nan, 1));
    __m128i sign = _mm_and_si128(h, _mm_set1_epi16(-0x8000));
    return _mm_blendv_epi8(h, _mm_or_si128(sign, _mm_set1_epi16(0x7e00)), lanes);
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

/* The scales of n <= 8 blocks; lanes past n are 0. */
static ALWAYS_INLINE __m256 vec_block_scales(const char *b, size_t stride, int n) {
    long long lo = (long long)vec_scales4(b, stride, n);
    long long hi = (long long)vec_scales4(b + 4 * stride, stride, n - 4);
    return _mm256_cvtph_ps(_mm_set_epi64x(hi, lo));
}

#endif
