/* SPDX-License-Identifier: Apache-2.0
 * A service level: limits for one request, "ttft=500ms,tpot=50ms,itl=200ms,e2e=10s", and the share of requests that has
 * to keep all of them. itl is the longest gap of a request. Any thread. */
#ifndef INGOT_LOAD_SLO_H
#define INGOT_LOAD_SLO_H

#include "load/answer.h"

typedef struct LoadSlo {
    uint64_t ttft, tpot, itl, e2e; /* ns; 0: no limit */
    double share;                  /* of requests, such as 0.99 */
} LoadSlo;

/* Limits of *out from text; share stays. ERR_ARG. */
MUST_CHECK Status load_slo_parse(LoadSlo *out, const char *text, Err *e);
bool load_slo_any(const LoadSlo *s);
/* Whether a request was answered within all limits. One that gives no time that is limited has not. */
bool load_slo_met(const LoadSlo *s, const LoadOne *o);

/* A share of n with what is known about it. */
typedef struct LoadShare {
    double share, lo, hi; /* lo to hi: the 95% interval */
} LoadShare;
enum { LOAD_BLOCKS = 16 };
/* Share of good ones, from how many there were in stretches of the run that followed each other: requests in a queue
 * fare alike, so that they count for less than their number; the wider of Wilson's interval and that of the
 * stretches' means is given. */
LoadShare load_share_of(const uint64_t good[LOAD_BLOCKS], const uint64_t all[LOAD_BLOCKS]);

#endif
