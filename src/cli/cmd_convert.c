/* SPDX-License-Identifier: Apache-2.0
 * ingot convert: a Hugging Face folder as a GGUF file (quant/convert.c). Here: options and the report. */
#include <stdio.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "quant/convert.h"
#include "text/json.h"

typedef struct ConvertCmd {
    const char *type, *base;
    OptList ignore;
    int64_t threads;
    bool losses, json, quiet;
} ConvertCmd;

#define AT(field) offsetof(ConvertCmd, field)
static const OptSpec opts[] = {
    {.key = "type",
     .type = OPT_STR,
     .offset = AT(type),
     .def = "auto",
     .metavar = "TYPE",
     .help = "auto: as the folder has them; f32, f16, bf16, q8_0, q4_K_M or another type of ingot "
             "quantize"},
    {.key = "base",
     .type = OPT_STR,
     .offset = AT(base),
     .metavar = "PATH",
     .help = "of an adapter: the folder (config.json is enough) or GGUF file of its model"},
    {.key = "ignore",
     .type = OPT_LIST,
     .offset = AT(ignore),
     .metavar = "KEY",
     .help = "a key of config.json or adapter_config.json that is not known here, and that you "
             "know to change nothing"},
    CLI_SAME_THREADS_OPT(AT(threads)),
    {.key = "losses",
     .type = OPT_BOOL,
     .offset = AT(losses),
     .help = "print what each tensor lost; with --json it is always there"},
    {.key = "quiet",
     .letter = 'q',
     .type = OPT_BOOL,
     .offset = AT(quiet),
     .help = "no progress, no warnings"},
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot convert DIR OUT.gguf [options]",
    .about =
        "Makes a GGUF file of a Hugging Face folder: config.json, generation_config.json,\n"
        "safetensors (one file or several with an index), tokenizer.json,\n"
        "tokenizer_config.json with its chat template. A folder with fp16/ and tokenizer/\n"
        "in it works, too. Architectures: GPT2LMHeadModel, LlamaForCausalLM,\n"
        "MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM. Weights packed by AWQ (gemm),\n"
        "GPTQ or bitsandbytes (nf4, fp4) are unpacked, to f16 where no type is said.\n"
        "Weights that keep their type are carried over bit for bit; norms and biases become\n"
        "f32. What is not understood and may change the model is refused by name. OUT appears\n"
        "whole or not at all. The last line says what was lost: the sum of squared errors over\n"
        "the sum of squares, against the folder's (unpacked) values.\n"
        "A folder with adapter_config.json is a LoRA adapter of PEFT; it becomes a file for\n"
        "--lora.\n"
        "\n"
        "example:\n"
        "  ingot convert Qwen2.5-0.5B-Instruct qwen.gguf --type q8_0\n"
        "next:\n"
        "  ingot run qwen.gguf -p 'Once upon a time'",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 2,
    .max_pos = 2,
};

typedef struct Run {
    const ConvertCmd *c;
    const char *dir, *out;
    CliBar bar;
} Run;

static void print_warning(void *ctx, const char *line) {
    Run *r = ctx;
    if (r->c->quiet || r->c->json) return;
    cli_bar_finish(&r->bar);
    fprintf(stderr, "ingot: %s\n", line);
}

static void put_losses(JsonW *w, const QuantConverted *st) {
    jw_obj(w, "loss");
    jw_num(w, "relative_squared_error", st->relative);
    jw_cstr(w, "worst_tensor", st->relative > 0 ? st->loss[st->worst].name : "");
    jw_num(w, "worst", st->relative > 0 ? st->loss[st->worst].relative : 0);
    jw_arr(w, "tensors");
    for (size_t i = 0; i < st->n_loss; i++) {
        jw_obj(w, NULL);
        jw_cstr(w, "name", st->loss[i].name);
        jw_cstr(w, "type", dtype_name(st->loss[i].type));
        jw_num(w, "relative_squared_error", st->loss[i].relative);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

static int print_json(const Run *r, const QuantConverted *st, double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "input", r->dir);
    jw_cstr(&w, "output", r->out);
    jw_cstr(&w, "type", r->c->type);
    jw_cstr(&w, "class", st->class_name);
    jw_cstr(&w, "architecture", st->arch);
    jw_cstr(&w, "stored", st->stored);
    jw_int(&w, "parameters", (int64_t)st->n_params);
    jw_int(&w, "tensors", (int64_t)st->n_tensors);
    jw_int(&w, "vocabulary", st->n_vocab);
    jw_bool(&w, "chat_template", st->has_template);
    jw_int(&w, "file_bytes_in", (int64_t)st->bytes_in);
    jw_int(&w, "file_bytes_out", (int64_t)st->file_out);
    put_losses(&w, st);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static void print_losses(const QuantConverted *st, bool each) {
    for (size_t i = 0; each && i < st->n_loss; i++)
        printf("%-32s %-5s %.3g\n", st->loss[i].name, dtype_name(st->loss[i].type),
               st->loss[i].relative);
    if (!(st->relative > 0)) printf("lost:   nothing\n");
    else
        printf("lost:   relative squared error %.3g, most in %s: %.3g\n", st->relative,
               st->loss[st->worst].name, st->loss[st->worst].relative);
}

static int print_text(const Run *r, const QuantConverted *st, double seconds) {
    char a[32], b[32], span[24];
    printf("model:  %s, %s parameters in %s tensors, vocabulary of %d%s\n", st->class_name,
           cli_commas(a, st->n_params), cli_commas(b, st->n_tensors), (int)st->n_vocab,
           st->has_template ? ", chat template" : "");
    printf("before: %s of %s in %s\n", cli_bytes(a, (double)st->bytes_in), st->stored, r->dir);
    printf("after:  %s is %s, in %s\n", r->out, cli_bytes(a, (double)st->file_out),
           clock_format_span(span, seconds));
    print_losses(st, r->c->losses);
    return cli_flush_stdout();
}

static int convert(Run *r) {
    const ConvertCmd *c = r->c;
    Err e = {0};
    QuantConverted st;
    double t0 = clock_now_s();
    QuantConvertOpts o = {.type = c->type,
                          .ignore = c->ignore.v,
                          .n_ignore = c->ignore.n,
                          .n_threads = cli_threads(c->threads),
                          .cpu = cli_env.cpu,
                          .warn = print_warning,
                          .warn_ctx = r,
                          .progress = cli_bar_count,
                          .progress_ctx = &r->bar,
                          .stop = cli_stop_flag()};
    cli_bar_init(&r->bar, "convert", "MB", 1e-6, c->quiet || c->json);
    Status s = quant_convert(&st, r->dir, r->out, &o, &e);
    cli_bar_finish(&r->bar);
    if (s != OK) return cli_fail(&e);
    double seconds = clock_now_s() - t0;
    int rc = c->json ? print_json(r, &st, seconds) : print_text(r, &st, seconds);
    quant_converted_deinit(&st);
    return rc;
}

/* ---- adapters ---- */

static int print_adapter(const Run *r, const QuantAdapter *st) {
    char a[32], b[32];
    StrBuf text = {0};
    JsonW w;
    if (!r->c->json) {
        printf("adapter: %d pairs of rank %d for %s, alpha %g, %s parameters\n", st->n_pairs,
               st->rank, st->arch, (double)st->alpha, cli_commas(a, st->n_params));
        printf("file:    %s is %s\n", r->out, cli_bytes(b, (double)st->file_out));
        return cli_flush_stdout();
    }
    jw_init(&w, &text);
    jw_obj(&w, NULL);
    jw_cstr(&w, "input", r->dir);
    jw_cstr(&w, "output", r->out);
    jw_cstr(&w, "architecture", st->arch);
    jw_int(&w, "pairs", st->n_pairs);
    jw_int(&w, "rank", st->rank);
    jw_f32(&w, "alpha", st->alpha);
    jw_int(&w, "parameters", (int64_t)st->n_params);
    jw_int(&w, "file_bytes_in", (int64_t)st->bytes_in);
    jw_int(&w, "file_bytes_out", (int64_t)st->file_out);
    jw_end_obj(&w);
    int rc = cli_print_json(&text);
    sb_deinit(&text);
    return rc;
}

static int convert_adapter(const Run *r) {
    Err e = {0};
    QuantAdapter st;
    QuantConvertOpts o = {.type = r->c->type, .ignore = r->c->ignore.v, .n_ignore = r->c->ignore.n};
    if (quant_convert_adapter(&st, r->dir, r->c->base, r->out, &o, &e) != OK) return cli_fail(&e);
    return print_adapter(r, &st);
}

int cmd_convert(int argc, char **argv) {
    ConvertCmd c = {0};
    Run r = {.c = &c};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !quant_convert_type_ok(c.type))
        rc = cli_usage(&spec, "unknown type \"%s\": choose auto, f32, %s", c.type,
                       quant_mix_names());
    if (rc < 0) {
        r.dir = a.pos.v[0];
        r.out = a.pos.v[1];
        rc = quant_is_adapter(r.dir) ? convert_adapter(&r) : convert(&r);
    }
    cli_args_deinit(&a);
    return rc;
}
