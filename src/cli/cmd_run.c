/* SPDX-License-Identifier: Apache-2.0
 * ingot run: text from a prompt, shown as it comes, or a prompt line to type at (run_lines.c).
 *
 * The main thread reads an Answer and prints it: a slow terminal does not hold the model up, and Ctrl-C is noticed
 * while the model computes. Of several samples the first that is not complete is shown as it comes, the next ones
 * follow. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/rng.h"
#include "cli/cli.h"
#include "cli/lora.h"
#include "cli/model.h"
#include "cli/run.h"
#include "engine/answer.h"
#include "engine/stop.h"
#include "text/json.h"

enum {
    MAX_PROMPT = 256 << 20,
    DEFAULT_CTX = 4096,
    POLL_MS = 50, /* Ctrl-C is seen at least so often */
    WARM_MS = 200
};

typedef struct RunCmd {
    const char *model_key;
    const char *prompt, *file, *kv;
    int64_t n, samples, top_k, seed, ctx, threads, chunk;
    OptList stop;
    bool batch_invariant, no_pack;
    double temp, top_p;
    bool ids, json, verbose, special, ignore_end, include_stop;
    RunGrammar grammar;
    OptList lora;
    const char *speculate;
    int64_t speculate_tokens;
} RunCmd;

#define AT(field) offsetof(RunCmd, field)
static const OptSpec opts[] = {
    {.key = "prompt",
     .letter = 'p',
     .type = OPT_STR,
     .offset = AT(prompt),
     .metavar = "TEXT",
     .help = "the prompt"},
    {.key = "file",
     .letter = 'f',
     .type = OPT_STR,
     .offset = AT(file),
     .metavar = "FILE",
     .help = "read the prompt from a file; - is standard input"},
    {.key = "n",
     .letter = 'n',
     .type = OPT_INT,
     .offset = AT(n),
     .def = "256",
     .min = 1,
     .max = MODEL_MAX_CTX,
     .help = "tokens to generate at most"},
    {.key = "samples",
     .type = OPT_INT,
     .offset = AT(samples),
     .def = "1",
     .min = 1,
     .max = ANSWER_MAX_SAMPLES,
     .help = "answers to make together; the prompt is computed once"},
    {.key = "stop",
     .type = OPT_LIST,
     .offset = AT(stop),
     .metavar = "STRING",
     .help = "end an answer before this text; may be given several times"},
    {.key = "include_stop",
     .type = OPT_BOOL,
     .offset = AT(include_stop),
     .help = "end it behind that text instead"},
    {.key = "temp",
     .type = OPT_FLOAT,
     .offset = AT(temp),
     .def = "0.8",
     .min = 0,
     .max = 100,
     .help = "temperature; 0 always takes the likeliest token"},
    {.key = "top_k",
     .type = OPT_INT,
     .offset = AT(top_k),
     .def = "40",
     .min = 0,
     .max = INT32_MAX,
     .help = "choose among this many likeliest tokens; 0: off"},
    {.key = "top_p",
     .type = OPT_FLOAT,
     .offset = AT(top_p),
     .def = "0.95",
     .min = 1e-9,
     .max = 1,
     .help = "choose among the likeliest tokens that reach this probability together; 1: off"},
    {.key = "seed",
     .type = OPT_INT,
     .offset = AT(seed),
     .min = 0,
     .max = 9007199254740991.0,
     .help = "same seed, same text; without it every run differs"},
    {.key = "ctx",
     .letter = 'c',
     .type = OPT_INT,
     .offset = AT(ctx),
     .def = "0",
     .min = 0,
     .max = MODEL_MAX_CTX,
     .help = "tokens of prompt and answer together; 0: the model's context length, at most 4096"},
    CLI_KV_OPT(AT(kv)),
    {.key = "prefill_chunk",
     .type = OPT_INT,
     .offset = AT(chunk),
     .def = "256",
     .min = 1,
     .max = 65536,
     .help = "prompt tokens computed together"},
    {.key = "special",
     .type = OPT_BOOL,
     .offset = AT(special),
     .help = "special tokens written out in the prompt are special tokens"},
    {.key = "ignore_end",
     .type = OPT_BOOL,
     .offset = AT(ignore_end),
     .help = "go on after an end-of-text token"},
    {.key = "schema",
     .type = OPT_STR,
     .offset = AT(grammar.schema),
     .metavar = "FILE",
     .help = "the answer is JSON that this JSON Schema accepts"},
    {.key = "grammar",
     .type = OPT_STR,
     .offset = AT(grammar.gbnf),
     .metavar = "FILE",
     .help = "the answer is a text of this GBNF grammar"},
    {.key = "regex",
     .type = OPT_STR,
     .offset = AT(grammar.regex),
     .metavar = "PATTERN",
     .help = "the answer matches this regular expression as a whole"},
    {.key = "lora",
     .type = OPT_LIST,
     .offset = AT(lora),
     .metavar = "[NAME=]FILE[:SCALE]",
     .help = CLI_LORA_HELP},
    CLI_SPECULATE_OPTS(AT(speculate), AT(speculate_tokens)),
    {.key = "ids", .type = OPT_BOOL, .offset = AT(ids), .help = "print token ids instead of text"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = AT(json),
     .help = "print one JSON object at the end"},
    CLI_INVARIANT_OPT(AT(batch_invariant)),
    CLI_NO_PACK_OPT(AT(no_pack)),
    CLI_THREADS_OPT(AT(threads)),
    {.key = "verbose",
     .letter = 'v',
     .type = OPT_BOOL,
     .offset = AT(verbose),
     .help = "memory, seed and speed on standard error"},
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot run MODEL.gguf [-p TEXT | -f FILE] [options]",
    .about = "Continues a text. With -p or -f the continuation of that prompt is printed as it is "
             "generated;\n"
             "without them you type prompts, one a line (/help lists what else). Ctrl-C stops a "
             "generation,\n"
             "Ctrl-D leaves.\n"
             "\n"
             "examples:\n"
             "  ingot run model.gguf -p \"def fibonacci(n):\" -n 64\n"
             "  ingot run model.gguf -f prompt.txt --temp 0\n"
             "  ingot run model.gguf",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* ---- Ctrl-C ---- */

static atomic_int interrupted;

static void on_interrupt(int sig) {
    (void)sig;
    atomic_store_explicit(&interrupted, 1, memory_order_relaxed);
}

static void catch_interrupts(void) {
    struct sigaction a = {.sa_handler = on_interrupt}; /* no SA_RESTART: a read ends */
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a,
              NULL); /* SIGTERM ends the program as ever: it leaves nothing half-written */
}

bool cli_run_interrupted(void) {
    return atomic_exchange_explicit(&interrupted, 0, memory_order_relaxed) != 0;
}

/* ---- one generation ---- */

struct RunSession {
    const RunCmd *c;
    CliModel m;
    CliLoras loras;
    Engine *en;
    bool has_seed;
    uint64_t seed; /* of the present generation */
    int n_prompt;
    Answer *answer;         /* owned; the present one */
    double t_first, t_last; /* when its first and its newest token were seen */
    GrammarVocab *vocab;    /* owned; NULL: no grammar */
    CliSpeculate spec;
    Slice stop[SAMPLE_MAX_STOPS];
};

/* What stands on standard output: samples before `sample`, and so much of that one. */
typedef struct Shown {
    int sample;
    size_t n; /* bytes of text, or ids */
    bool begun;
} Shown;

static void put_new(StrBuf *b, const RunSession *r, Shown *s, const AnswerSample *a) {
    if (!s->begun && !r->c->ids && answer_n(r->answer) > 1)
        sb_printf(b, "--- %d of %d\n", s->sample + 1, answer_n(r->answer));
    s->begun = true;
    if (!r->c->ids) {
        if (a->text.n > s->n) sb_put(b, a->text.p + s->n, a->text.n - s->n);
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
        *s = (Shown){.sample = s->sample + 1};
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
    Shown shown = {0};
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

static void put_sample(JsonW *w, const RunSession *r, const AnswerSample *a) {
    jw_int(w, "tokens", (int64_t)a->ids.n);
    jw_arr(w, "ids");
    for (size_t i = 0; i < a->ids.n; i++) jw_int(w, NULL, a->ids.v[i]);
    jw_end_arr(w);
    jw_str(w, "text", (Slice){sb_str(&a->text), a->text.n});
    jw_cstr(w, "finish", answer_finish_name(a->why));
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

static Status start(RunSession *r, Grammar **grammars, const TokBuf *ids, Err *e) {
    const RunCmd *c = r->c;
    EngineDoor door = engine_door(r->en);
    EngineReq req = {
        .prompt = ids->v,
        .n_prompt = (int)MIN(ids->n, INT32_MAX),
        .max_new = (int)MIN(c->n, engine_max_ctx(r->en)),
        .sample = {.temp = c->temp, .top_k = c->top_k, .top_p = c->top_p, .seed = r->seed},
        .ignore_end = c->ignore_end,
        .adapter = r->loras.n > 0 ? r->loras.v[0].name : NULL};
    AnswerOpts o = {.n = (int)c->samples,
                    .stop = r->stop,
                    .n_stop = c->stop.n,
                    .include_stop = c->include_stop,
                    .grammars = grammars};
    r->n_prompt = req.n_prompt;
    return answer_new(&r->answer, &door, r->m.tok, &req, &o, e);
}

static Status submit(RunSession *r, Slice text, Err *e) {
    TokBuf ids = {0};
    Grammar **grammars = NULL;
    if (!r->has_seed) r->seed = random_seed();
    Status st = cli_model_encode(&ids, &r->m, text, r->c->special, e);
    if (st == OK) st = make_grammars(&grammars, r, e);
    if (st == OK) st = start(r, grammars, &ids, e);
    else
        for (int i = 0; grammars && i < (int)r->c->samples; i++) grammar_free(grammars[i]);
    mem_free(grammars);
    tokbuf_deinit(&ids);
    return st;
}

/* The error of the first sample that has one, or NULL. */
static const Err *find_error(const Answer *a) {
    for (int i = 0; i < answer_n(a); i++)
        if (answer_sample(a, i)->why == FINISH_ERROR) return &answer_sample(a, i)->err;
    return NULL;
}

int cli_run_generate(RunSession *r, Slice text) {
    Err e = {0};
    double t0 = clock_now_s();
    if (submit(r, text, &e) != OK) return cli_fail(&e);
    bool stopped = follow(r);
    const Err *failed = find_error(r->answer);
    int rc = failed ? cli_fail(failed) : r->c->json ? print_json(r, t0) : cli_flush_stdout();
    if (!failed && r->c->verbose) {
        print_speed(r, t0);
        print_guesses(r);
    }
    answer_free(r->answer);
    r->answer = NULL;
    return rc == CLI_OK && stopped ? CLI_FAIL : rc;
}

/* ---- the session ---- */

static Status plan(EngineOpts *o, RunSession *r, Err *e) {
    const RunCmd *c = r->c;
    const CliModel *m = &r->m;
    char a[32], b[32], line[96];
    size_t bytes = 0;
    int ctx = m->m->cfg.ctx;
    *o = (EngineOpts){.max_seqs = (int)c->samples,
                      .max_ctx = c->ctx ? (int)c->ctx : MIN(ctx, DEFAULT_CTX),
                      .prefill_chunk = (int)c->chunk,
                      .kv_type = cli_kv_type(c->kv),
                      .tok = m->tok};
    TRY(cli_loras_plan(o, &r->loras, &m->m->cfg, e));
    r->spec = (CliSpeculate){.how = c->speculate, .n_tok = c->speculate_tokens};
    TRY(cli_speculate(o, &r->spec, m, e));
    TRY(engine_plan_bytes(&bytes, &m->m->cfg, o, e));
    if (bytes > mem_limit_bytes())
        return err_set(
            e, ERR_NOMEM,
            "a context of %d tokens takes %s, this machine has %s: choose a smaller --ctx",
            o->max_ctx, cli_bytes(a, (double)bytes), cli_bytes(b, (double)mem_limit_bytes()));
    if (c->verbose)
        fprintf(stderr, "%s; context %d tokens, %s besides the weights\n",
                device_describe(m->dev, line), o->max_ctx, cli_bytes(a, (double)bytes));
    return OK;
}

static Status open_session(RunSession *r, const char *path, Err *e) {
    EngineOpts o;
    DeviceOpts d = {.n_threads = cli_threads(r->c->threads),
                    .batch_invariant = r->c->batch_invariant,
                    .no_pack = r->c->no_pack};
    TRY(cli_model_open(&r->m, path, d, e));
    TRY(cli_loras_parse(&r->loras, &r->c->lora, e));
    TRY(plan(&o, r, e));
    const RunGrammar *g = &r->c->grammar;
    if (g->schema || g->gbnf || g->regex) {
        TRY(grammar_vocab_new(&r->vocab, r->m.tok, e));
        o.vocab = r->vocab;
    }
    TRY(engine_new(&r->en, r->m.m, &o, e));
    return cli_loras_load(r->en, &r->loras, e);
}

static Status read_prompt(StrBuf *text, const RunCmd *c, Err *e) {
    if (c->file) TRY(io_read_file(text, c->file, MAX_PROMPT, e));
    else sb_puts(text, c->prompt);
    TRY(sb_check(text, e));
    return text->n > 0 ? OK : err_set(e, ERR_ARG, "the prompt is empty");
}

static int run_session(RunSession *r, const char *path) {
    Err e = {0};
    StrBuf text = {0};
    bool one = r->c->prompt || r->c->file;
    Status st = one ? read_prompt(&text, r->c, &e) : OK;
    if (st == OK) st = open_session(r, path, &e);
    if (st == OK) catch_interrupts();
    int rc = st != OK ? cli_fail(&e)
             : one    ? cli_run_generate(r, (Slice){text.p, text.n})
                      : cli_run_lines(r);
    engine_free(r->en);
    grammar_vocab_free(r->vocab);
    cli_model_close(&r->spec.draft);
    cli_model_close(&r->m);
    cli_loras_deinit(&r->loras);
    sb_deinit(&text);
    return rc;
}

static int run(const RunCmd *c, const char *path, bool has_seed) {
    Err e = {0};
    RunSession r = {.c = c, .has_seed = has_seed, .seed = (uint64_t)c->seed};
    if (c->stop.n > SAMPLE_MAX_STOPS) {
        err_set(&e, ERR_ARG, "%d stop strings, the limit is %d", c->stop.n, SAMPLE_MAX_STOPS);
        return cli_fail(&e);
    }
    for (int i = 0; i < c->stop.n; i++) r.stop[i] = slice_of(c->stop.v[i]);
    if (sample_stop_check(r.stop, c->stop.n, &e) != OK) return cli_fail(&e);
    return run_session(&r, path);
}

int cmd_run(int argc, char **argv) {
    RunCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && c.prompt && c.file) rc = cli_usage(&spec, "-p and -f are two prompts: give one");
    if (rc < 0 && c.lora.n > 1) rc = cli_usage(&spec, "--lora: one adapter at a time");
    if (rc < 0 && c.ids && c.json) rc = cli_usage(&spec, "--ids and --json: give one");
    if (rc < 0) rc = run(&c, a.pos.v[0], opt_given(a.set, "seed"));
    cli_args_deinit(&a);
    return rc;
}
