/* SPDX-License-Identifier: Apache-2.0
 * What OpenAI's answers have in common, and text completions. */
#include <math.h>

#include "server/internal.h"

const char *server__finish_word(FinishReason why) {
    return why == FINISH_LENGTH ? "length" : "stop";
}

void server__put_finish(JsonW *w, const Job *j, const AnswerSample *a, const char *word) {
    jw_cstr(w, "finish_reason", word);
    if (a->stop > 0) {
        const Json *v = j->q.stop;
        jw_str(w, "stop_reason", json_str(json_is_array(v) ? json_at(v, (size_t)a->stop - 1) : v));
    } else if (a->why == FINISH_STOP && a->stop_id >= 0 &&
               !tok_is_end(j->server->cfg.tok, a->stop_id)) {
        jw_int(w, "stop_reason", a->stop_id);
    } else {
        jw_null(w, "stop_reason");
    }
}

void server__put_usage(JsonW *w, const char *key, const Usage *u) {
    jw_obj(w, key);
    jw_int(w, "prompt_tokens", u->prompt);
    jw_int(w, "completion_tokens", u->completion);
    jw_int(w, "total_tokens", u->prompt + u->completion);
    jw_obj(w, "prompt_tokens_details");
    jw_int(w, "cached_tokens", u->cached);
    jw_end_obj(w);
    jw_obj(w, "completion_tokens_details");
    jw_int(w, "reasoning_tokens", u->reasoning);
    jw_end_obj(w);
    jw_end_obj(w);
}

/* ---- log-probabilities ---- */

/* -inf has no JSON; -9999 is what clients know for it. */
static double for_json(double logprob) { return isfinite(logprob) ? logprob : -9999.0; }

static void put_token(JsonW *w, const Tokenizer *t, int32_t id, double logprob) {
    Slice text = tok_piece(t, id);
    if (text.n == 0) text = tok_text(t, id);
    jw_str(w, "token", text);
    jw_num(w, "logprob", for_json(logprob));
    jw_arr(w, "bytes");
    for (size_t i = 0; i < text.n; i++) jw_int(w, NULL, (unsigned char)text.p[i]);
    jw_end_arr(w);
}

void server__put_logprob(JsonW *w, const Tokenizer *t, const SampleOut *s) {
    jw_obj(w, NULL);
    put_token(w, t, s->id, s->logprob);
    jw_arr(w, "top_logprobs");
    for (int i = 0; i < s->n_top; i++) {
        jw_obj(w, NULL);
        put_token(w, t, s->top[i].id, s->top[i].logprob);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

/* ---- text completions ---- */

/* Of one choice: the four lists of its "logprobs", without their brackets. */
typedef struct TextLogprobs {
    StrBuf offset, logprob, token, top;
    int64_t at; /* characters of text so far */
} TextLogprobs;

typedef struct Completion {
    TextLogprobs *lp; /* [n_choices] in the arena; NULL: not asked for */
} Completion;

static Slice taken(const StrBuf *b) { return (Slice){sb_str(b), b->n}; }

static void comma(StrBuf *b) {
    if (b->n > 0) sb_putc(b, ',');
}

static void put_top(StrBuf *b, const Tokenizer *t, const SampleOut *s) {
    JsonW w;
    comma(b);
    jw_init(&w, b);
    jw_obj(&w, NULL);
    for (int i = 0; i < s->n_top; i++) {
        StrBuf key = {0};
        Slice text = tok_piece(t, s->top[i].id);
        if (text.n == 0) text = tok_text(t, s->top[i].id);
        sb_put_quoted(&key, text, 256);
        jw_num(&w, sb_str(&key), for_json(s->top[i].logprob));
        sb_deinit(&key);
    }
    jw_end_obj(&w);
}

static void note(TextLogprobs *lp, const Tokenizer *t, const AnswerPart *p) {
    JsonW w;
    Slice text = tok_piece(t, p->tok->id);
    comma(&lp->offset);
    sb_printf(&lp->offset, "%lld", (long long)lp->at);
    comma(&lp->logprob);
    jw_init(&w, &lp->logprob);
    jw_num(&w, NULL, for_json(p->tok->logprob));
    comma(&lp->token);
    jw_init(&w, &lp->token);
    jw_str(&w, NULL, text.n > 0 ? text : tok_text(t, p->tok->id));
    put_top(&lp->top, t, p->tok);
    for (size_t i = 0; i < p->text.n; i++) lp->at += ((unsigned char)p->text.p[i] & 0xc0) != 0x80;
}

static void put_list(JsonW *w, const char *key, StrBuf *b) {
    jw_arr(w, key);
    sb_put(w->b, sb_str(b), b->n);
    jw_end_arr(w);
    sb_clear(b);
}

static void put_logprobs(JsonW *w, const Job *j, int choice) {
    Completion *c = j->state;
    if (!c || !c->lp) {
        jw_null(w, "logprobs");
        return;
    }
    jw_obj(w, "logprobs");
    put_list(w, "text_offset", &c->lp[choice].offset);
    put_list(w, "token_logprobs", &c->lp[choice].logprob);
    put_list(w, "tokens", &c->lp[choice].token);
    put_list(w, "top_logprobs", &c->lp[choice].top);
    jw_end_obj(w);
}

static void put_head(JsonW *w, const Job *j) {
    char id[JOB_ID_BYTES + 8] = "cmpl-";
    strncat(id, j->request_id, JOB_ID_BYTES);
    jw_obj(w, NULL);
    jw_cstr(w, "id", id);
    jw_cstr(w, "object", "text_completion");
    jw_int(w, "created", j->created);
    jw_cstr(w, "model", j->adapter ? j->adapter : j->server->cfg.model);
}

static bool wants(const Job *j, const char *option) {
    return json_bool(json_get(j->q.stream_options, option));
}

static void put_event(Job *j, int choice, Slice text, const AnswerSample *ended) {
    JsonW w;
    sb_puts(&j->out, "data: ");
    jw_init(&w, &j->out);
    put_head(&w, j);
    jw_arr(&w, "choices");
    jw_obj(&w, NULL);
    jw_int(&w, "index", choice);
    jw_str(&w, "text", text);
    put_logprobs(&w, j, choice);
    if (ended) server__put_finish(&w, j, ended, server__finish_word(ended->why));
    else jw_null(&w, "finish_reason");
    jw_end_obj(&w);
    jw_end_arr(&w);
    if (wants(j, "continuous_usage_stats")) {
        Usage u = server__usage(j);
        server__put_usage(&w, "usage", &u);
    }
    jw_end_obj(&w);
    sb_puts(&j->out, "\n\n");
}

/* The prompt's text, for "echo". */
static Slice echo_text(const Job *j, int choice) {
    const Json *v = j->q.prompt, *at = json_at(v, (size_t)(choice / j->n_samples));
    if (!j->q.echo) return (Slice){"", 0};
    return json_is_str(v) ? json_str(v) : json_str(at);
}

static void begin(Job *j) {
    size_t n = (size_t)server__n_choices(j);
    Completion *c = arena_new(&j->arena, Completion);
    j->state = c;
    if (c && j->q.logprobs) c->lp = arena_new_n(&j->arena, TextLogprobs, n);
    for (int i = 0; j->q.stream && j->q.echo && i < (int)n; i++)
        put_event(j, i, echo_text(j, i), NULL);
}

static void part(Job *j, int choice, const AnswerPart *p) {
    Completion *c = j->state;
    if (c && c->lp && p->tok) note(&c->lp[choice], j->server->cfg.tok, p);
    if (!j->q.stream) return;
    if (p->text.n > 0 || p->end)
        put_event(j, choice, p->text, p->end ? server__choice(j, choice) : NULL);
}

static void put_choice(JsonW *w, const Job *j, int i) {
    const AnswerSample *a = server__choice(j, i);
    Slice echo = echo_text(j, i);
    StrBuf text = {0};
    jw_obj(w, NULL);
    jw_int(w, "index", i);
    sb_put(&text, echo.p, echo.n);
    sb_put(&text, sb_str(&a->text), a->text.n);
    if (text.failed) w->b->failed = true;
    jw_str(w, "text", taken(&text));
    sb_deinit(&text);
    put_logprobs(w, j, i);
    server__put_finish(w, j, a, server__finish_word(a->why));
    jw_end_obj(w);
}

static void free_lists(Job *j) {
    Completion *c = j->state;
    for (int i = 0; c && c->lp && i < server__n_choices(j); i++) {
        sb_deinit(&c->lp[i].offset);
        sb_deinit(&c->lp[i].logprob);
        sb_deinit(&c->lp[i].token);
        sb_deinit(&c->lp[i].top);
    }
    if (c) c->lp = NULL;
}

static void end_stream(Job *j) {
    JsonW w;
    Usage u = server__usage(j);
    if (wants(j, "include_usage")) {
        sb_puts(&j->out, "data: ");
        jw_init(&w, &j->out);
        put_head(&w, j);
        jw_arr(&w, "choices");
        jw_end_arr(&w);
        server__put_usage(&w, "usage", &u);
        jw_end_obj(&w);
        sb_puts(&j->out, "\n\n");
    }
    sb_puts(&j->out, "data: [DONE]\n\n");
}

static void end(Job *j) {
    JsonW w;
    Usage u = server__usage(j);
    if (j->q.stream) {
        end_stream(j);
        return;
    }
    jw_init(&w, &j->out);
    put_head(&w, j);
    jw_arr(&w, "choices");
    for (int i = 0; i < server__n_choices(j); i++) put_choice(&w, j, i);
    jw_end_arr(&w);
    server__put_usage(&w, "usage", &u);
    jw_end_obj(&w);
}

const JobWriter server__write_completion = {.begin = begin,
                                            .part = part,
                                            .end = end,
                                            .drop = free_lists};
