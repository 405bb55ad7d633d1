/* SPDX-License-Identifier: Apache-2.0
 * ingot run: text from a prompt, shown as it comes, or a prompt line to type at (run_lines.c).
 *
 * The engine thread puts ids into a Stream, the main thread takes them out, detokenizes and prints: a slow
 * terminal does not hold the model up, and Ctrl-C is noticed while the model computes. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/rng.h"
#include "cli/cli.h"
#include "cli/model.h"
#include "cli/run.h"
#include "engine/engine.h"
#include "text/json.h"

enum { MAX_PROMPT = 256 << 20, DEFAULT_CTX = 4096, POLL_MS = 50, WARM_MS = 200 };

typedef struct RunCmd {
    const char *prompt, *file, *kv;
    int64_t n, top_k, seed, ctx, threads, chunk;
    bool batch_invariant;
    double temp, top_p;
    bool ids, json, verbose, special, ignore_end;
    RunGrammar grammar;
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
    {.key = "kv_cache_type",
     .type = OPT_CHOICE,
     .offset = AT(kv),
     .def = "f16",
     .choices = CLI_KV_TYPES,
     .help = "type of the KV cache"},
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
    {.key = "ids", .type = OPT_BOOL, .offset = AT(ids), .help = "print token ids instead of text"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = AT(json),
     .help = "print one JSON object at the end"},
    {.key = "batch_invariant",
     .type = OPT_BOOL,
     .offset = AT(batch_invariant),
     .help = "the same bits whatever is computed beside a request; prompts take longer"},
    {.key = "threads",
     .type = OPT_INT,
     .offset = AT(threads),
     .def = "0",
     .min = 0,
     .max = 4096,
     .help = "0: all processors"},
    {.key = "verbose",
     .letter = 'v',
     .type = OPT_BOOL,
     .offset = AT(verbose),
     .help = "memory, seed and speed on standard error"},
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

/* ---- from the engine to the terminal ---- */

/* Tokens of one generation. [mu] all but ids below n, which do not change any more. */
typedef struct Stream {
    pthread_mutex_t mu;
    pthread_cond_t more;
    int32_t *ids; /* owned; [cap] */
    int n, cap;
    bool done;
    FinishReason why;
    Err err;
    double t_first, t_last;
} Stream;

static void stream_token(void *ctx, const SampleOut *t) {
    Stream *s = ctx;
    pthread_mutex_lock(&s->mu);
    s->t_last = clock_now_s();
    if (s->n == 0) s->t_first = s->t_last;
    if (s->n < s->cap) s->ids[s->n++] = t->id;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->mu);
}

static void stream_done(void *ctx, FinishReason why, const Err *e) {
    Stream *s = ctx;
    pthread_mutex_lock(&s->mu);
    s->done = true;
    s->why = why;
    if (e) s->err = *e;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->mu);
}

/* Until there are more than `have` tokens or the end; at most POLL_MS, so that Ctrl-C is seen. */
static void stream_wait(Stream *s, int have, int *n, bool *done) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += POLL_MS * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_nsec -= 1000000000L;
        t.tv_sec++;
    }
    pthread_mutex_lock(&s->mu);
    while (s->n == have && !s->done)
        if (pthread_cond_timedwait(&s->more, &s->mu, &t) == ETIMEDOUT) break;
    *n = s->n;
    *done = s->done;
    pthread_mutex_unlock(&s->mu);
}

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
    Engine *en;
    bool has_seed;
    uint64_t seed; /* of the present generation */
    int n_prompt;
    Stream s;
    GrammarVocab *vocab; /* owned; NULL: no grammar */
};

/* Show tokens [from, n). False when standard output is gone. */
static bool show(const RunSession *r, Detok *d, int from, int n) {
    StrBuf b = {0};
    for (int i = from; i < n; i++) {
        if (r->c->ids) sb_printf(&b, i ? " %d" : "%d", r->s.ids[i]);
        else detok_push(d, r->s.ids[i], &b);
    }
    if (b.n) fwrite(b.p, 1, b.n, stdout);
    sb_deinit(&b);
    return fflush(stdout) == 0;
}

static void show_end(const RunSession *r, Detok *d) {
    StrBuf b = {0};
    if (!r->c->ids) detok_finish(d, &b);
    sb_putc(&b, '\n');
    if (b.n) fwrite(b.p, 1, b.n, stdout);
    sb_deinit(&b);
}

/* Show tokens as they come until the end. True if Ctrl-C or a closed output ended it. */
static bool follow(RunSession *r, uint64_t id) {
    Detok d;
    int shown = 0, n = 0;
    bool done = false, stopped = false;
    detok_init(&d, r->m.tok);
    while (!done) {
        stream_wait(&r->s, shown, &n, &done);
        bool ok = r->c->json || show(r, &d, shown, n);
        shown = n;
        if (stopped || (ok && !cli_run_interrupted())) continue;
        stopped = true;
        engine_cancel(r->en, id);
    }
    if (!r->c->json) show_end(r, &d);
    return stopped;
}

static Status stream_reset(Stream *s, int cap, Err *e) {
    mem_free(s->ids);
    s->ids = mem_new_n(int32_t, (size_t)cap);
    if (!s->ids) return err_set(e, ERR_NOMEM, "%d token ids", cap);
    s->cap = cap;
    s->n = 0;
    s->done = false;
    s->err = (Err){0};
    s->t_first = s->t_last = 0;
    return OK;
}

static const char *finish_name(FinishReason why) {
    static const char *const name[] = {"stop", "length", "cancelled", "error"};
    return name[why];
}

static double rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

static void print_speed(const RunSession *r, double t0) {
    const Stream *s = &r->s;
    if (s->n == 0) return;
    fprintf(
        stderr,
        "prompt: %d tokens, %.1f tok/s; generated: %d tokens, %.1f tok/s; ended by %s; seed %llu\n",
        r->n_prompt, rate(r->n_prompt, s->t_first - t0), s->n,
        rate(s->n - 1, s->t_last - s->t_first), finish_name(s->why), (unsigned long long)r->seed);
}

static Status put_json(StrBuf *b, const RunSession *r, double t0, Err *e) {
    const Stream *s = &r->s;
    StrBuf text = {0};
    JsonW w;
    Status st = tok_decode(r->m.tok, s->ids, (size_t)s->n, &text, e);
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_int(&w, "prompt_tokens", r->n_prompt);
    jw_int(&w, "tokens", s->n);
    jw_arr(&w, "ids");
    for (int i = 0; i < s->n; i++) jw_int(&w, NULL, s->ids[i]);
    jw_end_arr(&w);
    jw_str(&w, "text", (Slice){sb_str(&text), text.n});
    jw_cstr(&w, "finish", finish_name(s->why));
    jw_int(&w, "seed", (int64_t)r->seed);
    jw_num(&w, "prefill_tok_s", s->n ? rate(r->n_prompt, s->t_first - t0) : 0);
    jw_num(&w, "decode_tok_s", rate(s->n - 1, s->t_last - s->t_first));
    jw_end_obj(&w);
    sb_deinit(&text);
    return st;
}

static int print_json(const RunSession *r, double t0) {
    Err e = {0};
    StrBuf b = {0};
    int rc = put_json(&b, r, t0, &e) == OK ? cli_print_json(&b) : cli_fail(&e);
    sb_deinit(&b);
    return rc;
}

/* The seed of a generation that names none: below 2^53, so that it can be given back as --seed. */
static uint64_t random_seed(void) {
    return rng_key(clock_now_ns() ^ (uint64_t)getpid() << 32, "run") >> 11;
}

static Status submit(RunSession *r, uint64_t *id, Slice text, Err *e) {
    const RunCmd *c = r->c;
    TokBuf ids = {0};
    if (!r->has_seed) r->seed = random_seed();
    Status st = stream_reset(&r->s, (int)MIN(c->n, engine_max_ctx(r->en)), e);
    if (st == OK) st = cli_model_encode(&ids, &r->m, text, c->special, e);
    EngineReq req = {
        .prompt = ids.v,
        .n_prompt = (int)MIN(ids.n, INT32_MAX),
        .max_new = r->s.cap,
        .sample = {.temp = c->temp, .top_k = c->top_k, .top_p = c->top_p, .seed = r->seed},
        .ignore_end = c->ignore_end,
        .on_token = stream_token,
        .on_done = stream_done,
        .ctx = &r->s};
    r->n_prompt = req.n_prompt;
    if (st == OK) st = cli_run_grammar(&req.grammar, &c->grammar, e);
    if (st == OK && req.grammar) st = grammar_warm(req.grammar, r->vocab, WARM_MS, e);
    if (st == OK) st = engine_submit(r->en, &req, id, e);
    if (st != OK) grammar_free(req.grammar);
    tokbuf_deinit(&ids);
    return st;
}

int cli_run_generate(RunSession *r, Slice text) {
    Err e = {0};
    uint64_t id = 0;
    double t0 = clock_now_s();
    if (submit(r, &id, text, &e) != OK) return cli_fail(&e);
    bool stopped = follow(r, id);
    if (r->s.why == FINISH_ERROR) return cli_fail(&r->s.err);
    int rc = r->c->json ? print_json(r, t0) : cli_flush_stdout();
    if (r->c->verbose) print_speed(r, t0);
    return rc == CLI_OK && stopped ? CLI_FAIL : rc;
}

/* ---- the session ---- */

static Status plan(EngineOpts *o, const RunCmd *c, const CliModel *m, Err *e) {
    char a[32], b[32], line[96];
    size_t bytes = 0;
    int ctx = m->m->cfg.ctx;
    *o = (EngineOpts){.max_seqs = 1,
                      .max_ctx = c->ctx ? (int)c->ctx : MIN(ctx, DEFAULT_CTX),
                      .prefill_chunk = (int)c->chunk,
                      .kv_type = cli_kv_type(c->kv),
                      .tok = m->tok};
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
                    .batch_invariant = r->c->batch_invariant};
    TRY(cli_model_open(&r->m, path, d, e));
    TRY(plan(&o, r->c, &r->m, e));
    const RunGrammar *g = &r->c->grammar;
    if (g->schema || g->gbnf || g->regex) {
        TRY(grammar_vocab_new(&r->vocab, r->m.tok, e));
        o.vocab = r->vocab;
    }
    return engine_new(&r->en, r->m.m, &o, e);
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
    cli_model_close(&r->m);
    sb_deinit(&text);
    return rc;
}

static int run(const RunCmd *c, const char *path, bool has_seed) {
    RunSession r = {.c = c, .has_seed = has_seed, .seed = (uint64_t)c->seed};
    pthread_mutex_init(&r.s.mu, NULL);
    pthread_cond_init(&r.s.more, NULL);
    int rc = run_session(&r, path);
    pthread_cond_destroy(&r.s.more);
    pthread_mutex_destroy(&r.s.mu);
    mem_free(r.s.ids);
    return rc;
}

int cmd_run(int argc, char **argv) {
    RunCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && c.prompt && c.file) rc = cli_usage(&spec, "-p and -f are two prompts: give one");
    if (rc < 0 && c.ids && c.json) rc = cli_usage(&spec, "--ids and --json: give one");
    if (rc < 0) rc = run(&c, a.pos.v[0], opt_given(a.set, "seed"));
    cli_args_deinit(&a);
    return rc;
}
