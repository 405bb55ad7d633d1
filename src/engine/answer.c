/* SPDX-License-Identifier: Apache-2.0
 * Both ends of an answer. The memory belongs to the reader and to each request that runs for it, and goes with the
 * last of them: a reader may leave at any time, and a request may end while it does.
 *
 * A record in the ring is a sample's number and a token, with log-probabilities behind it if they were asked for,
 * or END instead of the token. Why a sample ended stands in the sample itself, stored before END is pushed. */
#include "engine/answer.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/rng.h"
#include "engine/ring.h"
#include "engine/stop.h"

enum { END = -1 };

/* What lies in the ring, as much of it as is needed. */
typedef struct Rec {
    int32_t sample, id;
    double logprob; /* from here on with logprobs only */
    int32_t rank, n_top;
    SampleTop top[SAMPLE_MAX_TOP];
} Rec;

/* One sample. */
typedef struct Line {
    Answer *a;         /* [const] */
    uint64_t id;       /* [const] once answer_new returned */
    int n_left;        /* [engine] tokens the ring still has room for */
    EngineUsage usage; /* [engine], the reader after a record */
    FinishReason why;  /* [engine], the reader after END */
    Err err;           /* the same */
    _Atomic bool over; /* [atomic] release by the engine's thread: the engine knows it no more */
    AnswerSample s;    /* [reader], and so is all below */
    Detok detok;
    SampleStop stop;
} Line;

struct Answer {
    EngineDoor door;    /* [const] */
    AnswerOpts o;       /* [const] lists taken out, defaults filled in */
    bool logprobs;      /* [const] */
    int64_t min_tok;    /* [const] a stop string counts when it ends behind so many tokens */
    _Atomic int n_refs; /* [atomic] the reader and the requests that run */
    Ring ring;
    int n_open;     /* [reader] samples that have not ended */
    StrBuf piece;   /* [reader] owned; scratch: a token's text before stop strings */
    SampleOut tok;  /* [reader] what the last part borrows */
    void *stop_mem; /* [const] owned; of the stop strings */
    int n_lines;    /* [const] */
    Line line[];
};

static Status submit_to_engine(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    return engine_submit(self, r, id, e);
}

static void cancel_in_engine(void *self, uint64_t id) { engine_cancel(self, id); }

static int adapters_of_engine(const void *self, EngineAdapter *out, int max) {
    return engine_adapter_list(self, out, max);
}

EngineDoor engine_door(Engine *en) {
    return (EngineDoor){.self = en,
                        .submit = submit_to_engine,
                        .cancel = cancel_in_engine,
                        .max_ctx = engine_max_ctx(en),
                        .max_requests = engine_max_requests(en),
                        .metrics = engine_metrics(en),
                        .adapters = adapters_of_engine,
                        .max_adapters = engine_adapter_max(en)};
}

/* ---- life ---- */

static void destroy(Answer *a) {
    for (int i = 0; i < a->n_lines; i++) {
        sb_deinit(&a->line[i].s.text);
        tokbuf_deinit(&a->line[i].s.ids);
    }
    ring_deinit(&a->ring);
    sb_deinit(&a->piece);
    mem_free(a->stop_mem);
    mem_free(a);
}

static void unref(Answer *a) {
    if (atomic_fetch_sub_explicit(&a->n_refs, 1, memory_order_acq_rel) == 1) destroy(a);
}

void answer_cancel(Answer *a) {
    for (int i = 0; i < a->n_lines; i++) {
        Line *l = &a->line[i];
        if (!atomic_load_explicit(&l->over, memory_order_acquire))
            a->door.cancel(a->door.self, l->id);
    }
}

void answer_free(Answer *a) {
    if (!a) return;
    answer_cancel(a);
    unref(a);
}

/* ---- engine's thread ---- */

static size_t rec_bytes(int n_top, bool logprobs) {
    return logprobs ? offsetof(Rec, top) + (size_t)n_top * sizeof(SampleTop)
                    : offsetof(Rec, logprob);
}

static void put(Line *l, const Rec *rec, size_t n, bool tell) {
    Answer *a = l->a;
    bool ok = ring_push(&a->ring, rec, n);
    assert(ok); /* answer_new made room for n_left tokens and an end of each sample */
    (void)ok;
    if (tell && a->o.wake) a->o.wake(a->o.wake_ctx);
}

static void on_token(void *ctx, const SampleOut *t) {
    Line *l = ctx;
    Rec rec = {.sample = (int32_t)(l - l->a->line), .id = t->id};
    if (l->n_left <= 0) return; /* more than was asked for: an engine does not do that */
    l->n_left--;
    if (l->a->logprobs) {
        rec.logprob = t->logprob;
        rec.rank = t->rank;
        rec.n_top = t->n_top;
        memcpy(rec.top, t->top, (size_t)t->n_top * sizeof t->top[0]);
    }
    put(l, &rec, rec_bytes(rec.n_top, l->a->logprobs), !l->a->o.ends_only);
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Line *l = ctx;
    Rec rec = {.sample = (int32_t)(l - l->a->line), .id = END};
    l->why = why;
    if (e) l->err = *e;
    atomic_store_explicit(&l->over, true, memory_order_release);
    put(l, &rec, rec_bytes(0, false), true);
    unref(l->a);
}

/* ---- submitting ---- */

static Status check(const AnswerOpts *o, Err *e) {
    if (o->n < 0 || o->n > ANSWER_MAX_SAMPLES)
        return err_set(e, ERR_ARG, "n: %d is out of range: 1 to %d", o->n, ANSWER_MAX_SAMPLES);
    return sample_stop_check(o->stop, o->n_stop, e);
}

/* Everything but the requests. */
static Status prepare(Answer *a, const Tokenizer *tok, const EngineReq *r, const AnswerOpts *o,
                      Err *e) {
    int n_new = MAX(1, MIN(r->max_new, a->door.max_ctx - r->n_prompt));
    size_t stop_bytes = sample_stop_bytes(o->stop, o->n_stop);
    int n_top = a->logprobs ? (int)MIN(r->sample.top_logprobs, SAMPLE_MAX_TOP) : 0;
    a->stop_mem = mem_alloc_n(MAX(a->n_lines, 1), stop_bytes);
    if (!a->stop_mem) return err_set(e, ERR_NOMEM, "%zu bytes of stop strings", stop_bytes);
    for (int i = 0; i < a->n_lines; i++) {
        Line *l = &a->line[i];
        l->a = a;
        l->n_left = n_new;
        l->usage.stop_id = l->s.stop_id = -1;
        detok_init(&l->detok, tok);
        sample_stop_init(&l->stop, o->stop, o->n_stop, o->include_stop,
                         (char *)a->stop_mem + (size_t)i * stop_bytes);
    }
    return ring_init(&a->ring, (size_t)a->n_lines * ((size_t)n_new + 1),
                     rec_bytes(MAX(n_top, 0), a->logprobs), e);
}

/* Seeds of the other samples: far from those that a caller counts up. */
static uint64_t seed_of(uint64_t seed, int i) {
    return i == 0 ? seed : rng_key(seed + (uint64_t)i, "sample of many");
}

/* On failure the first ones are cancelled. *n_taken: grammars that are the engine's. */
static Status submit_all(Answer *a, const EngineReq *r, Grammar **grammars, int *n_taken, Err *e) {
    for (int i = 0; i < a->n_lines; i++) {
        Line *l = &a->line[i];
        EngineReq q = *r;
        q.sample.seed = seed_of(r->sample.seed, i);
        q.grammar = grammars ? grammars[i] : NULL;
        q.on_token = on_token;
        q.on_done = on_done;
        q.ctx = l;
        q.usage = &l->usage;
        q.n = a->n_lines;
        if (i > 0) q.sibling = a->line[0].id;
        atomic_fetch_add_explicit(&a->n_refs, 1, memory_order_relaxed);
        Status st = a->door.submit(a->door.self, &q, &l->id, e);
        if (st != OK) {
            atomic_fetch_sub_explicit(&a->n_refs, 1, memory_order_relaxed); /* the reader's stays */
            for (int k = i; k < a->n_lines; k++) atomic_store(&a->line[k].over, true);
            return st;
        }
        ++*n_taken;
    }
    return OK;
}

static Status start(Answer **out, const EngineDoor *door, const Tokenizer *tok, const EngineReq *r,
                    const AnswerOpts *o, int *n_taken, Err *e) {
    TRY(check(o, e));
    int n = MAX(o->n, 1);
    Answer *a = mem_alloc_n(1, sizeof *a + (size_t)n * sizeof a->line[0]);
    if (!a) return err_set(e, ERR_NOMEM, "answer of %d samples", n);
    a->door = *door;
    a->o = *o;
    a->o.stop = NULL;
    a->o.grammars = NULL;
    a->logprobs = r->sample.logprobs;
    a->min_tok = r->sample.min_tokens;
    a->n_lines = a->n_open = n;
    atomic_store_explicit(&a->n_refs, 1, memory_order_relaxed);
    Status st = prepare(a, tok, r, o, e);
    if (st != OK) {
        destroy(a);
        return st;
    }
    st = submit_all(a, r, o->grammars, n_taken, e);
    if (st != OK) answer_free(a);
    else *out = a;
    return st;
}

Status answer_new(Answer **out, const EngineDoor *door, const Tokenizer *tok, const EngineReq *r,
                  const AnswerOpts *o, Err *e) {
    int n_taken = 0;
    Status st = start(out, door, tok, r, o, &n_taken, e);
    for (int i = n_taken; o->grammars && i < MAX(o->n, 1); i++) grammar_free(o->grammars[i]);
    return st;
}

/* ---- reading ---- */

/* The sample is over for the reader; the engine may still have to be told. */
static void end(Line *l, FinishReason why) {
    l->s.ended = true;
    l->s.why = why;
    l->a->n_open--;
}

static void cancel_line(Line *l) {
    if (!atomic_load_explicit(&l->over, memory_order_acquire))
        l->a->door.cancel(l->a->door.self, l->id);
}

/* Text of a->piece goes through the stop strings; true once one has come. */
static bool pass(Line *l) {
    StrBuf *piece = &l->a->piece;
    if (piece->failed) l->s.text.failed = true;
    l->stop.muted = (int64_t)l->s.ids.n <= l->a->min_tok;
    bool hit = sample_stop_push(&l->stop, (Slice){sb_str(piece), piece->n}, &l->s.text);
    sb_clear(piece);
    return hit;
}

static void end_by_stop(Line *l) {
    l->s.stop = l->stop.hit;
    end(l, FINISH_STOP);
    cancel_line(l);
}

static void take_token(Line *l, int32_t id) {
    tokbuf_push(&l->s.ids, id);
    detok_push(&l->detok, id, &l->a->piece);
    if (pass(l)) end_by_stop(l);
}

static void take_end(Line *l) {
    detok_finish(&l->detok, &l->a->piece);
    if (pass(l)) {
        end_by_stop(l);
        return;
    }
    sample_stop_finish(&l->stop, &l->s.text);
    l->s.err = l->err;
    l->s.stop_id = l->usage.stop_id;
    l->s.times = l->usage.times;
    end(l, l->why);
}

/* A text with a hole in it is worse than none. */
static void check_memory(Line *l) {
    if (!l->s.text.failed && !l->s.ids.failed) return;
    if (!l->s.ended) {
        end(l, FINISH_ERROR);
        cancel_line(l);
    }
    l->s.why = FINISH_ERROR;
    l->s.err = (Err){0};
    err_set(&l->s.err, ERR_NOMEM, "text of %zu bytes", l->s.text.n);
}

static void unpack(SampleOut *out, const Rec *rec, bool logprobs) {
    *out = (SampleOut){.id = rec->id};
    if (!logprobs) return;
    out->logprob = rec->logprob;
    out->rank = rec->rank;
    out->n_top = rec->n_top;
    memcpy(out->top, rec->top, (size_t)rec->n_top * sizeof rec->top[0]);
}

static void take(Answer *a, const Rec *rec, AnswerPart *part) {
    Line *l = &a->line[rec->sample];
    size_t was = l->s.text.n;
    bool is_token = rec->id != END;
    if (is_token) unpack(&a->tok, rec, a->logprobs);
    l->s.n_cached = l->usage.n_cached;
    if (is_token) take_token(l, rec->id);
    else take_end(l);
    check_memory(l);
    *part = (AnswerPart){.sample = rec->sample,
                         .text = {sb_str(&l->s.text) + was, l->s.text.n - was},
                         .tok = is_token ? &a->tok : NULL,
                         .end = l->s.ended};
}

bool answer_next(Answer *a, AnswerPart *part) {
    for (;;) {
        const Rec *rec = ring_peek(&a->ring);
        if (!rec) return false;
        bool late = a->line[rec->sample].s.ended; /* made after a stop string came */
        if (!late) take(a, rec, part);
        ring_drop(&a->ring);
        if (!late) return true;
    }
}

void answer_wait(Answer *a, int timeout_ms) { ring_wait(&a->ring, timeout_ms); }

bool answer_done(const Answer *a) { return a->n_open == 0; }

int answer_n(const Answer *a) { return a->n_lines; }

const AnswerSample *answer_sample(const Answer *a, int i) { return &a->line[i].s; }

const char *answer_finish_name(FinishReason why) {
    static const char *const name[] = {[FINISH_STOP] = "stop",
                                       [FINISH_LENGTH] = "length",
                                       [FINISH_CANCELLED] = "cancelled",
                                       [FINISH_DEADLINE] = "timeout",
                                       [FINISH_ERROR] = "error"};
    return name[why];
}
