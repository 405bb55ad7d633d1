/* SPDX-License-Identifier: Apache-2.0
 * Copies of a GGUF file with something changed, and a forward pass to see what became of it. */
#ifndef INGOT_TESTS_MODEL_EDIT_H
#define INGOT_TESTS_MODEL_EDIT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel/kernel.h"
#include "model/model.h"
#include "test.h"

#define LLAMA "tests/golden/data/llama_tied.gguf"
#define UNTIED "tests/golden/data/llama_untied.gguf"
#define QWEN2 "tests/golden/data/qwen2_tied.gguf"
#define QWEN3 "tests/golden/data/qwen3_untied.gguf"
#define GPT2 "tests/golden/data/gpt2_tied.gguf"

/* How a key's value is written. */
typedef enum EditKind { SET_NONE, SET_DROP, SET_U32, SET_I32, SET_F32, SET_F64, SET_STR } EditKind;

/* Zero fields change nothing. */
typedef struct Edit {
    const char *key; /* this key ... */
    EditKind kind;   /* ... gets */
    double num;
    const char *str;
    const char *drop;  /* this tensor is left out */
    const char *alter; /* this tensor gets another shape and type, zeros as data */
    const char *add;   /* a tensor of that name more, of the shape below */
    DType type;
    int n_dims;
    uint64_t ne[4];
    uint32_t alignment; /* 0: 32 */
    DType matrices;     /* all matrices in this type; 0: as they are */
} Edit;

static UNUSED const char *edit_path(const char *name) {
    static char buf[4][512];
    static int at;
    char *p = buf[at++ % 4];
    snprintf(p, sizeof buf[0], "%s/%s", test_tmpdir(), name);
    return p;
}

static UNUSED void edit_key(GgufW *w, const Edit *e) {
    switch (e->kind) {
    case SET_U32: gguf_w_u32(w, e->key, (uint32_t)e->num); break;
    case SET_I32: gguf_w_i32(w, e->key, (int32_t)e->num); break;
    case SET_F32: gguf_w_f32(w, e->key, (float)e->num); break;
    case SET_F64: gguf_w_f64(w, e->key, e->num); break;
    case SET_STR: gguf_w_str(w, e->key, slice_of(e->str)); break;
    default: break;
    }
}

static UNUSED DType edit_type(const Edit *e, const GgufTensor *t) {
    if (e->alter && slice_eq_str(t->name, e->alter)) return e->type;
    return e->matrices != DT_F32 && t->n_dims == 2 ? e->matrices : t->type;
}

static UNUSED void edit_declare(GgufW *w, const Gguf *g, const Edit *e) {
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const GgufKv *kv = gguf_kv_at(g, i);
        if (!e->key || e->kind != SET_DROP || !slice_eq_str(kv->key, e->key)) gguf_w_kv(w, kv);
    }
    edit_key(w, e);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        bool altered = e->alter && slice_eq_str(t->name, e->alter);
        if (e->drop && slice_eq_str(t->name, e->drop)) continue;
        gguf_w_tensor(w, t->name, edit_type(e, t), altered ? e->n_dims : t->n_dims,
                      altered ? e->ne : t->ne);
    }
    if (e->add) gguf_w_tensor(w, slice_of(e->add), e->type, e->n_dims, e->ne);
}

static UNUSED void edit_zeros(GgufW *w, const Edit *e) {
    size_t n = 1;
    for (int i = 0; i < e->n_dims; i++) n *= (size_t)e->ne[i];
    void *zero = calloc(n, sizeof(float));
    OK_(gguf_w_data(w, zero, dtype_bytes(e->type, n), TERR));
    free(zero);
}

/* One tensor's data in the type it was declared with. */
static UNUSED void edit_data(GgufW *w, const Edit *e, const GgufTensor *t) {
    Kern k;
    DType type = edit_type(e, t);
    if (type == t->type) {
        OK_(gguf_w_data(w, t->data, (size_t)t->n_bytes, TERR));
        return;
    }
    size_t bytes = dtype_bytes(type, (size_t)t->n_elem);
    void *p = malloc(bytes);
    OK_(kern_init(&k, "ref", TERR));
    k.from_f32[type](p, t->data, (size_t)t->n_elem);
    OK_(gguf_w_data(w, p, bytes, TERR));
    free(p);
}

/* Copy `from` to `to` with the change. */
static UNUSED void edit_file(const char *to, const char *from, const Edit *e) {
    Gguf *g = NULL;
    GgufW *w = NULL;
    OK_(gguf_open(&g, from, TERR));
    OK_(gguf_w_new(&w, to, e->alignment ? e->alignment : 32, false, TERR));
    edit_declare(w, g, e);
    OK_(gguf_w_begin(w, TERR));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        if (e->drop && slice_eq_str(t->name, e->drop)) continue;
        if (e->alter && slice_eq_str(t->name, e->alter)) edit_zeros(w, e);
        else edit_data(w, e, t);
    }
    if (e->add) edit_zeros(w, e);
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    gguf_close(g);
}

static UNUSED Device *edit_device(void) {
    Device *d = NULL;
    OK_(device_cpu_new(&d, &(DeviceOpts){.n_threads = 1}, TERR));
    return d;
}

/* Logits of ids[n], all rows, from an empty f32 cache into out[n * V]; what the model said. */
static UNUSED Status edit_forward(Model *m, const int32_t *ids, int n, float *out, Err *e) {
    enum { MOST = 32 };
    int32_t pos[MOST], seq[MOST] = {0}, rows[MOST], block = 0;
    const int32_t *blocks = &block;
    const float *logits = NULL;
    for (int i = 0; i < n; i++) pos[i] = rows[i] = i;
    KvStore *kv = m->dev->ops->kv_new(m->dev, DT_F32, m->cfg.n_layer, 1, m->cfg.nkv, m->cfg.hd);
    Batch b = {.T = n,
               .tok = ids,
               .pos = pos,
               .seq = seq,
               .n_seq = 1,
               .blocks = &blocks,
               .n_out = n,
               .out = rows};
    Status st = kv ? model_reserve(m, n, n, e) : err_set(e, ERR_NOMEM, "no cache");
    if (st == OK) st = model_forward(m, kv, &b, &logits, e);
    if (st == OK && out) memcpy(out, logits, (size_t)n * (size_t)m->cfg.V * sizeof *out);
    m->dev->ops->kv_free(m->dev, kv);
    return st;
}

#endif
