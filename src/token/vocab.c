/* SPDX-License-Identifier: Apache-2.0
 *
 * A vocabulary from GGUF metadata, and what can be asked of one. All tokenizer.* entries are copied
 * first, so that the file may be closed and tok_save can write every one of them back; token texts are
 * borrowed from that copy. Nothing in a file is believed: counts, types, ids, every merge and the
 * presence of all 256 bytes are checked here, so the encoder needs no checks.
 */
#include "text/utf8.h"
#include "token/internal.h"

#define KEY(x) "tokenizer.ggml." x

const char *tok__show(char buf[64], Slice s) {
    size_t n = MIN(s.n, (size_t)63);
    for (size_t i = 0; i < n; i++) buf[i] = s.p[i] >= 0x20 && s.p[i] <= 0x7e ? s.p[i] : '?';
    buf[n] = 0;
    return buf;
}

static Status no_memory(Err *e) { return err_set(e, ERR_NOMEM, "tokenizer: out of memory"); }

/* ---- the copy of the metadata ---- */

static bool is_ours(const GgufKv *kv) {
    return kv->key.n > 10 && !memcmp(kv->key.p, "tokenizer.", 10);
}

static void copy_slice(Arena *a, Slice *s) { s->p = arena_dup(a, s->p, s->n); }

static Status copy_metadata(Tokenizer *t, const Gguf *g, Err *e) {
    for (size_t i = 0; i < gguf_n_kv(g); i++) t->n_kv += is_ours(gguf_kv_at(g, i));
    t->kv = mem_new_n(GgufKv, t->n_kv);
    if (!t->kv) return no_memory(e);
    GgufKv *to = t->kv;
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        if (!is_ours(gguf_kv_at(g, i))) continue;
        *to = *gguf_kv_at(g, i);
        copy_slice(&t->mem, &to->key);
        if (to->type == GGUF_STR) copy_slice(&t->mem, &to->v.s);
        if (to->type == GGUF_ARR) copy_slice(&t->mem, &to->v.arr.bytes);
        to++;
    }
    return arena_ok(&t->mem) ? OK : no_memory(e);
}

static const GgufKv *own_kv(const Tokenizer *t, const char *key) {
    for (size_t i = 0; i < t->n_kv; i++) {
        if (slice_eq_str(t->kv[i].key, key)) return &t->kv[i];
    }
    return NULL;
}

void tok_save(const Tokenizer *t, GgufW *w) {
    for (size_t i = 0; i < t->n_kv; i++) gguf_w_kv(w, &t->kv[i]);
}

/* ---- model and pattern ---- */

static Status read_kind(Tokenizer *t, const Gguf *g, Err *e) {
    Slice model, pre = slice_of("default");
    char shown[64];
    TRY(gguf_get_str(&model, g, KEY("model"), e));
    if (!slice_eq_str(model, "gpt2")) {
        return err_set(e, ERR_UNSUPPORTED, KEY("model") ": \"%s\" is not supported, only \"gpt2\"",
                       tok__show(shown, model));
    }
    TRY(gguf_opt_str(&pre, g, KEY("pre"), e));
    t->pre = tok__pretok_find(pre);
    if (!t->pre) {
        return err_set(e, ERR_UNSUPPORTED, KEY("pre") ": pre-tokenizer \"%s\" is not supported",
                       tok__show(shown, pre));
    }
    return t->pre->scan ? OK : regex_new(&t->re, t->pre->pattern, e);
}

/* ---- tokens ---- */

static Status alloc_tables(Tokenizer *t, Err *e) {
    size_t n = (size_t)t->n_vocab;
    t->text = mem_new_n(Slice, n);
    t->piece = mem_new_n(Slice, n);
    t->type = mem_new_n(uint8_t, n);
    t->is_end = mem_new_n(bool, n);
    t->whole = mem_new_n(bool, n);
    bool ok = t->text && t->piece && t->type && t->is_end && t->whole &&
              tok__idmap_init(&t->by_text, t->text, n) &&
              tok__idmap_init(&t->by_piece, t->piece, n);
    return ok ? OK : no_memory(e);
}

static Status read_tokens(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv;
    size_t pos = 0;
    TRY(gguf_get_arr(&kv, g, KEY("tokens"), GGUF_STR, e));
    if (kv->v.arr.n == 0 || kv->v.arr.n > TOK_MAX_VOCAB) {
        return err_set(e, ERR_FORMAT, KEY("tokens") ": %llu tokens, 1 to %d are possible",
                       (unsigned long long)kv->v.arr.n, (int)TOK_MAX_VOCAB);
    }
    t->n_vocab = (int32_t)kv->v.arr.n;
    TRY(alloc_tables(t, e));
    kv = own_kv(t, KEY("tokens"));
    for (int32_t i = 0, other; i < t->n_vocab; i++) {
        bool ok = gguf_arr_next_str(kv, &pos, &t->text[i]);
        if (!ok || t->text[i].n == 0 || !utf8_valid(t->text[i])) {
            return err_set(e, ERR_FORMAT, KEY("tokens") ": token %ld is %s", (long)i,
                           t->text[i].n ? "not well-formed utf-8" : "empty");
        }
        if (!tok__idmap_add(&t->by_text, i, &other)) {
            return err_set(e, ERR_FORMAT, KEY("tokens") ": tokens %ld and %ld have the same text",
                           (long)other, (long)i);
        }
    }
    return OK;
}

static Status read_types(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv = gguf_find(g, KEY("token_type"));
    memset(t->type, TOK_NORMAL, (size_t)t->n_vocab);
    if (!kv) return OK;
    if (kv->type != GGUF_ARR || (kv->v.arr.type != GGUF_I32 && kv->v.arr.type != GGUF_U32)) {
        return err_set(e, ERR_FORMAT, KEY("token_type") ": an array of i32 is needed");
    }
    if (kv->v.arr.n != (uint64_t)t->n_vocab) {
        return err_set(e, ERR_FORMAT, KEY("token_type") ": %llu entries for %ld tokens",
                       (unsigned long long)kv->v.arr.n, (long)t->n_vocab);
    }
    for (int32_t i = 0; i < t->n_vocab; i++) {
        double type = gguf_arr_num(kv, (uint64_t)i);
        if (type < 0 || type >= TOK_TYPE_COUNT) {
            return err_set(e, ERR_FORMAT,
                           KEY("token_type") ": token %ld has type %g, 0 to %d are known", (long)i,
                           type, TOK_TYPE_COUNT - 1);
        }
        if (type > 0) t->type[i] = (uint8_t)type;
    }
    return OK;
}

static bool is_plain(const Tokenizer *t, int32_t id) {
    return t->type[id] == TOK_NORMAL || t->type[id] == TOK_BYTE;
}

/* A token's text in the byte alphabet back to bytes; false if it holds any other character. */
static bool read_alphabet(Arena *a, Slice text, Slice *piece) {
    char *p = arena_alloc(a, text.n, 1);
    size_t n = 0;
    uint32_t cp;
    for (size_t i = 0; p && i < text.n; n++) {
        i += (size_t)utf8_decode(&cp, text.p + i, text.n - i);
        int b = tok__char_byte(cp);
        if (b < 0) return false;
        p[n] = (char)b;
    }
    *piece = (Slice){p, p ? n : 0};
    return true;
}

/* What each token decodes to: control tokens to nothing, user-defined ones to their text. */
static Status make_pieces(Tokenizer *t, Err *e) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        t->piece[i] = t->type[i] == TOK_USER_DEFINED ? t->text[i] : (Slice){"", 0};
        if (is_plain(t, i) && !read_alphabet(&t->mem, t->text[i], &t->piece[i])) {
            return err_set(e, ERR_FORMAT,
                           KEY("tokens") ": token %ld has a character outside of the byte alphabet",
                           (long)i);
        }
    }
    if (!arena_ok(&t->mem)) return no_memory(e);
    /* texts differ and the alphabet is one to one: so do these pieces */
    for (int32_t i = 0, other; i < t->n_vocab; i++) {
        if (is_plain(t, i) && !tok__idmap_add(&t->by_piece, i, &other)) {
            return err_set(e, ERR_INTERNAL, "tokens %ld and %ld have the same bytes", (long)other,
                           (long)i);
        }
    }
    return OK;
}

static Status find_bytes(Tokenizer *t, Err *e) {
    for (int b = 0; b < 256; b++) {
        t->byte_id[b] = tok__idmap_find(&t->by_piece, (Slice){(char[]){(char)b}, 1});
        if (t->byte_id[b] < 0) {
            return err_set(e, ERR_FORMAT, KEY("tokens") ": no token for byte 0x%02x", (unsigned)b);
        }
    }
    return OK;
}

/* ---- merges ---- */

static bool spells(Slice whole, Slice l, Slice r) {
    return whole.n == l.n + r.n && !memcmp(whole.p, l.p, l.n) && !memcmp(whole.p + l.n, r.p, r.n);
}

/* "left right", two tokens whose texts together are a third. */
static Status read_merge(Tokenizer *t, Slice s, uint32_t rank, StrBuf *joined, Err *e) {
    const char *gap = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
    if (!gap)
        return err_set(e, ERR_FORMAT, KEY("merges") ": merge %u is not two tokens", (unsigned)rank);
    Slice left = {s.p, (size_t)(gap - s.p)}, right = {gap + 1, s.n - left.n - 1};
    sb_clear(joined);
    sb_put(joined, left.p, left.n);
    sb_put(joined, right.p, right.n);
    if (joined->failed) return no_memory(e);
    int32_t l = tok_find(t, left), r = tok_find(t, right),
            id = tok_find(t, (Slice){joined->p, joined->n});
    if (l < 0 || r < 0 || id < 0) {
        return err_set(e, ERR_FORMAT,
                       KEY("merges") ": merge %u names a token that is not in the vocabulary",
                       (unsigned)rank);
    }
    /* so no merge can make a control token out of plain text */
    if (!spells(t->piece[id], t->piece[l], t->piece[r])) {
        return err_set(e, ERR_FORMAT,
                       KEY("merges") ": merge %u: token %ld is not made of %ld and %ld",
                       (unsigned)rank, (long)id, (long)l, (long)r);
    }
    uint32_t first;
    if (!tok__merges_add(&t->merges, (Merge){tok__pair(l, r), rank, id}, &first)) {
        return err_set(e, ERR_FORMAT, KEY("merges") ": merge %u repeats merge %u", (unsigned)rank,
                       (unsigned)first);
    }
    return OK;
}

static Status read_merges(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv;
    Slice s;
    StrBuf joined = {0};
    size_t pos = 0;
    TRY(gguf_get_arr(&kv, g, KEY("merges"), GGUF_STR, e));
    if (kv->v.arr.n > TOK_MAX_MERGES) {
        return err_set(e, ERR_FORMAT, KEY("merges") ": %llu merges, limit %d",
                       (unsigned long long)kv->v.arr.n, (int)TOK_MAX_MERGES);
    }
    if (!tok__merges_init(&t->merges, (size_t)kv->v.arr.n)) return no_memory(e);
    Status st = OK;
    for (uint32_t rank = 0; st == OK && gguf_arr_next_str(kv, &pos, &s); rank++) {
        st = read_merge(t, s, rank, &joined, e);
    }
    sb_deinit(&joined);
    return st;
}

/* Which tokens a chunk of just their bytes encodes to. */
static Status mark_whole(Tokenizer *t, Err *e) {
    TokBuf ids = {0};
    BpeScratch bpe = {0};
    bool ok = true;
    for (int32_t i = 0; ok && i < t->n_vocab; i++) {
        if (!is_plain(t, i)) continue;
        ids.n = 0;
        ok = t->piece[i].n <= TOK_MAX_CHUNK && tok__bpe(t, &bpe, t->piece[i], &ids) && !ids.failed;
        t->whole[i] = t->pre->whole_words || (ok && ids.n == 1 && ids.v[0] == i);
    }
    tok__bpe_deinit(&bpe);
    tokbuf_deinit(&ids);
    return ok ? OK : no_memory(e);
}

/* ---- special tokens ---- */

static Status read_id(int32_t *out, const Tokenizer *t, const Gguf *g, const char *key, Err *e) {
    int64_t id = -1;
    TRY(gguf_opt_int(&id, g, key, 0, t->n_vocab - 1, e));
    *out = (int32_t)id;
    return OK;
}

static Status read_bos(Tokenizer *t, const Gguf *g, Err *e) {
    bool add = t->pre->add_bos;
    int32_t bos;
    TRY(read_id(&bos, t, g, KEY("bos_token_id"), e));
    TRY(gguf_opt_bool(&add, g, KEY("add_bos_token"), e));
    if (add && bos < 0 && own_kv(t, KEY("add_bos_token"))) {
        return err_set(e, ERR_FORMAT, KEY("add_bos_token") ": true, but there is no bos_token_id");
    }
    t->bos = add ? bos : -1;
    return OK;
}

/* End of text and end of turn, by key and by the names that control tokens have in known families. */
static Status read_ends(Tokenizer *t, const Gguf *g, Err *e) {
    static const char *const keys[] = {KEY("eos_token_id"), KEY("eot_token_id"),
                                       KEY("eom_token_id")};
    static const char *const names[] = {"<|endoftext|>",
                                        "<|end_of_text|>",
                                        "<|im_end|>",
                                        "<|eot_id|>",
                                        "<|eom_id|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "</s>",
                                        "<\uff5cend\u2581of\u2581sentence\uff5c>"};
    int32_t id;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        TRY(read_id(&id, t, g, keys[i], e));
        if (id >= 0) t->is_end[id] = true;
        if (i == 0) t->eot = id;
    }
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        id = tok_find(t, slice_of(names[i]));
        if (id >= 0 && t->type[id] == TOK_CONTROL) t->is_end[id] = true;
    }
    return OK;
}

static Status read_specials(Tokenizer *t, Err *e) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        bool special = t->type[i] == TOK_CONTROL || t->type[i] == TOK_UNKNOWN ||
                       t->type[i] == TOK_USER_DEFINED;
        if (!special) continue;
        if (t->text[i].n > TOK_MAX_SPECIAL) {
            return err_set(e, ERR_FORMAT,
                           KEY("tokens") ": special token %ld has %zu bytes, limit %d", (long)i,
                           t->text[i].n, (int)TOK_MAX_SPECIAL);
        }
        if (!tok__specials_add(&t->specials, t->text[i], i)) return no_memory(e);
    }
    return OK;
}

/* ---- the whole ---- */

static Status load(Tokenizer *t, const Gguf *g, Err *e) {
    TRY(read_kind(t, g, e));
    TRY(copy_metadata(t, g, e));
    TRY(read_tokens(t, g, e));
    TRY(read_types(t, g, e));
    TRY(make_pieces(t, e));
    TRY(find_bytes(t, e));
    TRY(read_merges(t, g, e));
    TRY(mark_whole(t, e));
    TRY(read_bos(t, g, e));
    TRY(read_ends(t, g, e));
    return read_specials(t, e);
}

Status tok_load(Tokenizer **out, const Gguf *g, Err *e) {
    Tokenizer *t = mem_new(Tokenizer);
    if (!t) return no_memory(e);
    arena_init(&t->mem, 64 << 10);
    Status st = load(t, g, e);
    if (st != OK) {
        tok_free(t);
        return st;
    }
    *out = t;
    return OK;
}

void tok_free(Tokenizer *t) {
    if (!t) return;
    regex_free(t->re);
    tok__specials_deinit(&t->specials);
    tok__merges_deinit(&t->merges);
    tok__idmap_deinit(&t->by_text);
    tok__idmap_deinit(&t->by_piece);
    mem_free(t->text);
    mem_free(t->piece);
    mem_free(t->type);
    mem_free(t->is_end);
    mem_free(t->whole);
    mem_free(t->kv);
    arena_deinit(&t->mem);
    mem_free(t);
}

static bool in_vocab(const Tokenizer *t, int32_t id) { return id >= 0 && id < t->n_vocab; }

int32_t tok_n_vocab(const Tokenizer *t) { return t->n_vocab; }
int32_t tok_eot(const Tokenizer *t) { return t->eot; }
int32_t tok_bos(const Tokenizer *t) { return t->bos; }
bool tok_is_end(const Tokenizer *t, int32_t id) { return in_vocab(t, id) && t->is_end[id]; }
TokType tok_type(const Tokenizer *t, int32_t id) {
    return in_vocab(t, id) ? (TokType)t->type[id] : TOK_UNUSED;
}
int32_t tok_find(const Tokenizer *t, Slice text) { return tok__idmap_find(&t->by_text, text); }
Slice tok_piece(const Tokenizer *t, int32_t id) {
    return in_vocab(t, id) ? t->piece[id] : (Slice){"", 0};
}
Slice tok_text(const Tokenizer *t, int32_t id) {
    return in_vocab(t, id) ? t->text[id] : (Slice){"", 0};
}
