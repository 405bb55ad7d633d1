/* SPDX-License-Identifier: Apache-2.0
 * /v1/responses: a request's items as the messages of a conversation, and its fields as those of a chat. */
#include "server/prepare.h"

/* ---- items to messages ---- */

static bool is_call(const Json *item) {
    return slice_eq_str(json_str(json_get(item, "type")), "function_call");
}

static Status put_call(JsonW *w, const Json *it, size_t at, Err *e) {
    static const char *const texts[] = {"call_id", "name", "arguments"};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (!json_is_str(json_get(it, texts[i])))
            return err_set(e, ERR_ARG, "input: [%zu].%s: a string is needed", at, texts[i]);
    }
    jw_obj(w, NULL);
    jw_json(w, "id", json_get(it, "call_id"));
    jw_cstr(w, "type", "function");
    jw_obj(w, "function");
    jw_json(w, "name", json_get(it, "name"));
    jw_json(w, "arguments", json_get(it, "arguments"));
    jw_end_obj(w);
    jw_end_obj(w);
    return OK;
}

/* Calls that follow one another, made side by side, are one message. Returns how many there were. */
static Status put_calls(JsonW *w, size_t *n, const Json *input, size_t from, Err *e) {
    jw_obj(w, NULL);
    jw_cstr(w, "role", "assistant");
    jw_null(w, "content");
    jw_arr(w, "tool_calls");
    for (*n = 0; is_call(json_at(input, from + *n)); ++*n)
        TRY(put_call(w, json_at(input, from + *n), from + *n, e));
    jw_end_arr(w);
    jw_end_obj(w);
    return OK;
}

static Status put_item(JsonW *w, const Json *it, size_t at, Err *e) {
    Slice type = json_str(json_get(it, "type"));
    if (type.n == 0 || slice_eq_str(type, "message")) {
        jw_json(w, NULL, it);
    } else if (slice_eq_str(type, "function_call_output")) {
        jw_obj(w, NULL);
        jw_cstr(w, "role", "tool");
        jw_json(w, "tool_call_id", json_get(it, "call_id"));
        jw_json(w, "content", json_get(it, "output"));
        jw_end_obj(w);
    } else if (!slice_eq_str(type, "reasoning")) { /* a thought of an earlier turn says nothing */
        return err_set(e, ERR_UNSUPPORTED, "input: [%zu] is of type \"%.*s\"", at,
                       (int)MIN(type.n, 40), type.p);
    }
    return OK;
}

static void put_text(JsonW *w, const char *role, Slice text) {
    jw_obj(w, NULL);
    jw_cstr(w, "role", role);
    jw_str(w, "content", text);
    jw_end_obj(w);
}

static Status put_messages(JsonW *w, const ApiRequest *q, Err *e) {
    jw_arr(w, "messages");
    if (q->instructions.n > 0) put_text(w, "system", q->instructions);
    if (json_is_str(q->input)) put_text(w, "user", json_str(q->input));
    for (size_t i = 0, n; json_is_array(q->input) && i < json_len(q->input); i += n) {
        const Json *it = json_at(q->input, i);
        n = 1;
        TRY(is_call(it) ? put_calls(w, &n, q->input, i, e) : put_item(w, it, i, e));
    }
    jw_end_arr(w);
    return OK;
}

/* Functions lie flat here, and inside of "function" in chats. */
static void put_tools(JsonW *w, const Json *tools) {
    jw_arr(w, "tools");
    for (size_t i = 0; i < json_len(tools); i++) {
        const Json *t = json_at(tools, i);
        jw_obj(w, NULL);
        jw_cstr(w, "type", "function");
        jw_json(w, "function", json_get(t, "function") ? json_get(t, "function") : t);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static Status check_tools(const Json *tools, Err *e) {
    for (size_t i = 0; i < json_len(tools); i++) {
        Slice type = json_str(json_get(json_at(tools, i), "type"));
        if (!slice_eq_str(type, "function"))
            return err_set(e, ERR_UNSUPPORTED,
                           "tools: [%zu] is of type \"%.*s\"; functions are taken", i,
                           (int)MIN(type.n, 40), type.n ? type.p : "");
    }
    return OK;
}

/* "include" asks for parts that are left out otherwise. What is not had here is not needed either. */
static void read_include(ApiRequest *q) {
    q->logprobs = q->top_logprobs > 0;
    for (size_t i = 0; i < json_len(q->include); i++) {
        if (slice_eq_str(json_str(json_at(q->include, i)), "message.output_text.logprobs"))
            q->logprobs = true;
    }
}

Status server__prepare_response(Job *j, Err *e) {
    ApiRequest *q = &j->q;
    StrBuf b = {0};
    JsonW w;
    TRY(check_tools(q->tools, e));
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    Status st = put_messages(&w, q, e);
    put_tools(&w, q->tools);
    jw_end_obj(&w);
    if (st == OK) st = sb_check(&b, e);
    if (st == OK) st = json_parse(&j->items, (Slice){sb_str(&b), b.n}, e);
    sb_deinit(&b);
    TRY(st);
    q->messages = json_get(j->items, "messages");
    if (q->tools) q->tools = json_get(j->items, "tools");
    read_include(q);
    q->response_format = json_get(q->text_options, "format");
    q->reasoning_effort = json_str(json_get(q->reasoning, "effort"));
    q->n = 1;
    q->typical_p = q->repetition_penalty = 1;
    q->include_reasoning = q->add_generation_prompt = true;
    if (json_len(q->messages) == 0) return err_set(e, ERR_ARG, "input: is empty");
    return server__prepare_chat(j, e);
}
