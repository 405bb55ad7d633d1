/* SPDX-License-Identifier: Apache-2.0
 * The architecture table and the configuration: what a file's metadata must say, and within which limits.
 * To add an architecture of this family, add a row to arch_table; a parameter of a new kind is a row in
 * params.c and a line in forward.c. */
#include <math.h>
#include <stdio.h>

#include "model/internal.h"

static const ArchRow arch_table[] = {
    {.name = "gpt2",
     .norm = NORM_LAYER,
     .pos = POS_LEARNED,
     .act = ACT_GELU,
     .parts = PART_NORM_BIAS | PART_QKV_BIAS | PART_OUT_BIAS | PART_MLP_BIAS,
     .fused_qkv = true},
    {.name = "llama",
     .norm = NORM_RMS,
     .pos = POS_ROPE,
     .act = ACT_SWIGLU,
     .may = PART_QKV_BIAS | PART_OUT_BIAS | PART_MLP_BIAS},
    {.name = "mistral3",
     .norm = NORM_RMS,
     .pos = POS_ROPE,
     .act = ACT_SWIGLU,
     .may = PART_QKV_BIAS | PART_OUT_BIAS,
     .yarn_keys = true},
    {.name = "qwen2",
     .norm = NORM_RMS,
     .pos = POS_ROPE,
     .act = ACT_SWIGLU,
     .parts = PART_QKV_BIAS,
     .rope_halves = true},
    {.name = "qwen3",
     .norm = NORM_RMS,
     .pos = POS_ROPE,
     .act = ACT_SWIGLU,
     .parts = PART_QK_NORM,
     .rope_halves = true},
    {.name = "starcoder2",
     .norm = NORM_LAYER,
     .pos = POS_ROPE,
     .act = ACT_GELU,
     .parts = PART_NORM_BIAS | PART_QKV_BIAS | PART_OUT_BIAS | PART_MLP_BIAS,
     .rope_halves = true},
};

/* Parts that are there when layer 0 has this tensor. */
static const struct {
    int part;
    const char *tensor;
} part_signs[] = {
    {PART_QKV_BIAS, "blk.0.attn_q.bias"},
    {PART_OUT_BIAS, "blk.0.attn_output.bias"},
    {PART_MLP_BIAS, "blk.0.ffn_down.bias"},
};

const ArchRow *model_arch_find(Slice name) {
    for (size_t i = 0; i < COUNT_OF(arch_table); i++)
        if (slice_eq_str(name, arch_table[i].name)) return &arch_table[i];
    return NULL;
}

const ArchRow *model_arch_at(int i) {
    return i >= 0 && i < (int)COUNT_OF(arch_table) ? &arch_table[i] : NULL;
}

const char *model_arch_names(char buf[MODEL_ARCH_NAMES]) {
    size_t n = 0;
    for (size_t i = 0; i < COUNT_OF(arch_table) && n < MODEL_ARCH_NAMES; i++)
        n += (size_t)snprintf(buf + n, MODEL_ARCH_NAMES - n, i ? ", %s" : "%s", arch_table[i].name);
    return buf;
}

/* One size of the configuration and its limits. */
typedef struct SizeRow {
    const char *what;
    int value, min, max;
} SizeRow;

static Status check_rope(const ModelConfig *c, Err *e) {
    const YarnSpec *y = &c->yarn;
    if (!(c->rope_base >= 1.0f && c->rope_base <= 1e12f) ||
        !(c->rope_scale > 0.0f && c->rope_scale <= 1e6f))
        return err_set(e, ERR_ARG, "rope.freq_base %g or scaling factor %g is out of range",
                       (double)c->rope_base, (double)c->rope_scale);
    if (c->n_rot < 1 || c->n_rot > c->hd / 2)
        return err_set(e, ERR_ARG, "rope.dimension_count %d is outside 2..%d", 2 * c->n_rot, c->hd);
    if (!(c->rope_attn == 0.0f || (c->rope_attn >= 1e-3f && c->rope_attn <= 1e3f)))
        return err_set(e, ERR_ARG, "rope.scaling.attn_factor %g is outside 0.001..1000",
                       (double)c->rope_attn);
    if (y->ctx == 0) return OK;
    if (y->ctx < 1 || y->ctx > MODEL_MAX_CTX)
        return err_set(e, ERR_ARG, "rope.scaling.original_context_length %d is outside 1..%d",
                       y->ctx, MODEL_MAX_CTX);
    if (c->rope_base < 2.0f)
        return err_set(e, ERR_ARG, "rope.freq_base %g is below 2, which yarn needs",
                       (double)c->rope_base);
    if (!(y->beta_slow >= 1e-3f && y->beta_slow <= y->beta_fast && y->beta_fast <= 1e6f))
        return err_set(e, ERR_ARG,
                       "yarn_beta_slow %g and yarn_beta_fast %g are not 0.001 <= slow <= "
                       "fast <= 1e+06",
                       (double)y->beta_slow, (double)y->beta_fast);
    if (!(y->log_mul >= 0.0f && y->log_mul <= 100.0f))
        return err_set(e, ERR_ARG, "yarn_log_multiplier %g is outside 0..100", (double)y->log_mul);
    return OK;
}

Status model_config_check(const ModelConfig *c, Err *e) {
    const SizeRow rows[] = {
        {"block_count", c->n_layer, 1, MODEL_MAX_LAYER},
        {"embedding_length", c->C, 8, MODEL_MAX_WIDTH},
        {"attention.head_count", c->nh, 1, 1024},
        {"attention.head_count_kv", c->nkv, 1, c->nh},
        {"attention.key_length", c->hd, 8, 256},
        {"feed_forward_length", c->ff, 8, 8 * MODEL_MAX_WIDTH},
        {"vocab_size", c->V, 2, MODEL_MAX_VOCAB},
        {"context_length", c->ctx, 1, MODEL_MAX_CTX},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (rows[i].value < rows[i].min || rows[i].value > rows[i].max)
            return err_set(e, ERR_ARG, "%s %d is outside %d..%d", rows[i].what, rows[i].value,
                           rows[i].min, rows[i].max);
    if (c->nh % c->nkv != 0)
        return err_set(e, ERR_ARG, "attention.head_count %d is not a multiple of head_count_kv %d",
                       c->nh, c->nkv);
    if (c->hd % 8 != 0)
        return err_set(e, ERR_ARG, "attention.key_length %d is not a multiple of 8", c->hd);
    if (!(c->norm_eps > 0.0f && c->norm_eps < 1.0f))
        return err_set(e, ERR_ARG, "layer_norm epsilon %g is outside 0..1", (double)c->norm_eps);
    if (c->more & ~(c->arch->may | c->arch->parts))
        return err_set(e, ERR_ARG, "architecture %s does not have parts %d", c->arch->name,
                       c->more & ~(c->arch->may | c->arch->parts));
    return c->arch->pos == POS_ROPE ? check_rope(c, e) : OK;
}

/* ---- from a file ---- */

static const char *key_of(char buf[96], const ModelConfig *c, const char *tail) {
    snprintf(buf, 96, "%s.%s", c->arch->name, tail);
    return buf;
}

static Status read_size(int *out, const ModelConfig *c, const Gguf *g, const char *tail,
                        int64_t max, bool needed, Err *e) {
    char key[96];
    int64_t v = *out;
    Status st = needed ? gguf_get_int(&v, g, key_of(key, c, tail), 1, max, e)
                       : gguf_opt_int(&v, g, key_of(key, c, tail), 1, max, e);
    *out = (int)v;
    return st;
}

static Status read_yarn(ModelConfig *c, const Gguf *g, Err *e) {
    char key[96];
    double fast = 32.0, slow = 1.0, mul = 0.0;
    c->yarn.ctx = c->ctx;
    TRY(read_size(&c->yarn.ctx, c, g, "rope.scaling.original_context_length", MODEL_MAX_CTX, false,
                  e));
    if (c->arch->yarn_keys) {
        TRY(gguf_opt_float(&fast, g, key_of(key, c, "rope.scaling.yarn_beta_fast"), 1e-3, 1e6, e));
        TRY(gguf_opt_float(&slow, g, key_of(key, c, "rope.scaling.yarn_beta_slow"), 1e-3, 1e6, e));
        TRY(gguf_opt_float(&mul, g, key_of(key, c, "rope.scaling.yarn_log_multiplier"), 0.0, 100.0,
                           e));
    }
    c->yarn.beta_fast = (float)fast;
    c->yarn.beta_slow = (float)slow;
    c->yarn.log_mul = (float)mul;
    return OK;
}

static Status read_rope(ModelConfig *c, const Gguf *g, Err *e) {
    char key[96];
    double base = 10000.0, scale = 1.0;
    double attn = 1.0;
    int dims = c->hd;
    Slice kind = slice_of("linear"); /* a factor without a kind */
    TRY(gguf_opt_float(&base, g, key_of(key, c, "rope.freq_base"), 1.0, 1e12, e));
    TRY(read_size(&dims, c, g, "rope.dimension_count", c->hd, false, e));
    TRY(gguf_opt_str(&kind, g, key_of(key, c, "rope.scaling.type"), e));
    TRY(gguf_opt_float(&scale, g, key_of(key, c, "rope.scale_linear"), 1e-3, 1e6, e));
    TRY(gguf_opt_float(&scale, g, key_of(key, c, "rope.scaling.factor"), 1e-3, 1e6, e));
    TRY(gguf_opt_float(&attn, g, key_of(key, c, "rope.scaling.attn_factor"), 1e-3, 1e3, e));
    if (slice_eq_str(kind, "none")) scale = 1.0;
    else if (slice_eq_str(kind, "yarn")) TRY(read_yarn(c, g, e));
    else if (!slice_eq_str(kind, "linear"))
        return err_set(e, ERR_UNSUPPORTED,
                       "rope.scaling.type \"%.*s\" is not known (none, linear, yarn)",
                       (int)MIN(kind.n, (size_t)32), kind.p);
    c->rope_attn = (float)attn;
    if (dims % 2 != 0) return err_set(e, ERR_FORMAT, "rope.dimension_count %d is odd", dims);
    c->rope_base = (float)base;
    c->rope_scale = (float)scale;
    c->n_rot = dims / 2;
    return OK;
}

/* Parts of the file beyond its architecture's; that all layers have them is checked with the tensors. */
static int more_parts(const ModelConfig *c, const Gguf *g) {
    int more = 0;
    for (size_t i = 0; i < COUNT_OF(part_signs); i++)
        if ((c->arch->may & part_signs[i].part) && gguf_find_tensor(g, part_signs[i].tensor))
            more |= part_signs[i].part;
    return more;
}

/* The vocabulary is as large as the embedding has rows; the key, which files in circulation get wrong, counts
 * only where there is no embedding: in a checkpoint. */
static Status read_vocab(ModelConfig *c, const Gguf *g, Err *e) {
    const GgufTensor *embd = gguf_find_tensor(g, "token_embd.weight");
    if (!embd) return read_size(&c->V, c, g, "vocab_size", MODEL_MAX_VOCAB, true, e);
    if (embd->ne[1] > MODEL_MAX_VOCAB)
        return err_set(e, ERR_FORMAT, "token_embd.weight has %llu rows, at most %d",
                       (unsigned long long)embd->ne[1], MODEL_MAX_VOCAB);
    c->V = (int)embd->ne[1];
    return OK;
}

/* Scores that shrink with the position are not computed here. */
static Status no_temperature(const ModelConfig *c, const Gguf *g, Err *e) {
    char key[96];
    double scale = 0.0;
    TRY(gguf_opt_float(&scale, g, key_of(key, c, "attention.temperature_scale"), -1e6, 1e6, e));
    return scale == 0.0
               ? OK
               : err_set(e, ERR_UNSUPPORTED, "key \"%s\": %g is not supported, want 0", key, scale);
}

static Status read_arch(ModelConfig *c, const Gguf *g, Err *e) {
    Slice name;
    char names[MODEL_ARCH_NAMES];
    TRY(gguf_get_str(&name, g, "general.architecture", e));
    c->arch = model_arch_find(name);
    if (!c->arch)
        return err_set(e, ERR_UNSUPPORTED, "general.architecture \"%.*s\" is not known (%s)",
                       (int)MIN(name.n, (size_t)32), name.p, model_arch_names(names));
    c->more = more_parts(c, g);
    return OK;
}

Status model_read_config(ModelConfig *out, const Gguf *g, Err *e) {
    ModelConfig c = {0};
    TRY(read_arch(&c, g, e));
    TRY(read_size(&c.n_layer, &c, g, "block_count", MODEL_MAX_LAYER, true, e));
    TRY(read_size(&c.C, &c, g, "embedding_length", MODEL_MAX_WIDTH, true, e));
    TRY(read_size(&c.ctx, &c, g, "context_length", MODEL_MAX_CTX, true, e));
    TRY(read_size(&c.ff, &c, g, "feed_forward_length", 8 * MODEL_MAX_WIDTH, true, e));
    TRY(read_size(&c.nh, &c, g, "attention.head_count", 1024, true, e));
    c.nkv = c.nh;
    TRY(read_size(&c.nkv, &c, g, "attention.head_count_kv", c.nh, false, e));
    TRY(read_size(&c.hd, &c, g, "attention.key_length", 256, false, e));
    double eps = 1e-5;
    char key[96];
    if (c.hd == 0 && c.C % c.nh != 0)
        return err_set(e, ERR_FORMAT, "key \"%s\": %d does not divide embedding_length %d",
                       key_of(key, &c, "attention.head_count"), c.nh, c.C);
    if (c.hd == 0) c.hd = c.C / c.nh;
    const char *tail = c.arch->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon"
                                                : "attention.layer_norm_epsilon";
    TRY(gguf_opt_float(&eps, g, key_of(key, &c, tail), 1e-12, 0.1, e));
    c.norm_eps = (float)eps;
    if (c.arch->pos == POS_ROPE) TRY(read_rope(&c, g, e));
    TRY(no_temperature(&c, g, e));
    TRY(read_vocab(&c, g, e));
    c.tied = !gguf_find_tensor(g, "output.weight");
    Err why = {0};
    if (model_config_check(&c, &why) != OK)
        return err_set(e, ERR_FORMAT, "%s", why.msg); /* the file's fault */
    *out = c;
    return OK;
}

static void write_scaling(const ModelConfig *c, GgufW *w) {
    char key[96];
    const YarnSpec *y = &c->yarn;
    if (c->rope_attn != 0.0f && c->rope_attn != 1.0f)
        gguf_w_f32(w, key_of(key, c, "rope.scaling.attn_factor"), c->rope_attn);
    if (c->rope_scale == 1.0f && y->ctx == 0) return;
    gguf_w_str(w, key_of(key, c, "rope.scaling.type"), slice_of(y->ctx ? "yarn" : "linear"));
    gguf_w_f32(w, key_of(key, c, "rope.scaling.factor"), c->rope_scale);
    if (y->ctx == 0) return;
    gguf_w_u32(w, key_of(key, c, "rope.scaling.original_context_length"), (uint32_t)y->ctx);
    if (!c->arch->yarn_keys) return;
    gguf_w_f32(w, key_of(key, c, "rope.scaling.yarn_beta_fast"), y->beta_fast);
    gguf_w_f32(w, key_of(key, c, "rope.scaling.yarn_beta_slow"), y->beta_slow);
    if (y->log_mul != 0.0f)
        gguf_w_f32(w, key_of(key, c, "rope.scaling.yarn_log_multiplier"), y->log_mul);
}

void model_write_config(const ModelConfig *c, GgufW *w) {
    char key[96];
    gguf_w_str(w, "general.architecture", slice_of(c->arch->name));
    gguf_w_u32(w, key_of(key, c, "block_count"), (uint32_t)c->n_layer);
    gguf_w_u32(w, key_of(key, c, "context_length"), (uint32_t)c->ctx);
    gguf_w_u32(w, key_of(key, c, "embedding_length"), (uint32_t)c->C);
    gguf_w_u32(w, key_of(key, c, "feed_forward_length"), (uint32_t)c->ff);
    gguf_w_u32(w, key_of(key, c, "attention.head_count"), (uint32_t)c->nh);
    gguf_w_u32(w, key_of(key, c, "attention.head_count_kv"), (uint32_t)c->nkv);
    if (c->hd * c->nh != c->C) {
        gguf_w_u32(w, key_of(key, c, "attention.key_length"), (uint32_t)c->hd);
        gguf_w_u32(w, key_of(key, c, "attention.value_length"), (uint32_t)c->hd);
    }
    gguf_w_u32(w, key_of(key, c, "vocab_size"), (uint32_t)c->V);
    if (c->arch->norm == NORM_RMS)
        gguf_w_f32(w, key_of(key, c, "attention.layer_norm_rms_epsilon"), c->norm_eps);
    else gguf_w_f32(w, key_of(key, c, "attention.layer_norm_epsilon"), c->norm_eps);
    if (c->arch->pos != POS_ROPE) return;
    gguf_w_f32(w, key_of(key, c, "rope.freq_base"), c->rope_base);
    gguf_w_u32(w, key_of(key, c, "rope.dimension_count"), 2 * (uint32_t)c->n_rot);
    write_scaling(c, w);
}
