/* SPDX-License-Identifier: Apache-2.0
 * Plain types in both directions and blocks to f32 on AVX2, bit for bit what ref/convert.c does:
 * products and sums that ref rounds twice stay separate instructions, no fused multiply-add. */
#include "kernel/avx2/unpack.h"
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

/* The halves at the head of a block. Powers of two change no digit, so a scale may undo what unpack_f32
 * multiplies by. */
static ALWAYS_INLINE __m256 half_at(const char *block, size_t at) {
    uint16_t h;
    memcpy(&h, block + at, sizeof h);
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

static ALWAYS_INLINE __m256 over_unit(__m256 scale) {
    return _mm256_mul_ps(scale, _mm256_set1_ps(UNPACK_UNIT));
}

/* A block of 32; of two halves the second is added. */
static ALWAYS_INLINE void blocks_to_f32(float *y, const char *b, size_t n, size_t size,
                                        __m256i (*unpack)(const char *block), bool two) {
    for (; n > 0; n -= QK, b += size, y += QK) {
        __m256 d = over_unit(half_at(b, 0)), m = half_at(b, sizeof(uint16_t));
        __m256i v = unpack(b);
#pragma GCC unroll 4
        for (int i = 0; i < QK / 8; i++) {
            __m256 w = _mm256_mul_ps(d, unpack_f32(v, i));
            _mm256_storeu_ps(y + 8 * i, two ? _mm256_add_ps(w, m) : w);
        }
    }
}

static void q4_0_to_f32(float *y, const void *x, size_t n) {
    blocks_to_f32(y, x, n, sizeof(BlockQ4_0), unpack_q4_0, false);
}

static void q4_1_to_f32(float *y, const void *x, size_t n) {
    blocks_to_f32(y, x, n, sizeof(BlockQ4_1), unpack_q4_1, true);
}

static void q5_0_to_f32(float *y, const void *x, size_t n) {
    blocks_to_f32(y, x, n, sizeof(BlockQ5_0), unpack_q5_0, false);
}

static void q5_1_to_f32(float *y, const void *x, size_t n) {
    blocks_to_f32(y, x, n, sizeof(BlockQ5_1), unpack_q5_1, true);
}

/* A block of 256 with scales and minimums for groups of 32. */
static ALWAYS_INLINE void blocks_k_to_f32(float *y, const char *b, size_t n, size_t size,
                                          __m256i (*unpack)(const char *block, int half, int i)) {
    for (; n > 0; n -= QK_K, b += size) {
        __m256 scale, min;
        float s[8], m[8];
        unpack_scales_k(&scale, &min, b);
        _mm256_storeu_ps(s, over_unit(scale));
        _mm256_storeu_ps(m, min);
#pragma GCC unroll 8
        for (int g = 0; g < QK_K / 32; g++) {
            __m256i v = unpack(b, g / 4, g % 4);
            __m256 sg = _mm256_broadcast_ss(&s[g]), mg = _mm256_broadcast_ss(&m[g]);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++, y += 8) {
                _mm256_storeu_ps(y, _mm256_sub_ps(_mm256_mul_ps(sg, unpack_f32(v, i)), mg));
            }
        }
    }
}

static void q4_k_to_f32(float *y, const void *x, size_t n) {
    blocks_k_to_f32(y, x, n, sizeof(BlockQ4_K), unpack_q4_k);
}

static void q5_k_to_f32(float *y, const void *x, size_t n) {
    blocks_k_to_f32(y, x, n, sizeof(BlockQ5_K), unpack_q5_k);
}

static void q6_k_to_f32(float *y, const void *x, size_t n) {
    const char *b = x;
    for (; n > 0; n -= QK_K, b += sizeof(BlockQ6_K)) {
        float s[QK_K / 16];
        _mm256_storeu_ps(s, over_unit(unpack_scales_q6_k(b, 0)));
        _mm256_storeu_ps(s + 8, over_unit(unpack_scales_q6_k(b, 1)));
#pragma GCC unroll 8
        for (int g = 0; g < QK_K / 32; g++) {
            __m256i v = unpack_q6_k(b, g / 4, g % 4);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++, y += 8) {
                __m256 sg = _mm256_broadcast_ss(&s[2 * g + i / 2]);
                _mm256_storeu_ps(y, _mm256_mul_ps(sg, unpack_f32(v, i)));
            }
        }
    }
}

void kern_avx2_convert(Kern *k) {
    k->to_f32[DT_F16] = f16_to_f32;
    k->to_f32[DT_BF16] = bf16_to_f32;
    k->to_f32[DT_Q8_0] = q8_0_to_f32;
    k->to_f32[DT_Q4_0] = q4_0_to_f32;
    k->to_f32[DT_Q4_1] = q4_1_to_f32;
    k->to_f32[DT_Q5_0] = q5_0_to_f32;
    k->to_f32[DT_Q5_1] = q5_1_to_f32;
    k->to_f32[DT_Q4_K] = q4_k_to_f32;
    k->to_f32[DT_Q5_K] = q5_k_to_f32;
    k->to_f32[DT_Q6_K] = q6_k_to_f32;
    k->from_f32[DT_F16] = f16_from_f32;
    k->from_f32[DT_BF16] = bf16_from_f32;
}
