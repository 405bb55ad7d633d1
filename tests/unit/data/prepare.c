/* SPDX-License-Identifier: Apache-2.0
 * prepare: what lands in which part, that nothing is lost or cut, and that only the content
 * decides. */
#include "data/internal.h"
#include "test.h"
#include "text/utf8.h"

#include <stdio.h>

typedef struct Doc {
    char path[32], text[400];
} Doc;

static char docs_path[160], out_dir[160];

static void make_docs(Doc *d, int n) {
    for (int i = 0; i < n; i++) {
        snprintf(d[i].path, sizeof d[i].path, "pkg/m%d.py", i);
        snprintf(d[i].text, sizeof d[i].text, "def f%d(x):\n    return x * %d  # \xc3\xa9%d\n%.*s",
                 i, i * 7, i, i % 90,
                 "tail tail tail tail tail tail tail tail tail tail tail tail tail tail tail tail "
                 "tail tail");
    }
}

static void write_file(const char *path, const StrBuf *b) {
    IoWriter w;
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, b->p, b->n, TERR));
    OK_(io_writer_close(&w, TERR));
}

static void write_docs(const Doc *d, int n, bool backwards) {
    StrBuf b = {0};
    JsonW w;
    for (int i = 0; i < n; i++) {
        const Doc *x = &d[backwards ? n - 1 - i : i];
        jw_init(&w, &b);
        jw_obj(&w, NULL);
        jw_cstr(&w, "path", x->path);
        jw_cstr(&w, "text", x->text);
        jw_end_obj(&w);
        sb_putc(&b, '\n');
    }
    snprintf(docs_path, sizeof docs_path, "%s/docs.jsonl", test_tmpdir());
    snprintf(out_dir, sizeof out_dir, "%s/data/set", test_tmpdir());
    write_file(docs_path, &b);
    sb_deinit(&b);
}

static Tokenizer *train(const Doc *d, int n, int n_vocab) {
    TokTrainer *tr = NULL;
    Tokenizer *t = NULL;
    TokTrainOpts o = {.n_vocab = n_vocab};
    OK_(tok_train_new(&tr, &o, TERR));
    for (int i = 0; i < n; i++) OK_(tok_train_add(tr, slice_of(d[i].text), TERR));
    OK_(tok_train_finish(tr, &t, TERR));
    tok_train_free(tr);
    return t;
}

static StrBuf slurp(const char *name) {
    char path[200];
    StrBuf b = {0};
    snprintf(path, sizeof path, "%s/%s", out_dir, name);
    OK_(io_read_file(&b, path, 1 << 26, TERR));
    return b;
}

/* Texts of a part, in order, into doc numbers; each must be one of d, whole. */
static int read_part(int *nr, const Tokenizer *t, const Doc *d, int n, const char *which) {
    Shard s;
    int k = 0;
    StrBuf text = {0};
    OK_(data_shard_open(&s, out_dir, which, TERR));
    EQ(s.n_vocab, tok_n_vocab(t));
    EQ(s.eot, tok_eot(t));
    for (uint64_t i = 0; i < s.n_tok; i++) {
        int32_t id;
        OK_(data_shard_read(&s, i, &id, 1, TERR));
        if (id != s.eot) {
            OK_(tok_decode(t, &id, 1, &text, TERR));
            continue;
        }
        int found = -1;
        for (int j = 0; j < n && found < 0; j++) found = !strcmp(d[j].text, sb_str(&text)) ? j : -1;
        if (found < 0) FAIL("%s holds a text that is no document: \"%s\"", which, sb_str(&text));
        nr[k++] = found;
        sb_clear(&text);
    }
    EQ(text.n, 0);
    sb_deinit(&text);
    data_shard_close(&s);
    return k;
}

TEST(every_document_is_whole_in_one_part) {
    enum { N = 600 }; /* more than one batch */
    static Doc d[N];
    static int nr[N];
    int seen[N] = {0}, in_order = 0;
    PrepareStats st;
    make_docs(d, N);
    write_docs(d, N, false);
    Tokenizer *t = train(d, N, 400);
    PrepareOpts o = {.val_share = 0.1, .seed = 1337, .n_threads = 2};
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    EQ(st.n_docs[0], 540);
    EQ(st.n_docs[1], 60);
    int n_train = read_part(nr, t, d, N, "train");
    EQ(n_train, 540);
    EQ(read_part(nr + n_train, t, d, N, "val"), 60);
    uint64_t chars[2] = {0}, bytes[2] = {0};
    for (int i = 0; i < N; i++) {
        seen[nr[i]]++;
        in_order += i > 0 && nr[i] == nr[i - 1] + 1;
        chars[i >= n_train] += data_count_chars(slice_of(d[nr[i]].text));
        bytes[i >= n_train] += strlen(d[nr[i]].text);
    }
    for (int i = 0; i < N; i++) EQ(seen[i], 1);
    TRUE_(in_order < 10); /* shuffled */
    for (int p = 0; p < 2; p++) {
        EQ(st.n_chars[p], chars[p]);
        EQ(st.n_bytes[p], bytes[p]);
    }
    tok_free(t);
}

static void expect_same_file(const char *name, const StrBuf *want, bool same) {
    StrBuf got = slurp(name);
    EQ(got.n == want->n && !memcmp(got.p, want->p, want->n), same);
    sb_deinit(&got);
}

TEST(only_content_and_seed_decide) {
    enum { N = 300 };
    static Doc d[N];
    PrepareStats st;
    make_docs(d, N);
    write_docs(d, N, false);
    Tokenizer *t = train(d, N, 350);
    PrepareOpts o = {.val_share = 0.1, .seed = 5, .n_threads = 1};
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    StrBuf train1 = slurp("train.bin"), val1 = slurp("val.bin"), meta1 = slurp("meta.json");
    for (int threads = 0; threads <= 5; threads += 5) {
        o.n_threads = threads;
        write_docs(d, N, threads == 5);
        OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
        expect_same_file("train.bin", &train1, true);
        expect_same_file("val.bin", &val1, true);
        expect_same_file("meta.json", &meta1, true);
    }
    o.seed = 6;
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    expect_same_file("train.bin", &train1, false);
    expect_same_file("val.bin", &val1, false);
    sb_deinit(&train1);
    sb_deinit(&val1);
    sb_deinit(&meta1);
    tok_free(t);
}

TEST(each_part_gets_a_document) {
    static Doc d[7];
    static const struct {
        double share;
        int n, val;
    } want[] = {{0, 7, 1}, {0.01, 2, 1}, {0.99, 7, 6}, {0.99, 2, 1}, {0.5, 7, 4}, {0.1, 5, 1}};
    PrepareStats st;
    make_docs(d, 7);
    Tokenizer *t = train(d, 7, 300);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        PrepareOpts o = {.val_share = want[i].share};
        write_docs(d, want[i].n, false);
        OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
        EQ(st.n_docs[1], want[i].val);
        EQ(st.n_docs[0], want[i].n - want[i].val);
    }
    tok_free(t);
}

TEST(one_document_is_too_few) {
    static Doc d[2];
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.1};
    make_docs(d, 2);
    Tokenizer *t = train(d, 2, 300);
    for (int n = 0; n < 2; n++) {
        write_docs(d, n, false);
        FAILS(ERR_FORMAT, data_prepare(&st, &o, t, docs_path, out_dir, TERR));
        TRUE_(strstr(test_err.msg, "at least 2") != NULL);
        FALSE_(io_exists(out_dir));
    }
    tok_free(t);
}

TEST(end_of_text_written_out_stays_text) {
    static Doc d[4];
    static int nr[4];
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.5};
    make_docs(d, 4);
    for (int i = 0; i < 4; i++) snprintf(d[i].text, sizeof d[i].text, "%d <|endoftext|> %d", i, i);
    write_docs(d, 4, false);
    Tokenizer *t = train(d, 4, 300);
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    EQ(read_part(nr, t, d, 4, "train"), 2);
    EQ(read_part(nr, t, d, 4, "val"), 2);
    tok_free(t);
}

TEST(a_failure_leaves_the_old_set) {
    static Doc d[20];
    static int nr[20];
    char tmp[200];
    StrBuf bad = {0};
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.1};
    atomic_int stop = 1;
    make_docs(d, 20);
    write_docs(d, 20, false);
    Tokenizer *t = train(d, 20, 300);
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    sb_puts(&bad, "{\"path\": \"a\", \"text\": \"b\"}\n{\"path\": \"a\"}\n");
    write_file(docs_path, &bad);
    FAILS(ERR_FORMAT, data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    TRUE_(strstr(test_err.msg, "docs.jsonl:2: ") != NULL);
    write_docs(d, 10, false);
    o.progress.stop = &stop;
    FAILS(ERR_CANCELLED, data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    FAILS(ERR_NOT_FOUND, data_prepare(&st, &o, t, "/nonexistent.jsonl", out_dir, TERR));
    EQ(read_part(nr, t, d, 20, "train"), 18);
    snprintf(tmp, sizeof tmp, "%s/train.bin.tmp", out_dir);
    FALSE_(io_exists(tmp));
    sb_deinit(&bad);
    tok_free(t);
}

TEST(documents_of_the_same_path) {
    static Doc d[10];
    static int nr[10];
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.3};
    make_docs(d, 10);
    for (int i = 0; i < 10; i++) strcpy(d[i].path, "same.py");
    write_docs(d, 10, false);
    Tokenizer *t = train(d, 10, 300);
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    EQ(read_part(nr, t, d, 10, "val"), 3);
    EQ(read_part(nr, t, d, 10, "train"), 7);
    for (int i = 0; i < 7; i++) EQ(nr[i], i + 3); /* ties: as in the file */
    tok_free(t);
}

TEST(the_tokenizer_comes_along) {
    static Doc d[3];
    char path[200];
    Tokenizer *copy = NULL;
    TokBuf a = {0}, b = {0};
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.1};
    make_docs(d, 3);
    write_docs(d, 3, false);
    Tokenizer *t = train(d, 3, 300);
    OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
    snprintf(path, sizeof path, "%s/tokenizer.gguf", out_dir);
    OK_(data_tokenizer_load(&copy, path, TERR));
    EQ(tok_n_vocab(copy), tok_n_vocab(t));
    EQ(tok_eot(copy), tok_eot(t));
    OK_(tok_encode(t, slice_of(d[1].text), false, &a, TERR));
    OK_(tok_encode(copy, slice_of(d[1].text), false, &b, TERR));
    EQ(a.n, b.n);
    EQ_MEM(a.v, b.v, a.n * sizeof *a.v);
    tokbuf_deinit(&a);
    tokbuf_deinit(&b);
    tok_free(copy);
    tok_free(t);
    FAILS(ERR_NOT_FOUND, data_tokenizer_load(&copy, "/nonexistent.gguf", TERR));
    FAILS(ERR_FORMAT, data_tokenizer_load(&copy, docs_path, TERR));
}

/* The n-th symbol of the GPT-2 alphabet: printable bytes stand for themselves, the others for
 * 256 + k. */
static Slice byte_symbol(char out[4], int byte) {
    int k = 0;
    for (int b = 0; b <= byte; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
        if (b == byte)
            return (Slice){out, (size_t)utf8_encode(out, plain ? (uint32_t)b : 256u + (uint32_t)k)};
        k += !plain;
    }
    return (Slice){0};
}

/* A vocabulary of n: fillers that never occur, the bytes at its end, then the end of text. */
static Tokenizer *wide_tokenizer(const char *path, int n) {
    static char text[70000][12];
    static Slice tok[70000];
    static int32_t type[70000];
    GgufW *w = NULL;
    Tokenizer *t = NULL;
    for (int i = 0; i < n - 257; i++) {
        tok[i] = (Slice){text[i], (size_t)snprintf(text[i], sizeof text[i], "filler%d", i)};
        type[i] = TOK_UNUSED;
    }
    for (int b = 0; b < 256; b++) {
        tok[n - 257 + b] = byte_symbol(text[n - 257 + b], b);
        type[n - 257 + b] = TOK_NORMAL;
    }
    tok[n - 1] = slice_of("<|endoftext|>");
    type[n - 1] = TOK_CONTROL;
    OK_(gguf_w_new(&w, path, 32, true, TERR));
    gguf_w_str(w, "tokenizer.ggml.model", slice_of("gpt2"));
    gguf_w_str(w, "tokenizer.ggml.pre", slice_of("gpt-2"));
    gguf_w_arr_str(w, "tokenizer.ggml.tokens", tok, (size_t)n);
    gguf_w_arr_i32(w, "tokenizer.ggml.token_type", type, (size_t)n);
    gguf_w_arr_str(w, "tokenizer.ggml.merges", tok, 0);
    gguf_w_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)n - 1);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    OK_(data_tokenizer_load(&t, path, TERR));
    return t;
}

TEST(ids_are_as_wide_as_the_vocabulary_asks) {
    static Doc d[4];
    static int nr[4];
    char path[200];
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.5};
    make_docs(d, 4);
    write_docs(d, 4, false);
    snprintf(path, sizeof path, "%s/wide.gguf", test_tmpdir());
    for (int n = 65536; n <= 65537; n++) {
        Tokenizer *t = wide_tokenizer(path, n);
        OK_(data_prepare(&st, &o, t, docs_path, out_dir, TERR));
        StrBuf b = slurp("train.bin");
        EQ(b.n, st.n_tok[0] * (n > 65536 ? 4 : 2));
        sb_deinit(&b);
        EQ(read_part(nr, t, d, 4, "train"), 2);
        EQ(read_part(nr, t, d, 4, "val"), 2);
        tok_free(t);
    }
}
