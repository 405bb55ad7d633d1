/* SPDX-License-Identifier: Apache-2.0
 * ingot collect: folders -> docs.jsonl (data/collect.c). Here: options, the report, the
 * progress line. */
#include <stdio.h>

#include "cli/cli.h"
#include "data/data.h"
#include "text/json.h"

typedef struct CollectCmd {
    const char *out;
    OptList ext;
    int64_t min_chars, max_bytes;
    double near_dup;
    bool verbose, json, quiet;
} CollectCmd;

#define AT(field) offsetof(CollectCmd, field)
static const OptSpec opts[] = {
    {"output", 'o', OPT_STR, AT(out), NULL, 0, 0, NULL, "FILE",
     "where the documents go, one JSON object a line"},
    {"ext", 0, OPT_LIST, AT(ext), NULL, 0, 0, NULL, ".END",
     "take files with this ending; without it: .py"},
    {"min_chars", 0, OPT_INT, AT(min_chars), "100", 0, 1e9, NULL, NULL,
     "keep files longer than this many characters"},
    {"max_bytes", 0, OPT_INT, AT(max_bytes), "1048576", 1, 1073741824, NULL, NULL,
     "keep files of at most this many bytes"},
    {"near_dup", 0, OPT_FLOAT, AT(near_dup), "0.8", 0, 1, NULL, NULL,
     "drop a file when the estimated similarity (Jaccard, shingles of 5 tokens) to an earlier one "
     "is at least this; 0 keeps near duplicates"},
    {"verbose", 'v', OPT_BOOL, AT(verbose), NULL, 0, 0, NULL, NULL,
     "name every skipped file and the reason on standard error"},
    {"quiet", 'q', OPT_BOOL, AT(quiet), NULL, 0, 0, NULL, NULL,
     "no progress and no table of skipped files"},
    {"json", 0, OPT_BOOL, AT(json), NULL, 0, 0, NULL, NULL, "print the counts as one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot collect DIR... -o docs.jsonl [options]",
    .about = "Walks the folders, keeps UTF-8 text files with the wanted ending and writes\n"
             "them to docs.jsonl as {\"path\": ..., \"text\": ...}. Of files with the same\n"
             "or nearly the same text the first in sorted order is kept. Not entered:\n"
             ".git, .venv, __pycache__, node_modules; links are not followed. The output\n"
             "file appears whole or not at all.\n"
             "\n"
             "example:\n"
             "  ingot collect ~/src/app ~/src/lib -o docs.jsonl --ext .py --ext .pyi\n"
             "next:\n"
             "  ingot tokenizer train docs.jsonl -o tok.gguf --vocab 4096",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = -1,
};

typedef struct Report {
    CliBar bar;
    bool verbose;
} Report;

static void on_skip(void *ctx, const char *path, CollectSkip why) {
    Report *r = ctx;
    StrBuf b = {0};
    if (!r->verbose) return;
    cli_bar_finish(&r->bar);
    sb_put_quoted(&b, slice_of(path), 4096);
    fprintf(stderr, "skip %s: %s\n", data_skip_name(why), sb_str(&b));
    sb_deinit(&b);
}

static void print_skipped(const CollectStats *st) {
    char n[32];
    fprintf(stderr, "skipped:\n");
    for (int i = 0; i < SKIP_REASONS; i++) {
        if (st->n_skip[i])
            fprintf(stderr, "  %-18s %10s\n", data_skip_name((CollectSkip)i),
                    cli_commas(n, st->n_skip[i]));
    }
}

static bool any_skipped(const CollectStats *st) {
    for (int i = 0; i < SKIP_REASONS; i++) {
        if (st->n_skip[i]) return true;
    }
    return false;
}

/* "not UTF-8 text" -> "not_utf_8_text" */
static void put_skip_key(char key[32], CollectSkip why) {
    const char *name = data_skip_name(why);
    size_t i = 0;
    for (; name[i] && i < 31; i++) {
        char c = name[i];
        key[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c == ' ' || c == '-' ? '_' : c;
    }
    key[i] = 0;
}

static int print_json(const CollectStats *st, const char *path) {
    StrBuf b = {0};
    JsonW w;
    char key[32];
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "output", path);
    jw_int(&w, "files", (int64_t)st->n_kept);
    jw_int(&w, "characters", (int64_t)st->n_chars);
    jw_int(&w, "bytes", (int64_t)st->n_bytes);
    jw_int(&w, "seen", (int64_t)st->n_seen);
    jw_obj(&w, "skipped");
    for (int i = 0; i < SKIP_REASONS; i++) {
        put_skip_key(key, (CollectSkip)i);
        jw_int(&w, key, (int64_t)st->n_skip[i]);
    }
    jw_end_obj(&w);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_kept(const CollectStats *st, const char *path) {
    char a[32], b[32], c[32], d[32];
    printf("%s: %s of %s files, %s characters, %s\n", path, cli_commas(a, st->n_kept),
           cli_commas(b, st->n_seen), cli_commas(c, st->n_chars),
           cli_bytes(d, (double)st->n_bytes));
    return cli_flush_stdout();
}

static int collect(const CollectCmd *c, OptList dirs) {
    Err e = {0};
    CollectStats st;
    Report r = {.verbose = c->verbose};
    CollectOpts o = {
        .dirs = dirs,
        .exts = c->ext,
        .min_chars = c->min_chars,
        .max_bytes = c->max_bytes,
        .near_dup = c->near_dup,
        .progress = {cli_bar_count, &r.bar, cli_stop_flag()},
        .on_skip = on_skip,
        .on_skip_ctx = &r,
    };
    cli_bar_init(&r.bar, "collect", "files", 1, c->quiet || c->json);
    Status s = data_collect(&st, &o, c->out, &e);
    cli_bar_finish(&r.bar);
    if (s != OK && s != ERR_NOT_FOUND) return cli_fail(&e);
    if (!c->quiet && any_skipped(&st)) print_skipped(&st);
    if (s != OK) return cli_fail(&e);
    return c->json ? print_json(&st, c->out) : print_kept(&st, c->out);
}

int cmd_collect(int argc, char **argv) {
    CollectCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && !c.out) rc = cli_usage(&spec, "no output: -o docs.jsonl");
    if (rc < 0) rc = collect(&c, a.pos);
    cli_args_deinit(&a);
    return rc;
}
