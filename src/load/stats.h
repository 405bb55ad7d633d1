/* SPDX-License-Identifier: Apache-2.0
 * What came out of one point: histograms, how requests ended, a timeline. Memory does not grow with the number of
 * requests. Times of answers that came whole only; gaps between events also of those that broke off later.
 * One thread. */
#ifndef INGOT_LOAD_STATS_H
#define INGOT_LOAD_STATS_H

#include "load/slo.h"

typedef enum LoadTime {
    LOAD_TTFT, /* plan to the first event with text */
    LOAD_ITL,  /* between two events with text */
    LOAD_TPOT, /* (last - first) / (tokens - 1), of each request */
    LOAD_E2E,  /* plan to the end */
    LOAD_LAG,  /* plan to send: the generator's own delay */
    LOAD_TIMES
} LoadTime;
const char *load_time_name(LoadTime t);

enum { LOAD_BINS = 512 };

/* What happened in a stretch of time. */
typedef struct LoadBin {
    uint32_t n_plan, n_ok, n_fail, n_ttft, flight; /* flight: most at a time */
    uint64_t n_text;                               /* events with text */
    double ttft_sum, ttft_max, e2e_sum;            /* ns; of requests by their plan */
} LoadBin;

typedef struct LoadFails {
    uint64_t n;
    char example[240];
} LoadFails;

typedef struct LoadStats {
    LoadHist time[LOAD_TIMES];
    uint64_t n_sent, n_ended, n_ok, n_good; /* without warm-up */
    uint64_t n_warmup, n_late,
        n_held;                   /* late: sent over 10 ms after plan; held: for want of a place */
    uint64_t n_text;              /* events with text, of answers that came whole */
    int64_t n_out, n_prompt;      /* tokens of these answers */
    bool counted, prompt_counted; /* the server said how many, of all of them */
    LoadFails fail[LOAD_ENDS];
    uint64_t good[LOAD_BLOCKS], all[LOAD_BLOCKS];
    LoadBin bin[LOAD_BINS];
    double bin_s;    /* of one bin; doubles when they are used up */
    uint64_t t_zero; /* ns, of bin 0: the plan of the first request, warm-up included */
    uint64_t t_from,
        t_to;        /* ns: the plan of the first measured request; the end of the last answer */
    double window_s; /* of the arrivals that are measured */
    double full_s;   /* closed loop: while all users were asking, warm-up left out */
    uint64_t n_text_full; /* events with text in that time, of whichever answers */
    int64_t n_out_full;   /* tokens of answers without events that ended in it */
    double busy;          /* share of the time in which the generator itself worked */
    int flight_max;
    bool stopped, gave_up; /* by the user; because nobody answered any more */
} LoadStats;

/* ERR_NOMEM. Free with load_stats_free. */
MUST_CHECK Status load_stats_new(LoadStats **out, Err *e);
void load_stats_free(LoadStats *s);
/* A request is meant to start at plan. */
void load_stats_plan(LoadStats *s, uint64_t plan);
/* n events with text came. */
void load_stats_text(LoadStats *s, uint64_t now, int64_t n);
void load_stats_flight(LoadStats *s, uint64_t now, int n);
/* A request ended. block: which part of the run it was planned in. */
void load_stats_end(LoadStats *s, const LoadOne *o, const LoadSlo *slo, int block);

/* ---- what is said of it ---- */
/* Seconds that throughput is divided by: from the first plan to the last answer, or to the end of the arrivals if that
 * is later. What a request that failed waited for is not in it. */
double load_stats_elapsed(const LoadStats *s);
/* Answers that met the service level, a second of arrivals. */
double load_stats_goodput(const LoadStats *s);
/* Tokens a second while all users of a closed loop were asking: neither the beginning nor the end, where some have gone
 * already, is in it. An event counts as many tokens as those of whole answers have. 0: not known. */
double load_stats_full_tok_s(const LoadStats *s);
uint64_t load_stats_failed(const LoadStats *s);
/* Requests that are too few for a quantile to be more than the greatest of them. */
bool load_few(const LoadHist *h, double q);

#endif
