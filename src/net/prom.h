/* SPDX-License-Identifier: Apache-2.0
 * Metrics as text: Prometheus' format 0.0.4 and OpenMetrics 1.0 from the same calls. One family at a time: its head,
 * then its samples. Names of counters are given without _total. */
#ifndef INGOT_NET_PROM_H
#define INGOT_NET_PROM_H

#include "base/str.h"

typedef enum PromType { PROM_COUNTER, PROM_GAUGE, PROM_HISTOGRAM, PROM_INFO } PromType;

typedef struct PromW {
    StrBuf *b;        /* borrowed */
    bool openmetrics; /* else 0.0.4 */
    const char *name; /* of the family that is open */
    PromType type;
    const char *labels; /* of every sample: "model_name=\"m\"", or "" */
} PromW;

/* A histogram as prom_hist takes it: buckets cumulative. */
typedef struct PromHist {
    const double *bound; /* [n] */
    const uint64_t *upto;
    int n;
    uint64_t count;
    double sum;
} PromHist;

/* Whether an Accept header asks for OpenMetrics rather than for plain text. */
bool prom_wants_openmetrics(Slice accept);
/* The media type to answer with. */
const char *prom_content_type(bool openmetrics);
/* labels is borrowed: label pairs that all samples get, already escaped; "" or NULL for none. */
void prom_begin(PromW *w, StrBuf *b, bool openmetrics, const char *labels);
/* Open a family. A name that is no metric name, such as one with a blank, is the caller's mistake. */
void prom_family(PromW *w, PromType type, const char *name, const char *help);
/* A sample of it; extra: further label pairs, or NULL. */
void prom_value(PromW *w, const char *extra, double v);
void prom_hist(PromW *w, const char *extra, const PromHist *h);
/* Append text as the value of a label, escaped, without quotation marks. */
void prom_escape(StrBuf *b, Slice text);
/* The end of the whole text. */
void prom_end(PromW *w);

#endif
