/* SPDX-License-Identifier: Apache-2.0
 * The HTTP API in front of one engine: OpenAI's routes, shorter ones, health, metrics. The table of routes in
 * routes.c is the list of what is answered; /openapi.json is written from it.
 *
 * Three kinds of threads meet here: the loop's (server_run), which reads requests and writes answers and never
 * waits; a few that prepare requests (prep.h: JSON, chat template, tokens, grammar); the engine's, which fills
 * rings and knocks (job.h). */
#ifndef INGOT_SERVER_SERVER_H
#define INGOT_SERVER_SERVER_H

#include "api/batches.h"
#include "api/feedback.h"
#include "api/keys.h"
#include "api/rate.h"
#include "engine/answer.h"
#include "net/http.h"
#include "token/chat.h"
#include "token/token.h"

typedef struct Server Server;

/* What a reload may change. */
typedef struct ServerLive {
    HttpLimits limits;        /* as in http.h */
    double timeout_s;         /* of a request, waiting included, then 504; 0: none */
    ApiRate requests, tokens; /* that a client may have, unless its key says otherwise; 0: all */
    bool quiet;               /* on_line is not called */
    const KeysConfig
        *keys; /* plain keys instead of those there are; borrowed for the reload; NULL: these */
} ServerLive;

typedef struct ServerConfig {
    const char *host; /* NULL: nobody listens, requests come from inside only */
    int port;         /* 0: any free one */
    ServerLive live;
    /* The model; may come later (server_attach). Until submit is there, requests are answered 503. */
    EngineDoor engine;    /* or a stand-in */
    const Tokenizer *tok; /* borrowed, outlives the server */
    const Chat *chat;     /* borrowed; NULL: no chat routes */
    const char *model;    /* the name of the model in requests and answers; borrowed */
    const char *const
        *adapters; /* [n_adapters] names of its adapters in requests; borrowed, as is model */
    int n_adapters;
    const GrammarVocab *vocab;   /* borrowed; to make grammars ready; NULL: as they come */
    int n_embd;                  /* width of pooled states; 0: no embeddings */
    const char *device;          /* shown by /health: "cpu" */
    const char *title, *version; /* shown by / and /openapi.json; NULL: Ingot's */
    int max_prompt;     /* most tokens of a prompt on /complete, its last ones; default 512 */
    int max_total;      /* of prompt and answer on the short routes; 0: the context */
    int n_prep;         /* threads that prepare requests; default 2 */
    Keys *keys;         /* borrowed; who may ask for what; NULL: everybody */
    Feedback *feedback; /* borrowed; NULL: /feedback is answered 501. Its wake is server_wake */
    Batches *
        batches; /* borrowed; NULL: /v1/files and /v1/batches are answered 501. Its wake is server_wake */
    int batch_lines;                /* of batches at work at one time; comes with the model */
    const char *model_version;      /* kept with ratings; NULL: none */
    double cost_per_hour;           /* dollars for this machine, for /metrics; 0: not known */
    const char *tls_cert, *tls_key; /* as in net/http.h, and so are hsts_s and cors */
    int hsts_s;
    HttpCors cors;
    const char *const *proxies; /* as in net/http.h */
    int n_proxies;
    /* Spans of requests, as the body of an OTLP POST; true: it will be sent. Must not wait. Loop thread. NULL: there are
     * no spans. */
    bool (*on_spans)(void *ctx, Slice body);
    /* A rating below 3 was stored. Loop thread. NULL: nothing. */
    void (*on_low_rating)(void *ctx, const FeedbackDone *d);
    /* A reload begins: change what is to be changed of *live. On failure all stays as it is. Loop thread. NULL: only keys and
     * certificates are read. */
    Status (*on_reload)(void *ctx, ServerLive *live, Err *e);
    /* It has ended: everything is in force, or nothing, and e says why. Loop thread. NULL: a line is logged. */
    void (*on_reloaded)(void *ctx, const Err *e);
    /* Lines for the operator; NULL: none. Loop thread. As text one per answer, `INFO:     127.0.0.1:43368 - "POST
     * /complete HTTP/1.1" 200 OK`, and with log_resources one before and after each generation (server_resources). With
     * json_log an object per answer, and per request that came and that ended. */
    bool json_log, log_resources;
    void (*on_line)(void *ctx, const char *line);
    void *ctx; /* of the callbacks */
} ServerConfig;

/* Bind and listen; no thread is started yet. ERR_IO names address and cause, ERR_NOMEM. */
MUST_CHECK Status server_new(Server **out, const ServerConfig *c, Err *e);
/* Only when the engine can call back no more: engine_free comes first. */
void server_free(Server *s);
int server_port(const Server *s);
/* The model is there: engine, tok, chat, model, adapters, vocab and n_embd of c, from now on. Once, before
 * server_stop, by any thread, while the loop runs or before. ERR_NOMEM. */
MUST_CHECK Status server_attach(Server *s, const ServerConfig *c, Err *e);
/* Where ratings go, if that was not known yet; before server_run. Borrowed. */
void server_use_feedback(Server *s, Feedback *f);
/* The same for files and batches. */
void server_use_batches(Server *s, Batches *b);
/* Serve on this thread until server_stop; then running answers have grace_ms. */
MUST_CHECK Status server_run(Server *s, int grace_ms, Err *e);
/* Any thread, also from a signal handler. */
void server_stop(Server *s);
/* Read keys, certificates and what on_reload reads again soon, all or nothing. Any thread, also from a signal
 * handler. */
void server_reload(Server *s);
/* Look at what other threads have done soon. Any thread. */
void server_wake(Server *s);
/* Append "2026-01-31 12:00:00 | [operation] GPU: none - VRAM: ... | RAM: 1.2GB/8.0GB (15.0%)", of this process and what
 * it may use. Any thread. */
void server_resources(StrBuf *b, const char *operation);

/* ---- requests from inside: lines of batches ---- On the loop's thread, or on the one that will run it. */

/* What came of one. */
typedef struct ServerAnswer {
    int status;             /* as HTTP has it */
    const char *request_id; /* borrowed, as is body */
    Slice body;             /* JSON on one line */
    bool again;             /* the server was too busy or is stopping: the same may do later */
    int64_t n_prompt, n_completion; /* tokens */
} ServerAnswer;

/* A request that no client has sent. It gives way to those of clients, has no time limit but its own, and is answered
 * whole. */
typedef struct ServerCall {
    Slice path;          /* of a POST route that makes answers; borrowed for the call, as is body */
    Slice body;          /* JSON */
    const KeyUser *user; /* for whom; copied; NULL: nobody in particular */
    /* Once, on the loop's thread, unless server_call_drop comes before or server_run ends. */
    void (*done)(void *ctx, const ServerAnswer *a);
    void *ctx;
} ServerCall;

typedef struct Job ServerTicket;

/* Whether path is one that a call may have. */
bool server_call_allows(Slice path);
/* Begin one. The ticket is valid until `done`. ERR_NOT_FOUND no such path, ERR_CANCELLED there is no model yet or the
 * server is stopping, ERR_NOMEM. */
MUST_CHECK Status server_call(ServerTicket **out, Server *s, const ServerCall *c, Err *e);
/* Nobody wants the answer any more. */
void server_call_drop(ServerTicket *t);

#endif
