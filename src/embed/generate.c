/* SPDX-License-Identifier: Apache-2.0
 * One request: from the caller's structure to the engine's, then its answer part by part to on_part. All of it runs
 * on the caller's thread. */
#include <limits.h>

#include "embed/internal.h"
#include "engine/stop.h"

enum { WARM_MS = 100 }; /* of making a grammar's slow masks in advance */

_Static_assert(INGOT_FINISH_CANCELLED == (int)FINISH_CANCELLED &&
                   INGOT_FINISH_TIMEOUT == (int)FINISH_DEADLINE,
               "ends are those of FinishReason");

/* ---- from the caller's structure ---- */

static Status make_prompt(TokBuf *out, const IngotModel *m, const IngotRequest *r, Err *e) {
    if ((r->prompt == NULL) == (r->ids == NULL))
        return err_set(e, ERR_ARG, "a request has a prompt or ids, and not both");
    for (size_t i = 0; r->ids && i < r->n_ids && !out->failed; i++) tokbuf_push(out, r->ids[i]);
    if (r->prompt) {
        Slice text = {r->prompt, r->n_prompt ? r->n_prompt : strlen(r->prompt)};
        if (text.n == 0) return err_set(e, ERR_ARG, "the prompt is empty");
        if (tok_bos(m->tok) >= 0) tokbuf_push(out, tok_bos(m->tok));
        TRY(tok_encode(m->tok, text, r->special != 0, out, e));
    }
    return out->failed ? err_set(e, ERR_NOMEM, "prompt") : OK;
}

static Status compile(Grammar **g, const IngotModel *m, const IngotRequest *r, Err *e) {
    int n = (r->schema != NULL) + (r->grammar != NULL) + (r->regex != NULL);
    const char *what = r->schema ? "schema" : r->grammar ? "grammar" : "regex";
    Status st = OK;
    if (n == 0) return OK;
    if (n > 1) return err_set(e, ERR_ARG, "schema, grammar and regex: give one");
    if (!m->vocab) return err_set(e, ERR_ARG, "%s: the model was loaded with no_grammars", what);
    if (r->schema) st = grammar_from_schema(g, slice_of(r->schema), NULL, e);
    else if (r->grammar) st = grammar_from_gbnf(g, slice_of(r->grammar), NULL, e);
    else st = grammar_from_regex(g, slice_of(r->regex), NULL, e);
    if (st != OK) {
        err_in(e, what);
        return st;
    }
    return OK;
}

/* One for each sample, or none. The caller frees *out, and what it holds where this failed. */
static Status make_grammars(Grammar ***out, const IngotModel *m, const IngotRequest *r, int n,
                            Err *e) {
    if (!r->schema && !r->grammar && !r->regex) return OK;
    *out = mem_new_n(Grammar *, (size_t)n);
    if (!*out) return err_set(e, ERR_NOMEM, "%d grammars", n);
    for (int i = 0; i < n; i++) {
        TRY(compile(&(*out)[i], m, r, e));
        TRY(grammar_warm((*out)[i], m->vocab, MAX(1, WARM_MS / n), e));
    }
    return OK;
}

static Status take_stops(Slice stop[SAMPLE_MAX_STOPS], const IngotRequest *r, Err *e) {
    if (r->n_stop > SAMPLE_MAX_STOPS)
        return err_set(e, ERR_ARG, "%zu stop strings, the limit is %d", r->n_stop,
                       SAMPLE_MAX_STOPS);
    if (r->n_stop > 0 && !r->stop) return err_set(e, ERR_ARG, "stop is NULL, n_stop is not 0");
    for (size_t i = 0; i < r->n_stop; i++) {
        if (!r->stop[i]) return err_set(e, ERR_ARG, "stop %zu is NULL", i);
        stop[i] = slice_of(r->stop[i]);
    }
    return OK;
}

static int n_samples(const IngotRequest *r) { return MAX(r->samples, 1); }

static EngineReq engine_req(const IngotRequest *r, const TokBuf *ids) {
    SampleOpts s = {.temp = r->temperature,
                    .top_k = r->top_k,
                    .top_p = r->top_p == 0 ? 1 : r->top_p,
                    .min_p = r->min_p,
                    .repetition = r->repetition,
                    .seed = r->seed,
                    .logprobs = r->logprobs != 0};
    return (EngineReq){.prompt = ids->v,
                       .n_prompt = (int)MIN(ids->n, INT_MAX),
                       .max_new = r->max_tokens == 0 ? INT_MAX : r->max_tokens,
                       .sample = s,
                       .ignore_end = r->ignore_end != 0,
                       .timeout_s = r->timeout_s};
}

static Status start(Answer **out, int *n_prompt, const IngotModel *m, const IngotRequest *r,
                    Err *e) {
    TokBuf ids = {0};
    Grammar **g = NULL;
    Slice stop[SAMPLE_MAX_STOPS];
    int n = n_samples(r);
    if (r->samples < 0 || n > ANSWER_MAX_SAMPLES)
        return err_set(e, ERR_ARG, "samples %d is out of range: 0 to %d", r->samples,
                       ANSWER_MAX_SAMPLES);
    Status st = take_stops(stop, r, e);
    if (st == OK) st = make_prompt(&ids, m, r, e);
    if (st == OK) st = make_grammars(&g, m, r, n, e);
    if (st == OK) {
        EngineReq q = engine_req(r, &ids);
        AnswerOpts o = {.n = n,
                        .stop = stop,
                        .n_stop = (int)r->n_stop,
                        .include_stop = r->include_stop != 0,
                        .grammars = g};
        *n_prompt = q.n_prompt;
        st = answer_new(out, &m->door, m->tok, &q, &o, e);
    } else {
        for (int i = 0; g && i < n; i++) grammar_free(g[i]);
    }
    mem_free(g);
    tokbuf_deinit(&ids);
    return st;
}

/* ---- to the caller ---- */

static bool wants_more(const IngotRequest *r, const AnswerPart *p) {
    if (!r->on_part || (!p->tok && p->text.n == 0)) return true;
    IngotPart part = {.text = p->text.p,
                      .n_text = p->text.n,
                      .token = p->tok ? p->tok->id : -1,
                      .logprob = p->tok ? p->tok->logprob : 0,
                      .sample = p->sample};
    return r->on_part(r->ctx, &part) == 0;
}

/* To the end of all answers. heard[i]: the caller was told of all of answer i and wanted to go on. */
static void follow(Answer *a, const IngotRequest *r, bool heard[ANSWER_MAX_SAMPLES]) {
    bool left = false;
    while (!answer_done(a)) {
        AnswerPart p;
        while (answer_next(a, &p)) {
            if (left) continue;
            left = !wants_more(r, &p);
            heard[p.sample] = p.end && !left;
            if (left) answer_cancel(a);
        }
        if (!answer_done(a)) answer_wait(a, -1);
    }
}

static IngotResult result_of(const AnswerSample *s, int n_prompt, bool heard) {
    IngotResult r = {.size = sizeof r,
                     .finish = (int)s->why,
                     .prompt_tokens = n_prompt,
                     .cached_tokens = s->n_cached,
                     .tokens = (int)s->ids.n,
                     .stop_text = s->stop - 1,
                     .stop_token = s->stop_id};
    if (heard) return r;
    r.finish =
        INGOT_FINISH_CANCELLED; /* also where the engine was done: the caller heard no more */
    r.stop_text = r.stop_token = -1;
    return r;
}

/* out: one for each sample, or NULL. */
static Status conclude(IngotResult *out, const Answer *a, int n_prompt, const bool *heard, Err *e) {
    for (int i = 0; i < answer_n(a); i++) {
        const AnswerSample *s = answer_sample(a, i);
        if (s->why != FINISH_ERROR) continue;
        *e = s->err;
        return s->err.code != OK ? s->err.code : ERR_INTERNAL;
    }
    for (int i = 0; out && i < answer_n(a); i++)
        out[i] = result_of(answer_sample(a, i), n_prompt, heard[i]);
    return OK;
}

static Status generate(IngotModel *m, const IngotRequest *r, IngotResult *out, Err *e) {
    Answer *a = NULL;
    int n_prompt = 0;
    bool heard[ANSWER_MAX_SAMPLES] = {0};
    TRY(start(&a, &n_prompt, m, r, e));
    CancelLink link = {.answer = a};
    ingot__cancel_attach(r->cancel, &link);
    follow(a, r, heard);
    ingot__cancel_detach(r->cancel, &link);
    Status st = conclude(out, a, n_prompt, heard, e);
    answer_free(a);
    return st;
}

int ingot_generate(IngotModel *m, const IngotRequest *request, IngotResult *result, IngotError *e) {
    Err err = {0};
    IngotRequest r = {0};
    IngotResult first;
    Status st = ingot__take_struct(&r, sizeof r, offsetof(IngotRequest, samples), request,
                                   "IngotRequest", &err);
    if (st == OK && result)
        st = ingot__take_struct(&first, sizeof first, sizeof first, result, "IngotResult", &err);
    if (st == OK) st = generate(m, &r, result, &err);
    return ingot__give(st, &err, e);
}
