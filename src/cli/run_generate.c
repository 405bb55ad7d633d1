/* SPDX-License-Identifier: Apache-2.0
 * One answer of `ingot run`, shown as it comes.
 *
 * The main thread reads an Answer and prints it: a slow terminal does not hold the model up, and Ctrl-C is noticed
 * while the model computes. Of several samples the first that is not complete is shown as it comes, the next ones
 * follow. */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/cli.h"
#include "cli/run_session.h"
#include "text/json.h"

enum {
    POLL_MS = 50, /* Ctrl-C is seen at least so often */
    WARM_MS = 200
};

/* What stands on standard output: samples before `sample`, and so much of that one. */
typedef struct Shown {
    int sample;
    size_t n; /* bytes of text, or ids */
    bool begun;
    ChatSplit split; /* of a conversation at a terminal: reasoning is dimmed */
    bool dim;        /* the terminal is */
} Shown;

static Slice rendered(const RunSession *r) {
    return (Slice){sb_str(&r->talk.rendered), r->talk.rendered.n};
}

static bool splits(const RunSession *r) {
    return r->talk.chat && !r->c->ids && isatty(STDOUT_FILENO) && chat_thinks(r->talk.chat);
}

static Shown shown_from(const RunSession *r, int sample) {
    Shown s = {.sample = sample};
    if (splits(r)) chat_split_init(&s.split, r->talk.chat, rendered(r));
    return s;
}

/* Reasoning in dim letters, an empty line, then the answer. */
static void put_parts(StrBuf *b, Shown *s, Slice text, bool end) {
    StrBuf thought = {0}, content = {0};
    chat_split_push(&s->split, text, &thought, &content);
    if (end) chat_split_finish(&s->split, &thought, &content);
    if (thought.n && !s->dim) sb_puts(b, "\033[2m");
    if (thought.n) s->dim = true;
    sb_put(b, sb_str(&thought), thought.n);
    if (s->dim && (content.n || end)) {
        sb_puts(b, content.n ? "\033[0m\n\n" : "\033[0m");
        s->dim = false;
    }
    sb_put(b, sb_str(&content), content.n);
    sb_deinit(&thought);
    sb_deinit(&content);
}

static void put_new(StrBuf *b, const RunSession *r, Shown *s, const AnswerSample *a) {
    if (!s->begun && !r->c->ids && answer_n(r->answer) > 1)
        sb_printf(b, "--- %d of %d\n", s->sample + 1, answer_n(r->answer));
    s->begun = true;
    if (!r->c->ids) {
        Slice fresh = {sb_str(&a->text) + s->n, a->text.n - s->n};
        if (splits(r)) put_parts(b, s, fresh, a->ended);
        else sb_put(b, fresh.p, fresh.n);
        s->n = a->text.n;
    }
    for (; r->c->ids && s->n < a->ids.n; s->n++) sb_printf(b, s->n ? " %d" : "%d", a->ids.v[s->n]);
    if (a->ended) sb_putc(b, '\n');
}

/* Show what has come. False when standard output is gone. */
static bool show(const RunSession *r, Shown *s) {
    StrBuf b = {0};
    while (s->sample < answer_n(r->answer)) {
        const AnswerSample *a = answer_sample(r->answer, s->sample);
        put_new(&b, r, s, a);
        if (!a->ended) break;
        *s = shown_from(r, s->sample + 1);
    }
    if (b.n) fwrite(b.p, 1, b.n, stdout);
    sb_deinit(&b);
    return answer_done(r->answer) ||
           fflush(stdout) == 0; /* the last part is the caller's to flush */
}

static void read_parts(RunSession *r) {
    AnswerPart part;
    while (answer_next(r->answer, &part)) {
        if (!part.tok) continue;
        r->t_last = clock_now_s();
        if (r->t_first <= 0) r->t_first = r->t_last;
    }
}

/* Show tokens as they come until the end. True if Ctrl-C or a closed output ended it. */
static bool follow(RunSession *r) {
    Shown shown = shown_from(r, 0);
    bool stopped = false;
    r->t_first = r->t_last = 0;
    for (;;) {
        read_parts(r);
        bool ok = r->c->json || show(r, &shown);
        if (answer_done(r->answer)) return stopped;
        if (!stopped && (!ok || cli_run_interrupted())) {
            stopped = true;
            answer_cancel(r->answer);
        }
        answer_wait(r->answer, POLL_MS);
    }
}

static double rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

/* Tokens of all samples. */
static int count_tokens(const RunSession *r) {
    size_t n = 0;
    for (int i = 0; i < answer_n(r->answer); i++) n += answer_sample(r->answer, i)->ids.n;
    return (int)n;
}

static void print_speed(const RunSession *r, double t0) {
    int n = count_tokens(r);
    if (n == 0) return;
    fprintf(
        stderr,
        "prompt: %d tokens, %.1f tok/s; generated: %d tokens, %.1f tok/s; ended by %s; seed %llu\n",
        r->n_prompt, rate(r->n_prompt, r->t_first - t0), n, rate(n - 1, r->t_last - r->t_first),
        answer_finish_name(answer_sample(r->answer, 0)->why), (unsigned long long)r->seed);
}

/* Of all generations so far. */
static void print_guesses(const RunSession *r) {
    EngineStats s = engine_stats(r->en);
    if (r->c->speculate)
        fprintf(stderr, "guessed: %llu tokens in %llu drafts, %llu right; %llu steps\n",
                (unsigned long long)s.n_draft_tok, (unsigned long long)s.n_drafts,
                (unsigned long long)s.n_draft_ok, (unsigned long long)s.n_steps);
}

static void put_guesses(JsonW *w, const RunSession *r) {
    EngineStats stats = engine_stats(r->en);
    if (!r->c->speculate) return;
    jw_int(w, "drafted", (int64_t)stats.n_draft_tok);
    jw_int(w, "drafted_right", (int64_t)stats.n_draft_ok);
}

/* The text once more, reasoning and content apart. */
static void put_split(JsonW *w, const RunSession *r, const AnswerSample *a) {
    StrBuf thought = {0}, content = {0};
    ChatSplit s;
    chat_split_init(&s, r->talk.chat, rendered(r));
    chat_split_push(&s, (Slice){sb_str(&a->text), a->text.n}, &thought, &content);
    chat_split_finish(&s, &thought, &content);
    if (thought.n) jw_str(w, "reasoning", (Slice){sb_str(&thought), thought.n});
    jw_str(w, "content", (Slice){sb_str(&content), content.n});
    w->b->failed |= thought.failed || content.failed;
    sb_deinit(&thought);
    sb_deinit(&content);
}

static void put_sample(JsonW *w, const RunSession *r, const AnswerSample *a) {
    jw_int(w, "tokens", (int64_t)a->ids.n);
    jw_arr(w, "ids");
    for (size_t i = 0; i < a->ids.n; i++) jw_int(w, NULL, a->ids.v[i]);
    jw_end_arr(w);
    jw_str(w, "text", (Slice){sb_str(&a->text), a->text.n});
    jw_cstr(w, "finish", answer_finish_name(a->why));
    if (r->talk.chat) put_split(w, r, a);
    if (a->stop > 0) jw_str(w, "stop", r->stop[a->stop - 1]);
    if (a->stop_id >= 0) jw_int(w, "stop", a->stop_id);
}

static int print_json(const RunSession *r, double t0) {
    StrBuf b = {0};
    JsonW w;
    int n = answer_n(r->answer);
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_int(&w, "prompt_tokens", r->n_prompt);
    jw_int(&w, "cached_tokens", answer_sample(r->answer, 0)->n_cached);
    if (n == 1) put_sample(&w, r, answer_sample(r->answer, 0));
    else jw_arr(&w, "samples");
    for (int i = 0; n > 1 && i < n; i++) {
        jw_obj(&w, NULL);
        put_sample(&w, r, answer_sample(r->answer, i));
        jw_end_obj(&w);
    }
    if (n > 1) jw_end_arr(&w);
    jw_int(&w, "seed", (int64_t)r->seed);
    jw_num(&w, "prefill_tok_s", r->t_first > 0 ? rate(r->n_prompt, r->t_first - t0) : 0);
    jw_num(&w, "decode_tok_s", rate(count_tokens(r) - 1, r->t_last - r->t_first));
    put_guesses(&w, r);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

/* The seed of a generation that names none: below 2^53, so that it can be given back as --seed. */
static uint64_t random_seed(void) {
    return rng_key(clock_now_ns() ^ (uint64_t)getpid() << 32, "run") >> 11;
}

/* One for each sample, or none. *g is owned by the caller; what it holds, by answer_new. */
static Status make_grammars(Grammar ***g, const RunSession *r, Err *e) {
    int n = (int)r->c->samples;
    if (!r->vocab) return OK;
    *g = mem_new_n(Grammar *, (size_t)n);
    if (!*g) return err_set(e, ERR_NOMEM, "%d grammars", n);
    for (int i = 0; i < n; i++) {
        TRY(cli_run_grammar(&(*g)[i], &r->c->grammar, e));
        TRY(grammar_warm((*g)[i], r->vocab, MAX(1, WARM_MS / n), e));
    }
    return OK;
}

/* Tokens to generate at most: as asked for; in a conversation, if nothing is said, what the context has room for. */
static int most_new(const RunSession *r) {
    int64_t n = r->talk.chat && !r->c->has_n ? INT32_MAX : r->c->n;
    return (int)MIN(n, engine_max_ctx(r->en));
}

static Status start(RunSession *r, Grammar **grammars, const TokBuf *ids, Err *e) {
    const RunCmd *c = r->c;
    EngineDoor door = engine_door(r->en);
    int32_t end_id = r->talk.chat ? chat_end_id(r->talk.chat) : -1;
    EngineReq req = {.prompt = ids->v,
                     .n_prompt = (int)MIN(ids->n, INT32_MAX),
                     .max_new = most_new(r),
                     .sample = {.temp = c->temp,
                                .top_k = c->top_k,
                                .top_p = c->top_p,
                                .seed = r->seed,
                                .stop_ids = &end_id,
                                .n_stop_ids = end_id >= 0 && !c->ignore_end},
                     .ignore_end = c->ignore_end,
                     .adapter = r->loras.n > 0 ? r->loras.v[0].name : NULL};
    AnswerOpts o = {.n = (int)c->samples,
                    .stop = r->stop,
                    .n_stop = r->n_stop,
                    .include_stop = c->include_stop,
                    .grammars = grammars};
    r->n_prompt = req.n_prompt;
    return answer_new(&r->answer, &door, r->m.tok, &req, &o, e);
}

static Status submit(RunSession *r, const TokBuf *ids, Err *e) {
    Grammar **grammars = NULL;
    uint64_t nth = r->talk.chat ? r->talk.n_answers++ : 0;
    r->seed = r->c->has_seed ? (uint64_t)r->c->seed + nth : random_seed();
    Status st = make_grammars(&grammars, r, e);
    if (st == OK) st = start(r, grammars, ids, e);
    else
        for (int i = 0; grammars && i < (int)r->c->samples; i++) grammar_free(grammars[i]);
    mem_free(grammars);
    return st;
}

/* The error of the first sample that has one, or NULL. */
static const Err *find_error(const Answer *a) {
    for (int i = 0; i < answer_n(a); i++)
        if (answer_sample(a, i)->why == FINISH_ERROR) return &answer_sample(a, i)->err;
    return NULL;
}

int cli_run_generate_ids(RunSession *r, const TokBuf *ids, StrBuf *text) {
    Err e = {0};
    double t0 = clock_now_s();
    if (submit(r, ids, &e) != OK) return cli_fail(&e);
    bool stopped = follow(r);
    const Err *failed = find_error(r->answer);
    int rc = failed ? cli_fail(failed) : r->c->json ? print_json(r, t0) : cli_flush_stdout();
    if (!failed && r->c->verbose) {
        print_speed(r, t0);
        print_guesses(r);
    }
    const AnswerSample *a = answer_sample(r->answer, 0);
    if (text) sb_put(text, sb_str(&a->text), a->text.n);
    answer_free(r->answer);
    r->answer = NULL;
    return rc == CLI_OK && stopped ? CLI_FAIL : rc;
}

int cli_run_generate(RunSession *r, Slice text) {
    TokBuf ids = {0};
    Err e = {0};
    Status st = cli_model_encode(&ids, &r->m, text, r->c->special, &e);
    int rc = st == OK ? cli_run_generate_ids(r, &ids, NULL) : cli_fail(&e);
    tokbuf_deinit(&ids);
    return rc;
}
