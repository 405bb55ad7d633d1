/* SPDX-License-Identifier: Apache-2.0
 * Saving forward and backward of the decoder over packed rows, from the same device operations as inference.
 *
 * A micro-batch is n_row rows of T tokens. Token t of a row attends to its own document only: seg[t] is the
 * index in the row where that document begins, pos[t] counts from there. Gradients of all parameters add up
 * in one flat buffer laid out like the weights. Logits never exist whole: the loss and its gradient are
 * made a chunk of rows at a time. With gradient checkpointing only each layer's input is kept and the rest
 * of the layer is computed again in the backward (Chen et al. 2016). One thread. */
#ifndef INGOT_TRAIN_GRAPH_H
#define INGOT_TRAIN_GRAPH_H

#include "model/model.h"

typedef struct Graph Graph;

typedef struct GraphOpts {
    int n_row, T;
    bool checkpoint; /* keep layer inputs only */
    float
        dropout; /* after the embedding, on attention probabilities, on both branches of a layer */
    uint64_t drop_key;
} GraphOpts;

typedef struct GraphBatch {
    const int32_t *ids, *targets; /* [n_row * T]; a target below 0 is not counted */
    const int32_t *pos, *seg;     /* [n_row * T] */
    uint64_t index; /* number of the micro-batch since step 0: the dropout masks follow it */
} GraphBatch;

/* m is trainable (model_new) and borrowed. ERR_NOMEM names the bytes. */
MUST_CHECK Status graph_new(Graph **out, Model *m, const GraphOpts *o, Err *e);
void graph_free(Graph *g);
/* Bytes graph_new will take. */
size_t graph_bytes(const ModelConfig *c, const GraphOpts *o);
/* Gradient buffer, n_flat floats. */
BufAt graph_grads(const Graph *g);
void graph_zero_grads(Graph *g);
/* grads += scale * d(sum of losses); *loss_sum is the sum over counted targets in f64. */
MUST_CHECK Status graph_step(Graph *g, const GraphBatch *b, float scale, double *loss_sum, Err *e);
/* The loss only, without dropout. */
MUST_CHECK Status graph_eval(Graph *g, const GraphBatch *b, double *loss_sum, Err *e);
/* Logits of all rows, [n_row * T, V] host floats, without dropout (tests, divergence). */
MUST_CHECK Status graph_logits(Graph *g, const GraphBatch *b, float *logits, Err *e);
/* seg and pos of a row from its ids: a document ends with `eot` (eot < 0: one document). */
void graph_segments(const int32_t *ids, int T, int32_t eot, int32_t *seg, int32_t *pos);

#endif
