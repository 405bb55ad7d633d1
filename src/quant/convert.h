/* SPDX-License-Identifier: Apache-2.0
 * A Hugging Face folder as a GGUF file: weights and keys by format/hf.h, the tokenizer by token/, blocks by
 * quant_file. What is written has been read again, and each of its tensors held to the model's table. */
#ifndef INGOT_QUANT_CONVERT_H
#define INGOT_QUANT_CONVERT_H

#include <stdatomic.h>

#include "quant/quant.h"

typedef struct QuantConvertOpts {
    const char *type;          /* "auto": as stored; f32, or the name of a mixture */
    const char *const *ignore; /* keys of config.json that are known to mean nothing; borrowed */
    int n_ignore;
    int n_threads;                             /* for blocks; 0: 1 */
    const char *cpu;                           /* kernel level by name; NULL: the best */
    void (*warn)(void *ctx, const char *line); /* what the user should know; NULL: nobody asks */
    /* Bytes read, of the step with this name; NULL: silent. */
    void (*progress)(void *ctx, const char *step, uint64_t done, uint64_t total);
    void *warn_ctx, *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} QuantConvertOpts;

typedef struct QuantConverted {
    char class_name[32], arch[16]; /* "LlamaForCausalLM", "llama" */
    char stored[8];                /* type of most weights in the folder */
    uint64_t n_tensors, n_params, bytes_in, file_out;
    int32_t n_vocab;
    bool has_template; /* a chat template */
} QuantConverted;

/* True for what QuantConvertOpts.type may be. */
bool quant_convert_type_ok(const char *type);
/* Write `out` from the folder, atomically. With blocks, OUT.plain stands beside it meanwhile, with the
 * weights as they were stored. *st is filled on success. Errors as of hf_open, tok_load_json, quant_file;
 * ERR_NOT_FOUND without a tokenizer.json. */
MUST_CHECK Status quant_convert(QuantConverted *st, const char *dir, const char *out,
                                const QuantConvertOpts *o, Err *e);

#endif
