/* SPDX-License-Identifier: Apache-2.0
 * Making an importance matrix (quant/imatrix.h): a text goes through a model in windows, and for each weight
 * matrix the squares of what its columns are multiplied with are added up. Counted as llama.cpp counts: every
 * token of a window, matrices of the layers only, the head if asked for. */
#ifndef INGOT_QUANT_COLLECT_H
#define INGOT_QUANT_COLLECT_H

#include <stdatomic.h>

#include "model/model.h"

/* Zero is the default of every field. */
typedef struct ImatOpts {
    int ctx;        /* tokens of a window; default 512, or the model's context if that is less */
    int max_chunks; /* windows; 0: as many as the text fills */
    bool process_output; /* output.weight too */
    int n_threads;       /* for the sums; 0: 1. The result does not depend on it */
    bool has_bos;        /* bos stands in place of each window's first token */
    int32_t bos;
    const char *dataset; /* the text's name, for the file; NULL: none */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* windows */
    void *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} ImatOpts;

typedef struct ImatStats {
    int n_chunks, ctx, n_entries;
} ImatStats;

/* ids[n] are the text's tokens; the model is used by nobody else meanwhile. The file appears whole or not at
 * all. ERR_ARG: ctx out of range, a text shorter than a window; ERR_INTERNAL: activations that are not
 * finite; ERR_NOMEM, ERR_IO, ERR_CANCELLED. */
MUST_CHECK Status imat_collect(ImatStats *st, const char *out, Model *m, const int32_t *ids,
                               size_t n, const ImatOpts *o, Err *e);

#endif
