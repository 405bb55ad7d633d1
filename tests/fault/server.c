/* SPDX-License-Identifier: Apache-2.0
 * Every allocation of a served request fails once, from accepting its connection to the answer: the client
 * gets 200, 503 or a closed connection, the server goes on, and nothing leaks. */
#include <pthread.h>
#include <unistd.h>

#include "base/fault.h"
#include "server/server.h"
#include "support/http_client.h"
#include "test.h"

/* An engine that answers at once. */
static Status submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    (void)self;
    (void)e;
    *id = 1;
    for (int i = 0; i < r->max_new; i++) r->on_token(r->ctx, &(SampleOut){.id = r->prompt[0]});
    r->on_done(r->ctx, FINISH_LENGTH, NULL);
    return OK;
}

static void cancel(void *self, uint64_t id) {
    (void)self;
    (void)id;
}

static Tokenizer *tok;
static Server *server;

static void make_tok(void) {
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
}

static Status make_server(Err *e) {
    ServerConfig c = {.host = "127.0.0.1",
                      .engine = {.submit = submit, .cancel = cancel, .max_ctx = 512},
                      .tok = tok,
                      .device = "cpu"};
    return server_new(&server, &c, e);
}

static void *loop(void *ctx) {
    (void)ctx;
    return server_run(server, 0, NULL) == OK ? NULL : server;
}

TEST(making_a_server_says_why_it_cannot) {
    make_tok();
    size_t before = mem_live_bytes();
    static const FaultKind kinds[] = {FAULT_ALLOC, FAULT_IO};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        FaultKind kind = kinds[i];
        for (uint64_t n = 1;; n++) {
            Err e = {0};
            server = NULL;
            fault_arm(kind, n);
            Status st = make_server(&e);
            bool fired = fault_fired(kind);
            fault_arm(kind, 0);
            TRUE_(st == OK || e.msg[0]);
            if (!fired) EQ(st, OK);
            server_free(server);
            EQ(mem_live_bytes(), before);
            if (!fired) break;
        }
    }
    tok_free(tok);
}

static HcReply rep;

/* Ask `text` with every allocation failing once; whole answers have `want` in them. */
static void sweep(const char *text, const char *want, int least_503) {
    pthread_t t;
    void *failed;
    int n_503 = 0, n_closed = 0;
    make_tok();
    size_t before = mem_live_bytes();
    OK_(make_server(TERR));
    EQ(pthread_create(&t, NULL, loop, NULL), 0);
    int port = server_port(server);
    hc_once(port, &rep, text); /* its threads are there once this is answered */
    EQ(rep.status, 200);
    for (uint64_t n = 1; n < 1000; n++) {
        fault_arm(FAULT_ALLOC, n);
        hc_once(port, &rep, text);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (rep.status == 503) n_503++;
        if (rep.status == 0) n_closed++;
        if (rep.status != 200 && rep.status != 503 && rep.status != 0)
            FAIL("n %d: %d %s", (int)n, rep.status, rep.body);
        hc_once(port, &rep, text);
        EQ(rep.status, 200);
        TRUE_(strstr(rep.body, want) != NULL);
        if (!fired) break;
        TRUE_(n < 999);
    }
    TRUE_(n_503 >= least_503 && n_closed > 0);
    server_stop(server);
    pthread_join(t, &failed);
    TRUE_(failed == NULL);
    server_free(server);
    EQ(mem_live_bytes(), before);
    tok_free(tok);
}

TEST(a_served_request_survives_any_failed_allocation) {
    sweep("POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n"
          "{\"code\": \"abc\", \"max_tokens\": 9}",
          "\"completion\":\"aaaaaaaaa\"", 4);
}

TEST(a_page_survives_any_failed_allocation) {
    sweep("GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n", "</html>", 2);
}

TEST(the_dashboards_numbers_survive_any_failed_allocation) {
    sweep("GET /dashboard/data?since=1&step=2 HTTP/1.1\r\nHost: x\r\n\r\n", "\"names\":[\"t\",", 2);
}
