/* SPDX-License-Identifier: Apache-2.0
 * Chat completions: each choice's text is taken apart into reasoning, content and calls (api/output.h), and written as
 * one message or as events with what is new. */
#include <stdio.h>

#include "api/output.h"
#include "server/internal.h"

typedef struct Chatting Chatting;

/* One choice. */
typedef struct Choice {
    Chatting *chat;
    int index;
    ChatSplit split;
    ApiOutput out;
    StrBuf thought, said;             /* scratch: what a part holds of both */
    StrBuf content, reasoning, calls; /* whole answers: text; calls as JSON, without brackets */
    StrBuf logprobs;                  /* entries as JSON that are not sent yet */
    int64_t n_reasoning;              /* tokens */
} Choice;

struct Chatting {
    Job *job;
    int n;
    Choice choice[];
};

/* ---- pieces ---- */

static const char *model_of(const Job *j) { return j->adapter ? j->adapter : j->server->cfg.model; }

static void put_head(JsonW *w, const Job *j, const char *object) {
    char id[JOB_ID_BYTES + 16];
    snprintf(id, sizeof id, "chatcmpl-%s", j->request_id);
    jw_obj(w, NULL);
    jw_cstr(w, "id", id);
    jw_cstr(w, "object", object);
    jw_int(w, "created", j->created);
    jw_cstr(w, "model", model_of(j));
}

static bool wants(const Job *j, const char *option) {
    return json_bool(json_get(j->q.stream_options, option));
}

static Usage usage_of(const Job *j) {
    const Chatting *c = j->state;
    Usage u = server__usage(j);
    for (int i = 0; c && i < c->n; i++) u.reasoning += c->choice[i].n_reasoning;
    return u;
}

/* Log-probabilities that were not given yet, as the member "logprobs". */
static void put_logprobs(JsonW *w, Choice *c) {
    if (!c->chat->job->q.logprobs || c->logprobs.n == 0) {
        jw_null(w, "logprobs");
        return;
    }
    jw_obj(w, "logprobs");
    jw_arr(w, "content");
    sb_put(w->b, sb_str(&c->logprobs), c->logprobs.n);
    jw_end_arr(w);
    jw_null(w, "refusal");
    jw_end_obj(w);
    sb_clear(&c->logprobs);
}

/* ---- events ---- */

static void open_event(JsonW *w, Choice *c) {
    Job *j = c->chat->job;
    sb_puts(&j->out, "data: ");
    jw_init(w, &j->out);
    put_head(w, j, "chat.completion.chunk");
    jw_arr(w, "choices");
    jw_obj(w, NULL);
    jw_int(w, "index", c->index);
    jw_obj(w, "delta");
}

/* After the delta's members. ended: why the choice ended, or NULL. */
static void close_event(JsonW *w, Choice *c, const AnswerSample *ended, const char *word) {
    Job *j = c->chat->job;
    jw_end_obj(w);
    put_logprobs(w, c);
    if (ended) server__put_finish(w, j, ended, word);
    else jw_null(w, "finish_reason");
    jw_end_obj(w);
    jw_end_arr(w);
    if (wants(j, "continuous_usage_stats")) {
        Usage u = usage_of(j);
        server__put_usage(w, "usage", &u);
    } else if (wants(j, "include_usage")) {
        jw_null(w, "usage");
    }
    jw_end_obj(w);
    sb_puts(&j->out, "\n\n");
}

static void on_content(void *ctx, Slice text) {
    Choice *c = ctx;
    JsonW w;
    if (!c->chat->job->q.stream) {
        sb_put(&c->content, text.p, text.n);
        return;
    }
    open_event(&w, c);
    jw_str(&w, "content", text);
    close_event(&w, c, NULL, NULL);
}

static void on_reasoning(Choice *c, Slice text) {
    JsonW w;
    if (text.n == 0 || !c->chat->job->q.include_reasoning) return;
    if (!c->chat->job->q.stream) {
        sb_put(&c->reasoning, text.p, text.n);
        return;
    }
    open_event(&w, c);
    jw_str(&w, "reasoning_content", text);
    jw_str(&w, "reasoning", text);
    close_event(&w, c, NULL, NULL);
}

static void put_call(JsonW *w, int index, const char *id, Slice name, Slice arguments) {
    jw_obj(w, NULL);
    if (index >= 0) jw_int(w, "index", index);
    jw_cstr(w, "id", id);
    jw_cstr(w, "type", "function");
    jw_obj(w, "function");
    jw_str(w, "name", name);
    jw_str(w, "arguments", arguments);
    jw_end_obj(w);
    jw_end_obj(w);
}

/* A call as two events: who is called, then with what. */
static void send_call(Choice *c, int index, const char *id, Slice name, Slice arguments) {
    JsonW w;
    open_event(&w, c);
    jw_arr(&w, "tool_calls");
    put_call(&w, index, id, name, (Slice){"", 0});
    jw_end_arr(&w);
    close_event(&w, c, NULL, NULL);
    open_event(&w, c);
    jw_arr(&w, "tool_calls");
    jw_obj(&w, NULL);
    jw_int(&w, "index", index);
    jw_obj(&w, "function");
    jw_str(&w, "arguments", arguments);
    jw_end_obj(&w);
    jw_end_obj(&w);
    jw_end_arr(&w);
    close_event(&w, c, NULL, NULL);
}

static void on_call(void *ctx, int index, Slice name, Slice arguments) {
    Choice *c = ctx;
    Job *j = c->chat->job;
    char id[48];
    JsonW w;
    if (index > 0 && !j->q.parallel_tool_calls) return;
    server__draw_id(id, j->server, "call_");
    if (j->q.stream) {
        send_call(c, index, id, name, arguments);
        return;
    }
    if (c->calls.n > 0) sb_putc(&c->calls, ',');
    jw_init(&w, &c->calls);
    put_call(&w, -1, id, name, arguments);
}

/* ---- the answer ---- */

static void begin(Job *j) {
    int n = server__n_choices(j);
    ApiCalls style = server__calls(j);
    Chatting *c = arena_alloc(&j->arena, 1, sizeof *c + (size_t)n * sizeof c->choice[0]);
    j->state = c;
    if (!c) return;
    c->job = j;
    c->n = n;
    for (int i = 0; i < n; i++) {
        Choice *ch = &c->choice[i];
        ApiSink sink = {.content = on_content,
                        .call = on_call,
                        .known = server__knows_tool,
                        .ctx = ch,
                        .tools = j};
        JsonW w;
        ch->chat = c;
        ch->index = i;
        ch->split = j->split;
        api_output_init(&ch->out, &sink, style, server__tool_named(j));
        if (!j->q.stream) continue;
        open_event(&w, ch);
        jw_cstr(&w, "role", "assistant");
        jw_cstr(&w, "content", "");
        close_event(&w, ch, NULL, NULL);
    }
}

/* OpenAI says "stop" for a function that was named, "tool_calls" for those the model chose. */
static const char *finish_word(const Choice *c, const AnswerSample *a) {
    bool called = api_output_n_calls(&c->out) > 0 && a->why == FINISH_STOP;
    bool named = server__tool_named(c->chat->job).n > 0;
    return called && !named ? "tool_calls" : server__finish_word(a->why);
}

/* Reasoning first, what is said after it. */
static void take_text(Choice *c, Slice text, bool end) {
    sb_clear(&c->thought);
    sb_clear(&c->said);
    chat_split_push(&c->split, text, &c->thought, &c->said);
    if (end) chat_split_finish(&c->split, &c->thought, &c->said);
    if (c->thought.failed || c->said.failed) c->content.failed = true;
    on_reasoning(c, (Slice){sb_str(&c->thought), c->thought.n});
    api_output_push(&c->out, (Slice){sb_str(&c->said), c->said.n}, end);
}

static void part(Job *j, int choice, const AnswerPart *p) {
    Chatting *chat = j->state;
    JsonW w;
    if (!chat) return;
    Choice *c = &chat->choice[choice];
    const AnswerSample *a = server__choice(j, choice);
    if (p->tok && j->q.logprobs) {
        if (c->logprobs.n > 0) sb_putc(&c->logprobs, ',');
        jw_init(&w, &c->logprobs);
        server__put_logprob(&w, j->server->cfg.tok, p->tok);
    }
    take_text(c, p->text, p->end);
    if (p->tok && c->split.state == CHAT_THINKING) c->n_reasoning++;
    if (!p->end || !j->q.stream) return;
    open_event(&w, c);
    close_event(&w, c, a, finish_word(c, a));
}

static void put_message(JsonW *w, Choice *c) {
    bool empty = c->content.n == 0 && c->calls.n > 0;
    jw_obj(w, "message");
    jw_cstr(w, "role", "assistant");
    if (empty) jw_null(w, "content");
    else jw_str(w, "content", (Slice){sb_str(&c->content), c->content.n});
    jw_null(w, "refusal");
    if (c->reasoning.n > 0) {
        Slice r = server__trim((Slice){sb_str(&c->reasoning), c->reasoning.n});
        jw_str(w, "reasoning_content", r);
        jw_str(w, "reasoning", r);
    }
    if (c->calls.n > 0) {
        jw_arr(w, "tool_calls");
        sb_put(w->b, sb_str(&c->calls), c->calls.n);
        jw_end_arr(w);
    }
    jw_end_obj(w);
}

static void put_choice(JsonW *w, Job *j, Choice *c) {
    const AnswerSample *a = server__choice(j, c->index);
    jw_obj(w, NULL);
    jw_int(w, "index", c->index);
    put_message(w, c);
    put_logprobs(w, c);
    server__put_finish(w, j, a, finish_word(c, a));
    jw_end_obj(w);
}

static void end_stream(Job *j) {
    JsonW w;
    Usage u = usage_of(j);
    if (wants(j, "include_usage")) {
        sb_puts(&j->out, "data: ");
        jw_init(&w, &j->out);
        put_head(&w, j, "chat.completion.chunk");
        jw_arr(&w, "choices");
        jw_end_arr(&w);
        server__put_usage(&w, "usage", &u);
        jw_end_obj(&w);
        sb_puts(&j->out, "\n\n");
    }
    sb_puts(&j->out, "data: [DONE]\n\n");
}

static void end(Job *j) {
    Chatting *c = j->state;
    JsonW w;
    Usage u = usage_of(j);
    if (!c) {
        j->out.failed = true;
        return;
    }
    if (j->q.stream) {
        end_stream(j);
        return;
    }
    jw_init(&w, &j->out);
    put_head(&w, j, "chat.completion");
    jw_arr(&w, "choices");
    for (int i = 0; i < c->n; i++) {
        Choice *ch = &c->choice[i];
        if (ch->content.failed || ch->reasoning.failed || ch->calls.failed || ch->logprobs.failed)
            j->out.failed = true;
        put_choice(&w, j, ch);
    }
    jw_end_arr(&w);
    server__put_usage(&w, "usage", &u);
    jw_end_obj(&w);
}

static void drop(Job *j) {
    Chatting *c = j->state;
    for (int i = 0; c && i < c->n; i++) {
        Choice *ch = &c->choice[i];
        api_output_deinit(&ch->out);
        sb_deinit(&ch->thought);
        sb_deinit(&ch->said);
        sb_deinit(&ch->content);
        sb_deinit(&ch->reasoning);
        sb_deinit(&ch->calls);
        sb_deinit(&ch->logprobs);
    }
}

const JobWriter server__write_chat = {.begin = begin, .part = part, .end = end, .drop = drop};
