/* SPDX-License-Identifier: Apache-2.0
 * A model in a Hugging Face folder, and the GGUF file it becomes.
 *
 *   DIR/config.json  DIR/generation_config.json  DIR/model*.safetensors  DIR/tokenizer.json ...
 *
 * or the same in two folders, DIR/fp16/ (bf16, fp32, model) and DIR/tokenizer/. Architectures are rows of a
 * table (hf_config.c): GPT2LMHeadModel, LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM,
 * Qwen3ForCausalLM. Whatever could change what the model computes and is not known here is refused by name:
 * keys of config.json, kinds of rope scaling, tensors. Values change in no way but that q and k of the
 * architectures that rotate neighbours are reordered, and gpt2's matrices transposed.
 *
 * Not here: the tokenizer (token/), types with blocks (quant/). */
#ifndef INGOT_FORMAT_HF_H
#define INGOT_FORMAT_HF_H

#include <stdatomic.h>

#include "format/gguf.h"

enum { HF_AS_STORED = -1, HF_MAX_ENDS = 16 };

typedef struct HfOpts {
    int type; /* of matrices: DT_F32, DT_F16, DT_BF16; HF_AS_STORED: as they are. The rest becomes f32 */
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
size_t hf_n_tensors(const HfModel *m);
/* Of the output's tensors. */
uint64_t hf_n_params(const HfModel *m);
/* Bytes of weights read. */
uint64_t hf_n_bytes(const HfModel *m);
/* Type of most of the output, and of the folder. */
DType hf_type(const HfModel *m);
DType hf_stored_type(const HfModel *m);
/* Ids that end a text, from generation_config.json or else config.json; at most HF_MAX_ENDS. */
size_t hf_end_ids(const HfModel *m, const int32_t **ids);
/* What the user should know: i < n, one line each. */
size_t hf_n_notes(const HfModel *m);
const char *hf_note_at(const HfModel *m, size_t i);
/* Append DIR/NAME from where the folder has its tokenizer; nothing if it is not there. */
MUST_CHECK Status hf_read_tokenizer_file(StrBuf *b, const HfModel *m, const char *name, Err *e);

typedef struct HfWrite {
    void (*extra)(void *ctx, GgufW *w); /* adds metadata (the tokenizer); NULL: none */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes read; NULL: silent */
    void *extra_ctx, *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} HfWrite;

/* Write the GGUF file atomically, a few megabytes at a time. ERR_FORMAT for a value that f16 cannot hold,
 * ERR_IO, ERR_CANCELLED. */
MUST_CHECK Status hf_write(const HfModel *m, const char *path, const HfWrite *o, Err *e);

#endif
