/* SPDX-License-Identifier: Apache-2.0
 * Choosing the next token from a row of logits. Random numbers are keyed by (seed, position), so a seed
 * means the same thing whatever else is in the batch. */
#ifndef INGOT_ENGINE_SAMPLE_H
#define INGOT_ENGINE_SAMPLE_H

#include "base/err.h"

typedef struct SampleOpts {
    double temp;   /* 0: greedy; 0 .. 100 */
    int64_t top_k; /* 0: off */
    double top_p;  /* (0, 1]; 1: off */
    uint64_t seed;
} SampleOpts;

/* ERR_ARG naming the field, its value and the limit: NaN, negative and absurd values are refused. */
MUST_CHECK Status sample_check(const SampleOpts *o, Err *e);
/* Bytes of scratch that sample_next needs for a vocabulary. */
size_t sample_scratch_bytes(int n_vocab);
/* The token after `pos` tokens. logits[n_vocab] stay as they are. Ties go to the lower id; order: top-k,
 * then softmax at temp, then top-p over the sorted rest. All -inf or NaN logits: ERR_INTERNAL. */
MUST_CHECK Status sample_next(int32_t *id, const float *logits, int n_vocab, const SampleOpts *o,
                              uint64_t pos, void *scratch, Err *e);

#endif
