/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks on AVX2, bit for bit what ref/quant.c does: products and sums that ref rounds twice
 * stay separate instructions, no fused multiply-add. */
#include "kernel/avx2/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

/* 32 dwords to their low bytes, in order. */
static ALWAYS_INLINE __m256i low_bytes(const __m256i v[4]) {
    const __m256i byte = _mm256_set1_epi32(0xff);
    __m256i a = _mm256_packus_epi32(_mm256_and_si256(v[0], byte), _mm256_and_si256(v[1], byte));
    __m256i b = _mm256_packus_epi32(_mm256_and_si256(v[2], byte), _mm256_and_si256(v[3], byte));
    /* packing works within 128-bit lanes: put the fours of bytes back in order */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order);
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
        for (int j = 0; j < 4; j++) q[j] = vec_round_away(_mm256_mul_ps(v[j], id));
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

static void q8_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    (void)w; /* the format's reference ignores it */
    q8_0_from_f32(y, x, rows * cols);
}

void kern_avx2_quant(Kern *k) {
    k->from_f32[DT_Q8_0] = q8_0_from_f32;
    k->from_f32[DT_Q4_0] = q4_0_from_f32;
    k->quant[DT_Q8_0] = q8_0_quant;
    kern_avx2_quant_search(k);
    kern_avx2_quant_k(k);
}
