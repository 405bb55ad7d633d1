/* SPDX-License-Identifier: Apache-2.0
 * Plain types in both directions and blocks to f32 on AVX2, bit for bit what ref/convert.c does:
 * products and sums that ref rounds twice stay separate instructions, no fused multiply-add. */
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

void kern_avx2_convert(Kern *k) {
    k->to_f32[DT_F16] = f16_to_f32;
    k->to_f32[DT_BF16] = bf16_to_f32;
    k->to_f32[DT_Q8_0] = q8_0_to_f32;
    k->to_f32[DT_Q4_0] = q4_0_to_f32;
    k->from_f32[DT_F16] = f16_from_f32;
    k->from_f32[DT_BF16] = bf16_from_f32;
}
