/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions and attention against the paged cache on AVX-512.
 *
 * K of a block is transposed, so the scores of its 32 tokens are two registers and one broadcast of q[d]
 * per step, with no sums across lanes. Up to eight queries go through a block together, four of them in
 * registers at a time: K and V are read from memory once. What happens to a query does not depend on the
 * others. o itself holds the weighted sum of values until the end. */
#include <math.h>

#include "kernel/avx512/vec.h"
#include "kernel/internal.h"

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

/* ---- writing to the cache ---- */

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

static void kv_put_f16(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    uint16_t *kb = (uint16_t *)kblock + slot, *vb = (uint16_t *)vblock + (size_t)slot * (size_t)hd;
    for (int d = 0; d < hd; d += 16) {
        __mmask16 m = vec_mask((size_t)(hd - d));
        uint16_t h[16];
        _mm256_storeu_si256((__m256i *)h, vec_to_f16(vec_load(k + d, m)));
        for (int j = 0; j < MIN(16, hd - d); j++) kb[(d + j) * KV_BLOCK] = h[j];
        _mm256_mask_storeu_epi16(vb + d, m, vec_to_f16(vec_load(v + d, m)));
    }
}

/* ---- attention ---- */

enum {
    N_SHARE = 8,
    N_REG = 4,
    W_REG = 4
}; /* queries a block, queries and columns of 16 in registers */

/* Sixteen elements of the cache from element i of a block. */
typedef __m512 (*LoadFn)(const char *block, size_t i, __mmask16 m);

static ALWAYS_INLINE __m512 load_f32(const char *block, size_t i, __mmask16 m) {
    return vec_load((const float *)block + i, m);
}

static ALWAYS_INLINE __m512 load_f16(const char *block, size_t i, __mmask16 m) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)block + i));
}

/* A block of the cache with n tokens in it, and the one that comes after it. */
typedef struct Place {
    const char *k, *v, *k_next, *v_next;
    int n;
} Place;

/* The running softmax of one query; weights and their sum are relative to exp(max). */
typedef struct Online {
    __m512 sum;        /* lane by lane */
    float max, keep;   /* what earlier weights are worth after this block */
    float p[KV_BLOCK]; /* weights of this block's tokens */
} Online;

/* From the scores of the first n tokens of a block to weights. Lanes past n may hold anything. */
static ALWAYS_INLINE void online_weights(Online *s, __m512 s0, __m512 s1, int n) {
    const __m512 none = _mm512_set1_ps(-INFINITY);
    s0 = _mm512_mask_mov_ps(none, vec_mask((size_t)n), s0);
    s1 = n > 16 ? _mm512_mask_mov_ps(none, vec_mask((size_t)n - 16), s1) : none;
    float max = _mm512_reduce_max_ps(_mm512_max_ps(s0, s1));
    s->keep = 1.0f;
    if (max > s->max) {
        s->keep = _mm512_cvtss_f32(vec_exp(_mm512_set1_ps(s->max - max)));
        s->max = max;
    }
    __m512 m = _mm512_set1_ps(s->max);
    s0 = vec_exp(_mm512_sub_ps(s0, m));
    s1 = vec_exp(_mm512_sub_ps(s1, m));
    s->sum = _mm512_fmadd_ps(s->sum, _mm512_set1_ps(s->keep), _mm512_add_ps(s0, s1));
    _mm512_storeu_ps(s->p, s0);
    _mm512_storeu_ps(s->p + 16, s1);
}

/* Weights of N queries from row i for the tokens of a block. At each step `ahead` bytes of the next
 * block's K and V are asked for: blocks are scattered, so the hardware cannot know where it is. */
static ALWAYS_INLINE void block_scores(LoadFn load, Online *s, const AttnArgs *a, int i,
                                       const Place *b, size_t ahead, int N) {
    const float *q = a->q + (size_t)i * a->ldq;
    __m512 s0[N_REG], s1[N_REG];
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) s0[j] = s1[j] = _mm512_setzero_ps();
    for (size_t d = 0; d < (size_t)a->hd; d++) {
        for (size_t j = 0; j < ahead; j += 64) {
            _mm_prefetch(b->k_next + d * ahead + j, _MM_HINT_T1);
            _mm_prefetch(b->v_next + d * ahead + j, _MM_HINT_T1);
        }
        __m512 k0 = load(b->k, d * KV_BLOCK, VEC_FULL),
               k1 = load(b->k, d * KV_BLOCK + 16, VEC_FULL);
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) {
            __m512 qd = _mm512_set1_ps(q[(size_t)j * a->ldq + d]);
            s0[j] = _mm512_fmadd_ps(qd, k0, s0[j]);
            s1[j] = _mm512_fmadd_ps(qd, k1, s1[j]);
        }
    }
    __m512 scale = _mm512_set1_ps(a->scale);
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) {
        online_weights(&s[j], _mm512_mul_ps(s0[j], scale), _mm512_mul_ps(s1[j], scale), b->n);
    }
}

/* o = o * keep + weights V for 16 W columns from c, the last 16 under mask m. */
static ALWAYS_INLINE void block_columns(LoadFn load, const Online *s, const AttnArgs *a, int i,
                                        const Place *b, size_t c, int N, int W, __mmask16 m) {
    float *o = a->o + (size_t)i * a->ldo + c;
    __m512 acc[N_REG][W_REG];
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) {
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) {
            acc[j][w] = _mm512_mul_ps(vec_load(o + (size_t)j * a->ldo + 16 * w, m),
                                      _mm512_set1_ps(s[j].keep));
        }
    }
    for (int t = 0; t < b->n; t++) {
        size_t at = (size_t)t * (size_t)a->hd + c;
        __m512 vt[W_REG];
#pragma GCC unroll 4
        for (size_t w = 0; w < (size_t)W; w++) vt[w] = load(b->v, at + 16 * w, m);
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) {
            __m512 p = _mm512_set1_ps(s[j].p[t]);
#pragma GCC unroll 4
            for (int w = 0; w < W; w++) acc[j][w] = _mm512_fmadd_ps(p, vt[w], acc[j][w]);
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) {
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) {
            _mm512_mask_storeu_ps(o + (size_t)j * a->ldo + 16 * w, m, acc[j][w]);
        }
    }
}

static ALWAYS_INLINE void block_step(LoadFn load, size_t ahead, Online *s, const AttnArgs *a, int i,
                                     const Place *b, int N) {
    size_t hd = (size_t)a->hd, c = 0;
    block_scores(load, s, a, i, b, ahead, N);
    for (; c + 16 * W_REG <= hd; c += 16 * W_REG) {
        block_columns(load, s, a, i, b, c, N, W_REG, VEC_FULL);
    }
    for (; c < hd; c += 16) block_columns(load, s, a, i, b, c, N, 1, vec_mask(hd - c));
}

/* Queries i .. i + n_q - 1 against one block. */
static ALWAYS_INLINE void block_queries(LoadFn load, size_t elem, Online *s, const AttnArgs *a,
                                        int i, int n_q, const Place *b) {
    size_t ahead = KV_BLOCK * elem;
    for (; n_q >= 4; i += 4, s += 4, n_q -= 4, ahead = 0) block_step(load, ahead, s, a, i, b, 4);
    switch (n_q) {
    case 3: block_step(load, ahead, s, a, i, b, 3); break;
    case 2: block_step(load, ahead, s, a, i, b, 2); break;
    case 1: block_step(load, ahead, s, a, i, b, 1); break;
    }
}

static ALWAYS_INLINE void row_scale(float *x, size_t n, float s) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(vec_load(x + i, m), _mm512_set1_ps(s)));
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
            s[j].sum = _mm512_setzero_ps();
            memset(a->o + (size_t)(i + j) * a->ldo, 0, (size_t)a->hd * sizeof *a->o);
        }
        for (int t = 0; t < a->n_tok; t += KV_BLOCK) {
            Place b = place_of(a, t);
            block_queries(load, elem, s, a, i, n_q, &b);
        }
        for (int j = 0; j < n_q; j++) {
            row_scale(a->o + (size_t)(i + j) * a->ldo, (size_t)a->hd, 1.0f / vec_sum(s[j].sum));
        }
    }
}

static void attn_f32(const AttnArgs *a) { attn(load_f32, sizeof(float), a); }

static void attn_f16(const AttnArgs *a) { attn(load_f16, sizeof(uint16_t), a); }

void kern_avx512_attn(Kern *k) {
    k->rope = rope;
    k->kv_put[DT_F32] = kv_put_f32;
    k->kv_put[DT_F16] = kv_put_f16;
    k->attn[DT_F32] = attn_f32;
    k->attn[DT_F16] = attn_f16;
}
