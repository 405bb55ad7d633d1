/* SPDX-License-Identifier: Apache-2.0
 * ingot export: a GGUF file as a Hugging Face folder (quant/export.c). Here: options and the report. */
#include "quant/export.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "text/json.h"

typedef struct ExportCmd {
    const char *type, *class_name, *shard_size;
    bool force, json, quiet;
} ExportCmd;

#define AT(field) offsetof(ExportCmd, field)
static const OptSpec opts[] = {
    {.key = "type",
     .type = OPT_CHOICE,
     .offset = AT(type),
     .def = "auto",
     .choices = "auto|f32|f16|bf16",
     .help = "of the matrices; auto: as the file has them, f16 where it has them quantized"},
    {.key = "class",
     .type = OPT_STR,
     .offset = AT(class_name),
     .metavar = "NAME",
     .help = "where an architecture has several, as llama: LlamaForCausalLM, MistralForCausalLM"},
    {.key = "shard_size",
     .type = OPT_STR,
     .offset = AT(shard_size),
     .def = "5GB",
     .metavar = "SIZE",
     .help = "weights in a file at most, 500MB or 5GB; a larger tensor has a file of its own"},
    {.key = "force",
     .type = OPT_BOOL,
     .offset = AT(force),
     .help = "replace a folder that holds nothing but the files this command makes"},
    {.key = "quiet",
     .letter = 'q',
     .type = OPT_BOOL,
     .offset = AT(quiet),
     .help = "no progress, no warnings"},
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot export IN.gguf DIR [options]",
    .about = "Makes a Hugging Face folder of a model: config.json, generation_config.json,\n"
             "tokenizer.json, tokenizer_config.json with the chat template, and safetensors, one\n"
             "file or several with an index. Architectures: gpt2, llama, mistral3, qwen2, qwen3.\n"
             "ingot convert makes the same f32, f16 and bf16 weights of it again; quantized ones\n"
             "are expanded. What a folder cannot say is refused by name. DIR appears whole or not\n"
             "at all.\n"
             "\n"
             "example:\n"
             "  ingot export qwen-q8_0.gguf qwen-hf --type bf16\n"
             "next:\n"
             "  python3 -c 'import transformers as t; "
             "t.AutoModelForCausalLM.from_pretrained(\"qwen-hf\")'",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 2,
    .max_pos = 2,
};

typedef struct Run {
    const ExportCmd *c;
    const char *in, *dir;
    CliBar bar;
} Run;

static void print_warning(void *ctx, const char *line) {
    Run *r = ctx;
    if (r->c->quiet || r->c->json) return;
    cli_bar_finish(&r->bar);
    fprintf(stderr, "ingot: %s\n", line);
}

static int print_json(const Run *r, const QuantExported *st, double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "input", r->in);
    jw_cstr(&w, "output", r->dir);
    jw_cstr(&w, "class", st->class_name);
    jw_cstr(&w, "architecture", st->arch);
    jw_cstr(&w, "type", dtype_name(st->type));
    jw_int(&w, "parameters", (int64_t)st->n_params);
    jw_int(&w, "tensors", (int64_t)st->n_tensors);
    jw_int(&w, "expanded", (int64_t)st->n_expanded);
    jw_int(&w, "files", st->n_files);
    jw_int(&w, "vocabulary", st->n_vocab);
    jw_bool(&w, "chat_template", st->has_template);
    jw_int(&w, "weight_bytes", (int64_t)st->bytes_out);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const Run *r, const QuantExported *st, double seconds) {
    char a[32], b[32], span[24];
    printf("model:  %s, %s parameters in %s tensors, vocabulary of %d%s\n", st->class_name,
           cli_commas(a, st->n_params), cli_commas(b, st->n_tensors), (int)st->n_vocab,
           st->has_template ? ", chat template" : "");
    if (st->n_expanded)
        printf("        %s quantized tensors expanded\n", cli_commas(a, st->n_expanded));
    printf("folder: %s is %s of %s in %d file%s, in %s\n", r->dir,
           cli_bytes(a, (double)st->bytes_out), dtype_name(st->type), st->n_files,
           st->n_files > 1 ? "s" : "", clock_format_span(span, seconds));
    return cli_flush_stdout();
}

static int type_of(const char *name) {
    DType t;
    return dtype_from_name(&t, name) ? (int)t : QUANT_AS_STORED;
}

static int export_model(Run *r) {
    const ExportCmd *c = r->c;
    Err e = {0};
    QuantExported st;
    size_t shard = 0;
    double t0 = clock_now_s();
    QuantExportOpts o = {.type = type_of(c->type),
                         .class_name = c->class_name,
                         .replace = c->force,
                         .cpu = cli_env.cpu,
                         .warn = print_warning,
                         .warn_ctx = r,
                         .progress = cli_bar_count,
                         .progress_ctx = &r->bar,
                         .stop = cli_stop_flag()};
    if (cli_size(&shard, "--shard-size", c->shard_size, &e) != OK) return cli_fail(&e);
    o.shard_bytes = shard;
    cli_bar_init(&r->bar, "export", "MB", 1e-6, c->quiet || c->json);
    bool there = io_exists(r->dir);
    Status s = quant_export(&st, r->in, r->dir, &o, &e);
    cli_bar_finish(&r->bar);
    if (s != OK && there && !c->force && strstr(e.msg, "is there already"))
        return cli_usage(&spec, "%s (--force replaces it)", e.msg);
    if (s != OK) return cli_fail(&e);
    double seconds = clock_now_s() - t0;
    return c->json ? print_json(r, &st, seconds) : print_text(r, &st, seconds);
}

int cmd_export(int argc, char **argv) {
    ExportCmd c = {0};
    Run r = {.c = &c};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) {
        r.in = a.pos.v[0];
        r.dir = a.pos.v[1];
        rc = export_model(&r);
    }
    cli_args_deinit(&a);
    return rc;
}
