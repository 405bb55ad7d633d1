/* SPDX-License-Identifier: Apache-2.0
 * Adapters of random values for a trainable model, and models with an adapter merged in. Failures fail the running
 * case. */
#ifndef INGOT_TEST_LORA_BUILD_H
#define INGOT_TEST_LORA_BUILD_H

#include "model/lora.h"

typedef struct LoraSpec {
    uint64_t seed;
    int rank; /* matrix i has rank + i % 3 */
    float alpha;
    DType type;     /* of a and b, where the rows allow it */
    int every;      /* every so many-th matrix only; 0: all */
    bool no_embd;   /* nothing for token_embd */
    bool no_output; /* nor for the head */
    float size;     /* standard deviation of B's values; 0: 0.3 */
} LoraSpec;

/* Write an adapter for m. */
void lora_build_file(const char *path, const Model *m, const LoraSpec *s);
/* Add what the adapter adds to m's own weights, in double precision: scale * alpha / rank * B A. */
void lora_build_merge(Model *m, const char *path, float scale);

#endif
