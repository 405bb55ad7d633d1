/* SPDX-License-Identifier: Apache-2.0
 * Inside server/. Everything belongs to the loop's thread but `knocked` and what prep.h says. */
#ifndef INGOT_SERVER_INTERNAL_H
#define INGOT_SERVER_INTERNAL_H

#include <stdatomic.h>

#include "api/output.h"
#include "api/rate.h"
#include "net/otlp.h"
#include "server/job.h"
#include "server/prep.h"
#include "server/sessions.h"

/* Numbers of /health, refreshed by a timer so that a request only formats them. */
typedef struct Health {
    int64_t rss_bytes;
    double cpu_percent;             /* of all processors, since the sample before */
    uint64_t busy_ticks, all_ticks; /* of the last sample */
} Health;

typedef struct Rating Rating;   /* ratings.c */
typedef struct Filing Filing;   /* batches.c */
typedef struct LineJob LineJob; /* the same */
typedef struct History History; /* history.h */

enum { SERVER_MAX_ROUTES = 48 };

/* Counted on the loop's thread, by route where routes differ. */
typedef struct ServeStats {
    uint64_t n_ok[SERVER_MAX_ROUTES], n_failed[SERVER_MAX_ROUTES]; /* jobs that ended */
    uint64_t n_tokens;
    int n_active;
    uint64_t by_rating[6]; /* [1..5] */
    uint64_t n_spans_dropped, n_rate_refused;
    Hist request_s, inference_s, completion_s, response_s, response_len;
} ServeStats;

struct Server {
    ServerConfig cfg;               /* [const] but for the model's part, which comes once */
    ServerLive live;                /* what a reload changes; the loop's */
    ApiRates *rates;                /* owned */
    _Atomic(ServerConfig *) coming; /* [atomic] owned; a model to be taken over by the loop */
    HttpServer *http;               /* owned */
    Prep *prep;                     /* owned */
    Job *jobs;                      /* those that are not answered yet, newest first; owned */
    _Atomic bool knocked; /* [atomic] another thread has woken the loop, which has not looked yet */
    Rating *ratings;      /* that wait for the disk */
    Filing *filings;      /* the same, of files and batches */
    LineJob *lines;       /* of batches, at work */
    KeyUser user;         /* who sent the request that a handler is called for */
    _Atomic bool reload_asked; /* [atomic] */
    OtlpBatch spans;           /* that wait to be sent */
    Health health;
    ServeStats stats;
    History *history;         /* owned */
    Sessions *sessions;       /* owned */
    int64_t started;          /* [const] seconds since 1970 */
    double started_mono;      /* [const] the same moment by base/clock.h */
    uint64_t seed_base;       /* [const] random */
    _Atomic uint64_t n_drawn; /* [atomic] seeds and ids drawn so far */
    StrBuf openapi;           /* [const] /openapi.json */
};

typedef enum RouteScope {
    ROUTE_OPEN,
    ROUTE_INFER,
    ROUTE_FEEDBACK,
    ROUTE_BATCH,
    ROUTE_ADMIN
} RouteScope;

/* A route answers at once (handle), or is a job: prepared off the loop, then written by its writer. */
struct Route {
    const char *method,
        *path; /* a path ending in / takes what follows it, too; {name} any one segment */
    void (*handle)(Server *s, HttpReq *r);
    Status (*prepare)(Job *j, Err *e);
    const JobWriter *writer;
    const ApiSchema *schema; /* of the body; NULL: none */
    const char *form;        /* of the body, where it is a form: its JSON Schema as text */
    ApiShape shape;          /* of its errors */
    RouteScope scope;
    const char *operation; /* in traces: "chat"; NULL: none */
    const char *summary;
    const char *reply; /* JSON Schema of the answer, as text; NULL: not JSON */
    bool page;         /* for browsers, which are asked for a key in their own way */
    const char *rest;  /* name of what follows a path ending in /, for /openapi.json */
    const char *query; /* fields of the query, as parameters of OpenAPI; NULL: none */
};

/* The one table of routes. */
extern const Route server__routes[];
extern const int server__n_routes;

/* ---- handlers ---- */
void server__get_index(Server *s, HttpReq *r);
void server__get_health(Server *s, HttpReq *r);
void server__get_live(Server *s, HttpReq *r);
void server__get_ready(Server *s, HttpReq *r);
void server__get_models(Server *s, HttpReq *r);
void server__get_model(Server *s, HttpReq *r);
void server__get_version(Server *s, HttpReq *r);
void server__get_openapi(Server *s, HttpReq *r);
void server__get_metrics(Server *s, HttpReq *r);
void server__get_page(Server *s, HttpReq *r);
void server__get_dashboard(Server *s, HttpReq *r);
void server__post_feedback(Server *s, HttpReq *r);
void server__post_file(Server *s, HttpReq *r);
void server__get_files(Server *s, HttpReq *r);
void server__get_file(Server *s, HttpReq *r);
void server__get_content(Server *s, HttpReq *r);
void server__delete_file(Server *s, HttpReq *r);
void server__post_batch(Server *s, HttpReq *r);
void server__get_batches(Server *s, HttpReq *r);
void server__get_batch(Server *s, HttpReq *r);
void server__cancel_batch(Server *s, HttpReq *r);

/* ---- preparing (prompt.c, gen.c): the job's thread ---- */
MUST_CHECK Status server__prepare_chat(Job *j, Err *e);
MUST_CHECK Status server__prepare_completion(Job *j, Err *e);
MUST_CHECK Status server__prepare_complete(Job *j, Err *e);
MUST_CHECK Status server__prepare_prompt(Job *j, Err *e);
MUST_CHECK Status server__prepare_embeddings(Job *j, Err *e);
MUST_CHECK Status server__prepare_response(Job *j, Err *e);
MUST_CHECK Status server__prepare_tokenize(Job *j, Err *e);
MUST_CHECK Status server__prepare_detokenize(Job *j, Err *e);

/* The adapter that "model" of a request names, borrowed from the configuration; NULL: none. ERR_NOT_FOUND. */
MUST_CHECK Status server__read_model(const char **adapter, const Server *s, Slice name, Err *e);
/* The tokens of a conversation: q's messages, tools and variables through the chat template. Sets j->split.
 * ERR_ARG for messages of the wrong shape. */
MUST_CHECK Status server__chat_tokens(TokBuf *out, Job *j, Err *e);
/* q's constraint as one grammar; *out NULL: there is none. */
MUST_CHECK Status server__grammar(Grammar **out, Job *j, Err *e);
/* How calls of tools stand in the answer; API_CALLS_NONE: there are none. */
ApiCalls server__calls(const Job *j);
/* Whether the template is to see the tools. */
bool server__shows_tools(const Job *j);
/* Whether the answer is held to a form. */
bool server__constrained(const Job *j);
/* Whether a function of this name is among the tools; ctx: the job. */
bool server__knows_tool(const void *ctx, Slice name);
/* The function that tool_choice names; empty: none. */
Slice server__tool_named(const Job *j);
/* tools and tool_choice fit together; of "allowed_tools" these are left. ERR_ARG, ERR_NOMEM. */
MUST_CHECK Status server__check_tools(Job *j, Err *e);

/* ---- dashboard.c ---- */
/* Another second has gone by: a sample for the history. */
void server__history_tick(Server *s);

/* ---- pages.c ---- */
/* Whether Accept names text/html, and JSON not before it. */
bool server__wants_html(const HttpReq *r);

/* ---- guard.c ---- */
/* May this request have this route? If not, it is answered. */
bool server__admit(KeyUser *user, Server *s, HttpReq *r, const Route *t);
/* Whether it brings a key with this scope, where keys are needed; quiet: a wrong one is counted elsewhere. */
bool server__is_known(Server *s, const HttpReq *r, uint32_t scope, bool quiet);
/* Keep what the model's check needs of the request. ERR_NOMEM. */
MUST_CHECK Status server__keep_key(Job *j, const HttpReq *r, Err *e);
/* May the job's key use its model? The preparing thread. */
MUST_CHECK Status server__check_model(Job *j, Err *e);
/* Tell the store of ratings that a request ended. */
void server__note_request(const Job *j);

/* ---- batches.c ---- */
/* Answer what is done, begin lines, let go of those that nobody wants. Nothing without batches. */
void server__batches_poll(Server *s);
/* Once a second. */
void server__batches_tick(Server *s);
/* All lines go back unrun; jobs are still there. */
void server__batches_end(Server *s);
/* Bytes of a request's body, for net/; 0: the usual. ctx: the server. */
size_t server__body_limit(void *ctx, const HttpReq *r);

/* ---- server.c ---- */
/* Make the threads that prepare, unless they are there. ERR_NOMEM. */
MUST_CHECK Status server__start_prep(Server *s, Err *e);

/* ---- call.c ---- */
/* Tell a caller inside this process how its job ended. */
void server__call_answer(Job *j, const Err *failed);

/* ---- limits.c ---- */
/* May its client have another request? If not, it is answered. */
bool server__admit_rate(Server *s, HttpReq *r, const Route *t);
/* Keep what the job's client may take. */
void server__limits_start(Job *j, const HttpReq *r);
/* Reserve tokens, prompt and answer. ERR_FULL. The preparing thread. */
MUST_CHECK Status server__reserve(Job *j, int64_t n_tok, Err *e);
/* Give back what was reserved and not used. */
void server__settle(Job *j);
/* Append the header lines of the job's limits. */
void server__rate_heads(StrBuf *b, Job *j);
/* Bytes that one request may take as JSON. Loop. */
int64_t server__json_most(const Server *s);
/* j->n_json: what this text takes as JSON, at most. ERR_ARG: it is too much, whatever else goes on. */
MUST_CHECK Status server__check_json(Job *j, Slice text, Err *e);
/* The job holds this much from now on. */
void server__hold(Job *j, int64_t bytes);
/* ERR_NOMEM: the job is large and all of them together hold too much. */
MUST_CHECK Status server__check_held(const Job *j, Err *e);

/* ---- writers ---- */
extern const JobWriter server__write_chat, server__write_completion, server__write_complete,
    server__write_generate, server__write_inference, server__write_embeddings, server__write_made,
    server__write_response;

/* Log-probabilities as chat answers have them: {"token", "logprob", "bytes", "top_logprobs"}. */
void server__put_logprob(JsonW *w, const Tokenizer *t, const SampleOut *s);
/* "usage" as OpenAI has it. */
void server__put_usage(JsonW *w, const char *key, const Usage *u);
/* "finish_reason" and "stop_reason" of a sample; `called`: it ended in calls of tools. */
void server__put_finish(JsonW *w, const Job *j, const AnswerSample *a, const char *word);
/* "stop", "length" as OpenAI says them. */
const char *server__finish_word(FinishReason why);

/* ---- routes.c ---- */
/* Find the route and call it, or answer 404 or 405. */
void server__route(Server *s, HttpReq *r);
/* Write /openapi.json. ERR_NOMEM. */
MUST_CHECK Status server__describe(StrBuf *b, const Server *s, Err *e);
void server__stats_init(ServeStats *s);
/* A job ends: answered well, or with an error, or its client left (ok false). */
void server__stats_note(Server *s, const Job *j, bool ok);
/* Bytes of resident memory of this process. */
int64_t server__rss(void);
/* Take a new sample of the process and the machine. */
void server__health_sample(Health *h);
/* A number nobody else gets from this server, 16 hexadecimal digits, with a prefix. Any thread. */
void server__draw_id(char out[48], Server *s, const char *prefix);
uint64_t server__draw(Server *s);

/* ---- events.c: lines for the operator; no text of prompts or answers is in them ---- */
/* The line of an answer; ctx: the server. */
void server__log_reply(void *ctx, const HttpReq *r, int status);
/* A job was prepared; has ended, with an error or without. */
void server__log_received(const Job *j);
void server__log_ended(const Job *j, const Err *failed);

/* The HTTP status of a job that ends so; 499: its client left. */
int server__status(const Job *j, const Err *failed);

/* ---- trace.c ---- */
/* The trace of a request, the client's or a new one. */
void server__trace_start(Job *j, const HttpReq *r);
/* Its spans, when it has ended. */
void server__trace_end(Job *j, const Err *failed);
/* Hand over what was gathered. */
void server__trace_flush(Server *s);

/* ---- reply.c ---- */
/* What an error's body and head say besides its message; each may be NULL or 0. */
typedef struct ErrDetail {
    const char *param, *code;
    double retry_after_s; /* a limit of the client's own: the message says it, too */
    const char *heads;    /* further header lines */
} ErrDetail;
/* Answer with the HTTP status of e->code; what must not be shown is logged and a general text sent. d may be
 * NULL. */
void server__reply_err(HttpReq *r, ApiShape shape, const ErrDetail *d, const Err *e);
/* Answer with this HTTP status and text; `extra` as in http_reply. */
void server__reply_text(HttpReq *r, ApiShape shape, int status, const char *extra,
                        const char *text);
/* Answer 200, or 503 if b failed, with the JSON in b; b is freed. */
void server__reply_json(HttpReq *r, int status, StrBuf *b, const char *extra);

/* The rest of a slice without blanks at both ends. */
Slice server__trim(Slice s);

#endif
