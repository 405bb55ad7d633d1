/* SPDX-License-Identifier: Apache-2.0
 *
 * A learned vocabulary is written down as the metadata of a GGUF file in memory (format/gguf.h has the
 * layout) and loaded like any other, so trained and loaded tokenizers are checked and saved alike.
 */
#include "text/utf8.h"
#include "token/train_internal.h"

static const char end_of_text[] = "<|endoftext|>";

static void put_u32(StrBuf *b, uint32_t v) { sb_put(b, &v, sizeof v); }
static void put_u64(StrBuf *b, uint64_t v) { sb_put(b, &v, sizeof v); }

static void put_str(StrBuf *b, const char *s, size_t n) {
    put_u64(b, n);
    sb_put(b, s, n);
}

static void put_key(StrBuf *b, const char *key, GgufType type) {
    put_str(b, key, strlen(key));
    put_u32(b, type);
}

static void put_arr(StrBuf *b, const char *key, GgufType type, size_t n) {
    put_key(b, key, GGUF_ARR);
    put_u32(b, type);
    put_u64(b, n);
}

static void put_text(StrBuf *b, const char *key, const char *value) {
    put_key(b, key, GGUF_STR);
    put_str(b, value, strlen(value));
}

/* A token's bytes in the GPT-2 alphabet. */
static void spell(StrBuf *b, Slice token) {
    char c[4];
    for (size_t i = 0; i < token.n; i++) {
        sb_put(b, c, (size_t)utf8_encode(c, tok__byte_char((uint8_t)token.p[i])));
    }
}

/* A word made in a buffer of its own, whose failure is passed on before it is cleared. */
static void put_word(StrBuf *b, const StrBuf *word) {
    if (word->failed) b->failed = true;
    put_str(b, sb_str(word), word->n);
}

static void put_tokens(StrBuf *b, StrBuf *word, const Learned *l) {
    put_arr(b, "tokenizer.ggml.tokens", GGUF_STR, (size_t)l->n_tokens + 1);
    for (int32_t i = 0; i < l->n_tokens; i++) {
        sb_clear(word);
        spell(word, l->token[i]);
        put_word(b, word);
    }
    put_str(b, end_of_text, strlen(end_of_text));
    put_arr(b, "tokenizer.ggml.token_type", GGUF_I32, (size_t)l->n_tokens + 1);
    for (int32_t i = 0; i < l->n_tokens; i++) put_u32(b, TOK_NORMAL);
    put_u32(b, TOK_CONTROL);
}

static void put_merges(StrBuf *b, StrBuf *word, const Learned *l) {
    put_arr(b, "tokenizer.ggml.merges", GGUF_STR, l->n_merges);
    for (size_t i = 0; i < l->n_merges; i++) {
        sb_clear(word);
        spell(word, l->token[l->merge[i] >> 32]);
        sb_putc(word, ' ');
        spell(word, l->token[l->merge[i] & UINT32_MAX]);
        put_word(b, word);
    }
}

static void put_file(StrBuf *b, StrBuf *word, const Learned *l) {
    enum { VERSION = 3, N_TENSORS = 0, N_KV = 8 };
    sb_puts(b, "GGUF");
    put_u32(b, VERSION);
    put_u64(b, N_TENSORS);
    put_u64(b, N_KV);
    put_text(b, "tokenizer.ggml.model", "gpt2");
    put_text(b, "tokenizer.ggml.pre", "gpt-2");
    put_tokens(b, word, l);
    put_merges(b, word, l);
    put_key(b, "tokenizer.ggml.bos_token_id", GGUF_U32);
    put_u32(b, (uint32_t)l->n_tokens);
    put_key(b, "tokenizer.ggml.eos_token_id", GGUF_U32);
    put_u32(b, (uint32_t)l->n_tokens);
    put_key(b, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
    sb_putc(b, 0);
    while (b->n % GGUF_DEFAULT_ALIGNMENT != 0 && !b->failed) sb_putc(b, 0);
}

Status tok__learned_load(Tokenizer **out, const Learned *l, Err *e) {
    StrBuf file = {0}, word = {0};
    Gguf *g = NULL;
    put_file(&file, &word, l);
    Status st = sb_check(&file, e);
    if (st == OK) st = gguf_open_bytes(&g, file.p, file.n, e);
    if (st == OK) st = tok_load(out, g, e);
    gguf_close(g);
    sb_deinit(&file);
    sb_deinit(&word);
    return st;
}
