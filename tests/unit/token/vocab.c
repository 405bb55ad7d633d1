/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "support/vocab_build.h"
#include "test.h"
#include "token/internal.h"

static Tokenizer *load(const VocabSpec *s) {
    Tokenizer *t = NULL;
    OK_(vocab_build_load(&t, s, TERR));
    return t;
}

static void refused(Status want, const VocabSpec *s, const char *words) {
    Tokenizer *t = NULL;
    size_t live = mem_live_bytes();
    FAILS(want, vocab_build_load(&t, s, TERR));
    TRUE_(t == NULL);
    EQ(mem_live_bytes(), live);
    EQ_STR(test_err.msg, words);
}

#define KEY "tokenizer.ggml."

TEST(vocab_alphabet_is_one_to_one) {
    bool seen[512] = {0};
    for (int b = 0; b < 256; b++) {
        uint32_t cp = tok__byte_char((uint8_t)b);
        TRUE_(cp > 32 && cp < 324 && cp != 127 && cp != 173 && !seen[cp]);
        seen[cp] = true;
        EQ(tok__char_byte(cp), b);
    }
    EQ(tok__byte_char(' '), 0x120);
    EQ(tok__byte_char('\n'), 0x10a);
    EQ(tok__byte_char(173), 0x143);
    for (uint32_t cp = 0; cp < 512; cp++) EQ(tok__char_byte(cp) >= 0, seen[cp]);
    EQ(tok__char_byte(0x10ffff), -1);
}

TEST(vocab_questions) {
    Tokenizer *t = load(&vocab_small);
    EQ(tok_n_vocab(t), 256 + 15);
    EQ(tok_eot(t), 264);
    EQ(tok_bos(t), -1);
    TRUE_(tok_is_end(t, 264) && tok_is_end(t, 265));
    FALSE_(tok_is_end(t, 266) || tok_is_end(t, -1) || tok_is_end(t, 271) || tok_is_end(t, 256));
    EQ(tok_type(t, 0), TOK_NORMAL);
    EQ(tok_type(t, 264), TOK_CONTROL);
    EQ(tok_type(t, 266), TOK_USER_DEFINED);
    EQ(tok_type(t, 5000), TOK_UNUSED);
    EQ(tok_find(t, slice_of("<think>")), 266);
    EQ(tok_find(t, slice_of("\u0120cat")), 261);
    EQ(tok_find(t, slice_of("nothing")), -1);
    TRUE_(slice_eq_str(tok_piece(t, 261), " cat"));
    TRUE_(slice_eq_str(tok_text(t, 261), "\u0120cat"));
    TRUE_(slice_eq_str(tok_piece(t, 266), "<think>"));
    TRUE_(slice_eq_str(tok_piece(t, 267), "\xf0\x9f"));
    EQ(tok_piece(t, 264).n + tok_piece(t, 268).n + tok_piece(t, -1).n + tok_text(t, 999).n, 0);
    tok_free(t);
    tok_free(NULL);
}

TEST(vocab_begin_of_text) {
    VocabSpec s = vocab_small;
    s.add_bos = 2;
    Tokenizer *t = load(&s);
    EQ(tok_bos(t), 264);
    tok_free(t);
    s.add_bos = 1;
    t = load(&s);
    EQ(tok_bos(t), -1);
    tok_free(t);
    s.pre = "llama-bpe"; /* asks for one by default */
    s.add_bos = 0;
    t = load(&s);
    EQ(tok_bos(t), 264);
    tok_free(t);
    s.id_key[1] = NULL;
    t = load(&s);
    EQ(tok_bos(t), -1);
    tok_free(t);
    s.add_bos = 2;
    refused(ERR_FORMAT, &s, KEY "add_bos_token: true, but there is no bos_token_id");
}

TEST(vocab_without_optional_keys) {
    VocabSpec s = {.no_types = true, .pre = "", .tokens = {"ab"}, .merges = {"a b"}};
    Tokenizer *t = load(&s);
    EQ(tok_n_vocab(t), 257);
    EQ(tok_eot(t), -1);
    EQ(tok_type(t, 256), TOK_NORMAL);
    tok_free(t);
    s.merges[0] = NULL;
    t = load(&s);
    FALSE_(t->whole[256]); /* no merge leads to it */
    tok_free(t);
}

TEST(vocab_saved_and_loaded_is_the_same) {
    Tokenizer *t = load(&vocab_small), *u = NULL;
    char path[256];
    size_t n;
    Gguf *g = NULL;
    snprintf(path, sizeof path, "%s/v.gguf", test_tmpdir());
    char **merges = vocab_merges(t, path, &n);
    EQ_STR(merges[9], "\u00f0 \u0141");
    vocab_free_list(merges, n);
    EQ(n, 10);
    OK_(gguf_open(&g, path, TERR));
    EQ(gguf_n_kv(g), 7);
    OK_(tok_load(&u, g, TERR));
    gguf_close(g);
    EQ(tok_n_vocab(u), tok_n_vocab(t));
    for (int32_t i = 0; i < tok_n_vocab(t); i++) {
        TRUE_(slice_eq(tok_text(t, i), tok_text(u, i)) &&
              slice_eq(tok_piece(t, i), tok_piece(u, i)));
        EQ(tok_type(t, i), tok_type(u, i));
    }
    EQ(tok_eot(u), tok_eot(t));
    tok_free(t);
    tok_free(u);
}

TEST(vocab_refuses_wrong_kinds) {
    VocabSpec s = vocab_small;
    s.model = "ber\nt";
    refused(ERR_UNSUPPORTED, &s,
            KEY "model: \"ber?t\" is not supported, only gpt2, llama and gemma4");
    s.model = NULL;
    s.pre = "gpt-3";
    refused(ERR_UNSUPPORTED, &s, KEY "pre: pre-tokenizer \"gpt-3\" is not supported");
    s.pre = NULL;
    s.model = "";
    Tokenizer *t = NULL;
    FAILS(ERR_NOT_FOUND, vocab_build_load(&t, &s, TERR));
}

/* Files in the wild have them: the first of equal texts is the one that text becomes. */
TEST(vocab_takes_odd_tokens) {
    VocabSpec s = {.tokens = {"ab", "ab", "", "a b", "a\xff", "\u4e2d"}, .merges = {"a b"}};
    Tokenizer *t = load(&s);
    TokBuf ids = {0};
    EQ(tok_find(t, slice_of("ab")), 256);
    TRUE_(slice_eq_str(tok_piece(t, 257), "ab"));
    TRUE_(slice_eq_str(tok_text(t, 258), "[EMPTY_258]"));
    TRUE_(slice_eq_str(tok_piece(t, 259), "a b"));
    TRUE_(slice_eq_str(tok_piece(t, 261), "\u4e2d"));
    OK_(tok_encode(t, slice_of("ab"), false, &ids, TERR));
    EQ(ids.n, 1);
    EQ(ids.v[0], 256);
    tokbuf_deinit(&ids);
    tok_free(t);
}

/* A byte without a token is dropped, as elsewhere; the merges around it still work. */
TEST(vocab_without_a_byte) {
    VocabSpec s = {.without_byte = 'a' + 1, .tokens = {"ab"}, .merges = {"a b"}};
    Tokenizer *t = load(&s);
    TokBuf ids = {0};
    OK_(tok_encode(t, slice_of("abac"), false, &ids, TERR));
    EQ(ids.n, 2);
    EQ(ids.v[0], 256);
    EQ(ids.v[1], 'c');
    tokbuf_deinit(&ids);
    tok_free(t);
}

TEST(vocab_refuses_wrong_types) {
    VocabSpec s = vocab_small;
    s.n_types_more = -1;
    refused(ERR_FORMAT, &s, KEY "token_type: 270 entries for 271 tokens");
    s.n_types_more = 0;
    s.types[0] = 7;
    refused(ERR_FORMAT, &s, KEY "token_type: token 256 has type 7, 0 to 6 are known");
    s.types[0] = -1;
    refused(ERR_FORMAT, &s, KEY "token_type: token 256 has type -1, 0 to 6 are known");
}

TEST(vocab_refuses_wrong_merges) {
    VocabSpec s = vocab_small;
    s.merges[10] = "th";
    refused(ERR_FORMAT, &s, KEY "merges: merge 10 is not two tokens");
    s.merges[10] = "h ";
    refused(ERR_FORMAT, &s, KEY "merges: merge 10 is not two tokens");
    s.merges[10] = "";
    refused(ERR_FORMAT, &s, KEY "merges: merge 10 is not two tokens");
}

static void check_one(const VocabSpec *s, const char *text, int n, int32_t first) {
    Tokenizer *t = load(s);
    TokBuf ids = {0};
    OK_(tok_encode(t, slice_of(text), false, &ids, TERR));
    EQ(ids.n, n);
    EQ(ids.v[0], first);
    tokbuf_deinit(&ids);
    tok_free(t);
}

/* A repeated merge keeps its first rank, and a merge may lead through texts that are no tokens. */
TEST(vocab_takes_odd_merges) {
    VocabSpec s = {.tokens = {"bc", "ab", "abcd"}, .merges = {"b c", "a b", "b c"}};
    check_one(&s, "abc", 2, 'a');
    s.merges[2] = "bc d";
    s.merges[3] = "a bcd";
    check_one(&s, "abcd", 1, 258);
    check_one(&s, "bcd", 3, 'b'); /* left over, no token: its bytes */
}

/* Plain text must never turn into a control token. */
TEST(vocab_merges_make_no_control_tokens) {
    VocabSpec s = {.tokens = {"ab"}, .types = {TOK_CONTROL}, .merges = {"a b"}};
    check_one(&s, "ab", 2, 'a');
    s.types[0] = TOK_UNUSED;
    check_one(&s, "ab", 2, 'a');
    s.pre = "llama-bpe"; /* nor by being a whole word */
    check_one(&s, "ab", 2, 'a');
}

/* Special where special tokens are looked for, and else text like any other. */
TEST(vocab_known_names_are_special) {
    VocabSpec s = {.tokens = {"<|im_end|>", "<fim_prefix>", "<|end|>"}};
    Tokenizer *t = load(&s);
    TokBuf ids = {0};
    EQ(tok_type(t, 256), TOK_NORMAL);
    TRUE_(tok_is_end(t, 256) && !tok_is_end(t, 257) && tok_is_end(t, 258));
    OK_(tok_encode(t, slice_of("<fim_prefix>"), true, &ids, TERR));
    EQ(ids.n, 1);
    OK_(tok_encode(t, slice_of("<fim_prefix>"), false, &ids, TERR));
    EQ(ids.n, 13);
    tokbuf_deinit(&ids);
    tok_free(t);
    s.tokens[0] = "<|return|>";
    s.tokens[1] = "<|call|>";
    t = load(&s);
    EQ(tok_type(t, 258), TOK_USER_DEFINED);
    TRUE_(tok_is_end(t, 256) && !tok_is_end(t, 258));
    tok_free(t);
}

TEST(vocab_passes_over_ids_outside) {
    VocabSpec s = vocab_small;
    s.id[0] = 271;
    Tokenizer *t = load(&s);
    TRUE_(tok_eot(t) < 271);
    tok_free(t);
    s.id[0] = UINT32_MAX; /* none */
    t = load(&s);
    EQ(tok_eot(t), -1);
    tok_free(t);
}

TEST(vocab_refuses_endless_special_tokens) {
    static char big[TOK_MAX_SPECIAL + 2];
    memset(big, 'x', TOK_MAX_SPECIAL + 1);
    VocabSpec s = {.tokens = {big}, .types = {TOK_CONTROL}};
    refused(ERR_FORMAT, &s, KEY "tokens: special token 256 has 1025 bytes, limit 1024");
}
