/* SPDX-License-Identifier: Apache-2.0
 * Pooled: the hidden states of several texts, asked of the engine a few at a time. The memory belongs to the job and to
 * each request that runs for it, and goes with the last of them, so a client may leave at any time. */
#ifndef INGOT_SERVER_EMBED_H
#define INGOT_SERVER_EMBED_H

#include "engine/answer.h"

typedef struct Pooled Pooled;

typedef struct PooledOpts {
    EngineDoor door;
    AskPool pool;
    bool normalize;
    const char *adapter; /* borrowed */
    int priority;
    double timeout_s; /* of all texts together; 0: none */
    bool salted;      /* prefixes are shared with the same salt only */
    Sha256 salt;
    int n, width;            /* texts; numbers of a state */
    void (*wake)(void *ctx); /* engine's thread, when a text is done */
    void *wake_ctx;
} PooledOpts;

/* ERR_NOMEM. */
MUST_CHECK Status pooled_new(Pooled **out, const PooledOpts *o, Err *e);
/* The job lets go; what runs is cancelled. NULL is fine. */
void pooled_free(Pooled *p);
/* The tokens of text i, taken. */
void pooled_set(Pooled *p, int i, TokBuf *ids);
/* Submit as many as may run side by side. Any thread, one at a time. */
void pooled_step(Pooled *p);
bool pooled_done(const Pooled *p);
/* What went wrong first; code OK: nothing. When done. */
Err pooled_error(const Pooled *p);
/* The state of text i, [width]. When done. */
const float *pooled_at(const Pooled *p, int i);

#endif
