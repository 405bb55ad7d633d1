/* SPDX-License-Identifier: Apache-2.0
 *
 * Which template a model has, and the variables it sees: those that Transformers gives, and the caller's own.
 */
#include "token/chat.h"

#include "token/internal.h"

#define TEMPLATE_KEY "tokenizer.chat_template"

static const char chatml[] =
    "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
static const char plain[] = "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}"
                            "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";

struct Chat {
    ChatKind kind;
    Jinja *usual, *tool_use; /* owned; tool_use NULL: the usual one */
    Json *words;             /* owned: [true, false, null] */
    char *bos, *eos;         /* owned */
};

enum { WORD_TRUE, WORD_FALSE, WORD_NULL };

/* The text of the token that a key of the metadata names; empty if there is none. */
static char *token_text(const Tokenizer *t, const char *key) {
    const GgufKv *kv = t ? tok__own_kv(t, key) : NULL;
    Slice s = {"", 0};
    if (kv && (kv->type == GGUF_U32 || kv->type == GGUF_U64) && kv->v.u < (uint64_t)t->n_vocab)
        s = tok_text(t, (int32_t)kv->v.u);
    if (kv && (kv->type == GGUF_I32 || kv->type == GGUF_I64) && kv->v.i >= 0 &&
        kv->v.i < t->n_vocab)
        s = tok_text(t, (int32_t)kv->v.i);
    return mem_dup(s.p, s.n);
}

static Status fill(Chat *c, Slice source, Slice tool_use, const Tokenizer *tok, Err *e) {
    c->bos = token_text(tok, TOK_KEY("bos_token_id"));
    c->eos = token_text(tok, TOK_KEY("eos_token_id"));
    if (!c->bos || !c->eos) return err_set(e, ERR_NOMEM, "chat template");
    TRY(json_parse(&c->words, slice_of("[true,false,null]"), e));
    TRY(jinja_parse(&c->usual, source, e));
    return tool_use.n ? jinja_parse(&c->tool_use, tool_use, e) : OK;
}

static Status make(Chat **out, ChatKind kind, Slice source, Slice tool_use, const Tokenizer *tok,
                   Err *e) {
    Chat *c = mem_new(Chat);
    if (!c) return err_set(e, ERR_NOMEM, "chat template");
    c->kind = kind;
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
    mem_free(c->bos);
    mem_free(c->eos);
    mem_free(c);
}

ChatKind chat_kind(const Chat *c) { return c->kind; }

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
    if (q->vars && !json_is_object(q->vars))
        return err_set(e, ERR_ARG, "variables are not an object");
    return OK;
}

/* The caller's variables as rows behind the n that are there; names are copied into the arena. */
static Status add_vars(JinjaVar **v, int *n, Arena *mem, const Json *vars, Err *e) {
    Slice key = {0};
    const Json *value = NULL;
    JinjaVar *all = arena_new_n(mem, JinjaVar, (size_t)*n + json_len(vars));
    if (!all) return err_set(e, ERR_NOMEM, "chat template");
    memcpy(all, *v, (size_t)*n * sizeof *all);
    *v = all;
    for (void *it = json_next(vars, NULL, &key, &value); it;
         it = json_next(vars, it, &key, &value)) {
        char *name = arena_dup(mem, key.p, key.n);
        if (!name) return err_set(e, ERR_NOMEM, "chat template");
        all[(*n)++] = (JinjaVar){.name = name, .json = value};
    }
    return OK;
}

Status chat_render(StrBuf *out, JinjaSpans *spans, const Chat *c, const ChatReq *q, Err *e) {
    const Json *null = json_at(c->words, WORD_NULL);
    JinjaVar fixed[] = {
        {.name = "messages", .json = q->messages},
        {.name = "tools", .json = q->tools ? q->tools : null},
        {.name = "documents", .json = null},
        {.name = "add_generation_prompt",
         .json = json_at(c->words, q->add_prompt ? WORD_TRUE : WORD_FALSE)},
        {.name = "bos_token", .text = slice_of(c->bos)},
        {.name = "eos_token", .text = slice_of(c->eos)},
    };
    JinjaVar *vars = fixed;
    int n = (int)COUNT_OF(fixed);
    JinjaOpts o = {.now_s = q->now_s};
    Arena mem;
    TRY(check(q, e));
    arena_init(&mem, 4096);
    Status st = add_vars(&vars, &n, &mem, q->vars, e);
    const Jinja *t = q->tools && c->tool_use ? c->tool_use : c->usual;
    if (st == OK) st = jinja_render(out, spans, t, vars, n, &o, e);
    arena_deinit(&mem);
    return st;
}

Status chat_encode(TokBuf *out, const Chat *c, const Tokenizer *tok, const ChatReq *req, Err *e) {
    StrBuf text = {0};
    Status st = chat_render(&text, NULL, c, req, e);
    int32_t bos = tok_bos(tok);
    size_t n = strlen(c->bos);
    bool has = n > 0 && text.n >= n && memcmp(text.p, c->bos, n) == 0;
    if (st == OK && bos >= 0 && !has) tokbuf_push(out, bos);
    if (st == OK) st = tok_encode(tok, (Slice){sb_str(&text), text.n}, true, out, e);
    sb_deinit(&text);
    return st;
}
