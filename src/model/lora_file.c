/* SPDX-License-Identifier: Apache-2.0
 * Adapter files: from a GGUF file to checked pairs, and back. The model's parameters are walked and their pairs
 * looked up, so that the order of the file does not matter; what is left over then belongs to nothing. */
#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "model/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

enum { SUFFIX = 7 /* ".lora_a" */ };

static const char *const suffix[2] = {".lora_a", ".lora_b"};

/* ---- metadata ---- */

bool lora_is_adapter(const Gguf *g) {
    const GgufKv *kv = gguf_find(g, "general.type");
    return kv && kv->type == GGUF_STR && slice_eq_str(kv->v.s, "adapter");
}

static Status check_word(const Gguf *g, const char *key, const char *want, Err *e) {
    Slice s = {0};
    if (!gguf_find(g, key)) return err_set(e, ERR_FORMAT, "not a LoRA adapter: %s is missing", key);
    TRY(gguf_get_str(&s, g, key, e));
    if (slice_eq_str(s, want)) return OK;
    return err_set(e, ERR_UNSUPPORTED, "%s is \"%.*s\", want \"%s\"", key, (int)MIN(s.n, 64), s.p,
                   want);
}

static Status check_metadata(float *alpha, const ModelConfig *c, const Gguf *g, Err *e) {
    static const char trigger[] = "adapter.alora.invocation_tokens";
    double a = 0;
    Slice arch = {0};
    TRY(check_word(g, "general.type", "adapter", e));
    TRY(check_word(g, "adapter.type", "lora", e));
    TRY(gguf_get_str(&arch, g, "general.architecture", e));
    if (!slice_eq_str(arch, c->arch->name))
        return err_set(e, ERR_FORMAT, "the adapter is for architecture \"%.*s\", the model's is %s",
                       (int)MIN(arch.n, 64), arch.p, c->arch->name);
    if (gguf_find(g, trigger))
        return err_set(e, ERR_UNSUPPORTED, "%s: adapters that wait for tokens are not supported",
                       trigger);
    TRY(gguf_opt_float(&a, g, "adapter.lora.alpha", 0, 1e9, e));
    *alpha = (float)a;
    return OK;
}

/* ---- pairs ---- */

static bool is_adaptable(const Param *p) { return p->n_dims == 2 && p->role != P_POS_EMBD; }

static const GgufTensor *find_half(const Gguf *g, const Param *p, int which) {
    char name[sizeof p->name + SUFFIX + 1];
    snprintf(name, sizeof name, "%s%s", p->name, suffix[which]);
    return gguf_find_tensor(g, name);
}

/* Columns and rows that a (0) or b (1) must have; the rank is 0 while it is not known. */
static void want_shape(const LoraPair *p, int which, int *cols, int *rows) {
    *cols = which || p->is_embd ? p->rank : p->base->cols;
    *rows = which == 0 ? (p->is_embd ? p->base->rows : p->rank)
                       : (p->is_embd ? p->base->cols : p->base->rows);
}

static Status check_rank(LoraPair *p, const GgufTensor *a, Err *e) {
    uint64_t rank = a->ne[p->is_embd ? 0 : 1];
    if (rank < 1 || rank > LORA_MAX_RANK)
        return err_set(e, ERR_FORMAT, "tensor \"%.*s\" has rank %llu, out of range: 1 to %d",
                       (int)a->name.n, a->name.p, (unsigned long long)rank, LORA_MAX_RANK);
    p->rank = (int)rank;
    return OK;
}

static Status check_half(LoraPair *p, int which, const GgufTensor *t, Err *e) {
    int cols, rows;
    want_shape(p, which, &cols, &rows);
    if (t->n_dims > 2 || t->ne[0] != (uint64_t)cols || t->ne[1] != (uint64_t)rows)
        return err_set(e, ERR_FORMAT, "tensor \"%.*s\" has shape [%llu, %llu%s], want [%d, %d]",
                       (int)t->name.n, t->name.p, (unsigned long long)t->ne[0],
                       (unsigned long long)t->ne[1], t->n_dims > 2 ? ", ..." : "", cols, rows);
    if (t->type != DT_F32 && t->type != DT_F16 && t->type != DT_BF16 && t->type != DT_Q8_0)
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%.*s\" is %s, want f32, f16, bf16 or q8_0",
                       (int)t->name.n, t->name.p, dtype_name(t->type));
    p->type[which] = t->type;
    *(which ? &p->b : &p->a) = t->data;
    return OK;
}

static Status read_pair(LoraPair *p, const Param *base, const GgufTensor *a, const GgufTensor *b,
                        Err *e) {
    if (!a || !b)
        return err_set(e, ERR_FORMAT, "tensor \"%s%s\" is missing, the other of the pair is there",
                       base->name, suffix[a ? 1 : 0]);
    *p = (LoraPair){.base = base, .is_embd = base->role == P_TOK_EMBD};
    TRY(check_rank(p, a, e));
    TRY(check_half(p, 0, a, e));
    return check_half(p, 1, b, e);
}

/* Why the tensor of this name is in no pair; OK if it is in one. */
static Status explain(Slice name, const ModelConfig *c, const Param *params, int n, Err *e) {
    char base[sizeof params->name];
    bool half = name.n > SUFFIX;
    half = half && (!memcmp(name.p + name.n - SUFFIX, suffix[0], SUFFIX) ||
                    !memcmp(name.p + name.n - SUFFIX, suffix[1], SUFFIX));
    if (!half)
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%.*s\" is neither a .lora_a nor a .lora_b",
                       (int)name.n, name.p);
    name.n -= SUFFIX;
    snprintf(base, sizeof base, "%.*s", (int)MIN(name.n, sizeof base - 1), name.p);
    for (int i = 0; i < n; i++) {
        if (!slice_eq_str(name, params[i].name)) continue;
        if (is_adaptable(&params[i])) return OK;
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%s\" cannot be adapted, only matrices can",
                       base);
    }
    return err_set(e, ERR_FORMAT, "tensor \"%s\" is not in the model (%s, %d layers)", base,
                   c->arch->name, c->n_layer);
}

static Status walk_params(LoraPair *out, int *n, const Param *params, int n_params, const Gguf *g,
                          Err *e) {
    for (int i = 0; i < n_params; i++) {
        if (!is_adaptable(&params[i])) continue;
        const GgufTensor *a = find_half(g, &params[i], 0), *b = find_half(g, &params[i], 1);
        if (a || b) TRY(read_pair(&out[(*n)++], &params[i], a, b, e));
    }
    return OK;
}

Status lora_read_pairs(LoraPair **out, int *n, float *alpha, const ModelConfig *c,
                       const Param *params, int n_params, const Gguf *g, Err *e) {
    TRY(check_metadata(alpha, c, g, e));
    LoraPair *pair = mem_new_n(LoraPair, (size_t)n_params + 1);
    if (!pair) return err_set(e, ERR_NOMEM, "adapter: out of memory");
    int found = 0;
    size_t n_tensors = gguf_n_tensors(g);
    Status st = walk_params(pair, &found, params, n_params, g, e);
    for (size_t i = 0; st == OK && n_tensors != 2 * (size_t)found && i < n_tensors; i++)
        st = explain(gguf_tensor_at(g, i)->name, c, params, n_params, e);
    if (st == OK && found == 0) st = err_set(e, ERR_FORMAT, "the adapter has no tensors");
    if (st != OK) {
        mem_free(pair);
        return st;
    }
    *out = pair;
    *n = found;
    return OK;
}

size_t lora_pair_n(const LoraPair *p, int which) {
    int cols, rows;
    want_shape(p, which, &cols, &rows);
    return (size_t)cols * (size_t)rows;
}

size_t lora_pair_bytes(const LoraPair *p, int which) {
    return dtype_bytes(p->type[which], lora_pair_n(p, which));
}

/* ---- values ---- */

static uint16_t u16_at(const void *p, size_t i) {
    uint16_t h;
    memcpy(&h, (const uint8_t *)p + i, sizeof h);
    return h;
}

static float f32_at(const void *p, size_t i) {
    float x;
    memcpy(&x, (const uint8_t *)p + i * sizeof x, sizeof x);
    return x;
}

/* Element i is a number; of a block of q8_0, all are when its scale is. */
static bool is_number(DType type, const void *p, size_t i) {
    switch (type) {
    case DT_F16: return (u16_at(p, 2 * i) & 0x7c00) != 0x7c00;
    case DT_BF16: return (u16_at(p, 2 * i) & 0x7f80) != 0x7f80;
    case DT_Q8_0: return (u16_at(p, i / QK * sizeof(BlockQ8_0)) & 0x7c00) != 0x7c00;
    default: return isfinite(f32_at(p, i));
    }
}

Status lora_check_values(const LoraPair *pair, int which, const void *p, Err *e) {
    DType type = pair->type[which];
    size_t n = lora_pair_n(pair, which), step = (size_t)dtype_info(type)->block;
    for (size_t i = 0; i < n; i += step)
        if (!is_number(type, p, i))
            return err_set(e, ERR_FORMAT, "tensor \"%s%s\": element %zu is not a finite number",
                           pair->base->name, suffix[which], i);
    return OK;
}

/* ---- plans ---- */

void lora__sum_up(LoraInfo *out, const LoraPair *pair, int n, float alpha) {
    *out = (LoraInfo){.n_pairs = n, .alpha = alpha};
    for (int i = 0; i < n; i++) {
        out->rank = MAX(out->rank, pair[i].rank);
        for (int k = 0; k < 2; k++) {
            out->n_params += lora_pair_n(&pair[i], k);
            out->n_bytes += ROUND_UP(lora_pair_bytes(&pair[i], k), (size_t)64);
        }
    }
}

Status lora_read_info(LoraInfo *out, const ModelConfig *c, const Gguf *g, Err *e) {
    Param *params = NULL;
    LoraPair *pair = NULL;
    int n_params = 0, n = 0;
    float alpha = 0;
    TRY(model_params(&params, &n_params, c, e));
    Status st = lora_read_pairs(&pair, &n, &alpha, c, params, n_params, g, e);
    if (st == OK) lora__sum_up(out, pair, n, alpha);
    mem_free(pair);
    mem_free(params);
    return st;
}

size_t lora_bytes(const ModelConfig *c, int rank) {
    size_t q = (size_t)(c->nh * c->hd), kv = (size_t)(c->nkv * c->hd), C = (size_t)c->C;
    size_t ff = (size_t)c->ff, n_up = c->arch->act == ACT_SWIGLU ? 2 : 1;
    size_t attn = (C + q) + 2 * (C + kv) + (q + C), mlp = n_up * (C + ff) + (ff + C);
    return (attn + mlp) * (size_t)c->n_layer * (size_t)rank * sizeof(float);
}

/* ---- writing ---- */

static void declare(GgufW *w, const LoraPair *p, int which) {
    char name[sizeof p->base->name + SUFFIX + 1];
    int cols, rows;
    want_shape(p, which, &cols, &rows);
    uint64_t ne[2] = {(uint64_t)cols, (uint64_t)rows};
    snprintf(name, sizeof name, "%s%s", p->base->name, suffix[which]);
    gguf_w_tensor(w, slice_of(name), p->type[which], 2, ne);
}

static Status write_data(GgufW *w, const LoraPair *pair, int n, Err *e) {
    TRY(gguf_w_begin(w, e));
    for (int i = 0; i < 2 * n; i++) {
        const LoraPair *p = &pair[i / 2];
        TRY(gguf_w_data(w, i % 2 ? p->b : p->a, lora_pair_bytes(p, i % 2), e));
    }
    return gguf_w_end(w, e);
}

Status lora_save(const char *path, const char *arch, float alpha, const LoraPair *pair, int n,
                 Err *e) {
    GgufW *w = NULL;
    TRY(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, true, e));
    gguf_w_str(w, "general.architecture", slice_of(arch));
    gguf_w_str(w, "general.type", slice_of("adapter"));
    gguf_w_str(w, "adapter.type", slice_of("lora"));
    gguf_w_f32(w, "adapter.lora.alpha", alpha);
    for (int i = 0; i < 2 * n; i++) declare(w, &pair[i / 2], i % 2);
    Status st = write_data(w, pair, n, e);
    gguf_w_free(w);
    return st;
}
