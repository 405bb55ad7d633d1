/* SPDX-License-Identifier: Apache-2.0
 * The plan of a folder: its class, and for each of its tensors the one of the file. Every tensor of the file has
 * a place or is refused, so that what was exported is the whole model. */
#include <stdio.h>

#include "format/hf_out_internal.h"

/* ---- the class ---- */

/* GGUF's other names of architectures that a class computes. */
static const char *family_of(const char *arch) {
    return strcmp(arch, "mistral3") == 0 ? "llama" : arch;
}

/* mistral3 in a folder is Mistral; its own class has a picture part beside the text. */
static const HfArch *arch_at(const char *arch, size_t i) {
    const HfArch *a = hf__arch_at(i);
    bool only_mistral = strcmp(arch, "mistral3") == 0;
    if (strcmp(a->gguf, family_of(arch)) != 0) return NULL;
    return only_mistral && strcmp(a->name, "MistralForCausalLM") != 0 ? NULL : a;
}

const char *hf_out_classes(const char *arch) {
    static const char *const rows[][2] = {{"gpt2", "GPT2LMHeadModel"},
                                          {"llama", "LlamaForCausalLM, MistralForCausalLM"},
                                          {"mistral3", "MistralForCausalLM"},
                                          {"qwen2", "Qwen2ForCausalLM"},
                                          {"qwen3", "Qwen3ForCausalLM"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(rows[i][0], arch) == 0) return rows[i][1];
    return "";
}

static Status find_class(HfOut *o, const HfSpec *s, Err *e) {
    for (size_t i = 0; hf__arch_at(i); i++) {
        const HfArch *a = arch_at(s->arch, i);
        if (!a || (s->class_name && strcmp(a->name, s->class_name) != 0)) continue;
        o->cfg.arch = a;
        return OK;
    }
    if (!hf_out_classes(s->arch)[0])
        return err_set(
            e, ERR_UNSUPPORTED,
            "architecture %s has no class here: gpt2, llama, mistral3, qwen2, qwen3 have", s->arch);
    return err_set(e, ERR_ARG, "class %.60s is not one of %s: choose %s", s->class_name, s->arch,
                   hf_out_classes(s->arch));
}

/* ---- what a class cannot say ---- */

static Status no_place(const HfOut *o, const char *what, Err *e) {
    return err_set(e, ERR_UNSUPPORTED, "%s has no place in %s", what, o->cfg.arch->name);
}

static Status check_biases(const HfOut *o, const HfSpec *s, Err *e) {
    const HfArch *a = o->cfg.arch;
    if (a->family == HF_GPT2) return OK;
    if (a->may_bias) {
        if (s->qkv_bias != s->out_bias)
            return no_place(o,
                            s->qkv_bias ? "attn_q.bias without attn_output.bias"
                                        : "attn_output.bias without attn_q.bias",
                            e);
        return OK;
    }
    if (s->qkv_bias && !a->qkv_bias) return no_place(o, "attn_q.bias", e);
    if (s->out_bias) return no_place(o, "attn_output.bias", e);
    return s->mlp_bias ? no_place(o, "ffn_down.bias", e) : OK;
}

static Status check_heads(const HfOut *o, const HfSpec *s, Err *e) {
    char what[80];
    if (o->cfg.arch->family == HF_LLAMA) return OK;
    snprintf(what, sizeof what, "%d key/value heads of %d", s->nkv, s->nh);
    if (s->nkv != s->nh) return no_place(o, what, e);
    snprintf(what, sizeof what, "%d heads of %d in a width of %d", s->nh, s->hd, s->C);
    return s->nh * s->hd != s->C ? no_place(o, what, e) : OK;
}

static void copy_sizes(HfConfig *c, const HfSpec *s) {
    bool gpt2 = c->arch->family == HF_GPT2;
    c->n_layer = s->n_layer;
    c->C = s->C;
    c->nh = s->nh;
    c->nkv = s->nkv;
    c->hd = s->hd;
    c->ff = s->ff;
    c->V = s->V;
    c->ctx = s->ctx;
    c->eps = (double)s->eps;
    c->tied = s->tied;
    c->qkv_bias = gpt2 || s->qkv_bias;
    c->out_bias = gpt2 || s->out_bias;
    c->mlp_bias = gpt2 || s->mlp_bias;
}

/* ---- tensors ---- */

static HfOutTensor *new_tensor(HfOut *o) {
    if (o->n == o->cap) {
        size_t cap = MAX(2 * o->cap, (size_t)64);
        HfOutTensor *p = mem_realloc_n(o->tensor, cap, sizeof *p);
        if (!p) return NULL;
        o->tensor = p;
        o->cap = cap;
    }
    o->tensor[o->n] = (HfOutTensor){0};
    return &o->tensor[o->n++];
}

static bool shape_fits(const GgufTensor *t, const HfItem *it) {
    if (t->n_dims > 2) return false;
    if (it->n_dims == 1) return t->ne[0] == it->rows * it->cols && t->ne[1] == 1;
    return t->ne[0] == it->cols && t->ne[1] == it->rows;
}

static Status take(void *ctx, const char *hf, const HfItem *it) {
    HfOut *o = ctx;
    const GgufTensor *src = gguf_find_tensor(o->g, it->name);
    if (!src)
        return err_set(o->e, ERR_FORMAT, "tensor %s of %s is missing", it->name, o->cfg.arch->name);
    if (!shape_fits(src, it))
        return err_set(o->e, ERR_FORMAT, "tensor %s: %llu x %llu, the model's is %llu x %llu",
                       it->name, (unsigned long long)src->ne[1], (unsigned long long)src->ne[0],
                       (unsigned long long)it->rows, (unsigned long long)it->cols);
    HfOutTensor *t = new_tensor(o);
    if (!t) return err_set(o->e, ERR_NOMEM, "no memory for a plan of %zu tensors", o->n);
    snprintf(t->name, sizeof t->name, "%s", hf);
    t->src = src;
    t->how = it->how == HF_TRANSPOSE ? HF_OUT_TURN
             : it->how == HF_PAIRS   ? HF_OUT_UNPAIR
                                     : HF_OUT_COPY;
    t->n_dims = it->n_dims;
    t->rows = it->rows;
    t->cols = it->cols;
    return OK;
}

static bool is_planned(const HfOut *o, const GgufTensor *t) {
    for (size_t i = 0; i < o->n; i++)
        if (o->tensor[i].src == t) return true;
    return o->cfg.rope.kind == HF_ROPE_LLAMA3 && slice_eq_str(t->name, "rope_freqs.weight");
}

/* The one that has no place, if there are more than were planned. */
static Status check_all(const HfOut *o, Err *e) {
    size_t n = gguf_n_tensors(o->g);
    if (n == o->n + (o->cfg.rope.kind == HF_ROPE_LLAMA3)) return OK;
    for (size_t i = 0; i < n; i++) {
        const GgufTensor *t = gguf_tensor_at(o->g, i);
        char name[GGUF_MAX_NAME + 16];
        if (is_planned(o, t)) continue;
        snprintf(name, sizeof name, "tensor %.*s", (int)t->name.n, t->name.p);
        return no_place(o, name, e);
    }
    return OK;
}

/* ---- the whole ---- */

static Status plan(HfOut *o, const HfSpec *s, Err *e) {
    TRY(find_class(o, s, e));
    TRY(check_heads(o, s, e));
    TRY(check_biases(o, s, e));
    copy_sizes(&o->cfg, s);
    TRY(hf__out_rope(o, s, e));
    o->e = e;
    TRY(hf__walk_names(&o->cfg, take, o));
    o->e = NULL;
    return check_all(o, e);
}

Status hf_out_new(HfOut **out, const HfSpec *s, const Gguf *g, Err *e) {
    HfOut *o = mem_new(HfOut);
    if (!o) return err_set(e, ERR_NOMEM, "no memory for a plan");
    o->g = g;
    Status st = plan(o, s, e);
    if (st == OK) *out = o;
    else hf_out_free(o);
    return st;
}

void hf_out_free(HfOut *o) {
    if (!o) return;
    mem_free(o->tensor);
    mem_free(o);
}

const char *hf_out_class(const HfOut *o) { return o->cfg.arch->name; }
const char *hf_out_note(const HfOut *o) { return o->note; }
size_t hf_out_n_tensors(const HfOut *o) { return o->n; }
const HfOutTensor *hf_out_tensor_at(const HfOut *o, size_t i) { return &o->tensor[i]; }

/* Pairs (2i, 2i + 1) of a head in the file are rows i and i + hd/2 in the folder. */
uint64_t hf_out_row(const HfOut *o, uint64_t r) {
    uint64_t hd = (uint64_t)o->cfg.hd, k = r % hd, half = hd / 2;
    return r - k + (k < half ? 2 * k : 2 * (k - half) + 1);
}
