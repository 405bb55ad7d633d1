/* SPDX-License-Identifier: Apache-2.0
 * Which rate (or how many users) to try next: double until the service level is broken, then halve the interval
 * between the best that held and the least that did not, until they are a tenth apart. Or a list, one after the other.
 * What happened at a point is told by the caller. One thread. */
#ifndef INGOT_LOAD_SWEEP_H
#define INGOT_LOAD_SWEEP_H

#include "base/err.h"

enum { LOAD_MAX_POINTS = 64 };

typedef struct LoadSweep {
    bool users;  /* whole numbers of users instead of rates */
    bool search; /* from list[0] to list[1]; else the list itself */
    double list[LOAD_MAX_POINTS];
    int n_list;
    int n_done;
    double held, broke; /* 0: none yet */
} LoadSweep;

/* "rate=1..64", "concurrency=1,4,16". ERR_ARG. */
MUST_CHECK Status load_sweep_parse(LoadSweep *s, const char *text, Err *e);
/* The next point, or 0: it is done. */
double load_sweep_next(const LoadSweep *s);
/* x was tried, and was within the service level or not. */
void load_sweep_told(LoadSweep *s, double x, bool within);

#endif
