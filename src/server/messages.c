/* SPDX-License-Identifier: Apache-2.0
 * Conversations as clients send them, through the model's chat template. */
#include "server/prepare.h"

/* ---- messages ---- */

static void put_message(JsonW *w, const Json *m) {
    Slice key;
    const Json *v;
    jw_obj(w, NULL);
    for (void *it = NULL; (it = json_next(m, it, &key, &v));) {
        if (slice_eq_str(key, "role") && slice_eq_str(json_str(v), "developer"))
            jw_cstr(w, "role", "system"); /* which is what templates know */
        else jw_json(w, key.p, v);
    }
    jw_end_obj(w);
}

/* The variables of the template that have fields of their own. */
static void put_vars(JsonW *w, const ApiRequest *q) {
    Slice key;
    const Json *v;
    jw_obj(w, "vars");
    if (q->reasoning_effort.n > 0 && !json_get(q->template_vars, "reasoning_effort"))
        jw_str(w, "reasoning_effort", q->reasoning_effort);
    for (void *it = NULL; (it = json_next(q->template_vars, it, &key, &v));) jw_json(w, key.p, v);
    jw_end_obj(w);
}

/* {"messages", "vars"} as one JSON value. */
static Status collect(Json **out, const Job *j, Err *e) {
    static const char *const own[] = {"messages", "tools", "add_generation_prompt"};
    const Json *list = j->q.messages;
    StrBuf b = {0};
    JsonW w;
    for (size_t i = 0; i < json_len(list); i++) {
        if (json_str(json_get(json_at(list, i), "role")).n == 0)
            return err_set(e, ERR_ARG, "messages: [%zu].role: a string is needed", i);
    }
    for (size_t i = 0; i < COUNT_OF(own); i++) {
        if (json_get(j->q.template_vars, own[i]))
            return err_set(e, ERR_ARG, "chat_template_kwargs: \"%s\" has a field of its own",
                           own[i]);
    }
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_arr(&w, "messages");
    for (size_t i = 0; i < json_len(list); i++) put_message(&w, json_at(list, i));
    jw_end_arr(&w);
    put_vars(&w, &j->q);
    jw_end_obj(&w);
    Status st = sb_check(&b, e);
    if (st == OK) st = json_parse(out, (Slice){sb_str(&b), b.n}, e);
    sb_deinit(&b);
    return st;
}

/* Which conversation this is: its client's id of it, or how it begins, up to the first words of the user. */
static Status name_session(Job *j, const Json *messages, Err *e) {
    Slice id = json_str(json_get(json_get(j->json, "metadata"), "conversation_id"));
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_arr(&w, NULL);
    jw_cstr(&w, NULL, j->user.id);
    if (id.n > 0) jw_str(&w, NULL, id);
    for (size_t i = 0; i < json_len(messages); i++) {
        const Json *m = json_at(messages, i);
        if (id.n == 0 && j->n_user == 0) jw_json(&w, NULL, m);
        j->n_user += slice_eq_str(json_str(json_get(m, "role")), "user");
    }
    jw_end_arr(&w);
    Status st = sb_check(&b, e);
    if (st == OK) st = sha_256(&j->session, sb_str(&b), b.n, e);
    sb_deinit(&b);
    return st;
}

/* ---- the prompt ---- */

static Status render(StrBuf *text, Job *j, Err *e) {
    const Chat *chat = j->server->cfg.chat;
    Json *made = NULL;
    TRY(collect(&j->extra, j, e));
    TRY(name_session(j, json_get(j->extra, "messages"), e));
    TRY(chat_messages(&made, chat, json_get(j->extra, "messages"), e));
    ChatReq r = {.messages = made,
                 .tools = server__shows_tools(j) ? j->q.tools : NULL,
                 .vars = json_get(j->extra, "vars"),
                 .add_prompt = j->q.add_generation_prompt && !j->q.continue_final,
                 .continue_last = j->q.continue_final};
    Status st = chat_render(text, NULL, chat, &r, e);
    json_free(made);
    return st;
}

Status server__chat_tokens(TokBuf *out, Job *j, Err *e) {
    const ServerConfig *c = &j->server->cfg;
    StrBuf text = {0};
    if (!c->chat) return err_set(e, ERR_UNSUPPORTED, "messages: this server has no chat template");
    j->param = "messages";
    Status st = render(&text, j, e);
    Slice prompt = {sb_str(&text), text.n};
    if (st == OK) st = chat_encode_text(out, c->chat, c->tok, prompt, e);
    if (st == OK && out->failed) st = err_set(e, ERR_NOMEM, "prompt");
    if (st == OK) chat_split_init(&j->split, c->chat, prompt);
    if (st == OK && server__constrained(j)) /* what is held to a form has no thoughts before it */
        j->split = (ChatSplit){.state = CHAT_CONTENT};
    if (st == OK) j->param = NULL;
    sb_deinit(&text);
    return st;
}
