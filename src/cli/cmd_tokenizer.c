/* SPDX-License-Identifier: Apache-2.0
 * ingot tokenizer train | encode | decode | show | bench. Main thread. Not here: the tokenizer itself
 * (token/). */
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "data/data.h"
#include "text/json.h"

enum { SAMPLE_BYTES = 1 << 20, STDIN_MAX = 1 << 30 };

/* ---- train ---- */

typedef struct TrainCmd {
    const char *out;
    int64_t vocab, threads;
    bool json, quiet;
} TrainCmd;

#define AT(field) offsetof(TrainCmd, field)
static const OptSpec train_opts[] = {
    {"output", 'o', OPT_STR, AT(out), NULL, 0, 0, NULL, "FILE", "GGUF file for the tokenizer"},
    {"vocab", 0, OPT_INT, AT(vocab), "4096", 257, 1000000, NULL, NULL,
     "tokens in all: 256 bytes, the merges, the end of text"},
    {"threads", 0, OPT_INT, AT(threads), "0", 0, 4096, NULL, NULL,
     "0: all processors; the result is the same for any number"},
    {"quiet", 'q', OPT_BOOL, AT(quiet), NULL, 0, 0, NULL, NULL, "no progress"},
    {"json", 0, OPT_BOOL, AT(json), NULL, 0, 0, NULL, NULL, "print the counts as one JSON object"},
};
#undef AT

static const CliSpec train_spec = {
    .usage = "ingot tokenizer train docs.jsonl -o tok.gguf [options]",
    .about = "Learns a byte-level BPE vocabulary: pairs of neighbours inside words are\n"
             "merged, the most frequent first, until the vocabulary has the wanted size.\n"
             "Any text can be encoded by the result. The same documents give the same\n"
             "file.\n"
             "\n"
             "example:\n"
             "  ingot tokenizer train docs.jsonl -o tok.gguf --vocab 4096\n"
             "next:\n"
             "  ingot prepare docs.jsonl -o data/code --tokenizer tok.gguf",
    .opts = train_opts,
    .n_opts = (int)COUNT_OF(train_opts),
    .min_pos = 1,
    .max_pos = 1,
};

typedef struct TrainCounts {
    uint64_t n_docs, n_chars;
    double seconds;
    uint64_t sample_chars, sample_tokens;
} TrainCounts;

static Status train_read(TokTrainer *tr, DocReader *r, TrainCounts *n, CliBar *bar, Err *e) {
    Slice path, text;
    uint64_t done, total;
    for (bool more = true;;) {
        TRY(data_docs_next(r, &more, &path, &text, e));
        if (!more) return OK;
        TRY(tok_train_add(tr, text, e));
        n->n_docs++;
        n->n_chars += data_count_chars(text);
        data_docs_progress(r, &done, &total);
        cli_bar_count(bar, done, total);
    }
}

static Status train_count(TokTrainer *tr, const char *docs, TrainCounts *n, bool quiet, Err *e) {
    DocReader *r = NULL;
    CliBar bar;
    cli_bar_init(&bar, "read", "MB", 1e-6, quiet);
    TRY(data_docs_open(&r, docs, e));
    Status st = train_read(tr, r, n, &bar, e);
    cli_bar_finish(&bar);
    data_docs_close(r);
    if (st == OK && n->n_docs == 0) st = err_set(e, ERR_FORMAT, "%s: no documents", docs);
    return st;
}

static void on_merges(void *ctx, int32_t n_done, int32_t n_total) {
    cli_bar_update(ctx, n_done, n_total, NULL);
}

/* Encode the first documents: how long the tokens are on the text they were made for. */
static Status train_sample(const Tokenizer *t, DocReader *r, TrainCounts *n, Err *e) {
    TokBuf ids = {0};
    Slice path, text;
    size_t n_bytes = 0;
    bool more = true;
    Status st = OK;
    while (st == OK && n_bytes < SAMPLE_BYTES) {
        st = data_docs_next(r, &more, &path, &text, e);
        if (st != OK || !more) break;
        st = tok_encode(t, text, false, &ids, e);
        n_bytes += text.n;
        n->sample_chars += data_count_chars(text);
    }
    n->sample_tokens = ids.n;
    tokbuf_deinit(&ids);
    return st;
}

static Status train_run(Tokenizer **out, const TrainCmd *c, const char *docs, TrainCounts *n,
                        Err *e) {
    TokTrainer *tr = NULL;
    DocReader *r = NULL;
    CliBar bar;
    bool quiet = c->quiet || c->json;
    double t0 = clock_now_s();
    TokTrainOpts o = {.n_vocab = (int32_t)c->vocab,
                      .n_threads = cli_threads(c->threads),
                      .progress = on_merges,
                      .progress_ctx = &bar};
    Status st = tok_train_new(&tr, &o, e);
    if (st == OK) st = train_count(tr, docs, n, quiet, e);
    cli_bar_init(&bar, "merge", "merges", 1, quiet);
    if (st == OK) st = tok_train_finish(tr, out, e);
    cli_bar_finish(&bar);
    tok_train_free(tr);
    n->seconds = clock_now_s() - t0;
    if (st == OK) st = data_tokenizer_save(*out, c->out, e);
    if (st == OK) st = data_docs_open(&r, docs, e);
    if (st == OK) st = train_sample(*out, r, n, e);
    data_docs_close(r);
    return st;
}

static double per(uint64_t a, uint64_t b) { return b ? (double)a / (double)b : 0; }

static int train_print_json(const TrainCmd *c, const TrainCounts *n, const Tokenizer *t) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "output", c->out);
    jw_int(&w, "n_vocab", tok_n_vocab(t));
    jw_int(&w, "files", (int64_t)n->n_docs);
    jw_int(&w, "characters", (int64_t)n->n_chars);
    jw_num(&w, "seconds", n->seconds);
    jw_int(&w, "sample_characters", (int64_t)n->sample_chars);
    jw_int(&w, "sample_tokens", (int64_t)n->sample_tokens);
    jw_num(&w, "tokens_per_character", per(n->sample_tokens, n->sample_chars));
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int train_print(const TrainCmd *c, const TrainCounts *n, const Tokenizer *t) {
    char a[32], b[32], span[24];
    printf("read: %s files, %s characters\n", cli_commas(a, n->n_docs), cli_commas(b, n->n_chars));
    printf("sample of %s characters: %.3f tokens per character, %.2f characters per token\n",
           cli_commas(a, n->sample_chars), per(n->sample_tokens, n->sample_chars),
           per(n->sample_chars, n->sample_tokens));
    printf("%s: vocabulary %s%s, %s\n", c->out, cli_commas(a, (uint64_t)tok_n_vocab(t)),
           tok_n_vocab(t) < c->vocab ? " (the text has no more pairs to merge)" : "",
           clock_format_span(span, n->seconds));
    return cli_flush_stdout();
}

static int train_main(int argc, char **argv) {
    Err e = {0};
    TrainCmd c = {0};
    CliArgs a;
    TrainCounts n = {0};
    Tokenizer *t = NULL;
    int rc = cli_parse(&a, &train_spec, &c, argc, argv);
    if (rc < 0 && !c.out) rc = cli_usage(&train_spec, "no output: -o tok.gguf");
    if (rc < 0 && train_run(&t, &c, a.pos.v[0], &n, &e) != OK) rc = cli_fail(&e);
    if (rc < 0) rc = c.json ? train_print_json(&c, &n, t) : train_print(&c, &n, t);
    tok_free(t);
    cli_args_deinit(&a);
    return rc;
}

/* ---- encode ---- */

typedef struct EncodeCmd {
    bool special, json, null;
} EncodeCmd;

static const OptSpec encode_opts[] = {
    {"special", 0, OPT_BOOL, offsetof(EncodeCmd, special), NULL, 0, 0, NULL, NULL,
     "special tokens written out in the text become their ids"},
    {"json", 0, OPT_BOOL, offsetof(EncodeCmd, json), NULL, 0, 0, NULL, NULL,
     "print {\"ids\": [...], \"n\": N}"},
    {"null", '0', OPT_BOOL, offsetof(EncodeCmd, null), NULL, 0, 0, NULL, NULL,
     "many texts, each ended by a zero byte: one line of output for each"},
};

static const CliSpec encode_spec = {
    .usage = "ingot tokenizer encode M.gguf [TEXT|-] [options]",
    .about = "Prints the token ids of a text, separated by spaces. Without TEXT, or with\n"
             "-, the text is standard input, every byte of it. Nothing is added in front\n"
             "or behind.\n"
             "\n"
             "example:\n"
             "  ingot tokenizer encode tok.gguf 'def main():'\n"
             "next:\n"
             "  ingot tokenizer encode tok.gguf - < main.py | ingot tokenizer decode tok.gguf",
    .opts = encode_opts,
    .n_opts = (int)COUNT_OF(encode_opts),
    .min_pos = 1,
    .max_pos = 2,
};

static int print_ids(const TokBuf *ids, bool json) {
    StrBuf b = {0};
    JsonW w;
    if (!json) {
        for (size_t i = 0; i < ids->n; i++) printf(i ? " %d" : "%d", ids->v[i]);
        putchar('\n');
        return cli_flush_stdout();
    }
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_arr(&w, "ids");
    for (size_t i = 0; i < ids->n; i++) jw_int(&w, NULL, ids->v[i]);
    jw_end_arr(&w);
    jw_int(&w, "n", (int64_t)ids->n);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

/* One text, or with --null all texts up to their zero bytes. */
static Status encode_all(const Tokenizer *t, const EncodeCmd *c, Slice text, int *rc, Err *e) {
    TokBuf ids = {0};
    Status st = OK;
    *rc = 0;
    for (bool more = true; more && st == OK && *rc == 0;) {
        const char *zero = c->null && text.n ? memchr(text.p, 0, text.n) : NULL;
        size_t n = zero ? (size_t)(zero - text.p) : text.n;
        ids.n = 0;
        st = tok_encode(t, (Slice){text.p, n}, c->special, &ids, e);
        if (st == OK) *rc = print_ids(&ids, c->json);
        text.p += n + !!zero;
        text.n -= n + !!zero;
        more = zero && text.n > 0;
    }
    tokbuf_deinit(&ids);
    return st;
}

static Status encode_text(const EncodeCmd *c, const char *model, const char *arg, int *rc, Err *e) {
    Tokenizer *t = NULL;
    StrBuf in = {0};
    Status st = data_tokenizer_load(&t, model, e);
    if (st == OK && !strcmp(arg, "-")) st = io_read_file(&in, "-", STDIN_MAX, e);
    Slice text = strcmp(arg, "-") ? slice_of(arg) : (Slice){sb_str(&in), in.n};
    if (st == OK) st = encode_all(t, c, text, rc, e);
    sb_deinit(&in);
    tok_free(t);
    return st;
}

static int encode_main(int argc, char **argv) {
    Err e = {0};
    EncodeCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &encode_spec, &c, argc, argv);
    if (rc < 0) {
        Status st = encode_text(&c, a.pos.v[0], a.pos.n > 1 ? a.pos.v[1] : "-", &rc, &e);
        if (st != OK) rc = cli_fail(&e);
    }
    cli_args_deinit(&a);
    return rc;
}

/* ---- decode ---- */

typedef struct DecodeCmd {
    bool json;
} DecodeCmd;

static const OptSpec decode_opts[] = {
    {"json", 0, OPT_BOOL, offsetof(DecodeCmd, json), NULL, 0, 0, NULL, NULL,
     "print {\"text\": \"...\", \"n\": N}; ill-formed UTF-8 is shown as U+FFFD"},
};

static const CliSpec decode_spec = {
    .usage = "ingot tokenizer decode M.gguf [ID...] [options]",
    .about = "Prints the text of token ids, byte for byte. Without ids they are read from\n"
             "standard input, separated by white space or commas.\n"
             "\n"
             "example:\n"
             "  ingot tokenizer decode tok.gguf 318 262 12",
    .opts = decode_opts,
    .n_opts = (int)COUNT_OF(decode_opts),
    .min_pos = 1,
    .max_pos = -1,
};

/* One number, NUL-terminated. */
static Status push_id(TokBuf *ids, const char *s, Err *e) {
    int64_t v;
    if (!str_to_i64(&v, s) || v < 0 || v > INT32_MAX) {
        return err_set(e, ERR_ARG, "token id \"%.40s\": must be a number from 0", s);
    }
    tokbuf_push(ids, (int32_t)v);
    return ids->failed ? err_set(e, ERR_NOMEM, "%zu ids", ids->n) : OK;
}

static Status ids_from_stdin(TokBuf *ids, Err *e) {
    static const char blank[] = " \t\r\n,";
    StrBuf in = {0};
    char *save = NULL;
    Status st = io_read_file(&in, "-", STDIN_MAX, e);
    if (st == OK && in.n && memchr(in.p, 0, in.n))
        st = err_set(e, ERR_FORMAT, "standard input: not a list of ids");
    if (st == OK && in.n) {
        for (char *s = strtok_r(in.p, blank, &save); s && st == OK;
             s = strtok_r(NULL, blank, &save)) {
            st = push_id(ids, s, e);
        }
    }
    sb_deinit(&in);
    return st;
}

static Status decode_ids(StrBuf *text, TokBuf *ids, const char *model, OptList words, Err *e) {
    Tokenizer *t = NULL;
    Status st = data_tokenizer_load(&t, model, e);
    bool from_stdin = words.n == 0 || (words.n == 1 && !strcmp(words.v[0], "-"));
    if (st == OK && from_stdin) st = ids_from_stdin(ids, e);
    for (int i = 0; st == OK && !from_stdin && i < words.n; i++) st = push_id(ids, words.v[i], e);
    if (st == OK) st = tok_decode(t, ids->v, ids->n, text, e);
    if (st == OK) st = sb_check(text, e);
    tok_free(t);
    return st;
}

static int print_text(const StrBuf *text, size_t n_ids, bool json) {
    Slice s = {sb_str(text), text->n};
    StrBuf b = {0};
    JsonW w;
    if (!json) {
        fwrite(s.p, 1, s.n, stdout);
        if (isatty(STDOUT_FILENO) == 1) putchar('\n'); /* a pipe gets the bytes alone */
        return cli_flush_stdout();
    }
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_str(&w, "text", s);
    jw_int(&w, "n", (int64_t)n_ids);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int decode_main(int argc, char **argv) {
    Err e = {0};
    DecodeCmd c = {0};
    CliArgs a;
    TokBuf ids = {0};
    StrBuf text = {0};
    int rc = cli_parse(&a, &decode_spec, &c, argc, argv);
    if (rc < 0) {
        OptList words = {a.pos.v + 1, a.pos.n - 1};
        Status st = decode_ids(&text, &ids, a.pos.v[0], words, &e);
        rc = st == OK ? print_text(&text, ids.n, c.json) : cli_fail(&e);
    }
    sb_deinit(&text);
    tokbuf_deinit(&ids);
    cli_args_deinit(&a);
    return rc;
}

/* ---- show ---- */

typedef struct ShowCmd {
    const char *file;
    int64_t tokens;
    bool json;
} ShowCmd;

#define AT(field) offsetof(ShowCmd, field)
static const OptSpec show_opts[] = {
    {"file", 'f', OPT_STR, AT(file), NULL, 0, 0, NULL, "FILE",
     "also encode this text file and print how many tokens it takes"},
    {"tokens", 0, OPT_INT, AT(tokens), "12", 0, 1000000, NULL, NULL,
     "how many ordinary tokens to show, spread over the vocabulary"},
    {"json", 0, OPT_BOOL, AT(json), NULL, 0, 0, NULL, NULL, "print one JSON object"},
};
#undef AT

static const CliSpec show_spec = {
    .usage = "ingot tokenizer show M.gguf [options]",
    .about = "Prints what a tokenizer is: model, pattern, size of the vocabulary, special\n"
             "tokens and a few of the others, and how well it compresses a text. M.gguf\n"
             "may be a tokenizer or a model.\n"
             "\n"
             "example:\n"
             "  ingot tokenizer show tok.gguf --file main.py",
    .opts = show_opts,
    .n_opts = (int)COUNT_OF(show_opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* What show prints. The slices are borrowed from the tokenizer. */
typedef struct Shown {
    Slice model, pattern;
    bool has_file;
    uint64_t n_bytes, n_chars, n_tok;
} Shown;

static bool is_special(const Tokenizer *t, int32_t id) {
    TokType type = tok_type(t, id);
    return type == TOK_CONTROL || type == TOK_USER_DEFINED || type == TOK_UNKNOWN;
}

static Status show_file(Shown *s, const Tokenizer *t, const char *path, Err *e) {
    StrBuf text = {0};
    TokBuf ids = {0};
    Status st = io_read_file(&text, path, STDIN_MAX, e);
    Slice all = {sb_str(&text), text.n};
    if (st == OK) st = tok_encode(t, all, false, &ids, e);
    s->has_file = true;
    s->n_bytes = all.n;
    s->n_chars = data_count_chars(all);
    s->n_tok = ids.n;
    tokbuf_deinit(&ids);
    sb_deinit(&text);
    return st;
}

static void print_token(const Tokenizer *t, int32_t id) {
    StrBuf b = {0};
    Slice s = is_special(t, id) ? tok_text(t, id) : tok_piece(t, id);
    sb_put_quoted(&b, s, 60);
    printf("  %7d  \"%s\"\n", id, sb_str(&b));
    sb_deinit(&b);
}

static void print_specials(const Tokenizer *t) {
    int32_t n = 0;
    char buf[32];
    for (int32_t id = 0; id < tok_n_vocab(t); id++) n += is_special(t, id);
    printf("special tokens: %s\n", cli_commas(buf, (uint64_t)n));
    for (int32_t id = 0, k = 0; id < tok_n_vocab(t) && k < 32; id++) {
        if (!is_special(t, id)) continue;
        print_token(t, id);
        k++;
    }
    if (n > 32) printf("  ... and %d more\n", n - 32);
}

static void print_some(const Tokenizer *t, int64_t n) {
    int64_t n_vocab = tok_n_vocab(t);
    n = MIN(n, n_vocab);
    if (n > 0) printf("tokens:\n");
    for (int64_t i = 0; i < n; i++) {
        int32_t id = (int32_t)((2 * i + 1) * n_vocab / (2 * n));
        if (!is_special(t, id)) print_token(t, id);
    }
}

static int show_print(const Shown *s, const ShowCmd *c, const Tokenizer *t) {
    char a[32], b[32], d[32];
    StrBuf q = {0};
    sb_puts(&q, "model: ");
    sb_put_quoted(&q, s->model, 60);
    sb_puts(&q, "\npattern: ");
    sb_put_quoted(&q, s->pattern, 60);
    printf("%s\n", sb_str(&q));
    sb_deinit(&q);
    printf("vocabulary: %s\n", cli_commas(a, (uint64_t)tok_n_vocab(t)));
    if (tok_eot(t) >= 0) printf("end of text: %d\n", tok_eot(t));
    if (tok_bos(t) >= 0) printf("begin of text: %d\n", tok_bos(t));
    print_specials(t);
    print_some(t, c->tokens);
    if (s->has_file) {
        printf("%s: %s characters, %s bytes, %s tokens: %.3f tokens per character, %.2f bytes per "
               "token\n",
               c->file, cli_commas(a, s->n_chars), cli_commas(b, s->n_bytes),
               cli_commas(d, s->n_tok), per(s->n_tok, s->n_chars), per(s->n_bytes, s->n_tok));
    }
    return cli_flush_stdout();
}

static int show_print_json(const Shown *s, const Tokenizer *t) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_str(&w, "model", s->model);
    jw_str(&w, "pattern", s->pattern);
    jw_int(&w, "n_vocab", tok_n_vocab(t));
    jw_int(&w, "eot", tok_eot(t));
    jw_int(&w, "bos", tok_bos(t));
    jw_arr(&w, "special");
    for (int32_t id = 0; id < tok_n_vocab(t); id++) {
        if (!is_special(t, id)) continue;
        jw_obj(&w, NULL);
        jw_int(&w, "id", id);
        jw_str(&w, "text", tok_text(t, id));
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    if (s->has_file) {
        jw_int(&w, "characters", (int64_t)s->n_chars);
        jw_int(&w, "bytes", (int64_t)s->n_bytes);
        jw_int(&w, "tokens", (int64_t)s->n_tok);
        jw_num(&w, "tokens_per_character", per(s->n_tok, s->n_chars));
    }
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int show(const ShowCmd *c, const char *path) {
    Err e = {0};
    Tokenizer *t = NULL;
    Shown s = {0};
    Status st = tok_open(&t, path, &e);
    if (st == OK) {
        s.model = tok_meta_str(t, "tokenizer.ggml.model");
        s.pattern = tok_meta_str(t, "tokenizer.ggml.pre");
        if (s.pattern.n == 0) s.pattern = slice_of("default");
    }
    if (st == OK && c->file) st = show_file(&s, t, c->file, &e);
    int rc = st != OK ? cli_fail(&e) : c->json ? show_print_json(&s, t) : show_print(&s, c, t);
    tok_free(t);
    return rc;
}

static int show_main(int argc, char **argv) {
    ShowCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &show_spec, &c, argc, argv);
    if (rc < 0) rc = show(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}

/* ---- the group ---- */

int cmd_tokenizer(int argc, char **argv) {
    static const CliCommand cmds[] = {
        {"train", "learn a vocabulary from docs.jsonl", train_main},
        {"encode", "text to token ids", encode_main},
        {"decode", "token ids to text", decode_main},
        {"show", "what a tokenizer is and how well it compresses", show_main},
        {"bench", "how fast it is", cli_bench_tokenizer},
    };
    static const CliGroup group = {
        .name = "ingot tokenizer",
        .about = "Tokenizers: GGUF files, models too, and tokenizer.json.",
        .cmds = cmds,
        .n_cmds = (int)COUNT_OF(cmds),
    };
    return cli_dispatch(&group, argc, argv);
}
