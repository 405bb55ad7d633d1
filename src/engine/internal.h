/* SPDX-License-Identifier: Apache-2.0
 * Shared between engine.c (life cycle, submit, cancel) and sched.c (what happens in a step). */
#ifndef INGOT_ENGINE_INTERNAL_H
#define INGOT_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/kv.h"

typedef struct Req {
    EngineReq in;     /* [const] in.prompt points at prompt below */
    uint64_t id;      /* [const] */
    int max_new;      /* [const] in.max_new, or less where the context ends before */
    struct Req *next; /* [mu] while waiting */
    _Atomic bool
        cancelled; /* [atomic] relaxed: set by any thread, looked at by the engine each step */
    int kv;        /* [engine] sequence of the KV pool, held only in RUN */
    int n_kv;      /* [engine] tokens whose K and V are written */
    int n_new;     /* [engine] tokens generated */
    int32_t last;  /* [engine] the newest of them */
    int n_rows, out_row; /* [engine] rows in the present step, row of logits or -1 */
    int32_t prompt[];    /* [const] */
} Req;

typedef struct Queue {
    Req *head, *tail;
    int n;
} Queue;

/* Counters that any thread may read. [atomic] relaxed; written by the engine thread. */
typedef struct Counters {
    _Atomic int n_blocks_used;
    _Atomic uint64_t n_prompt_tok, n_new_tok, n_steps;
} Counters;

struct Engine {
    Model *model;   /* [const] borrowed; called by the engine thread only */
    EngineOpts o;   /* [const] defaults filled in */
    int n_vocab;    /* [const] tokens that may be sampled */
    KvStore *store; /* [const] owned */
    pthread_t thread;

    pthread_mutex_t mu;  /* rank 20; never held over a callback or the model */
    pthread_cond_t wake; /* with mu: something to do, or stopping */
    Queue waiting;       /* [mu] first come, first served */
    uint64_t next_id;    /* [mu] */
    bool stopping;       /* [mu] */
    bool any_cancelled;  /* [mu] some waiting request is */
    Req **run;           /* [engine] writes under mu, others read under mu; owned, oldest first */
    int n_run;           /* the same */

    KvPool *pool;  /* [engine] owned */
    Batch batch;   /* [engine] points into the next three */
    int32_t *ints; /* [engine] owned; tok, pos, seq [max_rows each] and out [max_seqs] lie in it */
    int32_t *tok, *pos, *seq, *out;
    const int32_t **blocks; /* [engine] owned; [max_seqs] */
    void *scratch;          /* [engine] owned; of the sampler */
    Counters count;
};

/* Rows of the largest step. */
static inline int engine__max_rows(const EngineOpts *o) { return o->max_seqs + o->prefill_chunk; }

void engine__push(Queue *q, Req *r);
/* Unlink the first, NULL when empty. */
Req *engine__pop(Queue *q);

/* Admit, run one batch, hand out its tokens. Engine thread. */
void engine__step(Engine *en);
/* End of a request that runs (index i) or of one that left the queue. Frees it. Engine thread. */
void engine__finish_run(Engine *en, int i, FinishReason why, const Err *why_err);
void engine__finish(Req *r, FinishReason why, const Err *why_err);

#endif
