/* SPDX-License-Identifier: Apache-2.0
 * ingot lora merge: an adapter added into its model's weights (quant/merge.c). Here: options and the report. */
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "quant/merge.h"
#include "text/json.h"

typedef struct MergeCmd {
    double scale;
    const char *type;
    int64_t threads;
    bool json, quiet;
} MergeCmd;

#define AT(field) offsetof(MergeCmd, field)
static const OptSpec opts[] = {
    {.key = "scale",
     .type = OPT_FLOAT,
     .offset = AT(scale),
     .def = "1",
     .min = -1e6,
     .max = 1e6,
     .help = "times the adapter's own strength, alpha / rank"},
    {.key = "type",
     .type = OPT_CHOICE,
     .offset = AT(type),
     .def = "auto",
     .choices = "auto|f32|f16|bf16",
     .help = "of the matrices; auto: as the base has them"},
    {.key = "threads",
     .type = OPT_INT,
     .offset = AT(threads),
     .def = "0",
     .min = 0,
     .max = 4096,
     .help = "0: all processors; the output is the same for any number"},
    {.key = "quiet",
     .letter = 'q',
     .type = OPT_BOOL,
     .offset = AT(quiet),
     .help = "no progress, no warnings"},
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot lora merge BASE.gguf ADAPTER.gguf OUT.gguf [options]",
    .about = "Adds a LoRA adapter into the weights of its model: one file that needs no --lora.\n"
             "Where the base is quantized, what is added is rounded as the base was; --type f16\n"
             "and ingot quantize behind it keep more of it.\n"
             "\n"
             "example:\n"
             "  ingot lora merge qwen.gguf support.gguf qwen-support.gguf\n"
             "next:\n"
             "  ingot run qwen-support.gguf -p 'Once upon a time'",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 3,
    .max_pos = 3,
};

static int print_json(const MergeCmd *c, const OptList *pos, const QuantMerged *st,
                      double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "base", pos->v[0]);
    jw_cstr(&w, "adapter", pos->v[1]);
    jw_cstr(&w, "output", pos->v[2]);
    jw_num(&w, "scale", c->scale);
    jw_num(&w, "alpha", st->alpha);
    jw_int(&w, "rank", st->rank);
    jw_int(&w, "matrices", st->n_pairs);
    jw_int(&w, "requantized", st->n_blocks);
    jw_int(&w, "tensors", (int64_t)st->n_tensors);
    jw_int(&w, "file_bytes_out", (int64_t)st->file_out);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const MergeCmd *c, const OptList *pos, const QuantMerged *st,
                      double seconds) {
    char size[32], span[24];
    if (st->n_blocks && !c->quiet)
        fprintf(stderr, "ingot: %d matrices were rounded to blocks again: --type f16 keeps them\n",
                st->n_blocks);
    printf("merged: %d of %llu tensors, rank %d, alpha %g, scale %g\n", st->n_pairs,
           (unsigned long long)st->n_tensors, st->rank, st->alpha, c->scale);
    printf("output: %s is %s, in %s\n", pos->v[2], cli_bytes(size, (double)st->file_out),
           clock_format_span(span, seconds));
    return cli_flush_stdout();
}

static int merge(const MergeCmd *c, const OptList *pos) {
    Err e = {0};
    QuantMerged st;
    CliBar bar;
    DType t;
    double t0 = clock_now_s();
    cli_bar_init(&bar, "merge", "MB", 1e-6, c->quiet || c->json);
    QuantMergeOpts o = {.type = dtype_from_name(&t, c->type) ? (int)t : QUANT_AS_STORED,
                        .scale = c->scale,
                        .n_threads = cli_threads(c->threads),
                        .cpu = cli_env.cpu,
                        .progress = cli_bar_count,
                        .progress_ctx = &bar,
                        .stop = cli_stop_flag()};
    Status s = quant_merge(&st, pos->v[0], pos->v[1], pos->v[2], &o, &e);
    cli_bar_finish(&bar);
    if (s != OK) return cli_fail(&e);
    double seconds = clock_now_s() - t0;
    return c->json ? print_json(c, pos, &st, seconds) : print_text(c, pos, &st, seconds);
}

static int cmd_merge(int argc, char **argv) {
    MergeCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = merge(&c, &a.pos);
    cli_args_deinit(&a);
    return rc;
}

int cmd_lora(int argc, char **argv) {
    static const CliCommand commands[] = {
        {"merge", "add an adapter into its model's weights", cmd_merge},
    };
    static const CliGroup group = {
        .name = "ingot lora",
        .about = "LoRA adapters. To lay one over a model without merging: --lora of ingot run,\n"
                 "perplexity and serve.",
        .cmds = commands,
        .n_cmds = (int)COUNT_OF(commands),
    };
    return cli_dispatch(&group, argc, argv);
}
