/* SPDX-License-Identifier: Apache-2.0
 * From a body to requests of the engine: what each route does on the preparing thread. */
#include "server/prepare.h"

#include <stdio.h>

enum {
    TAIL_BYTES =
        16384,       /* of a text, encoded at first: long tokens still leave max_prompt of them */
    TAIL_SLACK = 64, /* tokens after a cut that may differ from those of the whole text */
    MAX_PROMPT = 512
};

/* ---- all routes ---- */

static Status check_given(const Job *j, Err *e) {
    const ApiRequest *q = &j->q;
    if (q->request_template.n > 0)
        return err_set(e, ERR_UNSUPPORTED, "chat_template: templates of requests are not taken");
    if (q->text.n > 0) return err_set(e, ERR_UNSUPPORTED, "suffix: is not supported");
    if (q->previous.n > 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "previous_response_id: nothing is stored here; send the items again");
    if (q->best_of > 0 && q->best_of != q->n)
        return err_set(e, ERR_UNSUPPORTED, "best_of: %lld, only n itself (%lld) is taken",
                       (long long)q->best_of, (long long)q->n);
    if (q->top_logprobs > 0 && !q->logprobs && j->route->schema == &api_chat)
        return err_set(e, ERR_ARG, "top_logprobs: needs logprobs");
    return OK;
}

static Status prepare(Job *j, Err *e) {
    Slice body = {sb_str(&j->body), j->body.n};
    Status st = server__check_json(j, body, e);
    if (st == OK) st = json_parse(&j->json, body, e);
    sb_deinit(&j->body); /* all of it is in j->json */
    TRY(st);
    TRY(api_read(&j->q, j->route->schema, j->json, &j->param, e));
    TRY(check_given(j, e));
    if (server__is_idle(j)) j->q.stream = false;
    TRY(server__read_model(&j->adapter, j->server, j->q.model, e));
    TRY(server__check_model(j, e));
    return j->route->prepare(j, e);
}

void server__prepare(Job *j) {
    if (j->rendering) {
        j->route->writer->end(j);
        return;
    }
    if (j->st != OK) j->st = err_set(&j->err, j->st, "request of %zu bytes", j->body.n);
    else j->st = prepare(j, &j->err);
    const char *named = j->st != OK ? api_field_of(j->route->schema, j->err.msg) : NULL;
    if (named) j->param = named;
}

Status server__no_room(Job *j, const char *what, int64_t n_prompt, int64_t max_new, Err *e) {
    j->code = "context_length_exceeded";
    j->param = what;
    if (max_new <= 1)
        return err_set(e, ERR_ARG, "%s: %lld tokens, the context has %d for prompt and answer",
                       what, (long long)n_prompt, j->server->cfg.engine.max_ctx);
    return err_set(e, ERR_ARG,
                   "%s: %lld tokens and max_tokens %lld exceed the context of %d tokens", what,
                   (long long)n_prompt, (long long)max_new, j->server->cfg.engine.max_ctx);
}

static Status push(TokBuf *out, const Tokenizer *t, Slice text, Err *e) {
    if (tok_bos(t) >= 0) tokbuf_push(out, tok_bos(t));
    TRY(tok_encode(t, text, false, out, e));
    if (out->failed) return err_set(e, ERR_NOMEM, "prompt of %zu bytes", text.n);
    return OK;
}

/* One prompt with max_new tokens to come; 0: what the context has left. */
static Status submit(Job *j, const TokBuf *prompt, const char *what, int64_t max_new, Err *e) {
    int64_t n = (int64_t)prompt->n, room = j->server->cfg.engine.max_ctx - n;
    if (n == 0) return err_set(e, ERR_FORMAT, "No prompt provided");
    if (room < 1 || max_new > room) return server__no_room(j, what, n, max_new, e);
    return server__submit(j, prompt, max_new > 0 ? max_new : room, e);
}

/* ---- chat ---- */

Status server__prepare_chat(Job *j, Err *e) {
    TokBuf prompt = {0};
    int64_t max_new = j->q.max_completion_tokens ? j->q.max_completion_tokens : j->q.max_tokens;
    Status st = server__check_tools(j, e);
    if (st == OK) st = server__chat_tokens(&prompt, j, e);
    if (st == OK) st = server__job_answers(j, 1, e);
    if (st == OK) st = submit(j, &prompt, "messages", max_new, e);
    tokbuf_deinit(&prompt);
    return st;
}

/* ---- completions: a text, a list of texts, ids, a list of lists of ids ---- */

Status server__read_ids(TokBuf *out, const Json *list, const char *what, int32_t n_vocab, Err *e) {
    for (size_t i = 0; i < json_len(list); i++) {
        int64_t id = json_int_or(json_at(list, i), 0, n_vocab - 1);
        if (id < 0)
            return err_set(e, ERR_ARG, "%s: element %zu is no token id, 0 to %d", what, i,
                           n_vocab - 1);
        tokbuf_push(out, (int32_t)id);
    }
    if (out->failed) return err_set(e, ERR_NOMEM, "%zu tokens", json_len(list));
    return OK;
}

int server__n_prompts(const Json *v) {
    const Json *first = json_at(v, 0);
    if (json_is_str(v)) return 1;
    if (!first) return 0;
    return json_is_str(first) || json_is_array(first) ? (int)json_len(v) : 1;
}

Status server__prompt_at(TokBuf *out, const Tokenizer *t, const Json *v, int i, const char *what,
                         Err *e) {
    const Json *first = json_at(v, 0);
    if (json_is_array(v) && (json_is_str(first) || json_is_array(first))) {
        if (json_kind(json_at(v, (size_t)i)) != json_kind(first))
            return err_set(e, ERR_ARG, "%s: element %d is of another type than the first", what, i);
        v = json_at(v, (size_t)i);
    }
    if (json_is_str(v)) return push(out, t, json_str(v), e);
    return server__read_ids(out, v, what, tok_n_vocab(t), e);
}

Status server__prepare_completion(Job *j, Err *e) {
    int n = server__n_prompts(j->q.prompt);
    Status st = OK;
    if (n < 1 || n > API_MAX_SAMPLES)
        return err_set(e, ERR_ARG, "prompt: %d of them, 1 to %d are taken", n, API_MAX_SAMPLES);
    if (j->q.max_tokens == 0)
        return err_set(e, ERR_ARG, "max_tokens: 0 is out of range, 1 to %d", API_MAX_TOKENS);
    j->q.logprobs = j->q.n_logprobs >= 0;
    j->q.top_logprobs = MAX(j->q.n_logprobs, 0);
    TRY(server__job_answers(j, n, e));
    for (int i = 0; i < n && st == OK; i++) {
        TokBuf prompt = {0};
        st = server__prompt_at(&prompt, j->server->cfg.tok, j->q.prompt, i, "prompt", e);
        if (st == OK) st = submit(j, &prompt, "prompt", j->q.max_tokens, e);
        tokbuf_deinit(&prompt);
    }
    return st;
}

/* ---- the short routes ---- */

/* Ids of the end of `text`: all of them, or at least `want` that stand well clear of the cut. A long text is
 * not encoded whole. */
static Status encode_tail(TokBuf *out, const Tokenizer *t, Slice text, size_t want, Err *e) {
    for (size_t n = TAIL_BYTES;; n *= 8) {
        size_t skip = text.n > n ? text.n - n : 0;
        while (skip > 0 && skip < text.n && ((unsigned char)text.p[skip] & 0xc0) == 0x80) skip++;
        out->n = 0;
        TRY(tok_encode(t, (Slice){text.p + skip, text.n - skip}, false, out, e));
        if (skip == 0 || out->n >= want + TAIL_SLACK) return OK;
    }
}

/* prompt = [begin-of-text] + the last tokens that fit beside max_tokens. */
static Status make_tail(TokBuf *prompt, Job *j, Err *e) {
    const ServerConfig *c = &j->server->cfg;
    int32_t bos = tok_bos(c->tok);
    int64_t most = c->max_prompt > 0 ? c->max_prompt : MAX_PROMPT;
    int64_t room = c->engine.max_ctx - j->q.max_tokens - (bos >= 0 ? 1 : 0);
    TokBuf all = {0};
    j->param = "max_tokens";
    if (room < 1)
        return err_set(e, ERR_ARG,
                       "max_tokens: %lld leaves no room for a prompt, at most %lld fit this model",
                       (long long)j->q.max_tokens, (long long)(j->q.max_tokens + room - 1));
    Status st = encode_tail(&all, c->tok, j->q.prompt_text, (size_t)most, e);
    size_t keep = MIN(all.n, (size_t)MIN(room, most));
    if (st == OK && bos >= 0) tokbuf_push(prompt, bos);
    for (size_t i = all.n - keep; st == OK && i < all.n; i++) tokbuf_push(prompt, all.v[i]);
    if (st == OK && (prompt->failed || all.failed))
        st = err_set(e, ERR_NOMEM, "prompt of %zu tokens", keep);
    if (st == OK && keep == 0) st = err_set(e, ERR_FORMAT, "No prompt provided");
    tokbuf_deinit(&all);
    return st;
}

Status server__prepare_complete(Job *j, Err *e) {
    TokBuf prompt = {0};
    if (j->q.prompt_text.n == 0) return err_set(e, ERR_FORMAT, "No prompt provided");
    Status st = make_tail(&prompt, j, e);
    if (st == OK) st = server__job_answers(j, 1, e);
    if (st == OK) st = server__submit(j, &prompt, j->q.max_tokens, e);
    tokbuf_deinit(&prompt);
    return st;
}

Status server__prepare_prompt(Job *j, Err *e) {
    TokBuf prompt = {0};
    const ServerConfig *c = &j->server->cfg;
    int64_t max_new = j->q.max_tokens;
    if (j->q.prompt_text.n == 0) return err_set(e, ERR_FORMAT, "No prompt provided");
    if (j->route->schema == &api_v1_generate && !j->q.do_sample) j->q.temperature = 0;
    Status st = push(&prompt, c->tok, j->q.prompt_text, e);
    if (c->max_total > 0) max_new = MIN(max_new, MAX(c->max_total - (int64_t)prompt.n, 1));
    if (st == OK) st = server__job_answers(j, 1, e);
    if (st == OK) st = submit(j, &prompt, "prompt", max_new, e);
    tokbuf_deinit(&prompt);
    return st;
}
