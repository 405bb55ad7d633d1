/* SPDX-License-Identifier: Apache-2.0
 * Job: one request's answer on its way. The engine's thread only knocks (and not again before the loop has
 * looked); the loop's thread then takes what has come for every job, answers those that are done, frees them. A
 * client that leaves takes its job with it at once: what the engine still sends goes to the answer (engine/answer.h),
 * which outlives the job as long as need be.
 *
 *   RUN -[client leaves: on_gone]-> freed, the engine is told to cancel
 *   RUN -[all samples ended: server__jobs_poll]-> answered, freed */
#ifndef INGOT_SERVER_JOB_H
#define INGOT_SERVER_JOB_H

#include "server/server.h"

typedef struct Job Job;
struct Job { /* all: [net] */
    Server *server;
    HttpReq *req;
    Answer *answer; /* owned */
    uint64_t t_start_ns;
    Job *prev, *next; /* among those that run */
};

/* Submit `er` for this request, o->n samples of it (waking is set here, o->stop is copied). On failure nothing is
 * kept and the request is still to be answered. */
MUST_CHECK Status server__job_start(Server *s, HttpReq *r, const EngineReq *er, AnswerOpts *o,
                                    uint64_t t_start_ns, Err *e);
/* Take what has come, answer and free what is done. Loop thread. */
void server__jobs_poll(Server *s);

#endif
