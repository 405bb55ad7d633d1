/* SPDX-License-Identifier: Apache-2.0
 *
 * A tokenizer as tokenizer.json and tokenizer_config.json, the other way round of hf_json.c and hf_split.c: what
 * was read from such files is written as it was, what came from a GGUF file is written by what it means. Merges of
 * vocabularies with scores are spelled out in their order. Every token that is special stands in the vocabulary,
 * too, so that its id does not depend on counting. What the form has no word for is refused.
 *
 * Left out: unused tokens, which no text becomes, and tokens whose text an earlier one has.
 */
#include <stdio.h>
#include <stdlib.h>

#include "text/json.h"
#include "text/utf8.h"
#include "token/internal.h"

static const char space_sign[] = "\xe2\x96\x81";

typedef struct Out {
    const Tokenizer *t;
    StrBuf *b;
    JsonW w;
    HfCut cut; /* owned: only its splits are used */
    bool byte_tokens;
    Err *e;
} Out;

/* ---- pieces of JSON ---- */

/* One string, quoted and escaped. */
static void put_string(StrBuf *b, Slice s) {
    JsonW w;
    jw_init(&w, b);
    jw_str(&w, NULL, s);
}

static void put_type(JsonW *w, const char *key, const char *type) {
    jw_obj(w, key);
    jw_cstr(w, "type", type);
}

static void put_pattern(JsonW *w, const char *kind, Slice s) {
    jw_obj(w, "pattern");
    jw_str(w, kind, s);
    jw_end_obj(w);
}

static void put_replace(JsonW *w, const char *from, const char *to) {
    put_type(w, NULL, "Replace");
    put_pattern(w, "String", slice_of(from));
    jw_cstr(w, "content", to);
    jw_end_obj(w);
}

/* ---- tokens ---- */

static bool is_added(const Tokenizer *t, int32_t id) {
    return tok__is_special(t, id) && tok_find(t, t->sym.text[id]) == id;
}

static bool is_written(const Tokenizer *t, int32_t id) {
    return (t->type[id] != TOK_UNUSED || tok__is_special(t, id)) &&
           tok_find(t, t->sym.text[id]) == id;
}

static void put_token(Out *o, int32_t id, bool with_id) {
    const Tokenizer *t = o->t;
    if (with_id) jw_int(&o->w, "id", id);
    jw_str(&o->w, "content", t->sym.text[id]);
    jw_bool(&o->w, "single_word", false);
    jw_bool(&o->w, "lstrip", t->flags[id] & TOK_LSTRIP);
    jw_bool(&o->w, "rstrip", t->flags[id] & TOK_RSTRIP);
    jw_bool(&o->w, "normalized", false);
    jw_bool(&o->w, "special", t->type[id] != TOK_USER_DEFINED || t->flags[id] & TOK_NAMED);
}

static void put_added(Out *o) {
    jw_arr(&o->w, "added_tokens");
    for (int32_t id = 0; id < o->t->n_vocab; id++) {
        if (!is_added(o->t, id)) continue;
        jw_obj(&o->w, NULL);
        put_token(o, id, true);
        jw_end_obj(&o->w);
    }
    jw_end_arr(&o->w);
}

static Status check_text(const Out *o, int32_t id) {
    char shown[64];
    Slice s = o->t->sym.text[id];
    if (utf8_valid(s) && !memchr(s.p, 0, s.n)) return OK;
    return err_set(o->e, ERR_UNSUPPORTED, "token %ld \"%s\" is no text, which tokenizer.json needs",
                   (long)id, tok__show(shown, s));
}

/* Members of an object whose keys are slices: written past the JsonW. */
static Status put_vocab(Out *o) {
    bool any = false;
    jw_obj(&o->w, "vocab");
    for (int32_t id = 0; id < o->t->n_vocab; id++) {
        if (!is_written(o->t, id)) continue;
        TRY(check_text(o, id));
        if (any) sb_putc(o->b, ',');
        any = true;
        put_string(o->b, o->t->sym.text[id]);
        sb_printf(o->b, ":%ld", (long)id);
    }
    jw_end_obj(&o->w);
    return OK;
}

/* ---- merges ---- */

static bool is_known(const Tokenizer *t, Slice s) {
    int32_t id = tok_find(t, s);
    return id >= 0 && is_written(t, id);
}

static Status put_merge(Out *o, Slice left, Slice right, uint64_t i, StrBuf *tmp) {
    sb_clear(tmp);
    sb_put(tmp, left.p, left.n);
    sb_put(tmp, right.p, right.n);
    TRY(sb_check(tmp, o->e));
    if (!is_known(o->t, left) || !is_known(o->t, right) || !is_known(o->t, (Slice){tmp->p, tmp->n}))
        return err_set(o->e, ERR_UNSUPPORTED,
                       "merge %llu has a side or a result that is no token, which tokenizer.json "
                       "cannot say",
                       (unsigned long long)i);
    bool plain = !memchr(left.p, ' ', left.n) && !memchr(right.p, ' ', right.n);
    if (!plain) {
        jw_arr(&o->w, NULL);
        jw_str(&o->w, NULL, left);
        jw_str(&o->w, NULL, right);
        jw_end_arr(&o->w);
        return OK;
    }
    sb_clear(tmp);
    sb_put(tmp, left.p, left.n);
    sb_putc(tmp, ' ');
    sb_put(tmp, right.p, right.n);
    TRY(sb_check(tmp, o->e));
    jw_str(&o->w, NULL, (Slice){tmp->p, tmp->n});
    return OK;
}

static Status put_listed(Out *o, StrBuf *tmp) {
    const GgufKv *kv = tok__own_kv(o->t, TOK_KEY("merges"));
    size_t pos = 0;
    Slice s;
    for (uint64_t i = 0; kv && gguf_arr_next_str(kv, &pos, &s); i++) {
        const char *gap = memchr(s.p + 1, ' ', s.n - 1); /* loading has seen that it is there */
        size_t n = (size_t)(gap - s.p);
        TRY(put_merge(o, (Slice){s.p, n}, (Slice){gap + 1, s.n - n - 1}, i, tmp));
    }
    return OK;
}

/* The order in which merges apply: by rank, and where ranks are equal by the token and its sides. */
static int by_rank(const void *pa, const void *pb) {
    const Merge *a = pa, *b = pb;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return (a->pair > b->pair) - (a->pair < b->pair);
}

static Status put_scored(Out *o, StrBuf *tmp) {
    const MergeMap *m = &o->t->merges;
    Merge *v = mem_new_n(Merge, m->n);
    size_t n = 0;
    Status st = OK;
    if (!v) return tok__no_memory(o->e);
    for (size_t i = 0; i <= m->mask && n < m->n; i++)
        if (m->slots[i].pair != UINT64_MAX) v[n++] = m->slots[i];
    qsort(v, n, sizeof *v, by_rank);
    for (size_t i = 0; st == OK && i < n; i++) {
        Slice left = o->t->sym.text[v[i].pair >> 32], right = o->t->sym.text[(uint32_t)v[i].pair];
        /* a character that is no token alone begins as its bytes and merges with nothing */
        if (is_known(o->t, left) && is_known(o->t, right)) st = put_merge(o, left, right, i, tmp);
    }
    mem_free(v);
    return st;
}

static Status put_merges(Out *o) {
    StrBuf tmp = {0};
    jw_arr(&o->w, "merges");
    Status st = o->t->scores ? put_scored(o, &tmp) : put_listed(o, &tmp);
    jw_end_arr(&o->w);
    sb_deinit(&tmp);
    return st;
}

static Status put_model(Out *o) {
    const Tokenizer *t = o->t;
    bool unk = t->unk >= 0 && is_written(t, t->unk);
    put_type(&o->w, "model", "BPE");
    jw_null(&o->w, "dropout");
    if (unk) jw_str(&o->w, "unk_token", t->sym.text[t->unk]);
    else jw_null(&o->w, "unk_token");
    jw_null(&o->w, "continuing_subword_prefix");
    jw_null(&o->w, "end_of_word_suffix");
    jw_bool(&o->w, "fuse_unk", o->byte_tokens);
    jw_bool(&o->w, "byte_fallback", o->byte_tokens);
    jw_bool(&o->w, "ignore_merges", t->whole_words);
    TRY(put_vocab(o));
    TRY(put_merges(o));
    jw_end_obj(&o->w);
    return OK;
}

/* ---- how text is cut ---- */

static Status no_word(const Out *o, const char *what) {
    return err_set(o->e, ERR_UNSUPPORTED, "%s cannot be said in tokenizer.json", what);
}

/* Passes of the file, or of the name it gives them. */
static Status read_splits(Out *o) {
    const GgufKv *own = tok__own_kv(o->t, TOK_OWN("split"));
    Slice model = tok_meta_str(o->t, TOK_KEY("model")), name = tok_meta_str(o->t, TOK_KEY("pre")),
          s;
    size_t pos = 0;
    bool listed = slice_eq_str(model, "llama");
    HfCut *c = &o->cut;
    while (own && c->n_split < TOK_MAX_PASSES && gguf_arr_next_str(own, &pos, &s))
        sb_put(&c->split[c->n_split++], s.p, s.n);
    if (name.n == 0) name = slice_of(slice_eq_str(model, "gemma4") ? "gemma4" : "default");
    if (!own && !listed && !tok__pretok_splits(c, name)) return no_word(o, "this pre-tokenizer");
    for (int i = 0; i < c->n_split; i++) TRY(sb_check(&c->split[i], o->e));
    return OK;
}

static bool is_split(const Out *o, int i, const char *text) {
    return i >= 0 && i < o->cut.n_split && strcmp(sb_str(&o->cut.split[i]), text) == 0;
}

static Status put_split(Out *o, const char *split) {
    static const char *const modes[][2] = {{"isolated:", "Isolated"},
                                           {"removed:", "Removed"},
                                           {"with_previous:", "MergedWithPrevious"},
                                           {"with_next:", "MergedWithNext"},
                                           {"contiguous:", "Contiguous"}};
    const char *mode = NULL, *regex = NULL;
    bool invert = *split == '!';
    split += invert;
    if (str_starts_with(split, "scan:")) {
        mode = modes[0][1];
        regex = tok__hf_regex_of(split + sizeof "scan:" - 1);
    }
    for (size_t i = 0; i < COUNT_OF(modes) && !mode; i++) {
        if (!str_starts_with(split, modes[i][0])) continue;
        mode = modes[i][1];
        regex = split + strlen(modes[i][0]);
    }
    if (!mode || !regex) return no_word(o, "this pre-tokenizer");
    StrBuf text = {0};
    tok__put_pattern(&text, regex);
    put_type(&o->w, NULL, "Split");
    put_pattern(&o->w, "Regex", (Slice){sb_str(&text), text.n});
    jw_cstr(&o->w, "behavior", mode);
    jw_bool(&o->w, "invert", invert);
    jw_end_obj(&o->w);
    Status st = sb_check(&text, o->e);
    sb_deinit(&text);
    return st;
}

static Status put_pre_bytes(Out *o) {
    const Tokenizer *t = o->t;
    int n = o->cut.n_split;
    bool regex = is_split(o, n - 1, "scan:gpt2"), space = t->prefix != PREFIX_NONE;
    n -= regex;
    if (space && (n > 0 || t->prefix == PREFIX_SPACE))
        return no_word(o, "a space in front of bytes");
    if (n > 0) {
        put_type(&o->w, "pre_tokenizer", "Sequence");
        jw_arr(&o->w, "pretokenizers");
    }
    for (int i = 0; i < n; i++) TRY(put_split(o, sb_str(&o->cut.split[i])));
    put_type(&o->w, n > 0 ? NULL : "pre_tokenizer", "ByteLevel");
    jw_bool(&o->w, "add_prefix_space", space);
    jw_bool(&o->w, "trim_offsets", true);
    jw_bool(&o->w, "use_regex", regex);
    jw_end_obj(&o->w);
    if (n == 0) return OK;
    jw_end_arr(&o->w);
    jw_end_obj(&o->w);
    return OK;
}

/* Spaces become U+2581 in a Metaspace step, else in the normalizer. */
static bool has_metaspace(const Out *o) {
    return is_split(o, 0, "scan:space_each") || o->t->prefix == PREFIX_SPACE_IF_NONE;
}

static void put_metaspace(Out *o, const char *key) {
    const Tokenizer *t = o->t;
    put_type(&o->w, key, "Metaspace");
    jw_cstr(&o->w, "replacement", space_sign);
    jw_cstr(&o->w, "prepend_scheme",
            t->prefix == PREFIX_NONE ? "never"
            : t->prefix_first        ? "first"
                                     : "always");
    jw_bool(&o->w, "split", is_split(o, 0, "scan:space_each"));
    jw_end_obj(&o->w);
}

static Status put_pre_chars(Out *o) {
    bool meta = has_metaspace(o);
    int first = is_split(o, 0, "scan:space_each"), n = o->cut.n_split - first;
    if (n + meta == 0) {
        jw_null(&o->w, "pre_tokenizer");
        return OK;
    }
    if (n == 0) {
        put_metaspace(o, "pre_tokenizer");
        return OK;
    }
    put_type(&o->w, "pre_tokenizer", "Sequence");
    jw_arr(&o->w, "pretokenizers");
    if (meta) put_metaspace(o, NULL);
    for (int i = first; i < o->cut.n_split; i++) {
        if (is_split(o, i, "scan:space_each")) return no_word(o, "a cut before spaces here");
        TRY(put_split(o, sb_str(&o->cut.split[i])));
    }
    jw_end_arr(&o->w);
    jw_end_obj(&o->w);
    return OK;
}

static Status put_normalizer(Out *o) {
    static const char *const forms[] = {NULL, "NFC", "NFD", "NFKC", "NFKD"};
    const Tokenizer *t = o->t;
    const char *form = forms[t->form];
    bool signs = t->chars && !has_metaspace(o), prepend = signs && t->prefix == PREFIX_SPACE;
    if (t->chars && t->prefix == PREFIX_SPACE && (!signs || t->prefix_first))
        return no_word(o, "a space in front of each text here");
    if (!form && !signs) {
        jw_null(&o->w, "normalizer");
        return OK;
    }
    if (form && !signs) {
        put_type(&o->w, "normalizer", form);
        jw_end_obj(&o->w);
        return OK;
    }
    put_type(&o->w, "normalizer", "Sequence");
    jw_arr(&o->w, "normalizers");
    if (form) {
        put_type(&o->w, NULL, form);
        jw_end_obj(&o->w);
    }
    if (prepend) {
        put_type(&o->w, NULL, "Prepend");
        jw_cstr(&o->w, "prepend", space_sign);
        jw_end_obj(&o->w);
    }
    put_replace(&o->w, " ", space_sign);
    jw_end_arr(&o->w);
    jw_end_obj(&o->w);
    return OK;
}

/* ---- around a text ---- */

static void put_template_token(Out *o, int32_t id, int type_id) {
    if (id < 0) return;
    jw_obj(&o->w, NULL);
    jw_obj(&o->w, "SpecialToken");
    jw_str(&o->w, "id", o->t->sym.text[id]);
    jw_int(&o->w, "type_id", type_id);
    jw_end_obj(&o->w);
    jw_end_obj(&o->w);
}

static void put_sequence(Out *o, const char *name, int type_id) {
    put_template_token(o, o->t->bos, type_id);
    jw_obj(&o->w, NULL);
    jw_obj(&o->w, "Sequence");
    jw_cstr(&o->w, "id", name);
    jw_int(&o->w, "type_id", type_id);
    jw_end_obj(&o->w);
    jw_end_obj(&o->w);
    put_template_token(o, o->t->eos, type_id);
}

static void put_template_entry(Out *o, int32_t id, bool *any) {
    JsonW w;
    if (id < 0) return;
    if (*any) sb_putc(o->b, ',');
    *any = true;
    put_string(o->b, o->t->sym.text[id]);
    sb_putc(o->b, ':');
    jw_init(&w, o->b);
    jw_obj(&w, NULL);
    jw_str(&w, "id", o->t->sym.text[id]);
    jw_arr(&w, "ids");
    jw_int(&w, NULL, id);
    jw_end_arr(&w);
    jw_arr(&w, "tokens");
    jw_str(&w, NULL, o->t->sym.text[id]);
    jw_end_arr(&w);
    jw_end_obj(&w);
}

static void put_post(Out *o) {
    const Tokenizer *t = o->t;
    bool any = false;
    if (t->bos < 0 && t->eos < 0) {
        jw_null(&o->w, "post_processor");
        return;
    }
    put_type(&o->w, "post_processor", "TemplateProcessing");
    jw_arr(&o->w, "single");
    put_sequence(o, "A", 0);
    jw_end_arr(&o->w);
    jw_arr(&o->w, "pair");
    put_sequence(o, "A", 0);
    put_sequence(o, "B", 1);
    jw_end_arr(&o->w);
    jw_obj(&o->w, "special_tokens");
    put_template_entry(o, t->bos, &any);
    if (t->eos != t->bos) put_template_entry(o, t->eos, &any);
    jw_end_obj(&o->w);
    jw_end_obj(&o->w);
}

static void put_decoder(Out *o) {
    JsonW *w = &o->w;
    if (!o->t->chars) {
        put_type(w, "decoder", "ByteLevel");
        jw_bool(w, "add_prefix_space", true);
        jw_bool(w, "trim_offsets", true);
        jw_bool(w, "use_regex", true);
        jw_end_obj(w);
        return;
    }
    put_type(w, "decoder", "Sequence");
    jw_arr(w, "decoders");
    put_replace(w, space_sign, " ");
    put_type(w, NULL, "ByteFallback");
    jw_end_obj(w);
    put_type(w, NULL, "Fuse");
    jw_end_obj(w);
    if (o->t->prefix != PREFIX_NONE) {
        put_type(w, NULL, "Strip");
        jw_cstr(w, "content", " ");
        jw_int(w, "start", 1);
        jw_int(w, "stop", 0);
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

/* ---- the files ---- */

static Status put_all(Out *o) {
    TRY(read_splits(o));
    for (int32_t i = 0; i < o->t->n_vocab; i++) o->byte_tokens |= o->t->type[i] == TOK_BYTE;
    o->byte_tokens &= o->t->chars;
    jw_obj(&o->w, NULL);
    jw_cstr(&o->w, "version", "1.0");
    jw_null(&o->w, "truncation");
    jw_null(&o->w, "padding");
    put_added(o);
    TRY(put_normalizer(o));
    TRY(o->t->chars ? put_pre_chars(o) : put_pre_bytes(o));
    put_post(o);
    put_decoder(o);
    TRY(put_model(o));
    jw_end_obj(&o->w);
    sb_putc(o->b, '\n');
    return sb_check(o->b, o->e);
}

Status tok_format_json(StrBuf *b, const Tokenizer *t, Err *e) {
    Out o = {.t = t, .b = b, .e = e};
    jw_init(&o.w, b);
    Status st = put_all(&o);
    tok__hf_cut_deinit(&o.cut);
    return st;
}

/* The text of the token that a key names; what it is where there is no key. */
static void put_role(Out *o, const char *name, const char *key, int32_t usual) {
    const GgufKv *kv = tok__own_kv(o->t, key);
    int64_t id = kv && kv->type == GGUF_U32 && kv->v.u < INT32_MAX ? (int64_t)kv->v.u : usual;
    if (id < 0 || id >= o->t->n_vocab || !is_written(o->t, (int32_t)id)) jw_null(&o->w, name);
    else jw_str(&o->w, name, o->t->sym.text[id]);
}

static void put_decoder_list(Out *o) {
    char key[16];
    jw_obj(&o->w, "added_tokens_decoder");
    for (int32_t id = 0; id < o->t->n_vocab; id++) {
        if (!is_added(o->t, id)) continue;
        snprintf(key, sizeof key, "%ld", (long)id);
        jw_obj(&o->w, key);
        put_token(o, id, false);
        jw_end_obj(&o->w);
    }
    jw_end_obj(&o->w);
}

static void put_named(Out *o, Slice name, Slice text) {
    jw_obj(&o->w, NULL);
    jw_str(&o->w, "name", name);
    jw_str(&o->w, "template", text);
    jw_end_obj(&o->w);
}

/* One template as text, several as a list. */
static void put_templates(Out *o) {
    static const char head[] = "tokenizer.chat_template.";
    Slice first = tok_meta_str(o->t, "tokenizer.chat_template");
    bool several = false;
    for (size_t i = 0; i < o->t->n_kv; i++) {
        const GgufKv *kv = &o->t->kv[i];
        Slice name = kv->key;
        if (kv->type != GGUF_STR || name.n < sizeof head || memcmp(name.p, head, sizeof head - 1))
            continue;
        if (!several) jw_arr(&o->w, "chat_template");
        if (!several && first.n) put_named(o, slice_of("default"), first);
        several = true;
        put_named(o, (Slice){name.p + sizeof head - 1, name.n - (sizeof head - 1)}, kv->v.s);
    }
    if (several) jw_end_arr(&o->w);
    else if (first.n) jw_str(&o->w, "chat_template", first);
}

Status tok_format_json_config(StrBuf *b, const Tokenizer *t, int max_len, Err *e) {
    Out o = {.t = t, .b = b, .e = e};
    jw_init(&o.w, b);
    jw_obj(&o.w, NULL);
    jw_bool(&o.w, "add_bos_token", t->bos >= 0);
    jw_bool(&o.w, "add_eos_token", t->eos >= 0);
    put_decoder_list(&o);
    put_role(&o, "bos_token", TOK_KEY("bos_token_id"), t->bos);
    put_role(&o, "eos_token", TOK_KEY("eos_token_id"), t->eot);
    put_role(&o, "pad_token", TOK_KEY("padding_token_id"), -1);
    put_role(&o, "unk_token", TOK_KEY("unknown_token_id"), t->unk);
    put_templates(&o);
    jw_bool(&o.w, "clean_up_tokenization_spaces", false);
    jw_int(&o.w, "model_max_length", max_len);
    jw_cstr(&o.w, "tokenizer_class", "PreTrainedTokenizerFast");
    jw_end_obj(&o.w);
    return sb_check(b, e);
}
