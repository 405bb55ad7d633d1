/* SPDX-License-Identifier: Apache-2.0
 * Points as JSON and as a page. Any thread. */
#ifndef INGOT_LOAD_OUT_H
#define INGOT_LOAD_OUT_H

#include "load/stats.h"

/* One point that was measured. Strings are borrowed. */
typedef struct LoadPoint {
    const char *url, *route, *model, *pattern; /* pattern: "closed" for users */
    double rate;                               /* of an open loop, requests a second */
    int users;                                 /* of a closed loop, else 0 */
    LoadSlo slo;
    const char *slo_text; /* as it was given; NULL: none */
    bool last_look;       /* of a search: it is not measured for longer any more */
    LoadStats *stats;     /* owned by whoever made the point */
} LoadPoint;

typedef enum LoadVerdict {
    LOAD_NO_SLO,
    LOAD_WITHIN,
    LOAD_WITHIN_UNSURE, /* so measured, but too few requests to say so at 95% */
    LOAD_OVER_UNSURE,
    LOAD_OVER,
    LOAD_PILES_UP, /* within, but requests under way grow and no longer look at it follows */
    LOAD_NO_DATA
} LoadVerdict;
/* A point of an open loop whose requests pile up is at best not surely within, and over at the last look. */
LoadVerdict load_verdict(const LoadPoint *p, LoadShare *share);
bool load_is_within(LoadVerdict v);
/* "within", "over, but not surely" ... */
const char *load_verdict_words(LoadVerdict v);

/* Names and values of the quantiles that are told. */
enum { LOAD_QUANTILES = 5 };
extern const double load_quantiles[LOAD_QUANTILES];
extern const char *const load_quantile_names[LOAD_QUANTILES];

/* Requests under way grow from the middle of the arrivals to their end: a longer run would be slower. */
bool load_is_growing(const LoadStats *s);
/* The same of a point, where it says something: not of users, nor of a ramp, which is meant to grow. */
bool load_is_piling(const LoadPoint *p);

/* One object, without a line end. */
void load_put_point(StrBuf *b, const LoadPoint *p);
/* What a sweep with limits found, after its points: the point (its last look) at the highest rate or most users within
 * the limits, NULL: none. cut_short: it ended before it was through. */
void load_put_sweep(StrBuf *b, const LoadPoint *best, bool users, bool cut_short);
/* The same as a point's for a request; times are milliseconds from plan, at is the Unix time of plan. */
void load_put_one(StrBuf *b, const LoadOne *o, uint64_t seed, double at);
/* The whole page. best: the point that is opened first, or -1. settings: pairs of name and value, NULL at the end. */
MUST_CHECK Status load_put_report(StrBuf *b, const LoadPoint *p, int n, int best, Slice title,
                                  const char *const *settings, Err *e);

#endif
