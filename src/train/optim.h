/* SPDX-License-Identifier: Apache-2.0
 * Learning-rate schedules, gradient clipping and AdamW over the flat parameter buffer. */
#ifndef INGOT_TRAIN_OPTIM_H
#define INGOT_TRAIN_OPTIM_H

#include "model/model.h"

typedef enum LrKind { LR_COSINE, LR_LINEAR, LR_CONSTANT } LrKind;

/* step < warmup: lr (step + 1) / (warmup + 1); step > decay: min_lr; between: half a cosine, or a straight
 * line, from lr to min_lr. LR_CONSTANT is lr after the warm-up. */
typedef struct LrSchedule {
    LrKind kind;
    double lr, min_lr;
    int64_t warmup, decay;
} LrSchedule;

/* Learning rate of a step, counted from 0. Any thread. */
double lr_at(const LrSchedule *s, int64_t step);

typedef struct AdamwOpts {
    double beta1, beta2, eps, weight_decay, clip; /* clip 0: off */
} AdamwOpts;

typedef struct Optim Optim;

/* Moments for every parameter of m (borrowed), zero. ERR_NOMEM. */
MUST_CHECK Status adamw_new(Optim **out, Model *m, const AdamwOpts *o, Err *e);
void adamw_free(Optim *o);
/* One update with gradients as they are: clipped to a global norm of o.clip by min(1, clip / (norm + 1e-6)),
 * weight decay on matrices only. t counts from 1. *grad_norm is before clipping; a norm that is not finite
 * is ERR_INTERNAL and nothing changes. */
MUST_CHECK Status adamw_step(Optim *o, BufAt grads, double lr, int64_t t, double *grad_norm,
                             Err *e);
/* The moments, n_flat floats each, for checkpoints. */
BufAt adamw_m(const Optim *o);
BufAt adamw_v(const Optim *o);

#endif
