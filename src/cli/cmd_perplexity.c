/* SPDX-License-Identifier: Apache-2.0
 * ingot perplexity: how well a model predicts a text (eval/perplexity.c), for one model or two. Here:
 * options, reading the text, progress, the report. */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "cli/lora.h"
#include "cli/model.h"
#include "eval/perplexity.h"
#include "text/json.h"

enum { MAX_TEXT = 1 << 30 };

typedef struct PplCmd {
    const char *model_key;
    const char *file, *kv, *logprobs;
    int64_t ctx, chunks, threads;
    bool all, json, quiet;
    OptList lora;
} PplCmd;

#define AT(field) offsetof(PplCmd, field)
static const OptSpec opts[] = {
    {.key = "file",
     .letter = 'f',
     .type = OPT_STR,
     .offset = AT(file),
     .metavar = "FILE",
     .help = "the text; - is standard input"},
    {.key = "ctx",
     .letter = 'c',
     .type = OPT_INT,
     .offset = AT(ctx),
     .def = "0",
     .min = 0,
     .max = MODEL_MAX_CTX,
     .help = "tokens of a window; 0: 512, or the model's context length if that is less"},
    {.key = "chunks",
     .type = OPT_INT,
     .offset = AT(chunks),
     .def = "0",
     .min = 0,
     .max = INT32_MAX,
     .help = "windows to score; 0: all that the text fills"},
    {.key = "all",
     .type = OPT_BOOL,
     .offset = AT(all),
     .help = "score every token of a window but the first, not only its second half"},
    {.key = "logprobs",
     .type = OPT_STR,
     .offset = AT(logprobs),
     .metavar = "FILE",
     .help = "write a line \"id logprob\" for each scored token (one model only)"},
    CLI_KV_OPT(AT(kv)),
    {.key = "lora",
     .type = OPT_LIST,
     .offset = AT(lora),
     .metavar = "FILE[:SCALE]",
     .help = CLI_LORA_HELP ", of each model"},
    CLI_THREADS_OPT(AT(threads)),
    CLI_QUIET_OPT(AT(quiet)),
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object a model"},
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot perplexity MODEL.gguf [OTHER.gguf] -f text.txt [options]",
    .about = "Measures how well a model predicts a text: exp of the mean negative log-probability "
             "of its tokens,\n"
             "so lower is better. The text is cut into windows; the second half of each is scored, "
             "given all\n"
             "before it in the window (the definition that llama.cpp uses). A second model is "
             "scored on the same\n"
             "text and the difference printed: what a quantization cost.\n"
             "\n"
             "example:\n"
             "  ingot perplexity model.gguf model-q4_0.gguf -f test.txt -c 512",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 2,
};

/* One model on the text, with what its callbacks need. */
typedef struct Scoring {
    CliBar bar;
    IoWriter log; /* of --logprobs */
    Err log_err;
    Status log_status;
    EvalPpl r;
    double seconds;
} Scoring;

static void on_progress(void *ctx, const EvalPpl *so_far, int n_chunks) {
    Scoring *s = ctx;
    char tail[48];
    snprintf(tail, sizeof tail, "perplexity %.4f", so_far->perplexity);
    cli_bar_update(&s->bar, so_far->n_chunks, n_chunks, tail);
}

static void on_token(void *ctx, int32_t id, double logprob) {
    Scoring *s = ctx;
    char line[64];
    int n = snprintf(line, sizeof line, "%d %.9g\n", id, logprob);
    if (s->log_status == OK) s->log_status = io_write(&s->log, line, (size_t)n, &s->log_err);
}

/* With --logprobs the file appears whole or not at all. */
static Status score_text(Scoring *s, const PplCmd *c, const CliModel *m, const TokBuf *ids,
                         LoraUse lora, Err *e) {
    EvalPplOpts o = {.ctx = (int)c->ctx,
                     .max_chunks = (int)c->chunks,
                     .all = c->all,
                     .lora = lora,
                     .kv_type = cli_kv_type(c->kv),
                     .n_threads = cli_threads(c->threads),
                     .has_bos = tok_bos(m->tok) >= 0,
                     .bos = tok_bos(m->tok),
                     .progress = on_progress,
                     .on_token = c->logprobs ? on_token : NULL,
                     .cb_ctx = s,
                     .stop = cli_stop_flag()};
    if (c->logprobs) TRY(io_writer_open(&s->log, c->logprobs, true, e));
    Status st = eval_perplexity(&s->r, m->m, ids->v, ids->n, &o, e);
    if (st == OK && s->log_status != OK) {
        *e = s->log_err;
        st = s->log_status;
    }
    if (c->logprobs && st == OK) return io_writer_close(&s->log, e);
    if (c->logprobs) io_writer_abort(&s->log);
    return st;
}

static Status load_adapter(LoraUse *use, Lora **own, const PplCmd *c, const Model *m, Err *e) {
    CliLoras l = {0};
    Status st = cli_loras_parse(&l, &c->lora, e);
    if (st == OK && l.n > 0) st = lora_load(own, m, l.v[0].path, e);
    if (st == OK && l.n > 0) *use = (LoraUse){*own, (float)l.v[0].scale};
    cli_loras_deinit(&l);
    return st;
}

static Status score(Scoring *s, const PplCmd *c, const char *path, Slice text, Err *e) {
    CliModel m;
    TokBuf ids = {0};
    Lora *lora = NULL;
    LoraUse use = {0};
    double t0 = clock_now_s();
    Status st = cli_model_open(&m, path, (DeviceOpts){.n_threads = cli_threads(c->threads)}, e);
    if (st == OK) st = load_adapter(&use, &lora, c, m.m, e);
    if (st == OK) st = cli_model_encode(&ids, &m, text, false, e);
    cli_bar_init(&s->bar, "perplexity", "windows", 1, c->quiet || c->json);
    if (st == OK) st = score_text(s, c, &m, &ids, use, e);
    cli_bar_finish(&s->bar);
    s->seconds = clock_now_s() - t0;
    tokbuf_deinit(&ids);
    lora_free(lora);
    cli_model_close(&m);
    return st;
}

static int print_json(const Scoring *s, const char *path) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "model", path);
    jw_num(&w, "perplexity", s->r.perplexity);
    jw_int(&w, "tokens", (int64_t)s->r.n_tok);
    jw_num(&w, "nll", s->r.nll);
    jw_int(&w, "chunks", s->r.n_chunks);
    jw_int(&w, "ctx", s->r.ctx);
    jw_num(&w, "seconds", s->seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const Scoring *s, const char *path) {
    char a[32], span[24];
    printf("%s: perplexity %.4f, %.4f nats a token; %s tokens scored in %d windows of %d, %s\n",
           path, s->r.perplexity, s->r.nll / (double)s->r.n_tok, cli_commas(a, s->r.n_tok),
           s->r.n_chunks, s->r.ctx, clock_format_span(span, s->seconds));
    return cli_flush_stdout();
}

static int compare(const PplCmd *c, const OptList *models, Slice text) {
    double ppl[2] = {0};
    for (int i = 0; i < models->n; i++) {
        Err e = {0};
        Scoring s = {0};
        if (score(&s, c, models->v[i], text, &e) != OK) return cli_fail(&e);
        int rc = c->json ? print_json(&s, models->v[i]) : print_text(&s, models->v[i]);
        if (rc != CLI_OK) return rc;
        ppl[i] = s.r.perplexity;
    }
    if (models->n < 2 || c->json) return CLI_OK;
    printf("difference: %+.4f, a factor of %.4f\n", ppl[1] - ppl[0], ppl[1] / ppl[0]);
    return cli_flush_stdout();
}

static int perplexity(const PplCmd *c, const OptList *models) {
    Err e = {0};
    StrBuf text = {0};
    int rc;
    if (io_read_file(&text, c->file, MAX_TEXT, &e) != OK) rc = cli_fail(&e);
    else if (text.n == 0) rc = cli_usage(&spec, "%s is empty", c->file);
    else rc = compare(c, models, (Slice){text.p, text.n});
    sb_deinit(&text);
    return rc;
}

int cmd_perplexity(int argc, char **argv) {
    PplCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !c.file) rc = cli_usage(&spec, "no text: -f text.txt");
    if (rc < 0 && c.lora.n > 1) rc = cli_usage(&spec, "--lora: one adapter at a time");
    if (rc < 0 && c.logprobs && a.pos.n > 1) rc = cli_usage(&spec, "--logprobs takes one model");
    if (rc < 0) rc = perplexity(&c, &a.pos);
    cli_args_deinit(&a);
    return rc;
}
