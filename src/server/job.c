/* SPDX-License-Identifier: Apache-2.0
 * Life of a job between the two threads; job.h draws it. */
#include <stdatomic.h>

#include "server/internal.h"

/* ---- engine thread ---- */

static void on_token(void *ctx, const SampleOut *t) {
    Job *j = ctx;
    if (j->n_ids < j->max_ids) j->ids[j->n_ids++] = t->id;
}

static void on_done(void *ctx, FinishReason why, const Err *e) {
    Job *j = ctx;
    Server *s = j->server;
    j->why = why;
    if (e) j->err = *e;
    j->next = atomic_load_explicit(&s->done.head, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&s->done.head, &j->next, j, memory_order_release,
                                                  memory_order_relaxed)) {}
    http_wake(s->http); /* j may be gone by now */
}

/* ---- loop thread ---- */

static void on_gone(void *ctx) {
    Job *j = ctx;
    j->req = NULL;
    j->server->cfg.engine.cancel(j->server->cfg.engine.self, j->id);
}

Status server__job_start(Server *s, HttpReq *r, EngineReq *er, uint64_t t_start_ns, Err *e) {
    Job *j = mem_alloc_n(1, sizeof *j + (size_t)er->max_new * sizeof j->ids[0]);
    if (!j) return err_set(e, ERR_NOMEM, "request of %d tokens", er->max_new);
    j->server = s;
    j->req = r;
    j->t_start_ns = t_start_ns;
    j->max_ids = er->max_new;
    er->on_token = on_token;
    er->on_done = on_done;
    er->ctx = j;
    Status st = s->cfg.engine.submit(s->cfg.engine.self, er, &j->id, e);
    if (st != OK) {
        mem_free(j);
        return st;
    }
    http_on_gone(r, on_gone, j);
    return OK;
}

/* Messages of a running engine speak of its inside: none of them is for the client. */
static void reply_failed(Job *j) {
    Err e = j->err;
    bool known = e.code == ERR_NOMEM || e.code == ERR_TIMEOUT || e.code == ERR_FULL;
    if (j->why == FINISH_CANCELLED) {
        e = (Err){.code = ERR_CANCELLED, .msg = "cancelled by the engine"};
    } else if (j->why == FINISH_DEADLINE) {
        e = (Err){.code = ERR_TIMEOUT, .msg = "the request took too long"};
    } else if (!known) {
        e.code = ERR_INTERNAL;
    }
    server__reply_err(j->req, &e);
}

static void job_finish(Job *j) {
    if (j->req && (j->why == FINISH_STOP || j->why == FINISH_LENGTH)) {
        server__complete_reply(j);
    } else if (j->req) {
        reply_failed(j);
    }
    mem_free(j);
}

void server__jobs_finish(Server *s) {
    Job *j = atomic_exchange_explicit(&s->done.head, NULL, memory_order_acquire);
    while (j) {
        Job *next = j->next;
        job_finish(j);
        j = next;
    }
}
