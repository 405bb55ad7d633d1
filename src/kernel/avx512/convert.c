/* SPDX-License-Identifier: Apache-2.0
 * Plain types in both directions and blocks to f32 on AVX-512, bit for bit what ref/convert.c does:
 * products and sums that ref rounds twice stay separate instructions, no fused multiply-add. */
#include "kernel/avx512/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

static ALWAYS_INLINE __m256i load16(const uint16_t *p, __mmask16 m) {
    return _mm256_maskz_loadu_epi16(m, p);
}

/* The processor's conversion, but a signalling NaN stays as it is, as in half.h. */
static ALWAYS_INLINE __m512 f16_to_f32_16(__m256i h) {
    __m512 v = _mm512_cvtph_ps(h);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    if (LIKELY(nan == 0)) return v;
    __m512i u = _mm512_cvtepu16_epi32(h);
    __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(u, 15), 31);
    __m512i man = _mm512_slli_epi32(_mm512_and_si512(u, _mm512_set1_epi32(0x3ff)), 13);
    __m512i bits = _mm512_or_si512(_mm512_or_si512(sign, man), _mm512_set1_epi32(0x7f800000));
    return _mm512_mask_mov_ps(v, nan, _mm512_castsi512_ps(bits));
}

static void f16_to_f32(float *y, const void *x, size_t n) {
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        _mm512_mask_storeu_ps(y + i, m, f16_to_f32_16(load16(h + i, m)));
    }
}

static void f16_from_f32(void *y, const float *x, size_t n) {
    uint16_t *h = y;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        _mm256_mask_storeu_epi16(h + i, m, vec_to_f16(vec_load(x + i, m)));
    }
}

static void bf16_to_f32(float *y, const void *x, size_t n) {
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512i u = _mm512_slli_epi32(_mm512_cvtepu16_epi32(load16(h + i, m)), 16);
        _mm512_mask_storeu_epi32(y + i, m, u);
    }
}

/* Nearest even by adding half a unit, less one if the last kept bit is 0; NaN keeps its upper half. */
static ALWAYS_INLINE __m256i bf16_from_f32_16(__m512 v) {
    __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
    __m512i last = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), last);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(64));
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(r, 16), nan, quiet));
}

static void bf16_from_f32(void *y, const float *x, size_t n) {
    uint16_t *h = y;
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        _mm256_mask_storeu_epi16(h + i, m, bf16_from_f32_16(vec_load(x + i, m)));
    }
}

static void q8_0_to_f32(float *y, const void *x, size_t n) {
    const BlockQ8_0 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        __m512 d = _mm512_set1_ps(half_f16_to_f32(b[i].d));
        for (size_t j = 0; j < QK; j += 16) {
            __m128i q = _mm_loadu_si128((const __m128i *)(b[i].qs + j));
            __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
            _mm512_storeu_ps(y + i * QK + j, _mm512_mul_ps(d, v));
        }
    }
}

static void q4_0_to_f32(float *y, const void *x, size_t n) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const BlockQ4_0 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        __m512 table = _mm512_mul_ps(_mm512_set1_ps(half_f16_to_f32(b[i].d)), values);
        __m512i q = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)b[i].qs));
        float *yb = y + i * QK;
        _mm512_storeu_ps(yb, _mm512_permutexvar_ps(q, table));
        _mm512_storeu_ps(yb + 16, _mm512_permutexvar_ps(_mm512_srli_epi32(q, 4), table));
    }
}

void kern_avx512_convert(Kern *k) {
    k->to_f32[DT_F16] = f16_to_f32;
    k->to_f32[DT_BF16] = bf16_to_f32;
    k->to_f32[DT_Q8_0] = q8_0_to_f32;
    k->to_f32[DT_Q4_0] = q4_0_to_f32;
    k->from_f32[DT_F16] = f16_from_f32;
    k->from_f32[DT_BF16] = bf16_from_f32;
}
