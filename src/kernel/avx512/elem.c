/* SPDX-License-Identifier: Apache-2.0
 * Element-wise functions, dropout and sums on AVX-512. Loops take 16 elements and end with a masked step. */
#include "base/rng.h"
#include "kernel/avx512/vec.h"
#include "kernel/internal.h"

static ALWAYS_INLINE void store(float *p, __mmask16 m, __m512 v) { _mm512_mask_storeu_ps(p, m, v); }

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        store(y + i, m, _mm512_add_ps(vec_load(y + i, m), vec_load(x + i, m)));
    }
}

static void scale(float *y, float s, size_t n) {
    __m512 v = _mm512_set1_ps(s);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        store(y + i, m, _mm512_mul_ps(vec_load(y + i, m), v));
    }
}

/* ---- activations: 0.5 (1 + tanh(u)) = sigmoid(2 u) ---- */

#define GELU_2C 1.5957691216057308f  /* 2 sqrt(2 / pi) */
#define GELU_2CA 0.0713548162726009f /* 2 sqrt(2 / pi) 0.044715 */

/* sigmoid(2 u(x)) */
static ALWAYS_INLINE __m512 gelu_gate(__m512 x) {
    __m512 c =
        _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(GELU_2CA), _mm512_set1_ps(GELU_2C));
    return vec_sigmoid(_mm512_mul_ps(x, c));
}

static void gelu(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 v = vec_load(x + i, m);
        store(y + i, m, _mm512_mul_ps(v, gelu_gate(v)));
    }
}

/* s + x s (1 - s) (2 u)'. Beyond 12 the gate is flat, and clamping keeps x^2 finite. */
static ALWAYS_INLINE __m512 gelu_slope(__m512 x) {
    __m512 one = _mm512_set1_ps(1.0f);
    x = vec_clamp(x, -12.0f, 12.0f);
    __m512 s = gelu_gate(x);
    __m512 du = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(3.0f * GELU_2CA),
                                _mm512_set1_ps(GELU_2C));
    __m512 ds = _mm512_mul_ps(_mm512_mul_ps(s, _mm512_sub_ps(one, s)), du);
    return _mm512_fmadd_ps(x, ds, s);
}

static void gelu_bwd(float *dx, const float *dy, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        store(dx + i, m, _mm512_mul_ps(vec_load(dy + i, m), gelu_slope(vec_load(x + i, m))));
    }
}

static void swiglu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 v = vec_load(g + i, m), s = vec_sigmoid(v);
        store(y + i, m, _mm512_mul_ps(_mm512_mul_ps(v, s), vec_load(u + i, m)));
    }
}

static void swiglu_bwd(float *dg, float *du, const float *dy, const float *g, const float *u,
                       size_t n) {
    __m512 one = _mm512_set1_ps(1.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        __m512 v = vec_load(g + i, m), w = vec_load(u + i, m), d = vec_load(dy + i, m);
        __m512 s = vec_sigmoid(v), ds = _mm512_mul_ps(d, s);
        __m512 slope = _mm512_fmadd_ps(v, _mm512_sub_ps(one, s), one);
        store(du + i, m, _mm512_mul_ps(ds, v));
        store(dg + i, m, _mm512_mul_ps(_mm512_mul_ps(ds, w), slope));
    }
}

/* ---- dropout: 16 counters of Philox side by side, 64 words ---- */

/* Both halves of the 32 x 32 -> 64 bit products of each lane. */
static ALWAYS_INLINE void mul_wide(__m512i *hi, __m512i *lo, __m512i a, __m512i b) {
    const __mmask16 odd = 0xaaaa;
    __m512i even_product = _mm512_mul_epu32(a, b);
    __m512i odd_product = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), b);
    *hi = _mm512_mask_mov_epi32(_mm512_srli_epi64(even_product, 32), odd, odd_product);
    *lo = _mm512_mullo_epi32(a, b);
}

/* w[j] = word j of counters lo .. lo + 15, one a lane; the low half of `lo` must not wrap within. */
static ALWAYS_INLINE void philox16(__m512i w[4], uint64_t key, uint64_t hi, uint64_t lo) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i m0 = _mm512_set1_epi32((int)0xD2511F53u),
                  m1 = _mm512_set1_epi32((int)0xCD9E8D57u);
    __m512i c0 = _mm512_add_epi32(_mm512_set1_epi32((int)(uint32_t)lo), lane);
    __m512i c1 = _mm512_set1_epi32((int)(uint32_t)(lo >> 32));
    __m512i c2 = _mm512_set1_epi32((int)(uint32_t)hi);
    __m512i c3 = _mm512_set1_epi32((int)(uint32_t)(hi >> 32));
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int r = 0; r < 10; r++) {
        __m512i a_hi, a_lo, b_hi, b_lo;
        mul_wide(&a_hi, &a_lo, c0, m0);
        mul_wide(&b_hi, &b_lo, c2, m1);
        c0 = _mm512_xor_si512(_mm512_xor_si512(b_hi, c1), _mm512_set1_epi32((int)k0));
        c1 = b_lo;
        c2 = _mm512_xor_si512(_mm512_xor_si512(a_hi, c3), _mm512_set1_epi32((int)k1));
        c3 = a_lo;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
}

/* From one vector per word to the order of the stream: a 4 x 4 transpose of each 128-bit lane, then of
 * the lanes. */
static ALWAYS_INLINE void stream_order(__m512i w[4]) {
    __m512i a = _mm512_unpacklo_epi32(w[0], w[1]), b = _mm512_unpackhi_epi32(w[0], w[1]);
    __m512i c = _mm512_unpacklo_epi32(w[2], w[3]), d = _mm512_unpackhi_epi32(w[2], w[3]);
    __m512i r0 = _mm512_unpacklo_epi64(a, c), r1 = _mm512_unpackhi_epi64(a, c);
    __m512i r2 = _mm512_unpacklo_epi64(b, d), r3 = _mm512_unpackhi_epi64(b, d);
    __m512i p = _mm512_shuffle_i32x4(r0, r1, 0x44), q = _mm512_shuffle_i32x4(r2, r3, 0x44);
    __m512i s = _mm512_shuffle_i32x4(r0, r1, 0xee), t = _mm512_shuffle_i32x4(r2, r3, 0xee);
    w[0] = _mm512_shuffle_i32x4(p, q, 0x88);
    w[1] = _mm512_shuffle_i32x4(p, q, 0xdd);
    w[2] = _mm512_shuffle_i32x4(s, t, 0x88);
    w[3] = _mm512_shuffle_i32x4(s, t, 0xdd);
}

static void drop_few(float *x, size_t n, uint32_t threshold, float factor, uint64_t key,
                     uint64_t hi, uint64_t first) {
    for (size_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_philox(w, key, hi, (first + i) / 4);
        x[i] = w[(first + i) % 4] >= threshold ? x[i] * factor : 0.0f;
    }
}

static ALWAYS_INLINE void drop64(float *x, __m512i threshold, __m512 factor, uint64_t key,
                                 uint64_t hi, uint64_t counter) {
    __m512i w[4];
    philox16(w, key, hi, counter);
    stream_order(w);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __mmask16 keep = _mm512_cmpge_epu32_mask(w[j], threshold);
        __m512 v = _mm512_maskz_mul_ps(keep, _mm512_loadu_ps(x + 16 * j), factor);
        _mm512_storeu_ps(x + 16 * j, v);
    }
}

static void dropout(float *x, size_t n, uint32_t threshold, float factor, uint64_t key, uint64_t hi,
                    uint64_t first) {
    size_t i = MIN(n, (size_t)(-first & 3)); /* up to a whole counter */
    drop_few(x, i, threshold, factor, key, hi, first);
    __m512i t = _mm512_set1_epi32((int)threshold);
    for (; i + 64 <= n; i += 64) {
        uint64_t counter = (first + i) / 4;
        bool wraps = (uint32_t)counter > UINT32_MAX - 15;
        if (wraps) drop_few(x + i, 64, threshold, factor, key, hi, first + i);
        else drop64(x + i, t, _mm512_set1_ps(factor), key, hi, counter);
    }
    drop_few(x + i, n - i, threshold, factor, key, hi, first + i);
}

/* ---- sums ---- */

static float dot(const float *a, const float *b, size_t n) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                   _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            __m512 v = _mm512_loadu_ps(a + i + 16 * j);
            s[j] = _mm512_fmadd_ps(v, _mm512_loadu_ps(b + i + 16 * j), s[j]);
        }
    }
    for (; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        s[0] = _mm512_fmadd_ps(vec_load(a + i, m), vec_load(b + i, m), s[0]);
    }
    return vec_sum(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static ALWAYS_INLINE __m512d add_sq(__m512d s, __m256 x) {
    __m512d v = _mm512_cvtps_pd(x);
    return _mm512_fmadd_pd(v, v, s);
}

static double sum_sq(const float *x, size_t n) {
    __m512d s0 = _mm512_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < n; i += 32) {
        size_t left = n - i;
        __m512 v = vec_load(x + i, vec_mask(left));
        __m512 w = left > 16 ? vec_load(x + i + 16, vec_mask(left - 16)) : _mm512_setzero_ps();
        s0 = add_sq(s0, _mm512_castps512_ps256(v));
        s1 = add_sq(s1, _mm512_extractf32x8_ps(v, 1));
        s2 = add_sq(s2, _mm512_castps512_ps256(w));
        s3 = add_sq(s3, _mm512_extractf32x8_ps(w, 1));
    }
    return vec_sum_pd(_mm512_add_pd(_mm512_add_pd(s0, s1), _mm512_add_pd(s2, s3)));
}

/* Eight rows at a time are added up before they join y: fewer passes over y, shorter chains. */
static void col_sum(float *y, const float *x, size_t ldx, int rows, int n) {
    int i = 0;
    for (; i + 8 <= rows; i += 8) {
        const float *r = x + (size_t)i * ldx;
        for (size_t j = 0; j < (size_t)n; j += 16) {
            __mmask16 m = vec_mask((size_t)n - j);
            __m512 a = _mm512_add_ps(vec_load(r + j, m), vec_load(r + ldx + j, m));
            __m512 b = _mm512_add_ps(vec_load(r + 2 * ldx + j, m), vec_load(r + 3 * ldx + j, m));
            __m512 c = _mm512_add_ps(vec_load(r + 4 * ldx + j, m), vec_load(r + 5 * ldx + j, m));
            __m512 d = _mm512_add_ps(vec_load(r + 6 * ldx + j, m), vec_load(r + 7 * ldx + j, m));
            __m512 sum = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
            store(y + j, m, _mm512_add_ps(vec_load(y + j, m), sum));
        }
    }
    for (; i < rows; i++) add(y, x + (size_t)i * ldx, (size_t)n);
}

/* ---- probes ---- */

/* Two places at a time: memory is read faster so. */
static uint64_t read_xor(const void *p, size_t n) {
    const char *b = p;
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    size_t far = n / 512 * 256;
    for (size_t i = 0; i < 2 * far; i += 256) {
        const char *at = b + i / 512 * 256 + i / 256 % 2 * far;
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            _mm_prefetch(at + 64 * j + 2048, _MM_HINT_T0);
            s[j] = _mm512_xor_si512(s[j], _mm512_loadu_si512(at + 64 * j));
        }
    }
    for (size_t i = 2 * far; i < n; i += 64)
        s[0] = _mm512_xor_si512(s[0], _mm512_loadu_si512(b + i));
    s[0] = _mm512_xor_si512(_mm512_xor_si512(s[0], s[1]), _mm512_xor_si512(s[2], s[3]));
    uint64_t w[8], sum = 0;
    _mm512_storeu_si512(w, s[0]);
    for (int j = 0; j < 8; j++) sum ^= w[j];
    return sum;
}

enum { PEAK_CHAINS = 16 };

static uint64_t fma_peak(int n) {
    volatile float sink, start = 0.5f;
    __m512 a = _mm512_set1_ps(start), s[PEAK_CHAINS];
    for (int j = 0; j < PEAK_CHAINS; j++) s[j] = a;
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 16
        for (int j = 0; j < PEAK_CHAINS; j++) s[j] = _mm512_fmadd_ps(s[j], a, a);
    }
    for (int j = 1; j < PEAK_CHAINS; j++) s[0] = _mm512_add_ps(s[0], s[j]);
    sink = vec_sum(s[0]);
    (void)sink;
    return (uint64_t)n * PEAK_CHAINS * 16 * 2;
}

void kern_avx512_elem(Kern *k) {
    k->add = add;
    k->scale = scale;
    k->gelu = gelu;
    k->gelu_bwd = gelu_bwd;
    k->swiglu = swiglu;
    k->swiglu_bwd = swiglu_bwd;
    k->dropout = dropout;
    k->dot = dot;
    k->sum_sq = sum_sq;
    k->col_sum = col_sum;
    k->read = read_xor;
    k->fma_peak = fma_peak;
}
