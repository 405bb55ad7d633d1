/* SPDX-License-Identifier: Apache-2.0
 * ingot quantize: a smaller copy of a model (quant/quantize.c). Here: options and the report. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "quant/quant.h"
#include "text/json.h"

typedef struct QuantizeCmd {
    int64_t threads;
    bool pure, json, quiet;
} QuantizeCmd;

#define AT(field) offsetof(QuantizeCmd, field)
static const OptSpec opts[] = {
    {.key = "pure",
     .type = OPT_BOOL,
     .offset = AT(pure),
     .help = "give every matrix the asked type, the head too (smaller and less exact)"},
    {.key = "threads",
     .type = OPT_INT,
     .offset = AT(threads),
     .def = "0",
     .min = 0,
     .max = 4096,
     .help = "0: all processors; the output is the same for any number"},
    {.key = "quiet", .letter = 'q', .type = OPT_BOOL, .offset = AT(quiet), .help = "no progress"},
    {.key = "json",
     .type = OPT_BOOL,
     .offset = AT(json),
     .help = "print the sizes as one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot quantize IN.gguf OUT.gguf TYPE [options]",
    .about = "Writes a smaller copy of a model. TYPE is one of\n"
             "  q8_0 (or int8)   8.5 bits a weight: hardly any loss\n"
             "  q4_0 (or int4)   4.5 bits a weight: half of q8_0, some loss\n"
             "  f16, bf16        16 bits a weight\n"
             "Matrices get the type; norms, biases and position embeddings stay as they are, and "
             "with q4_0 the\n"
             "head keeps more bits (see --pure). IN holds f32, f16 or bf16. OUT appears whole or "
             "not at all.\n"
             "\n"
             "example:\n"
             "  ingot quantize model.gguf model-q8_0.gguf q8_0\n"
             "next, what it cost in quality:\n"
             "  ingot perplexity model.gguf model-q8_0.gguf -f text.txt",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 3,
    .max_pos = 3,
};

static bool is_same_file(const char *a, const char *b) {
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

static double ratio(const QuantStats *st) {
    return st->bytes_out ? (double)st->bytes_in / (double)st->bytes_out : 0;
}

static double bits(uint64_t bytes, const QuantStats *st) {
    return st->n_params ? 8.0 * (double)bytes / (double)st->n_params : 0;
}

static int print_json(const QuantStats *st, const char *const *arg, double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "input", arg[0]);
    jw_cstr(&w, "output", arg[1]);
    jw_cstr(&w, "type", arg[2]);
    jw_int(&w, "parameters", (int64_t)st->n_params);
    jw_int(&w, "bytes_in", (int64_t)st->bytes_in);
    jw_int(&w, "bytes_out", (int64_t)st->bytes_out);
    jw_num(&w, "ratio", ratio(st));
    jw_num(&w, "bits_per_weight", bits(st->bytes_out, st));
    jw_int(&w, "file_bytes_in", (int64_t)st->file_in);
    jw_int(&w, "file_bytes_out", (int64_t)st->file_out);
    jw_obj(&w, "tensors");
    for (uint32_t t = 0; t < DT_COUNT; t++)
        if (st->n_of_type[t]) jw_int(&w, dtype_name((DType)t), (int64_t)st->n_of_type[t]);
    jw_end_obj(&w);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const QuantStats *st, const char *const *arg, double seconds) {
    char a[32], b[32], d[32], span[24];
    const char *sep = "";
    printf("parameters: %s\n", cli_commas(a, st->n_params));
    printf("before: %s of weights, %.2f bits each; %s is %s\n", cli_bytes(a, (double)st->bytes_in),
           bits(st->bytes_in, st), arg[0], cli_bytes(b, (double)st->file_in));
    printf("after:  %s of weights, %.2f bits each; %s is %s\n", cli_bytes(a, (double)st->bytes_out),
           bits(st->bytes_out, st), arg[1], cli_bytes(b, (double)st->file_out));
    printf("ratio:  %.2fx smaller, in %s; tensors: ", ratio(st), clock_format_span(span, seconds));
    for (uint32_t t = 0; t < DT_COUNT; t++) {
        if (!st->n_of_type[t]) continue;
        printf("%s%s %s", sep, cli_commas(d, st->n_of_type[t]), dtype_name((DType)t));
        sep = ", ";
    }
    putchar('\n');
    return cli_flush_stdout();
}

static int quantize(const QuantizeCmd *c, const char *const *arg, DType type) {
    Err e = {0};
    QuantStats st = {0};
    CliBar bar;
    double t0 = clock_now_s();
    QuantOpts o = {.type = type,
                   .pure = c->pure,
                   .n_threads = cli_threads(c->threads),
                   .cpu = cli_env.cpu,
                   .progress = cli_bar_count,
                   .progress_ctx = &bar,
                   .stop = cli_stop_flag()};
    cli_bar_init(&bar, "quantize", "MB", 1e-6, c->quiet || c->json);
    Status s = quant_file(&st, arg[0], arg[1], &o, &e);
    cli_bar_finish(&bar);
    double seconds = clock_now_s() - t0;
    if (s != OK) return cli_fail(&e);
    return c->json ? print_json(&st, arg, seconds) : print_text(&st, arg, seconds);
}

int cmd_quantize(int argc, char **argv) {
    QuantizeCmd c = {0};
    CliArgs a;
    DType type = DT_F32;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 &&
        (!dtype_from_name(&type, a.pos.v[2]) || type == DT_F32 || quant_file_type(type) < 0))
        rc = cli_usage(&spec, "unknown type \"%s\": choose q8_0 (int8), q4_0 (int4), f16 or bf16",
                       a.pos.v[2]);
    if (rc < 0 && is_same_file(a.pos.v[0], a.pos.v[1]))
        rc = cli_usage(&spec, "%s is input and output: choose another name for the copy",
                       a.pos.v[1]);
    if (rc < 0) rc = quantize(&c, a.pos.v, type);
    cli_args_deinit(&a);
    return rc;
}
