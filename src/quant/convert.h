/* SPDX-License-Identifier: Apache-2.0
 * A Hugging Face folder as a GGUF file: weights and keys by format/hf.h, the tokenizer by token/, types by the
 * rules of quant_file, so that the file is what quant_file makes of the plain one. What is written has been read again, and each of its tensors held to the model's table. */
#ifndef INGOT_QUANT_CONVERT_H
#define INGOT_QUANT_CONVERT_H

#include <stdatomic.h>

#include "quant/quant.h"

typedef struct QuantConvertOpts {
    const char *type;          /* "auto": as stored; f32, or the name of a mixture */
    const char *const *ignore; /* keys of config.json that are known to mean nothing; borrowed */
    int n_ignore;
    int n_threads;                             /* 0: 1 */
    const char *cpu;                           /* kernel level by name; NULL: the best */
    void (*warn)(void *ctx, const char *line); /* what the user should know; NULL: nobody asks */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes read; NULL: silent */
    void *warn_ctx, *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} QuantConvertOpts;

/* What a tensor lost as its values changed their type: sum of squared errors over sum of squares, against the
 * values the folder has (unpacked ones, where it is quantized). */
typedef struct QuantLoss {
    char name[64];
    DType type;
    double relative;
} QuantLoss;

typedef struct QuantConverted {
    char class_name[32], arch[16]; /* "LlamaForCausalLM", "llama" */
    char stored[48];               /* what most weights of the folder are */
    uint64_t n_tensors, n_params, bytes_in, file_out;
    int32_t n_vocab;
    bool has_template; /* a chat template */
    QuantLoss *loss;   /* owned [n_loss]: of each tensor, in the order of the file */
    size_t n_loss;
    size_t worst;    /* of them; meaningless where relative is 0 */
    double relative; /* of all together */
} QuantConverted;

/* Free what a report owns; one of zeros is fine. */
void quant_converted_deinit(QuantConverted *st);

/* True for what QuantConvertOpts.type may be. */
bool quant_convert_type_ok(const char *type);
/* Write `out` from the folder, atomically and in one pass. *st is filled on success, for the caller to deinit.
 * Errors as of hf_open, hf_write, tok_load_json; ERR_NOT_FOUND without a tokenizer.json. */
MUST_CHECK Status quant_convert(QuantConverted *st, const char *dir, const char *out,
                                const QuantConvertOpts *o, Err *e);

/* ---- adapters ---- A PEFT folder, adapter_config.json and adapter_model.safetensors, as model/lora.h has it. */
typedef struct QuantAdapter {
    char arch[16];
    int n_pairs, rank; /* the largest */
    float alpha;
    uint64_t n_params, bytes_in, file_out;
} QuantAdapter;

/* True for a folder with an adapter_config.json. */
bool quant_is_adapter(const char *dir);
/* Write `out` atomically. base: the folder (its config.json is enough) or GGUF file of the model it adapts. Of
 * the options type ("auto", f32, f16, bf16) and ignore count. ERR_UNSUPPORTED, ERR_FORMAT name the key or tensor;
 * ERR_ARG without a base or with another type, ERR_NOT_FOUND, ERR_IO. */
MUST_CHECK Status quant_convert_adapter(QuantAdapter *st, const char *dir, const char *base,
                                        const char *out, const QuantConvertOpts *o, Err *e);

#endif
