/* SPDX-License-Identifier: Apache-2.0 */
#include "load/wire.h"

#include <stdio.h>

#include "text/json.h"

static const LoadRoute routes[] = {
    {"chat", "/v1/chat/completions", LOAD_CHAT},     {"completions", "/v1/completions", LOAD_TEXT},
    {"api-inference", "/api/inference", LOAD_SHORT}, /* before the route whose path its own ends in */
    {"inference", "/inference", LOAD_SHORT},         {"complete", "/complete", LOAD_CODE},
    {"v1-generate", "/v1/generate", LOAD_SHORT},     {"generate", "/generate", LOAD_SHORT},
};

const LoadRoute *load_route(const char *name) {
    for (size_t i = 0; i < COUNT_OF(routes); i++)
        if (strcmp(routes[i].name, name) == 0) return &routes[i];
    return NULL;
}

void load_route_url(StrBuf *out, const LoadRoute **r, const char *base) {
    size_t n = strlen(base);
    while (n > 0 && base[n - 1] == '/') n--;
    sb_put(out, base, n);
    const char *whole = sb_str(out);
    for (size_t i = 0; i < COUNT_OF(routes); i++)
        if (str_ends_with(whole, routes[i].path)) {
            *r = &routes[i];
            return;
        }
    const char *path = (*r)->path;
    if (str_ends_with(whole, "/v1") && str_starts_with(path, "/v1/")) path += 3;
    sb_puts(out, path);
}

/* ---- asking ---- */

/* Generated members that extra may have instead. */
enum { MODEL, MAX_TOKENS, TEMPERATURE, IGNORE_EOS, STREAM_OPTIONS, GENERATED };
static const char *const generated[GENERATED] = {"model", "max_tokens", "temperature", "ignore_eos",
                                                 "stream_options"};

static Status check_extra(LoadAsk *a, const Json *j, Err *e) {
    static const char *const fixed[] = {"prompt", "messages", "code", "stream"};
    const Json *v = NULL;
    Slice key;
    if (!json_is_object(j)) return err_set(e, ERR_ARG, "not a JSON object");
    for (void *it = NULL; (it = json_next(j, it, &key, &v)) != NULL;) {
        for (size_t i = 0; i < COUNT_OF(fixed); i++)
            if (slice_eq_str(key, fixed[i]))
                return err_set(e, ERR_ARG, "\"%s\" is made for each request%s", fixed[i],
                               i == 3 ? ": --no-stream is for whole answers" : "");
        for (unsigned i = 0; i < GENERATED; i++)
            if (slice_eq_str(key, generated[i])) a->own |= 1u << i;
    }
    return OK;
}

Status load_ask_extra(LoadAsk *a, StrBuf *keep, const char *json, Err *e) {
    Json *j = NULL;
    JsonW w;
    StrBuf b = {0};
    Err why = {0};
    Status st = json_parse(&j, slice_of(json), &why);
    if (st == OK) st = check_extra(a, j, &why);
    if (st != OK) {
        json_free(j);
        return err_set(e, st == ERR_NOMEM ? st : ERR_ARG, "body: \"%.60s\": %s", json, why.msg);
    }
    jw_init(&w, &b);
    jw_json(&w, NULL, j);
    if (b.n > 2) sb_put(keep, b.p + 1, b.n - 2);
    a->extra = (Slice){sb_str(keep), keep->n};
    st = sb_check(&b, e);
    sb_deinit(&b);
    json_free(j);
    return st == OK ? sb_check(keep, e) : st;
}

static bool makes(const LoadAsk *a, unsigned member) { return !(a->own >> member & 1); }

static void put_prompt(JsonW *w, const LoadAsk *a) {
    if (a->route->shape == LOAD_CODE) jw_str(w, "code", a->prompt);
    else if (a->route->shape != LOAD_CHAT) jw_str(w, "prompt", a->prompt);
    else if (a->messages.n > 0) jw_raw(w, "messages", a->messages);
    else {
        jw_arr(w, "messages");
        jw_obj(w, NULL);
        jw_cstr(w, "role", "user");
        jw_str(w, "content", a->prompt);
        jw_end_obj(w);
        jw_end_arr(w);
    }
}

static bool is_openai(const LoadAsk *a) {
    return a->route->shape == LOAD_CHAT || a->route->shape == LOAD_TEXT;
}

void load_put_body(StrBuf *b, const LoadAsk *a) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    if (a->model && a->model[0] && makes(a, MODEL)) jw_cstr(&w, "model", a->model);
    put_prompt(&w, a);
    if (a->max_tokens > 0 && makes(a, MAX_TOKENS)) jw_int(&w, "max_tokens", a->max_tokens);
    if (a->temperature >= 0 && makes(a, TEMPERATURE)) jw_num(&w, "temperature", a->temperature);
    if (a->ignore_eos && makes(a, IGNORE_EOS)) jw_bool(&w, "ignore_eos", true);
    if (a->stream) jw_bool(&w, "stream", true);
    if (a->stream && is_openai(a) && makes(a, STREAM_OPTIONS)) {
        jw_obj(&w, "stream_options");
        jw_bool(&w, "include_usage", true);
        jw_end_obj(&w);
    }
    if (a->extra.n > 0) {
        sb_puts(b, ", ");
        sb_put(b, a->extra.p, a->extra.n);
    }
    jw_end_obj(&w);
}

/* ---- reading ---- */

static bool has_text(const Json *obj, const char *key) {
    return json_str(json_get(obj, key)).n > 0;
}

static bool message_says(const Json *m) {
    return has_text(m, "content") || has_text(m, "reasoning_content") || has_text(m, "reasoning") ||
           has_text(m, "refusal") || json_len(json_get(m, "tool_calls")) > 0;
}

static bool choices_say(const Json *choices) {
    for (size_t i = 0; i < json_len(choices); i++) {
        const Json *c = json_at(choices, i);
        if (has_text(c, "text") || message_says(json_get(c, "delta")) ||
            message_says(json_get(c, "message")))
            return true;
    }
    return false;
}

/* The short routes: pieces are {"text"}, the summary of a stream and a whole answer have the text by another name. */
static void read_short(LoadSaid *s, const Json *j) {
    static const char *const whole[] = {"response", "completion", "output"};
    for (size_t i = 0; i < COUNT_OF(whole); i++)
        if (json_get(j, whole[i])) {
            s->last = true;
            s->text = has_text(j, whole[i]);
        }
    if (!s->last) s->text = has_text(j, "text");
    s->n_out = json_int_or(json_get(j, "tokens_generated"), 0, INT32_MAX);
    if (s->n_out < 0) s->n_out = json_int_or(json_get(j, "tokens"), 0, INT32_MAX);
}

static void read_error(LoadSaid *s, const Json *err) {
    Slice m = json_is_object(err) ? json_str(json_get(err, "message")) : json_str(err);
    StrBuf b = {0};
    s->error = true;
    sb_put_quoted(&b, m, sizeof s->why - 1);
    snprintf(s->why, sizeof s->why, "%s", m.n > 0 ? sb_str(&b) : "an error without a message");
    sb_deinit(&b);
}

static void read_object(LoadSaid *s, const Json *j) {
    const Json *usage = json_get(j, "usage"), *choices = json_get(j, "choices");
    const Json *err = json_get(j, "error");
    if (choices) s->text = choices_say(choices);
    else read_short(s, j);
    if (json_is_object(usage)) {
        s->n_prompt = json_int_or(json_get(usage, "prompt_tokens"), 0, INT32_MAX);
        s->n_out = json_int_or(json_get(usage, "completion_tokens"), 0, INT32_MAX);
    }
    if (err) read_error(s, err);
}

Status load_read_said(LoadSaid *out, Slice text, Err *e) {
    Json *j = NULL;
    *out = (LoadSaid){.n_prompt = -1, .n_out = -1};
    TRY(json_parse(&j, text, e));
    bool ok = json_is_object(j);
    if (ok) read_object(out, j);
    json_free(j);
    return ok ? OK : err_set(e, ERR_FORMAT, "not a JSON object");
}
