/* SPDX-License-Identifier: Apache-2.0
 *
 * A Hugging Face tokenizer.json with a BPE model, and what its tokenizer_config.json adds: written down
 * as metadata (meta.c), with keys tokenizer.ingot.* for what GGUF has no word for, and loaded from there.
 * A saved one therefore stays exact here, and other programs find what they know.
 */
#include <stdio.h>

#include "text/json.h"
#include "token/internal.h"

typedef struct Hf {
    const Json *root, *model, *config; /* config may be NULL */
    HfCut cut;
    int32_t n;     /* tokens */
    int32_t rows;  /* of the model, which n becomes; 0: any */
    Slice *text;   /* owned [n]; empty: no token has this id */
    uint8_t *type; /* owned [n] TokType */
    TokBuf lstrip, rstrip;
    bool whole_words, byte_fallback;
    int32_t bos, eos, unk; /* -1: none */
    bool add_bos, add_eos;
} Hf;

/* ---- tokens ---- */

static Status read_id(int32_t *id, const Json *j, Slice text, Err *e) {
    char shown[64];
    int64_t v = json_int_or(j, 0, TOK_MAX_VOCAB - 1);
    if (v < 0) {
        return err_set(e, ERR_FORMAT, "token \"%s\": its id is no number from 0 to %d",
                       tok__show(shown, text), (int)TOK_MAX_VOCAB - 1);
    }
    *id = (int32_t)v;
    return OK;
}

/* One past the highest id. */
static Status count_tokens(Hf *h, const Json *vocab, const Json *added, Err *e) {
    Slice text;
    const Json *v;
    int32_t id, top = -1;
    for (void *it = NULL; (it = json_next(vocab, it, &text, &v));) {
        TRY(read_id(&id, v, text, e));
        top = MAX(top, id);
    }
    for (size_t i = 0; i < json_len(added); i++) {
        v = json_at(added, i);
        TRY(read_id(&id, json_get(v, "id"), json_str(json_get(v, "content")), e));
        top = MAX(top, id);
    }
    h->n = top + 1;
    if (h->n == 0) return err_set(e, ERR_FORMAT, "tokenizer.json: no tokens");
    /* ids far apart would cost memory that the file did not pay for */
    if ((size_t)h->n > 4 * (json_len(vocab) + json_len(added)) + 4096) {
        return err_set(e, ERR_FORMAT, "tokenizer.json: ids up to %ld for %zu tokens", (long)top,
                       json_len(vocab) + json_len(added));
    }
    if (h->rows > 0 && h->n > h->rows)
        return err_set(e, ERR_FORMAT, "tokenizer.json: ids up to %ld, the model has %ld rows",
                       (long)top, (long)h->rows);
    h->n = MAX(h->n, h->rows);
    return OK;
}

static Status set_token(Hf *h, int32_t id, Slice text, TokType type, Err *e) {
    char shown[64];
    if (text.n == 0) return OK; /* no text becomes it */
    if (h->text[id].n && !slice_eq(h->text[id], text)) {
        return err_set(e, ERR_FORMAT, "token \"%s\": its id %ld is taken", tok__show(shown, text),
                       (long)id);
    }
    h->text[id] = text;
    h->type[id] = (uint8_t)type;
    return OK;
}

static bool names_byte(Slice s) { return s.n == 6 && !memcmp(s.p, "<0x", 3) && s.p[5] == '>'; }

static Status read_added(Hf *h, const Json *j, Err *e) {
    Slice text = {0};
    bool special = false, lstrip = false, rstrip = false, word = false;
    int32_t id;
    char shown[64];
    TRY(json_opt_str(&text, j, "content", e));
    TRY(read_id(&id, json_get(j, "id"), text, e));
    TRY(json_opt_bool(&special, j, "special", e));
    TRY(json_opt_bool(&lstrip, j, "lstrip", e));
    TRY(json_opt_bool(&rstrip, j, "rstrip", e));
    TRY(json_opt_bool(&word, j, "single_word", e));
    if (word) {
        return err_set(e, ERR_UNSUPPORTED, "added token \"%s\": single_word is not supported",
                       tok__show(shown, text));
    }
    if (lstrip) tokbuf_push(&h->lstrip, id);
    if (rstrip) tokbuf_push(&h->rstrip, id);
    return set_token(h, id, text, special ? TOK_CONTROL : TOK_USER_DEFINED, e);
}

static Status read_tokens(Hf *h, Err *e) {
    const Json *vocab = json_get(h->model, "vocab"), *added = json_get(h->root, "added_tokens");
    Slice text;
    const Json *v;
    int32_t id;
    TRY(count_tokens(h, vocab, added, e));
    h->text = mem_new_n(Slice, (size_t)h->n);
    h->type = mem_new_n(uint8_t, (size_t)h->n);
    if (!h->text || !h->type) return tok__no_memory(e);
    memset(h->type, TOK_UNUSED, (size_t)h->n);
    for (void *it = NULL; (it = json_next(vocab, it, &text, &v));) {
        bool byte = h->byte_fallback && h->cut.chars && names_byte(text);
        TRY(read_id(&id, v, text, e));
        TRY(set_token(h, id, text, byte ? TOK_BYTE : TOK_NORMAL, e));
    }
    for (size_t i = 0; i < json_len(added); i++) TRY(read_added(h, json_at(added, i), e));
    return h->lstrip.failed || h->rstrip.failed ? tok__no_memory(e) : OK;
}

/* ---- roles ---- */

static int32_t find_token(const Hf *h, Slice text) {
    for (int32_t i = 0; i < h->n && text.n; i++) {
        if (slice_eq(h->text[i], text)) return i;
    }
    return -1;
}

/* A token in tokenizer_config.json: its text, or an object with it. */
static int32_t config_token(const Hf *h, const char *key) {
    const Json *v = json_get(h->config, key);
    return find_token(h, json_str(json_is_object(v) ? json_get(v, "content") : v));
}

/* A template "BOS $A EOS" says what is put around a text. */
static void read_template(Hf *h, const Json *post, int depth) {
    Slice type = json_str(json_get(post, "type"));
    const Json *list = json_get(post, "processors"), *single = json_get(post, "single");
    for (size_t i = 0; i < json_len(list) && depth < 4; i++)
        read_template(h, json_at(list, i), depth + 1);
    bool behind = false;
    for (size_t i = 0; slice_eq_str(type, "TemplateProcessing") && i < json_len(single); i++) {
        const Json *special = json_get(json_at(single, i), "SpecialToken");
        int32_t id = find_token(h, json_str(json_get(special, "id")));
        behind |= json_get(json_at(single, i), "Sequence") != NULL;
        if (id < 0) continue;
        if (behind) h->eos = id;
        else h->bos = id;
        *(behind ? &h->add_eos : &h->add_bos) = true;
    }
}

static Status read_roles(Hf *h, Err *e) {
    Slice unk = {0};
    h->bos = config_token(h, "bos_token");
    h->eos = config_token(h, "eos_token");
    TRY(json_opt_str(&unk, h->model, "unk_token", e));
    h->unk = find_token(h, unk);
    read_template(h, json_get(h->root, "post_processor"), 0);
    if (h->config && h->bos >= 0) TRY(json_opt_bool(&h->add_bos, h->config, "add_bos_token", e));
    if (h->config && h->eos >= 0) TRY(json_opt_bool(&h->add_eos, h->config, "add_eos_token", e));
    return OK;
}

/* ---- the model ---- */

static Status refuse_nonempty(const Json *model, const char *key, Err *e) {
    Slice s = {0};
    TRY(json_opt_str(&s, model, key, e));
    return s.n ? err_set(e, ERR_UNSUPPORTED, "model: %s is not supported", key) : OK;
}

static Status read_model(Hf *h, Err *e) {
    Slice type = slice_of("BPE");
    char shown[64];
    bool fuse = false;
    h->model = json_get(h->root, "model");
    if (!json_is_object(h->model)) return err_set(e, ERR_FORMAT, "tokenizer.json: no model");
    TRY(json_opt_str(&type, h->model, "type", e));
    if (!slice_eq_str(type, "BPE")) {
        return err_set(e, ERR_UNSUPPORTED, "model: \"%s\" is not supported, only BPE",
                       tok__show(shown, type));
    }
    TRY(refuse_nonempty(h->model, "continuing_subword_prefix", e));
    TRY(refuse_nonempty(h->model, "end_of_word_suffix", e));
    TRY(json_opt_bool(&h->whole_words, h->model, "ignore_merges", e));
    TRY(json_opt_bool(&h->byte_fallback, h->model, "byte_fallback", e));
    TRY(json_opt_bool(&fuse, h->model, "fuse_unk", e));
    if (fuse && !h->byte_fallback)
        return err_set(e, ERR_UNSUPPORTED,
                       "model: fuse_unk without byte_fallback is not supported");
    return OK;
}

/* "a b" or ["a", "b"] */
static Status put_merge(Meta *m, const Json *j, size_t i, StrBuf *word, Err *e) {
    if (json_is_str(j)) {
        tok__meta_put_str(m, json_str(j));
        return OK;
    }
    Slice l = json_str(json_at(j, 0)), r = json_str(json_at(j, 1));
    if (json_len(j) != 2 || !l.n || !r.n || memchr(l.p + 1, ' ', l.n - 1) || r.p[0] == ' ')
        return err_set(e, ERR_FORMAT, "merges: merge %zu is not two tokens", i);
    sb_clear(word);
    sb_put(word, l.p, l.n);
    sb_putc(word, ' ');
    sb_put(word, r.p, r.n);
    TRY(sb_check(word, e));
    tok__meta_put_str(m, (Slice){word->p, word->n});
    return OK;
}

static Status put_merges(Meta *m, const Hf *h, Err *e) {
    const Json *list = json_get(h->model, "merges");
    StrBuf word = {0};
    Status st = OK;
    if (!json_is_array(list)) return err_set(e, ERR_FORMAT, "model: no merges");
    tok__meta_arr(m, TOK_KEY("merges"), GGUF_STR, json_len(list));
    for (size_t i = 0; st == OK && i < json_len(list); i++)
        st = put_merge(m, json_at(list, i), i, &word, e);
    sb_deinit(&word);
    return st;
}

/* ---- writing it down ---- */

static void put_tokens(Meta *m, const Hf *h) {
    char name[32];
    tok__meta_arr(m, TOK_KEY("tokens"), GGUF_STR, (size_t)h->n);
    for (int32_t i = 0; i < h->n; i++) {
        snprintf(name, sizeof name, "[PAD%ld]", (long)i);
        tok__meta_put_str(m, h->text[i].n ? h->text[i] : slice_of(name));
    }
    tok__meta_arr(m, TOK_KEY("token_type"), GGUF_I32, (size_t)h->n);
    for (int32_t i = 0; i < h->n; i++) tok__meta_put_i32(m, h->type[i]);
}

static void put_ids(Meta *m, const char *key, const TokBuf *ids) {
    if (ids->n == 0) return;
    tok__meta_arr(m, key, GGUF_I32, ids->n);
    for (size_t i = 0; i < ids->n; i++) tok__meta_put_i32(m, ids->v[i]);
}

static void put_roles(Meta *m, const Hf *h) {
    if (h->bos >= 0) tok__meta_u32(m, TOK_KEY("bos_token_id"), (uint32_t)h->bos);
    if (h->eos >= 0) tok__meta_u32(m, TOK_KEY("eos_token_id"), (uint32_t)h->eos);
    if (h->unk >= 0) tok__meta_u32(m, TOK_KEY("unknown_token_id"), (uint32_t)h->unk);
    tok__meta_bool(m, TOK_KEY("add_bos_token"), h->add_bos && h->bos >= 0);
    tok__meta_bool(m, TOK_KEY("add_eos_token"), h->add_eos && h->eos >= 0);
    put_ids(m, TOK_OWN("lstrip"), &h->lstrip);
    put_ids(m, TOK_OWN("rstrip"), &h->rstrip);
}

/* Programs that know scores only: the order of the merges as scores of what they make. */
static void put_scores(Meta *m, const Hf *h) {
    tok__meta_arr(m, TOK_KEY("scores"), GGUF_F32, (size_t)h->n);
    for (int32_t i = 0; i < h->n; i++) tok__meta_put_f32(m, (float)-i);
}

static void put_cut(Meta *m, const Hf *h) {
    static const char *const prefix[] = {"none", "space", "space_if_none"};
    const HfCut *c = &h->cut;
    const char *pre = tok__hf_cut_name(c, h->whole_words);
    tok__meta_str(m, TOK_KEY("model"), slice_of(c->chars ? "llama" : "gpt2"));
    /* a name that nobody knows is refused elsewhere, which is better than other tokens */
    tok__meta_str(m, TOK_KEY("pre"), slice_of(c->chars ? "default" : pre ? pre : "ingot-split"));
    tok__meta_arr(m, TOK_OWN("split"), GGUF_STR, (size_t)c->n_split);
    for (int i = 0; i < c->n_split; i++)
        tok__meta_put_str(m, (Slice){sb_str(&c->split[i]), c->split[i].n});
    tok__meta_str(m, TOK_OWN("prefix"), slice_of(prefix[c->prefix]));
    tok__meta_bool(m, TOK_OWN("prefix_first"), c->prefix_first);
    tok__meta_bool(m, TOK_OWN("leftmost"), true);
    tok__meta_bool(m, TOK_OWN("whole_words"), h->whole_words);
    if (c->form) tok__meta_str(m, TOK_OWN("normal_form"), slice_of(c->form));
    if (!c->chars) return;
    tok__meta_bool(m, TOK_KEY("add_space_prefix"), c->prefix != PREFIX_NONE);
    tok__meta_bool(m, TOK_OWN("by_merges"), true);
    put_scores(m, h);
}

static Status load(Tokenizer **out, Hf *h, Meta *m, Err *e) {
    if (!json_is_object(h->root)) return err_set(e, ERR_FORMAT, "tokenizer.json: not an object");
    TRY(read_model(h, e));
    TRY(tok__hf_cut_read(&h->cut, h->root, e));
    TRY(read_tokens(h, e));
    TRY(read_roles(h, e));
    put_cut(m, h);
    put_tokens(m, h);
    put_roles(m, h);
    TRY(put_merges(m, h, e));
    return tok__meta_load(out, m, e);
}

Status tok_load_json_for(Tokenizer **out, Slice text, Slice config, int32_t n_vocab, Err *e) {
    Json *root = NULL, *conf = NULL;
    Meta m;
    tok__meta_begin(&m);
    Status st = json_parse(&root, text, e);
    if (st == OK && config.n) st = json_parse(&conf, config, e);
    Hf h = {.root = root, .config = conf, .rows = n_vocab, .bos = -1, .eos = -1, .unk = -1};
    if (st == OK) st = load(out, &h, &m, e);
    tok__meta_deinit(&m);
    tok__hf_cut_deinit(&h.cut);
    tokbuf_deinit(&h.lstrip);
    tokbuf_deinit(&h.rstrip);
    mem_free(h.text);
    mem_free(h.type);
    json_free(conf);
    json_free(root);
    return st;
}

Status tok_load_json(Tokenizer **out, Slice text, Slice config, Err *e) {
    return tok_load_json_for(out, text, config, 0, e);
}
