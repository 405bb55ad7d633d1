/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens with a part to play: begin, end, unknown; those that end generation; those that are special
 * though the file says otherwise; those that eat white space around them. Files leave much of it out, so
 * known names are looked for, the same ones as llama.cpp looks for.
 */
#include "token/internal.h"

enum { ENDS = 1, CONTROL = 2 };

/* Tokens that are control tokens whatever the file says. */
static const struct {
    const char *name;
    uint8_t flags;
} known[] = {
    {"<|eot_id|>", ENDS},
    {"<|im_end|>", ENDS},
    {"<|end|>", ENDS},
    {"<|return|>", ENDS},
    {"<|call|>", ENDS},
    {"<|flush|>", ENDS},
    {"<|calls|>", ENDS},
    {"<end_of_turn>", ENDS},
    {"<|endoftext|>", ENDS},
    {"</s>", ENDS},
    {"<|eom_id|>", ENDS},
    {"<EOT>", ENDS},
    {"_<EOT>", ENDS},
    {"[EOT]", ENDS},
    {"[EOS]", ENDS},
    {"<|end_of_text|>", ENDS},
    {"<end_of_utterance>", ENDS},
    {"<eos>", ENDS},
    {"<turn|>", ENDS},
    {"<|tool_response>", ENDS},
    {"<\uff5cend\u2581of\u2581sentence\uff5c>", ENDS},
    {"[e~[", ENDS},
    {"<|fim_pad|>", ENDS},
    {"<fim-pad>", ENDS},
    {"<fim_pad>", ENDS},
    {"<PAD>", ENDS},
    {"[PAD]", ENDS},
    {"<|fim_repo|>", ENDS},
    {"<|repo_name|>", ENDS},
    {"<fim-repo>", ENDS},
    {"<REPO>", ENDS},
    {"<reponame>", ENDS},
    {"<|file_sep|>", ENDS},
    {"<|fim_prefix|>", CONTROL},
    {"<fim-prefix>", CONTROL},
    {"<fim_prefix>", CONTROL},
    {"<\uff5cfim\u2581begin\uff5c>", CONTROL},
    {"<PRE>", CONTROL},
    {"\u2581<PRE>", CONTROL},
    {"<|code_prefix|>", CONTROL},
    {"<|prefix|>", CONTROL},
    {"<|fim_suffix|>", CONTROL},
    {"<fim-suffix>", CONTROL},
    {"<fim_suffix>", CONTROL},
    {"<\uff5cfim\u2581hole\uff5c>", CONTROL},
    {"<SUF>", CONTROL},
    {"\u2581<SUF>", CONTROL},
    {"<|code_suffix|>", CONTROL},
    {"<|suffix|>", CONTROL},
    {"<|fim_middle|>", CONTROL},
    {"<fim-middle>", CONTROL},
    {"<fim_middle>", CONTROL},
    {"<\uff5cfim\u2581end\uff5c>", CONTROL},
    {"<MID>", CONTROL},
    {"\u2581<MID>", CONTROL},
    {"<|code_middle|>", CONTROL},
    {"<|middle|>", CONTROL},
};

static int32_t named(const Tokenizer *t, const char *name) { return tok_find(t, slice_of(name)); }
static bool has(const Tokenizer *t, const char *name) { return named(t, name) >= 0; }

static void set_type(Tokenizer *t, const char *name, TokType type) {
    int32_t id = named(t, name);
    if (id < 0) return;
    t->type[id] = (uint8_t)type;
    t->flags[id] &= (uint8_t)~TOK_NAMED;
    t->is_end[id] = false;
}

/* In a file that says what each token is, a name ends text only where it is a control token. */
static void read_known(Tokenizer *t) {
    static const char *const shown[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};
    bool exact = t->leftmost;
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        int32_t id = named(t, known[i].name);
        if (id < 0 || (exact && t->type[id] != TOK_CONTROL)) continue;
        if (t->type[id] != TOK_CONTROL) t->flags[id] |= TOK_NAMED;
        t->is_end[id] = known[i].flags & ENDS;
    }
    for (size_t i = 0; i < COUNT_OF(shown) && !exact; i++) set_type(t, shown[i], TOK_USER_DEFINED);
    /* here <|end|> closes a message, not the answer */
    bool harmony = has(t, "<|return|>") && has(t, "<|call|>");
    if (harmony || (has(t, "<|calls|>") && has(t, "<|flush|>")))
        set_type(t, "<|end|>", TOK_USER_DEFINED);
    if (has(t, "<|tool_response>")) set_type(t, "</s>", TOK_NORMAL);
}

/* ---- ids ---- */

/* An id that is -1 or all ones is none. */
/* An id outside the vocabulary counts as not given, as in llama.cpp: files in circulation have such. */
static Status read_id(int32_t *id, const Tokenizer *t, const Gguf *g, const char *key, Err *e) {
    int64_t usual = *id < t->n_vocab ? *id : -1, v = usual;
    TRY(gguf_opt_int(&v, g, key, -1, UINT32_MAX, e));
    if (v == UINT32_MAX) v = -1;
    *id = (int32_t)(v < t->n_vocab ? v : usual);
    return OK;
}

/* The id, or -1 unless it is to be added. */
static Status read_added(int32_t *id, const Tokenizer *t, const Gguf *g, bool add, const char *key,
                         const char *id_key, Err *e) {
    bool asked = false;
    (void)t;
    TRY(gguf_opt_bool(&asked, g, key, e));
    if (gguf_find(g, key)) add = asked;
    if (asked && *id < 0)
        return err_set(e, ERR_FORMAT, "%s: true, but there is no %s", key, id_key);
    if (!add) *id = -1;
    return OK;
}

/* More tokens that end generation than GGUF has words for. */
static Status read_ends(Tokenizer *t, const Gguf *g, Err *e) {
    const GgufKv *kv;
    if (!gguf_find(g, TOK_OWN("end_ids"))) return OK;
    TRY(gguf_get_arr(&kv, g, TOK_OWN("end_ids"), GGUF_I32, e));
    for (uint64_t i = 0; i < kv->v.arr.n; i++) {
        double id = gguf_arr_num(kv, i);
        if (id < 0 || id >= t->n_vocab) {
            return err_set(e, ERR_FORMAT, TOK_OWN("end_ids") ": id %g, the last token is %ld", id,
                           (long)t->n_vocab - 1);
        }
        t->is_end[(int32_t)id] = true;
    }
    return OK;
}

static Status read_ids(Tokenizer *t, const Gguf *g, bool add_bos, Err *e) {
    int32_t eot = -1, eom = -1;
    TRY(read_id(&t->bos, t, g, TOK_KEY("bos_token_id"), e));
    TRY(read_id(&t->eos, t, g, TOK_KEY("eos_token_id"), e));
    TRY(read_id(&t->unk, t, g, TOK_KEY("unknown_token_id"), e));
    TRY(read_id(&eot, t, g, TOK_KEY("eot_token_id"), e));
    TRY(read_id(&eom, t, g, TOK_KEY("eom_token_id"), e));
    if (t->eos >= 0) t->is_end[t->eos] = true;
    if (eot >= 0) t->is_end[eot] = true;
    if (eom >= 0) t->is_end[eom] = true;
    TRY(read_ends(t, g, e));
    t->eot = t->eos;
    TRY(read_added(&t->bos, t, g, add_bos, TOK_KEY("add_bos_token"), "bos_token_id", e));
    return read_added(&t->eos, t, g, false, TOK_KEY("add_eos_token"), "eos_token_id", e);
}

/* ---- white space around special tokens ---- */

/* True if s has word in it, letters of any case. */
static bool mentions(Slice s, const char *word) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.n; i++) {
        size_t k = 0;
        while (k < n &&
               (s.p[i + k] >= 'A' && s.p[i + k] <= 'Z' ? s.p[i + k] + 32 : s.p[i + k]) == word[k])
            k++;
        if (k == n) return true;
    }
    return false;
}

/* Phi-3's special tokens eat the white space behind them, with three exceptions. */
static void strip_phi3(Tokenizer *t) {
    static const char *const not_these[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (tok__is_special(t, id)) t->flags[id] = TOK_RSTRIP;
    for (size_t i = 0; i < COUNT_OF(not_these); i++) {
        int32_t id = tok_find(t, slice_of(not_these[i]));
        if (id >= 0) t->flags[id] = 0;
    }
}

/* Ids of a list in the file. */
static Status read_strip_list(Tokenizer *t, const Gguf *g, const char *key, uint8_t flag, Err *e) {
    const GgufKv *kv;
    if (!gguf_find(g, key)) return OK;
    TRY(gguf_get_arr(&kv, g, key, GGUF_I32, e));
    for (uint64_t i = 0; i < kv->v.arr.n; i++) {
        double id = gguf_arr_num(kv, i);
        if (id < 0 || id >= t->n_vocab) {
            return err_set(e, ERR_FORMAT, "%s: id %g, the last token is %ld", key, id,
                           (long)t->n_vocab - 1);
        }
        t->flags[(int32_t)id] |= flag;
    }
    return OK;
}

/* Write the flags down, so that a saved tokenizer keeps what the model's name told. */
static Status keep_rstrip(Tokenizer *t, Err *e) {
    GgufKv *kv = mem_realloc_n(t->kv, t->n_kv + 1, sizeof *kv);
    if (!kv) return tok__no_memory(e);
    t->kv = kv;
    int32_t *ids = arena_new_n(&t->mem, int32_t, (size_t)t->n_vocab), n = 0;
    if (!ids) return tok__no_memory(e);
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (t->flags[id] & TOK_RSTRIP) ids[n++] = id;
    kv += t->n_kv++;
    *kv = (GgufKv){.key = slice_of(TOK_OWN("rstrip")), .type = GGUF_ARR};
    kv->v.arr.type = GGUF_I32;
    kv->v.arr.n = (uint64_t)n;
    kv->v.arr.bytes = (Slice){(const char *)ids, (size_t)n * sizeof *ids};
    return OK;
}

static Status read_strips(Tokenizer *t, const Gguf *g, Err *e) {
    Slice name = {0}, pre = {0};
    TRY(gguf_opt_str(&name, g, "general.name", e));
    TRY(gguf_opt_str(&pre, g, TOK_KEY("pre"), e));
    TRY(read_strip_list(t, g, TOK_OWN("lstrip"), TOK_LSTRIP, e));
    TRY(read_strip_list(t, g, TOK_OWN("rstrip"), TOK_RSTRIP, e));
    int32_t mask = tok_find(t, slice_of("<mask>"));
    if (mask >= 0 && mentions(pre, "jina-v2-")) t->flags[mask] |= TOK_LSTRIP;
    bool phi3 = mentions(name, "phi-3") || mentions(name, "phi3");
    if (!phi3 || gguf_find(g, TOK_OWN("rstrip"))) return OK;
    strip_phi3(t);
    return keep_rstrip(t, e);
}

static Status read_specials(Tokenizer *t, Err *e) {
    for (int32_t i = 0; i < t->n_vocab; i++) {
        Slice text = t->sym.text[i];
        if (!tok__is_special(t, i) || tok_find(t, text) != i) continue;
        if (text.n > TOK_MAX_SPECIAL) {
            return err_set(e, ERR_FORMAT,
                           TOK_KEY("tokens") ": special token %ld has %zu bytes, limit %d", (long)i,
                           text.n, (int)TOK_MAX_SPECIAL);
        }
        if (!tok__specials_add(&t->specials, text, i)) return tok__no_memory(e);
    }
    tok__specials_close(&t->specials, t);
    return OK;
}

Status tok__read_roles(Tokenizer *t, const Gguf *g, bool add_bos, Err *e) {
    read_known(t);
    TRY(read_ids(t, g, add_bos, e));
    TRY(read_strips(t, g, e));
    return read_specials(t, e);
}
