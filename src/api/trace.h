/* SPDX-License-Identifier: Apache-2.0
 * Trace context of a request, by W3C Trace Context level 1: `traceparent: 00-<32 hex>-<16 hex>-<2 hex>`. */
#ifndef INGOT_API_TRACE_H
#define INGOT_API_TRACE_H

#include "base/str.h"

enum { API_TRACEPARENT = 56 }; /* bytes of one, with the NUL */

typedef struct ApiTrace {
    char trace[33], parent[17]; /* lower-case hexadecimal; parent "": none */
    char span[17];              /* of the request here */
    bool sampled;
} ApiTrace;

/* From a client's header. False, and *t zeroed: it is no valid one, and a new trace is to begin. */
bool api_trace_read(ApiTrace *t, Slice header);
/* Ids from 192 random bits; those that are there already stay. */
void api_trace_fill(ApiTrace *t, const uint64_t random[3]);
/* The header for whoever is asked next, and for `traceresponse`. */
void api_trace_format(char out[API_TRACEPARENT], const ApiTrace *t);

#endif
