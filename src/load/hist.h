/* SPDX-License-Identifier: Apache-2.0
 * Times in a histogram: nanoseconds up to 2^48 (78 hours) in 256 buckets for each power of two, after Tene's
 * HdrHistogram. A quantile is the middle of its bucket, at most 0.2% from the exact one; below 512 ns, the least, the
 * greatest and the mean are exact. 82 KB each whatever it holds; adding allocates nothing. One thread. */
#ifndef INGOT_LOAD_HIST_H
#define INGOT_LOAD_HIST_H

#include "base/err.h"

typedef struct LoadHist {
    uint64_t *count; /* owned [LOAD_BUCKETS] */
    uint64_t n, min, max;
    double sum;
} LoadHist;

enum { LOAD_BUCKETS = 41 * 256 };

/* ERR_NOMEM. */
MUST_CHECK Status load_hist_init(LoadHist *h, Err *e);
/* Zeroed: fine. */
void load_hist_deinit(LoadHist *h);
void load_hist_add(LoadHist *h, uint64_t ns);
/* The ceil(q * n)-th smallest value, 0 <= q <= 1; 0 while empty. */
uint64_t load_hist_at(const LoadHist *h, double q);
/* 0 while empty. */
double load_hist_mean(const LoadHist *h);
/* Neighbouring values together. */
typedef struct LoadBar {
    double from, to; /* ns */
    uint64_t n;
} LoadBar;
/* The histogram in at most `most` (8 and more) bars that touch each other, from least to greatest: even up to the 99th
 * percentile, and wider in the tail, which may be long. Each is of whole buckets. Returns how many; 0 while empty. */
int load_hist_bars(const LoadHist *h, LoadBar *out, int most);
/* How many are at most ns, to the precision of a bucket. */
uint64_t load_hist_below(const LoadHist *h, uint64_t ns);

#endif
