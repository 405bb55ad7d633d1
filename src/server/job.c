/* SPDX-License-Identifier: Apache-2.0
 * Life of a job; job.h draws it. */
#include <stdatomic.h>

#include "server/internal.h"

/* ---- engine thread ---- */

static void knock(void *ctx) {
    Server *s = ctx;
    if (!atomic_exchange(&s->knocked, true)) http_wake(s->http);
}

/* ---- loop thread ---- */

static void job_free(Job *j) {
    Server *s = j->server;
    if (j->prev) j->prev->next = j->next;
    else s->jobs = j->next;
    if (j->next) j->next->prev = j->prev;
    answer_free(j->answer);
    mem_free(j);
}

static void on_gone(void *ctx) { job_free(ctx); }

Status server__job_start(Server *s, HttpReq *r, const EngineReq *er, AnswerOpts *o,
                         uint64_t t_start_ns, Err *e) {
    Job *j = mem_new(Job);
    if (!j) return err_set(e, ERR_NOMEM, "request of %d tokens", er->max_new);
    *j = (Job){.server = s, .req = r, .t_start_ns = t_start_ns};
    o->wake = knock;
    o->wake_ctx = s;
    o->ends_only = o->n_stop == 0; /* stop strings are looked for as the text comes */
    Status st = answer_new(&j->answer, &s->cfg.engine, s->cfg.tok, er, o, e);
    if (st != OK) {
        mem_free(j);
        return st;
    }
    j->next = s->jobs;
    if (j->next) j->next->prev = j;
    s->jobs = j;
    http_on_gone(r, on_gone, j);
    return OK;
}

/* Messages of a running engine speak of its inside: none of them is for the client. */
static void reply_failed(HttpReq *r, const AnswerSample *a) {
    Err e = a->err;
    bool known = e.code == ERR_NOMEM || e.code == ERR_TIMEOUT || e.code == ERR_FULL;
    if (a->why == FINISH_CANCELLED) {
        e = (Err){.code = ERR_CANCELLED, .msg = "cancelled by the engine"};
    } else if (a->why == FINISH_DEADLINE) {
        e = (Err){.code = ERR_TIMEOUT, .msg = "the request took too long"};
    } else if (!known) {
        e.code = ERR_INTERNAL;
    }
    server__reply_err(r, &e);
}

/* The first sample that ended otherwise than it should, or NULL. */
static const AnswerSample *find_failed(const Answer *a) {
    for (int i = 0; i < answer_n(a); i++) {
        const AnswerSample *s = answer_sample(a, i);
        if (s->ended && s->why != FINISH_STOP && s->why != FINISH_LENGTH) return s;
    }
    return NULL;
}

/* Whether the job is over: one that failed does not wait for its other samples. */
static bool job_is_over(Job *j) {
    AnswerPart part;
    while (answer_next(j->answer, &part)) {}
    return answer_done(j->answer) || find_failed(j->answer);
}

static void job_finish(Job *j) {
    const AnswerSample *failed = find_failed(j->answer);
    http_on_gone(j->req, NULL, NULL);
    if (failed) reply_failed(j->req, failed);
    else server__complete_reply(j);
    job_free(j);
}

void server__jobs_poll(Server *s) {
    atomic_store(&s->knocked, false); /* before looking: what comes after it knocks again */
    for (Job *j = s->jobs; j;) {
        bool over = job_is_over(j);
        if (over) job_finish(j);
        j = over ? s->jobs : j->next; /* an answer may have let others in and out */
    }
}
