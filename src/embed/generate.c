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
    return grammar_warm(*g, m->vocab, WARM_MS, e);
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
    Grammar *g = NULL;
    Slice stop[SAMPLE_MAX_STOPS];
    Status st = take_stops(stop, r, e);
    if (st == OK) st = make_prompt(&ids, m, r, e);
    if (st == OK) st = compile(&g, m, r, e);
    if (st == OK) {
        EngineReq q = engine_req(r, &ids);
        AnswerOpts o = {.stop = stop,
                        .n_stop = (int)r->n_stop,
                        .include_stop = r->include_stop != 0,
                        .grammars = &g};
        *n_prompt = q.n_prompt;
        st = answer_new(out, &m->door, m->tok, &q, &o, e);
    } else grammar_free(g);
    tokbuf_deinit(&ids);
    return st;
}

/* ---- to the caller ---- */

static bool wants_more(const IngotRequest *r, const AnswerPart *p) {
    if (!r->on_part || (!p->tok && p->text.n == 0)) return true;
    IngotPart part = {.text = p->text.p,
                      .n_text = p->text.n,
                      .token = p->tok ? p->tok->id : -1,
                      .logprob = p->tok ? p->tok->logprob : 0};
    return r->on_part(r->ctx, &part) == 0;
}

/* To the end of the answer; true if on_part was what ended it. */
static bool follow(Answer *a, const IngotRequest *r) {
    bool left = false;
    while (!answer_done(a)) {
        AnswerPart p;
        while (answer_next(a, &p)) {
            if (left || wants_more(r, &p)) continue;
            left = true;
            answer_cancel(a);
        }
        if (!answer_done(a)) answer_wait(a, -1);
    }
    return left;
}

static Status conclude(IngotResult *out, const Answer *a, int n_prompt, Err *e) {
    const AnswerSample *s = answer_sample(a, 0);
    if (s->why == FINISH_ERROR) {
        *e = s->err;
        return s->err.code != OK ? s->err.code : ERR_INTERNAL;
    }
    *out = (IngotResult){.size = out->size,
                         .finish = (int)s->why,
                         .prompt_tokens = n_prompt,
                         .cached_tokens = s->n_cached,
                         .tokens = (int)s->ids.n,
                         .stop_text = s->stop - 1,
                         .stop_token = s->stop_id};
    return OK;
}

static Status generate(IngotModel *m, const IngotRequest *r, IngotResult *out, Err *e) {
    Answer *a = NULL;
    int n_prompt = 0;
    TRY(start(&a, &n_prompt, m, r, e));
    CancelLink link = {.answer = a};
    ingot__cancel_attach(r->cancel, &link);
    bool left = follow(a, r);
    ingot__cancel_detach(r->cancel, &link);
    Status st = conclude(out, a, n_prompt, e);
    if (st == OK && left) { /* also where the engine was done before: the caller heard no more */
        out->finish = INGOT_FINISH_CANCELLED;
        out->stop_text = out->stop_token = -1;
    }
    answer_free(a);
    return st;
}

int ingot_generate(IngotModel *m, const IngotRequest *request, IngotResult *result, IngotError *e) {
    Err err = {0};
    IngotRequest r = {0};
    IngotResult full = {0};
    Status st = ingot__take_struct(&r, sizeof r, request, "IngotRequest", &err);
    if (st == OK && result)
        st = ingot__take_struct(&full, sizeof full, result, "IngotResult", &err);
    if (st == OK) st = generate(m, &r, &full, &err);
    if (st == OK && result) *result = full;
    return ingot__give(st, &err, e);
}
