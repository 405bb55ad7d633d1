/* SPDX-License-Identifier: Apache-2.0
 * What the hf_*.c files share. Not for other folders. */
#ifndef INGOT_FORMAT_HF_INTERNAL_H
#define INGOT_FORMAT_HF_INTERNAL_H

#include "format/hf.h"
#include "format/safetensors.h"
#include "text/json.h"

/* Kinds of folders: which names their keys and tensors have. */
typedef enum HfFamily { HF_GPT2 = 1, HF_LLAMA = 2 } HfFamily;

typedef struct HfArch {
    const char *name, *gguf;
    HfFamily family;
    bool pairs;     /* GGUF rotates neighbours, the folder halves */
    bool tied;      /* where config.json does not say */
    bool qkv_bias;  /* always */
    bool may_bias;  /* attention_bias and mlp_bias are looked at */
    bool qk_norm;   /* norms of q and k */
    int head_dim;   /* where config.json does not say; 0: hidden_size / heads */
    bool kv_needed; /* num_key_value_heads has to be there */
} HfArch;

typedef enum HfRopeKind {
    HF_ROPE_NONE,
    HF_ROPE_LINEAR,
    HF_ROPE_YARN,
    HF_ROPE_LLAMA3,
    HF_ROPE_DYNAMIC
} HfRopeKind;

typedef struct HfRope {
    HfRopeKind kind;
    double base, factor;
    double attn;      /* yarn: rope.scaling.attn_factor; 1: none */
    double low, high; /* llama3 */
    int64_t ctx;      /* the model was first trained with: yarn, llama3 */
} HfRope;

/* How the folder's matrices are packed (hf_packed.c). */
typedef enum HfScheme { HF_UNPACKED, HF_AWQ, HF_GPTQ, HF_BNB } HfScheme;

/* quantization_config. */
typedef struct HfQuant {
    HfScheme scheme;
    int bits, group;  /* awq, gptq; group -1: all inputs of a matrix */
    bool zero_point;  /* awq */
    bool zeros_as_is; /* gptq_v2; before it zeros are stored less one */
} HfQuant;

/* A packed matrix of rows outputs and cols inputs; the tables are borrowed from the map and may lie at any
 * address. */
typedef struct HfPacked {
    HfScheme scheme;
    int bits;
    uint64_t rows, cols;
    const uint8_t *w;
    /* awq, gptq: a scale and a zero for each output and group of inputs */
    uint64_t group, n_groups;
    const uint8_t *zeros; /* NULL: zero_add alone */
    int zero_add;
    const uint8_t *index; /* i32 [cols]: the group of each input; NULL: input / group */
    const uint8_t *scale;
    DType scale_type;
    /* bitsandbytes: a scale for each block of the matrix as one run of numbers */
    uint64_t block,
        nested_block; /* nested_block 0: absmax is f32, else bytes with scales of their own */
    const uint8_t *absmax, *nested, *nested_map; /* f32 [blocks / nested_block], f32 [256] */
    float offset, map[16];
} HfPacked;

typedef struct HfConfig {
    const HfArch *arch;
    HfQuant quant;
    int n_layer, C, nh, nkv, hd, ff, V, ctx;
    double eps;
    HfRope rope;
    int tied; /* -1: as the tensors are */
    bool qkv_bias, out_bias, mlp_bias;
    int32_t bos; /* -1: none */
    int32_t end[HF_MAX_ENDS];
    size_t n_end;
} HfConfig;

typedef enum HfHow {
    HF_COPY,
    HF_TRANSPOSE,
    HF_PAIRS, /* rows i and i + hd/2 of each head become neighbours */
    HF_FREQS  /* computed from rope.llama3 */
} HfHow;

/* A tensor of the output. */
typedef struct HfItem {
    const StTensor *src; /* NULL: computed, or packed */
    HfPacked *packed;    /* owned; from is DT_F32 then */
    char name[48];
    HfHow how;
    int n_dims;
    uint64_t rows, cols; /* of the output; 1-D: rows is 1, but with HF_PAIRS cols is */
    DType from, to;
} HfItem;

enum { HF_MAX_NOTES = 8, HF_NOTE = 160 };

struct HfModel {
    const HfOpts *opts; /* borrowed, while opening */
    StrBuf dir, tok_dir;
    StrBuf name; /* general.name */
    HfConfig cfg;
    St *st;       /* owned */
    HfItem *item; /* owned */
    size_t n_items, cap;
    char note[HF_MAX_NOTES][HF_NOTE];
    size_t n_notes;
};

void hf__note(HfModel *m, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* config.json, generation_config.json and quant_config.json (the last two may be NULL) into m->cfg. */
MUST_CHECK Status hf__read_config(HfModel *m, const Json *config, const Json *gen,
                                  const Json *quant, Err *e);
/* Row of the table for a GGUF architecture; NULL if there is none. */
const HfArch *hf__arch_of(const char *gguf);
/* rope_theta, rope_scaling or rope_parameters of config.json. */
MUST_CHECK Status hf__read_rope(HfConfig *c, const Json *config, Err *e);
/* Divisor i of hd/2 of the frequencies, as rope.kind llama3 has it. */
float hf__llama3_divisor(const HfConfig *c, int i);
/* quantization_config of config.json, or what quant_config.json or quantize_config.json say instead. */
MUST_CHECK Status hf__read_quant(HfQuant *q, const Json *j, Err *e);
/* If the matrix `name` of it->rows outputs and it->cols inputs is packed: its parts into it->packed, marked
 * in `used` [tensors of the folder]. */
MUST_CHECK Status hf__find_packed(HfModel *m, HfItem *it, const char *name, bool *used, Err *e);
/* y[k * cols ..] = output row[k] of the matrix, k < n. work: hf__unpack_work floats. */
void hf__unpack(const HfPacked *p, float *y, const uint32_t *row, size_t n, float *work);
size_t hf__unpack_work(const HfPacked *p, size_t n);
/* Place every tensor of m->st: m->item. */
MUST_CHECK Status hf__plan(HfModel *m, Err *e);
/* Every weight that a model of this configuration has: its name in the folder, and an item with its name, order
 * and shape in the file (no source, no types). Stops at the first failure. */
typedef Status (*HfNameFn)(void *ctx, const char *hf, const HfItem *it);
MUST_CHECK Status hf__walk_names(const HfConfig *c, HfNameFn fn, void *ctx);
/* Class number i; NULL past the last. */
const HfArch *hf__arch_at(size_t i);
/* The architecture's keys. */
void hf__put_keys(const HfModel *m, GgufW *w);
/* Typed members of config.json: ERR_FORMAT names the key, the value and the range. */
MUST_CHECK Status hf__int(int *out, const Json *j, const char *key, int64_t min, int64_t max,
                          bool needed, Err *e);
MUST_CHECK Status hf__num(double *out, const Json *j, const char *key, double min, double max,
                          bool needed, Err *e);
MUST_CHECK Status hf__bool(bool *out, const Json *j, const char *key, Err *e);

#endif
