/* SPDX-License-Identifier: Apache-2.0
 * ingot imatrix: which columns of each matrix matter, found by running a text (quant/collect.c). Here:
 * options, reading the text, progress, the report. */
#include <stdio.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "cli/model.h"
#include "quant/collect.h"
#include "text/json.h"

enum { MAX_TEXT = 1 << 30 };

typedef struct ImatrixCmd {
    const char *model_key;
    const char *file, *output;
    int64_t ctx, chunks, threads;
    bool process_output, json, quiet;
} ImatrixCmd;

#define AT(field) offsetof(ImatrixCmd, field)
static const OptSpec opts[] = {
    {.key = "file",
     .letter = 'f',
     .type = OPT_STR,
     .offset = AT(file),
     .metavar = "FILE",
     .help = "the text, of the kind the model is for; - is standard input"},
    {.key = "output",
     .letter = 'o',
     .type = OPT_STR,
     .offset = AT(output),
     .def = "imatrix.gguf",
     .metavar = "FILE",
     .help = "the file to write"},
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
     .help = "windows to run; 0: all that the text fills"},
    {.key = "process_output",
     .type = OPT_BOOL,
     .offset = AT(process_output),
     .help = "collect for the head too (output.weight)"},
    CLI_THREADS_OPT(AT(threads)),
    CLI_QUIET_OPT(AT(quiet)),
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object"},
    CLI_MODEL_KEY_OPT(AT(model_key)),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot imatrix MODEL.gguf -f text.txt [-o imatrix.gguf] [options]",
    .about =
        "Runs a text through a model and writes how large the inputs of each weight matrix were, "
        "column by\n"
        "column. ingot quantize --imatrix puts quantization errors where they matter least by it. "
        "Some hundred\n"
        "windows of text like what the model will see are enough. The file is llama.cpp's form, "
        "either way.\n"
        "\n"
        "example:\n"
        "  ingot imatrix model.gguf -f text.txt -o imatrix.gguf --chunks 100\n"
        "next:\n"
        "  ingot quantize model.gguf model-q4_K_M.gguf q4_K_M --imatrix imatrix.gguf",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

static int print_json(const ImatrixCmd *c, const ImatStats *st, double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "output", c->output);
    jw_int(&w, "entries", st->n_entries);
    jw_int(&w, "chunks", st->n_chunks);
    jw_int(&w, "ctx", st->ctx);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int report(const ImatrixCmd *c, const ImatStats *st, double seconds) {
    char span[24];
    if (c->json) return print_json(c, st, seconds);
    printf("%s: importance of %d matrices from %d windows of %d tokens, in %s\n", c->output,
           st->n_entries, st->n_chunks, st->ctx, clock_format_span(span, seconds));
    return cli_flush_stdout();
}

static Status collect(ImatStats *st, const ImatrixCmd *c, const char *path, Slice text, Err *e) {
    CliModel m;
    CliBar bar;
    TokBuf ids = {0};
    Status s = cli_model_open(&m, path, (DeviceOpts){.n_threads = cli_threads(c->threads)}, e);
    if (s == OK) s = cli_model_encode(&ids, &m, text, false, e);
    cli_bar_init(&bar, "imatrix", "windows", 1, c->quiet || c->json);
    if (s == OK) {
        ImatOpts o = {.ctx = (int)c->ctx,
                      .max_chunks = (int)c->chunks,
                      .process_output = c->process_output,
                      .n_threads = cli_threads(c->threads),
                      .has_bos = tok_bos(m.tok) >= 0,
                      .bos = tok_bos(m.tok),
                      .dataset = c->file,
                      .progress = cli_bar_count,
                      .progress_ctx = &bar,
                      .stop = cli_stop_flag()};
        s = imat_collect(st, c->output, m.m, ids.v, ids.n, &o, e);
    }
    cli_bar_finish(&bar);
    tokbuf_deinit(&ids);
    cli_model_close(&m);
    return s;
}

static int imatrix(const ImatrixCmd *c, const char *path) {
    Err e = {0};
    StrBuf text = {0};
    ImatStats st = {0};
    double t0 = clock_now_s();
    int rc;
    if (io_read_file(&text, c->file, MAX_TEXT, &e) != OK) rc = cli_fail(&e);
    else if (text.n == 0) rc = cli_usage(&spec, "%s is empty", c->file);
    else if (collect(&st, c, path, (Slice){text.p, text.n}, &e) != OK) rc = cli_fail(&e);
    else rc = report(c, &st, clock_now_s() - t0);
    sb_deinit(&text);
    return rc;
}

int cmd_imatrix(int argc, char **argv) {
    ImatrixCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !c.file) rc = cli_usage(&spec, "no text: -f text.txt");
    if (rc < 0) rc = imatrix(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
