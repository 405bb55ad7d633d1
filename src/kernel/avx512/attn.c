/* SPDX-License-Identifier: Apache-2.0
 * Attention against the paged cache on AVX-512.
 *
 * A block is read from memory once for all queries of a call: by many its K, then its V, as f32 laid down in the
 * first-level cache, whatever the cache's type; by few as it is. K is transposed, so the scores of its 32 tokens are two registers and one
 * broadcast of q[d] a step, with no sums across lanes; up to eight queries are in registers together. What
 * happens to a query does not depend on the others. o itself holds the weighted sum of values until the end. */
#include <math.h>

#include "kernel/avx512/vec.h"
#include "kernel/internal.h"

/* Queries in registers together; columns of 16 with few and with many of them. */
enum { N_REG = 8, N_FEW = 6, W_FEW = 4, W_MANY = 2 };

/* One query: where it is, its running softmax, and the weights of a block's tokens. Sums are relative to
 * exp(max). */
typedef struct Online {
    __m512 sum; /* lane by lane */
    float p[KV_BLOCK];
    float max, keep; /* what earlier weights are worth after this block */
    const float *q;
    float *o;
} Online;

_Static_assert(sizeof(Online) <= 256, "kern_attn_work");

/* What is read next, V while scores are computed and the next block's K while values are, is asked for ahead, a
 * line or two a step, so that memory is busy while the processor is. Blocks are scattered: the hardware cannot
 * know where they are. */
typedef struct Ahead {
    const char *p; /* NULL: nothing */
    size_t
        elem; /* bytes of an element there; what few queries are given has their own block's form */
} Ahead;

static ALWAYS_INLINE void ask(const char *p, size_t bytes) {
#pragma GCC unroll 4
    for (size_t j = 0; j < bytes; j += 64) _mm_prefetch(p + j, _MM_HINT_T0);
}

/* ---- elements of a block ---- */

/* How they lie; constant wherever it is looked at. */
typedef enum Form { FORM_F32, FORM_F16, FORM_Q8 } Form;

static ALWAYS_INLINE size_t elem(Form f) { return f == FORM_F32 ? 4 : f == FORM_F16 ? 2 : 1; }

static ALWAYS_INLINE const char *q8_scales(const char *block, const AttnArgs *a) {
    return block + (size_t)a->hd * KV_BLOCK;
}

/* The 16 f16 at p. */
static ALWAYS_INLINE __m512 halves(const char *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* The 16 elements at p, times the scale s (q8_0): an integer of 8 bits times a scale of 11 is exact. */
static ALWAYS_INLINE __m512 elements(Form f, const char *p, __m512 s, __mmask16 m) {
    if (f == FORM_F32) return vec_load((const float *)(const void *)p, m);
    if (f == FORM_F16) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
    return _mm512_mul_ps(s, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(m, p))));
}

/* The scale of the token at s, everywhere; nothing for other forms. */
static ALWAYS_INLINE __m512 one_scale(Form f, const uint16_t *s) {
    return f == FORM_Q8 ? _mm512_cvtph_ps(_mm256_set1_epi16((short)*s)) : _mm512_setzero_ps();
}

/* K as f32 at y. */
static ALWAYS_INLINE void unpack_k(Form f, float *y, const char *b, const AttnArgs *a) {
    for (size_t c = 0; c < (size_t)a->hd; c += KV_GROUP) {
        const char *scale = q8_scales(b, a) + 2 * c;
        __m512 s0 = halves(scale), s1 = halves(scale + 32);
        size_t to = MIN((size_t)a->hd, c + KV_GROUP) * KV_BLOCK;
        for (size_t i = c * KV_BLOCK; i < to; i += KV_BLOCK) {
            _mm512_storeu_ps(y + i, elements(f, b + i * elem(f), s0, VEC_FULL));
            _mm512_storeu_ps(y + i + 16, elements(f, b + (i + 16) * elem(f), s1, VEC_FULL));
        }
    }
}

/* V of the first n tokens as f32 at y. */
static ALWAYS_INLINE void unpack_v(Form f, float *y, const char *b, const AttnArgs *a, int n) {
    size_t hd = (size_t)a->hd;
    for (size_t c = 0; c < hd; c += 16) {
        const uint16_t *s =
            (const uint16_t *)(const void *)q8_scales(b, a) + c / KV_GROUP * KV_BLOCK;
        __mmask16 m = vec_mask(hd - c);
        for (size_t i = c; i < (size_t)n * hd; i += hd, s++)
            _mm512_mask_storeu_ps(y + i, m, elements(f, b + i * elem(f), one_scale(f, s), m));
    }
}

/* ---- scores and weights ---- */

/* From the scores of the first n tokens of a block to weights. Lanes past n may hold anything. */
static ALWAYS_INLINE void online_weights(Online *s, __m512 s0, __m512 s1, int n) {
    const __m512 none = _mm512_set1_ps(-INFINITY);
    if (n < KV_BLOCK) {
        s0 = _mm512_mask_mov_ps(none, vec_mask((size_t)n), s0);
        s1 = n > 16 ? _mm512_mask_mov_ps(none, vec_mask((size_t)n - 16), s1) : none;
    }
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

/* Weights of N queries for the first n tokens of a block. */
static ALWAYS_INLINE void scores(Form f, Online *s, const char *k, const AttnArgs *a, int n,
                                 Ahead next, int N) {
    const __m512 zero = _mm512_setzero_ps();
    const size_t hd = (size_t)a->hd, step = KV_BLOCK * elem(f),
                 ahead = f == FORM_F32 ? KV_BLOCK * next.elem : step;
    const char *d_scale = q8_scales(k, a);
    const float *q[N_REG];
    __m512 s0[N_REG], s1[N_REG];
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) {
        s0[j] = s1[j] = zero;
        q[j] = s[j].q;
    }
    for (size_t d = 0; d < hd; d_scale += 2 * KV_BLOCK) {
        __m512 d0 = f == FORM_Q8 ? halves(d_scale) : zero,
               d1 = f == FORM_Q8 ? halves(d_scale + 32) : zero;
        for (size_t to = MIN(hd, d + KV_GROUP); d < to; d++, k += step) {
            if (next.p) ask(next.p + d * ahead, ahead);
            __m512 k0 = vec_keep(elements(f, k, d0, VEC_FULL)),
                   k1 = vec_keep(elements(f, k + step / 2, d1, VEC_FULL));
#pragma GCC unroll 8
            for (int j = 0; j < N; j++) {
                __m512 qd = _mm512_set1_ps(q[j][d]);
                s0[j] = _mm512_fmadd_ps(qd, k0, s0[j]);
                s1[j] = _mm512_fmadd_ps(qd, k1, s1[j]);
            }
        }
    }
    __m512 scale = _mm512_set1_ps(a->scale);
#pragma GCC unroll 8
    for (int j = 0; j < N; j++)
        online_weights(&s[j], _mm512_mul_ps(s0[j], scale), _mm512_mul_ps(s1[j], scale), n);
}

/* ---- values ---- */

/* o = o * keep + weights V for 16 W columns from c, the last 16 under mask m. */
static ALWAYS_INLINE void columns(Form f, const Online *s, const char *v, const AttnArgs *a,
                                  size_t c, int n, Ahead next, int N, int W, __mmask16 m) {
    const size_t row = (size_t)a->hd * elem(f),
                 ahead = 16 * (size_t)W * (f == FORM_F32 ? next.elem : elem(f));
    const uint16_t *scale =
        (const uint16_t *)(const void *)q8_scales(v, a) + c / KV_GROUP * KV_BLOCK;
    __m512 acc[N_REG][W_FEW];
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) {
        const float *o = s[j].o + c;
#pragma GCC unroll 4
        for (int w = 0; w < W; w++)
            acc[j][w] = _mm512_mul_ps(vec_load(o + 16 * w, m), _mm512_set1_ps(s[j].keep));
    }
    const float *p = s->p;
    v += c * elem(f);
    if (next.p) next.p += KV_BLOCK * c * (f == FORM_F32 ? next.elem : elem(f));
    for (int t = 0; t < n; t++, v += row, p++, scale++) {
        __m512 vt[W_FEW];
        if (next.p) ask(next.p + (size_t)t * ahead, ahead);
#pragma GCC unroll 4
        for (int w = 0; w < W; w++)
            vt[w] = vec_keep(elements(f, v + 16 * (size_t)w * elem(f),
                                      one_scale(f, scale + w / 2 * KV_BLOCK), m));
#pragma GCC unroll 8
        for (int j = 0; j < N; j++) {
            __m512 pj = _mm512_set1_ps(p[(size_t)j * (sizeof *s / sizeof *p)]);
#pragma GCC unroll 4
            for (int w = 0; w < W; w++) acc[j][w] = _mm512_fmadd_ps(pj, vt[w], acc[j][w]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < N; j++) {
        float *o = s[j].o + c;
#pragma GCC unroll 4
        for (int w = 0; w < W; w++) _mm512_mask_storeu_ps(o + 16 * w, m, acc[j][w]);
    }
}

static ALWAYS_INLINE void values(Form f, const Online *s, const char *v, const AttnArgs *a, int n,
                                 Ahead next, int N) {
    const int W = N > N_FEW ? W_MANY : W_FEW;
    size_t hd = (size_t)a->hd, c = 0, step = 16 * (size_t)W;
    for (; c + step <= hd; c += step) columns(f, s, v, a, c, n, next, N, W, VEC_FULL);
    for (; c < hd; c += 16) columns(f, s, v, a, c, n, next, N, 1, vec_mask(hd - c));
}

/* ---- blocks ---- */

typedef enum Half { SCORES, VALUES } Half;

static ALWAYS_INLINE void few(Form f, Half h, Online *s, const char *kv, const AttnArgs *a, int n,
                              Ahead next, int N) {
    if (h == SCORES) scores(f, s, kv, a, n, next, N);
    else values(f, s, kv, a, n, next, N);
}

/* One half of the work on a block for n_q queries that see n of its tokens. */
static ALWAYS_INLINE void group(Form f, Half h, Online *s, int n_q, const char *kv,
                                const AttnArgs *a, int n, Ahead next) {
    for (; n_q >= N_REG; s += N_REG, n_q -= N_REG, next.p = NULL)
        few(f, h, s, kv, a, n, next, N_REG);
    switch (n_q) {
    case 7: few(f, h, s, kv, a, n, next, 7); break;
    case 6: few(f, h, s, kv, a, n, next, 6); break;
    case 5: few(f, h, s, kv, a, n, next, 5); break;
    case 4: few(f, h, s, kv, a, n, next, 4); break;
    case 3: few(f, h, s, kv, a, n, next, 3); break;
    case 2: few(f, h, s, kv, a, n, next, 2); break;
    case 1: few(f, h, s, kv, a, n, next, 1); break;
    }
}

typedef void (*GroupFn)(Online *s, int n_q, const char *kv, const AttnArgs *a, int n, Ahead next);

static void f32_scores(Online *s, int n_q, const char *k, const AttnArgs *a, int n, Ahead next) {
    group(FORM_F32, SCORES, s, n_q, k, a, n, next);
}

static void f32_values(Online *s, int n_q, const char *v, const AttnArgs *a, int n, Ahead next) {
    group(FORM_F32, VALUES, s, n_q, v, a, n, next);
}

static void f16_scores(Online *s, int n_q, const char *k, const AttnArgs *a, int n, Ahead next) {
    group(FORM_F16, SCORES, s, n_q, k, a, n, next);
}

static void f16_values(Online *s, int n_q, const char *v, const AttnArgs *a, int n, Ahead next) {
    group(FORM_F16, VALUES, s, n_q, v, a, n, next);
}

static void q8_scores(Online *s, int n_q, const char *k, const AttnArgs *a, int n, Ahead next) {
    group(FORM_Q8, SCORES, s, n_q, k, a, n, next);
}

static void q8_values(Online *s, int n_q, const char *v, const AttnArgs *a, int n, Ahead next) {
    group(FORM_Q8, VALUES, s, n_q, v, a, n, next);
}

static const GroupFn on_scores[] = {f32_scores, f16_scores, q8_scores},
                     on_values[] = {f32_values, f16_values, q8_values};

/* A block: rows from `first` see some of its tokens, rows from `all` on the whole of it. */
typedef struct Place {
    const char *k, *v, *k_next; /* k_next: of the next block, NULL: none */
    int t, first, all;
} Place;

static Place place_of(const AttnArgs *a, int t) {
    int to = MIN(a->n_tok + a->n_row - 1, a->to), b = t / KV_BLOCK;
    size_t at = (size_t)a->table[b] * a->stride;
    Place p = {a->k + at, a->v + at, NULL, t, MAX(0, t + 1 - a->n_tok), a->n_row};
    if (t + KV_BLOCK < to) p.k_next = a->k + (size_t)a->table[b + 1] * a->stride;
    if (t + KV_BLOCK <= a->to) p.all = MIN(a->n_row, MAX(0, t + KV_BLOCK - a->n_tok));
    return p;
}

/* Rows that see a part of the block go one by one: no token that is not theirs may touch them. */
static ALWAYS_INLINE void rows(GroupFn fn, Online *s, const char *kv, const AttnArgs *a,
                               const Place *p, Ahead next) {
    for (int r = p->first; r < p->all; r++, next.p = NULL)
        fn(s + r * a->nq, a->nq, kv, a, MIN(a->n_tok + r, a->to) - p->t, next);
    if (p->all < a->n_row)
        fn(s + p->all * a->nq, (a->n_row - p->all) * a->nq, kv, a, KV_BLOCK, next);
}

static void begin(Online *s, const AttnArgs *a) {
    for (int r = 0; r < a->n_row; r++) {
        for (int i = 0; i < a->nq; i++, s++) {
            s->sum = _mm512_setzero_ps();
            s->max = -INFINITY;
            s->q = a->q + (size_t)r * a->row_q + (size_t)i * a->ldq;
            s->o = a->o + (size_t)r * a->row_o + (size_t)i * a->ldo;
            memset(s->o, 0, (size_t)a->hd * sizeof *s->o);
        }
    }
}

static ALWAYS_INLINE void row_scale(float *x, size_t n, float s) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = vec_mask(n - i);
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(vec_load(x + i, m), _mm512_set1_ps(s)));
    }
}

static void end(const Online *s, const AttnArgs *a) {
    for (int i = 0; i < a->n_row * a->nq; i++) {
        float sum = vec_sum(s[i].sum);
        if (a->stat) {
            a->stat[i][0] = s[i].max;
            a->stat[i][1] = sum;
        } else {
            row_scale(s[i].o, (size_t)a->hd, 1.0f / sum);
        }
    }
}

/* Few queries take a block as it lies and ask for the next a little at a time; for many it is laid down as f32. */
static ALWAYS_INLINE void attn(Form f, const AttnArgs *a) {
    float *y = a->work;
    const char *laid = a->work;
    Online *s = (Online *)(void *)(y + KV_BLOCK * a->hd);
    int to = MIN(a->n_tok + a->n_row - 1, a->to);
    bool many = f != FORM_F32 && a->nq * a->n_row > N_REG;
    begin(s, a);
    for (int t = a->from; t < to; t += KV_BLOCK) {
        Place p = place_of(a, t);
        if (many) unpack_k(f, y, p.k, a);
        rows(on_scores[many ? FORM_F32 : f], s, many ? laid : p.k, a, &p, (Ahead){p.v, elem(f)});
        if (many) unpack_v(f, y, p.v, a, MIN(KV_BLOCK, to - t));
        rows(on_values[many ? FORM_F32 : f], s, many ? laid : p.v, a, &p,
             (Ahead){p.k_next, elem(f)});
    }
    end(s, a);
}

static void attn_f32(const AttnArgs *a) { attn(FORM_F32, a); }

static void attn_f16(const AttnArgs *a) { attn(FORM_F16, a); }

static void attn_q8_0(const AttnArgs *a) { attn(FORM_Q8, a); }

static void attn_join(float *o, float stat[2], const float *po, const float pstat[2], int hd) {
    float max = stat[0] > pstat[0] ? stat[0] : pstat[0];
    __m512 a = vec_exp(_mm512_set1_ps(stat[0] - max)), b = vec_exp(_mm512_set1_ps(pstat[0] - max));
    for (int d = 0; d < hd; d += 16) {
        __mmask16 m = vec_mask((size_t)(hd - d));
        __m512 later = _mm512_mul_ps(vec_load(po + d, m), b);
        _mm512_mask_storeu_ps(o + d, m, _mm512_fmadd_ps(vec_load(o + d, m), a, later));
    }
    stat[1] = stat[1] * _mm512_cvtss_f32(a) + pstat[1] * _mm512_cvtss_f32(b);
    stat[0] = max;
}

void kern_avx512_attn(Kern *k) {
    k->attn[DT_F32] = attn_f32;
    k->attn[DT_F16] = attn_f16;
    k->attn[DT_Q8_0] = attn_q8_0;
    k->attn_join = attn_join;
}
