/* SPDX-License-Identifier: Apache-2.0
 * ingot score: how likely a model finds a text, and which of several continuations it prefers. */
#include <stdio.h>

#include "base/mem.h"
#include "cli/ask.h"
#include "cli/cli.h"
#include "engine/kv.h"
#include "text/json.h"

typedef struct ScoreCmd {
    const char *model_key;
    const char *prompt;
    OptList choice;
    int64_t top, threads;
    bool special;
} ScoreCmd;

#define AT(field) offsetof(ScoreCmd, field)
static const OptSpec opts[] = {
    {.key = "prompt",
     .letter = 'p',
     .type = OPT_STR,
     .offset = AT(prompt),
     .metavar = "TEXT",
     .help = "the text to score, or that the choices continue"},
    {.key = "choice",
     .type = OPT_LIST,
     .offset = AT(choice),
     .metavar = "TEXT",
     .help =
         "a continuation, once for each; blanks between prompt and choice belong to the choice"},
    {.key = "top",
     .type = OPT_INT,
     .offset = AT(top),
     .def = "0",
     .min = 0,
     .max = SAMPLE_MAX_TOP,
     .help = "without choices: so many of the likeliest tokens at each place"},
    CLI_SPECIAL_OPT(AT(special)),
    CLI_THREADS_OPT(AT(threads)),
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot score MODEL.gguf -p TEXT [--choice TEXT ...] [options]",
    .about =
        "Log-probabilities of a text under a model. With choices: of each of them as the "
        "continuation of the\n"
        "prompt, which is how a model without training for it classifies; the prompt is computed "
        "once. Without:\n"
        "of every token of the prompt but the first. Prints one JSON object. Prompt and choices "
        "are "
        "tokenized\n"
        "apart, so give a choice the blank that its first word begins with.\n"
        "  {\"prompt_tokens\", \"choices\": [{\"text\", \"logprob\", \"prob\", \"tokens\", "
        "\"token_logprobs\"}], \"best\"}\n"
        "  {\"prompt_tokens\", \"logprob\", \"tokens\": [{\"id\", \"text\", \"logprob\", \"rank\", "
        "\"top\"}]}\n"
        "\n"
        "example:\n"
        "  ingot score model.gguf -p 'What a lovely film! The review is' --choice ' good' "
        "--choice ' bad'",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

typedef struct Scoring {
    CliAsk *ask; /* first: what cli_ask_done looks for */
    const ScoreCmd *c;
    TokBuf prompt;
    TokBuf *choice;     /* owned, [c->choice.n] */
    AskChoice *choices; /* owned, the same */
    StrBuf out;
    JsonW w;
    double sum; /* of the prompt's log-probabilities */
} Scoring;

/* ---- results, on the engine's thread: nobody else looks at s until the request is over ---- */

static void put_token(Scoring *s, int32_t id, double logprob) {
    StrBuf text = {0};
    jw_int(&s->w, "id", id);
    if (tok_decode(s->ask->m.tok, &id, 1, &text, NULL) == OK)
        jw_str(&s->w, "text", (Slice){sb_str(&text), text.n});
    jw_num(&s->w, "logprob", logprob);
    sb_deinit(&text);
}

static void on_prompt(void *ctx, int at, const SampleOut *t) {
    Scoring *s = ctx;
    (void)at;
    s->sum += t->logprob;
    jw_obj(&s->w, NULL);
    put_token(s, t->id, t->logprob);
    jw_int(&s->w, "rank", t->rank);
    if (t->n_top > 0) jw_arr(&s->w, "top");
    for (int i = 0; i < t->n_top; i++) {
        jw_obj(&s->w, NULL);
        put_token(s, t->top[i].id, t->top[i].logprob);
        jw_end_obj(&s->w);
    }
    if (t->n_top > 0) jw_end_arr(&s->w);
    jw_end_obj(&s->w);
}

static void on_choices(void *ctx, const AskScore *x, int n) {
    Scoring *s = ctx;
    int best = 0;
    for (int i = 0; i < n; i++) {
        if (x[i].logprob > x[best].logprob) best = i;
        jw_obj(&s->w, NULL);
        jw_cstr(&s->w, "text", s->c->choice.v[i]);
        jw_num(&s->w, "logprob", x[i].logprob);
        jw_num(&s->w, "prob", x[i].prob);
        jw_int(&s->w, "tokens", x[i].n);
        jw_arr(&s->w, "token_logprobs");
        for (int k = 0; k < x[i].n; k++) jw_num(&s->w, NULL, x[i].tok_logprob[k]);
        jw_end_arr(&s->w);
        jw_end_obj(&s->w);
    }
    jw_end_arr(&s->w);
    jw_cstr(&s->w, "best", s->c->choice.v[best]);
}

/* ---- the request ---- */

/* Tokens of prompt and choices; the longest text that they make, and the blocks of a KV cache in which as many
 * choices as fit into a step stand behind one prompt. */
static Status encode(Scoring *s, int *longest, int *n_blocks, Err *e) {
    const OptList *l = &s->c->choice;
    size_t most = 0;
    TRY(cli_model_encode(&s->prompt, &s->ask->m, slice_of(s->c->prompt), s->c->special, e));
    for (int i = 0; i < l->n; i++) {
        TokBuf *t = &s->choice[i];
        TRY(tok_encode(s->ask->m.tok, slice_of(l->v[i]), s->c->special, t, e));
        if (t->n == 0) return err_set(e, ERR_ARG, "choice %d is empty", i + 1);
        s->choices[i] = (AskChoice){t->v, (int)MIN(t->n, INT32_MAX)};
        most = MAX(most, t->n - 1); /* a last token is never read */
    }
    if (s->prompt.n + most > INT32_MAX) return err_set(e, ERR_ARG, "the text is too long");
    *longest = (int)(s->prompt.n + most);
    *n_blocks = kv_blocks_for(*longest) +
                MIN(l->n, CLI_ASK_SEQS) * (kv_blocks_for((int)most) + 2 /* its first, a spare */);
    return OK;
}

static Status ask(Scoring *s, Err *e) {
    int n = s->c->choice.n;
    EngineAsk want = {.prompt_logprobs = n == 0,
                      .prompt_top = n == 0 ? (int)s->c->top : 0,
                      .choices = s->choices,
                      .n_choices = n,
                      .on_prompt = on_prompt,
                      .on_choices = on_choices};
    EngineReq r = {.prompt = s->prompt.v,
                   .n_prompt = (int)s->prompt.n,
                   .ask = &want,
                   .on_done = cli_ask_done,
                   .ctx = s};
    jw_init(&s->w, &s->out);
    jw_obj(&s->w, NULL);
    jw_int(&s->w, "prompt_tokens", r.n_prompt);
    jw_arr(&s->w, n ? "choices" : "tokens");
    TRY(engine_submit(s->ask->en, &r, NULL, e));
    TRY(cli_ask_wait(s->ask, 1, e));
    if (n == 0) jw_end_arr(&s->w);
    if (n == 0) jw_num(&s->w, "logprob", s->sum);
    jw_end_obj(&s->w);
    return OK;
}

static int score(const ScoreCmd *c, const char *path) {
    Err e = {0};
    CliAsk a;
    Scoring s = {.ask = &a, .c = c};
    int longest = 0, n_blocks = 0;
    size_t n = (size_t)c->choice.n;
    Status st = cli_ask_open(&a, path, c->threads, &e);
    s.choice = mem_new_n(TokBuf, MAX(n, 1));
    s.choices = mem_new_n(AskChoice, MAX(n, 1));
    if (st == OK && (!s.choice || !s.choices)) st = err_set(&e, ERR_NOMEM, "%zu choices", n);
    if (st == OK) st = encode(&s, &longest, &n_blocks, &e);
    if (st == OK) st = cli_ask_start(&a, (int)MAX(n, 1), longest, n_blocks, &e);
    if (st == OK) st = ask(&s, &e);
    int rc = st == OK ? cli_print_json(&s.out) : cli_fail(&e);
    cli_ask_close(&a);
    for (size_t i = 0; s.choice && i < n; i++) tokbuf_deinit(&s.choice[i]);
    mem_free(s.choice);
    mem_free(s.choices);
    tokbuf_deinit(&s.prompt);
    sb_deinit(&s.out);
    return rc;
}

int cmd_score(int argc, char **argv) {
    ScoreCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !c.prompt) rc = cli_usage(&spec, "no text: -p TEXT");
    if (rc < 0 && c.top > 0 && c.choice.n > 0) rc = cli_usage(&spec, "--top is without choices");
    if (rc < 0) rc = score(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
