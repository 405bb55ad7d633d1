/* SPDX-License-Identifier: Apache-2.0
 * A GGUF model as a Hugging Face folder: the other way round of quant/convert.h, which makes the same weights of it
 * again where they are f32, f16 or bf16. */
#ifndef INGOT_QUANT_EXPORT_H
#define INGOT_QUANT_EXPORT_H

#include <stdatomic.h>

#include "format/gguf.h"

#define QUANT_SHARD_BYTES ((uint64_t)5 << 30)

typedef struct QuantExportOpts {
    int type; /* of matrices: DT_F32, DT_F16, DT_BF16; QUANT_AS_STORED: theirs, f16 where they are quantized */
    const char *class_name; /* NULL: as it was converted from, or the first of the architecture */
    uint64_t shard_bytes;   /* of weights in a file; 0: QUANT_SHARD_BYTES */
    bool replace;           /* a folder that holds nothing but such files */
    const char *cpu;        /* kernel level by name; NULL: the best */
    void (*warn)(void *ctx, const char *line);                  /* NULL: nobody asks */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes written; NULL: silent */
    void *warn_ctx, *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no folder; NULL: never */
} QuantExportOpts;

enum { QUANT_AS_STORED = -1 };

typedef struct QuantExported {
    char class_name[32], arch[16];
    DType type; /* of most weights in the folder */
    uint64_t n_tensors, n_params, n_expanded,
        bytes_out; /* n_expanded: tensors that were quantized */
    int n_files;   /* of weights */
    int32_t n_vocab;
    bool has_template;
} QuantExported;

/* Write the folder `dir`, whole or not at all. What was written has been read again. *st is filled on success.
 * ERR_UNSUPPORTED names what a folder cannot say, ERR_FORMAT a value that f16 cannot hold, ERR_ARG, ERR_IO,
 * ERR_CANCELLED. */
MUST_CHECK Status quant_export(QuantExported *st, const char *in, const char *dir,
                               const QuantExportOpts *o, Err *e);

#endif
