/* SPDX-License-Identifier: Apache-2.0
 * Conversations as clients send them, made into what chat templates read: parts of text are joined, arguments of
 * earlier tool calls become objects, "developer" is the system. */
#include "server/prepare.h"

#include <stdio.h>

/* ---- content ---- */

static bool is_text_part(Slice type) {
    return slice_eq_str(type, "text") || slice_eq_str(type, "input_text") ||
           slice_eq_str(type, "output_text") || slice_eq_str(type, "refusal");
}

static Status join_parts(StrBuf *out, const Json *parts, size_t at, Err *e) {
    for (size_t i = 0; i < json_len(parts); i++) {
        const Json *p = json_at(parts, i), *text = json_get(p, "text");
        Slice type = json_str(json_get(p, "type"));
        if (!text) text = json_get(p, "refusal");
        if (!json_is_str(p) && type.n > 0 && !is_text_part(type))
            return err_set(
                e, ERR_UNSUPPORTED,
                "messages: [%zu].content[%zu] is of type \"%.*s\"; this model reads text", at, i,
                (int)MIN(type.n, 40), type.p);
        if (!json_is_str(p) && !json_is_str(text))
            return err_set(e, ERR_ARG, "messages: [%zu].content[%zu] has no text", at, i);
        Slice s = json_str(json_is_str(p) ? p : text);
        if (i > 0) sb_putc(out, '\n');
        sb_put(out, s.p, s.n);
    }
    return OK;
}

static Status put_content(JsonW *w, const Json *v, size_t at, Err *e) {
    StrBuf text = {0};
    if (json_is_str(v) || json_kind(v) == JSON_KIND_NULL) {
        jw_json(w, "content", v);
        return OK;
    }
    if (!json_is_array(v))
        return err_set(e, ERR_ARG, "messages: [%zu].content: a string or a list of parts is needed",
                       at);
    Status st = join_parts(&text, v, at, e);
    if (st == OK) jw_str(w, "content", (Slice){sb_str(&text), text.n});
    sb_deinit(&text);
    return st;
}

/* ---- calls of earlier turns ---- */

/* Arguments are a string of JSON on the wire and an object in templates. */
static void put_arguments(JsonW *w, const Json *v) {
    Json *parsed = NULL;
    if (json_is_str(v) && json_parse(&parsed, json_str(v), NULL) == OK && json_is_object(parsed))
        jw_json(w, "arguments", parsed);
    else jw_json(w, "arguments", v);
    json_free(parsed);
}

static void put_function(JsonW *w, const Json *f) {
    Slice key;
    const Json *v;
    jw_obj(w, "function");
    for (void *it = NULL; (it = json_next(f, it, &key, &v));) {
        if (slice_eq_str(key, "arguments")) put_arguments(w, v);
        else jw_json(w, key.p, v);
    }
    jw_end_obj(w);
}

static void put_calls(JsonW *w, const Json *calls) {
    jw_arr(w, "tool_calls");
    for (size_t i = 0; i < json_len(calls); i++) {
        Slice key;
        const Json *v, *call = json_at(calls, i);
        jw_obj(w, NULL);
        for (void *it = NULL; (it = json_next(call, it, &key, &v));) {
            if (slice_eq_str(key, "function") && json_is_object(v)) put_function(w, v);
            else jw_json(w, key.p, v);
        }
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

/* ---- messages ---- */

static Status put_message(JsonW *w, const Json *m, size_t at, Err *e) {
    Slice key, role = json_str(json_get(m, "role"));
    const Json *v;
    if (!json_is_object(m)) return err_set(e, ERR_ARG, "messages: [%zu] is no object", at);
    if (role.n == 0) return err_set(e, ERR_ARG, "messages: [%zu].role: a string is needed", at);
    jw_obj(w, NULL);
    for (void *it = NULL; (it = json_next(m, it, &key, &v));) {
        if (slice_eq_str(key, "content")) TRY(put_content(w, v, at, e));
        else if (slice_eq_str(key, "role") && slice_eq_str(role, "developer"))
            jw_cstr(w, "role", "system");
        else if (slice_eq_str(key, "tool_calls") && json_is_array(v)) {
            if (json_len(v) > 0) put_calls(w, v);
        } else if (json_kind(v) != JSON_KIND_NULL) jw_json(w, key.p, v);
    }
    jw_end_obj(w);
    return OK;
}

/* {"messages", "tools"?, "vars"} as templates read them. */
static Status normalize(StrBuf *b, const Job *j, Err *e) {
    const ApiRequest *q = &j->q;
    Slice key;
    const Json *v;
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_arr(&w, "messages");
    for (size_t i = 0; i < json_len(q->messages); i++)
        TRY(put_message(&w, json_at(q->messages, i), i, e));
    jw_end_arr(&w);
    jw_obj(&w, "vars");
    if (q->reasoning_effort.n > 0 && !json_get(q->template_vars, "reasoning_effort"))
        jw_str(&w, "reasoning_effort", q->reasoning_effort);
    for (void *it = NULL; (it = json_next(q->template_vars, it, &key, &v));) jw_json(&w, key.p, v);
    jw_end_obj(&w);
    jw_end_obj(&w);
    return sb_check(b, e);
}

/* Whether the prompt ends inside of a thought: the template has opened it for the model. */
static bool ends_in_think(const TokBuf *prompt, const Tokenizer *t) {
    enum { LAST = 12 };
    StrBuf b = {0};
    size_t n = MIN(prompt->n, (size_t)LAST);
    bool ends = false;
    if (tok_decode(t, prompt->v + prompt->n - n, n, &b, NULL) == OK) {
        Slice s = server__trim((Slice){sb_str(&b), b.n});
        ends = s.n >= 7 && memcmp(s.p + s.n - 7, "<think>", 7) == 0;
    }
    sb_deinit(&b);
    return ends;
}

Status server__chat_tokens(TokBuf *out, Job *j, Err *e) {
    const ServerConfig *c = &j->server->cfg;
    StrBuf b = {0};
    if (!c->chat) return err_set(e, ERR_UNSUPPORTED, "messages: this server has no chat template");
    j->param = "messages";
    Status st = normalize(&b, j, e);
    if (st == OK) st = json_parse(&j->extra, (Slice){sb_str(&b), b.n}, e);
    sb_deinit(&b);
    TRY(st);
    ChatReq r = {.messages = json_get(j->extra, "messages"),
                 .tools = server__calls(j) != API_CALLS_NONE ? j->q.tools : NULL,
                 .vars = json_get(j->extra, "vars"),
                 .add_prompt = j->q.add_generation_prompt && !j->q.continue_final};
    TRY(chat_encode(out, c->chat, c->tok, &r, e));
    if (out->failed) return err_set(e, ERR_NOMEM, "prompt");
    j->in_reasoning = ends_in_think(out, c->tok);
    j->param = NULL;
    return OK;
}
