/* SPDX-License-Identifier: Apache-2.0
 * The way back: a model of a GGUF file as a Hugging Face folder. Names, shapes and orders of rows are those of
 * the table that reads folders (hf_plan.c), walked the other way; here is what config.json has to say, and for
 * each tensor of the folder where its rows lie in the file. What a folder cannot say is refused by name.
 *
 * Not here: values (quant/export.c), the tokenizer (token/). */
#ifndef INGOT_FORMAT_HF_OUT_H
#define INGOT_FORMAT_HF_OUT_H

#include "format/gguf.h"

enum { HF_OUT_NAME = 96, HF_OUT_ENDS = 16 };

/* What the file says, as its reader understood it (model/). */
typedef struct HfSpec {
    const char *arch;       /* general.architecture */
    const char *class_name; /* NULL: the first class of the architecture */
    int n_layer, C, nh, nkv, hd, ff, V, ctx;
    int n_rot; /* rotated pairs of a head; 0: no rotation */
    float eps;
    float rope_base, rope_scale, rope_attn; /* scale 1: none; attn 0 or 1: none */
    int yarn_ctx;                           /* 0: not yarn */
    bool yarn_odd; /* betas other than 32 and 1, or a multiplier of its own */
    bool tied, qkv_bias, out_bias, mlp_bias;
} HfSpec;

typedef enum HfOutHow {
    HF_OUT_COPY,  /* row r is row r */
    HF_OUT_TURN,  /* row r is column r */
    HF_OUT_UNPAIR /* row r is another row of the same head: hf_out_row */
} HfOutHow;

/* A tensor of the folder. */
typedef struct HfOutTensor {
    char name[HF_OUT_NAME];
    const GgufTensor *src; /* borrowed from the file */
    HfOutHow how;
    int n_dims;
    uint64_t rows, cols; /* in the file; 1-D with HF_OUT_UNPAIR: each number is a row */
} HfOutTensor;

/* Ids that config.json and generation_config.json name. */
typedef struct HfOutIds {
    int32_t bos, pad; /* -1: none */
    int32_t end[HF_OUT_ENDS];
    int n_end;
} HfOutIds;

typedef struct HfOut HfOut; /* a plan: immutable */

/* Find the class, its rope_scaling and a name for every tensor of g, which stays open. ERR_UNSUPPORTED names what
 * has no word in a folder, ERR_FORMAT a tensor that is missing. */
MUST_CHECK Status hf_out_new(HfOut **out, const HfSpec *s, const Gguf *g, Err *e);
void hf_out_free(HfOut *o); /* NULL is fine */
/* "LlamaForCausalLM" */
const char *hf_out_class(const HfOut *o);
/* Names of all classes of an architecture, "A, B"; empty where there is none. Static. */
const char *hf_out_classes(const char *arch);
/* What the user should know, or an empty string. */
const char *hf_out_note(const HfOut *o);
size_t hf_out_n_tensors(const HfOut *o);
const HfOutTensor *hf_out_tensor_at(const HfOut *o, size_t i);
/* Row of the file's tensor that is row r of the folder's (HF_OUT_UNPAIR). */
uint64_t hf_out_row(const HfOut *o, uint64_t r);
/* Append the text of config.json: weights of type t (f32, f16, bf16). */
void hf_out_put_config(StrBuf *b, const HfOut *o, const HfOutIds *ids, DType t);
/* Append the text of generation_config.json. */
void hf_out_put_generation(StrBuf *b, const HfOutIds *ids);
/* Append a line of JSON, indented for people: the same value. */
void hf_out_put_pretty(StrBuf *b, Slice compact);

#endif
