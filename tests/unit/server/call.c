/* SPDX-License-Identifier: Apache-2.0
 * Requests from inside, to a server that listens nowhere, over a stand-in for the engine that answers at once. */
#include <stdio.h>

#include "server/server.h"
#include "test.h"

static _Atomic int last_priority; /* written by the threads that prepare */
static _Atomic double last_timeout;
static Status refusal;

static Status submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    (void)self;
    last_priority = r->priority;
    last_timeout = r->timeout_s;
    if (refusal != OK) return err_set(e, refusal, "no");
    *id = 1;
    for (int i = 0; i < r->max_new; i++) r->on_token(r->ctx, &(SampleOut){.id = r->prompt[0]});
    r->on_done(r->ctx, FINISH_LENGTH, NULL);
    return OK;
}

static void cancel(void *self, uint64_t id) {
    (void)self;
    (void)id;
}

static Server *server;
static Tokenizer *tok;
static int n_left;

static struct {
    int n, status;
    bool again;
    int64_t n_new;
    char body[2000];
} got;

static void start(bool with_model) {
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
    ServerConfig c = {.tok = tok, .live = {.timeout_s = 5}, .device = "cpu"};
    if (with_model) c.engine = (EngineDoor){.submit = submit, .cancel = cancel, .max_ctx = 512};
    OK_(server_new(&server, &c, TERR));
    memset(&got, 0, sizeof got);
    n_left = 0;
}

static void stop(void) {
    server_free(server);
    tok_free(tok);
}

static void on_done(void *ctx, const ServerAnswer *a) {
    (void)ctx;
    got.n++;
    got.status = a->status;
    got.again = a->again;
    got.n_new = a->n_completion;
    snprintf(got.body, sizeof got.body, "%.*s", (int)MIN(a->body.n, sizeof got.body - 1),
             a->body.p);
    if (--n_left == 0) server_stop(server);
}

static Status call(ServerTicket **t, const char *path, const char *body) {
    ServerCall c = {.path = slice_of(path), .body = slice_of(body), .done = on_done};
    n_left++;
    return server_call(t, server, &c, TERR);
}

static void answer(const char *body) {
    ServerTicket *t;
    start(true);
    OK_(call(&t, "/v1/completions", body));
    OK_(server_run(server, 100, TERR));
    EQ(got.n, 1);
    stop();
}

TEST(an_answer_is_whole_and_unhurried) {
    refusal = OK;
    answer("{\"prompt\": \"a\", \"max_tokens\": 3, \"stream\": true, \"priority\": 7}");
    EQ(got.status, 200);
    EQ(got.n_new, 3);
    FALSE_(got.again);
    TRUE_(strstr(got.body, "\"text\":\"aaa\"") != NULL && !strchr(got.body, '\n'));
    EQ(last_priority, ENGINE_IDLE + 7);
    NEAR(last_timeout, 0, 0);
}

TEST(errors_are_answers_too) {
    refusal = OK;
    answer("{\"prompt\": \"a\", \"max_tokens\": 3, \"temperature\": 9}");
    EQ(got.status, 400);
    FALSE_(got.again);
    TRUE_(strstr(got.body, "\"param\":\"temperature\"") != NULL);
    answer("nonsense");
    EQ(got.status, 400);
    refusal = ERR_FULL;
    answer("{\"prompt\": \"a\", \"max_tokens\": 3}");
    EQ(got.status, 429);
    TRUE_(got.again);
}

TEST(some_paths_only) {
    ServerTicket *t;
    start(true);
    FAILS(ERR_NOT_FOUND, call(&t, "/complete", "{}"));
    FAILS(ERR_NOT_FOUND, call(&t, "/v1/models", "{}"));
    FAILS(ERR_NOT_FOUND, call(&t, "", "{}"));
    TRUE_(server_call_allows(slice_of("/v1/responses")));
    FALSE_(server_call_allows(slice_of("/tokenize")));
    stop();
    start(false);
    FAILS(ERR_CANCELLED, call(&t, "/v1/completions", "{}"));
    stop();
}

TEST(one_that_is_dropped_is_not_answered) {
    ServerTicket *t[20];
    refusal = OK;
    start(true);
    for (int i = 0; i < 20; i++)
        OK_(call(&t[i], "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 3}"));
    for (int i = 0; i < 20; i += 2) server_call_drop(t[i]);
    n_left = 10;
    OK_(server_run(server, 100, TERR));
    EQ(got.n, 10);
    stop();
}

TEST(a_server_may_end_with_calls_at_work) {
    ServerTicket *t;
    size_t before = mem_live_bytes();
    refusal = OK;
    start(true);
    for (int i = 0; i < 20; i++)
        OK_(call(&t, "/v1/completions", "{\"prompt\": \"a\", \"max_tokens\": 3}"));
    server_stop(server);
    OK_(server_run(server, 0, TERR));
    stop();
    EQ(mem_live_bytes(), before);
}
