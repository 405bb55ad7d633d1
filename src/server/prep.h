/* SPDX-License-Identifier: Apache-2.0
 * Prep: a few threads that make requests ready for the engine, so that the loop never waits for JSON, a template, a
 * tokenizer or a grammar.
 *
 *   loop -[prep_push]-> waiting -[a thread]-> prepared there -[prep_take]-> loop
 *
 * A job whose client leaves is taken back (prep_cancel) if no thread has it yet; otherwise it comes out as the
 * others do. */
#ifndef INGOT_SERVER_PREP_H
#define INGOT_SERVER_PREP_H

#include "base/err.h"

typedef struct Prep Prep;
typedef struct Job Job;

/* run(j) on one of n_threads, once they are started; then knock(ctx), from that thread. ERR_NOMEM. */
MUST_CHECK Status prep_new(Prep **out, int n_threads, void (*run)(Job *j), void (*knock)(void *ctx),
                           void *ctx, Err *e);
/* Start the threads; jobs may have been pushed before. ERR_IO: some of them may run, prep_free ends them. */
MUST_CHECK Status prep_start(Prep *p, Err *e);
/* Waits for what is being prepared, drops what is waiting. Jobs are the caller's. NULL is fine. */
void prep_free(Prep *p);
void prep_push(Prep *p, Job *j);
/* True: it was waiting and is the caller's again. */
bool prep_cancel(Prep *p, Job *j);
/* One that is prepared, first come, first out; NULL: none. */
Job *prep_take(Prep *p);

#endif
