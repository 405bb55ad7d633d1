/* SPDX-License-Identifier: Apache-2.0
 * Rate limits: how many requests and how many tokens a client may take in a time. Two token buckets each: `limit` units fit,
 * they come back evenly over `window_s` seconds, and a client that was silent for as long may take all of them at once.
 *
 * Tokens are reserved before they are known (prompt and the most that may be generated) and corrected when the answer
 * has ended; what was taken beyond the bucket is a debt that is waited for. A reservation of more than a full bucket waits for a
 * full bucket, so that every request can be had at some time.
 *
 * A client is a key, or an address where there are no keys. They live in a table of fixed size: when a place is full,
 * the client goes that would have all of its units back first, and by then that changes nothing.
 *
 * Time is the caller's monotonic clock. Any thread; a short lock. */
#ifndef INGOT_API_RATE_H
#define INGOT_API_RATE_H

#include "base/str.h"

typedef struct ApiRates ApiRates;

typedef struct ApiRate {
    double limit; /* 0: none */
    double window_s;
} ApiRate;

/* Who asks, and what is allowed. */
typedef struct ApiRateAsk {
    const char *key;  /* id of a key; "" or NULL: the address counts */
    const char *peer; /* as http_peer names it */
    ApiRate requests, tokens;
    uint64_t now_ns;
} ApiRateAsk;

/* "10/minute", "600/s", "1e6/day"; a number alone is a minute's. ERR_ARG names what. */
MUST_CHECK Status api_rate_parse(ApiRate *out, const char *what, const char *text, Err *e);

/* A table with nothing taken yet. ERR_NOMEM, ERR_IO. */
MUST_CHECK Status api_rates_new(ApiRates **out, Err *e);
/* NULL is fine. */
void api_rates_free(ApiRates *r);
/* Take a request out, or ERR_FULL and the seconds until there is one, with nothing taken. */
MUST_CHECK Status api_rate_request(double *wait_s, ApiRates *r, const ApiRateAsk *a, Err *e);
/* Reserve n tokens, or ERR_FULL likewise. */
MUST_CHECK Status api_rate_reserve(double *wait_s, ApiRates *r, const ApiRateAsk *a, int64_t n,
                                   Err *e);
/* Of what was reserved this much was not used; negative: more was. */
void api_rate_settle(ApiRates *r, const ApiRateAsk *a, int64_t unused);
/* Append header lines, x-ratelimit-{limit,remaining,reset}-{requests,tokens}, of the limits there are. */
void api_rate_headers(StrBuf *b, ApiRates *r, const ApiRateAsk *a);

#endif
