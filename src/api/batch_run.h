/* SPDX-License-Identifier: Apache-2.0
 * One batch on the disk: a file of lines, and the file (or two) with what became of them. What is in an output is done;
 * there is no other record of it, so nothing can disagree.
 *
 *   line: OPEN -[batches_run_next]-> OUT -[batches_run_put]-> DONE       DONE is safe after the next batches_run_sync
 *                                    OUT -[batches_run_give_back]-> OPEN
 *
 * Opening reads the outputs: each whole line marks a line of the input as done, a torn last one (a kill in the middle of a
 * write) is cut off. An output that holds anything else is not touched. Answers stand in the order in which they came.
 *
 * After a failed put or sync the run can only be closed; opened again it goes on where the disk has it. Everything here
 * waits for the disk. One thread. */
#ifndef INGOT_API_BATCH_RUN_H
#define INGOT_API_BATCH_RUN_H

#include "api/batch_line.h"

typedef struct BatchRun BatchRun;

typedef struct BatchRunConfig {
    const char *in;     /* all are copied */
    const char *out;    /* answers with status 200; made if absent */
    const char *errors; /* the others; made when there is one; NULL: they go into `out`, too */
    const char *endpoint;
    bool (*allows)(Slice url);
    int64_t max_lines; /* 0: 10,000,000 */
    bool locked;       /* ERR_FULL while another process has `out` open so */
} BatchRunConfig;

typedef struct BatchCounts {
    int64_t n_lines; /* blank ones are none */
    int64_t n_ok, n_failed;
    int64_t n_found; /* of these, done when it was opened */
} BatchCounts;

/* ERR_NOT_FOUND no input; ERR_ARG too many lines, input and output are one file; ERR_FORMAT an output that is not this
 * input's (nothing was changed); ERR_IO, ERR_NOMEM. */
MUST_CHECK Status batches_run_open(BatchRun **out, const BatchRunConfig *c, Err *e);
void batches_run_close(BatchRun *r);
/* Look at the next n lines for what stands in the way of running them (each is read, custom_ids differ); problems are
 * appended to *errors as JSON objects {"code", "line", "message", "param"} with commas between, a hundred at most. True: all
 * lines were looked at. Before the first batches_run_next. */
MUST_CHECK Status batches_run_check(bool *over, BatchRun *r, int n, StrBuf *errors, Err *e);
/* The next line that is OPEN, in order; *any false: there is none. Lines that cannot be run are put as errors on the way.
 * The task is the caller's to free. */
MUST_CHECK Status batches_run_next(bool *any, BatchTask *out, BatchRun *r, Err *e);
/* Put every OPEN line as an error of this kind, n of them at most; *over: there are none left. */
MUST_CHECK Status batches_run_refuse(bool *over, BatchRun *r, int n, const char *code,
                                     const char *message, Err *e);
MUST_CHECK Status batches_run_put(BatchRun *r, const BatchTask *t, const BatchAnswer *a, Err *e);
/* failed: it counts as a try. */
void batches_run_give_back(BatchRun *r, const BatchTask *t, bool failed);
/* All that was put is on the disk. */
MUST_CHECK Status batches_run_sync(BatchRun *r, Err *e);
BatchCounts batches_run_counts(const BatchRun *r);
static inline bool batches_is_done(BatchCounts c) { return c.n_ok + c.n_failed == c.n_lines; }

#endif
