/* SPDX-License-Identifier: Apache-2.0
 * A training run: configuration, plan, loop, checkpoints.
 *
 *   runs/NAME/   config.yaml     every key with its value
 *                metrics.jsonl   loss, learning rate, gradient norm; the same bytes for the same run
 *                speed.jsonl     tokens per second, share of the machine's peak
 *                model.gguf      weights with the lowest validation loss so far (last ones without validation)
 *                ckpt.gguf       everything to go on from: weights, moments, step, counters
 *                report.html     curves
 *
 * run: PLAN -[train_run]-> STEP ... -[eval_interval]-> EVAL -> STEP ... -> DONE
 *      STEP -[checkpoint_interval, stop flag, end]-> ckpt.gguf replaced as a whole
 *
 * Nothing in a run depends on when or how often it was interrupted, nor on the number of threads: batches,
 * dropout masks and the schedule are functions of the step number, checkpoints are written whole or not at
 * all, and on resuming metrics.jsonl is cut back to where the checkpoint was made. */
#ifndef INGOT_TRAIN_TRAIN_H
#define INGOT_TRAIN_TRAIN_H

#include <stdatomic.h>

#include "base/opt.h"
#include "train/graph.h"
#include "train/optim.h"

/* The keys of a training configuration; train_options() describes each. */
typedef struct TrainConfig {
    const char *name, *out_dir, *dataset, *init_from, *arch, *schedule, *dtype, *device, *cpu;
    int64_t n_layer, n_head, n_kv_head, head_dim, n_embd, n_ff, block_size, batch_size,
        gradient_accumulation_steps;
    int64_t max_iters, lr_decay_iters, warmup_iters, eval_interval, eval_iters, log_interval,
        checkpoint_interval;
    int64_t early_stop, seed, threads, train_seconds;
    double learning_rate, min_lr, weight_decay, beta1, beta2, eps, grad_clip, dropout, rope_theta,
        norm_eps;
    bool decay_lr, compile, gradient_checkpointing, tie_embeddings, doc_mask,
        always_save_checkpoint, resume, overwrite;
} TrainConfig;

/* The option table (keys, types, ranges, defaults, help); one row gives flag, YAML key and documentation. */
const OptSpec *train_options(int *n);

/* What will happen, known before the first step. */
typedef struct TrainPlan {
    ModelConfig model;
    uint64_t n_params, n_train_tok, n_val_tok, tok_per_step;
    size_t peak_bytes, limit_bytes; /* memory of the whole process at its highest; what there is */
    size_t weight_bytes, moment_bytes, act_bytes, other_bytes;
    int64_t max_iters, start_iter;
    double tok_s, seconds; /* measured on one step; estimate of the rest */
    double peak_flops;     /* of the dense product core on all threads, measured */
    char device[96];
} TrainPlan;

typedef struct TrainStep {
    int64_t iter, max_iters;
    double loss, lr, grad_norm, tok_s, mfu, step_ms;
} TrainStep;

typedef struct TrainEval {
    int64_t iter;
    double train_loss, val_loss, best_val;
    int64_t best_iter;
    bool is_best;
} TrainEval;

typedef struct TrainEvents {
    void (*note)(void *ctx, const char *line);   /* what is used instead of what was asked for */
    void (*plan)(void *ctx, const TrainPlan *p); /* once, before the first step */
    void (*step)(void *ctx, const TrainStep *s); /* after every step */
    void (*eval)(void *ctx, const TrainEval *v);
    void *ctx;
    const atomic_int *stop; /* non-zero: checkpoint and return ERR_CANCELLED. NULL: never */
} TrainEvents;

/* How a run ended. */
typedef struct TrainResult {
    int64_t iters, best_iter;
    double best_val, last_loss, seconds, tok_s;
    bool stopped_early;
    char model_path[512], report_path[512];
} TrainResult;

/* Train as configured; `opts` is the set the configuration was parsed with (for config.yaml). Events are
 * called on this thread. ERR_ARG names a key; ERR_NOMEM the plan that does not fit. */
MUST_CHECK Status train_run(TrainResult *r, const TrainConfig *c, const OptSet *opts,
                            const TrainEvents *ev, Err *e);

#endif
