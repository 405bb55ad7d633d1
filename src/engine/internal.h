/* SPDX-License-Identifier: Apache-2.0
 * Shared between engine.c (life cycle, submit, cancel), queue.c (who waits), sched.c (what happens in a step),
 * pick.c (which token comes), spec.c (drafts) and spec_model.c (a draft model). */
#ifndef INGOT_ENGINE_INTERNAL_H
#define INGOT_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "engine/kv.h"
#include "engine/metrics.h"
#include "engine/pace.h"

typedef struct Ask Ask;         /* what a request wants of its prompt, and how far that is: ask.c */
typedef struct Adapter Adapter; /* see adapter.c */

/* Drafts of one request; see spec.c. [engine] all but off. */
typedef struct SpecReq {
    bool off;           /* [const] never: it has a token that the draft model does not know */
    int n_draft;        /* rows of the present step that are guesses: tok[n_tok ..] */
    int want;           /* so many of them at most */
    int len;            /* of its next draft */
    int n_miss, wait;   /* wrong drafts lately; tokens until the next draft */
    int n_kv;           /* tokens whose K and V the draft model has written */
    GrammarState ahead; /* behind its draft */
} SpecReq;

typedef struct Req {
    EngineReq in;     /* [const] in.prompt points at tok below */
    uint64_t id;      /* [const] */
    int max_tok;      /* [const] tokens it may have in all */
    Sha256 root;      /* [const] what its blocks' hashes begin with */
    double deadline;  /* [const] clock_now_s; 0: none */
    Adapter *adapter; /* [const] held; NULL: none */
    LoraUse use;      /* [const] of its rows */
    struct Req *next; /* [mu] while waiting */
    _Atomic bool
        cancelled; /* [atomic] relaxed: set by any thread, looked at by the engine each step */
    int kv;        /* [engine] sequence of the KV pool, held only in RUN */
    int n_tok;     /* [engine] tokens known: prompt and generated */
    int n_kv;      /* [engine] of these, those whose K and V are written */
    bool admitted; /* [engine] at least once */
    int n_rows, out_row;        /* [engine] rows in the present step, row of logits or -1 */
    ReqTimes t;                 /* [engine] once it is queued; for metrics */
    int n_cached;               /* [engine] prompt tokens that the prefix cache had */
    bool is_read;               /* [engine] its whole prompt went through the model once */
    Ask *ask;                   /* [engine] owned; NULL: nothing but new tokens */
    bool asked;                 /* [engine] rows of this step are wanted by it */
    int row0;                   /* [engine] row of the batch at which its rows begin */
    int i_seq;                  /* [engine] its number in the batch */
    int32_t copy_src, copy_dst; /* [engine] block that is to be copied before this step; -1: none */
    SampleHist *hist;           /* [engine] owned; NULL: no penalties */
    Grammar *grammar;           /* [engine] owned; NULL: none */
    GrammarState place;         /* [engine] in it */
    SpecReq spec;
    SampleOut picked; /* [engine] what its first row of logits gave, if is_picked; see pick.c */
    bool is_picked;   /* [engine] */
    int32_t tok[];    /* [engine] [max_tok]; the prompt part never changes */
} Req;

/* A choice that is read beside the one behind its request's prompt, in this step alone: a sequence of its own that
 * shares the prompt's blocks. See ask.c. [engine] */
typedef struct Branch {
    Req *r; /* NULL: it left in this step, and the sequence with it */
    int kv; /* sequence of the KV pool */
    int i_choice;
    int n_rows, row0, i_seq; /* in the batch */
} Branch;

/* In the order of their turn: priority, then id. */
typedef struct Queue {
    Req *head, *tail;
    int n;
    int64_t n_tok; /* of their prompts */
} Queue;

enum { ENGINE_PICKERS = 4 }; /* threads that choose tokens, at most */

/* What computes, and what time it is: the model and the clock, or a test's stand-ins. */
typedef struct EngineBack {
    Status (*forward)(void *ctx, const Batch *b, const float **logits, Err *e);
    void (*kv_copy)(void *ctx, int32_t dst, int32_t src);
    void *ctx;
    double (*now)(void *ctx); /* seconds; any thread. NULL: clock_now_s */
    /* Of other rows of the batch that forward had last, if that was not only_out: model_logits, model_hidden.
     * Requests with an ask need them. */
    Status (*logits)(void *ctx, const Batch *b, const float **logits, Err *e);
    Status (*hidden)(void *ctx, const Batch *b, const float **hidden, Err *e);
    DeviceHost host; /* no team: the engine's thread does all; no kern: the best of this machine */
} EngineBack;

/* What guesses; see spec.c and spec_model.c. */
typedef struct Spec {
    int k;           /* [const] longest draft; 0: none */
    int max_draft;   /* [const] guesses of a step */
    int lo, hi;      /* [const] lengths of the runs looked for */
    EngineBack back; /* [const] of the draft model; forward NULL: there is none */
    KvStore *store;  /* [const] owned; of the draft model, with the pool's block numbers */
    int V, ctx;      /* [const] of the draft model */
    bool broken;     /* [engine] it failed and is asked no more */
    Batch batch;     /* [engine] the draft model's; points into ints and Engine.blocks */
    int32_t *ints;   /* [engine] owned; tok, pos, seq and out lie in it */
    int32_t *tok, *pos, *seq, *out;
} Spec;

struct Engine {
    Model *model;     /* [const] borrowed; called by the engine thread only; NULL with a stand-in */
    EngineBack back;  /* [const] */
    Kern kern;        /* [const] for stand-ins, which have none */
    EngineOpts o;     /* [const] defaults filled in */
    int V;            /* [const] floats of a row of logits */
    int C;            /* [const] floats of a hidden state */
    double head_work; /* [const] what a row's logits cost, in rows */
    int n_vocab;      /* [const] tokens that may be sampled */
    int32_t *end_ids; /* [const] owned; tokens of the vocabulary that end a text */
    int n_end_ids;    /* [const] */
    KvStore *store;   /* [const] owned */
    pthread_t thread;

    pthread_mutex_t mu;  /* rank 20; never held over a callback or the model */
    pthread_cond_t wake; /* with mu: something to do, or stopping */
    Queue waiting;       /* [mu] */
    uint64_t next_id;    /* [mu] */
    bool stopping;       /* [mu] */
    uint64_t n_loads;    /* [mu] of adapters, so far */
    Adapter **adapters;  /* [mu] owned, as are they; [max_loras]; NULL where a place is free */
    Req **run; /* [engine] writes under mu, others read under mu; owned; in the queue's order */
    int n_run; /* the same */

    KvPool *pool; /* [engine] owned */
    Pace pace;    /* [engine] */
    uint64_t
        stuck_id;   /* [engine] the request that found no room, with so many blocks free; 0: none */
    int stuck_free; /* [engine] */
    int n_dropped;  /* [engine] sequences preempted in this step */
    Batch batch;    /* [engine] points into the next three */
    int32_t *
        ints; /* [engine] owned; tok, pos, seq [max_rows each] and out [engine__max_out] lie in it */
    int32_t *tok, *pos, *seq, *out;
    const int32_t **blocks; /* [engine] owned; [engine__max_tables] */
    LoraUse *uses;          /* [engine] owned; the same; NULL without adapters */
    Branch *branch;         /* [engine] owned; [engine__max_branches] */
    int n_branch;           /* [engine] of this step */
    Sampler
        *sampler[ENGINE_PICKERS]; /* [engine] owned, as one piece; one for each share of a step */
    int n_picker;                 /* [const] of them */
    uint32_t *mask; /* [engine] owned; tokens that a grammar allows; NULL without a vocab */
    Spec spec;
    int n_wrong; /* [engine] guesses of this step that were wrong */
    Metrics m;   /* who writes what stands in metrics.h */
};

/* Rows of the largest step. */
static inline int engine__max_rows(const EngineOpts *o) { return o->max_seqs + o->prefill_chunk; }

/* Choices that a step reads beside those in their requests' own sequences. */
static inline int engine__max_branches(const EngineOpts *o) { return MIN(o->max_seqs, 16); }

/* Sequences of the largest step. */
static inline int engine__max_tables(const EngineOpts *o) {
    return o->max_seqs + engine__max_branches(o);
}

/* Guesses of the largest step. */
static inline int engine__max_draft(const EngineOpts *o) {
    return MIN(o->spec_k * o->max_seqs, o->prefill_chunk);
}

/* Rows of logits of the largest step. */
static inline int engine__max_out(const EngineOpts *o) {
    return o->max_seqs + engine__max_draft(o);
}

/* The same engine over something else that computes: c gives V and ctx. */
MUST_CHECK Status engine__new_over(Engine **out, const ModelConfig *c, const EngineBack *back,
                                   const EngineOpts *o, Err *e);
/* And with something else that guesses instead of n-grams, which have to be asked for. */
MUST_CHECK Status engine__new_over_two(Engine **out, const ModelConfig *c, const EngineBack *back,
                                       const EngineBack *draft, const EngineOpts *o, Err *e);

/* Seconds of the engine's clock. Any thread. */
double engine__now(const Engine *en);
/* The gauges of who runs and who waits. mu held. */
void engine__count_queue(Engine *en);

/* ---- req.c ---- */

/* ERR_ARG for what can never run. */
MUST_CHECK Status engine__req_check(const Engine *en, const EngineReq *r, Err *e);
/* A copy with all it borrows; the grammar stays the caller's (see engine__req_own). ERR_NOMEM, ERR_FULL. */
MUST_CHECK Status engine__req_new(Req **out, const Engine *en, const EngineReq *r, Err *e);
/* From now on the grammar is the request's. */
void engine__req_own(Req *r);
/* NULL is fine. */
void engine__req_free(Req *r);

/* ---- ask.c: r->ask may be NULL where a Req is taken ---- */

/* ERR_ARG; r->ask is there. */
MUST_CHECK Status engine__ask_check(const Engine *en, const EngineReq *r, Err *e);
/* Tokens of the longest choice. */
int engine__ask_longest(const EngineReq *r);
/* Copies what is asked for into r, whose prompt is there; the first choice is put behind it. ERR_NOMEM. */
MUST_CHECK Status engine__ask_new(Req *r, const Engine *en, const EngineAsk *in, Err *e);
/* NULL is fine. */
void engine__ask_free(Ask *a);
/* How many tokens' K and V may come from elsewhere: no row before is still wanted. */
int engine__ask_reusable(const Req *r);
/* How many of n written tokens others may find. */
int engine__ask_committable(const Req *r, int n);
/* Whether the rows it has now are wanted one by one, or the next takes logits of its own. */
bool engine__ask_is_dense(const Req *r);
/* Whether there is something to tell after this step. */
bool engine__ask_in_step(const Req *r);
/* Whether there is still something to tell: until then no guesses follow its tokens. */
bool engine__ask_is_pending(const Req *r);
/* Rows of this step whose logits it wants. */
int engine__ask_n_logits(const Req *r);

typedef enum AskEnd {
    ASK_GOES_ON,   /* rows are still to come */
    ASK_AGAIN,     /* another choice stands behind the prompt: n_kv goes back to its end */
    ASK_GENERATES, /* all is told, new tokens follow */
    ASK_DONE,      /* all is told, and that was it */
    ASK_FAILED,    /* e: this request alone */
    ASK_LOST       /* e: the model failed */
} AskEnd;

/* Where r's rows of this step complete a choice: read those that come after it as well, in at most `left` rows and
 * blocks that nobody else will need at once. Returns the rows. */
int engine__ask_branch(Engine *en, Req *r, int left);
/* Tokens of a choice of r. */
const int32_t *engine__ask_choice(const Req *r, int i);
/* Branches of r go, or all that are left of this step (NULL). */
void engine__ask_drop_branches(Engine *en, const Req *r);
/* Tell what the rows of this step bring; the model ran, n_kv stands before them. Engine thread. */
AskEnd engine__ask_step(Engine *en, Req *r, Err *e);

/* ---- adapter.c ---- */

/* Places for adapters, and room in the model. ERR_NOMEM. */
MUST_CHECK Status engine__adapters_init(Engine *en, Err *e);
void engine__adapters_deinit(Engine *en);
/* Bytes that adapters and their work take at most; r has its defaults. */
size_t engine__adapters_bytes(const EngineOpts *r);
/* Hold the adapter that r->in names; its version and scale become part of r->root. ERR_NOT_FOUND, ERR_ARG. */
MUST_CHECK Status engine__adapter_hold(Req *r, const Engine *en, Err *e);
/* Let go of it. Any thread. */
void engine__adapter_drop(Req *r);
/* Whether their rows may be one product. */
bool engine__same_use(const Req *a, const Req *b);

/* ---- queue.c ---- */

/* Whether a has its turn before b. */
bool engine__before(const Req *a, const Req *b);
/* At its place in the order. */
void engine__put(Queue *q, Req *r);
/* Unlink the first, NULL when empty. */
Req *engine__pop(Queue *q);
/* Unlink r, which is among them. */
void engine__take(Queue *q, Req *r);
/* Unlink those that are cancelled or past their deadline, order kept. */
Queue engine__take_dead(Queue *q, double now);
/* Why this one must end now: FINISH_CANCELLED, FINISH_DEADLINE; false if it need not. */
bool engine__is_dead(const Req *r, double now, FinishReason *why);

/* ---- sched.c ---- */

/* Admit, run one batch, hand out its tokens. Engine thread. */
void engine__step(Engine *en);
/* Whether the token ends the request and is not given out. */
bool engine__ends_text(const Engine *en, const Req *r, int32_t id);
/* End of a request that runs (index i) or of one that left the queue. Frees it. Engine thread. */
void engine__finish_run(Engine *en, int i, FinishReason why, const Err *why_err);
void engine__finish(Engine *en, Req *r, FinishReason why, const Err *why_err);

/* ---- pick.c ---- */

/* The model ran: the tokens that follow from the first row of each request, as far as threads can share them. */
void engine__pick_all(Engine *en, const float *logits);
/* The token that a row of logits gives to r. ERR_INTERNAL (the row), ERR_ARG (nothing is left to choose from),
 * or the grammar's. */
MUST_CHECK Status engine__pick(SampleOut *out, Engine *en, Req *r, const float *row, Err *e);

/* ---- spec.c ---- */

/* Before the request is queued. ERR_NOMEM, ERR_FULL (its grammar's). */
MUST_CHECK Status spec__start(const Engine *en, Req *r, Err *e);
/* Rows are given: guess what follows the last known tokens, as far as rows, blocks and time are left. Guesses
 * are r->tok[n_tok .. n_tok + n_draft) and rows of this step. Engine thread. */
void spec__draft(Engine *en);
/* So many of r's guesses were right. */
void spec__learn(Engine *en, Req *r, int n_right);
/* Append a guess. False: the draft ends before it. */
bool spec__push(Engine *en, Req *r, int32_t id);

/* ---- spec_model.c ---- */

/* c: the target's configuration. ERR_ARG: vocabularies differ; ERR_NOMEM. */
MUST_CHECK Status spec__model_open(Engine *en, const ModelConfig *c, Err *e);
/* Guesses of the draft model, up to r->spec.want of each. */
void spec__model_draft(Engine *en);
size_t spec__model_bytes(const EngineOpts *o, DType kv_type);

#endif
