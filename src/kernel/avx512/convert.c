/* SPDX-License-Identifier: Apache-2.0
 * Plain types in both directions and blocks to f32 on AVX-512, bit for bit what ref/convert.c does:
 * products and sums that ref rounds twice stay separate instructions, no fused multiply-add. */
#include "kernel/avx512/unpack.h"
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

/* The halves at the head of a block. */
static ALWAYS_INLINE __m512 half_at(const char *block, size_t at) {
    uint16_t h;
    memcpy(&h, block + at, sizeof h);
    return _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(h)));
}

/* What a block of 32 is made of: integers counted from `first`, nibbles at qs, fifth bits at qh (0: none), and a
 * second half to add. */
typedef struct Kind {
    float first;
    size_t size, qs, qh;
    bool two;
} Kind;

static ALWAYS_INLINE __m512 block_table(Kind t, float first, __m512 d, __m512 m) {
    __m512 v = _mm512_mul_ps(d, unpack_table(first));
    return t.two ? _mm512_add_ps(v, m) : v;
}

static ALWAYS_INLINE void blocks_to_f32(float *y, const char *b, size_t n, Kind t) {
    for (; n > 0; n -= QK, b += t.size, y += QK) {
        __m512 d = half_at(b, 0), m = half_at(b, sizeof(uint16_t));
        __m512 table = block_table(t, t.first, d, m);
        __m512i lo = unpack_bytes(b + t.qs), hi = _mm512_srli_epi32(lo, 4);
        __m512 w0 = _mm512_permutexvar_ps(lo, table), w1 = _mm512_permutexvar_ps(hi, table);
        if (t.qh > 0) {
            __m512 upper = block_table(t, t.first + 16, d, m);
            __mmask32 h = unpack_fifth(b + t.qh);
            w0 = _mm512_mask_permutexvar_ps(w0, (__mmask16)h, lo, upper);
            w1 = _mm512_mask_permutexvar_ps(w1, (__mmask16)(h >> 16), hi, upper);
        }
        _mm512_storeu_ps(y, w0);
        _mm512_storeu_ps(y + 16, w1);
    }
}

static void q4_0_to_f32(float *y, const void *x, size_t n) {
    Kind t = {-8, sizeof(BlockQ4_0), offsetof(BlockQ4_0, qs), 0, false};
    blocks_to_f32(y, x, n, t);
}

static void q4_1_to_f32(float *y, const void *x, size_t n) {
    Kind t = {0, sizeof(BlockQ4_1), offsetof(BlockQ4_1, qs), 0, true};
    blocks_to_f32(y, x, n, t);
}

static void q5_0_to_f32(float *y, const void *x, size_t n) {
    Kind t = {-16, sizeof(BlockQ5_0), offsetof(BlockQ5_0, qs), offsetof(BlockQ5_0, qh), false};
    blocks_to_f32(y, x, n, t);
}

static void q5_1_to_f32(float *y, const void *x, size_t n) {
    Kind t = {0, sizeof(BlockQ5_1), offsetof(BlockQ5_1, qs), offsetof(BlockQ5_1, qh), true};
    blocks_to_f32(y, x, n, t);
}

/* scale * (first + i) - min, i = 0 .. 15, rounded as ref rounds. */
static ALWAYS_INLINE __m512 table_k(float first, float scale, float min) {
    __m512 v = _mm512_mul_ps(_mm512_set1_ps(scale), unpack_table(first));
    return _mm512_sub_ps(v, _mm512_set1_ps(min));
}

/* 32 elements of one group: v are the bytes, its nibble the lowest; h their fifth bits, or NULL. */
static ALWAYS_INLINE void group_to_f32(float *y, const __m512i v[2], const __mmask16 h[2],
                                       float scale, float min) {
    __m512 table = table_k(0, scale, min);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        __m512 w = _mm512_permutexvar_ps(v[i], table);
        if (h) w = _mm512_mask_permutexvar_ps(w, h[i], v[i], table_k(16, scale, min));
        _mm512_storeu_ps(y + 16 * i, w);
    }
}

/* q4_K, or q5_K with `fifth`. */
static ALWAYS_INLINE void blocks_k_to_f32(float *y, const char *b, size_t n, bool fifth) {
    size_t size = fifth ? sizeof(BlockQ5_K) : sizeof(BlockQ4_K);
    const size_t qs = fifth ? offsetof(BlockQ5_K, qs) : offsetof(BlockQ4_K, qs);
    for (; n > 0; n -= QK_K, b += size, y += QK_K) {
        const char *qh = b + offsetof(BlockQ5_K, qh);
        float s[16];
        _mm512_storeu_ps(s, unpack_scales_k(b));
#pragma GCC unroll 8
        for (int g = 0; g < QK_K / 32; g++) {
            const char *q = b + qs + g / 2 * 32;
            __m512i v[2] = {unpack_bytes(q), unpack_bytes(q + 16)};
            __mmask16 h[2] = {0};
            for (int i = 0; i < 2; i++) {
                if (g % 2) v[i] = _mm512_srli_epi32(v[i], 4);
                if (fifth) h[i] = unpack_fifth_k(qh + 16 * i, g);
            }
            group_to_f32(y + 32 * g, v, fifth ? h : NULL, s[g], s[8 + g]);
        }
    }
}

static void q4_k_to_f32(float *y, const void *x, size_t n) { blocks_k_to_f32(y, x, n, false); }

static void q5_k_to_f32(float *y, const void *x, size_t n) { blocks_k_to_f32(y, x, n, true); }

static void q6_k_to_f32(float *y, const void *x, size_t n) {
    const char *b = x;
    for (; n > 0; n -= QK_K, b += sizeof(BlockQ6_K), y += QK_K) {
        float s[QK_K / 16];
        _mm512_storeu_ps(s, unpack_scales_q6_k(b));
        for (int half = 0; half < 2; half++) {
            __m512i v[2];
            unpack_q6_k(v, b, half);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                __m512 d = _mm512_set1_ps(s[8 * half + i]);
                __m512 w = _mm512_mul_ps(d, unpack_quarter(v[i / 4], i % 4));
                _mm512_storeu_ps(y + 128 * half + 16 * i, w);
            }
        }
    }
}

void kern_avx512_convert(Kern *k) {
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
