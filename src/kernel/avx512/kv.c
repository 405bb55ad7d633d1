/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions and writing to the paged cache on AVX-512. */
#include <math.h>

#include "kernel/avx512/vec.h"
#include "kernel/internal.h"
#include "tensor/half.h"

/* ---- rotary positions ---- */

/* 16 pairs (a[i], b[i]) by the angles at cs. */
static ALWAYS_INLINE void rotate_halves(float *a, float *b, const float *cs, size_t left,
                                        float sign) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __mmask16 m = vec_mask(left);
    __m512 lo = vec_load(cs, vec_mask(2 * left));
    __m512 hi = left > 8 ? vec_load(cs + 16, vec_mask(2 * left - 16)) : _mm512_setzero_ps();
    __m512 c = _mm512_permutex2var_ps(lo, even, hi);
    __m512 s = _mm512_mul_ps(_mm512_permutex2var_ps(lo, odd, hi), _mm512_set1_ps(sign));
    __m512 va = vec_load(a, m), vb = vec_load(b, m);
    _mm512_mask_storeu_ps(a, m, _mm512_fmsub_ps(va, c, _mm512_mul_ps(vb, s)));
    _mm512_mask_storeu_ps(b, m, _mm512_fmadd_ps(va, s, _mm512_mul_ps(vb, c)));
}

/* 8 pairs (x[2i], x[2i + 1]). */
static ALWAYS_INLINE void rotate_pairs(float *x, const float *cs, size_t left, float sign) {
    __mmask16 m = vec_mask(left);
    __m512 v = vec_load(x, m), a = vec_load(cs, m), swapped = _mm512_permute_ps(v, 0xb1);
    __m512 s = _mm512_mul_ps(_mm512_movehdup_ps(a), _mm512_set1_ps(sign));
    __m512 r = _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(a), _mm512_mul_ps(swapped, s));
    _mm512_mask_storeu_ps(x, m, r);
}

static void rope(float *x, const float *cs, int n_heads, int hd, int n_rot, bool halves,
                 bool inverse) {
    float sign = inverse ? -1.0f : 1.0f;
    size_t n = (size_t)n_rot;
    for (int h = 0; h < n_heads; h++, x += hd) {
        for (size_t i = 0; halves && i < n; i += 16) {
            rotate_halves(x + i, x + n + i, cs + 2 * i, n - i, sign);
        }
        for (size_t i = 0; !halves && i < 2 * n; i += 16) {
            rotate_pairs(x + i, cs + i, 2 * n - i, sign);
        }
    }
}

/* ---- writing ---- */

static void kv_put_f32(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    float *kb = (float *)kblock + slot, *vb = (float *)vblock + (size_t)slot * (size_t)hd;
    const __m512i step = _mm512_setr_epi32(0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352,
                                           384, 416, 448, 480);
    for (int d = 0; d < hd; d += 16) {
        __mmask16 m = vec_mask((size_t)(hd - d));
        _mm512_mask_i32scatter_ps(kb + d * KV_BLOCK, m, step, vec_load(k + d, m), sizeof *kb);
        _mm512_mask_storeu_ps(vb + d, m, vec_load(v + d, m));
    }
}

enum { PUT = 16 };

static ALWAYS_INLINE void put_f16(uint16_t *y, const float *x, int n) {
    __mmask16 m = vec_mask((size_t)n);
    _mm256_mask_storeu_epi16(y, m, vec_to_f16(vec_load(x, m)));
}

/* The group of n <= 32 values at x as bytes and their scale; ref/attn.c has the rule. */
static ALWAYS_INLINE uint16_t group_q8_0(int8_t *q, const float *x, int n) {
    __mmask16 m0 = vec_mask((size_t)n), m1 = vec_mask((size_t)MAX(0, n - 16));
    __m512 v0 = vec_load(x, m0), v1 = vec_load(x + (n > 16 ? 16 : 0), m1);
    /* a NaN as first operand of max gives the second */
    __m512 a = _mm512_max_ps(vec_abs(v1), _mm512_max_ps(vec_abs(v0), _mm512_setzero_ps()));
    bool nan = (_mm512_cmp_ps_mask(v0, v1, _CMP_UNORD_Q) & m0) != 0;
    float d = nan ? NAN : _mm512_reduce_max_ps(a) / 127.0f;
    __m512 id = _mm512_set1_ps(d != 0.0f ? 1.0f / d : 0.0f);
    __m128i q0 = _mm512_cvtepi32_epi8(vec_round_away(_mm512_mul_ps(v0, id)));
    __m128i q1 = _mm512_cvtepi32_epi8(vec_round_away(_mm512_mul_ps(v1, id)));
    _mm_mask_storeu_epi8(q, m0, q0);
    if (m1) _mm_mask_storeu_epi8(q + 16, m1, q1);
    return half_f32_to_f16(d);
}

#include "kernel/kv_put.inc"

void kern_avx512_kv(Kern *k) {
    k->rope = rope;
    k->kv_put[DT_F32] = kv_put_f32;
    k->kv_put[DT_F16] = kv_put_f16;
    k->kv_put[DT_Q8_0] = kv_put_q8_0;
}
