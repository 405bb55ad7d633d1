/* SPDX-License-Identifier: Apache-2.0
 *
 * A vocabulary from GGUF metadata, and what can be asked of one. All tokenizer.* entries are copied
 * first, so that the file may be closed and tok_save can write every one of them back; token texts are
 * borrowed from that copy. Nothing in a file is believed: counts, types and ids are checked here and in
 * merges.c and roles.c, so the encoder needs no checks.
 */
#include <stdio.h>

#include "token/internal.h"

const char *tok__show(char buf[64], Slice s) {
    size_t n = MIN(s.n, (size_t)63);
    for (size_t i = 0; i < n; i++) buf[i] = s.p[i] >= 0x20 && s.p[i] <= 0x7e ? s.p[i] : '?';
    buf[n] = 0;
    return buf;
}

Status tok__no_memory(Err *e) { return err_set(e, ERR_NOMEM, "tokenizer: out of memory"); }

/* ---- the copy of the metadata ---- */

static bool is_ours(const GgufKv *kv) {
    return kv->key.n > 10 && !memcmp(kv->key.p, "tokenizer.", 10);
}

static void copy_slice(Arena *a, Slice *s) { s->p = arena_dup(a, s->p, s->n); }

static Status copy_metadata(Tokenizer *t, const Gguf *g, Err *e) {
    for (size_t i = 0; i < gguf_n_kv(g); i++) t->n_kv += is_ours(gguf_kv_at(g, i));
    t->kv = mem_new_n(GgufKv, t->n_kv);
    if (!t->kv) return tok__no_memory(e);
    GgufKv *to = t->kv;
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        if (!is_ours(gguf_kv_at(g, i))) continue;
        *to = *gguf_kv_at(g, i);
        copy_slice(&t->mem, &to->key);
        if (to->type == GGUF_STR) copy_slice(&t->mem, &to->v.s);
        if (to->type == GGUF_ARR) copy_slice(&t->mem, &to->v.arr.bytes);
        to++;
    }
    return arena_ok(&t->mem) ? OK : tok__no_memory(e);
}

const GgufKv *tok__own_kv(const Tokenizer *t, const char *key) {
    for (size_t i = 0; i < t->n_kv; i++) {
        if (slice_eq_str(t->kv[i].key, key)) return &t->kv[i];
    }
    return NULL;
}

Slice tok_meta_str(const Tokenizer *t, const char *key) {
    const GgufKv *kv = tok__own_kv(t, key);
    return kv && kv->type == GGUF_STR ? kv->v.s : (Slice){"", 0};
}

void tok_save(const Tokenizer *t, GgufW *w) {
    for (size_t i = 0; i < t->n_kv; i++) gguf_w_kv(w, &t->kv[i]);
}

/* ---- model and passes ---- */

/* One row per value of tokenizer.ggml.model. */
typedef struct ModelRow {
    const char *name;
    const char *pre; /* where the file does not say; NULL: none is looked for */
    bool chars, scores, add_bos;
    int32_t bos, eos, unk; /* where the file does not say; -1: none */
} ModelRow;

static const ModelRow models[] = {
    {"gpt2", "default", false, false, false, -1, -1, -1},
    {"llama", NULL, true, true, true, 1, 2, 0},
    {"gemma4", "gemma4", true, false, true, -1, -1, -1},
};

static Status find_model(const ModelRow **out, const Gguf *g, Err *e) {
    Slice model;
    char shown[64];
    TRY(gguf_get_str(&model, g, TOK_KEY("model"), e));
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        *out = &models[i];
        if (slice_eq_str(model, models[i].name)) return OK;
    }
    return err_set(e, ERR_UNSUPPORTED,
                   TOK_KEY("model") ": \"%s\" is not supported, only gpt2, llama and gemma4",
                   tok__show(shown, model));
}

static Status read_prefix(Tokenizer *t, const Gguf *g, Err *e) {
    static const char *const names[] = {"none", "space", "space_if_none"};
    bool add = t->scores;
    Slice name = {0};
    if (t->scores) TRY(gguf_opt_bool(&add, g, TOK_KEY("add_space_prefix"), e));
    t->prefix = add ? PREFIX_SPACE : PREFIX_NONE;
    TRY(gguf_opt_bool(&t->prefix_first, g, TOK_OWN("prefix_first"), e));
    TRY(gguf_opt_str(&name, g, TOK_OWN("prefix"), e));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (slice_eq_str(name, names[i])) t->prefix = (Prefix)i;
    }
    return OK;
}

static Status read_form(Tokenizer *t, const Gguf *g, Err *e) {
    static const char *const names[] = {"", "nfc", "nfd", "nfkc", "nfkd"};
    Slice name = {0};
    char shown[64];
    TRY(gguf_opt_str(&name, g, TOK_OWN("normal_form"), e));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        t->form = (UtfForm)i;
        if (slice_eq_str(name, names[i])) return OK;
    }
    return err_set(e, ERR_FORMAT, TOK_OWN("normal_form") ": \"%s\" is not known",
                   tok__show(shown, name));
}

static Status add_pass(Tokenizer *t, const Pass *p, Err *e) {
    TRY(tok__splitter_init(&t->pass[t->n_pass], p, e));
    t->n_pass++;
    return OK;
}

/* "MODE:pattern", as tok_load_json writes it; MODE "scan": a function of scan.c by name. */
static Status read_split(Tokenizer *t, Slice s, Err *e) {
    static const char *const modes[] = {"isolated", "removed", "with_previous", "with_next",
                                        "contiguous"};
    const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
    char shown[64];
    if (!colon || memchr(s.p, 0, s.n) || t->n_pass == TOK_MAX_PASSES) {
        return err_set(e, ERR_FORMAT, TOK_OWN("split") ": \"%s\": not MODE:PATTERN, or over %d",
                       tok__show(shown, s), (int)TOK_MAX_PASSES);
    }
    Slice mode = {s.p, (size_t)(colon - s.p)};
    Pass pass = {arena_dup(&t->mem, colon + 1, s.n - mode.n - 1), NULL};
    if (!pass.pattern) return tok__no_memory(e);
    bool invert = mode.n > 0 && *mode.p == '!';
    mode.p += invert;
    mode.n -= invert;
    if (slice_eq_str(mode, "scan")) {
        pass.scan = tok__scan_find(pass.pattern);
        if (pass.scan) return add_pass(t, &pass, e);
    }
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        if (!slice_eq_str(mode, modes[i])) continue;
        TRY(add_pass(t, &pass, e));
        t->pass[t->n_pass - 1].mode = (SplitMode)i;
        t->pass[t->n_pass - 1].invert = invert;
        return OK;
    }
    return err_set(e, ERR_FORMAT, TOK_OWN("split") ": \"%s\" is not known", tok__show(shown, s));
}

static Status read_passes(Tokenizer *t, const ModelRow *m, const Gguf *g, bool *add_bos, Err *e) {
    PreTok pre = {0};
    char shown[64];
    Slice name = slice_of(m->pre ? m->pre : "");
    const GgufKv *own = gguf_find(g, TOK_OWN("split"));
    *add_bos = m->add_bos;
    if (m->pre) TRY(gguf_opt_str(&name, g, TOK_KEY("pre"), e));
    if (m->pre && name.n == 0) name = slice_of(m->pre);
    if (m->pre && !own && !tok__pretok_find(&pre, name)) {
        return err_set(e, ERR_UNSUPPORTED, TOK_KEY("pre") ": pre-tokenizer \"%s\" is not supported",
                       tok__show(shown, name));
    }
    t->whole_words = pre.whole_words;
    t->chars = m->chars || pre.chars;
    t->scores = m->scores;
    *add_bos |= pre.add_bos;
    for (int i = 0; i < pre.n; i++) TRY(add_pass(t, &pre.pass[i], e));
    if (own) TRY(gguf_get_arr(&own, g, TOK_OWN("split"), GGUF_STR, e));
    size_t pos = 0;
    for (Slice s; own && gguf_arr_next_str(own, &pos, &s);) TRY(read_split(t, s, e));
    bool by_merges = false;
    TRY(gguf_opt_bool(&by_merges, g, TOK_OWN("by_merges"), e));
    if (by_merges) t->scores = false;
    TRY(gguf_opt_bool(&t->whole_words, g, TOK_OWN("whole_words"), e));
    TRY(gguf_opt_bool(&t->leftmost, g, TOK_OWN("leftmost"), e));
    TRY(read_form(t, g, e));
    return read_prefix(t, g, e);
}

/* ---- tokens ---- */

static Status alloc_tables(Tokenizer *t, Err *e) {
    size_t n = (size_t)t->n_vocab;
    t->piece = mem_new_n(Slice, n);
    t->type = mem_new_n(uint8_t, n);
    t->flags = mem_new_n(uint8_t, n);
    t->is_end = mem_new_n(bool, n);
    t->whole = mem_new_n(bool, n);
    bool ok = t->piece && t->type && t->flags && t->is_end && t->whole &&
              tok__syms_init(&t->sym, n + 256) && tok__idmap_init(&t->by_piece, t->piece, n);
    return ok ? OK : tok__no_memory(e);
}

/* A token without text gets one that no other token and no text has. */
static Slice name_of_empty(Tokenizer *t, int32_t id) {
    char name[32];
    int n = snprintf(name, sizeof name, "[EMPTY_%ld]", (long)id);
    return (Slice){arena_dup(&t->mem, name, (size_t)n), (size_t)n};
}

static Status read_tokens(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv;
    size_t pos = 0;
    Slice text;
    TRY(gguf_get_arr(&kv, g, TOK_KEY("tokens"), GGUF_STR, e));
    if (kv->v.arr.n == 0 || kv->v.arr.n > TOK_MAX_VOCAB) {
        return err_set(e, ERR_FORMAT, TOK_KEY("tokens") ": %llu tokens, 1 to %d are possible",
                       (unsigned long long)kv->v.arr.n, (int)TOK_MAX_VOCAB);
    }
    t->n_vocab = (int32_t)kv->v.arr.n;
    TRY(alloc_tables(t, e));
    kv = tok__own_kv(t, TOK_KEY("tokens"));
    for (int32_t i = 0; i < t->n_vocab; i++) {
        if (!gguf_arr_next_str(kv, &pos, &text))
            return err_set(e, ERR_FORMAT, TOK_KEY("tokens") ": ends after %ld tokens", (long)i);
        if (text.n == 0) text = name_of_empty(t, i);
        if (tok__syms_add(&t->sym, text) < 0) return tok__no_memory(e);
    }
    return arena_ok(&t->mem) ? OK : tok__no_memory(e);
}

static Status read_types(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv = gguf_find(g, TOK_KEY("token_type"));
    memset(t->type, TOK_NORMAL, (size_t)t->n_vocab);
    if (!kv) return OK;
    if (kv->type != GGUF_ARR || (kv->v.arr.type != GGUF_I32 && kv->v.arr.type != GGUF_U32)) {
        return err_set(e, ERR_FORMAT, TOK_KEY("token_type") ": an array of i32 is needed");
    }
    if (kv->v.arr.n < (uint64_t)t->n_vocab) {
        return err_set(e, ERR_FORMAT, TOK_KEY("token_type") ": %llu entries for %ld tokens",
                       (unsigned long long)kv->v.arr.n, (long)t->n_vocab);
    }
    for (int32_t i = 0; i < t->n_vocab; i++) {
        double type = gguf_arr_num(kv, (uint64_t)i);
        if (type < 0 || type >= TOK_TYPE_COUNT) {
            return err_set(e, ERR_FORMAT,
                           TOK_KEY("token_type") ": token %ld has type %g, 0 to %d are known",
                           (long)i, type, TOK_TYPE_COUNT - 1);
        }
        if (type > 0) t->type[i] = (uint8_t)type;
    }
    return OK;
}

/* ---- the whole ---- */

static Status load(Tokenizer *t, const Gguf *g, Err *e) {
    const ModelRow *m;
    bool add_bos;
    TRY(find_model(&m, g, e));
    TRY(read_passes(t, m, g, &add_bos, e));
    t->bos = m->bos;
    t->eos = m->eos;
    t->unk = m->unk;
    TRY(copy_metadata(t, g, e));
    TRY(read_tokens(t, g, e));
    TRY(read_types(t, g, e));
    TRY(tok__read_roles(t, g, add_bos, e));
    TRY(tok__read_pieces(t, e));
    return tok__read_merges(t, g, e);
}

Status tok_load(Tokenizer **out, const Gguf *g, Err *e) {
    Tokenizer *t = mem_new(Tokenizer);
    if (!t) return tok__no_memory(e);
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
    for (int i = 0; i < t->n_pass; i++) regex_free(t->pass[i].re);
    tok__specials_deinit(&t->specials);
    tok__merges_deinit(&t->merges);
    tok__syms_deinit(&t->sym);
    tok__idmap_deinit(&t->by_piece);
    mem_free(t->piece);
    mem_free(t->type);
    mem_free(t->flags);
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
int32_t tok_eos(const Tokenizer *t) { return t->eos; }
bool tok_is_end(const Tokenizer *t, int32_t id) { return in_vocab(t, id) && t->is_end[id]; }
TokType tok_type(const Tokenizer *t, int32_t id) {
    return in_vocab(t, id) ? (TokType)t->type[id] : TOK_UNUSED;
}
int32_t tok_find(const Tokenizer *t, Slice text) {
    int32_t id = tok__idmap_find(&t->sym.map, text);
    return id < t->n_vocab ? id : -1;
}
Slice tok_piece(const Tokenizer *t, int32_t id) {
    return in_vocab(t, id) ? t->piece[id] : (Slice){"", 0};
}
Slice tok_text(const Tokenizer *t, int32_t id) {
    return in_vocab(t, id) ? t->sym.text[id] : (Slice){"", 0};
}
