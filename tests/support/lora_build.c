/* SPDX-License-Identifier: Apache-2.0 */
#include "support/lora_build.h"

#include "base/mem.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "test.h"

enum { MAX_PAIRS = 64 };

static bool is_wanted(const Param *p, const LoraSpec *s) {
    if (p->n_dims != 2 || p->role == P_POS_EMBD) return false;
    if (p->role == P_TOK_EMBD) return !s->no_embd;
    return p->role != P_OUTPUT || !s->no_output;
}

/* Random values of the pair's type. */
static void *values(const LoraPair *p, int which, const LoraSpec *s, uint64_t at) {
    Kern k;
    size_t n = lora_pair_n(p, which);
    float *x = mem_new_n(float, n), size = s->size > 0.0f ? s->size : 0.3f;
    void *y = mem_alloc_n(lora_pair_bytes(p, which), 1);
    TRUE_(x && y);
    rng_normal_fill(x, n, which ? size : 0.3f, s->seed, at);
    OK_(kern_init(&k, "ref", TERR));
    if (p->type[which] == DT_F32) memcpy(y, x, n * sizeof *x);
    else k.from_f32[p->type[which]](y, x, n);
    mem_free(x);
    return y;
}

static DType fitting(DType type, int cols) {
    return cols % dtype_info(type)->block == 0 ? type : DT_F16;
}

void lora_build_file(const char *path, const Model *m, const LoraSpec *s) {
    LoraPair pair[MAX_PAIRS];
    int n = 0, k = 0;
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        if (!is_wanted(p, s) || (s->every > 1 && k++ % s->every)) continue;
        TRUE_(n < MAX_PAIRS);
        LoraPair *q = &pair[n++];
        *q = (LoraPair){.base = p, .rank = s->rank + n % 3, .is_embd = p->role == P_TOK_EMBD};
        q->type[0] = fitting(s->type, q->is_embd ? q->rank : p->cols);
        q->type[1] = fitting(s->type, q->rank);
        q->a = values(q, 0, s, 2 * (uint64_t)n);
        q->b = values(q, 1, s, 2 * (uint64_t)n + 1);
    }
    OK_(lora_save(path, m->cfg.arch->name, s->alpha, pair, n, TERR));
    for (int i = 0; i < n; i++) {
        mem_free((void *)(uintptr_t)pair[i].a);
        mem_free((void *)(uintptr_t)pair[i].b);
    }
}

static float *widened(const LoraPair *p, int which) {
    Kern k;
    size_t n = lora_pair_n(p, which);
    float *x = mem_new_n(float, n);
    const void *src = which ? p->b : p->a;
    TRUE_(x != NULL);
    OK_(kern_init(&k, "ref", TERR));
    if (p->type[which] == DT_F32) memcpy(x, src, n * sizeof *x);
    else k.to_f32[p->type[which]](x, src, n);
    return x;
}

/* Element (i, j) of B A, or of A B^T for embeddings. */
static double product(const LoraPair *p, const float *a, const float *b, int i, int j) {
    double sum = 0;
    int r = p->rank, cols = p->base->cols;
    for (int k = 0; k < r; k++)
        sum += p->is_embd ? (double)a[i * r + k] * (double)b[j * r + k]
                          : (double)b[i * r + k] * (double)a[k * cols + j];
    return sum;
}

static void merge_pair(Model *m, const LoraPair *p, double s) {
    float *a = widened(p, 0), *b = widened(p, 1), *w = mem_new_n(float, param_n(p->base));
    BufAt at = buf_at(m->flat, p->base->off);
    size_t bytes = param_n(p->base) * sizeof *w;
    TRUE_(w != NULL);
    m->dev->ops->download(m->dev, w, at, bytes);
    for (int i = 0; i < p->base->rows; i++)
        for (int j = 0; j < p->base->cols; j++) {
            float *x = &w[(size_t)i * (size_t)p->base->cols + (size_t)j];
            *x = (float)((double)*x + s * product(p, a, b, i, j));
        }
    m->dev->ops->upload(m->dev, at, w, bytes);
    mem_free(a);
    mem_free(b);
    mem_free(w);
}

void lora_build_merge(Model *m, const char *path, float scale) {
    Gguf *g = NULL;
    LoraPair *pair = NULL;
    int n = 0;
    float alpha = 0;
    OK_(gguf_open(&g, path, TERR));
    OK_(lora_read_pairs(&pair, &n, &alpha, &m->cfg, m->params, m->n_params, g, TERR));
    for (int i = 0; i < n; i++) {
        double s = alpha != 0.0f ? (double)alpha / pair[i].rank : 1.0;
        merge_pair(m, &pair[i], s * (double)scale);
    }
    mem_free(pair);
    gguf_close(g);
}
