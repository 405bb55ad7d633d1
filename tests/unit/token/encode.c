/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "support/vocab_build.h"
#include "test.h"
#include "token/internal.h"

static Tokenizer *small(void) {
    Tokenizer *t = NULL;
    OK_(vocab_build_load(&t, &vocab_small, TERR));
    return t;
}

/* A vocabulary of n ids out of text. */
static Tokenizer *train(const char *text, int32_t n) {
    Tokenizer *t = NULL;
    TokTrainer *tr = NULL;
    OK_(tok_train_new(&tr, &(TokTrainOpts){.n_vocab = n}, TERR));
    OK_(tok_train_add(tr, slice_of(text), TERR));
    OK_(tok_train_finish(tr, &t, TERR));
    tok_train_free(tr);
    return t;
}

static const char sample[] =
    "def there(then, other):\n    \"\"\"The other thing they thought of, there and then.\"\"\"\n"
    "    for i in range(100):\n        if then[i] == other[i] and then is not None:\n"
    "            return {'there': then, 'other': other}\n    return None\n\n\n"
    "class Thing(Other):\n    def __init__(self, thing=None, **kwargs):\n        "
    "super().__init__(**kwargs)\n"
    "        self.thing = thing or \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n"
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043f\u0440\u0438\u0432\u0435\u0442! "
    "\U0001f600\U0001f601\U0001f600\n";

static void check_ids(const Tokenizer *t, const char *text, bool special, const char *want) {
    TokBuf ids = {0};
    StrBuf got = {0};
    OK_(tok_encode(t, slice_of(text), special, &ids, TERR));
    for (size_t i = 0; i < ids.n; i++) sb_printf(&got, "%s%ld", i ? " " : "", (long)ids.v[i]);
    EQ_STR(sb_str(&got), want);
    tokbuf_deinit(&ids);
    sb_deinit(&got);
}

static void check_round_trip(const Tokenizer *t, Slice s) {
    TokBuf ids = {0};
    StrBuf back = {0};
    OK_(tok_encode(t, s, false, &ids, TERR));
    OK_(tok_decode(t, ids.v, ids.n, &back, TERR));
    EQ(back.n, s.n);
    EQ_MEM(sb_str(&back), s.p ? s.p : "", s.n);
    tokbuf_deinit(&ids);
    sb_deinit(&back);
}

TEST(encode_small_vocabulary) {
    Tokenizer *t = small();
    check_ids(t, "", false, "");
    check_ids(t, "the the", false, "257 258");
    check_ids(t, " cat cats", false, "261 261 115");
    check_ids(t, "aaaaa", false, "262 263"); /* aa aa a, then aa and a */
    check_ids(t, "aaaa", false, "262 262");
    check_ids(t, "cat", false, "99 269");
    check_ids(t, "\xf0\x9f\x98\x80", false, "267 152 128");
    check_ids(t, "\xf0\x9f", false, "240 159"); /* cut off: byte by byte */
    tok_free(t);
}

TEST(encode_appends) {
    Tokenizer *t = small();
    TokBuf ids = {0};
    OK_(tok_encode(t, slice_of("the"), false, &ids, TERR));
    OK_(tok_encode(t, slice_of(" the"), false, &ids, TERR));
    EQ(ids.n, 2);
    EQ(ids.v[0], 257);
    EQ(ids.v[1], 258);
    tokbuf_deinit(&ids);
    tok_free(t);
}

TEST(encode_special_tokens) {
    Tokenizer *t = small();
    check_ids(t, "the<|endoftext|>the", true, "257 264 257");
    check_ids(t, "<|endoftext|>x<|end|>", true, "270 265"); /* the longest wins */
    check_ids(t, "<|endoftext|><|endoftext|", true,
              "264 60 124 101 110 100 111 102 116 101 120 116 124");
    check_ids(t, "<think>", true, "266");
    check_ids(t, "<think>", false, "266"); /* user-defined: always */
    check_ids(t, "<|end|>", false, "60 124 101 110 100 124 62");
    check_ids(t, "[PAD0]", true, "91 80 65 68 48 93");
    check_ids(t, "<<think><", true, "60 266 60");
    tok_free(t);
}

TEST(encode_whole_words_of_llama_ignore_merges) {
    VocabSpec s = {.pre = "llama-bpe", .tokens = {"abc"}};
    Tokenizer *t = NULL;
    OK_(vocab_build_load(&t, &s, TERR));
    check_ids(t, "abc abc", false, "256 32 97 98 99");
    tok_free(t);
    s.pre = "qwen2";
    OK_(vocab_build_load(&t, &s, TERR));
    check_ids(t, "abc", false, "97 98 99");
    tok_free(t);
}

/* Where special tokens may overlap the longest comes first, wherever it stands. */
TEST(encode_longest_special_token_first) {
    VocabSpec s = {.tokens = {"ab", "bcd", "  ", "    "},
                   .types = {TOK_USER_DEFINED, TOK_USER_DEFINED, TOK_USER_DEFINED,
                             TOK_USER_DEFINED}};
    Tokenizer *t = NULL;
    OK_(vocab_build_load(&t, &s, TERR));
    check_ids(t, "abcd", false, "97 257");
    check_ids(t, "abab", false, "256 256");
    check_ids(t, "a       b", false, "97 259 258 32 98");
    check_ids(t, "", false, "");
    tok_free(t);
}

/* ---- the longest special token first, by the definition ---- */

/* Fragments of text[from .. to): every place of token list[0] is cut out, what lies between goes to the next token. */
static void cut_naively(TokBuf *out, const Tokenizer *t, Slice text, size_t from, size_t to,
                        const int32_t *list, int n) {
    size_t at = from;
    if (from == to) return;
    if (n == 0) {
        int32_t piece[] = {-1, (int32_t)from, (int32_t)to};
        for (int i = 0; i < 3; i++) tokbuf_push(out, piece[i]);
        return;
    }
    Slice what = tok_text(t, *list);
    while (at + what.n <= to && memcmp(text.p + at, what.p, what.n) != 0) at++;
    if (at + what.n > to) {
        cut_naively(out, t, text, from, to, list + 1, n - 1);
        return;
    }
    size_t left = at, right = at + what.n;
    int32_t piece[] = {*list, (int32_t)at, (int32_t)right};
    while (t->flags[*list] & TOK_LSTRIP && left > from && text.p[left - 1] == ' ') left--;
    while (t->flags[*list] & TOK_RSTRIP && right < to && text.p[right] == ' ') right++;
    cut_naively(out, t, text, from, left, list + 1, n - 1);
    for (int i = 0; i < 3; i++) tokbuf_push(out, piece[i]);
    cut_naively(out, t, text, right, to, list, n);
}

static void cut_by_library(TokBuf *out, const Tokenizer *t, Slice text) {
    Fragments f = {.t = t, .text = text, .control = true};
    Fragment x;
    TRUE_(tok__fragments_init(&f));
    while (tok__fragments_next(&f, &x)) {
        tokbuf_push(out, x.id);
        tokbuf_push(out, (int32_t)(x.text.p - text.p));
        tokbuf_push(out, (int32_t)(x.text.p - text.p + (ptrdiff_t)x.text.n));
    }
    tok__fragments_deinit(&f);
}

TEST(encode_longest_special_token_first_as_defined) {
    enum { N = 14 };
    char names[N][8], text[80];
    for (uint64_t round = 0; round < 300; round++) {
        VocabSpec s = {.pre = NULL};
        int32_t list[N];
        uint32_t r[4];
        for (uint64_t i = 0; i < N; i++) { /* of three letters, so that they overlap; all differ */
            rng_philox(r, 31, round, i);
            size_t n = 2 + r[0] % 4;
            for (size_t k = 0; k < n; k++)
                names[i][k] = "ab "[r[1] >> 2 * k & 3 ? r[1] >> 2 * k & 1 : 2];
            names[i][n] = '\0';
            s.tokens[i] = names[i];
            s.types[i] = i % 3 ? TOK_USER_DEFINED : TOK_CONTROL;
            for (uint64_t j = 0; j < i; j++)
                if (!strcmp(names[i], names[j])) snprintf(names[i], 8, "c%c", (char)('a' + i));
        }
        Tokenizer *t = NULL;
        OK_(vocab_build_load(&t, &s, TERR));
        int n = 0;
        for (size_t len = 7; len > 0; len--)
            for (int32_t i = 0; i < N; i++)
                if (strlen(names[i]) == len) list[n++] = 256 + i;
        for (int i = 0; i < N; i++)
            if (round % 2 && i % 4 < 3)
                t->flags[256 + i] = (uint8_t)(t->flags[256 + i] | (1 + i % 3));
        t->specials.overlap = true;
        for (uint64_t k = 0; k < sizeof text; k++) {
            rng_philox(r, 32, round, k);
            text[k] = "aabb  c"[r[0] % 7];
        }
        TokBuf got = {0}, want = {0};
        cut_naively(&want, t, (Slice){text, sizeof text}, 0, sizeof text, list, n);
        cut_by_library(&got, t, (Slice){text, sizeof text});
        EQ(got.n, want.n);
        EQ_MEM(got.v, want.v, got.n * sizeof *got.v);
        tokbuf_deinit(&got);
        tokbuf_deinit(&want);
        tok_free(t);
    }
}

/* One chunk through the library and through the definition. */
static void check_chunk(const Tokenizer *t, char **merges, size_t n_merges, Slice chunk) {
    TokBuf got = {0}, want = {0};
    BpeScratch scratch = {0};
    TRUE_(tok__bpe(t, &scratch, chunk, &got));
    vocab_naive_encode(t, merges, n_merges, chunk, &want);
    if (got.n != want.n || memcmp(got.v, want.v, got.n * sizeof *got.v))
        FAIL("%.*s", (int)chunk.n, chunk.p);
    tok__bpe_deinit(&scratch);
    tokbuf_deinit(&got);
    tokbuf_deinit(&want);
}

TEST(encode_chunks_as_defined) {
    Tokenizer *t = train(sample, 400);
    char path[256], chunk[200];
    size_t n_merges;
    snprintf(path, sizeof path, "%s/v.gguf", test_tmpdir());
    char **merges = vocab_merges(t, path, &n_merges);
    TRUE_(n_merges > 60);
    for (uint64_t i = 0; i < 600; i++) {
        uint32_t r[4];
        rng_philox(r, 9, 0, i);
        size_t n = 1 + r[0] % (i % 4 == 0 ? 180 : 40), from = r[1] % (sizeof sample - 1 - n);
        memcpy(chunk, sample + from, n);
        if (i % 3 == 0) memset(chunk + n / 3, 'a', n / 2); /* runs of one letter: ties */
        if (i % 7 == 0) chunk[r[2] % n] = (char)r[3];
        check_chunk(t, merges, n_merges, (Slice){chunk, n});
    }
    vocab_free_list(merges, n_merges);
    tok_free(t);
}

TEST(encode_text_is_its_chunks) {
    Tokenizer *t = train(sample, 320);
    StrBuf text = {0};
    TokBuf got = {0}, want = {0};
    BpeScratch scratch = {0};
    Slice chunk;
    for (int i = 0; i < 40; i++)
        sb_put(&text, sample + i, sizeof sample - 1 - (size_t)i); /* long: the cache is used */
    OK_(tok_encode(t, (Slice){text.p, text.n}, false, &got, TERR));
    Chunks c;
    tok__chunks_init(&c, t->pass, t->n_pass, NULL, (Slice){text.p, text.n});
    while (tok__chunk_next(&c, &chunk) == CHUNK_TEXT) TRUE_(tok__bpe(t, &scratch, chunk, &want));
    EQ(got.n, want.n);
    EQ_MEM(got.v, want.v, got.n * sizeof *got.v);
    check_round_trip(t, (Slice){text.p, text.n});
    tok__bpe_deinit(&scratch);
    tokbuf_deinit(&got);
    tokbuf_deinit(&want);
    sb_deinit(&text);
    tok_free(t);
}

/* The way through PCRE2 is held to the scanned one. */
TEST(encode_by_pattern_is_encode_by_scan) {
    Tokenizer *t = train(sample, 320);
    TokBuf scanned = {0}, matched = {0};
    Slice s = {sample, sizeof sample - 1};
    OK_(tok_encode(t, s, true, &scanned, TERR));
    PreTok pre;
    TRUE_(tok__pretok_find(&pre, slice_of("gpt-2")));
    OK_(tok__splitter_init(&t->pass[0], &(Pass){pre.pass[0].pattern, NULL}, TERR));
    OK_(tok_encode(t, s, true, &matched, TERR));
    EQ(scanned.n, matched.n);
    EQ_MEM(scanned.v, matched.v, matched.n * sizeof *matched.v);
    check_round_trip(t, slice_of("\xff"
                                 "ab\x80 c"));
    tokbuf_deinit(&scanned);
    tokbuf_deinit(&matched);
    tok_free(t);
}

TEST(encode_decode_is_the_identity_on_random_bytes) {
    Tokenizer *t = train(sample, 400);
    char s[6000];
    check_round_trip(t, (Slice){NULL, 0});
    for (uint64_t i = 0; i < 400; i++) {
        uint32_t r[4];
        rng_philox(r, 1, 2, i);
        size_t n = r[0] % (i % 20 == 0 ? sizeof s : 60);
        for (size_t k = 0; k < n; k++) {
            rng_philox(r, 1, 3 + i, k);
            s[k] = (char)r[0];
            if (i % 3 == 1) s[k] = "ab \n'\xd0\x9f\xff"[r[0] % 8];
            if (i % 3 == 2) s[k] = sample[r[1] % (sizeof sample - 1)];
        }
        check_round_trip(t, (Slice){s, n});
    }
    for (int b = 0; b < 256; b++) check_round_trip(t, (Slice){(char[]){(char)b}, 1});
    tok_free(t);
}

/* A megabyte without a break must not take the square of its length. */
TEST(encode_one_endless_word) {
    enum { N = 1 << 20 };
    Tokenizer *t = train(sample, 400);
    char *s = malloc(N);
    memset(s, 'a', N);
    double t0 = clock_now_s();
    check_round_trip(t, (Slice){s, N});
    for (size_t i = 0; i < N; i++) s[i] = "then"[i * 7919 % 4];
    check_round_trip(t, (Slice){s, N});
    memset(s, ' ', N);
    check_round_trip(t, (Slice){s, N});
    memset(s, '\xff', N);
    check_round_trip(t, (Slice){s, N});
    TRUE_(clock_now_s() - t0 < 20);
    free(s);
    tok_free(t);
}

TEST(decode_refuses_ids_outside) {
    Tokenizer *t = small();
    StrBuf out = {0};
    FAILS(ERR_ARG, tok_decode(t, (int32_t[]){97, -1}, 2, &out, TERR));
    FAILS(ERR_ARG, tok_decode(t, (int32_t[]){97, 271}, 2, &out, TERR));
    EQ_STR(test_err.msg, "token 1: id 271 is outside of the vocabulary, 0 to 270");
    EQ(out.n, 0);
    OK_(tok_decode(t, (int32_t[]){264, 261, 266, 268}, 4, &out, TERR));
    EQ_STR(sb_str(&out), " cat<think>");
    sb_deinit(&out);
    tok_free(t);
}
