/* SPDX-License-Identifier: Apache-2.0
 * Which tensor gets which type, as llama.cpp decides it.
 *
 *   left as it is   vectors, names that do not end in "weight", and the names in `kept` below
 *   the head        output.weight, or the token embedding where the head is tied to it: q6_k for q4_0,
 *                   since its errors go straight into the probabilities. Rows of q6_k are multiples of
 *                   256; others get q8_0, and so does every head while there is no q6_k kernel
 *   the rest        the type asked for; f16 where its block does not divide the row
 *
 * f16 and bf16 are one type for all; --pure makes it so for the others too. */
#include <stdio.h>
#include <string.h>

#include "quant/quant.h"

enum { TYPE_Q6_K = 14, ROW_Q6_K = 256 };

/* Small or sensitive: found anywhere in the name. */
static const char *const kept[] = {
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d.weight",
    "shortconv.conv.weight",
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    "attn_rel_b.weight",
};
/* The whole name. */
static const char *const kept_whole[] = {"position_embd.weight", "token_types.weight"};

static const struct {
    DType type;
    int file_type;
} file_types[] = {{DT_F32, 0}, {DT_F16, 1}, {DT_Q4_0, 2}, {DT_Q8_0, 7}, {DT_BF16, 32}};

int quant_file_type(DType type) {
    for (size_t i = 0; i < COUNT_OF(file_types); i++)
        if (file_types[i].type == type) return file_types[i].file_type;
    return -1;
}

static bool ends_with(Slice s, const char *tail) {
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

static bool contains(Slice s, const char *word) {
    return memmem(s.p, s.n, word, strlen(word)) != NULL;
}

/* A trailing dimension of 1 is none. */
static int real_dims(const GgufTensor *t) {
    int n = t->n_dims;
    while (n > 1 && t->ne[n - 1] == 1) n--;
    return n;
}

static bool is_kept(const GgufTensor *t) {
    if (real_dims(t) < 2 || !ends_with(t->name, "weight")) return true;
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (contains(t->name, kept[i])) return true;
    for (size_t i = 0; i < COUNT_OF(kept_whole); i++)
        if (slice_eq_str(t->name, kept_whole[i])) return true;
    return false;
}

static bool is_head(const QuantRules *r, Slice name) {
    return slice_eq_str(name, r->has_output ? "output.weight" : "token_embd.weight");
}

DType quant_type_for(const QuantRules *r, const GgufTensor *t) {
    if (is_kept(t)) return t->type;
    DType type = r->type;
    if (type == DT_Q4_0 && !r->pure && is_head(r, t->name))
        type = r->has_q6_k && t->ne[0] % ROW_Q6_K == 0 ? (DType)TYPE_Q6_K : DT_Q8_0;
    const DTypeInfo *info = dtype_info(type);
    return t->ne[0] % (uint64_t)info->block == 0 ? type : DT_F16;
}

/* The number in "blk.N."; -1 for a tensor outside the layers. */
static long layer_of(Slice name) {
    char buf[32];
    int layer = -1;
    snprintf(buf, sizeof buf, "%.*s", (int)MIN(name.n, sizeof buf - 1), name.p);
    return sscanf(buf, "blk.%9d.", &layer) == 1 ? layer : -1;
}

int quant_compare_names(Slice a, Slice b) {
    long la = layer_of(a), lb = layer_of(b);
    if (la != lb) return la < lb ? -1 : 1;
    int c = memcmp(a.p, b.p, MIN(a.n, b.n));
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}
