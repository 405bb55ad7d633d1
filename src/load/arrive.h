/* SPDX-License-Identifier: Apache-2.0
 * When requests are meant to start, whatever the server does: the open loop. Request i of a seed has the same time in
 * every run of it. One thread per LoadArrivals. */
#ifndef INGOT_LOAD_ARRIVE_H
#define INGOT_LOAD_ARRIVE_H

#include "base/err.h"

typedef enum LoadPattern {
    LOAD_POISSON,  /* independent users: gaps are exponential */
    LOAD_CONSTANT, /* evenly spaced */
    LOAD_BURST,    /* `burst` at once, then none until the mean rate is met */
    LOAD_RAMP /* Poisson with a rate that goes from `rate` to `rate_end` in `ramp_s`, and stays there */
} LoadPattern;

typedef struct LoadArrivals {
    LoadPattern pattern;
    double rate; /* requests a second, > 0 */
    double rate_end, ramp_s;
    int64_t burst; /* >= 1 */
    uint64_t seed;
    uint64_t i;  /* of the next arrival */
    double area; /* arrivals expected until the one before, of random patterns */
} LoadArrivals;

/* Seconds since the start of the next arrival; never falls. The fields from `i` on start as zeros. */
double load_arrive_next(LoadArrivals *a);
/* Seconds at which the stretch of the arrivals before the last one is over: at, which load_arrive_next has just given
 * for it, or of bursts the next one after theirs, so that a burst that is cut off has its time too. */
double load_arrive_end(const LoadArrivals *a, double at);
/* Requests a second that this pattern is meant to give at a time. */
double load_arrive_rate(const LoadArrivals *a, double t);

#endif
