/* SPDX-License-Identifier: Apache-2.0
 * Quantized blocks to integers on AVX2, for convert.c and the gemv files.
 *
 * The 32 integers are signed bytes in the order that makes eight of them one shuffle: dword i of the lower
 * lane has elements 8 i .. 8 i + 3, dword i of the upper lane the four behind them. */
#ifndef INGOT_KERNEL_AVX2_UNPACK_H
#define INGOT_KERNEL_AVX2_UNPACK_H

#include "kernel/avx2/vec.h"
#include "tensor/blocks.h"

/* unpack_f32 gives integers times 2^24; scales times this undo it. */
#define UNPACK_UNIT 0x1p-24f

/* Elements 8 i .. 8 i + 7, times 2^24: the bytes go to the top of a dword, and the sign with them. */
static ALWAYS_INLINE __m256 unpack_f32(__m256i v, int i) {
    const __m256i up = _mm256_setr_epi8(-1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3,
                                        -1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3);
    __m256i at = _mm256_or_si256(up, _mm256_set1_epi32(4 * i << 24)); /* bytes 4 i .. 4 i + 3 */
    return _mm256_cvtepi32_ps(_mm256_shuffle_epi8(v, at));
}

/* 32 bytes in memory, in order. */
static ALWAYS_INLINE __m256i unpack_bytes(const void *p) {
    const __m256i at = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm256_permutevar8x32_epi32(_mm256_loadu_si256(p), at);
}

static ALWAYS_INLINE __m256i unpack_low(__m256i v) {
    return _mm256_and_si256(v, _mm256_set1_epi8(15));
}

static ALWAYS_INLINE __m256i unpack_high(__m256i v) { return unpack_low(_mm256_srli_epi16(v, 4)); }

/* ---- blocks of 32 ---- */

/* 16 bytes: 16 low nibbles, then 16 high ones. */
static ALWAYS_INLINE __m256i unpack_nibbles(const void *qs) {
    const __m256i at = _mm256_setr_epi32(0, 2, 0, 2, 1, 3, 1, 3);
    __m256i v = _mm256_castsi128_si256(_mm_loadu_si128(qs));
    v = _mm256_permutevar8x32_epi32(v, at);
    return unpack_low(_mm256_srlv_epi64(v, _mm256_setr_epi64x(0, 4, 0, 4)));
}

/* All bits where bit i of qh is 0, as element i. */
static ALWAYS_INLINE __m256i unpack_clear_bits(const void *qh) {
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 0, 0, 0,
                                          0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m256i bit =
        _mm256_setr_epi64x(0x0804020108040201, 0x0804020108040201, (long long)0x8040201080402010,
                           (long long)0x8040201080402010);
    int32_t h;
    memcpy(&h, qh, sizeof h);
    __m256i v = _mm256_shuffle_epi8(_mm256_set1_epi32(h), byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(v, bit), _mm256_setzero_si256());
}

static ALWAYS_INLINE __m256i unpack_q4_0(const char *block) {
    __m256i v = unpack_nibbles(block + offsetof(BlockQ4_0, qs));
    return _mm256_sub_epi8(v, _mm256_set1_epi8(8));
}

static ALWAYS_INLINE __m256i unpack_q4_1(const char *block) {
    return unpack_nibbles(block + offsetof(BlockQ4_1, qs));
}

/* Less 16 is the upper nibble all ones where the fifth bit is clear. */
static ALWAYS_INLINE __m256i unpack_q5_0(const char *block) {
    __m256i clear = unpack_clear_bits(block + offsetof(BlockQ5_0, qh));
    __m256i up = _mm256_and_si256(clear, _mm256_set1_epi8(-16));
    return _mm256_or_si256(unpack_nibbles(block + offsetof(BlockQ5_0, qs)), up);
}

static ALWAYS_INLINE __m256i unpack_q5_1(const char *block) {
    __m256i clear = unpack_clear_bits(block + offsetof(BlockQ5_1, qh));
    __m256i up = _mm256_andnot_si256(clear, _mm256_set1_epi8(16));
    return _mm256_or_si256(unpack_nibbles(block + offsetof(BlockQ5_1, qs)), up);
}

/* ---- 32 elements of a half of a block of 256, i = 0 .. 3 (a constant) ---- */

static ALWAYS_INLINE __m256i unpack_q4_k(const char *block, int half, int i) {
    __m256i v = unpack_bytes(block + offsetof(BlockQ4_K, qs) + half * 64 + i / 2 * 32);
    return i % 2 ? unpack_high(v) : unpack_low(v);
}

static ALWAYS_INLINE __m256i unpack_q5_k(const char *block, int half, int i) {
    __m256i v = unpack_bytes(block + offsetof(BlockQ5_K, qs) + half * 64 + i / 2 * 32);
    __m256i h = unpack_bytes(block + offsetof(BlockQ5_K, qh));
    h = _mm256_srlv_epi32(h, _mm256_set1_epi32(4 * half));
    h = _mm256_and_si256(_mm256_slli_epi16(h, 4 - i), _mm256_set1_epi8(16));
    return _mm256_or_si256(i % 2 ? unpack_high(v) : unpack_low(v), h);
}

static ALWAYS_INLINE __m256i unpack_q6_k(const char *block, int half, int i) {
    __m256i v = unpack_bytes(block + offsetof(BlockQ6_K, ql) + half * 64 + i % 2 * 32);
    __m256i h = unpack_bytes(block + offsetof(BlockQ6_K, qh) + half * 32);
    h = i < 2 ? _mm256_slli_epi16(h, 4 - 2 * i) : _mm256_srli_epi16(h, 2 * i - 4);
    h = _mm256_and_si256(h, _mm256_set1_epi8(0x30));
    v = _mm256_or_si256(i < 2 ? unpack_low(v) : unpack_high(v), h);
    return _mm256_sub_epi8(v, _mm256_set1_epi8(32));
}

/* ---- scales ---- */

/* Of eight groups of a q4_K or q5_K block: d * scale and dmin * min. Both begin d, dmin, scales. */
static ALWAYS_INLINE void unpack_scales_k(__m256 *scale, __m256 *min, const char *block) {
    uint32_t d, w[3];
    memcpy(&d, block, sizeof d);
    memcpy(w, block + offsetof(BlockQ4_K, scales), sizeof w);
    uint32_t s_hi = (w[2] & 0x0f0f0f0f) | (w[0] >> 2 & 0x30303030);
    uint32_t m_hi = (w[2] >> 4 & 0x0f0f0f0f) | (w[1] >> 2 & 0x30303030);
    uint64_t s = (w[0] & 0x3f3f3f3f) | (uint64_t)s_hi << 32;
    uint64_t m = (w[1] & 0x3f3f3f3f) | (uint64_t)m_hi << 32;
    __m128 f = _mm_cvtph_ps(_mm_cvtsi32_si128((int)d));
    __m256 fs = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)s)));
    __m256 fm = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)m)));
    *scale = _mm256_mul_ps(_mm256_broadcastss_ps(f), fs);
    *min = _mm256_mul_ps(_mm256_broadcastss_ps(_mm_movehdup_ps(f)), fm);
}

/* d * scale of eight groups of a q6_K block, from group 8 i. */
static ALWAYS_INLINE __m256 unpack_scales_q6_k(const char *block, int i) {
    uint16_t d;
    memcpy(&d, block + offsetof(BlockQ6_K, d), sizeof d);
    __m128i s = _mm_loadl_epi64((const void *)(block + offsetof(BlockQ6_K, scales) + 8 * i));
    __m128 f = _mm_cvtph_ps(_mm_cvtsi32_si128(d));
    return _mm256_mul_ps(_mm256_broadcastss_ps(f), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(s)));
}

#endif
