/* SPDX-License-Identifier: Apache-2.0
 *
 * The trainer is held to the definition: count every pair anew, take the most frequent (the smaller ids
 * on ties), replace it everywhere from the left, until there are enough tokens or no pairs.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "support/vocab_build.h"
#include "test.h"
#include "token/train_internal.h"

enum { MAX_WORDS = 512, MAX_LEN = 96, MAX_TOKENS = 700 };

typedef struct Naive {
    int32_t sym[MAX_WORDS][MAX_LEN];
    int len[MAX_WORDS];
    int n_words;
    char token[MAX_TOKENS][MAX_LEN * 2];
    size_t token_n[MAX_TOKENS];
    int n_tokens;
    int32_t merge[MAX_TOKENS][2];
    int n_merges;
} Naive;

static const Splitter gpt2 = {.scan = tok__scan_gpt2};

static void naive_add(Naive *x, Slice doc) {
    Chunks c;
    Slice s;
    tok__chunks_init(&c, &gpt2, 1, NULL, doc);
    for (ChunkKind k; (k = tok__chunk_next(&c, &s)) != CHUNK_END;) {
        if (k == CHUNK_BYTES) continue;
        TRUE_(x->n_words < MAX_WORDS && s.n <= MAX_LEN);
        for (size_t i = 0; i < s.n; i++) x->sym[x->n_words][i] = (uint8_t)s.p[i];
        x->len[x->n_words++] = (int)s.n;
    }
}

static int naive_count(const Naive *x, int32_t l, int32_t r) {
    int n = 0;
    for (int w = 0; w < x->n_words; w++) {
        for (int i = 0; i + 1 < x->len[w]; i++) n += x->sym[w][i] == l && x->sym[w][i + 1] == r;
    }
    return n;
}

static bool naive_best(const Naive *x, int32_t *l, int32_t *r) {
    int best = 0;
    for (int w = 0; w < x->n_words; w++) {
        for (int i = 0; i + 1 < x->len[w]; i++) {
            int32_t a = x->sym[w][i], b = x->sym[w][i + 1];
            if (best && a == *l && b == *r) continue;
            int n = naive_count(x, a, b);
            if (n < best || (n == best && (a > *l || (a == *l && b > *r)))) continue;
            best = n;
            *l = a;
            *r = b;
        }
    }
    return best > 0;
}

static int32_t naive_token(Naive *x, int32_t l, int32_t r) {
    int id = x->n_tokens++;
    size_t n = x->token_n[l] + x->token_n[r];
    memcpy(x->token[id], x->token[l], x->token_n[l]);
    memcpy(x->token[id] + x->token_n[l], x->token[r], x->token_n[r]);
    x->token_n[id] = n;
    for (int i = 0; i < id; i++)
        FALSE_(x->token_n[i] == n && !memcmp(x->token[i], x->token[id], n));
    return id;
}

static void naive_replace(Naive *x, int w, int32_t l, int32_t r, int32_t id) {
    int to = 0;
    for (int i = 0; i < x->len[w]; i++) {
        bool here = i + 1 < x->len[w] && x->sym[w][i] == l && x->sym[w][i + 1] == r;
        x->sym[w][to++] = here ? id : x->sym[w][i];
        i += here;
    }
    x->len[w] = to;
}

static void naive_learn(Naive *x, int n_tokens) {
    int32_t l = -1, r = -1;
    for (int b = 0; b < 256; b++) {
        x->token[b][0] = (char)b;
        x->token_n[b] = 1;
    }
    x->n_tokens = 256;
    while (x->n_tokens < n_tokens && naive_best(x, &l, &r)) {
        int32_t id = naive_token(x, l, r);
        x->merge[x->n_merges][0] = l;
        x->merge[x->n_merges++][1] = r;
        for (int w = 0; w < x->n_words; w++) naive_replace(x, w, l, r, id);
    }
}

static Tokenizer *train(const char *const *docs, int n_docs, int32_t n_vocab) {
    Tokenizer *t = NULL;
    TokTrainer *tr = NULL;
    OK_(tok_train_new(&tr, &(TokTrainOpts){.n_vocab = n_vocab}, TERR));
    for (int i = 0; i < n_docs; i++) OK_(tok_train_add(tr, slice_of(docs[i]), TERR));
    OK_(tok_train_finish(tr, &t, TERR));
    tok_train_free(tr);
    return t;
}

static void check_docs(const char *const *docs, int n_docs, int32_t n_vocab) {
    Naive *x = calloc(1, sizeof *x);
    for (int i = 0; i < n_docs; i++) naive_add(x, slice_of(docs[i]));
    naive_learn(x, n_vocab - 1);
    Tokenizer *t = train(docs, n_docs, n_vocab);
    char path[256];
    size_t n;
    snprintf(path, sizeof path, "%s/v.gguf", test_tmpdir());
    char **merges = vocab_merges(t, path, &n);
    EQ(n, x->n_merges);
    EQ(tok_n_vocab(t), x->n_tokens + 1);
    for (int32_t i = 0; i < x->n_tokens; i++) {
        if (!slice_eq(tok_piece(t, i), (Slice){x->token[i], x->token_n[i]}))
            FAIL("token %d", (int)i);
    }
    for (int i = 0; i < x->n_merges; i++) {
        StrBuf want = {0};
        Slice l = tok_text(t, x->merge[i][0]), r = tok_text(t, x->merge[i][1]);
        sb_put(&want, l.p, l.n);
        sb_putc(&want, ' ');
        sb_put(&want, r.p, r.n);
        EQ_STR(merges[i], sb_str(&want));
        sb_deinit(&want);
    }
    vocab_free_list(merges, n);
    tok_free(t);
    free(x);
}

#define DOCS(n_vocab, ...)                               \
    do {                                                 \
        static const char *const docs[] = {__VA_ARGS__}; \
        check_docs(docs, (int)COUNT_OF(docs), n_vocab);  \
    } while (0)

TEST(train_known_texts) {
    DOCS(300, "the cat sat on the mat, the cat that the other cat saw");
    DOCS(300, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa aaaa aaa aa a");
    DOCS(290, "abab baba abba baab", "ab ab ab", "");
    DOCS(300, "\u043f\u0440\u0438\u0432\u0435\u0442 \u043f\u0440\u0438\u0432\u0435\u0442 "
              "\U0001f600\U0001f600\U0001f601");
    DOCS(300, "x\xff\xfexx xx\xe2\x82", "1 2 3 44 444 4444");
    DOCS(300, "");
    DOCS(257, "the cat");
}

/* Small alphabets: everything ties, runs overlap, tokens come up by two ways. */
TEST(train_random_texts) {
    for (uint64_t i = 0; i < 150; i++) {
        char doc[400];
        const char *docs[] = {doc};
        uint32_t r[4];
        rng_philox(r, 8, 0, i);
        size_t n = 20 + r[0] % 370, letters = 1 + r[1] % 4, spaces = 4 + r[2] % 40;
        for (size_t k = 0; k < n; k++) {
            rng_philox(r, 8, 1 + i, k);
            doc[k] = r[0] % spaces == 0 ? ' ' : "abcd"[r[1] % letters];
            if (k >= 90 && k % 90 == 0) doc[k] = ' ';
        }
        doc[n] = 0;
        check_docs(docs, 1, 256 + 1 + (int32_t)(1 + i % 90));
    }
}

TEST(train_vocabulary_order_and_special_token) {
    static const char *const docs[] = {"ab ab ab", "ab"};
    Tokenizer *t = train(docs, 2, 258);
    EQ(tok_n_vocab(t), 258);
    for (int32_t b = 0; b < 256; b++) EQ((uint8_t)tok_piece(t, b).p[0], b);
    TRUE_(slice_eq_str(tok_text(t, 256), "ab"));
    TRUE_(slice_eq_str(tok_text(t, 257), "<|endoftext|>"));
    EQ(tok_type(t, 257), TOK_CONTROL);
    EQ(tok_eot(t), 257);
    EQ(tok_bos(t), -1);
    TRUE_(tok_is_end(t, 257));
    tok_free(t);
}

TEST(train_text_runs_out_of_pairs) {
    static const char *const docs[] = {"abc"};
    Tokenizer *t = train(docs, 1, 1000);
    EQ(tok_n_vocab(t), 256 + 2 + 1);
    TRUE_(slice_eq_str(tok_text(t, 257), "abc"));
    tok_free(t);
}

TEST(train_refuses_sizes) {
    TokTrainer *tr = NULL;
    FAILS(ERR_ARG, tok_train_new(&tr, &(TokTrainOpts){.n_vocab = 256}, TERR));
    EQ_STR(test_err.msg, "vocabulary size 256 is out of range, 257 to 1000000");
    FAILS(ERR_ARG, tok_train_new(&tr, &(TokTrainOpts){.n_vocab = 1000001}, TERR));
    FAILS(ERR_ARG, tok_train_new(&tr, &(TokTrainOpts){.n_vocab = 300, .n_threads = -1}, TERR));
    TRUE_(tr == NULL);
    tok_train_free(NULL);
}

/* Code-like text with every kind of line end. */
static void random_lines(StrBuf *b, size_t n, uint64_t key) {
    static const char *const bits[] = {"x",  "foo", " ",  "  ",     "\n",   "\n\n", "\t",
                                       "'s", "42",  "()", "\u00e4", "\r\n", "\n ",  ";"};
    for (uint64_t i = 0; b->n < n; i++) {
        uint32_t r[4];
        rng_philox(r, 6, key, i);
        sb_puts(b, bits[r[0] % COUNT_OF(bits)]);
    }
}

TEST(train_parts_begin_where_chunks_begin) {
    StrBuf doc = {0};
    int n_parts = 0;
    random_lines(&doc, 1 << 20, 1);
    Slice left = {doc.p, doc.n}, chunk;
    Chunks c, part;
    size_t pos = 0;
    tok__chunks_init(&c, &gpt2, 1, NULL, left);
    while (left.n > 0) {
        size_t n = tok__train_part(left);
        size_t end = (size_t)(left.p - doc.p) + n;
        for (; pos < end; pos += chunk.n) TRUE_(tok__chunk_next(&c, &chunk) == CHUNK_TEXT);
        EQ(pos, end);
        tok__chunks_init(&part, &gpt2, 1, NULL,
                         (Slice){left.p, n}); /* and its last chunk is the same alone */
        Slice last = {0};
        while (tok__chunk_next(&part, &last) != CHUNK_END) {}
        TRUE_(slice_eq(last, chunk));
        left = (Slice){left.p + n, left.n - n};
        n_parts++;
    }
    TRUE_(n_parts > 8 && n_parts <= 16);
    sb_deinit(&doc);
}

TEST(train_any_number_of_threads_learns_the_same) {
    char path[256];
    char **want = NULL;
    size_t n_want = 0;
    StrBuf doc = {0};
    random_lines(&doc, 6 << 20, 2);
    snprintf(path, sizeof path, "%s/v.gguf", test_tmpdir());
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        Tokenizer *t = NULL;
        TokTrainer *tr = NULL;
        size_t n;
        OK_(tok_train_new(&tr, &(TokTrainOpts){.n_vocab = 400, .n_threads = n_threads}, TERR));
        OK_(tok_train_add(tr, (Slice){doc.p, doc.n}, TERR));
        for (size_t i = 0; i + 5000 < 200000; i += 5000)
            OK_(tok_train_add(tr, (Slice){doc.p + i, 5000}, TERR));
        OK_(tok_train_finish(tr, &t, TERR));
        tok_train_free(tr);
        char **merges = vocab_merges(t, path, &n);
        tok_free(t);
        if (!want) {
            want = merges;
            n_want = n;
            continue;
        }
        EQ(n, n_want);
        for (size_t i = 0; i < n; i++) EQ_STR(merges[i], want[i]);
        vocab_free_list(merges, n);
    }
    vocab_free_list(want, n_want);
    sb_deinit(&doc);
}

static void on_progress(void *ctx, int32_t n_done, int32_t n_total) {
    int32_t *last = ctx;
    TRUE_(n_done >= last[0] && n_done <= n_total && n_total == 299);
    last[0] = n_done;
}

TEST(train_reports_progress) {
    int32_t last[1] = {0};
    Tokenizer *t = NULL;
    TokTrainer *tr = NULL;
    OK_(tok_train_new(
        &tr, &(TokTrainOpts){.n_vocab = 300, .progress = on_progress, .progress_ctx = last}, TERR));
    OK_(tok_train_add(tr, slice_of("some words that are all different, to give pairs enough"),
                      TERR));
    OK_(tok_train_finish(tr, &t, TERR));
    EQ(last[0], tok_n_vocab(t) - 1);
    tok_free(t);
    tok_train_free(tr);
}
