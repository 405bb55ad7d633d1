/* SPDX-License-Identifier: Apache-2.0
 * Inside server/. Everything belongs to the loop's thread but `knocked`. */
#ifndef INGOT_SERVER_INTERNAL_H
#define INGOT_SERVER_INTERNAL_H

#include "server/job.h"
#include "text/json.h"

/* Numbers of /health, refreshed by a timer so that a request only formats them. */
typedef struct Health {
    int64_t rss_bytes;
    double cpu_percent;             /* of all processors, since the sample before */
    uint64_t busy_ticks, all_ticks; /* of the last sample */
} Health;

struct Server {
    ServerConfig cfg; /* [const] */
    HttpServer *http; /* owned */
    Job *jobs;        /* those that run, newest first; owned */
    _Atomic bool
        knocked; /* [atomic] the engine's thread has woken the loop, which has not looked yet */
    Health health;
    uint64_t seed_base; /* [const] random */
    uint64_t n_seeds;   /* drawn so far */
};

typedef struct Route {
    const char *method, *path;
    void (*handle)(Server *s, HttpReq *r);
    const char *summary;
} Route;

/* The one table of routes. */
extern const Route server__routes[];
extern const int server__n_routes;

/* ---- handlers ---- */
void server__get_index(Server *s, HttpReq *r);
void server__get_health(Server *s, HttpReq *r);
void server__get_live(Server *s, HttpReq *r);
void server__get_ready(Server *s, HttpReq *r);
void server__post_complete(Server *s, HttpReq *r);

/* Find the route and call it, or answer 404 or 405. */
void server__route(Server *s, HttpReq *r);
/* Take a new sample of the process and the machine. */
void server__health_sample(Health *h);
/* Answer {"completion", "tokens", "latency_ms"}, with several samples "completions" too. */
void server__complete_reply(Job *j);

/* ---- errors.c ---- */
/* Answer with the HTTP status of e->code; what must not be shown is logged and a general text sent. */
void server__reply_err(HttpReq *r, const Err *e);
/* Answer with this HTTP status and text; `extra` as in http_reply. */
void server__reply_text(HttpReq *r, int status, const char *type, const char *extra,
                        const char *text);
/* Answer 200, or 503 if b failed, with the JSON in b; b is freed. */
void server__reply_json(HttpReq *r, int status, StrBuf *b);

#endif
