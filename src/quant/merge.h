/* SPDX-License-Identifier: Apache-2.0
 * A LoRA adapter (model/lora.h) added into its model's weights: W + s B A in float, then back in W's type. Where that
 * type has blocks, what was added is rounded with the rest: f16 or bf16 keep more of it. */
#ifndef INGOT_QUANT_MERGE_H
#define INGOT_QUANT_MERGE_H

#include <stdatomic.h>

#include "quant/export.h"

typedef struct QuantMergeOpts {
    int type;        /* of matrices: DT_F32, DT_F16, DT_BF16; QUANT_AS_STORED: the base's */
    double scale;    /* times alpha / rank; finite */
    int n_threads;   /* 0: 1 */
    const char *cpu; /* kernel level by name; NULL: the best */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes read; NULL: silent */
    void *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} QuantMergeOpts;

typedef struct QuantMerged {
    int n_pairs, rank; /* matrices that changed; the largest rank */
    int n_blocks;      /* of them, back in a type with blocks */
    double alpha;
    uint64_t n_tensors, file_out;
} QuantMerged;

/* Write `out` from the model and the adapter, atomically. All metadata comes along; ingot.lora.merged names the
 * adapter. ERR_UNSUPPORTED for an adapted embedding whose rows are the head's, too; ERR_FORMAT for a value that the
 * type cannot hold; else as lora_read_pairs and quant_file. */
MUST_CHECK Status quant_merge(QuantMerged *st, const char *base, const char *adapter,
                              const char *out, const QuantMergeOpts *o, Err *e);

#endif
