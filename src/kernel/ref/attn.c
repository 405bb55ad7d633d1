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

typedef double (*GetFn)(const char *block, int i);

static double get_f32(const char *block, int i) { return (double)((const float *)block)[i]; }

static double get_f16(const char *block, int i) {
    return (double)half_f16_to_f32(((const uint16_t *)block)[i]);
}

typedef struct Online {
    double max, sum, out[HD_MAX]; /* sum and out are relative to exp(max) */
} Online;

/* Take one token with this score and value into the running softmax. */
static void online_add(Online *s, double score, const char *v, int at, int hd, GetFn get) {
    double max = fmax(s->max, score), keep = exp(s->max - max), p = exp(score - max);
    s->max = max;
    s->sum = s->sum * keep + p;
    for (int d = 0; d < hd; d++) s->out[d] = s->out[d] * keep + p * get(v, at + d);
}

static void attn_query(float *o, const float *q, const AttnArgs *a, GetFn get) {
    Online s = {.max = -HUGE_VAL};
    for (int t = 0; t < a->n_tok; t++) {
        size_t block = (size_t)a->table[t / KV_BLOCK] * a->stride;
        int slot = t % KV_BLOCK;
        double score = 0;
        for (int d = 0; d < a->hd; d++) {
            score += (double)q[d] * get(a->k + block, d * KV_BLOCK + slot);
        }
        online_add(&s, score * (double)a->scale, a->v + block, slot * a->hd, a->hd, get);
    }
    for (int d = 0; d < a->hd; d++) o[d] = (float)(s.out[d] / s.sum);
}

static void attn_f32(const AttnArgs *a) {
    for (int i = 0; i < a->nq; i++) {
        attn_query(a->o + (size_t)i * a->ldo, a->q + (size_t)i * a->ldq, a, get_f32);
    }
}

static void attn_f16(const AttnArgs *a) {
    for (int i = 0; i < a->nq; i++) {
        attn_query(a->o + (size_t)i * a->ldo, a->q + (size_t)i * a->ldq, a, get_f16);
    }
}

void kern_ref_attn(Kern *k) {
    k->rope = rope;
    k->kv_put[DT_F32] = kv_put_f32;
    k->kv_put[DT_F16] = kv_put_f16;
    k->attn[DT_F32] = attn_f32;
    k->attn[DT_F16] = attn_f16;
}
