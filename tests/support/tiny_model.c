/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tiny_model.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "test.h"

enum { C = 32, NH = 4, NKV = 2, FF = 64, LAYERS = 2, MAX_T = 512 };

static void fill_random(TinyModel *t, uint64_t seed) {
    for (int i = 0; i < t->m->n_params; i++) {
        const Param *p = &t->m->params[i];
        size_t n = param_n(p);
        float *x = mem_new_n(float, n);
        TRUE_(x != NULL);
        rng_normal_fill(x, n, p->n_dims == 1 ? 0.3f : 0.25f, seed, (uint64_t)i);
        if (p->n_dims == 1 && strstr(p->name, "norm.weight"))
            for (size_t k = 0; k < n; k++) x[k] += 1.0f;
        t->dev->ops->upload(t->dev, buf_at(t->m->flat, p->off), x, n * sizeof *x);
        mem_free(x);
    }
}

static TinyModel make(const char *arch, int V, int ctx, DeviceOpts o, uint64_t seed) {
    TinyModel t = {0};
    ModelConfig c = {.arch = model_arch_find(slice_of(arch)),
                     .n_layer = LAYERS,
                     .C = C,
                     .nh = NH,
                     .nkv = NKV,
                     .hd = C / NH,
                     .ff = FF,
                     .V = V,
                     .ctx = ctx,
                     .norm_eps = 1e-5f};
    if (c.arch->pos == POS_ROPE) {
        c.rope_base = 10000.0f;
        c.rope_scale = 1.0f;
        c.n_rot = c.hd / 2;
    }
    if (!o.cpu) o.cpu = getenv("INGOT_CPU"); /* a level for a whole run */
    OK_(device_cpu_new(&t.dev, &o, TERR));
    OK_(model_new(&t.m, t.dev, &c, TERR));
    fill_random(&t, seed);
    return t;
}

TinyModel tiny_model_new(const char *arch, int V, int ctx, const char *cpu, uint64_t seed) {
    return make(arch, V, ctx, (DeviceOpts){.cpu = cpu, .n_threads = 2}, seed);
}

TinyModel tiny_model_invariant(const char *arch, int V, int ctx, const char *cpu, uint64_t seed) {
    return make(arch, V, ctx, (DeviceOpts){.cpu = cpu, .n_threads = 2, .batch_invariant = true},
                seed);
}

void tiny_model_free(TinyModel *t) {
    model_free(t->m);
    device_free(t->dev);
}

void tiny_model_poison(TinyModel *t, int32_t id) {
    float x[C];
    for (int i = 0; i < C; i++) x[i] = NAN;
    BufAt row = {t->m->tok_embd.buf, t->m->tok_embd.off_bytes / sizeof(float) + (size_t)id * C};
    t->dev->ops->upload(t->dev, row, x, sizeof x);
}

void tiny_model_logits(TinyModel *t, float *out, const int32_t *ids, int n) {
    int32_t pos[MAX_T], seq[MAX_T] = {0}, table[MAX_T / 32], row = n - 1;
    const int32_t *blocks = table;
    const float *logits = NULL;
    TRUE_(n <= MAX_T);
    for (int i = 0; i < MAX_T / 32; i++) table[i] = i;
    for (int i = 0; i < n; i++) pos[i] = i;
    KvStore *kv = t->dev->ops->kv_new(t->dev, DT_F32, LAYERS, MAX_T / 32, NKV, C / NH);
    TRUE_(kv != NULL);
    Batch b = {.T = n,
               .tok = ids,
               .pos = pos,
               .seq = seq,
               .n_seq = 1,
               .blocks = &blocks,
               .n_out = 1,
               .out = &row};
    OK_(model_reserve(t->m, n, 1, TERR));
    OK_(model_forward(t->m, kv, &b, &logits, TERR));
    memcpy(out, logits, (size_t)t->m->cfg.V * sizeof *out);
    t->dev->ops->kv_free(t->dev, kv);
}
