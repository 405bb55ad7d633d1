/* SPDX-License-Identifier: Apache-2.0
 * Engine: the narrow door to generation. One engine thread owns sequences and KV blocks and runs one
 * ragged batch per step; everybody else submits a request, reads events through callbacks and may cancel.
 *
 *             .------------[a block is needed, none is free]------------.
 *             v                                                         |
 * request: QUEUED -[its turn, and all its tokens so far fit]-> RUN -----'
 *             |                                                 |
 *             '-----[cancel, deadline]-----> DONE <-------------'[end token, length, cancel, deadline, failure]
 *
 * Every submitted request gets exactly one on_done, whatever happens. */
#ifndef INGOT_ENGINE_ENGINE_H
#define INGOT_ENGINE_ENGINE_H

#include "base/sha.h"
#include "engine/ask.h"
#include "engine/grammar/grammar.h"
#include "engine/metrics.h"
#include "engine/sample.h"
#include "model/lora.h"
#include "token/token.h"

typedef struct Engine Engine;

/* Requests of this priority and above (batches) give their places to any that wait with a lower one. */
enum { ENGINE_IDLE = 1 << 24 };

enum { ENGINE_MAX_DRAFT = 32, ENGINE_MAX_NGRAM = 32 };

typedef enum FinishReason {
    FINISH_STOP,
    FINISH_LENGTH,
    FINISH_CANCELLED,
    FINISH_DEADLINE,
    FINISH_ERROR
} FinishReason;

/* Zero is the default of every field. */
typedef struct EngineOpts {
    int max_seqs;      /* sequences decoded together; default 8 */
    int max_ctx;       /* tokens of one sequence, prompt included; 0: the model's context length */
    int prefill_chunk; /* most prompt tokens of a step; default 256 */
    int itl_target_ms; /* a step with streams that are talking should not take longer; default 100 */
    int max_queue;     /* requests waiting beyond those that run; default 256 */
    int64_t max_queue_tok; /* their prompt tokens; default 1,048,576 */
    int n_blocks;          /* KV blocks of 32 tokens; 0: as kv_bytes says */
    size_t kv_bytes;       /* of the KV cache; 0: enough for max_seqs full sequences */
    size_t warm_bytes;     /* of the KV cache: their memory is there before the first request */
    KvType kv_type;        /* of the KV cache: f16, q8_0 (half the memory), f32 */
    bool no_prefix;        /* compute every prompt anew, also where it begins like an earlier one */
    bool check;            /* walk the KV pool's invariants after every step (tests) */
    int max_loras;         /* adapters loaded at one time; default 0 */
    int max_lora_rank;     /* of any of them; default 64 */
    size_t lora_bytes;     /* of all together; 0: so many of that rank for all layers, in f32 */
    /* Speculation (spec.c): the text stays what it is, it comes in larger steps where guesses are right. */
    int spec_k; /* tokens guessed at a time, at most; default 8 if one of the next two is set */
    int spec_ngram; /* guess what followed the newest tokens before: the longest run looked for; 0: off */
    int spec_ngram_min; /* the shortest; default 2 */
    Model *draft;       /* guess what this small model says; borrowed as the model is; NULL: none */
    const Tokenizer
        *draft_tok; /* borrowed during engine_new: held against tok; NULL: not looked at */
    const GrammarVocab *vocab; /* borrowed; NULL: requests with a grammar are refused */
    const Tokenizer *tok;      /* borrowed: its end tokens stop a request; NULL: none do */
} EngineOpts;

/* What a submitter may want to know besides the tokens. */
typedef struct EngineUsage {
    int n_cached;    /* prompt tokens that were there already; written before the first on_token */
    int32_t stop_id; /* the end or stop token that came; written before on_done, else left alone */
    ReqTimes times;  /* written before on_done; of clock_now_s */
} EngineUsage;

typedef struct EngineReq {
    const int32_t *prompt; /* copied by engine_submit */
    int n_prompt;          /* 1 .. max_ctx - 1; max_ctx with max_new 0 */
    int max_new;           /* >= 1, or 0 with an ask; a full context is FINISH_LENGTH, too */
    const EngineAsk *ask;  /* what is wanted of the prompt; NULL: nothing; copied */
    SampleOpts sample;     /* its lists are copied */
    bool ignore_end;       /* go on after end tokens */
    Grammar *grammar; /* the answer keeps to it; NULL: none. The engine's, once it was submitted */
    const char *
        adapter; /* name of a loaded adapter; NULL: the model as it is. Borrowed while submitting */
    double adapter_scale; /* times the adapter's own scale; 0: 1 */
    int priority;         /* lower ones first; equal ones first come, first served */
    double timeout_s;     /* from now on, queueing included; 0: none */
    int n; /* answers its client wants of this prompt, told with the first; metrics only */
    uint64_t sibling; /* an earlier request with the same prompt: its KV is shared; 0: none */
    const Sha256
        *salt; /* only requests with the same salt share prefixes (tenants); NULL: none; copied */
    /* Engine thread. Must not block and must not call into the engine, engine_cancel excepted. The end
     * token itself is not given to on_token, unless ignore_end is set. Either may be NULL. */
    void (*on_token)(void *ctx, const SampleOut *t); /* t->id, and what sample.logprobs asked for */
    void (*on_done)(void *ctx, FinishReason why, const Err *e); /* e only with FINISH_ERROR */
    void *ctx;
    EngineUsage *usage; /* the submitter's, until on_done; engine thread writes. NULL: not wanted */
} EngineReq;

/* What the engine is doing: the few numbers of engine_metrics that a caller decides by. */
typedef struct EngineStats {
    int n_running, n_waiting;
    int n_blocks, n_blocks_used, n_blocks_cached; /* cached: findable, held or not */
    int64_t n_waiting_tok;                        /* prompt tokens of those that wait */
    /* since the start */
    uint64_t n_prompt_tok, n_new_tok, n_steps;
    uint64_t n_hit_tok; /* prompt tokens that were not computed, their prefix being in the cache */
    uint64_t n_preempted;           /* times a request lost its blocks to an older one */
    uint64_t n_drafts, n_draft_tok; /* drafts that were looked at, and the guesses in them */
    uint64_t n_draft_ok;            /* guesses that were right */
    uint64_t n_draft_ok_at[ENGINE_MAX_DRAFT]; /* the same by place in the draft */
    double retry_after_s;                     /* about when a request refused now would be taken */
} EngineStats;

/* The model is borrowed, must outlive the engine and is used by nobody else meanwhile. ERR_NOMEM, ERR_ARG.
 * Starts the engine thread. */
MUST_CHECK Status engine_new(Engine **out, Model *m, const EngineOpts *o, Err *e);
/* Cancels what still runs or waits, joins the thread. Not from a callback. */
void engine_free(Engine *en);
/* Queue a request; *id (may be NULL) names it for engine_cancel. ERR_FULL when the queue is at its limit (the
 * message says when to try again), ERR_ARG for what can never run, ERR_NOT_FOUND for an adapter that is not
 * loaded. Any thread. */
MUST_CHECK Status engine_submit(Engine *en, const EngineReq *r, uint64_t *id, Err *e);
/* Takes effect within one step, with no on_token after it from a callback of that request; an unknown or
 * finished id is ignored. Any thread. */
void engine_cancel(Engine *en, uint64_t id);
int engine_max_ctx(const Engine *en);
/* Requests that may run or wait at one time. */
int engine_max_requests(const Engine *en);

/* ---- adapters (adapter.c) ---- Loading reads and checks on the calling thread, while others generate. */

enum { ENGINE_ADAPTER_NAME = 128 };

/* One that is loaded. */
typedef struct EngineAdapter {
    char name[ENGINE_ADAPTER_NAME];
    double scale;
    LoraInfo info;
    int n_requests;           /* that wait or run with it */
    int n_running, n_waiting; /* of these, at one moment */
} EngineAdapter;

/* Load an adapter under a name of 1..127 bytes; its requests get `scale` times alpha / rank. ERR_ARG: the name is
 * taken, scale is not finite or beyond 1e6; ERR_FULL: no place, or too large for what is left of lora_bytes; the
 * errors of lora_load. Any thread. */
MUST_CHECK Status engine_adapter_load(Engine *en, const char *name, const char *path, double scale,
                                      Err *e);
/* ERR_NOT_FOUND; ERR_FULL while requests wait or run with it. What the prefix cache holds of it is found again if
 * the same content is loaded again, under any name. Any thread. */
MUST_CHECK Status engine_adapter_unload(Engine *en, const char *name, Err *e);
/* Up to max of those that are loaded, in the order of loading, into out; returns how many there are. Any thread. */
int engine_adapter_list(const Engine *en, EngineAdapter *out, int max);
/* Adapters that may be loaded at one time. */
int engine_adapter_max(const Engine *en);

/* All numbers the engine keeps of itself: borrowed, valid as long as the engine. Any thread, no lock. */
const Metrics *engine_metrics(const Engine *en);
/* Any thread, no lock. */
EngineStats engine_stats(const Engine *en);
/* Bytes an engine with these options will hold: KV cache, activations and its own tables; those of the draft
 * model too, but for its weights. ERR_ARG. */
MUST_CHECK Status engine_plan_bytes(size_t *out, const ModelConfig *c, const EngineOpts *o, Err *e);
/* Of these, what one block of the KV cache takes. */
size_t engine_block_bytes(const ModelConfig *c, const EngineOpts *o);

#endif
