/* SPDX-License-Identifier: Apache-2.0
 * The last hour in numbers: a sample a second of what /metrics counts, as rates, shares and quantiles, for /dashboard
 * and for whoever else reads /dashboard/data. A ring of fixed size, made once; the loop's thread alone.
 *
 * Quantiles are of the last HISTORY_WINDOW seconds, by linear interpolation within a histogram's bucket, as Prometheus
 * takes them. A number that nothing stands behind (no token in the window, no prompt looked up) is NaN. */
#ifndef INGOT_SERVER_HISTORY_H
#define INGOT_SERVER_HISTORY_H

#include "base/err.h"
#include "engine/metrics.h"

enum { HISTORY_LEN = 3600, HISTORY_WINDOW = 30, HISTORY_MAX_STEP = 60 };

/* What a sample holds, in this order; names and meanings are in server__history_series. */
typedef enum HistorySeries {
    HISTORY_REQUESTS,
    HISTORY_PROMPT_TOK,
    HISTORY_NEW_TOK,
    HISTORY_RUNNING,
    HISTORY_WAITING,
    HISTORY_ACTIVE,
    HISTORY_CONNECTIONS,
    HISTORY_BATCH,
    HISTORY_KV,
    HISTORY_PREFIX_HIT,
    HISTORY_PREEMPTIONS,
    HISTORY_TTFT_P50,
    HISTORY_TTFT_P95,
    HISTORY_TTFT_P99,
    HISTORY_ITL_P50,
    HISTORY_ITL_P95,
    HISTORY_ITL_P99,
    HISTORY_ERR_CLIENT,
    HISTORY_ERR_DENIED,
    HISTORY_ERR_BUSY,
    HISTORY_ERR_TIMEOUT,
    HISTORY_ERR_LEFT,
    HISTORY_ERR_SERVER,
    HISTORY_MEMORY,
    HISTORY_CPU,
    HISTORY_CPU_SELF,
    HISTORY_N
} HistorySeries;

typedef struct HistoryName {
    const char *name, *help;
    bool newest; /* several samples as one: the newest number, else their mean */
} HistoryName;

extern const HistoryName server__history_series[HISTORY_N];

typedef struct HistoryRow {
    double t; /* seconds since 1970; grows from row to row, whatever is done to the clock */
    float v[HISTORY_N];
} HistoryRow;

/* What the server sees at one moment. */
typedef struct HistoryNow {
    double t;         /* as in HistoryRow */
    const Metrics *m; /* borrowed; NULL: there is no engine yet */
    uint64_t n_requests;
    int n_active, n_connections;
    int64_t rss_bytes;
    double cpu_percent; /* of the machine, busy with whatever */
    double cpu_s;       /* processor time of this process */
    int n_cpu;
} HistoryNow;

typedef struct History History;

/* ERR_NOMEM. */
MUST_CHECK Status server__history_new(History **out, Err *e);
void server__history_free(History *h);
/* An answer ended with this HTTP status; 499: its client left. */
void server__history_note(History *h, int status);
/* Errors that were noted so far. */
uint64_t server__history_errors(const History *h);
/* Take a sample. One that is not later than the last is left out. */
void server__history_add(History *h, const HistoryNow *now);
/* Samples in groups of `step`, 1 to HISTORY_MAX_STEP, counted from the first sample ever: whole groups that are still
 * there are *from to *to - 1. */
void server__history_range(uint64_t *from, uint64_t *to, const History *h, int step);
/* Group k of that range, as one row; its time is that of its last sample. */
HistoryRow server__history_group(const History *h, uint64_t k, int step);

#endif
