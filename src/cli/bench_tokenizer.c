/* SPDX-License-Identifier: Apache-2.0
 *
 * ingot tokenizer bench: how fast a vocabulary encodes and decodes a text on one thread. Times are of this
 * thread's processor time, so that other programs on the machine count less.
 */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "token/token.h"

enum { MAX_RUNS = 100, FILE_MAX_BYTES = 1 << 30 };

typedef struct Cmd {
    int64_t runs;
    bool json;
} Cmd;

static const OptSpec opts[] = {
    {"runs", 'n', OPT_INT, offsetof(Cmd, runs), "5", 1, MAX_RUNS, NULL, NULL,
     "how often the text is encoded and decoded"},
    {"json", 0, OPT_BOOL, offsetof(Cmd, json), NULL, 0, 0, NULL, NULL, "print one JSON object"},
};

static const CliSpec spec = {
    .usage = "ingot tokenizer bench M.gguf FILE [options]",
    .about = "Encodes a text file and decodes the ids again, on one thread, and prints\n"
             "megabytes per second of processor time: the lowest, the median, the highest.\n"
             "\n"
             "example:\n"
             "  ingot tokenizer bench tok.gguf main.py",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 2,
    .max_pos = 2,
};

/* Processor time of this thread, seconds. */
static double thread_s(void) {
    struct timespec t;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) ? 0
                                                      : (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct Rates {
    double load_s;
    double encode[MAX_RUNS], decode[MAX_RUNS]; /* MB/s */
    size_t n_bytes, n_tok;
} Rates;

static Status measure(Rates *r, const Tokenizer *t, Slice text, int runs, Err *e) {
    TokBuf ids = {0};
    StrBuf back = {0};
    Status st = OK;
    double mb = 1e-6 * (double)text.n;
    for (int i = -1; i < runs && st == OK; i++) { /* the first run warms up */
        ids.n = 0;
        sb_clear(&back);
        double t0 = thread_s();
        st = tok_encode(t, text, false, &ids, e);
        double t1 = thread_s();
        if (st == OK) st = tok_decode(t, ids.v, ids.n, &back, e);
        double t2 = thread_s();
        if (i < 0) continue;
        r->encode[i] = t1 > t0 ? mb / (t1 - t0) : 0;
        r->decode[i] = t2 > t1 ? mb / (t2 - t1) : 0;
    }
    r->n_bytes = text.n;
    r->n_tok = ids.n;
    tokbuf_deinit(&ids);
    sb_deinit(&back);
    return st;
}

static Status run(Rates *r, const Cmd *c, const char *model, const char *path, Err *e) {
    Tokenizer *t = NULL;
    StrBuf text = {0};
    double t0 = thread_s();
    Status st = tok_open(&t, model, e);
    r->load_s = thread_s() - t0;
    if (st == OK) st = io_read_file(&text, path, FILE_MAX_BYTES, e);
    if (st == OK) st = measure(r, t, (Slice){sb_str(&text), text.n}, (int)c->runs, e);
    tok_free(t);
    sb_deinit(&text);
    return st;
}

static int print(Rates *r, const Cmd *c, const char *model) {
    char a[32], b[32];
    Spread enc = cli_bench_spread(r->encode, (int)c->runs);
    Spread dec = cli_bench_spread(r->decode, (int)c->runs);
    if (!c->json) {
        printf("%s: loaded in %.3f s; %s bytes, %s tokens\n", model, r->load_s,
               cli_commas(a, r->n_bytes), cli_commas(b, r->n_tok));
        printf("encode: %.1f, %.1f, %.1f MB/s\ndecode: %.1f, %.1f, %.1f MB/s\n", enc.min,
               enc.median, enc.max, dec.min, dec.median, dec.max);
        return cli_flush_stdout();
    }
    StrBuf out = {0};
    JsonW w;
    jw_init(&w, &out);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "tokenizer");
    jw_cstr(&w, "model", model);
    jw_num(&w, "load_s", r->load_s);
    jw_int(&w, "bytes", (int64_t)r->n_bytes);
    jw_int(&w, "tokens", (int64_t)r->n_tok);
    jw_int(&w, "n", c->runs);
    cli_bench_put(&w, "encode_mb_s", enc);
    cli_bench_put(&w, "decode_mb_s", dec);
    jw_end_obj(&w);
    int rc = cli_print_json(&out);
    sb_deinit(&out);
    return rc;
}

int cli_bench_tokenizer(int argc, char **argv) {
    Err e = {0};
    Cmd c = {0};
    CliArgs a;
    static Rates r;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0 && run(&r, &c, a.pos.v[0], a.pos.v[1], &e) != OK) rc = cli_fail(&e);
    if (rc < 0) rc = print(&r, &c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
