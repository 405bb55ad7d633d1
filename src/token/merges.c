/* SPDX-License-Identifier: Apache-2.0
 *
 * What a vocabulary makes of text: the bytes of each token, the symbols that merging works on, and the
 * merges. Byte-level vocabularies list their merges. In those with scores (SentencePiece) any two
 * neighbours merge that together are a token, the highest score first: all such pairs are found here,
 * so that both kinds are merged by the same code.
 */
#include <stdio.h>
#include <stdlib.h>

#include "text/utf8.h"
#include "token/internal.h"

/* ---- pieces ---- */

/* A token's text in the byte alphabet back to bytes; false if it holds any other character. */
static bool read_alphabet(Arena *a, Slice text, Slice *piece) {
    char *p = arena_alloc(a, text.n, 1);
    size_t n = 0, len;
    uint32_t cp;
    for (size_t i = 0; p && i < text.n; n++, i += len) {
        len = (size_t)utf8_decode(&cp, text.p + i, text.n - i);
        int b = len ? tok__char_byte(cp) : -1;
        if (b < 0) return false;
        p[n] = (char)b;
    }
    *piece = (Slice){p, p ? n : 0};
    return true;
}

/* U+2581 becomes a space. */
static Slice read_spaces(Arena *a, Slice text) {
    if (!memmem(text.p, text.n, "\xe2\x96\x81", 3)) return text;
    char *p = arena_alloc(a, text.n, 1);
    size_t n = 0;
    for (size_t i = 0; p && i < text.n; n++) {
        size_t space = tok__scan_space_len(text.p + i, text.n - i);
        p[n] = space ? ' ' : text.p[i];
        i += space ? space : 1;
    }
    return (Slice){p, p ? n : 0};
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "<0x0A>" stands for, or -1. */
static int read_byte(Slice s) {
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>') return -1;
    int hi = hex_digit(s.p[3]), lo = hex_digit(s.p[4]);
    return hi < 0 || lo < 0 ? -1 : 16 * hi + lo;
}

/* What token id decodes to, where that is not nothing; false if no text encodes to it. */
static bool make_piece(Tokenizer *t, int32_t id) {
    Slice text = t->sym.text[id];
    t->piece[id] = text;
    if (t->type[id] == TOK_USER_DEFINED) return false;
    if (!t->chars) return read_alphabet(&t->mem, text, &t->piece[id]);
    if (t->type[id] == TOK_BYTE) {
        int b = read_byte(text);
        if (b >= 0) t->piece[id] = (Slice){arena_dup(&t->mem, (char[]){(char)b}, 1), 1};
        return false;
    }
    t->piece[id] = read_spaces(&t->mem, text);
    return !memchr(text.p, ' ', text.n) && utf8_valid(text);
}

static void find_start_bytes(Tokenizer *t) {
    char c[4];
    for (int b = 0; b < 256; b++) {
        size_t n = (size_t)utf8_encode(c, tok__byte_char((uint8_t)b));
        int32_t sym = tok__idmap_find(&t->sym.map, (Slice){c, n});
        if (sym < 0) sym = tok__syms_add(&t->sym, (Slice){arena_dup(&t->mem, c, n), n});
        t->start[b] = sym;
        bool is = sym >= 0 && sym < t->n_vocab && tok__is_text(t, sym);
        t->byte_id[b] = is ? sym : -1;
        t->odd |= !is;
    }
}

static void find_start_chars(Tokenizer *t) {
    char name[8];
    for (int b = 0; b < 256; b++) {
        Slice one = {(char[]){(char)b}, 1};
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        t->byte_id[b] = tok_find(t, slice_of(name));
        if (t->byte_id[b] < 0 && b < 128) t->byte_id[b] = tok_find(t, one);
        t->start[b] = tok__idmap_find(&t->sym.map, b == ' ' ? slice_of("\xe2\x96\x81") : one);
    }
    t->odd = true;
}

Status tok__read_pieces(Tokenizer *t, Err *e) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        t->piece[i] = (Slice){"", 0};
        bool shown =
            t->type[i] == TOK_NORMAL || t->type[i] == TOK_USER_DEFINED || t->type[i] == TOK_BYTE;
        if (shown && make_piece(t, i) && t->piece[i].n > 0) tok__idmap_add(&t->by_piece, i);
    }
    if (t->chars) find_start_chars(t);
    else find_start_bytes(t);
    for (int b = 0; b < 256 && !t->chars; b++) {
        if (t->start[b] < 0) return tok__no_memory(e);
    }
    return arena_ok(&t->mem) ? OK : tok__no_memory(e);
}

/* ---- merges that are listed ---- */

/* "left right": two symbols whose texts together are a third. */
static Status read_merge(Tokenizer *t, Slice s, uint32_t rank, StrBuf *joined, Err *e) {
    const char *gap = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
    if (!gap || gap + 1 == s.p + s.n) {
        return err_set(e, ERR_FORMAT, TOK_KEY("merges") ": merge %u is not two tokens",
                       (unsigned)rank);
    }
    Slice left = {s.p, (size_t)(gap - s.p)}, right = {gap + 1, s.n - left.n - 1};
    sb_clear(joined);
    sb_put(joined, left.p, left.n);
    sb_put(joined, right.p, right.n);
    if (joined->failed) return tok__no_memory(e);
    Slice both = {joined->p, joined->n};
    int32_t l = tok__syms_intern(&t->sym, left), r = tok__syms_intern(&t->sym, right),
            id = tok__idmap_find(&t->sym.map, both);
    if (id < 0) {
        both.p = arena_dup(&t->mem, both.p, both.n);
        id = both.p ? tok__syms_add(&t->sym, both) : -1;
    }
    if (l < 0 || r < 0 || id < 0) return tok__no_memory(e);
    t->odd |= id >= t->n_vocab || !tok__is_text(t, id);
    return tok__merges_add(&t->merges, (Merge){tok__pair(l, r), rank, id}) ? OK : tok__no_memory(e);
}

static Status read_list(Tokenizer *t, Err *e) {
    const GgufKv *kv = tok__own_kv(t, TOK_KEY("merges"));
    Slice s;
    StrBuf joined = {0};
    size_t pos = 0;
    if (kv->v.arr.n > TOK_MAX_MERGES) {
        return err_set(e, ERR_FORMAT, TOK_KEY("merges") ": %llu merges, limit %d",
                       (unsigned long long)kv->v.arr.n, (int)TOK_MAX_MERGES);
    }
    if (!tok__merges_init(&t->merges, (size_t)kv->v.arr.n)) return tok__no_memory(e);
    Status st = OK;
    for (uint32_t rank = 0; st == OK && gguf_arr_next_str(kv, &pos, &s); rank++) {
        st = read_merge(t, s, rank, &joined, e);
    }
    sb_deinit(&joined);
    return st;
}

/* ---- merges that follow from scores ---- */

typedef struct Scored {
    double score;
    int32_t id;
    uint32_t rank;
} Scored;

static int by_score(const void *a, const void *b) {
    const Scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static Status read_scores(Scored *v, const Tokenizer *t, Err *e) {
    const GgufKv *kv = tok__own_kv(t, TOK_KEY("scores"));
    for (int32_t i = 0; i < t->n_vocab; i++) v[i] = (Scored){0, i, 0};
    if (!kv) return OK;
    if (kv->type != GGUF_ARR || (kv->v.arr.type != GGUF_F32 && kv->v.arr.type != GGUF_I32)) {
        return err_set(e, ERR_FORMAT, TOK_KEY("scores") ": an array of f32 is needed");
    }
    if (kv->v.arr.n < (uint64_t)t->n_vocab) {
        return err_set(e, ERR_FORMAT, TOK_KEY("scores") ": %llu entries for %ld tokens",
                       (unsigned long long)kv->v.arr.n, (long)t->n_vocab);
    }
    for (int32_t i = 0; i < t->n_vocab; i++) {
        v[i].score = gguf_arr_num(kv, (uint64_t)i);
        if (v[i].score != v[i].score) {
            return err_set(e, ERR_FORMAT, TOK_KEY("scores") ": token %ld: not a number", (long)i);
        }
    }
    qsort(v, (size_t)t->n_vocab, sizeof *v, by_score);
    for (int32_t i = 1; i < t->n_vocab; i++)
        v[i].rank = v[i - 1].rank + (v[i].score != v[i - 1].score);
    return OK;
}

/* Every character inside of a token is a symbol, a token or not. */
static bool intern_chars(Tokenizer *t, Slice s) {
    uint32_t cp;
    for (size_t i = 0, len; i < s.n; i += len) {
        len = (size_t)utf8_decode(&cp, s.p + i, s.n - i);
        if (tok__syms_intern(&t->sym, (Slice){s.p + i, len}) < 0) return false;
    }
    return true;
}

/* A symbol that may be one side of a merge, or -1: tokens of text and single characters. */
static int32_t side(const Tokenizer *t, Slice s) {
    uint32_t cp;
    int32_t sym = tok__idmap_find(&t->sym.map, s);
    bool is = sym >= t->n_vocab || (sym >= 0 && tok__is_text(t, sym));
    return is || (size_t)utf8_decode(&cp, s.p, s.n) == s.n ? sym : -1;
}

/* All ways to merge two neighbours into token id. */
static Status split_token(Tokenizer *t, Scored v, Err *e) {
    Slice s = t->sym.text[v.id];
    uint32_t cp;
    if (s.n > TOK_MAX_TEXT) {
        return err_set(e, ERR_FORMAT, TOK_KEY("tokens") ": token %ld has %zu bytes, limit %d",
                       (long)v.id, s.n, (int)TOK_MAX_TEXT);
    }
    for (size_t i = (size_t)utf8_decode(&cp, s.p, s.n); i < s.n;
         i += (size_t)utf8_decode(&cp, s.p + i, s.n - i)) {
        int32_t l = side(t, (Slice){s.p, i}), r = side(t, (Slice){s.p + i, s.n - i});
        if (l < 0 || r < 0) continue;
        if (t->merges.n == TOK_MAX_MERGES) {
            return err_set(e, ERR_FORMAT, TOK_KEY("tokens") ": over %d pairs are tokens",
                           (int)TOK_MAX_MERGES);
        }
        if (!tok__merges_add(&t->merges, (Merge){tok__pair(l, r), v.rank, v.id}))
            return tok__no_memory(e);
    }
    return OK;
}

static bool merges_into(const Tokenizer *t, int32_t id) {
    return tok__is_text(t, id) && utf8_valid(t->sym.text[id]) && tok_find(t, t->sym.text[id]) == id;
}

static Status derive_merges(Tokenizer *t, Err *e) {
    Scored *v = mem_new_n(Scored, (size_t)t->n_vocab);
    bool ok = v && tok__merges_init(&t->merges, (size_t)t->n_vocab);
    for (int32_t i = 0; ok && i < t->n_vocab; i++) {
        if (merges_into(t, i)) ok = intern_chars(t, t->sym.text[i]);
    }
    Status st = ok ? read_scores(v, t, e) : tok__no_memory(e);
    for (int32_t i = 0; st == OK && i < t->n_vocab; i++) {
        if (merges_into(t, v[i].id)) st = split_token(t, v[i], e);
    }
    mem_free(v);
    return st;
}

/* ---- what follows from merges ---- */

/* True if a space stands behind anything but spaces in s. */
static bool space_inside(Slice s) {
    size_t len;
    bool other = false;
    for (size_t i = 0; i < s.n; i += MAX(len, (size_t)1)) {
        len = tok__scan_space_len(s.p + i, s.n - i);
        if (len && other) return true;
        other |= !len;
    }
    return false;
}

/* Where no merge crosses the border before a run of spaces, the text may be cut there. */
static void cut_at_spaces(Tokenizer *t) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        if (tok__is_text(t, i) && space_inside(t->sym.text[i])) return;
    }
    for (size_t i = (size_t)t->n_vocab; i < t->sym.n; i++) {
        if (space_inside(t->sym.text[i])) return;
    }
    if (t->n_pass < TOK_MAX_PASSES) t->pass[t->n_pass++] = (Splitter){.scan = tok__scan_spaces};
}

/* Which tokens a chunk of just their bytes encodes to. */
static Status mark_whole(Tokenizer *t, Err *e) {
    TokBuf ids = {0};
    BpeScratch bpe = {0};
    bool ok = true;
    for (int32_t i = 0; ok && i < t->n_vocab; i++) {
        Slice s = t->piece[i];
        if (s.n == 0 || s.n > TOK_MAX_CHUNK || tok__idmap_find(&t->by_piece, s) != i) continue;
        ids.n = 0;
        ok = t->whole_words || (tok__bpe(t, &bpe, s, &ids) && !ids.failed);
        t->whole[i] = t->whole_words || (ok && ids.n == 1 && ids.v[0] == i);
    }
    for (int b = 0; b < 256; b++) {
        t->single[b] = tok__idmap_find(&t->by_piece, (Slice){(char[]){(char)b}, 1});
    }
    tok__bpe_deinit(&bpe);
    tokbuf_deinit(&ids);
    return ok ? OK : tok__no_memory(e);
}

Status tok__read_merges(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv;
    Slice pre = {0};
    TRY(gguf_opt_str(&pre, g, TOK_KEY("pre"), e));
    if (t->scores) {
        TRY(derive_merges(t, e));
    } else if (slice_eq_str(pre, "kimi-k2") && !gguf_find(g, TOK_KEY("merges"))) {
        if (!tok__merges_init(&t->merges, 0)) return tok__no_memory(e);
    } else {
        TRY(gguf_get_arr(&kv, g, TOK_KEY("merges"), GGUF_STR, e));
        TRY(read_list(t, e));
    }
    if (t->chars) {
        find_start_chars(
            t); /* again: merges may have made symbols of characters that are no tokens */
        cut_at_spaces(t);
    }
    return mark_whole(t, e);
}
