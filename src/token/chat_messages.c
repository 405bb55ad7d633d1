/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages as HTTP APIs carry them, written anew as a template wants them. The copy is made as JSON text, which is
 * parsed: what a rendering sees is then checked like everything else that comes from outside.
 */
#include "token/chat_internal.h"

typedef struct Copy {
    JsonW w;
    const ChatCaps *caps;
    size_t i_message;
    Err *e;
} Copy;

static Status put_value(Copy *c, const char *key, const Json *v);

static Status too_deep(Copy *c) {
    return err_set(c->e, ERR_ARG, "message %zu is nested deeper than %d", c->i_message,
                   (int)JSON_MAX_DEPTH);
}

/* A number stays of its kind, 2.0 is no 2 to a template: ".0" behind digits that follow a bracket, colon or comma. */
static void put_real(JsonW *w, const char *key, double v) {
    jw_num(w, key, v);
    const char *p = sb_str(w->b) + w->b->n;
    size_t n = 0;
    while (n < w->b->n && strchr("0123456789-", p[-1 - (ptrdiff_t)n])) n++;
    char stop = n < w->b->n ? p[-1 - (ptrdiff_t)n] : ':';
    if (n > 0 && strchr("[:,", stop)) sb_puts(w->b, ".0");
}

static Status put_array(Copy *c, const char *key, const Json *v) {
    if (c->w.depth + 1 >= JSON_MAX_DEPTH) return too_deep(c);
    jw_arr(&c->w, key);
    for (size_t i = 0; i < json_len(v); i++) TRY(put_value(c, NULL, json_at(v, i)));
    jw_end_arr(&c->w);
    return OK;
}

typedef Status (*PutFn)(Copy *c, const char *key, const Json *v);

/* An object, its member `special` written by put. */
static Status put_object(Copy *c, const char *key, const Json *v, const char *special, PutFn put) {
    Slice name = {0};
    const Json *m = NULL;
    if (c->w.depth + 1 >= JSON_MAX_DEPTH) return too_deep(c);
    jw_obj(&c->w, key);
    for (void *it = json_next(v, NULL, &name, &m); it; it = json_next(v, it, &name, &m)) {
        char *copy = mem_dup(name.p, name.n);
        if (!copy) return err_set(c->e, ERR_NOMEM, "messages");
        bool is_special = special && strcmp(copy, special) == 0;
        Status st = (is_special ? put : put_value)(c, copy, m);
        mem_free(copy);
        TRY(st);
    }
    jw_end_obj(&c->w);
    return OK;
}

static Status put_value(Copy *c, const char *key, const Json *v) {
    switch (json_kind(v)) {
    case JSON_KIND_NULL: jw_null(&c->w, key); break;
    case JSON_KIND_BOOL: jw_bool(&c->w, key, json_bool(v)); break;
    case JSON_KIND_INT: jw_int(&c->w, key, json_int(v)); break;
    case JSON_KIND_REAL: put_real(&c->w, key, json_num(v)); break;
    case JSON_KIND_STR: jw_str(&c->w, key, json_str(v)); break;
    case JSON_KIND_ARRAY: return put_array(c, key, v);
    case JSON_KIND_OBJECT: return put_object(c, key, v, NULL, NULL);
    }
    return OK;
}

/* ---- tool calls ---- */

/* A JSON text as the object it holds; other texts stay texts. */
static Status put_args_object(Copy *c, const char *key, const Json *v) {
    Json *parsed = NULL;
    Slice text = json_str(v);
    Status st = json_parse(&parsed, text.n ? text : slice_of("{}"), NULL);
    if (st == OK && json_is_object(parsed)) st = put_value(c, key, parsed);
    else st = put_value(c, key, v);
    json_free(parsed);
    return st;
}

static Status put_args_text(Copy *c, const char *key, const Json *v) {
    StrBuf b = {0};
    Copy inner = *c;
    jw_init(&inner.w, &b);
    Status st = put_value(&inner, NULL, v);
    if (st == OK) st = sb_check(&b, c->e);
    if (st == OK) jw_str(&c->w, key, (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
    return st;
}

static Status put_args(Copy *c, const char *key, const Json *v) {
    if (json_is_str(v) && c->caps->object_args) return put_args_object(c, key, v);
    if (json_is_object(v) && !c->caps->object_args) return put_args_text(c, key, v);
    return put_value(c, key, v);
}

static Status put_function(Copy *c, const char *key, const Json *v) {
    if (!json_is_object(v))
        return err_set(c->e, ERR_ARG, "message %zu: function of a tool call is not an object",
                       c->i_message);
    return put_object(c, key, v, "arguments", put_args);
}

static Status put_calls(Copy *c, const char *key, const Json *v) {
    if (!json_is_array(v)) return put_value(c, key, v);
    jw_arr(&c->w, key);
    for (size_t i = 0; i < json_len(v); i++) {
        const Json *call = json_at(v, i);
        if (!json_is_object(call))
            return err_set(c->e, ERR_ARG, "message %zu: tool call %zu is not an object",
                           c->i_message, i);
        bool flat = json_get(call, "function") == NULL;
        TRY(put_object(c, NULL, call, flat ? "arguments" : "function",
                       flat ? put_args : put_function));
    }
    jw_end_arr(&c->w);
    return OK;
}

/* ---- content ---- */

static Status join_parts(Copy *c, StrBuf *b, const Json *parts) {
    for (size_t i = 0; i < json_len(parts); i++) {
        const Json *part = json_at(parts, i), *text = json_get(part, "text");
        Slice type = json_str(json_get(part, "type"));
        if (!json_is_str(text))
            return err_set(c->e, ERR_ARG, "message %zu: part %zu is of type '%.*s', wanted text",
                           c->i_message, i, (int)MIN(type.n, 40), type.n ? type.p : "");
        if (i) sb_putc(b, '\n');
        sb_put(b, json_str(text).p, json_str(text).n);
    }
    return sb_check(b, c->e);
}

static Status put_parts(Copy *c, const char *key, const Json *parts) {
    StrBuf b = {0};
    Status st = join_parts(c, &b, parts);
    if (st == OK && c->caps->parts) st = put_value(c, key, parts);
    else if (st == OK) jw_str(&c->w, key, (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
    return st;
}

static Status put_content(Copy *c, const char *key, const Json *v) {
    if (json_is_array(v)) return put_parts(c, key, v);
    if (!json_is_str(v) || c->caps->texts || !c->caps->parts) return put_value(c, key, v);
    jw_arr(&c->w, key);
    jw_obj(&c->w, NULL);
    jw_cstr(&c->w, "type", "text");
    jw_str(&c->w, "text", json_str(v));
    jw_end_obj(&c->w);
    jw_end_arr(&c->w);
    return OK;
}

/* Of a message with calls: no text is null or "", whichever the template takes. */
static Status put_call_content(Copy *c, const char *key, const Json *v) {
    bool none = json_kind(v) == JSON_KIND_NULL || (json_is_str(v) && json_str(v).n == 0);
    if (!none) return put_content(c, key, v);
    bool null = json_kind(v) == JSON_KIND_NULL ? c->caps->null_content || !c->caps->empty_content
                                               : c->caps->null_content && !c->caps->empty_content;
    if (null) jw_null(&c->w, key);
    else jw_cstr(&c->w, key, "");
    return OK;
}

static Status put_message(Copy *c, const Json *m) {
    Slice name = {0};
    const Json *v = NULL;
    bool calls = json_len(json_get(m, "tool_calls")) > 0, has_content = false;
    jw_obj(&c->w, NULL);
    for (void *it = json_next(m, NULL, &name, &v); it; it = json_next(m, it, &name, &v)) {
        bool is_content = slice_eq_str(name, "content");
        has_content |= is_content;
        PutFn put = is_content                         ? (calls ? put_call_content : put_content)
                    : slice_eq_str(name, "tool_calls") ? put_calls
                                                       : put_value;
        char *key = mem_dup(name.p, name.n);
        if (!key) return err_set(c->e, ERR_NOMEM, "messages");
        Status st = put(c, key, v);
        mem_free(key);
        TRY(st);
    }
    if (calls && !has_content) TRY(put_call_content(c, "content", NULL));
    jw_end_obj(&c->w);
    return OK;
}

static Status put_messages(Copy *c, const Json *messages) {
    jw_arr(&c->w, NULL);
    for (; c->i_message < json_len(messages); c->i_message++) {
        const Json *m = json_at(messages, c->i_message);
        if (!json_is_object(m))
            return err_set(c->e, ERR_ARG, "message %zu is not an object", c->i_message);
        TRY(put_message(c, m));
    }
    jw_end_arr(&c->w);
    return OK;
}

Status chat_messages(Json **out, const Chat *c, const Json *messages, Err *e) {
    StrBuf b = {0};
    Copy copy = {.caps = &c->caps, .e = e};
    if (!json_is_array(messages)) return err_set(e, ERR_ARG, "messages are not an array");
    jw_init(&copy.w, &b);
    Status st = put_messages(&copy, messages);
    if (st == OK) st = sb_check(&b, e);
    if (st == OK) st = json_parse(out, (Slice){sb_str(&b), b.n}, e);
    sb_deinit(&b);
    return st;
}
