/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions and attention against the paged cache on AVX2.
 *
 * K of a block is transposed, so the scores of its 32 tokens are four registers and one broadcast of q[d]
 * per step, with no sums across lanes. Up to eight queries go through a block together, two of them in
 * registers at a time: K and V are read from memory once. What happens to a query does not depend on the
 * others. o itself holds the weighted sum of values until the end. */
#include <math.h>

#include "kernel/avx2/vec.h"
#include "kernel/internal.h"

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

/* ---- writing to the cache; hd is a multiple of 8 ---- */

static void kv_put_f32(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    float *kb = (float *)kblock + slot;
    for (int d = 0; d < hd; d++) kb[d * KV_BLOCK] = k[d];
    memcpy((float *)vblock + (size_t)slot * (size_t)hd, v, (size_t)hd * sizeof *v);
}

static void kv_put_f16(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    uint16_t *kb = (uint16_t *)kblock + slot, *vb = (uint16_t *)vblock + (size_t)slot * (size_t)hd;
    for (int d = 0; d < hd; d += 8) {
        uint16_t h[8];
        _mm_storeu_si128((__m128i *)h, vec_to_f16(_mm256_loadu_ps(k + d)));
        for (int j = 0; j < 8; j++) kb[(d + j) * KV_BLOCK] = h[j];
        _mm_storeu_si128((__m128i *)(vb + d), vec_to_f16(_mm256_loadu_ps(v + d)));
    }
}

/* ---- attention ---- */

/* Queries a block; queries and columns of 8 in registers; registers of 8 tokens a block. */
enum { N_SHARE = 8, N_REG = 2, W_REG = 4, QUARTERS = 4 };

/* Eight elements of the cache from element i of a block. */
typedef __m256 (*LoadFn)(const char *block, size_t i);

static ALWAYS_INLINE __m256 load_f32(const char *block, size_t i) {
    return _mm256_loadu_ps((const float *)block + i);
}

static ALWAYS_INLINE __m256 load_f16(const char *block, size_t i) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)block + i)));
}

/* A block of the cache with n tokens in it, and the one that comes after it. */
typedef struct Place {
    const char *k, *v, *k_next, *v_next;
    int n;
} Place;

/* The running softmax of one query; weights and their sum are relative to exp(max). */
typedef struct Online {
    __m256 sum;        /* lane by lane */
    float max, keep;   /* what earlier weights are worth after this block */
    float p[KV_BLOCK]; /* weights of this block's tokens */
} Online;

/* Scores of places past the first n become -inf, whatever they hold. */
static ALWAYS_INLINE void mask_scores(__m256 s[QUARTERS], int n) {
    const __m256 none = _mm256_set1_ps(-INFINITY);
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) {
        __m256i in = vec_mask((size_t)MAX(0, MIN(8, n - 8 * i)));
        s[i] = _mm256_blendv_ps(none, s[i], _mm256_castsi256_ps(in));
    }
}

/* From the scores of a block to weights. */
static ALWAYS_INLINE void online_weights(Online *o, __m256 s[QUARTERS]) {
    float max = vec_max(_mm256_max_ps(_mm256_max_ps(s[0], s[1]), _mm256_max_ps(s[2], s[3])));
    o->keep = 1.0f;
    if (max > o->max) {
        o->keep = _mm256_cvtss_f32(vec_exp(_mm256_set1_ps(o->max - max)));
        o->max = max;
    }
    __m256 m = _mm256_set1_ps(o->max);
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) {
        s[i] = vec_exp(_mm256_sub_ps(s[i], m));
        _mm256_storeu_ps(o->p + 8 * i, s[i]);
    }
    __m256 sum = _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3]));
    o->sum = _mm256_fmadd_ps(o->sum, _mm256_set1_ps(o->keep), sum);
}

/* Weights of N queries from row i for the tokens of a block. At each step `ahead` bytes of the next
 * block's K and V are asked for: blocks are scattered, so the hardware cannot know where it is. */
static ALWAYS_INLINE void block_scores(LoadFn load, Online *o, const AttnArgs *a, int i,
                                       const Place *b, size_t ahead, int N) {
    const float *q = a->q + (size_t)i * a->ldq;
    __m256 s[N_REG][QUARTERS], scale = _mm256_set1_ps(a->scale);
#pragma GCC unroll 2
    for (int j = 0; j < N; j++) {
#pragma GCC unroll 4
        for (int w = 0; w < QUARTERS; w++) s[j][w] = _mm256_setzero_ps();
    }
    for (size_t d = 0; d < (size_t)a->hd; d++) {
        for (size_t j = 0; j < ahead; j += 64) {
            _mm_prefetch(b->k_next + d * ahead + j, _MM_HINT_T1);
            _mm_prefetch(b->v_next + d * ahead + j, _MM_HINT_T1);
        }
        __m256 kd[QUARTERS];
#pragma GCC unroll 4
        for (size_t w = 0; w < QUARTERS; w++) kd[w] = load(b->k, d * KV_BLOCK + 8 * w);
#pragma GCC unroll 2
        for (int j = 0; j < N; j++) {
            __m256 qd = _mm256_set1_ps(q[(size_t)j * a->ldq + d]);
#pragma GCC unroll 4
            for (int w = 0; w < QUARTERS; w++) s[j][w] = _mm256_fmadd_ps(qd, kd[w], s[j][w]);
        }
    }
#pragma GCC unroll 2
    for (int j = 0; j < N; j++) {
#pragma GCC unroll 4
        for (int w = 0; w < QUARTERS; w++) s[j][w] = _mm256_mul_ps(s[j][w], scale);
        if (b->n < KV_BLOCK) mask_scores(s[j], b->n);
        online_weights(&o[j], s[j]);
    }
}

/* o = o * keep + weights V for 8 W columns from c. */
static ALWAYS_INLINE void block_columns(LoadFn load, const Online *s, const AttnArgs *a, int i,
                                        const Place *b, size_t c, int N, int W) {
    float *o = a->o + (size_t)i * a->ldo + c;
    __m256 acc[N_REG][W_REG];
#pragma GCC unroll 2
    for (int j = 0; j < N; j++) {
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) {
            acc[j][w] = _mm256_mul_ps(_mm256_loadu_ps(o + (size_t)j * a->ldo + 8 * w),
                                      _mm256_set1_ps(s[j].keep));
        }
    }
    for (int t = 0; t < b->n; t++) {
        size_t at = (size_t)t * (size_t)a->hd + c;
        __m256 vt[W_REG];
#pragma GCC unroll 4
        for (size_t w = 0; w < (size_t)W; w++) vt[w] = load(b->v, at + 8 * w);
#pragma GCC unroll 2
        for (int j = 0; j < N; j++) {
            __m256 p = _mm256_set1_ps(s[j].p[t]);
#pragma GCC unroll 4
            for (int w = 0; w < W; w++) acc[j][w] = _mm256_fmadd_ps(p, vt[w], acc[j][w]);
        }
    }
#pragma GCC unroll 2
    for (int j = 0; j < N; j++) {
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) {
            _mm256_storeu_ps(o + (size_t)j * a->ldo + 8 * w, acc[j][w]);
        }
    }
}

static ALWAYS_INLINE void block_step(LoadFn load, size_t ahead, Online *s, const AttnArgs *a, int i,
                                     const Place *b, int N) {
    size_t hd = (size_t)a->hd, c = 0;
    block_scores(load, s, a, i, b, ahead, N);
    for (; c + 8 * W_REG <= hd; c += 8 * W_REG) block_columns(load, s, a, i, b, c, N, W_REG);
    for (; c < hd; c += 8) block_columns(load, s, a, i, b, c, N, 1);
}

/* Queries i .. i + n_q - 1 against one block. */
static ALWAYS_INLINE void block_queries(LoadFn load, size_t elem, Online *s, const AttnArgs *a,
                                        int i, int n_q, const Place *b) {
    size_t ahead = KV_BLOCK * elem;
    for (; n_q >= 2; i += 2, s += 2, n_q -= 2, ahead = 0) block_step(load, ahead, s, a, i, b, 2);
    if (n_q > 0) block_step(load, ahead, s, a, i, b, 1);
}

static ALWAYS_INLINE void row_scale(float *x, int n, float s) {
    for (int i = 0; i < n; i += 8) {
        _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(s)));
    }
}

static ALWAYS_INLINE Place place_of(const AttnArgs *a, int t) {
    int last = (a->n_tok - 1) / KV_BLOCK, b = t / KV_BLOCK;
    size_t at = (size_t)a->table[b] * a->stride;
    size_t next = (size_t)a->table[MIN(b + 1, last)] * a->stride;
    return (Place){a->k + at, a->v + at, a->k + next, a->v + next, MIN(KV_BLOCK, a->n_tok - t)};
}

static ALWAYS_INLINE void attn(LoadFn load, size_t elem, const AttnArgs *a) {
    for (int i = 0; i < a->nq; i += N_SHARE) {
        int n_q = MIN(N_SHARE, a->nq - i);
        Online s[N_SHARE];
        for (int j = 0; j < n_q; j++) {
            s[j].max = -INFINITY;
            s[j].sum = _mm256_setzero_ps();
            memset(a->o + (size_t)(i + j) * a->ldo, 0, (size_t)a->hd * sizeof *a->o);
        }
        for (int t = 0; t < a->n_tok; t += KV_BLOCK) {
            Place b = place_of(a, t);
            block_queries(load, elem, s, a, i, n_q, &b);
        }
        for (int j = 0; j < n_q; j++) {
            row_scale(a->o + (size_t)(i + j) * a->ldo, a->hd, 1.0f / vec_sum(s[j].sum));
        }
    }
}

static void attn_f32(const AttnArgs *a) { attn(load_f32, sizeof(float), a); }

static void attn_f16(const AttnArgs *a) { attn(load_f16, sizeof(uint16_t), a); }

void kern_avx2_attn(Kern *k) {
    k->rope = rope;
    k->kv_put[DT_F32] = kv_put_f32;
    k->kv_put[DT_F16] = kv_put_f16;
    k->attn[DT_F32] = attn_f32;
    k->attn[DT_F16] = attn_f16;
}
