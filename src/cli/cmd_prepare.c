/* SPDX-License-Identifier: Apache-2.0
 * ingot prepare: docs.jsonl -> token shards (data/prepare.c). Here: options and the report. */
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "data/data.h"
#include "text/json.h"

typedef struct PrepareCmd {
    const char *out, *tokenizer;
    double val;
    int64_t seed, threads;
    bool json, quiet;
} PrepareCmd;

#define AT(field) offsetof(PrepareCmd, field)
static const OptSpec opts[] = {
    {"output", 'o', OPT_STR, AT(out), NULL, 0, 0, NULL, "DIR",
     "folder for train.bin, val.bin, meta.json and tokenizer.gguf; made if absent"},
    {"tokenizer", 't', OPT_STR, AT(tokenizer), NULL, 0, 0, NULL, "FILE",
     "GGUF file whose tokenizer to use: one that was trained, or a model"},
    {"val", 0, OPT_FLOAT, AT(val), "0.1", 0, 0.99, NULL, NULL,
     "share of the files kept for validation; each part gets at least one"},
    {"seed", 0, OPT_INT, AT(seed), "1337", 0, 9007199254740991.0, NULL, NULL,
     "decides which files are validation, and their order"},
    {"threads", 0, OPT_INT, AT(threads), "0", 0, 4096, NULL, NULL,
     "0: all processors; the output is the same for any number"},
    {"quiet", 'q', OPT_BOOL, AT(quiet), NULL, 0, 0, NULL, NULL, "no progress"},
    {"json", 0, OPT_BOOL, AT(json), NULL, 0, 0, NULL, NULL, "print the counts as one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot prepare docs.jsonl -o data/NAME --tokenizer tok.gguf [options]",
    .about = "Tokenizes documents for training. Whole files go to validation or to\n"
             "training, never parts; the order is shuffled by a seeded hash of the path;\n"
             "an end-of-text token follows each file. Ids are 16 bits wide, 32 when the\n"
             "vocabulary is larger than 65,536. The same input and seed give the same\n"
             "bytes.\n"
             "\n"
             "example:\n"
             "  ingot prepare docs.jsonl -o data/code --tokenizer tok.gguf --val 0.1\n"
             "next:\n"
             "  ingot train --help",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

static const char *const part_name[2] = {"train", "val"};

static int print_json(const PrepareCmd *c, const PrepareStats *st, const Tokenizer *t,
                      double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "output", c->out);
    jw_int(&w, "n_vocab", tok_n_vocab(t));
    jw_num(&w, "seconds", seconds);
    for (int p = 0; p < 2; p++) {
        jw_obj(&w, part_name[p]);
        jw_int(&w, "files", (int64_t)st->n_docs[p]);
        jw_int(&w, "characters", (int64_t)st->n_chars[p]);
        jw_int(&w, "bytes", (int64_t)st->n_bytes[p]);
        jw_int(&w, "tokens", (int64_t)st->n_tok[p]);
        jw_end_obj(&w);
    }
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_counts(const PrepareCmd *c, const PrepareStats *st, const Tokenizer *t,
                        double seconds) {
    char a[32], b[32], d[32], span[24];
    for (int p = 0; p < 2; p++) {
        printf("%s: %s files, %s characters, %s tokens\n", part_name[p],
               cli_commas(a, st->n_docs[p]), cli_commas(b, st->n_chars[p]),
               cli_commas(d, st->n_tok[p]));
    }
    printf("%s: vocabulary %s, %d bytes a token, %s\n", c->out,
           cli_commas(a, (uint64_t)tok_n_vocab(t)), tok_n_vocab(t) > 65536 ? 4 : 2,
           clock_format_span(span, seconds));
    return cli_flush_stdout();
}

static int prepare(const PrepareCmd *c, const char *docs) {
    Err e = {0};
    Tokenizer *t = NULL;
    PrepareStats st = {0};
    CliBar bar;
    double t0 = clock_now_s();
    PrepareOpts o = {.val_share = c->val,
                     .seed = (uint64_t)c->seed,
                     .n_threads = cli_threads(c->threads),
                     .progress = {cli_bar_count, &bar, cli_stop_flag()}};
    cli_bar_init(&bar, "prepare", "MB", 1e-6, c->quiet || c->json);
    Status s = data_tokenizer_load(&t, c->tokenizer, &e);
    if (s == OK) s = data_prepare(&st, &o, t, docs, c->out, &e);
    cli_bar_finish(&bar);
    double seconds = clock_now_s() - t0;
    int rc = s != OK   ? cli_fail(&e)
             : c->json ? print_json(c, &st, t, seconds)
                       : print_counts(c, &st, t, seconds);
    tok_free(t);
    return rc;
}

int cmd_prepare(int argc, char **argv) {
    PrepareCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !c.out) rc = cli_usage(&spec, "no output: -o data/NAME");
    if (rc < 0 && !c.tokenizer) rc = cli_usage(&spec, "no tokenizer: --tokenizer tok.gguf");
    if (rc < 0) rc = prepare(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
