/* SPDX-License-Identifier: Apache-2.0
 * Names: which tensor of the folder becomes which of the GGUF file, with which shape, and how its rows are
 * ordered. Every tensor of the output has its source, and every tensor of the folder is one of these
 * sources or known to be none of the model's weights; the rest is refused. */
#include <stdio.h>

#include "format/hf_internal.h"

/* Sizes a shape is made of. */
typedef enum Dim { D_ONE, D_C, D_V, D_CTX, D_FF, D_HD, D_Q, D_KV, D_QKV } Dim;
/* When a row of a table is there. */
typedef enum When { ALWAYS, QKV_BIAS, OUT_BIAS, MLP_BIAS, QK_NORM, UNTIED } When;
/* How its rows are ordered; pairs only where the architecture rotates neighbours. */
typedef enum Order { AS_IS, TURNED, PAIRS_Q, PAIRS_K } Order;

typedef struct Row {
    const char *hf, *gguf; /* in a layer: behind its prefix */
    Dim rows, cols;        /* of the output; rows D_ONE: one dim */
    When when;
    Order order;
} Row;

typedef struct Names {
    const char *layer; /* before a layer's number */
    const Row *before, *in_layer, *after;
    size_t n_before, n_in_layer, n_after;
} Names;

static const Row llama_before[] = {
    {"model.embed_tokens.weight", "token_embd.weight", D_V, D_C, ALWAYS, AS_IS},
};
static const Row llama_layer[] = {
    {"input_layernorm.weight", "attn_norm.weight", D_ONE, D_C, ALWAYS, AS_IS},
    {"self_attn.q_proj.weight", "attn_q.weight", D_Q, D_C, ALWAYS, PAIRS_Q},
    {"self_attn.k_proj.weight", "attn_k.weight", D_KV, D_C, ALWAYS, PAIRS_K},
    {"self_attn.v_proj.weight", "attn_v.weight", D_KV, D_C, ALWAYS, AS_IS},
    {"self_attn.q_proj.bias", "attn_q.bias", D_ONE, D_Q, QKV_BIAS, PAIRS_Q},
    {"self_attn.k_proj.bias", "attn_k.bias", D_ONE, D_KV, QKV_BIAS, PAIRS_K},
    {"self_attn.v_proj.bias", "attn_v.bias", D_ONE, D_KV, QKV_BIAS, AS_IS},
    {"self_attn.q_norm.weight", "attn_q_norm.weight", D_ONE, D_HD, QK_NORM, AS_IS},
    {"self_attn.k_norm.weight", "attn_k_norm.weight", D_ONE, D_HD, QK_NORM, AS_IS},
    {"self_attn.o_proj.weight", "attn_output.weight", D_C, D_Q, ALWAYS, AS_IS},
    {"self_attn.o_proj.bias", "attn_output.bias", D_ONE, D_C, OUT_BIAS, AS_IS},
    {"post_attention_layernorm.weight", "ffn_norm.weight", D_ONE, D_C, ALWAYS, AS_IS},
    {"mlp.gate_proj.weight", "ffn_gate.weight", D_FF, D_C, ALWAYS, AS_IS},
    {"mlp.up_proj.weight", "ffn_up.weight", D_FF, D_C, ALWAYS, AS_IS},
    {"mlp.gate_proj.bias", "ffn_gate.bias", D_ONE, D_FF, MLP_BIAS, AS_IS},
    {"mlp.up_proj.bias", "ffn_up.bias", D_ONE, D_FF, MLP_BIAS, AS_IS},
    {"mlp.down_proj.weight", "ffn_down.weight", D_C, D_FF, ALWAYS, AS_IS},
    {"mlp.down_proj.bias", "ffn_down.bias", D_ONE, D_C, MLP_BIAS, AS_IS},
};
static const Row llama_after[] = {
    {"model.norm.weight", "output_norm.weight", D_ONE, D_C, ALWAYS, AS_IS},
    {"lm_head.weight", "output.weight", D_V, D_C, UNTIED, AS_IS},
};

static const Row gpt2_before[] = {
    {"transformer.wte.weight", "token_embd.weight", D_V, D_C, ALWAYS, AS_IS},
    {"transformer.wpe.weight", "position_embd.weight", D_CTX, D_C, ALWAYS, AS_IS},
};
static const Row gpt2_layer[] = {
    {"ln_1.weight", "attn_norm.weight", D_ONE, D_C, ALWAYS, AS_IS},
    {"ln_1.bias", "attn_norm.bias", D_ONE, D_C, ALWAYS, AS_IS},
    {"attn.c_attn.weight", "attn_qkv.weight", D_QKV, D_C, ALWAYS, TURNED},
    {"attn.c_attn.bias", "attn_qkv.bias", D_ONE, D_QKV, ALWAYS, AS_IS},
    {"attn.c_proj.weight", "attn_output.weight", D_C, D_Q, ALWAYS, TURNED},
    {"attn.c_proj.bias", "attn_output.bias", D_ONE, D_C, ALWAYS, AS_IS},
    {"ln_2.weight", "ffn_norm.weight", D_ONE, D_C, ALWAYS, AS_IS},
    {"ln_2.bias", "ffn_norm.bias", D_ONE, D_C, ALWAYS, AS_IS},
    {"mlp.c_fc.weight", "ffn_up.weight", D_FF, D_C, ALWAYS, TURNED},
    {"mlp.c_fc.bias", "ffn_up.bias", D_ONE, D_FF, ALWAYS, AS_IS},
    {"mlp.c_proj.weight", "ffn_down.weight", D_C, D_FF, ALWAYS, TURNED},
    {"mlp.c_proj.bias", "ffn_down.bias", D_ONE, D_C, ALWAYS, AS_IS},
};
static const Row gpt2_after[] = {
    {"transformer.ln_f.weight", "output_norm.weight", D_ONE, D_C, ALWAYS, AS_IS},
    {"transformer.ln_f.bias", "output_norm.bias", D_ONE, D_C, ALWAYS, AS_IS},
    {"lm_head.weight", "output.weight", D_V, D_C, UNTIED, AS_IS},
};

static const Names llama_names = {
    .layer = "model.layers.",
    .before = llama_before,
    .n_before = COUNT_OF(llama_before),
    .in_layer = llama_layer,
    .n_in_layer = COUNT_OF(llama_layer),
    .after = llama_after,
    .n_after = COUNT_OF(llama_after),
};
static const Names gpt2_names = {
    .layer = "transformer.h.",
    .before = gpt2_before,
    .n_before = COUNT_OF(gpt2_before),
    .in_layer = gpt2_layer,
    .n_in_layer = COUNT_OF(gpt2_layer),
    .after = gpt2_after,
    .n_after = COUNT_OF(gpt2_after),
};

/* Tensors that are no weights: masks, tables that are computed again. By their ends. */
static const char *const no_weights[] = {".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq"};

typedef struct Planner {
    HfModel *m;
    const HfOpts *o;
    bool *used; /* owned [tensors of the folder] */
    bool bare;  /* gpt2 without "transformer." before its names */
    Err *e;
} Planner;

static uint64_t dim_of(Dim d, const HfConfig *c) {
    switch (d) {
    case D_ONE: return 1;
    case D_C: return (uint64_t)c->C;
    case D_V: return (uint64_t)c->V;
    case D_CTX: return (uint64_t)c->ctx;
    case D_FF: return (uint64_t)c->ff;
    case D_HD: return (uint64_t)c->hd;
    case D_Q: return (uint64_t)c->nh * (uint64_t)c->hd;
    case D_KV: return (uint64_t)c->nkv * (uint64_t)c->hd;
    case D_QKV: return (uint64_t)(c->nh + 2 * c->nkv) * (uint64_t)c->hd;
    }
    return 0;
}

static bool is_there(When w, const HfConfig *c) {
    switch (w) {
    case ALWAYS: return true;
    case QKV_BIAS: return c->qkv_bias;
    case OUT_BIAS: return c->out_bias;
    case MLP_BIAS: return c->mlp_bias;
    case QK_NORM: return c->arch->qk_norm;
    case UNTIED: return c->tied == 0;
    }
    return false;
}

/* ---- names without a folder ---- */

static const Names *names_of(const HfConfig *c) {
    return c->arch->family == HF_GPT2 ? &gpt2_names : &llama_names;
}

static const Row *find_row(const Row *rows, size_t n, Slice name) {
    for (size_t i = 0; i < n; i++)
        if (slice_eq_str(name, rows[i].hf)) return &rows[i];
    return NULL;
}

/* The number and the dot behind a layer's prefix, cut from *name; -1 where it has none, or too large a one. */
static int cut_layer(Slice *name, const Names *names, int n_layer) {
    size_t at = strlen(names->layer), from = at;
    int layer = 0;
    if (name->n <= at || memcmp(name->p, names->layer, at) != 0) return -1;
    while (at < name->n && at < from + 4 && name->p[at] >= '0' && name->p[at] <= '9')
        layer = 10 * layer + (name->p[at++] - '0');
    if (at == from || at >= name->n || name->p[at] != '.' || layer >= n_layer) return -1;
    *name = (Slice){name->p + at + 1, name->n - at - 1};
    return layer;
}

bool hf_find_place(HfPlace *out, const HfModel *m, Slice name) {
    const HfConfig *c = &m->cfg;
    const Names *n = names_of(c);
    int layer = cut_layer(&name, n, c->n_layer);
    const Row *r = layer >= 0 ? find_row(n->in_layer, n->n_in_layer, name)
                              : find_row(n->before, n->n_before, name);
    if (!r && layer < 0) r = find_row(n->after, n->n_after, name);
    if (!r || (r->when == UNTIED && c->tied > 0)) return false;
    *out = (HfPlace){.n_dims = r->rows == D_ONE ? 1 : 2,
                     .rows = dim_of(r->rows, c),
                     .cols = dim_of(r->cols, c),
                     .pairs = c->arch->pairs && (r->order == PAIRS_Q || r->order == PAIRS_K)};
    if (layer >= 0) snprintf(out->name, sizeof out->name, "blk.%d.%s", layer, r->gguf);
    else snprintf(out->name, sizeof out->name, "%s", r->gguf);
    return true;
}

/* ---- one tensor ---- */

static Status wrong_shape(const StTensor *t, const HfItem *it, Err *e) {
    StrBuf got = {0}, name = {0};
    bool turned = it->how == HF_TRANSPOSE;
    for (int d = 0; d < t->n_dims; d++)
        sb_printf(&got, d ? " x %llu" : "%llu", (unsigned long long)t->shape[d]);
    sb_put_quoted(&name, t->name, 100);
    if (it->n_dims == 1)
        err_set(e, ERR_FORMAT, "tensor \"%s\": %s, config.json wants %llu", sb_str(&name),
                sb_str(&got), (unsigned long long)(it->rows * it->cols));
    else
        err_set(e, ERR_FORMAT, "tensor \"%s\": %s, config.json wants %llu x %llu", sb_str(&name),
                sb_str(&got), (unsigned long long)(turned ? it->cols : it->rows),
                (unsigned long long)(turned ? it->rows : it->cols));
    sb_deinit(&got);
    sb_deinit(&name);
    return ERR_FORMAT;
}

static bool shape_fits(const StTensor *t, const HfItem *it) {
    bool turned = it->how == HF_TRANSPOSE;
    if (t->n_dims != it->n_dims) return false;
    if (it->n_dims == 1) return t->shape[0] == it->rows * it->cols;
    return t->shape[0] == (turned ? it->cols : it->rows) &&
           t->shape[1] == (turned ? it->rows : it->cols);
}

static bool float_type(DType *out, StType t) {
    *out = t == ST_F16 ? DT_F16 : t == ST_BF16 ? DT_BF16 : DT_F32;
    return t == ST_F16 || t == ST_BF16 || t == ST_F32;
}

/* Norms and biases are small and are read as f32 anyway; so are positions, as other programs write them. */
static DType target(const Planner *p, const HfItem *it) {
    if (it->n_dims == 1 || strcmp(it->name, "position_embd.weight") == 0) return DT_F32;
    if (p->o->type != HF_AS_STORED) return (DType)p->o->type;
    return it->packed ? DT_F16 : it->from;
}

static HfItem *new_item(Planner *p) {
    HfModel *m = p->m;
    if (m->n_items == m->cap) {
        size_t cap = MAX(2 * m->cap, (size_t)64);
        HfItem *q = mem_realloc_n(m->item, cap, sizeof *q);
        if (!q) return NULL;
        m->item = q;
        m->cap = cap;
    }
    m->item[m->n_items] = (HfItem){0};
    return &m->item[m->n_items++];
}

static void set_shape(HfItem *it, const Row *r, const HfConfig *c) {
    it->n_dims = r->rows == D_ONE ? 1 : 2;
    it->rows = dim_of(r->rows, c);
    it->cols = dim_of(r->cols, c);
    if (r->order == TURNED) it->how = HF_TRANSPOSE;
    if ((r->order != PAIRS_Q && r->order != PAIRS_K) || !c->arch->pairs) return;
    it->how = HF_PAIRS;
    if (it->n_dims == 1) { /* each number is a row to be moved */
        it->rows = it->cols;
        it->cols = 1;
    }
}

static Status take(Planner *p, HfItem *it, const char *name) {
    const St *st = p->m->st;
    TRY(hf__find_packed(p->m, it, name, p->used, p->e));
    if (it->packed) {
        it->from = DT_F32;
        it->to = target(p, it);
        return OK;
    }
    it->src = st_find(st, slice_of(name));
    if (!it->src)
        return err_set(p->e, ERR_FORMAT, "tensor \"%s\" of %s is missing", name,
                       p->m->cfg.arch->name);
    p->used[it->src - st_tensor_at(st, 0)] = true;
    if (!shape_fits(it->src, it)) return wrong_shape(it->src, it, p->e);
    if (!float_type(&it->from, it->src->type))
        return err_set(p->e, ERR_UNSUPPORTED,
                       "tensor \"%s\": %s is not supported, only F32, F16 and BF16", name,
                       st_type_name(it->src->type));
    it->to = target(p, it);
    return OK;
}

static Status place(Planner *p, const Row *r, const char *prefix, int layer) {
    char name[96];
    const char *tail = r->hf;
    if (!is_there(r->when, &p->m->cfg)) return OK;
    HfItem *it = new_item(p);
    if (!it) return err_set(p->e, ERR_NOMEM, "no memory for a plan of %zu tensors", p->m->n_items);
    if (layer >= 0) snprintf(it->name, sizeof it->name, "blk.%d.%s", layer, r->gguf);
    else snprintf(it->name, sizeof it->name, "%s", r->gguf);
    if (p->bare && str_starts_with(tail, "transformer.")) tail += sizeof "transformer." - 1;
    snprintf(name, sizeof name, "%s%s", prefix, tail);
    set_shape(it, r, &p->m->cfg);
    return take(p, it, name);
}

/* ---- all ---- */

static Status place_rows(Planner *p, const Row *rows, size_t n, const char *prefix, int layer) {
    for (size_t i = 0; i < n; i++) TRY(place(p, &rows[i], prefix, layer));
    return OK;
}

static Status place_layers(Planner *p, const Names *names) {
    char prefix[32];
    const char *layer = names->layer + (p->bare ? sizeof "transformer." - 1 : 0);
    for (int i = 0; i < p->m->cfg.n_layer; i++) {
        snprintf(prefix, sizeof prefix, "%s%d.", layer, i);
        TRY(place_rows(p, names->in_layer, names->n_in_layer, prefix, i));
    }
    return OK;
}

static Status place_freqs(Planner *p) {
    const HfConfig *c = &p->m->cfg;
    if (c->rope.kind != HF_ROPE_LLAMA3) return OK;
    HfItem *it = new_item(p);
    if (!it) return err_set(p->e, ERR_NOMEM, "no memory for a plan of %zu tensors", p->m->n_items);
    *it = (HfItem){.name = "rope_freqs.weight",
                   .how = HF_FREQS,
                   .n_dims = 1,
                   .rows = 1,
                   .cols = (uint64_t)c->hd / 2,
                   .from = DT_F32,
                   .to = DT_F32};
    return OK;
}

static bool ends_with(Slice s, const char *tail) {
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

/* A copy of the embedding under the head's name, in a model whose head is the embedding, is not looked at. */
static bool is_no_weight(const HfConfig *c, Slice name) {
    for (size_t i = 0; i < COUNT_OF(no_weights); i++)
        if (ends_with(name, no_weights[i])) return true;
    return c->tied && slice_eq_str(name, "lm_head.weight");
}

/* Programs that pack matrices give each a bias, of zeros where the model has none. */
static bool is_empty_bias(const HfConfig *c, const StTensor *t) {
    const uint8_t *p = t->data;
    if (c->quant.scheme == HF_UNPACKED || !ends_with(t->name, ".bias")) return false;
    for (uint64_t i = 0; i < t->n_bytes; i++)
        if (p[i]) return false;
    return true;
}

static Status check_used(const Planner *p) {
    const St *st = p->m->st;
    for (size_t i = 0; i < st_n_tensors(st); i++) {
        const StTensor *t = st_tensor_at(st, i);
        if (p->used[i] || is_no_weight(&p->m->cfg, t->name)) continue;
        if (is_empty_bias(&p->m->cfg, t)) continue;
        StrBuf name = {0};
        sb_put_quoted(&name, t->name, 100);
        err_set(p->e, ERR_UNSUPPORTED, "tensor \"%s\" has no place in %s with %d layers",
                sb_str(&name), p->m->cfg.arch->name, p->m->cfg.n_layer);
        sb_deinit(&name);
        return ERR_UNSUPPORTED;
    }
    return OK;
}

static Status plan(Planner *p) {
    HfConfig *c = &p->m->cfg;
    const Names *n = names_of(c);
    p->bare = st_find(p->m->st, slice_of("wte.weight")) != NULL;
    if (c->tied < 0)
        c->tied = !st_find(p->m->st, slice_of("lm_head.weight")) &&
                  !st_find(p->m->st, slice_of("lm_head.qweight"));
    TRY(place_rows(p, n->before, n->n_before, "", -1));
    TRY(place_freqs(p));
    TRY(place_layers(p, n));
    TRY(place_rows(p, n->after, n->n_after, "", -1));
    return check_used(p);
}

Status hf__plan(HfModel *m, Err *e) {
    Planner p = {.m = m, .o = m->opts, .e = e};
    p.used = mem_new_n(bool, st_n_tensors(m->st));
    if (!p.used)
        return err_set(e, ERR_NOMEM, "no memory for a plan of %zu tensors", st_n_tensors(m->st));
    Status st = plan(&p);
    mem_free(p.used);
    return st;
}

/* ---- the other way ---- */

static Status tell(const HfConfig *c, const Row *r, const char *prefix, int layer, HfNameFn fn,
                   void *ctx) {
    char name[96];
    HfItem it = {0};
    if (!is_there(r->when, c)) return OK;
    if (layer >= 0) snprintf(it.name, sizeof it.name, "blk.%d.%s", layer, r->gguf);
    else snprintf(it.name, sizeof it.name, "%s", r->gguf);
    snprintf(name, sizeof name, "%s%s", prefix, r->hf);
    set_shape(&it, r, c);
    return fn(ctx, name, &it);
}

Status hf__walk_names(const HfConfig *c, HfNameFn fn, void *ctx) {
    const Names *n = names_of(c);
    char prefix[32];
    for (size_t i = 0; i < n->n_before; i++) TRY(tell(c, &n->before[i], "", -1, fn, ctx));
    for (int l = 0; l < c->n_layer; l++) {
        snprintf(prefix, sizeof prefix, "%s%d.", n->layer, l);
        for (size_t i = 0; i < n->n_in_layer; i++)
            TRY(tell(c, &n->in_layer[i], prefix, l, fn, ctx));
    }
    for (size_t i = 0; i < n->n_after; i++) TRY(tell(c, &n->after[i], "", -1, fn, ctx));
    return OK;
}
