/* SPDX-License-Identifier: Apache-2.0
 * Element-wise functions, dropout and sums on AVX2. Loops take 8 elements; the last step takes what is
 * left. */
#include "base/rng.h"
#include "kernel/avx2/vec.h"
#include "kernel/internal.h"

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        vec_store(y + i, n - i, _mm256_add_ps(vec_load(y + i, n - i), vec_load(x + i, n - i)));
    }
}

static void scale(float *y, float s, size_t n) {
    __m256 v = _mm256_set1_ps(s);
    for (size_t i = 0; i < n; i += 8) {
        vec_store(y + i, n - i, _mm256_mul_ps(vec_load(y + i, n - i), v));
    }
}

/* ---- activations: 0.5 (1 + tanh(u)) = sigmoid(2 u) ---- */

#define GELU_2C 1.5957691216057308f  /* 2 sqrt(2 / pi) */
#define GELU_2CA 0.0713548162726009f /* 2 sqrt(2 / pi) 0.044715 */

/* sigmoid(2 u(x)) */
static ALWAYS_INLINE __m256 gelu_gate(__m256 x) {
    __m256 c =
        _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(GELU_2CA), _mm256_set1_ps(GELU_2C));
    return vec_sigmoid(_mm256_mul_ps(x, c));
}

static void gelu(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = vec_load(x + i, n - i);
        vec_store(y + i, n - i, _mm256_mul_ps(v, gelu_gate(v)));
    }
}

/* s + x s (1 - s) (2 u)'. Beyond 12 the gate is flat, and clamping keeps x^2 finite. */
static ALWAYS_INLINE __m256 gelu_slope(__m256 x) {
    __m256 one = _mm256_set1_ps(1.0f);
    x = vec_clamp(x, -12.0f, 12.0f);
    __m256 s = gelu_gate(x);
    __m256 du = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(3.0f * GELU_2CA),
                                _mm256_set1_ps(GELU_2C));
    __m256 ds = _mm256_mul_ps(_mm256_mul_ps(s, _mm256_sub_ps(one, s)), du);
    return _mm256_fmadd_ps(x, ds, s);
}

static void gelu_bwd(float *dx, const float *dy, const float *x, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        __m256 slope = gelu_slope(vec_load(x + i, n - i));
        vec_store(dx + i, n - i, _mm256_mul_ps(vec_load(dy + i, n - i), slope));
    }
}

static void swiglu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = vec_load(g + i, n - i), silu = _mm256_mul_ps(v, vec_sigmoid(v));
        vec_store(y + i, n - i, _mm256_mul_ps(silu, vec_load(u + i, n - i)));
    }
}

static void swiglu_bwd(float *dg, float *du, const float *dy, const float *g, const float *u,
                       size_t n) {
    __m256 one = _mm256_set1_ps(1.0f);
    for (size_t i = 0; i < n; i += 8) {
        size_t left = n - i;
        __m256 v = vec_load(g + i, left), w = vec_load(u + i, left), d = vec_load(dy + i, left);
        __m256 s = vec_sigmoid(v), ds = _mm256_mul_ps(d, s);
        __m256 slope = _mm256_fmadd_ps(v, _mm256_sub_ps(one, s), one);
        vec_store(du + i, left, _mm256_mul_ps(ds, v));
        vec_store(dg + i, left, _mm256_mul_ps(_mm256_mul_ps(ds, w), slope));
    }
}

/* ---- dropout: 8 counters of Philox side by side, 32 words ---- */

/* Both halves of the 32 x 32 -> 64 bit products of each lane. */
static ALWAYS_INLINE void mul_wide(__m256i *hi, __m256i *lo, __m256i a, __m256i b) {
    __m256i even_product = _mm256_mul_epu32(a, b);
    __m256i odd_product = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), b);
    *hi = _mm256_blend_epi32(_mm256_srli_epi64(even_product, 32), odd_product, 0xaa);
    *lo = _mm256_blend_epi32(even_product, _mm256_slli_epi64(odd_product, 32), 0xaa);
}

/* w[j] = word j of counters lo .. lo + 7, one a lane; the low half of `lo` must not wrap within. */
static ALWAYS_INLINE void philox8(__m256i w[4], uint64_t key, uint64_t hi, uint64_t lo) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i m0 = _mm256_set1_epi32((int)0xD2511F53u),
                  m1 = _mm256_set1_epi32((int)0xCD9E8D57u);
    __m256i c0 = _mm256_add_epi32(_mm256_set1_epi32((int)(uint32_t)lo), lane);
    __m256i c1 = _mm256_set1_epi32((int)(uint32_t)(lo >> 32));
    __m256i c2 = _mm256_set1_epi32((int)(uint32_t)hi);
    __m256i c3 = _mm256_set1_epi32((int)(uint32_t)(hi >> 32));
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int r = 0; r < 10; r++) {
        __m256i a_hi, a_lo, b_hi, b_lo;
        mul_wide(&a_hi, &a_lo, c0, m0);
        mul_wide(&b_hi, &b_lo, c2, m1);
        c0 = _mm256_xor_si256(_mm256_xor_si256(b_hi, c1), _mm256_set1_epi32((int)k0));
        c1 = b_lo;
        c2 = _mm256_xor_si256(_mm256_xor_si256(a_hi, c3), _mm256_set1_epi32((int)k1));
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
static ALWAYS_INLINE void stream_order(__m256i w[4]) {
    __m256i a = _mm256_unpacklo_epi32(w[0], w[1]), b = _mm256_unpackhi_epi32(w[0], w[1]);
    __m256i c = _mm256_unpacklo_epi32(w[2], w[3]), d = _mm256_unpackhi_epi32(w[2], w[3]);
    __m256i r0 = _mm256_unpacklo_epi64(a, c), r1 = _mm256_unpackhi_epi64(a, c);
    __m256i r2 = _mm256_unpacklo_epi64(b, d), r3 = _mm256_unpackhi_epi64(b, d);
    w[0] = _mm256_permute2x128_si256(r0, r1, 0x20);
    w[1] = _mm256_permute2x128_si256(r2, r3, 0x20);
    w[2] = _mm256_permute2x128_si256(r0, r1, 0x31);
    w[3] = _mm256_permute2x128_si256(r2, r3, 0x31);
}

static void drop_few(float *x, size_t n, uint32_t threshold, float factor, uint64_t key,
                     uint64_t hi, uint64_t first) {
    for (size_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_philox(w, key, hi, (first + i) / 4);
        x[i] = w[(first + i) % 4] >= threshold ? x[i] * factor : 0.0f;
    }
}

/* w >= threshold, unsigned: the maximum of both is w. */
static ALWAYS_INLINE void drop32(float *x, __m256i threshold, __m256 factor, uint64_t key,
                                 uint64_t hi, uint64_t counter) {
    __m256i w[4];
    philox8(w, key, hi, counter);
    stream_order(w);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m256i keep = _mm256_cmpeq_epi32(_mm256_max_epu32(w[j], threshold), w[j]);
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), factor);
        _mm256_storeu_ps(x + 8 * j, _mm256_and_ps(v, _mm256_castsi256_ps(keep)));
    }
}

static void dropout(float *x, size_t n, uint32_t threshold, float factor, uint64_t key, uint64_t hi,
                    uint64_t first) {
    size_t i = MIN(n, (size_t)(-first & 3)); /* up to a whole counter */
    drop_few(x, i, threshold, factor, key, hi, first);
    __m256i t = _mm256_set1_epi32((int)threshold);
    for (; i + 32 <= n; i += 32) {
        uint64_t counter = (first + i) / 4;
        bool wraps = (uint32_t)counter > UINT32_MAX - 7;
        if (wraps) drop_few(x + i, 32, threshold, factor, key, hi, first + i);
        else drop32(x + i, t, _mm256_set1_ps(factor), key, hi, counter);
    }
    drop_few(x + i, n - i, threshold, factor, key, hi, first + i);
}

/* ---- sums ---- */

static float dot(const float *a, const float *b, size_t n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            __m256 v = _mm256_loadu_ps(a + i + 8 * j);
            s[j] = _mm256_fmadd_ps(v, _mm256_loadu_ps(b + i + 8 * j), s[j]);
        }
    }
    for (; i < n; i += 8) {
        s[0] = _mm256_fmadd_ps(vec_load(a + i, n - i), vec_load(b + i, n - i), s[0]);
    }
    return vec_sum(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static ALWAYS_INLINE __m256d add_sq(__m256d s, __m128 x) {
    __m256d v = _mm256_cvtps_pd(x);
    return _mm256_fmadd_pd(v, v, s);
}

static double sum_sq(const float *x, size_t n) {
    __m256d s0 = _mm256_setzero_pd(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < n; i += 16) {
        size_t left = n - i;
        __m256 v = vec_load(x + i, left);
        __m256 w = left > 8 ? vec_load(x + i + 8, left - 8) : _mm256_setzero_ps();
        s0 = add_sq(s0, _mm256_castps256_ps128(v));
        s1 = add_sq(s1, _mm256_extractf128_ps(v, 1));
        s2 = add_sq(s2, _mm256_castps256_ps128(w));
        s3 = add_sq(s3, _mm256_extractf128_ps(w, 1));
    }
    return vec_sum_pd(_mm256_add_pd(_mm256_add_pd(s0, s1), _mm256_add_pd(s2, s3)));
}

/* Eight rows at a time are added up before they join y: fewer passes over y, shorter chains. */
static void col_sum(float *y, const float *x, size_t ldx, int rows, int n) {
    int i = 0;
    for (; i + 8 <= rows; i += 8) {
        const float *r = x + (size_t)i * ldx;
        for (size_t j = 0; j < (size_t)n; j += 8) {
            size_t left = (size_t)n - j;
            __m256 s[8];
#pragma GCC unroll 8
            for (size_t q = 0; q < 8; q++) s[q] = vec_load(r + q * ldx + j, left);
#pragma GCC unroll 8
            for (int q = 0; q < 8; q += 2) s[q] = _mm256_add_ps(s[q], s[q + 1]);
            __m256 sum = _mm256_add_ps(_mm256_add_ps(s[0], s[2]), _mm256_add_ps(s[4], s[6]));
            vec_store(y + j, left, _mm256_add_ps(vec_load(y + j, left), sum));
        }
    }
    for (; i < rows; i++) add(y, x + (size_t)i * ldx, (size_t)n);
}

/* ---- probes ---- */

/* Two places at a time: memory is read faster so. */
static uint64_t read_xor(const void *p, size_t n) {
    const char *b = p;
    __m256i s[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                    _mm256_setzero_si256()};
    size_t far = n / 256 * 128;
    for (size_t i = 0; i < 2 * far; i += 128) {
        const char *at = b + i / 256 * 128 + i / 128 % 2 * far;
        _mm_prefetch(at + 2048, _MM_HINT_T0);
        _mm_prefetch(at + 2048 + 64, _MM_HINT_T0);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            const __m256i *v = (const __m256i *)(at + 32 * j);
            s[j] = _mm256_xor_si256(s[j], _mm256_loadu_si256(v));
        }
    }
    for (size_t i = 2 * far; i < n; i += 32) {
        s[0] = _mm256_xor_si256(s[0], _mm256_loadu_si256((const __m256i *)(b + i)));
    }
    s[0] = _mm256_xor_si256(_mm256_xor_si256(s[0], s[1]), _mm256_xor_si256(s[2], s[3]));
    uint64_t w[4];
    _mm256_storeu_si256((__m256i *)w, s[0]);
    return w[0] ^ w[1] ^ w[2] ^ w[3];
}

enum { PEAK_CHAINS = 12 };

static uint64_t fma_peak(int n) {
    volatile float sink, start = 0.5f;
    __m256 a = _mm256_set1_ps(start), s[PEAK_CHAINS];
    for (int j = 0; j < PEAK_CHAINS; j++) s[j] = a;
    for (int i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < PEAK_CHAINS; j++) s[j] = _mm256_fmadd_ps(s[j], a, a);
    }
    for (int j = 1; j < PEAK_CHAINS; j++) s[0] = _mm256_add_ps(s[0], s[j]);
    sink = vec_sum(s[0]);
    (void)sink;
    return (uint64_t)n * PEAK_CHAINS * 8 * 2;
}

void kern_avx2_elem(Kern *k) {
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
