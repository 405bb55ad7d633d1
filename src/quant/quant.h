/* SPDX-License-Identifier: Apache-2.0
 * A smaller copy of a GGUF file. The output is laid out as llama.cpp's quantizer lays it out: tensors
 * outside the layers first, then layer by layer, by name; the same type for each tensor (rules.c) and the
 * same bytes in it. All metadata comes along; general.file_type and general.quantization_version say what
 * was done. */
#ifndef INGOT_QUANT_QUANT_H
#define INGOT_QUANT_QUANT_H

#include <stdatomic.h>

#include "format/gguf.h"

typedef struct QuantOpts {
    DType type; /* f16, bf16, q8_0, q4_0 */
    bool pure;  /* every matrix that is quantized at all gets `type`: no better type for the head */
    int n_threads;   /* 0: 1. The output does not depend on it */
    const char *cpu; /* kernel level by name; NULL: the best. Nor on this */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes read; NULL: silent */
    void *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} QuantOpts;

typedef struct QuantStats {
    uint64_t n_params;
    uint64_t bytes_in, bytes_out; /* of tensor data */
    uint64_t file_in, file_out;   /* of the files */
    uint64_t n_tensors;
    uint64_t n_of_type[DT_COUNT]; /* tensors written in each type */
} QuantStats;

/* Read `in`, write `out` atomically, a slab at a time: never the whole model in memory. *st is filled on
 * success. ERR_FORMAT for NaN, infinity or a value the type cannot hold (names tensor and index),
 * ERR_UNSUPPORTED for a tensor that is quantized already, ERR_IO (the disk is too small), ERR_CANCELLED. */
MUST_CHECK Status quant_file(QuantStats *st, const char *in, const char *out, const QuantOpts *o,
                             Err *e);

/* What decides the type of a tensor besides its name and shape. */
typedef struct QuantRules {
    DType type;
    bool pure;
    bool has_output; /* the model has a head of its own: output.weight */
    bool has_q6_k;   /* the kernels know type 14 */
} QuantRules;

/* Type that tensor t gets; its own if it is left as it is. */
DType quant_type_for(const QuantRules *r, const GgufTensor *t);
/* The number for general.file_type; -1 for a type that no whole file has. */
int quant_file_type(DType type);
/* Where a tensor stands in the output: <0, 0, >0 as for strcmp. */
int quant_compare_names(Slice a, Slice b);

#endif
