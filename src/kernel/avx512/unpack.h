/* SPDX-License-Identifier: Apache-2.0
 * Quantized blocks on AVX-512, for convert.c and the gemv files. The sixteen values that a nibble can stand for
 * are a table in a register, with scale and minimum in them; a weight is looked up, not computed. Looking up
 * takes the low four bits of a lane, so what lies above them needs no mask. */
#ifndef INGOT_KERNEL_AVX512_UNPACK_H
#define INGOT_KERNEL_AVX512_UNPACK_H

#include "kernel/avx512/vec.h"
#include "tensor/blocks.h"

/* first, first + 1, .. first + 15 */
static ALWAYS_INLINE __m512 unpack_table(float first) {
    const __m512 count = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_ps(count, _mm512_set1_ps(first));
}

/* 16 bytes, a lane each. */
static ALWAYS_INLINE __m512i unpack_bytes(const void *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}

/* The fifth bits of a block of 32: bit i is element i's. */
static ALWAYS_INLINE __mmask32 unpack_fifth(const void *qh) {
    uint32_t h;
    memcpy(&h, qh, sizeof h);
    return h;
}

/* 16 of the fifth bits of q5_K: bit g of each byte. */
static ALWAYS_INLINE __mmask16 unpack_fifth_k(const void *qh, int g) {
    return _mm512_test_epi32_mask(unpack_bytes(qh), _mm512_set1_epi32(1 << g));
}

/* Of eight groups of a q4_K or q5_K block: d * scale in the lower lanes, dmin * min in the upper. Both begin
 * d, dmin, scales. */
static ALWAYS_INLINE __m512 unpack_scales_k(const char *block) {
    uint32_t d, w[3];
    memcpy(&d, block, sizeof d);
    memcpy(w, block + offsetof(BlockQ4_K, scales), sizeof w);
    uint32_t s_hi = (w[2] & 0x0f0f0f0f) | (w[0] >> 2 & 0x30303030);
    uint32_t m_hi = (w[2] >> 4 & 0x0f0f0f0f) | (w[1] >> 2 & 0x30303030);
    uint64_t s = (w[0] & 0x3f3f3f3f) | (uint64_t)s_hi << 32;
    uint64_t m = (w[1] & 0x3f3f3f3f) | (uint64_t)m_hi << 32;
    const __m512i pick = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    __m512 f = _mm512_castps128_ps512(_mm_cvtph_ps(_mm_cvtsi32_si128((int)d)));
    __m512i v = _mm512_cvtepu8_epi32(_mm_set_epi64x((long long)m, (long long)s));
    return _mm512_mul_ps(_mm512_permutexvar_ps(pick, f), _mm512_cvtepi32_ps(v));
}

/* d * scale of the sixteen groups of a q6_K block. */
static ALWAYS_INLINE __m512 unpack_scales_q6_k(const char *block) {
    uint16_t d;
    memcpy(&d, block + offsetof(BlockQ6_K, d), sizeof d);
    __m128i s = _mm_loadu_si128((const void *)(block + offsetof(BlockQ6_K, scales)));
    __m512 f = _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(d)));
    return _mm512_mul_ps(f, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(s)));
}

/* 128 elements of a q6_K block as signed bytes, in order. */
static ALWAYS_INLINE void unpack_q6_k(__m512i v[2], const char *block, int half) {
    const __m512i low = _mm512_set1_epi8(15), up = _mm512_set1_epi8(0x30);
    const __m512i bias = _mm512_set1_epi8(32);
    const __m512i left = _mm512_setr_epi64(4, 4, 4, 4, 2, 2, 2, 2);
    const __m512i right = _mm512_setr_epi64(0, 0, 0, 0, 2, 2, 2, 2);
    __m512i q = _mm512_loadu_si512(block + offsetof(BlockQ6_K, ql) + half * 64);
    __m256i b = _mm256_loadu_si256((const void *)(block + offsetof(BlockQ6_K, qh) + half * 32));
    __m512i h = _mm512_broadcast_i64x4(b);
    __m512i h0 = _mm512_and_si512(_mm512_sllv_epi64(h, left), up);
    __m512i h1 = _mm512_and_si512(_mm512_srlv_epi64(h, right), up);
    /* bits of the first where the mask has ones, of the second elsewhere */
    __m512i v0 = _mm512_ternarylogic_epi64(low, q, h0, 0xca);
    __m512i v1 = _mm512_ternarylogic_epi64(low, _mm512_srli_epi64(q, 4), h1, 0xca);
    v[0] = _mm512_sub_epi8(v0, bias);
    v[1] = _mm512_sub_epi8(v1, bias);
}

/* Signed bytes 16 i .. 16 i + 15. */
static ALWAYS_INLINE __m512 unpack_quarter(__m512i v, int i) {
    __m128i b = i == 0   ? _mm512_castsi512_si128(v)
                : i == 1 ? _mm512_extracti32x4_epi32(v, 1)
                : i == 2 ? _mm512_extracti32x4_epi32(v, 2)
                         : _mm512_extracti32x4_epi32(v, 3);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}

#endif
