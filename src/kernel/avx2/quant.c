/* SPDX-License-Identifier: Apache-2.0
 * Conversion between f32 and the stored types on AVX2, bit for bit what ref/quant.c does.
 * Products and sums that ref rounds twice stay separate instructions here: no fused multiply-add. */
#include "kernel/avx2/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

/* The processor's conversion, but a signalling NaN stays as it is, as in half.h. */
static ALWAYS_INLINE __m256 f16_to_f32_8(__m128i h) {
    __m256 v = _mm256_cvtph_ps(h), nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    if (LIKELY(_mm256_testz_ps(nan, nan))) return v;
    __m256i u = _mm256_cvtepu16_epi32(h);
    __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(u, 15), 31);
    __m256i man = _mm256_slli_epi32(_mm256_and_si256(u, _mm256_set1_epi32(0x3ff)), 13);
    __m256i bits = _mm256_or_si256(_mm256_or_si256(sign, man), _mm256_set1_epi32(0x7f800000));
    return _mm256_blendv_ps(v, _mm256_castsi256_ps(bits), nan);
}

static void f16_to_f32(float *y, const void *x, size_t n) {
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i += 8) {
        vec_store(y + i, n - i, f16_to_f32_8(vec_load_u16(h + i, n - i)));
    }
}

static void f16_from_f32(void *y, const float *x, size_t n) {
    uint16_t *h = y;
    for (size_t i = 0; i < n; i += 8) {
        vec_store_u16(h + i, n - i, vec_to_f16(vec_load(x + i, n - i)));
    }
}

static void bf16_to_f32(float *y, const void *x, size_t n) {
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i += 8) vec_store(y + i, n - i, vec_bf16(vec_load_u16(h + i, n - i)));
}

/* Nearest even by adding half a unit, less one if the last kept bit is 0; NaN keeps its upper half. */
static ALWAYS_INLINE __m128i bf16_from_f32_8(__m256 v) {
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
    __m256i last = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), last);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(64));
    r = _mm256_blendv_epi8(_mm256_srli_epi32(r, 16), quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

static void bf16_from_f32(void *y, const float *x, size_t n) {
    uint16_t *h = y;
    for (size_t i = 0; i < n; i += 8) {
        vec_store_u16(h + i, n - i, bf16_from_f32_8(vec_load(x + i, n - i)));
    }
}

/* Eight signed bytes times d. */
static ALWAYS_INLINE __m256 scaled(__m128i bytes, __m256 d) {
    return _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
}

static void q8_0_to_f32(float *y, const void *x, size_t n) {
    const BlockQ8_0 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        __m256 d = _mm256_set1_ps(half_f16_to_f32(b[i].d));
        for (size_t j = 0; j < QK; j += 8) {
            __m128i q = _mm_loadl_epi64((const __m128i *)(b[i].qs + j));
            _mm256_storeu_ps(y + i * QK + j, scaled(q, d));
        }
    }
}

static void q4_0_to_f32(float *y, const void *x, size_t n) {
    const BlockQ4_0 *b = x;
    const __m128i low = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    for (size_t i = 0; i < n / QK; i++) {
        __m256 d = _mm256_set1_ps(half_f16_to_f32(b[i].d));
        __m128i q = _mm_loadu_si128((const __m128i *)b[i].qs);
        __m128i lo = _mm_sub_epi8(_mm_and_si128(q, low), eight);
        __m128i hi = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(q, 4), low), eight);
        float *yb = y + i * QK;
        _mm256_storeu_ps(yb, scaled(lo, d));
        _mm256_storeu_ps(yb + 8, scaled(_mm_srli_si128(lo, 8), d));
        _mm256_storeu_ps(yb + 16, scaled(hi, d));
        _mm256_storeu_ps(yb + 24, scaled(_mm_srli_si128(hi, 8), d));
    }
}

/* 32 dwords to their low bytes, in order. */
static ALWAYS_INLINE __m256i low_bytes(const __m256i v[4]) {
    const __m256i byte = _mm256_set1_epi32(0xff);
    __m256i a = _mm256_packus_epi32(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
    __m256i b = _mm256_packus_epi32(_mm256_and_si256(v[2], byte), _mm256_and_si256(v[3], byte));
    /* packing works within 128-bit lanes: put the fours of bytes back in order */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order);
}

/* Halves away from zero: the greatest f32 below one half, with the sign, is added before cutting off.
 * (One half itself would carry 0.49999997 over.) Out of range gives the low byte 0. */
static ALWAYS_INLINE __m256i round_away(__m256 v) {
    __m256 sign = _mm256_and_ps(v, _mm256_set1_ps(-0.0f));
    __m256 half = _mm256_or_ps(sign, _mm256_set1_ps(0x1.fffffep-2f));
    return _mm256_cvttps_epi32(_mm256_add_ps(v, half));
}

static ALWAYS_INLINE void load_block(__m256 v[4], const float *x) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) v[i] = _mm256_loadu_ps(x + 8 * i);
}

static ALWAYS_INLINE float block_amax(const __m256 v[4]) {
    __m256 a = _mm256_max_ps(vec_abs(v[0]), vec_abs(v[1]));
    return vec_max(_mm256_max_ps(a, _mm256_max_ps(vec_abs(v[2]), vec_abs(v[3]))));
}

static void q8_0_from_f32(void *y, const float *x, size_t n) {
    BlockQ8_0 *b = y;
    for (size_t i = 0; i < n / QK; i++) {
        __m256 v[4];
        __m256i q[4];
        load_block(v, x + i * QK);
        float d = block_amax(v) / 127.0f;
        __m256 id = _mm256_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) q[j] = round_away(_mm256_mul_ps(v[j], id));
        b[i].d = half_f32_to_f16(d);
        _mm256_storeu_si256((__m256i *)b[i].qs, low_bytes(q));
    }
}

/* The first element of the largest magnitude; 0 in a block of zeros. */
static ALWAYS_INLINE float first_max(const float *x, const __m256 v[4]) {
    __m256 max = _mm256_set1_ps(block_amax(v));
    uint32_t at = 0;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m256 eq = _mm256_cmp_ps(vec_abs(v[i]), max, _CMP_EQ_OQ);
        at |= (uint32_t)_mm256_movemask_ps(eq) << (8 * i);
    }
    float first = at ? x[__builtin_ctz(at)] : 0.0f;
    return first != 0.0f ? first : 0.0f; /* -0 counts as none */
}

static void q4_0_from_f32(void *y, const float *x, size_t n) {
    BlockQ4_0 *b = y;
    for (size_t i = 0; i < n / QK; i++) {
        __m256 v[4];
        __m256i q[4];
        load_block(v, x + i * QK);
        float d = first_max(x + i * QK, v) / -8.0f;
        __m256 id = _mm256_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m256 s = _mm256_add_ps(_mm256_mul_ps(v[j], id), _mm256_set1_ps(8.5f));
            q[j] = _mm256_cvttps_epi32(s);
        }
        __m256i bytes = _mm256_min_epu8(low_bytes(q), _mm256_set1_epi8(15));
        __m128i lo = _mm256_castsi256_si128(bytes), hi = _mm256_extracti128_si256(bytes, 1);
        b[i].d = half_f32_to_f16(d);
        _mm_storeu_si128((__m128i *)b[i].qs, _mm_or_si128(lo, _mm_slli_epi16(hi, 4)));
    }
}

void kern_avx2_quant(Kern *k) {
    k->to_f32[DT_F16] = f16_to_f32;
    k->to_f32[DT_BF16] = bf16_to_f32;
    k->to_f32[DT_Q8_0] = q8_0_to_f32;
    k->to_f32[DT_Q4_0] = q4_0_to_f32;
    k->from_f32[DT_F16] = f16_from_f32;
    k->from_f32[DT_BF16] = bf16_from_f32;
    k->from_f32[DT_Q8_0] = q8_0_from_f32;
    k->from_f32[DT_Q4_0] = q4_0_from_f32;
}
