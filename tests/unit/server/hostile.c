/* SPDX-License-Identifier: Apache-2.0
 * Thousands of bodies that are nearly right, on every route: each gets an answer, and what is refused is refused in
 * JSON. INGOT_REQUESTS: how many (3000). The engine is a stand-in that answers while it is asked. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/rng.h"
#include "server/server.h"
#include "support/http_client.h"
#include "test.h"
#include "text/json.h"

enum { DEFAULT_REQUESTS = 3000, MAX_BODY = 4096, WIDTH = 8 };

static const struct {
    const char *path, *body;
} seeds[] = {
    {"/v1/chat/completions", "{\"model\": \"m\", \"messages\": [{\"role\": \"system\", "
                             "\"content\": \"s\"}, {\"role\": \"user\", "
                             "\"content\": [{\"type\": \"text\", \"text\": \"u\"}]}], "
                             "\"max_tokens\": 4, \"temperature\": 0.5, \"top_p\": "
                             "0.9, \"n\": 2, \"stop\": [\"a\", \"b\"], \"logit_bias\": {\"5\": 1}, "
                             "\"logprobs\": true, \"top_logprobs\": 2, "
                             "\"seed\": 3}"},
    {"/v1/chat/completions", "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": "
                             "\"assistant\", \"content\": null, "
                             "\"tool_calls\": [{\"id\": \"c\", \"type\": \"function\", "
                             "\"function\": {\"name\": \"f\", \"arguments\": "
                             "\"{}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"c\", "
                             "\"content\": \"1\"}], \"tools\": [{\"type\": "
                             "\"function\", \"function\": {\"name\": \"f\", \"parameters\": "
                             "{\"type\": \"object\", \"properties\": {\"a\": "
                             "{\"type\": \"integer\"}}}}}], \"tool_choice\": \"auto\", \"stream\": "
                             "true, \"stream_options\": "
                             "{\"include_usage\": true}, \"max_tokens\": 3}"},
    {"/v1/chat/completions",
     "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}], \"max_tokens\": 3, "
     "\"response_format\": {\"type\": "
     "\"json_schema\", \"json_schema\": {\"name\": \"n\", \"schema\": {\"type\": \"object\", "
     "\"properties\": {\"a\": "
     "{\"type\": \"string\", \"pattern\": \"^a+$\"}}, \"required\": [\"a\"]}}}}"},
    {"/v1/completions", "{\"prompt\": [\"a\", \"b\"], \"max_tokens\": 3, \"echo\": true, "
                        "\"logprobs\": 2, \"guided_regex\": \"a|b\", "
                        "\"min_p\": 0.1, \"stop_token_ids\": [7]}"},
    {"/v1/completions", "{\"prompt\": [[1, 2], [3]], \"max_tokens\": 2, \"stream\": true}"},
    {"/v1/responses",
     "{\"input\": [{\"role\": \"user\", \"content\": [{\"type\": \"input_text\", \"text\": "
     "\"x\"}]}, {\"type\": "
     "\"function_call\", \"call_id\": \"c\", \"name\": \"f\", \"arguments\": \"{}\"}, {\"type\": "
     "\"function_call_output\", \"call_id\": \"c\", \"output\": \"y\"}], \"max_output_tokens\": 3, "
     "\"text\": "
     "{\"format\": {\"type\": \"text\"}}, \"stream\": false}"},
    {"/v1/embeddings",
     "{\"input\": [\"a\", \"b\"], \"encoding_format\": \"base64\", \"dimensions\": 4}"},
    {"/tokenize", "{\"prompt\": \"abc\", \"return_token_strs\": true}"},
    {"/tokenize", "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}]}"},
    {"/detokenize", "{\"tokens\": [97, 98, 99]}"},
    {"/complete", "{\"code\": \"def f\", \"max_tokens\": 5, \"top_k\": null, \"stop\": \"x\"}"},
    {"/generate", "{\"prompt\": \"p\", \"max_tokens\": 2, \"user_id\": \"u\", \"stream\": true}"},
    {"/inference", "{\"prompt\": \"p\", \"max_tokens\": 2, \"temperature\": 0.7, \"top_p\": 0.9}"},
    {"/v1/generate", "{\"prompt\": \"p\", \"do_sample\": false, \"min_tokens\": 1}"},
    {"/feedback", "{\"request_id\": \"r\", \"rating\": 4}"},
};

/* ---- the engine ---- */

static Status submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    (void)self;
    (void)e;
    float state[WIDTH] = {1};
    *id = 1;
    if (r->ask && r->ask->on_pooled) r->ask->on_pooled(r->ctx, state, WIDTH);
    for (int i = 0; r->on_token && i < MIN(r->max_new, 64); i++) {
        SampleOut t = {.id = r->prompt[i % r->n_prompt], .n_top = 2, .top = {{1, -1}, {2, -2}}};
        r->on_token(r->ctx, &t);
    }
    grammar_free(r->grammar);
    r->on_done(r->ctx, FINISH_LENGTH, NULL);
    return OK;
}

static void cancel(void *self, uint64_t id) {
    (void)self;
    (void)id;
}

/* ---- bodies ---- */

typedef struct Dice {
    uint64_t n;
} Dice;

static uint32_t throw(Dice * d, uint32_t sides) {
    uint32_t w[4];
    rng_philox(w, 11, 7, d->n++);
    return w[0] % sides;
}

static const char *const words[] = {"null",
                                    "true",
                                    "-1",
                                    "1e999",
                                    "[]",
                                    "{}",
                                    "\"\"",
                                    "0.5",
                                    "99999999999999999999",
                                    "[[[[[[[[]]]]]]]]",
                                    "\"\\u0000\"",
                                    "\"\\ud800\"",
                                    "\xff\xfe",
                                    "\"type\":"};

/* One change of b: bytes turned, dropped, doubled, or a word put over a value. */
static void change(StrBuf *b, Dice *rng) {
    size_t at = b->n ? throw(rng, (uint32_t)b->n) : 0;
    uint32_t how = throw(rng, 6);
    StrBuf out = {0};
    if (how == 0 && b->n > 0) {
        b->p[at] = (char) throw(rng, 256);
        return;
    }
    size_t n = how == 1 ? 0 : 1 + throw(rng, 12);
    n = MIN(n, b->n - at);
    sb_put(&out, sb_str(b), at);
    if (how == 2) sb_put(&out, sb_str(b) + at, n);
    if (how == 3) sb_puts(&out, words[throw(rng, COUNT_OF(words))]);
    if (how == 5 && throw(rng, 8) == 0) n = b->n - at; /* cut off */
    if (how != 2 && how != 4) sb_put(&out, sb_str(b) + at + n, b->n - at - n);
    else sb_put(&out, sb_str(b) + at, b->n - at);
    sb_deinit(b);
    *b = out;
}

/* A value of the text replaced by another one: what stands after a colon. */
static void replace_value(StrBuf *b, Dice *rng) {
    StrBuf out = {0};
    size_t at = b->n ? throw(rng, (uint32_t)b->n) : 0;
    const char *colon = b->n ? memchr(b->p + at, ':', b->n - at) : NULL;
    if (!colon) return;
    size_t from = (size_t)(colon - b->p) + 1, to = from;
    while (to < b->n && b->p[to] != ',' && b->p[to] != '}') to++;
    sb_put(&out, b->p, from);
    sb_puts(&out, words[throw(rng, COUNT_OF(words))]);
    sb_put(&out, b->p + to, b->n - to);
    sb_deinit(b);
    *b = out;
}

/* ---- the test ---- */

static Server *server;

static void *loop(void *ctx) {
    (void)ctx;
    if (server_run(server, 100, NULL) != OK) return "failed";
    return NULL;
}

static void check_reply(const HcReply *r, const char *path, const StrBuf *body) {
    Json *j = NULL;
    if (r->status == 0) FAIL("no answer to %s: %s", path, sb_str(body));
    if (r->status == 200 || r->status == 501) return;
    if (json_parse(&j, (Slice){r->body, r->n_body}, NULL) != OK || !json_get(j, "error"))
        FAIL("%d to %s %s is no error in JSON: %s", r->status, path, sb_str(body), r->body);
    if (r->status >= 500) FAIL("%d to %s: %s: %s", r->status, path, sb_str(body), r->body);
    json_free(j);
}

static void ask(int *fd, int port, HcReply *r, const char *path, const StrBuf *body) {
    char head[256];
    if (*fd < 0) *fd = hc_connect(port);
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
             path, body->n);
    hc_send(*fd, head);
    hc_send_n(*fd, sb_str(body), body->n);
    hc_read(*fd, r, false);
    close(*fd);
    *fd = -1;
    check_reply(r, path, body);
}

static void run_requests(int port, int n) {
    static HcReply r;
    Dice rng = {0};
    int fd = -1;
    for (int i = 0; i < n; i++) {
        size_t k = throw(&rng, COUNT_OF(seeds));
        StrBuf b = {0};
        sb_puts(&b, seeds[k].body);
        for (uint32_t c = throw(&rng, 4); c > 0; c--) {
            if (throw(&rng, 2)) change(&b, &rng);
            else replace_value(&b, &rng);
        }
        if (b.n > MAX_BODY) b.n = MAX_BODY;
        ask(&fd, port, &r, seeds[k].path, &b);
        sb_deinit(&b);
    }
}

TEST(every_body_gets_a_proper_answer) {
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    Tokenizer *tok;
    Chat *chat;
    GrammarVocab *vocab;
    pthread_t thread;
    void *failed;
    const char *n = getenv("INGOT_REQUESTS");
    size_t live = mem_live_bytes();
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
    OK_(chat_new(&chat, tok, TERR));
    OK_(grammar_vocab_new(&vocab, tok, TERR));
    ServerConfig c = {.host = "127.0.0.1",
                      .engine = {.submit = submit, .cancel = cancel, .max_ctx = 256},
                      .tok = tok,
                      .chat = chat,
                      .vocab = vocab,
                      .n_embd = WIDTH,
                      .device = "cpu"};
    OK_(server_new(&server, &c, TERR));
    EQ(pthread_create(&thread, NULL, loop, NULL), 0);
    run_requests(server_port(server), n ? atoi(n) : DEFAULT_REQUESTS);
    server_stop(server);
    pthread_join(thread, &failed);
    TRUE_(failed == NULL);
    server_free(server);
    chat_free(chat);
    grammar_vocab_free(vocab);
    tok_free(tok);
    EQ(mem_live_bytes(), live);
}
