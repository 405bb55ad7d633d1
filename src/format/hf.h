/* SPDX-License-Identifier: Apache-2.0
 * A model in a Hugging Face folder, and the GGUF file it becomes.
 *
 *   DIR/config.json  DIR/generation_config.json  DIR/model*.safetensors  DIR/tokenizer.json ...
 *
 * or the same in two folders, DIR/fp16/ (bf16, fp32, model) and DIR/tokenizer/. Architectures are rows of a
 * table (hf_config.c): GPT2LMHeadModel, LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM,
 * Qwen3ForCausalLM. Whatever could change what the model computes and is not known here is refused by name:
 * keys of config.json, kinds of rope scaling, tensors. Values change in no way but that q and k of the
 * architectures that rotate neighbours are reordered, and gpt2's matrices transposed. Matrices packed by awq,
 * gptq or bitsandbytes (hf_packed.c) are unpacked to f32 on the way.
 *
 * Not here: the tokenizer (token/), how numbers become blocks and which tensor gets which (quant/). */
#ifndef INGOT_FORMAT_HF_H
#define INGOT_FORMAT_HF_H

#include <stdatomic.h>

#include "base/team.h"
#include "format/gguf.h"

enum { HF_AS_STORED = -1, HF_MAX_ENDS = 16 };

typedef struct HfOpts {
    /* Of matrices: DT_F32, DT_F16, DT_BF16; HF_AS_STORED: as they are, f16 where they are packed. The rest
     * becomes f32. */
    int type;
    const char *const *ignore; /* keys of config.json that are known to mean nothing; borrowed */
    int n_ignore;
} HfOpts;

typedef struct HfModel HfModel; /* an opened folder: immutable */

/* Read the configuration, map the weights, find a place for every tensor. ERR_UNSUPPORTED, ERR_FORMAT name
 * the file and the key or tensor; ERR_NOT_FOUND. */
MUST_CHECK Status hf_open(HfModel **out, const char *dir, const HfOpts *o, Err *e);
void hf_close(HfModel *m); /* NULL is fine */

/* "LlamaForCausalLM", and what GGUF calls it: "llama". */
const char *hf_class(const HfModel *m);
const char *hf_arch(const HfModel *m);
/* Rows of the embedding. */
int32_t hf_n_vocab(const HfModel *m);
int hf_n_layer(const HfModel *m);
int hf_n_head(const HfModel *m);
int hf_n_head_kv(const HfModel *m);
size_t hf_n_tensors(const HfModel *m);
/* Of the output's tensors. */
uint64_t hf_n_params(const HfModel *m);
/* Bytes of weights read. */
uint64_t hf_n_bytes(const HfModel *m);
/* Type of most of the output. */
DType hf_type(const HfModel *m);
enum { HF_STORED = 48 };
/* What the folder's matrices are: "bf16"; "awq, 4 bits in groups of 128". Into buf. */
const char *hf_stored(const HfModel *m, char buf[HF_STORED]);
/* Ids that end a text, from generation_config.json or else config.json; at most HF_MAX_ENDS. */
size_t hf_end_ids(const HfModel *m, const int32_t **ids);
/* What the user should know: i < n, one line each. */
size_t hf_n_notes(const HfModel *m);
const char *hf_note_at(const HfModel *m, size_t i);
/* Append DIR/NAME from where the folder has its tokenizer; nothing if it is not there. */
MUST_CHECK Status hf_read_tokenizer_file(StrBuf *b, const HfModel *m, const char *name, Err *e);

/* ---- the output's tensors ---- i < hf_n_tensors, in the order they are written. */
typedef struct HfTensor {
    const char *name; /* borrowed */
    int n_dims;
    uint64_t ne[2]; /* innermost first */
    DType type;
} HfTensor;

/* Tensor i. */
HfTensor hf_tensor_at(const HfModel *m, size_t i);
/* What becomes of it; before hf_write, whose codec has to know the type. Rows are whole blocks. */
void hf_set_type(HfModel *m, size_t i, DType type);
typedef int (*HfOrder)(Slice a, Slice b);
/* Order them by their names. */
void hf_sort(HfModel *m, HfOrder order);

/* What a tensor lost as its type changed: sums of squares of the errors and of the values. */
typedef struct HfLoss {
    double error, square;
} HfLoss;

/* How numbers change their type: kernels of the caller's choice. Called by several threads at once; n is at most
 * HF_STRIP elements, whole blocks. */
enum { HF_STRIP = 4096 };
typedef struct HfCodec {
    void *ctx;
    void (*widen)(void *ctx, DType from, float *y, const void *x, size_t n);
    /* Index of the first of x[n] that `to` cannot hold; n if y has them all. */
    size_t (*narrow)(void *ctx, DType to, void *y, const float *x, size_t n);
    /* Add what x[n] lost in becoming y to *l. work[n] is scratch. */
    void (*add_loss)(void *ctx, HfLoss *l, DType to, const void *y, const float *x, float *work,
                     size_t n);
    /* Greatest magnitude, for a message. */
    float (*limit)(DType to);
} HfCodec;

/* ---- a model without its weights ---- for adapters, whose tensors are named after its modules. Of such an
 * HfModel the functions from here to hf_source_row may be asked, hf_arch, the numbers of layers and heads. */
typedef struct HfSizes {
    const char *arch; /* general.architecture */
    int n_layer, C, nh, nkv, hd, ff, V;
    bool tied; /* the head is the embedding, not a module of its own */
} HfSizes;

/* By its config.json, which is read as hf_open reads it. */
MUST_CHECK Status hf_open_config(HfModel **out, const char *dir, const HfOpts *o, Err *e);
/* Of an architecture that folders are read of; ERR_UNSUPPORTED else. */
MUST_CHECK Status hf_open_sizes(HfModel **out, const HfSizes *s, Err *e);

/* Where "model.layers.3.self_attn.q_proj.weight" goes. */
typedef struct HfPlace {
    char name[48]; /* "blk.3.attn_q.weight" */
    int n_dims;
    uint64_t rows, cols; /* of the output: outputs and inputs of a matrix */
    bool pairs;          /* rows are reordered: row i is the folder's hf_source_row(i) */
} HfPlace;

/* False where the model has no such tensor. */
bool hf_find_place(HfPlace *out, const HfModel *m, Slice name);
uint64_t hf_source_row(const HfModel *m, uint64_t row);

/* ---- writing ---- */

typedef struct HfWrite {
    const HfCodec *codec; /* NULL: f32, f16 and bf16 in plain C */
    Team *team;           /* NULL: this thread alone. The output does not depend on it */
    int file_type;        /* general.file_type; -1: by the type of most tensors */
    HfLoss *loss;         /* [hf_n_tensors], filled; NULL: not measured */
    void (*extra)(void *ctx, GgufW *w); /* adds metadata (the tokenizer); NULL: none */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes read; NULL: silent */
    void *extra_ctx, *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} HfWrite;

/* Write the GGUF file atomically, a few megabytes at a time. ERR_FORMAT for a value that its type cannot hold
 * (names tensor and value) and for a packed one that is not finite, ERR_IO, ERR_CANCELLED. */
MUST_CHECK Status hf_write(const HfModel *m, const char *path, const HfWrite *o, Err *e);

#endif
