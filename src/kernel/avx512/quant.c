/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks on AVX-512, bit for bit what ref/quant.c does: products and sums that ref rounds twice
 * stay separate instructions, no fused multiply-add. */
#include "kernel/avx512/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

static void q8_0_from_f32(void *y, const float *x, size_t n) {
    BlockQ8_0 *b = y;
    for (size_t i = 0; i < n / QK; i++) {
        __m512 v0 = _mm512_loadu_ps(x + i * QK), v1 = _mm512_loadu_ps(x + i * QK + 16);
        float d = _mm512_reduce_max_ps(_mm512_max_ps(vec_abs(v0), vec_abs(v1))) / 127.0f;
        __m512 id = _mm512_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
        __m128i q0 = _mm512_cvtepi32_epi8(vec_round_away(_mm512_mul_ps(v0, id)));
        __m128i q1 = _mm512_cvtepi32_epi8(vec_round_away(_mm512_mul_ps(v1, id)));
        b[i].d = half_f32_to_f16(d);
        _mm_storeu_si128((__m128i *)b[i].qs, q0);
        _mm_storeu_si128((__m128i *)(b[i].qs + 16), q1);
    }
}

/* The first element of the largest magnitude; 0 in a block of zeros. */
static ALWAYS_INLINE float first_max(const float *x, __m512 v0, __m512 v1) {
    __m512 a0 = vec_abs(v0), a1 = vec_abs(v1);
    __m512 max = _mm512_set1_ps(_mm512_reduce_max_ps(_mm512_max_ps(a0, a1)));
    uint32_t at = (uint32_t)_mm512_cmp_ps_mask(a0, max, _CMP_EQ_OQ) |
                  (uint32_t)_mm512_cmp_ps_mask(a1, max, _CMP_EQ_OQ) << 16;
    float first = at ? x[__builtin_ctz(at)] : 0.0f;
    return first != 0.0f ? first : 0.0f; /* -0 counts as none */
}

static ALWAYS_INLINE __m512i nibbles(__m512 v, __m512 id) {
    __m512 q = _mm512_add_ps(_mm512_mul_ps(v, id), _mm512_set1_ps(8.5f));
    __m512i i = _mm512_and_si512(_mm512_cvttps_epi32(q), _mm512_set1_epi32(0xff));
    return _mm512_min_epi32(i, _mm512_set1_epi32(15));
}

static void q4_0_from_f32(void *y, const float *x, size_t n) {
    BlockQ4_0 *b = y;
    for (size_t i = 0; i < n / QK; i++) {
        __m512 v0 = _mm512_loadu_ps(x + i * QK), v1 = _mm512_loadu_ps(x + i * QK + 16);
        float d = first_max(x + i * QK, v0, v1) / -8.0f;
        __m512 id = _mm512_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
        __m512i q = _mm512_or_si512(nibbles(v0, id), _mm512_slli_epi32(nibbles(v1, id), 4));
        b[i].d = half_f32_to_f16(d);
        _mm_storeu_si128((__m128i *)b[i].qs, _mm512_cvtepi32_epi8(q));
    }
}

static void q8_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    (void)w; /* the format's reference ignores it */
    q8_0_from_f32(y, x, rows * cols);
}

void kern_avx512_quant(Kern *k) {
    k->from_f32[DT_Q8_0] = q8_0_from_f32;
    k->from_f32[DT_Q4_0] = q4_0_from_f32;
    k->quant[DT_Q8_0] = q8_0_quant;
    kern_avx512_quant_search(k);
    kern_avx512_quant_k(k);
}
