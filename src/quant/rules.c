/* SPDX-License-Identifier: Apache-2.0
 * Which tensor gets which type, as llama.cpp decides it.
 *
 *   left as it is   vectors, names that do not end in "weight", and the names in `kept` below
 *   the head        output.weight, or the token embedding where the head is tied to it: q6_K, since its
 *                   errors go straight into the probabilities (q8_0 in a q8_0 file)
 *   attn_v          and what holds it (attn_qkv, attn_kv_b): q6_K in a third of the layers of the _M
 *                   mixtures, q5_K in the first four of q4_K_S
 *   ffn_down        q6_K in a third of the layers of the _M mixtures, q5_K in the first eighth of q4_K_S;
 *                   with importance data the first eighth of q4_0 and q5_0 gets q4_1 and q5_1
 *   the rest        the mixture's type
 *
 * Then rows have to be whole blocks: q4_K, q5_K, q6_K give way to q5_0, q5_1, q8_0, and what does not divide
 * by 32 either to f16. Which layer a tensor counts for is told by counting: the n-th attn_v is of layer n.
 * f16 and bf16 are one type for all; --pure makes it so for the others too. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "quant/quant.h"

/* Small or sensitive: found anywhere in the name. */
static const char *const kept[] = {
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
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
    ".position_embd",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
};
/* The whole name. */
static const char *const kept_whole[] = {"position_embd.weight", "token_types.weight"};

static const QuantMix mixes[] = {
    {"q4_0", 2, DT_Q4_0, "4.5 bits a weight: the oldest and fastest to make"},
    {"q4_K_S", 14, DT_Q4_K, "4.6 bits: less error than q4_0 in the same size"},
    {"q4_K_M", 15, DT_Q4_K, "4.9 bits: more for the sensitive matrices; the usual choice"},
    {"q4_1", 3, DT_Q4_1, "5.0 bits"},
    {"q5_0", 8, DT_Q5_0, "5.5 bits"},
    {"q5_K_S", 16, DT_Q5_K, "5.5 bits"},
    {"q5_K_M", 17, DT_Q5_K, "5.7 bits: more for the sensitive matrices"},
    {"q5_1", 9, DT_Q5_1, "6.0 bits"},
    {"q6_K", 18, DT_Q6_K, "6.6 bits: little loss"},
    {"q8_0", 7, DT_Q8_0, "8.5 bits: hardly any loss"},
    {"f16", 1, DT_F16, "16 bits"},
    {"bf16", 32, DT_BF16, "16 bits, the range of f32"},
};

static const struct {
    const char *name, *means;
} aliases[] = {{"int8", "q8_0"}, {"int4", "q4_0"}, {"q4_K", "q4_K_M"}, {"q5_K", "q5_K_M"}};

const QuantMix *quant_mixes(size_t *n) {
    *n = COUNT_OF(mixes);
    return mixes;
}

const QuantMix *quant_mix_find(const char *name) {
    for (size_t i = 0; i < COUNT_OF(aliases); i++)
        if (strcasecmp(aliases[i].name, name) == 0) name = aliases[i].means;
    for (size_t i = 0; i < COUNT_OF(mixes); i++)
        if (strcasecmp(mixes[i].name, name) == 0) return &mixes[i];
    return NULL;
}

const char *quant_mix_names(void) {
    return "q4_0, q4_K_S, q4_K_M, q4_1, q5_0, q5_K_S, q5_K_M, q5_1, q6_K, q8_0, f16 or bf16";
}

/* ---- names ---- */

static bool ends_with(Slice s, const char *tail) {
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

static bool is_embedding(Slice name) {
    return slice_eq_str(name, "token_embd.weight") ||
           slice_eq_str(name, "per_layer_token_embd.weight");
}

/* attn_v itself, or a matrix that holds it. */
static bool is_attn_v(Slice name) {
    return slice_has(name, "attn_qkv.weight") || slice_has(name, "attn_kv_b.weight") ||
           slice_has(name, "attn_v.weight");
}

/* A trailing dimension of 1 is none. */
static int real_dims(const GgufTensor *t) {
    int n = t->n_dims;
    while (n > 1 && t->ne[n - 1] == 1) n--;
    return n;
}

static bool is_kept(const QuantRules *r, const GgufTensor *t) {
    if (real_dims(t) < 2 || !ends_with(t->name, "weight")) return true;
    if (r->leave_output && slice_eq_str(t->name, "output.weight")) return true;
    for (size_t i = 0; i < COUNT_OF(kept); i++)
        if (slice_has(t->name, kept[i])) return true;
    for (size_t i = 0; i < COUNT_OF(kept_whole); i++)
        if (slice_eq_str(t->name, kept_whole[i])) return true;
    return false;
}

/* The number in "blk.N."; -1 for a tensor outside the layers. */
static int layer_of(Slice name) {
    char buf[32];
    int layer = -1;
    snprintf(buf, sizeof buf, "%.*s", (int)MIN(name.n, sizeof buf - 1), name.p);
    return sscanf(buf, "blk.%9d.", &layer) == 1 ? layer : -1;
}

/* ---- the mixtures ---- */

static bool is_mix(const QuantRules *r, const char *name) {
    return strcmp(r->mix->name, name) == 0;
}

static bool is_medium(const QuantRules *r) { return is_mix(r, "q4_K_M") || is_mix(r, "q5_K_M"); }

/* The first and last eighth of the layers, and every third between. */
static bool has_more_bits(int i, int n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static DType head_type(const QuantRules *r, const GgufTensor *t) {
    DType type = r->mix->type;
    if (r->output_type != DT_F32) return r->output_type;
    if (r->is_falcon || t->ne[0] % (uint64_t)dtype_info(type)->block != 0) return DT_Q8_0;
    return type == DT_Q8_0 ? DT_Q8_0 : DT_Q6_K;
}

/* Eight query heads share the attn_v of a 70B model: it is small, more bits in it are cheap. The same goes
 * for a mixture of eight experts. */
static DType attn_v_type(QuantRules *r) {
    DType type = r->mix->type;
    if (is_medium(r) && has_more_bits(r->i_attn_v, r->n_attn_v)) type = DT_Q6_K;
    if (is_mix(r, "q4_K_S") && r->i_attn_v < 4) type = DT_Q5_K;
    if (r->is_70b && type == DT_Q4_K) type = DT_Q5_K;
    if (r->n_expert == 8) type = DT_Q8_0;
    r->i_attn_v++;
    return type;
}

static DType ffn_down_falcon(const QuantRules *r, int i, int n) {
    if (!is_mix(r, "q4_K_M")) return r->mix->type;
    if (i < n / 16) return DT_Q6_K;
    return has_more_bits(i, n) ? DT_Q5_K : DT_Q4_K;
}

/* Experts of a layer need not stand together: there the layer is read from the name. */
static DType ffn_down_type(QuantRules *r, const GgufTensor *t) {
    DType type = r->mix->type;
    int n = r->n_layer, i = r->n_expert > 1 ? layer_of(t->name) : r->i_ffn_down;
    r->i_ffn_down++;
    if (r->is_falcon && type == DT_Q4_K) return ffn_down_falcon(r, i, n);
    if (is_medium(r) && has_more_bits(i, n)) return DT_Q6_K;
    if (i >= n / 8) return type;
    if (is_mix(r, "q4_K_S")) return DT_Q5_K;
    if (r->weighted && type == DT_Q4_0) return DT_Q4_1;
    if (r->weighted && type == DT_Q5_0) return DT_Q5_1;
    return type;
}

static DType attn_output_type(const QuantRules *r) {
    bool more = r->n_expert == 8 && r->mix->type == DT_Q4_K && !r->is_falcon;
    return more ? DT_Q5_K : r->mix->type;
}

static DType mixture_type(QuantRules *r, const GgufTensor *t) {
    Slice name = t->name;
    if (slice_eq_str(name, "output.weight") || (r->tied && is_embedding(name)))
        return head_type(r, t);
    if (is_embedding(name)) return r->mix->type;
    if (is_attn_v(name)) return attn_v_type(r);
    if (slice_has(name, "attn_k.weight")) return r->n_expert == 8 ? DT_Q8_0 : r->mix->type;
    if (slice_has(name, "attn_output.weight")) return attn_output_type(r);
    bool other = slice_has(name, "attn_q.weight") || slice_has(name, "ffn_up") ||
                 slice_has(name, "ffn_gate");
    return !other && slice_has(name, "ffn_down") ? ffn_down_type(r, t) : r->mix->type;
}

/* ---- shapes ---- */

static bool divides(DType type, const GgufTensor *t) {
    return t->ne[0] % (uint64_t)dtype_info(type)->block == 0;
}

static DType fitting(DType type, const GgufTensor *t) {
    if (divides(type, t)) return type;
    if (type == DT_Q4_K) type = DT_Q5_0;
    if (type == DT_Q5_K) type = DT_Q5_1;
    if (type == DT_Q6_K) type = DT_Q8_0;
    return divides(type, t) ? type : DT_F16;
}

DType quant_type_for(QuantRules *r, const GgufTensor *t, int forced, bool *fallback) {
    DType type = r->mix->type;
    *fallback = false;
    if (is_kept(r, t)) return t->type;
    if (r->embedding_type != DT_F32 && is_embedding(t->name)) type = r->embedding_type;
    else if (r->output_type != DT_F32 && slice_eq_str(t->name, "output.weight"))
        type = r->output_type;
    else if (!dtype_info(type)->is_quantized) return type;
    else if (forced != QUANT_NOT_FORCED) type = (DType)forced;
    else if (!r->pure) type = mixture_type(r, t);
    DType fits = fitting(type, t);
    *fallback = fits != type;
    return fits;
}

/* ---- the file ---- */

/* A key below the architecture's name; 0 where it is missing or no number. */
static int arch_int(const Gguf *g, Slice arch, const char *tail) {
    char key[96];
    int64_t v = 0;
    snprintf(key, sizeof key, "%.*s.%s", (int)MIN(arch.n, (size_t)48), arch.p, tail);
    return gguf_get_int(&v, g, key, 0, INT32_MAX, NULL) == OK ? (int)v : 0;
}

void quant_rules_init(QuantRules *r, Slice arch, int n_layer, int heads, int kv) {
    bool grouped = kv != 0 && kv != heads;
    r->n_layer = n_layer;
    r->n_expert = 0;
    r->is_falcon = slice_eq_str(arch, "falcon");
    r->is_70b =
        n_layer == 80 && ((slice_eq_str(arch, "llama") && grouped) || slice_eq_str(arch, "qwen2"));
    r->tied = true;
    r->n_attn_v = r->i_attn_v = r->i_ffn_down = 0;
}

void quant_rules_add(QuantRules *r, Slice name) {
    r->n_attn_v += is_attn_v(name);
    if (slice_eq_str(name, "output.weight")) r->tied = false;
}

void quant_rules_read(QuantRules *r, const Gguf *g) {
    Slice arch = {0};
    if (gguf_get_str(&arch, g, "general.architecture", NULL) != OK) arch = slice_of("");
    quant_rules_init(r, arch, arch_int(g, arch, "block_count"),
                     arch_int(g, arch, "attention.head_count"),
                     arch_int(g, arch, "attention.head_count_kv"));
    r->n_expert = arch_int(g, arch, "expert_count");
    for (size_t i = 0; i < gguf_n_tensors(g); i++) quant_rules_add(r, gguf_tensor_at(g, i)->name);
}

int quant_compare_names(Slice a, Slice b) {
    int la = layer_of(a), lb = layer_of(b);
    if (la != lb) return la < lb ? -1 : 1;
    int c = memcmp(a.p, b.p, MIN(a.n, b.n));
    return c != 0 ? c : (a.n > b.n) - (a.n < b.n);
}
