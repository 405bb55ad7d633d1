/* SPDX-License-Identifier: Apache-2.0
 * Shared inside train/. */
#ifndef INGOT_TRAIN_INTERNAL_H
#define INGOT_TRAIN_INTERNAL_H

#include "data/data.h"
#include "train/train.h"

/* Architecture of a model from scratch. ERR_ARG names the key. */
MUST_CHECK Status train__model_config(ModelConfig *m, const TrainConfig *c, int n_vocab, Err *e);
LrSchedule train__schedule(const TrainConfig *c, int64_t max_iters);
/* Rules between keys that single ranges cannot say. */
MUST_CHECK Status train__check(const TrainConfig *c, Err *e);
bool train__key_is_free(const char *key);

/* ---- batches ---- */
/* Rows of a shard in a fixed random order: row i of the run is a function of (seed, i) alone. */
typedef struct Loader {
    const Shard *shard; /* borrowed */
    int n_row, T;
    uint64_t key;
    bool doc_mask;
    int32_t *ids, *targets, *pos, *seg; /* owned, [n_row * T] */
    int32_t *span;                      /* owned, [T + 1] */
} Loader;

/* ERR_ARG if the shard is shorter than one row. */
MUST_CHECK Status loader_init(Loader *l, const Shard *s, int n_row, int T, uint64_t key,
                              bool doc_mask, Err *e);
void loader_deinit(Loader *l);
/* Micro-batch `index`: shuffled for training; `in_order` walks the shard from its start instead. */
MUST_CHECK Status loader_get(Loader *l, uint64_t index, bool in_order, GraphBatch *out, Err *e);
/* Whole rows in the shard. */
uint64_t loader_n_rows(const Loader *l);

/* ---- checkpoints ---- */
/* What besides weights and moments a run must remember. */
typedef struct RunState {
    int64_t iter, max_iters; /* steps done, steps in all */
    int64_t best_iter, n_bad_evals;
    double best_val; /* infinity before the first validation */
    double loss_sum; /* of the steps since the last validation */
    int64_t loss_count;
    uint64_t metrics_bytes; /* length of metrics.jsonl at this point */
} RunState;

/* Write atomically: weights, moments, state, and the configuration's keys for the check on resuming. */
MUST_CHECK Status ckpt_save(const char *path, const Model *m, const Optim *o, const RunState *s,
                            const OptSet *opts, Err *e);
/* Read into a model and optimizer of the same shape. ERR_ARG names the key in which this configuration differs
 * from the checkpoint's. */
MUST_CHECK Status ckpt_load(const char *path, Model *m, Optim *o, RunState *s, const OptSet *opts,
                            Err *e);
/* The architecture a checkpoint is of. */
MUST_CHECK Status ckpt_read_config(const char *path, ModelConfig *c, Err *e);

#endif
