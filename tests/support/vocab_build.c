/* SPDX-License-Identifier: Apache-2.0 */
#include "support/vocab_build.h"

#include <stdio.h>
#include <stdlib.h>

const VocabSpec vocab_small = {
    .tokens = {"th", "the", "\u0120the", "\u0120c", "\u0120ca", "\u0120cat", "aa", "aaa",
               "<|endoftext|>", "<|end|>", "<think>", "\u00f0\u0141", "[PAD0]", "at",
               "<|endoftext|>x"},
    .types = {0, 0, 0, 0, 0, 0, 0, 0, TOK_CONTROL, TOK_CONTROL, TOK_USER_DEFINED, 0, TOK_UNUSED, 0,
              TOK_CONTROL},
    .merges = {"t h", "th e", "\u0120 the", "\u0120 c", "\u0120c a", "\u0120ca t", "a a", "aa a",
               "a t", "\u00f0 \u0141"},
    .id_key = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.bos_token_id"},
    .id = {264, 264},
};

/* The alphabet, told a second time: visible Latin-1 as it is, the rest counted from 256 on. */
static int byte_text(char out[4], int byte) {
    int hidden = 0, cp = byte;
    for (int b = 0; b <= byte; b++) {
        bool shown = (b > ' ' && b < 127) || (b > 160 && b < 256 && b != 173);
        if (b == byte && !shown) cp = 256 + hidden;
        hidden += !shown;
    }
    if (cp < 128) {
        out[0] = (char)cp;
        return 1;
    }
    out[0] = (char)(0xc0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 63));
    return 2;
}

static uint64_t count(const char *const *v, size_t max) {
    uint64_t n = 0;
    while (n < max && v[n]) n++;
    return n;
}

static void put_tokens(Blob *b, const VocabSpec *s, uint64_t n_more) {
    blob_key(b, "tokenizer.ggml.tokens", GGUF_ARR);
    blob_arr(b, GGUF_STR, 256 + n_more);
    for (int i = 0; i < 256; i++) {
        char text[4];
        int n = byte_text(text, i);
        if (s->without_byte == i + 1) {
            blob_str(b, "another");
        } else {
            blob_str_n(b, text, (size_t)n);
        }
    }
    for (uint64_t i = 0; i < n_more; i++) blob_str(b, s->tokens[i]);
    if (s->no_types) return;
    blob_key(b, "tokenizer.ggml.token_type", GGUF_ARR);
    blob_arr(b, GGUF_I32, 256 + n_more + (uint64_t)s->n_types_more);
    for (uint64_t i = 0; i < 256 + n_more + (uint64_t)s->n_types_more; i++) {
        int32_t type = i >= 256 && i < 256 + n_more ? s->types[i - 256] : 0;
        blob_u32(b, type ? (uint32_t)type : TOK_NORMAL);
    }
}

static void put_merges(Blob *b, const VocabSpec *s) {
    uint64_t n = count(s->merges, COUNT_OF(s->merges));
    blob_key(b, "tokenizer.ggml.merges", GGUF_ARR);
    blob_arr(b, GGUF_STR, n);
    for (uint64_t i = 0; i < n; i++) blob_str(b, s->merges[i]);
}

static bool given(const char *s) { return !s || *s; }

void vocab_build(Blob *b, const VocabSpec *s) {
    uint64_t n_id = count(s->id_key, COUNT_OF(s->id_key));
    blob_head(b, 3, 0,
              (uint64_t)given(s->model) + given(s->pre) + 1 + !s->no_types + !s->no_merges + n_id +
                  (s->add_bos > 0) + (s->chat != NULL));
    if (s->chat) blob_kv_str(b, "tokenizer.chat_template", s->chat);
    if (given(s->model)) blob_kv_str(b, "tokenizer.ggml.model", s->model ? s->model : "gpt2");
    if (given(s->pre)) blob_kv_str(b, "tokenizer.ggml.pre", s->pre ? s->pre : "gpt-2");
    put_tokens(b, s, count(s->tokens, COUNT_OF(s->tokens)));
    if (!s->no_merges) put_merges(b, s);
    for (uint64_t i = 0; i < n_id; i++) blob_kv_u32(b, s->id_key[i], s->id[i]);
    if (s->add_bos > 0) {
        blob_key(b, "tokenizer.ggml.add_bos_token", GGUF_BOOL);
        blob_u8(b, s->add_bos == 2);
    }
    blob_pad(b, GGUF_DEFAULT_ALIGNMENT);
}

Status vocab_build_load(Tokenizer **out, const VocabSpec *s, Err *e) {
    Blob b = {0};
    Gguf *g = NULL;
    vocab_build(&b, s);
    Status st = gguf_open_bytes(&g, b.p, b.n, e);
    if (st == OK) st = tok_load(out, g, e);
    gguf_close(g);
    blob_free(&b);
    return st;
}

static void *need(void *p) {
    if (!p) abort();
    return p;
}

/* ---- with scores ---- */

#define SP "\u2581"

const SpmSpec spm_small = {
    .tokens = {SP,          "t",      "h",    "e",      "c",       "a",       "th",     "the",
               SP "t",      SP "the", "he",   SP "c",   "at",      "cat",     SP "cat", SP SP,
               SP SP SP SP, "aa",     "aaaa", "\u00e9", "t\u00e9", "<think>", "abd"},
    .scores = {-50, -51, -52, -53, -54, -55, -1,  -3,  -2,  -4, -5, -6,
               -7,  -9,  -8,  -10, -11, -12, -12, -60, -13, 0,  -1},
    .types = {[21] = TOK_USER_DEFINED},
};

void spm_build(Blob *b, const SpmSpec *s) {
    uint64_t n_more = count(s->tokens, COUNT_OF(s->tokens)), n = 259 + n_more;
    blob_head(b, 3, 0, 5 + (s->name != NULL));
    if (s->name) blob_kv_str(b, "general.name", s->name);
    blob_kv_str(b, "tokenizer.ggml.model", "llama");
    blob_key(b, "tokenizer.ggml.tokens", GGUF_ARR);
    blob_arr(b, GGUF_STR, n);
    blob_str(b, "<unk>");
    blob_str(b, "<s>");
    blob_str(b, "</s>");
    for (unsigned i = 0; i < 256; i++) {
        char name[16];
        snprintf(name, sizeof name, s->no_bytes ? "{0x%02X}" : "<0x%02X>", i);
        blob_str(b, name);
    }
    for (uint64_t i = 0; i < n_more; i++) blob_str(b, s->tokens[i]);
    blob_key(b, "tokenizer.ggml.scores", GGUF_ARR);
    blob_arr(b, GGUF_F32, n);
    for (uint64_t i = 0; i < n; i++) blob_f32(b, i < 259 ? 0 : s->scores[i - 259]);
    blob_key(b, "tokenizer.ggml.token_type", GGUF_ARR);
    blob_arr(b, GGUF_I32, n);
    for (uint64_t i = 0; i < n; i++) {
        int32_t type = i >= 259 ? s->types[i - 259]
                       : i > 2  ? TOK_BYTE
                       : i      ? TOK_CONTROL
                                : TOK_UNKNOWN;
        blob_u32(b, type ? (uint32_t)type : TOK_NORMAL);
    }
    blob_key(b, "tokenizer.ggml.add_space_prefix", GGUF_BOOL);
    blob_u8(b, !s->no_prefix);
    blob_pad(b, GGUF_DEFAULT_ALIGNMENT);
}

Status spm_build_load(Tokenizer **out, const SpmSpec *s, Err *e) {
    Blob b = {0};
    Gguf *g = NULL;
    spm_build(&b, s);
    Status st = gguf_open_bytes(&g, b.p, b.n, e);
    if (st == OK) st = tok_load(out, g, e);
    gguf_close(g);
    blob_free(&b);
    return st;
}

static void need_ok(Status st, const Err *e) {
    if (st == OK) return;
    fprintf(stderr, "%s\n", e->msg);
    abort();
}

char **vocab_merges(const Tokenizer *t, const char *path, size_t *n) {
    GgufW *w = NULL;
    Gguf *g = NULL;
    const GgufKv *kv = NULL;
    Err e = {0};
    Slice s;
    size_t pos = 0;
    need_ok(gguf_w_new(&w, path, GGUF_DEFAULT_ALIGNMENT, false, &e), &e);
    tok_save(t, w);
    need_ok(gguf_w_begin(w, &e), &e);
    need_ok(gguf_w_end(w, &e), &e);
    gguf_w_free(w);
    need_ok(gguf_open(&g, path, &e), &e);
    need_ok(gguf_get_arr(&kv, g, "tokenizer.ggml.merges", GGUF_STR, &e), &e);
    char **list = need(calloc(kv->v.arr.n + 1, sizeof *list));
    for (*n = 0; gguf_arr_next_str(kv, &pos, &s); ++*n) list[*n] = need(strndup(s.p, s.n));
    gguf_close(g);
    return list;
}

void vocab_free_list(char **list, size_t n) {
    for (size_t i = 0; i < n; i++) free(list[i]);
    free(list);
}

/* True if "left right" is this merge. */
static bool is_merge(const char *merge, const char *left, const char *right) {
    size_t n = strlen(left);
    return !strncmp(merge, left, n) && merge[n] == ' ' && !strcmp(merge + n + 1, right);
}

/* Merge the leftmost place where one of the pairs fits; the list's order counts first. */
static bool merge_once(char **part, size_t *n, char **merges, size_t n_merges) {
    for (size_t m = 0; m < n_merges; m++) {
        for (size_t i = 0; i + 1 < *n; i++) {
            if (!is_merge(merges[m], part[i], part[i + 1])) continue;
            char *both = need(malloc(strlen(part[i]) + strlen(part[i + 1]) + 1));
            strcat(strcpy(both, part[i]), part[i + 1]);
            free(part[i]);
            free(part[i + 1]);
            part[i] = both;
            memmove(part + i + 1, part + i + 2, (*n - i - 2) * sizeof *part);
            --*n;
            return true;
        }
    }
    return false;
}

void vocab_naive_encode(const Tokenizer *t, char **merges, size_t n_merges, Slice chunk,
                        TokBuf *out) {
    size_t n = chunk.n;
    char **part = need(calloc(n + 1, sizeof *part));
    for (size_t i = 0; i < n; i++) {
        part[i] = need(calloc(1, 4));
        byte_text(part[i], (uint8_t)chunk.p[i]);
    }
    while (merge_once(part, &n, merges, n_merges)) {}
    for (size_t i = 0; i < n; i++) {
        tokbuf_push(out, tok_find(t, slice_of(part[i])));
        free(part[i]);
    }
    free(part);
}
