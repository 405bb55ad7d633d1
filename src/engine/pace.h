/* SPDX-License-Identifier: Apache-2.0
 * How long a step will take, and so how many prompt rows it may have while streams are talking.
 *
 *   seconds = fixed + per_work * work      work = sum over rows of 1 + attn * context
 *
 * fixed is what a step costs however few its rows (weights pass through the processor once), and attn weighs a
 * token of context against a row's way through the weights. Both unknowns follow from the steps that were
 * measured, by least squares with forgetting. Where the steps hardly differ in work, noise may turn that line flat, and
 * a flat line would allow a prompt any number of rows: so the slope is never taken for less than most of what a unit of
 * work cost in the largest steps, where the fixed part counts little. Pure arithmetic; engine thread. */
#ifndef INGOT_ENGINE_PACE_H
#define INGOT_ENGINE_PACE_H

#include <stdbool.h>

typedef struct Pace {
    double attn;            /* work of one token of context, in rows */
    double n, x, y, xx, xy; /* decayed sums of the samples: count, work, seconds */
    double fixed, per_work; /* the line through them; per_work 0: nothing known yet */
    bool vague;             /* they are too alike to tell the two apart */
    double dense,
        dense_at; /* seconds a unit of work in the largest steps of late, and their work */
} Pace;

/* row_ops, ctx_ops: operations of a row's products, and of its attention to one token. */
void pace_init(Pace *p, double row_ops, double ctx_ops);
/* Work of n rows that stand at positions from .. from + n - 1. */
double pace_work(const Pace *p, int n, int from);
/* A step of so much work took so long. A step far longer than foreseen counts as three times that: a process
 * that was stopped for a while says nothing about the model. */
void pace_observe(Pace *p, double work, double seconds);
/* Seconds a step of this much work will take; 0 while nothing is known. */
double pace_predict(const Pace *p, double work);
/* Prompt rows, from position `from` on, that fit beside rows of `work` in `limit` seconds: 1 .. most. Where
 * the other rows alone come near the limit, the prompt still gets a third of the step; half of it where all steps
 * were so alike that rows may be cheaper than they look, which the larger step will tell. */
int pace_rows(const Pace *p, double work, int from, double limit, int most);

#endif
