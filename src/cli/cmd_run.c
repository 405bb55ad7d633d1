/* SPDX-License-Identifier: Apache-2.0
 * ingot run: text from a prompt (run_generate.c), or a line to type at (run_lines.c): a conversation where the model has
 * a chat template (run_chat.c), else prompts one after another. */
#include <signal.h>
#include <stdio.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/run_session.h"

enum { MAX_PROMPT = 256 << 20 };

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
     .help = "tokens to generate at most; in a conversation, unless given, as many as fit"},
    {.key = "chat",
     .type = OPT_BOOL,
     .offset = AT(chat),
     .help =
         "talk through the model's chat template, also with -p and -f; --no-chat continues texts. "
         "Without either: a conversation where lines are typed and the model has a template"},
    {.key = "system",
     .type = OPT_STR,
     .offset = AT(system),
     .metavar = "TEXT",
     .help = "the system message of a conversation"},
    {.key = "template",
     .type = OPT_STR,
     .offset = AT(template_file),
     .metavar = "FILE",
     .help = "a chat template to use instead of the model's own"},
    {.key = "think",
     .type = OPT_BOOL,
     .offset = AT(think),
     .help = "tell the template whether to reason (enable_thinking); unless given, it decides"},
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
    CLI_CTX_OPT(AT(ctx)),
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
    .about =
        "Continues a text. With -p or -f the continuation of that prompt is printed as it is "
        "generated;\n"
        "without them you type lines (/help lists what else): messages of a conversation where the "
        "model has a\n"
        "chat template, prompts to be continued where it has none. Ctrl-C stops a generation, "
        "Ctrl-D leaves.\n"
        "\n"
        "examples:\n"
        "  ingot run model.gguf -p \"def fibonacci(n):\" -n 64\n"
        "  ingot run model.gguf -f prompt.txt --temp 0\n"
        "  ingot run model.gguf\n"
        "  ingot run model.gguf --chat -p \"What is a monad?\" --system \"Be brief.\"",
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

/* ---- the session ---- */

static Status plan(EngineOpts *o, RunSession *r, Err *e) {
    const RunCmd *c = r->c;
    const CliModel *m = &r->m;
    char a[32], b[32], line[96];
    size_t bytes = 0;
    *o = (EngineOpts){.max_seqs = (int)c->samples,
                      .max_ctx = cli_ctx(c->ctx, m->m->cfg.ctx),
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
    if (st == OK) st = cli_chat_open(r, one, &e);
    Slice prompt = {text.p, text.n};
    int rc = st != OK       ? cli_fail(&e)
             : !one         ? cli_run_lines(r)
             : r->talk.chat ? cli_chat_say(r, prompt)
                            : cli_run_generate(r, prompt);
    engine_free(r->en);
    grammar_vocab_free(r->vocab);
    cli_model_close(&r->spec.draft);
    cli_model_close(&r->m);
    cli_loras_deinit(&r->loras);
    cli_chat_close(&r->talk);
    sb_deinit(&text);
    return rc;
}

static int run(const RunCmd *c, const char *path) {
    Err e = {0};
    RunSession r = {.c = c, .seed = (uint64_t)c->seed, .n_stop = c->stop.n};
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
    if (rc < 0) {
        c.has_n = opt_given(a.set, "n");
        c.has_seed = opt_given(a.set, "seed");
        c.has_chat = opt_given(a.set, "chat");
        c.has_think = opt_given(a.set, "think");
        rc = run(&c, a.pos.v[0]);
    }
    cli_args_deinit(&a);
    return rc;
}
