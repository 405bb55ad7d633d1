/* SPDX-License-Identifier: Apache-2.0
 * Job: one generation, shared by the loop's thread and the engine's. The engine thread appends token ids
 * and, when done, pushes the job on the server's done list and knocks; nothing locks. The loop's thread
 * answers and frees. A job lives until its on_done was taken from the list, whoever left before:
 *
 *   RUN  -[client leaves: job_gone]-> LEFT   (engine is told to cancel)
 *   RUN  -[done list: job_finish]-> answered, freed
 *   LEFT -[done list: job_finish]-> freed */
#ifndef INGOT_SERVER_JOB_H
#define INGOT_SERVER_JOB_H

#include "server/server.h"

typedef struct Job Job;
struct Job {
    Server *server;      /* [const] */
    HttpReq *req;        /* [net] NULL once the client left */
    uint64_t id;         /* [net] for cancel */
    uint64_t t_start_ns; /* [const] */
    Job *next;           /* in the done list: [engine] until pushed, [net] after it was taken */
    FinishReason why;    /* as `next`, and so are all below */
    Err err;             /* with FINISH_ERROR */
    int max_ids, n_ids;
    int32_t ids[]; /* generated tokens */
};

/* Done jobs, newest first: any thread pushes, one takes all (Treiber 1986, without its pop). */
typedef struct JobList {
    _Atomic(Job *) head; /* [atomic] release on push, acquire on take */
} JobList;

/* Submit `er` (its callbacks and ctx are set here) for this request. On failure nothing is kept and the
 * request is still to be answered. */
MUST_CHECK Status server__job_start(Server *s, HttpReq *r, EngineReq *er, uint64_t t_start_ns,
                                    Err *e);
/* Answer and free what is done. Loop thread. */
void server__jobs_finish(Server *s);

#endif
