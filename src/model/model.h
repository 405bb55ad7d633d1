/* SPDX-License-Identifier: Apache-2.0
 * One decoder-only transformer, described by data. An architecture is a row of the table in arch.c; the
 * parameters of a model are the rows of the table in params.c; forward.c is the only forward pass.
 *
 * Two ways to have a model: model_load binds the tensors of a GGUF file where they lie in the map (any
 * weight type), model_new makes trainable f32 weights in one flat buffer, where the gradient and the
 * optimizer's moments of a parameter lie at the same offset of their own flat buffers. */
#ifndef INGOT_MODEL_MODEL_H
#define INGOT_MODEL_MODEL_H

#include "device/backend.h"
#include "format/gguf.h"

typedef enum PosKind { POS_ROPE, POS_LEARNED } PosKind;

/* Parts that some decoders have and others lack; sets of them are or-ed. */
enum {
    PART_NORM_BIAS = 1,
    PART_QKV_BIAS = 2,
    PART_OUT_BIAS = 4, /* of the product after attention */
    PART_MLP_BIAS = 8,
    PART_QK_NORM = 16, /* rms norm of each head of q and k before the rotation */
    PART_ALL = 31
};

/* What distinguishes one architecture from another. */
typedef struct ArchRow {
    const char *name; /* general.architecture, and the prefix of its keys */
    NormKind norm;
    PosKind pos;
    ActKind act;
    int parts;        /* every model of it has these */
    int may;          /* a file may have these, too: all layers or none */
    bool fused_qkv;   /* one tensor attn_qkv instead of attn_q, attn_k, attn_v */
    bool rope_halves; /* pairs (i, i + n_rot) */
    bool yarn_keys;   /* its files may set yarn's betas and log multiplier */
} ArchRow;

/* Row by name; NULL if unknown. */
const ArchRow *model_arch_find(Slice name);
/* Row i of the table; NULL past the end. */
const ArchRow *model_arch_at(int i);
enum { MODEL_ARCH_NAMES = 128 };
/* Names of all rows, "gpt2, llama, ...", into buf. */
const char *model_arch_names(char buf[MODEL_ARCH_NAMES]);

enum {
    MODEL_MAX_LAYER = 512,
    MODEL_MAX_WIDTH = 65536,
    MODEL_MAX_VOCAB = 4000000,
    MODEL_MAX_CTX = 16777216
};

/* YaRN (Peng et al. 2023): fast pairs keep their angles, slow ones are stretched by rope_scale, those that turn
 * beta_slow to beta_fast times within `ctx` positions are between; q and k grow with ln(rope_scale). */
typedef struct YarnSpec {
    int ctx; /* context the model was first trained with; 0: no yarn */
    float beta_fast, beta_slow;
    float log_mul; /* 0: none */
} YarnSpec;

typedef struct ModelConfig {
    const ArchRow *arch;
    int more; /* parts of this model beyond arch->parts */
    int n_layer, C, nh, nkv, hd, ff, V, ctx;
    float norm_eps;
    float rope_base, rope_scale; /* scale: positions are divided by it */
    float rope_attn;             /* q and k are multiplied by it as they are rotated; 0: 1 */
    YarnSpec yarn;
    int n_rot; /* rotated pairs per head */
    bool tied; /* the head is the token embedding */
} ModelConfig;

/* True if models of this configuration have the part. */
static inline bool model_has(const ModelConfig *c, int part) {
    return ((c->arch->parts | c->more) & part) != 0;
}

/* ERR_ARG naming the field, its value and the limit. The ranges are such that a matrix's elements fit in 64
 * bits; what a model needs in all is held against memory by the plans. */
MUST_CHECK Status model_config_check(const ModelConfig *c, Err *e);
/* Parameters in all. */
uint64_t model_n_params(const ModelConfig *c);
/* Floating-point operations of a training token: 6 N + 12 L C T for a context of T (PaLM, appendix B). */
double model_train_flops(const ModelConfig *c, int T);

/* ---- parameters ---- */
typedef enum ParamRole {
    P_TOK_EMBD,
    P_POS_EMBD,
    P_ATTN_NORM,
    P_ATTN_NORM_B,
    P_QKV,
    P_QKV_B,
    P_Q,
    P_K,
    P_V,
    P_Q_B,
    P_K_B,
    P_V_B,
    P_Q_NORM,
    P_K_NORM,
    P_ATTN_OUT,
    P_ATTN_OUT_B,
    P_FFN_NORM,
    P_FFN_NORM_B,
    P_GATE,
    P_UP,
    P_GATE_B,
    P_UP_B,
    P_DOWN,
    P_DOWN_B,
    P_OUT_NORM,
    P_OUT_NORM_B,
    P_OUTPUT,
    PARAM_ROLES
} ParamRole;

typedef struct Param {
    char name[64]; /* as in the file: "blk.3.attn_q.weight" */
    ParamRole role;
    int layer;      /* -1: not in a layer */
    int n_dims;     /* 1 or 2 */
    int rows, cols; /* 1-D: rows == 1 */
    size_t off;     /* of a trainable model: floats into the flat buffers */
} Param;

static inline size_t param_n(const Param *p) { return (size_t)p->rows * (size_t)p->cols; }

/* The parameters of a configuration, in file order (q, k, v and gate, up stand side by side, so that each
 * group is one matrix of the flat buffer). Array owned by the caller (mem_free). ERR_NOMEM. */
MUST_CHECK Status model_params(Param **out, int *n, const ModelConfig *c, Err *e);

/* ---- the model ---- */
typedef struct Linear {
    Weight w;
    BufAt bias; /* absent: none */
} Linear;

/* Linear layers that read the same input and write side by side. */
typedef struct LinearGroup {
    Linear part[3];
    int n;
} LinearGroup;

typedef struct LayerWeights {
    BufAt attn_norm, attn_norm_b, ffn_norm, ffn_norm_b;
    LinearGroup qkv; /* -> [T, (nh + 2 nkv) hd] */
    BufAt q_norm, k_norm;
    Linear attn_out;
    LinearGroup up; /* gelu: up -> [T, ff]; swiglu: gate, up -> [T, 2 ff] */
    Linear down;
} LayerWeights;

typedef struct ModelWork ModelWork; /* activations of a forward pass */
typedef struct LoraWork LoraWork;   /* what adapters need beside them */

/* Told of each product in model_forward before it is made: w times the T rows of w->cols floats at x, which
 * are on the device and ldx apart. */
typedef void (*ModelObserver)(void *ctx, const Weight *w, BufAt x, size_t ldx, int T);

typedef struct Model {
    ModelConfig cfg;
    Device *dev;   /* borrowed */
    Gguf *file;    /* owned; NULL for a trainable model */
    Buf *map;      /* owned: the file's bytes as a Buf; or NULL */
    Buf *flat;     /* owned: trainable weights, or the 1-D tensors converted to f32 */
    size_t n_flat; /* floats in flat */
    Param *params; /* owned */
    int n_params;
    Weight tok_embd, pos_embd, output;
    BufAt out_norm, out_norm_b;
    LayerWeights *layer; /* owned, [n_layer] */
    float *
        rope_factor; /* owned, [n_rot] divisors of the frequencies (rope_freqs.weight); NULL: none */
    float *rope_freq; /* owned, [n_rot]: angle per position, scaling and factors applied */
    float rope_gain;  /* q and k are multiplied by it as they are rotated */
    Buf *packs;       /* owned; the packs of all weights lie in it; NULL: none are packed */
    size_t n_packed,
        n_released;         /* bytes of the packs, each of which its Weight owns; in the file */
    ModelWork *work;        /* owned; see model_reserve */
    LoraWork *lora;         /* owned; see lora_reserve; NULL: no adapters */
    ModelObserver observer; /* NULL: none */
    void *observer_ctx;     /* borrowed */
} Model;

/* Map, check every tensor's name, shape and type, bind. ERR_FORMAT names what is wrong with its limit. */
MUST_CHECK Status model_load(Model **out, Device *dev, const char *path, Err *e);
/* The same of an opened file, which is the model's from now on, also after a failure. Messages do not name it. */
MUST_CHECK Status model_load_file(Model **out, Device *dev, Gguf *g, Err *e);
/* Zero f32 weights in one flat buffer. ERR_NOMEM, ERR_ARG. */
MUST_CHECK Status model_new(Model **out, Device *dev, const ModelConfig *c, Err *e);
void model_free(Model *m);
/* Bytes of memory that the weights take once they have been read: the file's, or the packed ones in their place. */
size_t model_weight_bytes(const Model *m);
/* GPT-2's initialisation: N(0, 0.02), projections into the residual stream scaled by 1/sqrt(2 L), norms 1,
 * biases 0. Deterministic in seed. */
MUST_CHECK Status model_init(Model *m, uint64_t seed, Err *e);
/* Copy the weights of a GGUF file of the same configuration into a trainable model. */
MUST_CHECK Status model_copy_from(Model *m, const Gguf *g, Err *e);
/* Take rope_freqs.weight from a file, if it has one, and compute the angles of all pairs. */
MUST_CHECK Status model_copy_rope(Model *m, const Gguf *g, Err *e);
/* Configuration from a file's metadata and tensors, without loading. */
MUST_CHECK Status model_read_config(ModelConfig *c, const Gguf *g, Err *e);
/* Configuration keys into a file being written. */
void model_write_config(const ModelConfig *c, GgufW *w);
/* Write a trainable model as f32 GGUF, atomically; `extra` adds metadata (tokenizer, training facts). */
MUST_CHECK Status model_save(const Model *m, const char *path, void (*extra)(void *ctx, GgufW *w),
                             void *ctx, Err *e);

/* Room for forward passes of up to max_rows rows with max_out rows of logits. Grows only. ERR_NOMEM. */
MUST_CHECK Status model_reserve(Model *m, int max_rows, int max_out, Err *e);
size_t model_work_bytes(const ModelConfig *c, int max_rows, int max_out);
/* One pass over a ragged batch: writes K and V into kv and gives logits [n_out, V] (host, owned by the
 * model, valid until the next call; NULL without any). ERR_ARG for a token outside the vocabulary or too many rows. */
MUST_CHECK Status model_forward(Model *m, KvStore *kv, const Batch *b, const float **logits,
                                Err *e);
/* Logits of other rows of the batch that went through model_forward last and was not only_out, n_out of them at a
 * time: b is that batch with another out and n_out >= 1. Result and errors as there. */
MUST_CHECK Status model_logits(Model *m, const Batch *b, const float **logits, Err *e);
/* The same for hidden states, the final norm's output: [n_out, C]. */
MUST_CHECK Status model_hidden(Model *m, const Batch *b, const float **hidden, Err *e);
/* Bytes of a KV store. */
size_t model_kv_bytes(const ModelConfig *c, DType type, int n_blocks);

#endif
