/* SPDX-License-Identifier: Apache-2.0
 * One point: requests sent as the pattern says (open loop) or one after the other by so many users (closed loop), and
 * all answers read, by one thread that sleeps in net_poll_ns. An open loop never waits for answers: when more requests
 * are under way than there are places, the next ones are sent late, their latencies still count from when they were
 * meant to start, and that this happened is in the figures. */
#ifndef INGOT_LOAD_RUN_H
#define INGOT_LOAD_RUN_H

#include <stdatomic.h>

#include "load/arrive.h"
#include "load/prompt.h"
#include "load/stats.h"
#include "net/client.h"

/* How it stands, for a line of progress. */
typedef struct LoadNow {
    double elapsed_s, share; /* share: of the arrivals, 0 to 1 */
    uint64_t n_sent, n_ended, n_failed, n_late;
    int flight;
    double rate; /* answers a second so far */
    const LoadStats *stats;
} LoadNow;

enum { LOAD_MAX_HEADERS = 64 };

typedef struct LoadPlan {
    const char *url;           /* of the route */
    const char *const *header; /* "Name: value", with Content-Type, at most LOAD_MAX_HEADERS */
    int n_header;
    const char *const *secret; /* the same, never sent elsewhere */
    int n_secret;
    LoadAsk ask; /* prompt, messages and max_tokens of each request are set anew */
    const LoadPrompts *prompts;
    LoadMix max_tokens;
    LoadArrivals arrivals; /* of an open loop */
    int users;             /* > 0: a closed loop of so many */
    uint64_t n_request;    /* 0: by duration_s */
    double duration_s;
    uint64_t n_warmup; /* the first so many are not measured */
    uint64_t seed;
    int max_flight;
    double timeout_s;
    double
        give_up_s; /* end when requests have found nobody for so long, and nobody answered anything meanwhile */
    LoadSlo slo;
    const atomic_int *stop; /* NULL: never */
    void (*on_now)(void *ctx, const LoadNow *now);
    void (*on_one)(void *ctx, const LoadOne *o); /* each request that ended */
    void *ctx;
} LoadPlan;

/* Run it over a client of `many`. *out is the caller's; also after a stop, or when the server has died. ERR_NOMEM,
 * ERR_INTERNAL, ERR_ARG: the URL or a header. */
MUST_CHECK Status load_run(LoadStats **out, NetClient *net, const LoadPlan *plan, Err *e);
/* Connections this process may open, as far as its limit of descriptors can be raised. */
int load_most_connections(void);

#endif
