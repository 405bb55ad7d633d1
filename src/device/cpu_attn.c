/* SPDX-License-Identifier: Apache-2.0
 * Paged KV cache and attention over it. The only file that knows how a block is laid out:
 * [layer][K heads, V heads][head], a head being K [hd][32] or V [32][hd]. */
#include <math.h>

#include "device/internal.h"

KvStore *cpu__kv_new(Device *d, DType type, int n_layer, int n_blocks, int nkv, int hd) {
    (void)d;
    KvStore *s = mem_new(KvStore);
    if (!s) return NULL;
    *s = (KvStore){.type = type, .n_layer = n_layer, .n_blocks = n_blocks, .nkv = nkv, .hd = hd};
    s->head_bytes = dtype_bytes(type, (size_t)KV_BLOCK * (size_t)hd);
    s->stride = 2 * (size_t)n_layer * (size_t)nkv * s->head_bytes;
    if (mem_mul(&s->n_bytes, s->stride, (size_t)n_blocks)) s->p = mem_map_alloc(s->n_bytes);
    if (s->p) return s;
    mem_free(s);
    return NULL;
}

void cpu__kv_free(Device *d, KvStore *s) {
    (void)d;
    if (!s) return;
    mem_map_free(s->p, s->n_bytes);
    mem_free(s);
}

void cpu__kv_copy(Device *d, KvStore *s, int32_t dst, int32_t src) {
    (void)d;
    memcpy(s->p + (size_t)dst * s->stride, s->p + (size_t)src * s->stride, s->stride);
}

/* K (or V) of a layer and head inside block 0. */
static char *kv_head(const KvStore *s, int layer, int is_v, int head) {
    return s->p + ((size_t)(2 * layer + is_v) * (size_t)s->nkv + (size_t)head) * s->head_bytes;
}

typedef struct RopeJob {
    CpuDevice *d;
    const RopeKvArgs *a;
} RopeJob;

static void position_angles(float *cs, const RopeSpec *r, int32_t pos) {
    float gain = r->gain != 0.0f ? r->gain : 1.0f;
    for (int i = 0; i < r->n_rot; i++) {
        float angle = (float)pos * r->freq[i];
        cs[2 * i] = gain * cosf(angle);
        cs[2 * i + 1] = gain * sinf(angle);
    }
}

static void rope_task(void *ctx, int64_t tile, int worker) {
    RopeJob *j = ctx;
    const RopeKvArgs *a = j->a;
    const Kern *k = &j->d->kern;
    float *cs = (float *)(void *)j->d->scratch[worker].p;
    int t0 = (int)tile * CPU_ROW_CHUNK, t1 = MIN(a->T, t0 + CPU_ROW_CHUNK);
    size_t ld = (size_t)(a->nh + 2 * a->nkv) * (size_t)a->hd;
    for (int t = t0; t < t1; t++) {
        float *row = cpu_ptr(a->qkv) + (size_t)t * ld, *key = row + (size_t)a->nh * (size_t)a->hd;
        if (a->rope.n_rot > 0) {
            position_angles(cs, &a->rope, a->pos[t]);
            k->rope(row, cs, a->nh + a->nkv, a->hd, a->rope.n_rot, a->rope.halves, a->inverse);
        }
        if (!a->kv) continue;
        const KvStore *s = a->kv;
        int32_t pos = a->pos[t], block = a->batch->blocks[a->batch->seq[t]][pos / KV_BLOCK];
        size_t at = (size_t)block * s->stride;
        for (int h = 0; h < a->nkv; h++)
            k->kv_put[s->type](kv_head(s, a->layer, 0, h) + at, kv_head(s, a->layer, 1, h) + at,
                               key + h * a->hd, key + (a->nkv + h) * a->hd, pos % KV_BLOCK, a->hd);
    }
}

void cpu__rope_kv(Device *d, const RopeKvArgs *a) {
    RopeJob j = {cpu_of(d), a};
    if (!cpu__reserve(j.d, 2 * sizeof(float) * (size_t)a->rope.n_rot)) return;
    cpu__for(j.d, (size_t)a->T, CPU_ROW_CHUNK, rope_task, &j);
}

typedef struct AttnJob {
    CpuDevice *d;
    const AttnArgsDev *a;
} AttnJob;

static void attn_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    AttnJob *j = ctx;
    const AttnArgsDev *a = j->a;
    int t = (int)(tile / a->nkv), h = (int)(tile % a->nkv), group = a->nh / a->nkv;
    size_t hd = (size_t)a->hd, ld = (size_t)(a->nh + 2 * a->nkv) * hd,
           at = (size_t)(h * group) * hd;
    AttnArgs k = {.o = cpu_ptr(a->o) + (size_t)t * (size_t)a->nh * hd + at,
                  .q = cpu_ptr(a->qkv) + (size_t)t * ld + at,
                  .ldo = hd,
                  .ldq = hd,
                  .k = kv_head(a->kv, a->layer, 0, h),
                  .v = kv_head(a->kv, a->layer, 1, h),
                  .table = a->batch->blocks[a->batch->seq[t]],
                  .stride = a->kv->stride,
                  .nq = group,
                  .hd = a->hd,
                  .n_tok = a->batch->pos[t] + 1,
                  .scale = a->scale};
    j->d->kern.attn[a->kv->type](&k);
}

void cpu__attn(Device *d, const AttnArgsDev *a) {
    AttnJob j = {cpu_of(d), a};
    cpu__for(j.d, (size_t)a->batch->T * (size_t)a->nkv, 1, attn_task, &j);
}
