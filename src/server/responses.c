/* SPDX-License-Identifier: Apache-2.0
 * /v1/responses, without a memory: an answer as items. Streams are numbered events that build the same items up.
 * response_input.c has the request. */
#include <stdio.h>

#include "server/prepare.h"

/* ---- the answer ---- */

typedef enum ItemKind { ITEM_NONE, ITEM_THOUGHT, ITEM_TEXT } ItemKind;

typedef struct Response {
    Job *job;
    ChatSplit split;
    ApiOutput out;
    StrBuf thought, said; /* scratch */
    StrBuf items;         /* those that are complete, as JSON with commas */
    ItemKind open;        /* what is being written */
    StrBuf text;          /* of it */
    StrBuf logprobs;      /* of its tokens, with commas; empty: not asked for */
    size_t n_shown;       /* bytes of them that events have had */
    bool cut;             /* the answer has ended at its limit */
    char id[48];          /* of it */
    int n_items;
    int64_t n_events, n_reasoning;
} Response;

static Slice all_of(const StrBuf *b) { return (Slice){sb_str(b), b->n}; }

/* ---- events ---- */

static void open_event(JsonW *w, Response *r, const char *type) {
    StrBuf *b = &r->job->out;
    sb_printf(b, "event: %s\ndata: ", type);
    jw_init(w, b);
    jw_obj(w, NULL);
    jw_cstr(w, "type", type);
    jw_int(w, "sequence_number", r->n_events++);
}

static void close_event(JsonW *w, Response *r) {
    jw_end_obj(w);
    sb_puts(&r->job->out, "\n\n");
}

static void put_place(JsonW *w, const Response *r) {
    jw_cstr(w, "item_id", r->id);
    jw_int(w, "output_index", r->n_items);
}

static bool streams(const Response *r) { return r->job->q.stream; }

/* ---- items ---- */

static void put_logprobs(JsonW *w, const Response *r, size_t from) {
    jw_arr(w, "logprobs");
    if (from < r->logprobs.n) sb_put(w->b, sb_str(&r->logprobs) + from, r->logprobs.n - from);
    jw_end_arr(w);
}

static void put_text_part(JsonW *w, const char *key, const Response *r, Slice text) {
    jw_obj(w, key);
    jw_cstr(w, "type", "output_text");
    jw_str(w, "text", text);
    jw_raw(w, "annotations", slice_of("[]"));
    put_logprobs(w, r, text.n > 0 ? 0 : r->logprobs.n);
    jw_end_obj(w);
}

static void put_text_item(JsonW *w, const char *key, const Response *r, bool done) {
    jw_obj(w, key);
    jw_cstr(w, "type", r->open == ITEM_TEXT ? "message" : "reasoning");
    jw_cstr(w, "id", r->id);
    jw_cstr(w, "status", !done ? "in_progress" : r->cut ? "incomplete" : "completed");
    if (r->open == ITEM_TEXT) {
        jw_cstr(w, "role", "assistant");
    } else {
        jw_raw(w, "summary", slice_of("[]"));
    }
    jw_arr(w, "content");
    if (done && r->open == ITEM_TEXT) put_text_part(w, NULL, r, all_of(&r->text));
    if (done && r->open == ITEM_THOUGHT) {
        jw_obj(w, NULL);
        jw_cstr(w, "type", "reasoning_text");
        jw_str(w, "text", all_of(&r->text));
        jw_end_obj(w);
    }
    jw_end_arr(w);
    jw_end_obj(w);
}

static void item_event(Response *r, const char *type, bool done) {
    JsonW w;
    open_event(&w, r, type);
    jw_int(&w, "output_index", r->n_items);
    put_text_item(&w, "item", r, done);
    close_event(&w, r);
}

static void part_event(Response *r, const char *type, Slice text) {
    JsonW w;
    open_event(&w, r, type);
    put_place(&w, r);
    jw_int(&w, "content_index", 0);
    put_text_part(&w, "part", r, text);
    close_event(&w, r);
}

/* The part of the text that has come, with its tokens; at the end all of both. */
static void text_event(Response *r, const char *type, const char *key, Slice text, bool all) {
    JsonW w;
    open_event(&w, r, type);
    put_place(&w, r);
    jw_int(&w, "content_index", 0);
    jw_str(&w, key, text);
    size_t from = all || r->n_shown == 0 ? 0 : r->n_shown + 1; /* behind a comma */
    if (r->open == ITEM_TEXT) put_logprobs(&w, r, from);
    if (r->open == ITEM_TEXT) r->n_shown = r->logprobs.n;
    close_event(&w, r);
}

static void keep_item(Response *r, const StrBuf *item) {
    if (r->items.n > 0) sb_putc(&r->items, ',');
    sb_put(&r->items, sb_str(item), item->n);
    r->n_items++;
}

static void close_item(Response *r) {
    StrBuf item = {0};
    JsonW w;
    if (r->open == ITEM_NONE) return;
    bool text = r->open == ITEM_TEXT;
    if (streams(r)) {
        text_event(r, text ? "response.output_text.done" : "response.reasoning_text.done", "text",
                   all_of(&r->text), true);
        if (text) part_event(r, "response.content_part.done", all_of(&r->text));
        item_event(r, "response.output_item.done", true);
    }
    jw_init(&w, &item);
    put_text_item(&w, NULL, r, true);
    keep_item(r, &item);
    sb_deinit(&item);
    sb_clear(&r->text);
    sb_clear(&r->logprobs);
    r->n_shown = 0;
    r->open = ITEM_NONE;
}

static void add_text(Response *r, ItemKind kind, Slice text) {
    bool said = kind == ITEM_TEXT;
    if (text.n == 0) return;
    if (r->open != kind) {
        close_item(r);
        r->open = kind;
        server__draw_id(r->id, r->job->server, said ? "msg_" : "rs_");
        if (streams(r)) item_event(r, "response.output_item.added", false);
        if (streams(r) && said) part_event(r, "response.content_part.added", (Slice){"", 0});
    }
    sb_put(&r->text, text.p, text.n);
    if (streams(r))
        text_event(r, said ? "response.output_text.delta" : "response.reasoning_text.delta",
                   "delta", text, false);
}

static void on_content(void *ctx, Slice text) { add_text(ctx, ITEM_TEXT, text); }

static void put_call(JsonW *w, const char *key, const Response *r, const char *call_id, Slice name,
                     Slice args, bool done) {
    jw_obj(w, key);
    jw_cstr(w, "type", "function_call");
    jw_cstr(w, "id", r->id);
    jw_cstr(w, "call_id", call_id);
    jw_str(w, "name", name);
    jw_str(w, "arguments", args);
    jw_cstr(w, "status", done ? "completed" : "in_progress");
    jw_end_obj(w);
}

static void call_event(Response *r, const char *type, const char *call_id, Slice name, Slice args,
                       bool done) {
    JsonW w;
    open_event(&w, r, type);
    jw_int(&w, "output_index", r->n_items);
    put_call(&w, "item", r, call_id, name, args, done);
    close_event(&w, r);
}

static void args_event(Response *r, const char *type, const char *key, Slice args) {
    JsonW w;
    open_event(&w, r, type);
    put_place(&w, r);
    jw_str(&w, key, args);
    close_event(&w, r);
}

static void on_call(void *ctx, int index, Slice name, Slice args) {
    Response *r = ctx;
    StrBuf item = {0};
    char call_id[48];
    JsonW w;
    if (index > 0 && !r->job->q.parallel_tool_calls) return;
    close_item(r);
    server__draw_id(r->id, r->job->server, "fc_");
    server__draw_id(call_id, r->job->server, "call_");
    if (streams(r)) {
        call_event(r, "response.output_item.added", call_id, name, (Slice){"", 0}, false);
        args_event(r, "response.function_call_arguments.delta", "delta", args);
        args_event(r, "response.function_call_arguments.done", "arguments", args);
        call_event(r, "response.output_item.done", call_id, name, args, true);
    }
    jw_init(&w, &item);
    put_call(&w, NULL, r, call_id, name, args, true);
    keep_item(r, &item);
    sb_deinit(&item);
}

/* ---- the whole ---- */

static void put_usage(JsonW *w, const Response *r) {
    Usage u = server__usage(r->job);
    jw_obj(w, "usage");
    jw_int(w, "input_tokens", u.prompt);
    jw_obj(w, "input_tokens_details");
    jw_int(w, "cached_tokens", u.cached);
    jw_end_obj(w);
    jw_int(w, "output_tokens", u.completion);
    jw_obj(w, "output_tokens_details");
    jw_int(w, "reasoning_tokens", r->n_reasoning);
    jw_end_obj(w);
    jw_int(w, "total_tokens", u.prompt + u.completion);
    jw_end_obj(w);
}

/* Said back as it came, where it is of a size that makes sense. */
static void put_back(JsonW *w, const Job *j, const char *key) {
    enum { MOST = 4096 };
    StrBuf b = {0};
    JsonW own;
    jw_init(&own, &b);
    jw_json(&own, NULL, json_get(j->json, key));
    if (b.n <= MOST && !b.failed) jw_raw(w, key, all_of(&b));
    else jw_null(w, key);
    sb_deinit(&b);
}

static void put_echo(JsonW *w, const Job *j) {
    const ApiRequest *q = &j->q;
    put_back(w, j, "instructions");
    put_back(w, j, "metadata");
    jw_json(w, "max_output_tokens", json_get(j->json, "max_output_tokens"));
    jw_bool(w, "parallel_tool_calls", q->parallel_tool_calls);
    jw_null(w, "previous_response_id");
    jw_bool(w, "store", false);
    jw_num(w, "temperature", q->temperature);
    jw_num(w, "top_p", q->top_p);
    if (q->tool_choice) put_back(w, j, "tool_choice");
    else jw_cstr(w, "tool_choice", "auto");
    if (json_get(j->json, "tools")) put_back(w, j, "tools");
    else jw_raw(w, "tools", slice_of("[]"));
}

/* done: the answer has ended. */
static void put_response(JsonW *w, const char *key, const Response *r, bool done) {
    const Job *j = r->job;
    bool cut = done && server__choice(j, 0)->why == FINISH_LENGTH;
    char id[JOB_ID_BYTES + 8];
    snprintf(id, sizeof id, "resp_%s", j->request_id);
    jw_obj(w, key);
    jw_cstr(w, "id", id);
    jw_cstr(w, "object", "response");
    jw_int(w, "created_at", j->created);
    jw_cstr(w, "status", !done ? "in_progress" : cut ? "incomplete" : "completed");
    jw_null(w, "error");
    if (cut) jw_raw(w, "incomplete_details", slice_of("{\"reason\":\"max_output_tokens\"}"));
    else jw_null(w, "incomplete_details");
    jw_cstr(w, "model", j->adapter ? j->adapter : j->server->cfg.model);
    put_echo(w, j);
    jw_arr(w, "output");
    if (done) sb_put(w->b, sb_str(&r->items), r->items.n);
    jw_end_arr(w);
    if (done) put_usage(w, r);
    else jw_null(w, "usage");
    jw_end_obj(w);
}

static void whole_event(Response *r, const char *type, bool done) {
    JsonW w;
    open_event(&w, r, type);
    put_response(&w, "response", r, done);
    close_event(&w, r);
}

static void begin(Job *j) {
    Response *r = arena_new(&j->arena, Response);
    j->state = r;
    if (!r) return;
    r->job = j;
    r->split = j->split;
    ApiSink sink = {
        .content = on_content, .call = on_call, .known = server__knows_tool, .ctx = r, .tools = j};
    api_output_init(&r->out, &sink, server__calls(j), server__tool_named(j));
    if (!j->q.stream) return;
    whole_event(r, "response.created", false);
    whole_event(r, "response.in_progress", false);
}

static void note_logprob(Response *r, const SampleOut *tok) {
    JsonW w;
    if (r->logprobs.n > 0) sb_putc(&r->logprobs, ',');
    jw_init(&w, &r->logprobs);
    server__put_logprob(&w, r->job->server->cfg.tok, tok);
}

static void part(Job *j, int choice, const AnswerPart *p) {
    Response *r = j->state;
    (void)choice;
    if (!r) return;
    r->cut = p->end && server__choice(j, 0)->why == FINISH_LENGTH;
    sb_clear(&r->thought);
    sb_clear(&r->said);
    chat_split_push(&r->split, p->text, &r->thought, &r->said);
    if (p->end) chat_split_finish(&r->split, &r->thought, &r->said);
    add_text(r, ITEM_THOUGHT, all_of(&r->thought));
    if (p->tok && j->q.logprobs && r->split.state != CHAT_THINKING) note_logprob(r, p->tok);
    api_output_push(&r->out, all_of(&r->said), p->end);
    if (p->tok && r->split.state == CHAT_THINKING) r->n_reasoning++;
    if (p->end) close_item(r);
}

static void end(Job *j) {
    Response *r = j->state;
    JsonW w;
    if (!r || r->items.failed || r->text.failed || r->logprobs.failed || r->thought.failed ||
        r->said.failed) {
        j->out.failed = true;
    } else if (j->q.stream) {
        bool cut = server__choice(j, 0)->why == FINISH_LENGTH;
        whole_event(r, cut ? "response.incomplete" : "response.completed", true);
    } else {
        jw_init(&w, &j->out);
        put_response(&w, NULL, r, true);
    }
}

static void drop(Job *j) {
    Response *r = j->state;
    if (!r) return;
    api_output_deinit(&r->out);
    sb_deinit(&r->thought);
    sb_deinit(&r->said);
    sb_deinit(&r->items);
    sb_deinit(&r->text);
    sb_deinit(&r->logprobs);
}

const JobWriter server__write_response = {.begin = begin, .part = part, .end = end, .drop = drop};
