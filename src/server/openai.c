/* SPDX-License-Identifier: Apache-2.0
 * What OpenAI's answers have in common, and text completions. */
#include <math.h>
#include <stdio.h>

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

/* Six digits are what there is in it. -inf has no JSON; -9999 is what clients know for it. */
static void put_number(JsonW *w, const char *key, double logprob) {
    char text[32];
    int n = snprintf(text, sizeof text, "%.6g", isfinite(logprob) ? logprob : -9999.0);
    jw_raw(w, key, (Slice){text, (size_t)MAX(n, 0)});
}

static void put_token(JsonW *w, const Tokenizer *t, int32_t id, double logprob) {
    Slice text = tok_piece(t, id);
    if (text.n == 0) text = tok_text(t, id);
    jw_str(w, "token", text);
    put_number(w, "logprob", logprob);
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
    StrBuf *echo;     /* [n_answers] in the arena: the prompts' texts; NULL: not asked for */
} Completion;

static Slice taken(const StrBuf *b) { return (Slice){sb_str(b), b->n}; }

static void comma(StrBuf *b) {
    if (b->n > 0) sb_putc(b, ',');
}

static Slice text_of(const Tokenizer *t, int32_t id) {
    Slice text = tok_piece(t, id);
    return text.n > 0 ? text : tok_text(t, id);
}

/* One member of a token's alternatives; of those with the same text the first stays. */
static void put_alternative(JsonW *w, const Tokenizer *t, const SampleOut *s, int i) {
    StrBuf key = {0};
    bool chosen = i < 0;
    Slice text = text_of(t, chosen ? s->id : s->top[i].id);
    bool twice = !chosen && slice_eq(text, text_of(t, s->id));
    for (int k = 0; k < i && !twice; k++) twice = slice_eq(text, text_of(t, s->top[k].id));
    sb_put(&key, text.p, text.n);
    if (!twice) put_number(w, sb_str(&key), chosen ? s->logprob : s->top[i].logprob);
    sb_deinit(&key);
}

/* The chosen token, then the likeliest others. */
static void put_top(StrBuf *b, const Tokenizer *t, const SampleOut *s) {
    JsonW w;
    comma(b);
    jw_init(&w, b);
    jw_obj(&w, NULL);
    for (int i = -1; i < s->n_top; i++) put_alternative(&w, t, s, i);
    jw_end_obj(&w);
}

static int64_t n_chars(Slice s) {
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void note(TextLogprobs *lp, const Tokenizer *t, const SampleOut *tok) {
    JsonW w;
    Slice text = text_of(t, tok->id);
    comma(&lp->offset);
    sb_printf(&lp->offset, "%lld", (long long)lp->at);
    comma(&lp->logprob);
    jw_init(&w, &lp->logprob);
    put_number(&w, NULL, tok->logprob);
    comma(&lp->token);
    jw_init(&w, &lp->token);
    jw_str(&w, NULL, text);
    put_top(&lp->top, t, tok);
    lp->at += n_chars(tok_piece(t, tok->id));
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
    const Completion *c = j->state;
    return c && c->echo ? taken(&c->echo[choice / j->n_samples]) : (Slice){"", 0};
}

/* A prompt may be text or ids, alone or one of several. */
static void read_echo(StrBuf *out, const Job *j, int i) {
    const Json *v = j->q.prompt, *first = json_at(v, 0);
    if (json_is_array(v) && (json_is_str(first) || json_is_array(first))) v = json_at(v, (size_t)i);
    sb_put(out, json_str(v).p, json_str(v).n);
    for (size_t k = 0; json_is_array(v) && k < json_len(v); k++) {
        Slice piece = tok_piece(j->server->cfg.tok, (int32_t)json_int(json_at(v, k)));
        sb_put(out, piece.p, piece.n);
    }
}

static void begin(Job *j) {
    int n = server__n_choices(j);
    Completion *c = arena_new(&j->arena, Completion);
    j->state = c;
    if (!c) return;
    if (j->q.logprobs) c->lp = arena_new_n(&j->arena, TextLogprobs, (size_t)n);
    if (j->q.echo) c->echo = arena_new_n(&j->arena, StrBuf, (size_t)j->n_answers);
    for (int i = 0; c->echo && i < j->n_answers; i++) read_echo(&c->echo[i], j, i);
    for (int i = 0; c->lp && i < n; i++) c->lp[i].at = n_chars(echo_text(j, i));
    for (int i = 0; j->q.stream && c->echo && i < n; i++) put_event(j, i, echo_text(j, i), NULL);
}

static void part(Job *j, int choice, const AnswerPart *p) {
    Completion *c = j->state;
    if (c && c->lp && p->tok) note(&c->lp[choice], j->server->cfg.tok, p->tok);
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
    for (int i = 0; c && c->echo && i < j->n_answers; i++) sb_deinit(&c->echo[i]);
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
