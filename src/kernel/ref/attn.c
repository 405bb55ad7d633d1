/* SPDX-License-Identifier: Apache-2.0
 * Rotary positions and attention against the paged cache, by definition.
 *
 * Attention walks the blocks from the first, keeping for each query the largest score so far, the sum of
 * exponentials and the weighted sum of values, both relative to that score (online softmax, Milakov &
 * Gimelshein 2018). Places past n_tok in the last block are never read. */
#include <math.h>

#include "kernel/internal.h"
#include "tensor/half.h"

enum { HD_MAX = 256 };

static void rope(float *x, const float *cs, int n_heads, int hd, int n_rot, bool halves,
                 bool inverse) {
    for (int h = 0; h < n_heads; h++, x += hd) {
        for (int i = 0; i < n_rot; i++) {
            int a = halves ? i : 2 * i, b = halves ? i + n_rot : 2 * i + 1;
            float c = cs[2 * i], s = inverse ? -cs[2 * i + 1] : cs[2 * i + 1];
            float xa = x[a], xb = x[b];
            x[a] = xa * c - xb * s;
            x[b] = xa * s + xb * c;
        }
    }
}

static void kv_put_f32(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    float *kb = kblock, *vb = vblock;
    for (int d = 0; d < hd; d++) {
        kb[d * KV_BLOCK + slot] = k[d];
        vb[slot * hd + d] = v[d];
    }
}

static void kv_put_f16(void *kblock, void *vblock, const float *k, const float *v, int slot,
                       int hd) {
    uint16_t *kb = kblock, *vb = vblock;
    for (int d = 0; d < hd; d++) {
        kb[d * KV_BLOCK + slot] = half_f32_to_f16(k[d]);
        vb[slot * hd + d] = half_f32_to_f16(v[d]);
    }
}

/* A head's values in groups, each with the scale of its largest; 1 / d as in ref/quant.c. A NaN makes the scale
 * one: a broken model stays seen. */
static void head_q8_0(int8_t *q, uint16_t *d, const float *x, int hd) {
    for (int g = 0; g < kern_kv_groups(hd); g++) {
        int to = MIN(hd, (g + 1) * KV_GROUP);
        float amax = 0.0f;
        for (int i = g * KV_GROUP; i < to && !isnan(amax); i++)
            amax = isnan(x[i]) ? NAN : fmaxf(amax, fabsf(x[i]));
        float scale = amax / 127.0f, id = scale != 0.0f ? 1.0f / scale : 0.0f;
        d[g] = half_f32_to_f16(scale);
        for (int i = g * KV_GROUP; i < to; i++) {
            float v = x[i] * id; /* out of range where 1 / scale overflows */
            q[i] = (int8_t)(v > -256.0f && v < 256.0f ? (int)roundf(v) : 0);
        }
    }
}

static void kv_put_q8_0(void *kblock, void *vblock, const float *k, const float *v, int slot,
                        int hd) {
    int8_t *kb = kblock, *vb = vblock, q[HD_MAX];
    uint16_t d[HD_MAX / KV_GROUP], *kd = (uint16_t *)(void *)(kb + hd * KV_BLOCK),
                                   *vd = (uint16_t *)(void *)(vb + hd * KV_BLOCK);
    head_q8_0(q, d, k, hd);
    for (int i = 0; i < hd; i++) kb[i * KV_BLOCK + slot] = q[i];
    for (int g = 0; g < kern_kv_groups(hd); g++) kd[g * KV_BLOCK + slot] = d[g];
    head_q8_0(q, d, v, hd);
    memcpy(vb + slot * hd, q, (size_t)hd);
    for (int g = 0; g < kern_kv_groups(hd); g++) vd[g * KV_BLOCK + slot] = d[g];
}

/* Element i of a block: value d of the token at `slot`. */
typedef double (*GetFn)(const char *block, int i, int d, int slot, int hd);

static double get_f32(const char *block, int i, int d, int slot, int hd) {
    (void)d, (void)slot, (void)hd;
    return (double)((const float *)(const void *)block)[i];
}

static double get_f16(const char *block, int i, int d, int slot, int hd) {
    (void)d, (void)slot, (void)hd;
    return (double)half_f16_to_f32(((const uint16_t *)(const void *)block)[i]);
}

static double get_q8_0(const char *block, int i, int d, int slot, int hd) {
    const uint16_t *scale = (const uint16_t *)(const void *)(block + hd * KV_BLOCK);
    return (double)half_f16_to_f32(scale[d / KV_GROUP * KV_BLOCK + slot]) *
           (double)((const int8_t *)block)[i];
}

typedef struct Online {
    double max, sum, out[HD_MAX]; /* sum and out are relative to exp(max) */
} Online;

/* Take one token with this score into the running softmax; v: its block's values. */
static void online_add(Online *s, double score, const char *v, int slot, int hd, GetFn get) {
    double max = fmax(s->max, score), keep = exp(s->max - max), p = exp(score - max);
    s->max = max;
    s->sum = s->sum * keep + p;
    for (int d = 0; d < hd; d++)
        s->out[d] = s->out[d] * keep + p * get(v, slot * hd + d, d, slot, hd);
}

static void attn_query(float *o, float stat[2], const float *q, int to, const AttnArgs *a,
                       GetFn get) {
    Online s = {.max = -HUGE_VAL};
    for (int t = a->from; t < to; t++) {
        size_t block = (size_t)a->table[t / KV_BLOCK] * a->stride;
        int slot = t % KV_BLOCK;
        double score = 0;
        for (int d = 0; d < a->hd; d++)
            score += (double)q[d] * get(a->k + block, d * KV_BLOCK + slot, d, slot, a->hd);
        online_add(&s, score * (double)a->scale, a->v + block, slot, a->hd, get);
    }
    float max = (float)s.max;
    double by = stat ? exp(s.max - (double)max) : 1.0 / s.sum; /* stat's maximum is rounded */
    for (int d = 0; d < a->hd; d++) o[d] = (float)(s.out[d] * by);
    if (!stat) return;
    stat[0] = max;
    stat[1] = (float)(s.sum * by);
}

static void attn(const AttnArgs *a, GetFn get) {
    for (int r = 0; r < a->n_row; r++) {
        for (int i = 0; i < a->nq; i++) {
            attn_query(a->o + (size_t)r * a->row_o + (size_t)i * a->ldo,
                       a->stat ? a->stat[r * a->nq + i] : NULL,
                       a->q + (size_t)r * a->row_q + (size_t)i * a->ldq, MIN(a->n_tok + r, a->to),
                       a, get);
        }
    }
}

static void attn_f32(const AttnArgs *a) { attn(a, get_f32); }

static void attn_f16(const AttnArgs *a) { attn(a, get_f16); }

static void attn_q8_0(const AttnArgs *a) { attn(a, get_q8_0); }

static void attn_join(float *o, float stat[2], const float *po, const float pstat[2], int hd) {
    float max = stat[0] > pstat[0] ? stat[0] : pstat[0];
    double a = exp((double)stat[0] - (double)max), b = exp((double)pstat[0] - (double)max);
    for (int d = 0; d < hd; d++) o[d] = (float)((double)o[d] * a + (double)po[d] * b);
    stat[1] = (float)((double)stat[1] * a + (double)pstat[1] * b);
    stat[0] = max;
}

void kern_ref_attn(Kern *k) {
    k->rope = rope;
    k->kv_put[DT_F32] = kv_put_f32;
    k->kv_put[DT_F16] = kv_put_f16;
    k->kv_put[DT_Q8_0] = kv_put_q8_0;
    k->attn[DT_F32] = attn_f32;
    k->attn[DT_F16] = attn_f16;
    k->attn[DT_Q8_0] = attn_q8_0;
    k->attn_join = attn_join;
}
