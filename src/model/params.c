/* SPDX-License-Identifier: Apache-2.0
 * The parameter table: name, shape and condition of every tensor of the decoder. Loading, training, saving
 * and memory plans all walk the list that model_params makes from it. */
#include <stdio.h>

#include "model/internal.h"

/* Sizes a shape is made of. */
typedef enum Dim { D_ONE, D_C, D_V, D_CTX, D_FF, D_HD, D_Q, D_KV, D_QKV } Dim;
/* When a row of the table is there. */
typedef enum When {
    ALWAYS,
    IF_LEARNED,
    IF_NORM_BIAS,
    IF_FUSED,
    IF_FUSED_BIAS,
    IF_SPLIT,
    IF_SPLIT_BIAS,
    IF_QK_NORM,
    IF_OUT_BIAS,
    IF_GATED,
    IF_GATED_BIAS,
    IF_MLP_BIAS,
    IF_UNTIED
} When;

typedef struct ParamRow {
    ParamRole role;
    const char *name;
    bool per_layer;
    int n_dims;
    Dim rows, cols;
    When when;
} ParamRow;

static const ParamRow before[] = {
    {P_TOK_EMBD, "token_embd.weight", false, 2, D_V, D_C, ALWAYS},
    {P_POS_EMBD, "position_embd.weight", false, 2, D_CTX, D_C, IF_LEARNED},
};
static const ParamRow in_layer[] = {
    {P_ATTN_NORM, "attn_norm.weight", true, 1, D_ONE, D_C, ALWAYS},
    {P_ATTN_NORM_B, "attn_norm.bias", true, 1, D_ONE, D_C, IF_NORM_BIAS},
    {P_QKV, "attn_qkv.weight", true, 2, D_QKV, D_C, IF_FUSED},
    {P_QKV_B, "attn_qkv.bias", true, 1, D_ONE, D_QKV, IF_FUSED_BIAS},
    {P_Q, "attn_q.weight", true, 2, D_Q, D_C, IF_SPLIT},
    {P_K, "attn_k.weight", true, 2, D_KV, D_C, IF_SPLIT},
    {P_V, "attn_v.weight", true, 2, D_KV, D_C, IF_SPLIT},
    {P_Q_B, "attn_q.bias", true, 1, D_ONE, D_Q, IF_SPLIT_BIAS},
    {P_K_B, "attn_k.bias", true, 1, D_ONE, D_KV, IF_SPLIT_BIAS},
    {P_V_B, "attn_v.bias", true, 1, D_ONE, D_KV, IF_SPLIT_BIAS},
    {P_Q_NORM, "attn_q_norm.weight", true, 1, D_ONE, D_HD, IF_QK_NORM},
    {P_K_NORM, "attn_k_norm.weight", true, 1, D_ONE, D_HD, IF_QK_NORM},
    {P_ATTN_OUT, "attn_output.weight", true, 2, D_C, D_Q, ALWAYS},
    {P_ATTN_OUT_B, "attn_output.bias", true, 1, D_ONE, D_C, IF_OUT_BIAS},
    {P_FFN_NORM, "ffn_norm.weight", true, 1, D_ONE, D_C, ALWAYS},
    {P_FFN_NORM_B, "ffn_norm.bias", true, 1, D_ONE, D_C, IF_NORM_BIAS},
    {P_GATE, "ffn_gate.weight", true, 2, D_FF, D_C, IF_GATED},
    {P_UP, "ffn_up.weight", true, 2, D_FF, D_C, ALWAYS},
    {P_GATE_B, "ffn_gate.bias", true, 1, D_ONE, D_FF, IF_GATED_BIAS},
    {P_UP_B, "ffn_up.bias", true, 1, D_ONE, D_FF, IF_MLP_BIAS},
    {P_DOWN, "ffn_down.weight", true, 2, D_C, D_FF, ALWAYS},
    {P_DOWN_B, "ffn_down.bias", true, 1, D_ONE, D_C, IF_MLP_BIAS},
};
static const ParamRow after[] = {
    {P_OUT_NORM, "output_norm.weight", false, 1, D_ONE, D_C, ALWAYS},
    {P_OUT_NORM_B, "output_norm.bias", false, 1, D_ONE, D_C, IF_NORM_BIAS},
    {P_OUTPUT, "output.weight", false, 2, D_V, D_C, IF_UNTIED},
};

static int dim_of(Dim d, const ModelConfig *c) {
    switch (d) {
    case D_ONE: return 1;
    case D_C: return c->C;
    case D_V: return c->V;
    case D_CTX: return c->ctx;
    case D_FF: return c->ff;
    case D_HD: return c->hd;
    case D_Q: return c->nh * c->hd;
    case D_KV: return c->nkv * c->hd;
    case D_QKV: return (c->nh + 2 * c->nkv) * c->hd;
    }
    return 0;
}

static bool is_there(When w, const ModelConfig *c) {
    switch (w) {
    case ALWAYS: return true;
    case IF_LEARNED: return c->arch->pos == POS_LEARNED;
    case IF_NORM_BIAS: return model_has(c, PART_NORM_BIAS);
    case IF_FUSED: return c->arch->fused_qkv;
    case IF_FUSED_BIAS: return c->arch->fused_qkv && model_has(c, PART_QKV_BIAS);
    case IF_SPLIT: return !c->arch->fused_qkv;
    case IF_SPLIT_BIAS: return !c->arch->fused_qkv && model_has(c, PART_QKV_BIAS);
    case IF_QK_NORM: return model_has(c, PART_QK_NORM);
    case IF_OUT_BIAS: return model_has(c, PART_OUT_BIAS);
    case IF_GATED: return c->arch->act == ACT_SWIGLU;
    case IF_GATED_BIAS: return c->arch->act == ACT_SWIGLU && model_has(c, PART_MLP_BIAS);
    case IF_MLP_BIAS: return model_has(c, PART_MLP_BIAS);
    case IF_UNTIED: return !c->tied;
    }
    return false;
}

typedef struct ParamList {
    Param *v;
    int n;
    size_t off;
} ParamList;

static void put_rows(ParamList *l, const ParamRow *rows, size_t n, int layer,
                     const ModelConfig *c) {
    for (size_t i = 0; i < n; i++) {
        const ParamRow *r = &rows[i];
        if (!is_there(r->when, c)) continue;
        Param *p = &l->v[l->n++];
        *p = (Param){.role = r->role,
                     .layer = layer,
                     .n_dims = r->n_dims,
                     .rows = dim_of(r->rows, c),
                     .cols = dim_of(r->cols, c),
                     .off = l->off};
        if (r->per_layer) snprintf(p->name, sizeof p->name, "blk.%d.%s", layer, r->name);
        else snprintf(p->name, sizeof p->name, "%s", r->name);
        l->off += param_n(p);
    }
}

Status model_params(Param **out, int *n, const ModelConfig *c, Err *e) {
    size_t most = COUNT_OF(before) + COUNT_OF(after) + (size_t)c->n_layer * COUNT_OF(in_layer);
    ParamList l = {.v = mem_new_n(Param, most)};
    if (!l.v) return err_set(e, ERR_NOMEM, "parameter list: out of memory");
    put_rows(&l, before, COUNT_OF(before), -1, c);
    for (int i = 0; i < c->n_layer; i++) put_rows(&l, in_layer, COUNT_OF(in_layer), i, c);
    put_rows(&l, after, COUNT_OF(after), -1, c);
    *out = l.v;
    *n = l.n;
    return OK;
}

static uint64_t rows_total(const ParamRow *rows, size_t n, const ModelConfig *c) {
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++)
        if (is_there(rows[i].when, c))
            total += (uint64_t)dim_of(rows[i].rows, c) * (uint64_t)dim_of(rows[i].cols, c);
    return total;
}

uint64_t model_n_params(const ModelConfig *c) {
    return rows_total(before, COUNT_OF(before), c) + rows_total(after, COUNT_OF(after), c) +
           (uint64_t)c->n_layer * rows_total(in_layer, COUNT_OF(in_layer), c);
}

double model_train_flops(const ModelConfig *c, int T) {
    double n = (double)model_n_params(c);
    if (c->arch->pos == POS_LEARNED) n -= (double)c->ctx * c->C;
    if (!c->tied) n -= (double)c->V * c->C;
    return 6.0 * n + 12.0 * c->n_layer * (double)(c->nh * c->hd) * T;
}
