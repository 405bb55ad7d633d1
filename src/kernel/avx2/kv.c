/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions and writing to the paged cache on AVX2. */
#include <math.h>

#include "kernel/avx2/vec.h"
#include "kernel/internal.h"
#include "tensor/half.h"

/* ---- rotary positions ---- */

/* 8 pairs (a[i], b[i]) by the angles at cs. */
static ALWAYS_INLINE void rotate_halves(float *a, float *b, const float *cs, size_t left,
                                        float sign) {
    __m256 lo = vec_load(cs, 2 * left);
    __m256 hi = left > 4 ? vec_load(cs + 8, 2 * left - 8) : _mm256_setzero_ps();
    __m256 even = _mm256_permute2f128_ps(lo, hi, 0x20), odd = _mm256_permute2f128_ps(lo, hi, 0x31);
    __m256 c = _mm256_shuffle_ps(even, odd, 0x88), s = _mm256_shuffle_ps(even, odd, 0xdd);
    s = _mm256_mul_ps(s, _mm256_set1_ps(sign));
    __m256 va = vec_load(a, left), vb = vec_load(b, left);
    vec_store(a, left, _mm256_fmsub_ps(va, c, _mm256_mul_ps(vb, s)));
    vec_store(b, left, _mm256_fmadd_ps(va, s, _mm256_mul_ps(vb, c)));
}

/* 4 pairs (x[2i], x[2i + 1]). */
static ALWAYS_INLINE void rotate_pairs(float *x, const float *cs, size_t left, float sign) {
    __m256 v = vec_load(x, left), a = vec_load(cs, left), swapped = _mm256_permute_ps(v, 0xb1);
    __m256 s = _mm256_mul_ps(_mm256_movehdup_ps(a), _mm256_set1_ps(sign));
    vec_store(x, left, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(a), _mm256_mul_ps(swapped, s)));
}

static void rope(float *x, const float *cs, int n_heads, int hd, int n_rot, bool halves,
                 bool inverse) {
    float sign = inverse ? -1.0f : 1.0f;
    size_t n = (size_t)n_rot;
    for (int h = 0; h < n_heads; h++, x += hd) {
        for (size_t i = 0; halves && i < n; i += 8) {
            rotate_halves(x + i, x + n + i, cs + 2 * i, n - i, sign);
        }
        for (size_t i = 0; !halves && i < 2 * n; i += 8) {
            rotate_pairs(x + i, cs + i, 2 * n - i, sign);
        }
    }
}

/* ---- writing; hd is a multiple of 8 ---- */

static void kv_put_f32(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    float *kb = (float *)kblock + slot;
    for (int d = 0; d < hd; d++) kb[d * KV_BLOCK] = k[d];
    memcpy((float *)vblock + (size_t)slot * (size_t)hd, v, (size_t)hd * sizeof *v);
}

enum { PUT = 8 };

static ALWAYS_INLINE void put_f16(uint16_t *y, const float *x, int n) {
    (void)n;
    _mm_storeu_si128((__m128i *)(void *)y, vec_to_f16(_mm256_loadu_ps(x)));
}

/* The group of n <= 32 values at x, eights of them, as bytes and their scale; ref/attn.c has the rule. */
static ALWAYS_INLINE uint16_t group_q8_0(int8_t *q, const float *x, int n) {
    __m256 max = _mm256_setzero_ps(); /* a NaN as first operand of max gives the second */
    __m256 nan = _mm256_setzero_ps();
    for (int i = 0; i < n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        max = _mm256_max_ps(vec_abs(v), max);
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
    float d = _mm256_movemask_ps(nan) ? NAN : vec_max(max) / 127.0f;
    __m256 id = _mm256_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
    const __m256i byte = _mm256_set1_epi32(0xff);
    for (int i = 0; i < n; i += 8) {
        __m256i v = vec_round_away(_mm256_mul_ps(_mm256_loadu_ps(x + i), id));
        v = _mm256_and_si256(v, byte);
        __m128i w = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storel_epi64((__m128i *)(void *)(q + i), _mm_packus_epi16(w, w));
    }
    return half_f32_to_f16(d);
}

#include "kernel/kv_put.inc"

void kern_avx2_kv(Kern *k) {
    k->rope = rope;
    k->kv_put[DT_F32] = kv_put_f32;
    k->kv_put[DT_F16] = kv_put_f16;
    k->kv_put[DT_Q8_0] = kv_put_q8_0;
}
