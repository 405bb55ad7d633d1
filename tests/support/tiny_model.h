/* SPDX-License-Identifier: Apache-2.0
 * A model of some thousand random weights in memory, whose greedy choices are clear: what the engine and
 * the evaluation are tested with. Failures fail the running case. */
#ifndef INGOT_TEST_TINY_MODEL_H
#define INGOT_TEST_TINY_MODEL_H

#include "model/model.h"

typedef struct TinyModel {
    Device *dev; /* owned */
    Model *m;    /* owned */
} TinyModel;

/* arch: "llama" or "gpt2"; V tokens of vocabulary, ctx of context; cpu: kernel level; NULL: as
 * INGOT_CPU says, else the best. */
TinyModel tiny_model_new(const char *arch, int V, int ctx, const char *cpu, uint64_t seed);
/* The same on a device whose rows do not depend on each other's number. */
TinyModel tiny_model_invariant(const char *arch, int V, int ctx, const char *cpu, uint64_t seed);
void tiny_model_free(TinyModel *t);
/* Write NaN over the embedding of token id. */
void tiny_model_poison(TinyModel *t, int32_t id);
/* Logits after ids[n], computed in one go from an empty cache into out[V]. */
void tiny_model_logits(TinyModel *t, float *out, const int32_t *ids, int n);

#endif
