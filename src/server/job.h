/* SPDX-License-Identifier: Apache-2.0
 * Job: one request's answer on its way.
 *
 *   PREPARING -[prepared, submitted]-> RUNNING -[all samples ended]-> answered, freed
 *   PREPARING -[refused]-> answered with the error, freed
 *   PREPARING -[client leaves]-> freed, once no thread prepares it any more
 *   RUNNING   -[all ended, a slow writer]-> PREPARING again, to be written there -> answered, freed
 *   RUNNING   -[client leaves]-> freed, the engine is told to cancel
 *
 * Until it is prepared a job belongs to the thread that prepares it, but for `req` and the list, which are always the
 * loop's. What the engine still sends for a job that is gone goes to the answer (engine/answer.h), which outlives the
 * job as long as need be.
 *
 * A route's JobWriter turns parts into text. It is called on the loop's thread for every part, streamed or not;
 * what it appends to `out` is sent as it is while streaming, and is the body at the end otherwise. */
#ifndef INGOT_SERVER_JOB_H
#define INGOT_SERVER_JOB_H

#include "api/error.h"
#include "api/rate.h"
#include "api/request.h"
#include "api/trace.h"
#include "base/arena.h"
#include "server/server.h"

typedef struct Job Job;
typedef struct Route Route;
typedef struct Pooled Pooled;

typedef struct JobWriter {
    void (*begin)(Job *j);                                 /* before the first part */
    void (*part)(Job *j, int choice, const AnswerPart *p); /* NULL: samples are enough */
    void (*end)(Job *j);                                   /* after the last part */
    bool slow;            /* `end` takes long: it is called on a preparing thread */
    void (*drop)(Job *j); /* free what `state` owns; NULL: nothing */
} JobWriter;

enum { JOB_ID_BYTES = 129 };

struct Job {
    /* [net] */
    Server *server;
    HttpReq *req;    /* NULL: the client has left, or there never was one */
    ServerCall call; /* who gets the answer instead of a client; done NULL: nobody */
    Job *prev, *next;
    const Route *route;            /* [const] */
    char request_id[JOB_ID_BYTES]; /* [const] */
    KeyUser user;                  /* [const] once prepared: who asks */
    char *bearer, *api_key;        /* [const] its headers, in the arena; NULL: no keys are needed */
    ApiTrace trace;                /* [const] */
    uint64_t t_start_ns;           /* [const] */
    int64_t created;               /* [const] seconds since 1970 */
    bool streaming;                /* the head of a stream was sent */
    uint64_t t_sent_ns;            /* something was sent last */
    StrBuf out;                    /* written, not yet sent */
    int64_t n_held;                /* bytes that count as held for it */
    char peer[64], rate_key[KEYS_MAX_ID]; /* [const] whose limits these are */
    double most_s;  /* [const] time a request may take, unless it says so itself; 0: any */
    Job *prep_next; /* [prep] */

    /* [prep], then [net] */
    bool prepared; /* [net] */
    ApiRateAsk rate;
    int64_t n_reserved;   /* tokens, of the client's limit */
    double retry_after_s; /* where that limit is why it failed */
    int64_t json_most;    /* [const] */
    int64_t n_json;       /* bytes that its JSON takes, at most */
    StrBuf body;          /* owned copy */
    Json *json;           /* owned; q borrows from it */
    Json *items;          /* owned; items of a response as messages */
    Json *extra;          /* owned; further JSON that was made of it */
    Json *allowed;        /* owned; the tools that tool_choice leaves */
    ApiRequest q;
    Arena arena;
    Status st; /* of preparing */
    Err err;
    const char *param, *code; /* the field that was wrong, OpenAI's code of the error; or NULL */
    const char *adapter;      /* borrowed from the configuration; NULL: the model itself */
    Answer **answers;         /* [n_answers] owned, the list in the arena */
    int n_answers, n_samples; /* samples of each */
    int64_t n_prompt_tok;
    int64_t room_used;      /* bytes set aside for tokens that may come */
    uint64_t t_grammars_ns; /* spent on grammars */
    bool warmed;            /* the first of them was made ready */
    bool rendering;         /* its answer is being written on a preparing thread */
    Sha256 prompt_digest;   /* of the first prompt's tokens */
    Sha256 session;         /* the conversation it goes on with (server/sessions.h) */
    int n_user;             /* messages of the user in it; 0: it is none */
    ChatSplit split;        /* of a chat's answers, at their beginning */
    Pooled *pooled;         /* embeddings instead of answers; owned */
    void *state;            /* the writer's, in the arena */
};

/* Take a request over: copied, prepared by route->prepare on another thread, answered when it is done. Loop. */
void server__job_start(Server *s, HttpReq *r, const Route *route);
/* A job with what all have, in the list and with nobody to answer yet. body is taken over, in every case, and counts as held
 * already; id NULL: one is drawn. NULL: memory is out. Loop. */
Job *server__job_new(Server *s, const Route *route, StrBuf *body, const char *id);
/* Nobody waits for the answer any more. It may be freed, or be once it comes out of preparing. Loop. */
void server__job_drop(Job *j);
/* Whether it is part of a batch, and gives way to all others. */
static inline bool server__is_idle(const Job *j) { return j->call.path.n > 0; }
/* Its priority in the engine. */
int server__priority(const Job *j);
/* Take what has come, send what can be sent, answer and free what is done. Loop. */
void server__jobs_poll(Server *s);
/* Comments to streams that have been silent for long. Loop. */
void server__jobs_ping(Server *s);
/* Free those that are left, when no other thread runs any more. */
void server__jobs_free(Server *s);

/* Wake the loop, which will poll. ctx: the server. Any thread. */
void server__knock(void *ctx);

/* ---- for preparing: any thread that has the job ---- */
/* Submit one prompt, q.n samples of it; prompts of a job are submitted in order. The grammar is made from q. */
MUST_CHECK Status server__submit(Job *j, const TokBuf *prompt, int64_t max_new, Err *e);
/* Seconds of the request's time that are left, 0: no limit. ERR_TIMEOUT. */
MUST_CHECK Status server__time_left(double *out, const Job *j, Err *e);
/* What keeps its prefixes from those of others. */
MUST_CHECK Status server__salt(Sha256 *salt, const Job *j, Err *e);
/* Room for n answers; before the first server__submit. */
MUST_CHECK Status server__job_answers(Job *j, int n, Err *e);

/* Usage of all samples. */
typedef struct Usage {
    int64_t prompt, completion, cached, reasoning;
} Usage;
Usage server__usage(const Job *j);
/* Sample i of all answers. */
const AnswerSample *server__choice(const Job *j, int i);
static inline int server__n_choices(const Job *j) { return j->n_answers * j->n_samples; }

#endif
