/* SPDX-License-Identifier: Apache-2.0
 *
 * Which template a model has, and the variables it sees: those that Transformers gives, and the caller's own.
 */
#include "token/chat_internal.h"
#include "token/internal.h"

#define TEMPLATE_KEY "tokenizer.chat_template"

static const char chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
static const char plain[] = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}"
                            "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

/* The special tokens that templates see, where a model has them. */
static const struct {
    const char *name, *key;
    bool always; /* empty where a model has none */
} specials[CHAT_N_SPECIALS] = {
    {"bos_token", TOK_KEY("bos_token_id"), true},
    {"eos_token", TOK_KEY("eos_token_id"), true},
    {"unk_token", TOK_KEY("unknown_token_id"), false},
    {"pad_token", TOK_KEY("padding_token_id"), false},
    {"sep_token", TOK_KEY("seperator_token_id"), false},
    {"cls_token", TOK_KEY("cls_token_id"), false},
    {"mask_token", TOK_KEY("mask_token_id"), false},
};
enum { SPECIAL_BOS };

enum { WORD_TRUE, WORD_FALSE, WORD_NULL };

/* The id that a key of the metadata gives, or -1. */
static int64_t token_id(const Tokenizer *t, const char *key) {
    const GgufKv *kv = t ? tok__own_kv(t, key) : NULL;
    int64_t id = -1;
    if (kv && (kv->type == GGUF_U32 || kv->type == GGUF_U64))
        id = kv->v.u <= INT32_MAX ? (int64_t)kv->v.u : -1;
    if (kv && (kv->type == GGUF_I32 || kv->type == GGUF_I64)) id = kv->v.i;
    return id < (t ? t->n_vocab : 0) ? id : -1;
}

static Status read_specials(Chat *c, const Tokenizer *tok, Err *e) {
    for (int i = 0; i < CHAT_N_SPECIALS; i++) {
        int64_t id = token_id(tok, specials[i].key);
        Slice s = id >= 0 ? tok_text(tok, (int32_t)id) : (Slice){"", 0};
        if (id < 0 && !specials[i].always) continue;
        c->special[i] = mem_dup(s.p, s.n);
        if (!c->special[i]) return err_set(e, ERR_NOMEM, "chat template");
    }
    return OK;
}

static ChatCalls find_calls(Slice s) {
    if (slice_has(s, "tool\xe2\x96\x81"
                     "calls"))
        return CHAT_CALLS_DEEPSEEK;
    if (slice_has(s, "<tool_call>")) return CHAT_CALLS_TAGS;
    if (slice_has(s, "python_tag") || slice_has(s, "\"parameters\"")) return CHAT_CALLS_BARE;
    return CHAT_CALLS_TAGS;
}

static Status fill(Chat *c, Slice source, Slice tool_use, const Tokenizer *tok, Err *e) {
    TRY(read_specials(c, tok, e));
    TRY(json_parse(&c->words, slice_of("[true,false,null]"), e));
    TRY(jinja_parse(&c->usual, source, e));
    if (tool_use.n) TRY(jinja_parse(&c->tool_use, tool_use, e));
    c->marks = tok__chat_marks(source, tok);
    TRY(tok__chat_probe(&c->caps, c, e));
    c->caps.calls = find_calls(tool_use.n ? tool_use : source);
    return tok ? tok__chat_probe_end(&c->end_id, c, tok, e) : OK;
}

static Status make(Chat **out, ChatKind kind, Slice source, Slice tool_use, const Tokenizer *tok,
                   Err *e) {
    Chat *c = mem_new(Chat);
    if (!c) return err_set(e, ERR_NOMEM, "chat template");
    c->kind = kind;
    c->end_id = -1;
    Status st = fill(c, source, tool_use, tok, e);
    if (st == OK) *out = c;
    else chat_free(c);
    return st;
}

Status chat_new_text(Chat **out, Slice source, const Tokenizer *tok, Err *e) {
    return make(out, CHAT_OWN, source, (Slice){0}, tok, e);
}

Status chat_new(Chat **out, const Tokenizer *tok, Err *e) {
    Slice own = tok_meta_str(tok, TEMPLATE_KEY);
    Slice tools = tok_meta_str(tok, TEMPLATE_KEY ".tool_use");
    bool has_marks =
        tok_find(tok, slice_of("<|im_start|>")) >= 0 && tok_find(tok, slice_of("<|im_end|>")) >= 0;
    if (own.n) {
        Status st = make(out, CHAT_OWN, own, tools, tok, e);
        if (st != OK && e) err_in(e, TEMPLATE_KEY);
        return st;
    }
    if (has_marks) return make(out, CHAT_CHATML, slice_of(chatml), (Slice){0}, tok, e);
    return make(out, CHAT_PLAIN, slice_of(plain), (Slice){0}, tok, e);
}

void chat_free(Chat *c) {
    if (!c) return;
    jinja_free(c->usual);
    jinja_free(c->tool_use);
    json_free(c->words);
    for (int i = 0; i < CHAT_N_SPECIALS; i++) mem_free(c->special[i]);
    mem_free(c);
}

ChatKind chat_kind(const Chat *c) { return c->kind; }
const ChatCaps *chat_caps(const Chat *c) { return &c->caps; }
int32_t chat_end_id(const Chat *c) { return c->end_id; }

const char *chat_describe(const Chat *c) {
    static const char *const words[] = {
        [CHAT_OWN] = "the model's own chat template",
        [CHAT_CHATML] = "no chat template in the model: <|im_start|>, whose tokens it has",
        [CHAT_PLAIN] = "no chat template in the model: plain text, \"user: ...\""};
    return words[c->kind];
}

static Status check(const ChatReq *q, Err *e) {
    if (!json_is_array(q->messages)) return err_set(e, ERR_ARG, "messages are not an array");
    for (size_t i = 0; i < json_len(q->messages); i++)
        if (!json_is_object(json_at(q->messages, i)))
            return err_set(e, ERR_ARG, "message %zu is not an object", i);
    if (q->tools && !json_is_array(q->tools)) return err_set(e, ERR_ARG, "tools are not an array");
    if (q->documents && !json_is_array(q->documents))
        return err_set(e, ERR_ARG, "documents are not an array");
    if (q->vars && !json_is_object(q->vars))
        return err_set(e, ERR_ARG, "variables are not an object");
    return OK;
}

/* The special tokens and the caller's variables as rows behind the n that are there; names are copied into the arena. */
static Status add_vars(JinjaVar **v, int *n, Arena *mem, const Chat *c, const Json *vars, Err *e) {
    Slice key = {0};
    const Json *value = NULL;
    JinjaVar *all = arena_new_n(mem, JinjaVar, (size_t)*n + CHAT_N_SPECIALS + json_len(vars));
    if (!all) return err_set(e, ERR_NOMEM, "chat template");
    memcpy(all, *v, (size_t)*n * sizeof *all);
    *v = all;
    for (int i = 0; i < CHAT_N_SPECIALS; i++)
        if (c->special[i])
            all[(*n)++] = (JinjaVar){.name = specials[i].name, .text = slice_of(c->special[i])};
    for (void *it = json_next(vars, NULL, &key, &value); it;
         it = json_next(vars, it, &key, &value)) {
        char *name = arena_dup(mem, key.p, key.n);
        if (!name) return err_set(e, ERR_NOMEM, "chat template");
        all[(*n)++] = (JinjaVar){.name = name, .json = value};
    }
    return OK;
}

static Status render(StrBuf *out, JinjaSpans *spans, const Chat *c, const ChatReq *q, Err *e) {
    const Json *null = json_at(c->words, WORD_NULL);
    JinjaVar fixed[] = {
        {.name = "messages", .json = q->messages},
        {.name = "tools", .json = q->tools ? q->tools : null},
        {.name = "documents", .json = q->documents ? q->documents : null},
        {.name = "add_generation_prompt",
         .json = json_at(c->words, q->add_prompt ? WORD_TRUE : WORD_FALSE)},
    };
    JinjaVar *vars = fixed;
    int n = (int)COUNT_OF(fixed);
    Arena mem;
    arena_init(&mem, 4096);
    Status st = add_vars(&vars, &n, &mem, c, q->vars, e);
    const Jinja *t = q->tools && c->tool_use ? c->tool_use : c->usual;
    if (st == OK) st = jinja_render(out, spans, t, vars, n, &q->opts, e);
    arena_deinit(&mem);
    return st;
}

/* ---- the last message goes on ---- */

/* The text of the last message: its content, or the last part of it that is a text. */
static Slice last_text(const Json *messages) {
    size_t n = json_len(messages);
    const Json *content = n ? json_get(json_at(messages, n - 1), "content") : NULL;
    for (size_t i = json_len(content); json_is_array(content) && i-- > 0;) {
        const Json *text = json_get(json_at(content, i), "text");
        if (json_is_str(text)) return json_str(text);
    }
    return json_str(content);
}

static Slice strip(Slice s) {
    while (s.n && strchr(" \t\n\r\f\v", s.p[0]) && s.p[0]) s = (Slice){s.p + 1, s.n - 1};
    while (s.n && strchr(" \t\n\r\f\v", s.p[s.n - 1]) && s.p[s.n - 1]) s.n--;
    return s;
}

/* Take off what the template wrote behind the last message, white space at its end included where the template
 * dropped it. */
static Status cut_behind(StrBuf *out, size_t from, Slice text, Err *e) {
    Slice bare = strip(text);
    if (bare.n == 0) return err_set(e, ERR_ARG, "the last message has no text to go on from");
    for (size_t at = out->n; at >= from + bare.n; at--) {
        if (memcmp(out->p + at - bare.n, bare.p, bare.n) != 0) continue;
        size_t tail = (size_t)(text.p + text.n - (bare.p + bare.n));
        bool kept = text.p == bare.p && tail <= out->n - at &&
                    memcmp(out->p + at, bare.p + bare.n, tail) == 0;
        out->n = at + (kept ? tail : 0);
        return OK;
    }
    return err_set(e, ERR_ARG, "the template does not write the last message, which is to go on");
}

Status chat_render(StrBuf *out, JinjaSpans *spans, const Chat *c, const ChatReq *q, Err *e) {
    size_t from = out->n;
    if (q->continue_last && q->add_prompt)
        return err_set(e, ERR_ARG, "an answer cannot both begin and go on");
    TRY(check(q, e));
    TRY(render(out, spans, c, q, e));
    Status st = q->continue_last ? cut_behind(out, from, last_text(q->messages), e) : OK;
    if (st != OK) out->n = from;
    if (out->p) out->p[out->n] = 0;
    return st;
}

Status chat_encode_text(TokBuf *out, const Chat *c, const Tokenizer *tok, Slice text, Err *e) {
    const char *word = c->special[SPECIAL_BOS];
    size_t n = strlen(word);
    bool has = n > 0 && text.n >= n && memcmp(text.p, word, n) == 0;
    if (tok_bos(tok) >= 0 && !has) tokbuf_push(out, tok_bos(tok));
    return tok_encode(tok, text, true, out, e);
}

Status chat_encode(TokBuf *out, const Chat *c, const Tokenizer *tok, const ChatReq *req, Err *e) {
    StrBuf text = {0};
    Status st = chat_render(&text, NULL, c, req, e);
    if (st == OK) st = chat_encode_text(out, c, tok, (Slice){sb_str(&text), text.n}, e);
    sb_deinit(&text);
    return st;
}
