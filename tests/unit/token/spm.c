/* SPDX-License-Identifier: Apache-2.0
 *
 * Vocabularies with scores, held to their definition: of all neighbours that together are a token the one
 * of the highest score is merged, the leftmost on ties, again and again.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"
#include "support/vocab_build.h"
#include "test.h"
#include "text/utf8.h"
#include "token/internal.h"

#define SP "\u2581"

static Tokenizer *load(const SpmSpec *s) {
    Tokenizer *t = NULL;
    OK_(spm_build_load(&t, s, TERR));
    return t;
}

static void put_ids(StrBuf *out, const Tokenizer *t, Slice text, bool special) {
    TokBuf ids = {0};
    OK_(tok_encode(t, text, special, &ids, TERR));
    for (size_t i = 0; i < ids.n; i++) sb_printf(out, "%s%ld", i ? " " : "", (long)ids.v[i]);
    tokbuf_deinit(&ids);
}

static void check(const Tokenizer *t, const char *text, bool special, const char *want) {
    StrBuf got = {0};
    put_ids(&got, t, slice_of(text), special);
    EQ_STR(sb_str(&got), want);
    sb_deinit(&got);
}

/* ---- the definition ---- */

typedef struct Naive {
    char part[400][64];
    int n;
} Naive;

static double score_of(const SpmSpec *s, const char *text) {
    for (int i = 0; i < 32 && s->tokens[i]; i++) {
        if (!strcmp(s->tokens[i], text)) return (double)s->scores[i];
    }
    return -1e9;
}

static bool merge_best(Naive *x, const SpmSpec *s) {
    char both[128];
    double best = -1e9;
    int at = -1;
    for (int i = 0; i + 1 < x->n; i++) {
        strcat(strcpy(both, x->part[i]), x->part[i + 1]);
        if (score_of(s, both) > best) best = score_of(s, both), at = i;
    }
    if (at < 0) return false;
    strcat(strcpy(both, x->part[at]), x->part[at + 1]);
    memcpy(x->part[at], both, sizeof x->part[at]); /* no token is that long */
    memmove(x->part[at + 1], x->part[at + 2], (size_t)(x->n - at - 2) * sizeof x->part[0]);
    x->n--;
    return true;
}

static void naive_ids(StrBuf *out, const Tokenizer *t, const SpmSpec *s, const char *text) {
    static Naive x;
    x.n = 0;
    for (size_t i = 0, n = strlen(text); i < n || x.n == 0;) {
        uint32_t cp = ' ';
        int len = x.n ? utf8_decode(&cp, text + i, n - i) : 0; /* the prefix first */
        x.part[x.n][utf8_encode(x.part[x.n], cp == ' ' ? 0x2581 : cp)] = 0;
        x.n++;
        i += (size_t)len;
    }
    while (merge_best(&x, s)) {}
    for (int i = 0; i < x.n; i++) {
        int32_t id = tok_find(t, slice_of(x.part[i]));
        if (id >= 0) sb_printf(out, "%s%ld", out->n ? " " : "", (long)id);
        for (const char *p = x.part[i]; id < 0 && *p; p++)
            sb_printf(out, "%s%d", out->n ? " " : "", 3 + (uint8_t)*p);
    }
}

TEST(spm_is_its_definition) {
    static const char *const bits[] = {"t",  "h",      "e",  "c",  "a",      "the", " ",
                                       " ",  "  ",     "aa", "at", "\u00e9", "b",   "d",
                                       "\n", "\u4e2d", SP,   "ab", "abd"};
    const SpmSpec *s = &spm_small;
    Tokenizer *t = load(s);
    for (uint64_t i = 0; i < 4000; i++) {
        StrBuf text = {0}, want = {0}, got = {0};
        uint32_t r[4];
        rng_philox(r, 3, 1, i);
        for (uint32_t k = 0, n = 1 + r[0] % (i % 9 ? 20 : 120); k < n; k++) {
            rng_philox(r, 3, 2 + i, k);
            sb_puts(&text, bits[r[0] % COUNT_OF(bits)]);
        }
        naive_ids(&want, t, s, sb_str(&text));
        put_ids(&got, t, (Slice){text.p, text.n}, false);
        if (strcmp(sb_str(&want), sb_str(&got)))
            FAIL("\"%s\":\n  want %s\n  got  %s", sb_str(&text), sb_str(&want), sb_str(&got));
        sb_deinit(&text), sb_deinit(&want), sb_deinit(&got);
    }
    tok_free(t);
}

TEST(spm_by_hand) {
    Tokenizer *t = load(&spm_small);
    check(t, "", false, "");
    check(t, "the cat", false, "268 273");
    check(t, " the", false, "259 268"); /* the prefix and a space: the word takes one */
    check(t, "b", false, "259 101");
    check(t, "abd", false, "259 264 101 103"); /* no pair leads to it */
    check(t, "t\u00e9", false, "267 278");
    check(t, "\u4e2d", false, "259 231 187 176");
    check(t, "the\xff", false, "268 258");
    check(t, "<s>the</s>", true, "1 268 2");
    check(t, "<s>", false, "259 63 118 65"); /* never a control token */
    check(t, "the<think>the<think><think>", false, "268 280 268 280 280");
    EQ(tok_bos(t), 1);
    EQ(tok_eot(t), 2);
    EQ(tok_eos(t), -1);
    tok_free(t);
    SpmSpec s = spm_small;
    s.no_prefix = true;
    t = load(&s);
    check(t, "the cat", false, "266 273");
    tok_free(t);
}

/* Characters that are in a token but are none themselves: pairs lead to it all the same. */
TEST(spm_tokens_of_characters_that_are_no_tokens) {
    SpmSpec s = {.tokens = {"qz", "\u2581", "\u00e9\u00fc", "q\u00e9", "\u2581a"},
                 .scores = {-1, -2, -3, -4, -5}};
    Tokenizer *t = load(&s);
    check(t, "qz", false, "260 259");
    check(t, "qzq", false, "260 259 116");
    check(t, "\u00e9\u00fc", false, "260 261");
    check(t, "q\u00e9", false, "260 262");
    check(t, "a", false, "263");
    tok_free(t);
    s = (SpmSpec){.tokens = {"\u2581a"}, .scores = {-1}}; /* nor is the space */
    t = load(&s);
    check(t, "a", false, "259");
    tok_free(t);
}

TEST(spm_without_byte_tokens_is_unknown) {
    SpmSpec s = spm_small;
    s.no_bytes = true;
    Tokenizer *t = load(&s);
    check(t, "the\u4e2d\u4e2dt", false, "268 0 0 260");
    tok_free(t);
}

/* Phi-3's special tokens eat the white space behind them, also out of a saved tokenizer. */
TEST(spm_phi3_strips_behind) {
    SpmSpec s = spm_small;
    s.name = "Phi-3 mini";
    s.tokens[23] = "<|user|>";
    s.scores[23] = 0;
    s.types[23] = TOK_CONTROL;
    Tokenizer *t = load(&s), *u = NULL;
    char path[300];
    check(t, "<|user|> \n the", true, "282 268");
    check(t, "<s> the", true, "1 259 268");
    check(t, "<think>  the", false, "280 268");
    GgufW *w = NULL;
    snprintf(path, sizeof path, "%s/t.gguf", test_tmpdir());
    OK_(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, false, TERR));
    tok_save(t, w);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    OK_(tok_open(&u, path, TERR));
    check(u, "<|user|> \n the", true, "282 268");
    tok_free(u);
    tok_free(t);
}

static void round_trip(const Tokenizer *t, Slice s) {
    TokBuf ids = {0};
    StrBuf back = {0};
    OK_(tok_encode(t, s, false, &ids, TERR));
    OK_(tok_decode(t, ids.v, ids.n, &back, TERR));
    EQ(back.n, s.n);
    EQ_MEM(sb_str(&back), s.p ? s.p : "", s.n);
    tokbuf_deinit(&ids);
    sb_deinit(&back);
}

/* All but U+2581 itself, which comes back as a space, and text behind a user-defined token. */
TEST(spm_decode_is_the_inverse_on_random_bytes) {
    Tokenizer *t = load(&spm_small);
    char s[3000];
    for (uint64_t i = 0; i < 500; i++) {
        uint32_t r[4];
        rng_philox(r, 4, 0, i);
        size_t n = r[0] % (i % 20 == 0 ? sizeof s : 40);
        for (size_t k = 0; k < n; k++) {
            rng_philox(r, 4, 1 + i, k);
            s[k] = i % 2 ? "the cat\xc3\xa9 \n"[r[0] % 11] : (char)r[0];
        }
        round_trip(t, (Slice){s, n});
    }
    for (int b = 0; b < 256; b++) round_trip(t, (Slice){(char[]){(char)b}, 1});
    round_trip(t, slice_of("  leading"));
    tok_free(t);
}

TEST(spm_decode_continues_a_text_with_its_space) {
    Tokenizer *t = load(&spm_small);
    Detok d;
    StrBuf out = {0};
    OK_(tok_decode(t, (int32_t[]){1, 268, 273}, 3, &out, TERR));
    EQ_STR(sb_str(&out), "the cat");
    sb_clear(&out);
    detok_init(&d, t);
    detok_push(&d, 273, &out);
    detok_finish(&d, &out);
    EQ_STR(sb_str(&out), " cat");
    sb_deinit(&out);
    tok_free(t);
}

/* A megabyte without a break must not take the square of its length. */
TEST(spm_one_endless_word) {
    enum { N = 1 << 20 };
    Tokenizer *t = load(&spm_small);
    char *s = malloc(N);
    double t0 = clock_now_s();
    memset(s, 'a', N);
    round_trip(t, (Slice){s, N});
    for (size_t i = 0; i < N; i++) s[i] = "then"[i * 7919 % 4];
    round_trip(t, (Slice){s, N});
    memset(s, ' ', N);
    round_trip(t, (Slice){s, N});
    TRUE_(clock_now_s() - t0 < 20);
    free(s);
    tok_free(t);
}

TEST(spm_refuses) {
    static char big[TOK_MAX_TEXT + 2];
    SpmSpec s = spm_small;
    Tokenizer *t = NULL;
    memset(big, 'a', TOK_MAX_TEXT + 1);
    s.tokens[22] = big;
    FAILS(ERR_FORMAT, spm_build_load(&t, &s, TERR));
    EQ_STR(test_err.msg, "tokenizer.ggml.tokens: token 281 has 1025 bytes, limit 1024");
    s = spm_small;
    s.scores[0] = (float)(0.0 / (test_err.msg[0] ? 0.0 : 1.0));
    FAILS(ERR_FORMAT, spm_build_load(&t, &s, TERR));
    EQ_STR(test_err.msg, "tokenizer.ggml.scores: token 259: not a number");
}
