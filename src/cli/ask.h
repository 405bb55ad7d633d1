/* SPDX-License-Identifier: Apache-2.0
 * What embed and score share: a model, an engine just large enough, and waiting for requests to end. */
#ifndef INGOT_CLI_ASK_H
#define INGOT_CLI_ASK_H

#include <pthread.h>

#include "cli/model.h"
#include "engine/engine.h"

typedef struct CliAsk {
    CliModel m; /* owned */
    Engine *en; /* owned */
    pthread_mutex_t mu;
    pthread_cond_t over;
    int n_over; /* [mu] requests that ended */
    Err err;    /* [mu] the first that failed */
} CliAsk;

/* The model of `path`. cli_ask_close is legal after a failure. */
MUST_CHECK Status cli_ask_open(CliAsk *a, const char *path, int64_t threads, Err *e);
void cli_ask_close(CliAsk *a);
/* An engine for n requests (or choices of one) of up to longest tokens each; n_blocks: of its KV cache, 0: as many as
 * they can fill. ERR_ARG beyond the model's context, ERR_NOMEM. */
MUST_CHECK Status cli_ask_start(CliAsk *a, int n, int longest, int n_blocks, Err *e);
enum { CLI_ASK_SEQS = 8 /* of them together, at most */ };
/* on_done of such requests; their ctx begins with a CliAsk pointer. */
void cli_ask_done(void *ctx, FinishReason why, const Err *e);
/* Wait until n requests ended; the error of the first that failed. */
MUST_CHECK Status cli_ask_wait(CliAsk *a, int n, Err *e);

#endif
