/* SPDX-License-Identifier: Apache-2.0
 * Answer: a prompt's n samples as text. The one way from the engine's tokens to what a caller reads: whole code
 * points, stop strings held back and cut, log-probabilities token by token, why each sample ended, what was used.
 *
 *   engine's thread -[tokens, ends]-> Ring -[answer_next: Detok, SampleStop]-> the reader's thread
 *
 * The engine's side never waits and never allocates; the ring has room for all tokens that can come. A stop string
 * is found by the reader, who ends the sample there and cancels the request; what the engine made beyond it
 * meanwhile is dropped and not counted.
 *
 * One thread reads an answer, any thread may cancel it. */
#ifndef INGOT_ENGINE_ANSWER_H
#define INGOT_ENGINE_ANSWER_H

#include "engine/engine.h"

typedef struct Answer Answer;

enum { ANSWER_MAX_SAMPLES = 128 };

/* What an answer needs of an engine, so that tests can stand in for one; contracts as in engine.h. Callbacks of all
 * requests of an answer come from one thread at a time. */
typedef struct EngineDoor {
    void *self; /* borrowed */
    Status (*submit)(void *self, const EngineReq *r, uint64_t *id, Err *e);
    void (*cancel)(void *self, uint64_t id);
    int max_ctx;
    int max_requests;       /* that may run or wait at one time; 0: any number */
    const Metrics *metrics; /* borrowed; NULL: none to be had */
    int (*adapters)(const void *self, EngineAdapter *out, int max); /* NULL: there are none */
    int max_adapters;
} EngineDoor;

/* Zero is the default of every field. */
typedef struct AnswerOpts {
    int n;             /* samples, up to ANSWER_MAX_SAMPLES; default 1 */
    const Slice *stop; /* stop strings, copied; limits in engine/stop.h. Those that end within the
                        * first sample.min_tokens tokens do not count */
    int n_stop;
    bool include_stop;  /* a stop string is part of the text */
    Grammar **grammars; /* [n], one a sample. Taken, also by an answer_new that fails. NULL: none */
    /* For readers that sleep elsewhere than in answer_wait: called by the engine's thread when there is
     * something for answer_next, until each sample's on_done. With ends_only, when a sample has ended. */
    void (*wake)(void *ctx);
    void *wake_ctx;
    bool ends_only;
} AnswerOpts;

/* A sample so far. Until it ended only text, ids and n_cached mean anything. */
typedef struct AnswerSample {
    StrBuf text;  /* all that may be shown: whole code points, no stop string unless include_stop */
    TokBuf ids;   /* tokens that count: up to the one that completed a stop string */
    int n_cached; /* prompt tokens that did not have to be computed */
    bool ended;
    FinishReason why;
    int stop;        /* FINISH_STOP by a stop string: its number from 1; else 0 */
    int32_t stop_id; /* FINISH_STOP by a token, which is not among ids: that token; else -1 */
    ReqTimes
        times; /* when it came, was scheduled, had its first and last token; zero after a stop string */
    Err err; /* with FINISH_ERROR */
} AnswerSample;

/* One step of reading. */
typedef struct AnswerPart {
    int sample;
    Slice text; /* the end of the sample's text that is new; may be empty */
    const SampleOut
        *tok; /* the token, with what was asked about it; NULL: the part is an end alone */
    bool end; /* the sample ended with it */
} AnswerPart;

/* The door of a real engine (borrowed). */
EngineDoor engine_door(Engine *en);

/* Submit r once for each sample; its callbacks, ctx, usage and grammar are set here. Sample 0 has r's seed, the
 * others seeds drawn from it, and they share the KV blocks of the prompt. Errors of engine_submit, ERR_ARG for the
 * options, ERR_NOMEM; then nothing stays submitted. door->self and tok outlive the answer's samples. */
MUST_CHECK Status answer_new(Answer **out, const EngineDoor *door, const Tokenizer *tok,
                             const EngineReq *r, const AnswerOpts *o, Err *e);
/* The reader goes; what still runs is cancelled. */
void answer_free(Answer *a);
/* Take what came next; false: there is nothing at the moment. What *part borrows is valid until the next call. */
bool answer_next(Answer *a, AnswerPart *part);
/* Sleep until answer_next may have something, a signal comes or timeout_ms have passed (below 0: without end). */
void answer_wait(Answer *a, int timeout_ms);
/* Whether every sample has ended. */
bool answer_done(const Answer *a);
int answer_n(const Answer *a);
const AnswerSample *answer_sample(const Answer *a, int i);
/* The engine stops working on it within a step; the samples still end, as FINISH_CANCELLED. Any thread, while
 * the answer is there. */
void answer_cancel(Answer *a);
/* "stop", "length", "cancelled", "timeout", "error". */
const char *answer_finish_name(FinishReason why);

#endif
