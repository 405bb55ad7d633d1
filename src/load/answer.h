/* SPDX-License-Identifier: Apache-2.0
 * One request and its answer, as times. The network tells what came and when; nothing here waits or asks a clock, so
 * that a test can tell it any story.
 *
 *   plan     when it was meant to start: what all latencies count from, so that neither a server that stalls nor a
 *            generator that is late can hide what a user would have waited
 *   send     when it was handed to the network
 *   first    the first event with generated text arrived;  last: the last such event
 *   end      the answer was whole, or was given up
 *
 * One thread. */
#ifndef INGOT_LOAD_ANSWER_H
#define INGOT_LOAD_ANSWER_H

#include "load/hist.h"
#include "load/sse.h"

/* How a request ended. One row each in answer.c. */
typedef enum LoadEnd {
    LOAD_OK,
    LOAD_UNKNOWN_HOST,
    LOAD_REFUSED,
    LOAD_UNREACHED,
    LOAD_TLS,
    LOAD_TIMEOUT,
    LOAD_BROKEN, /* the connection ended before an answer began */
    LOAD_429,
    LOAD_503,
    LOAD_4XX,
    LOAD_5XX,
    LOAD_STATUS,
    LOAD_CUT,
    LOAD_BAD_JSON,
    LOAD_NO_DONE,
    LOAD_ERROR_EVENT,
    LOAD_EMPTY,
    LOAD_TOO_LONG,
    LOAD_STOPPED,
    LOAD_OTHER,
    LOAD_ENDS
} LoadEnd;

/* "ok", "refused", "status_429" ... */
const char *load_end_name(LoadEnd end);
/* The same for people: "connection refused". */
const char *load_end_words(LoadEnd end);

typedef struct LoadOne {
    uint64_t id;
    bool warmup;
    uint64_t plan, send, first, last, stop; /* ns; 0: has not happened */
    uint64_t gap_max;                       /* longest time between two events with text */
    int64_t n_event;                        /* events with text */
    int64_t n_prompt, n_out;                /* tokens by the server's count; -1: it did not say */
    int max_tokens, status;
    LoadEnd end;
    char why[240]; /* of a failure */
} LoadOne;

/* Tokens of the answer: as the server counts, else events with text. */
int64_t load_one_tokens(const LoadOne *o);
/* Nanoseconds per token after the first; 0 if there is no second. */
uint64_t load_one_tpot(const LoadOne *o);

typedef struct LoadAnswer {
    LoadOne one;
    LoadSse sse;
    StrBuf body;   /* owned: of an answer that is no stream, or a refusal */
    LoadHist *itl; /* borrowed; NULL: gaps are not kept */
    bool streaming, done;
    int64_t n_text; /* events with text since the last time it was asked; the caller's */
    uint64_t now;
} LoadAnswer;

/* For another request; memory stays. */
void load_answer_start(LoadAnswer *a, uint64_t id, uint64_t plan, LoadHist *itl);
void load_answer_deinit(LoadAnswer *a);
/* The head arrived. */
void load_answer_head(LoadAnswer *a, int status, Slice content_type);
/* Bytes of the body arrived at `now`. An error ends the request: one.end says which. */
MUST_CHECK Status load_answer_bytes(LoadAnswer *a, uint64_t now, Slice bytes, Err *e);
/* It is over. fault: LOAD_OK if the answer came whole, else what the network says, with words. */
void load_answer_end(LoadAnswer *a, uint64_t now, LoadEnd fault, const char *why);

#endif
