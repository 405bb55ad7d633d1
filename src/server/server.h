/* SPDX-License-Identifier: Apache-2.0
 * The HTTP API in front of one engine: routes, request checks, health, access lines. All of it runs on the
 * loop's thread (server_run); the engine thread only fills rings and knocks (job.h).
 *
 *   GET  /             the routes
 *   GET  /health       status, model_loaded, device, memory and processor use; never waits for inference
 *   GET  /health/live  200 while the process answers
 *   GET  /health/ready 200 while requests are taken, 503 once stopping
 *   POST /complete     {"code", "max_tokens", "temperature", "top_k", "top_p", "seed", "stop", "n"}
 *                      -> {"completion", "tokens", "latency_ms"}; with n above 1 also "completions", all n
 *                      of them, and tokens are those of all
 * Every error is {"error": text, "detail": the same text, "type": class}. Unknown fields are ignored. */
#ifndef INGOT_SERVER_SERVER_H
#define INGOT_SERVER_SERVER_H

#include "engine/answer.h"
#include "net/http.h"
#include "token/token.h"

typedef struct Server Server;

typedef struct ServerConfig {
    const char *host;
    int port;             /* 0: any free one */
    HttpLimits limits;    /* as in http.h, but bodies are limited to 1 MB by default */
    EngineDoor engine;    /* or a stand-in */
    const Tokenizer *tok; /* borrowed, outlives the server */
    const char *device;   /* shown by /health: "cpu" */
    double timeout_s;     /* of a request, waiting included, then 504; 0: none */
    /* One line per answer, `127.0.0.1:43368 - "POST /complete HTTP/1.1" 200 OK`; NULL: none. Loop thread. */
    void (*on_access)(void *ctx, const char *line);
    void *access_ctx;
} ServerConfig;

/* Bind and listen. ERR_IO names address and cause, ERR_NOMEM. */
MUST_CHECK Status server_new(Server **out, const ServerConfig *c, Err *e);
/* Only when the engine can call back no more: engine_free comes first. */
void server_free(Server *s);
int server_port(const Server *s);
/* Serve on this thread until server_stop; then running answers have grace_ms. */
MUST_CHECK Status server_run(Server *s, int grace_ms, Err *e);
/* Any thread, also from a signal handler. */
void server_stop(Server *s);

#endif
