/* SPDX-License-Identifier: Apache-2.0
 * Spans as OTLP/HTTP JSON (POST /v1/traces): ids in hexadecimal, enums as integers, 64-bit integers as text. Spans
 * are written one after another into a batch, which becomes one body. One thread. */
#ifndef INGOT_NET_OTLP_H
#define INGOT_NET_OTLP_H

#include "text/json.h"

typedef enum OtlpKind { OTLP_INTERNAL = 1, OTLP_SERVER = 2, OTLP_CLIENT = 3 } OtlpKind;

typedef struct OtlpSpan {
    const char *trace, *span, *parent; /* hexadecimal; parent NULL or "": none */
    const char *name;
    OtlpKind kind;
    uint64_t start_ns, end_ns; /* since 1970 */
    const char *error;         /* NULL: it went well */
} OtlpSpan;

typedef struct OtlpBatch {
    StrBuf spans; /* with commas between */
    int n;
    JsonW w; /* of the span that is open */
} OtlpBatch;

/* Open a span; its attributes follow, then otlp_end. */
void otlp_begin(OtlpBatch *b, const OtlpSpan *s);
void otlp_str(OtlpBatch *b, const char *key, Slice v);
void otlp_int(OtlpBatch *b, const char *key, int64_t v);
void otlp_num(OtlpBatch *b, const char *key, double v);
void otlp_end(OtlpBatch *b);
/* The body of all spans so far, appended to out; the batch is empty then. */
void otlp_take(OtlpBatch *b, StrBuf *out, const char *service, const char *version);
void otlp_deinit(OtlpBatch *b);

#endif
