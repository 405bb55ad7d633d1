/* SPDX-License-Identifier: Apache-2.0
 *
 * A learned vocabulary as metadata (meta.c), and loaded from there.
 */
#include "text/utf8.h"
#include "token/train_internal.h"

static const char end_of_text[] = "<|endoftext|>";

/* A token's bytes in the GPT-2 alphabet. */
static void spell(StrBuf *b, Slice token) {
    char c[4];
    for (size_t i = 0; i < token.n; i++) {
        sb_put(b, c, (size_t)utf8_encode(c, tok__byte_char((uint8_t)token.p[i])));
    }
}

/* A word made in a buffer of its own, whose failure is passed on before it is cleared. */
static void put_word(Meta *m, const StrBuf *word) {
    if (word->failed) m->b.failed = true;
    tok__meta_put_str(m, (Slice){sb_str(word), word->n});
}

static void put_tokens(Meta *m, StrBuf *word, const Learned *l) {
    tok__meta_arr(m, TOK_KEY("tokens"), GGUF_STR, (size_t)l->n_tokens + 1);
    for (int32_t i = 0; i < l->n_tokens; i++) {
        sb_clear(word);
        spell(word, l->token[i]);
        put_word(m, word);
    }
    tok__meta_put_str(m, slice_of(end_of_text));
    tok__meta_arr(m, TOK_KEY("token_type"), GGUF_I32, (size_t)l->n_tokens + 1);
    for (int32_t i = 0; i < l->n_tokens; i++) tok__meta_put_i32(m, TOK_NORMAL);
    tok__meta_put_i32(m, TOK_CONTROL);
}

static void put_merges(Meta *m, StrBuf *word, const Learned *l) {
    tok__meta_arr(m, TOK_KEY("merges"), GGUF_STR, l->n_merges);
    for (size_t i = 0; i < l->n_merges; i++) {
        sb_clear(word);
        spell(word, l->token[l->merge[i] >> 32]);
        sb_putc(word, ' ');
        spell(word, l->token[l->merge[i] & UINT32_MAX]);
        put_word(m, word);
    }
}

Status tok__learned_load(Tokenizer **out, const Learned *l, Err *e) {
    Meta m;
    StrBuf word = {0};
    tok__meta_begin(&m);
    tok__meta_str(&m, TOK_KEY("model"), slice_of("gpt2"));
    tok__meta_str(&m, TOK_KEY("pre"), slice_of("gpt-2"));
    put_tokens(&m, &word, l);
    put_merges(&m, &word, l);
    tok__meta_u32(&m, TOK_KEY("bos_token_id"), (uint32_t)l->n_tokens);
    tok__meta_u32(&m, TOK_KEY("eos_token_id"), (uint32_t)l->n_tokens);
    tok__meta_bool(&m, TOK_KEY("add_bos_token"), false);
    Status st = tok__meta_load(out, &m, e);
    tok__meta_deinit(&m);
    sb_deinit(&word);
    return st;
}
