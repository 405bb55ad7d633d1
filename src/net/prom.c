/* SPDX-License-Identifier: Apache-2.0
 * The two text formats differ in a counter's head, the type of an info, and the last line. */
#include "net/prom.h"

#include <math.h>
#include <stdlib.h>
#include <strings.h>

/* The q of a media range in an Accept header: 1 if it has none; below 0 if the range is not there. */
static double quality(Slice accept, const char *range) {
    const char *at = accept.n ? memmem(accept.p, accept.n, range, strlen(range)) : NULL;
    if (!at) return -1;
    size_t left = accept.n - (size_t)(at - accept.p);
    const char *end = memchr(at, ',', left);
    size_t n = end ? (size_t)(end - at) : left;
    const char *q = memmem(at, n, "q=", 2);
    char digits[8] = "";
    if (!q || (q[-1] != ';' && q[-1] != ' ')) return 1;
    size_t m = MIN(n - (size_t)(q - at) - 2, sizeof digits - 1);
    memcpy(digits, q + 2, m);
    return atof(digits);
}

bool prom_wants_openmetrics(Slice accept) {
    double open = quality(accept, "application/openmetrics-text");
    return open > 0 && open >= quality(accept, "text/plain");
}

const char *prom_content_type(bool openmetrics) {
    return openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                       : "text/plain; version=0.0.4; charset=utf-8";
}

void prom_begin(PromW *w, StrBuf *b, bool openmetrics, const char *labels) {
    *w = (PromW){.b = b, .openmetrics = openmetrics, .labels = labels ? labels : ""};
}

static const char *type_name(const PromW *w) {
    switch (w->type) {
    case PROM_COUNTER: return "counter";
    case PROM_GAUGE: return "gauge";
    case PROM_HISTOGRAM: return "histogram";
    case PROM_INFO: return w->openmetrics ? "info" : "gauge";
    }
    return "untyped";
}

/* In 0.0.4 head and samples have one name; OpenMetrics heads leave the ending out. */
static const char *head_ending(const PromW *w) {
    if (w->openmetrics) return "";
    return w->type == PROM_COUNTER ? "_total" : w->type == PROM_INFO ? "_info" : "";
}

static const char *ending(const PromW *w) {
    return w->type == PROM_COUNTER ? "_total" : w->type == PROM_INFO ? "_info" : "";
}

void prom_family(PromW *w, PromType type, const char *name, const char *help) {
    w->name = name;
    w->type = type;
    sb_printf(w->b, "# HELP %s%s ", name, head_ending(w));
    for (const char *p = help; *p; p++) {
        if (*p == '\\') sb_puts(w->b, "\\\\");
        else if (*p == '\n') sb_puts(w->b, "\\n");
        else sb_putc(w->b, *p);
    }
    sb_printf(w->b, "\n# TYPE %s%s %s\n", name, head_ending(w), type_name(w));
}

void prom_escape(StrBuf *b, Slice text) {
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '\\') sb_puts(b, "\\\\");
        else if (c == '"') sb_puts(b, "\\\"");
        else if (c == '\n') sb_puts(b, "\\n");
        else sb_putc(b, c);
    }
}

static void put_number(StrBuf *b, double v) {
    if (isnan(v)) sb_puts(b, "NaN");
    else if (isinf(v)) sb_puts(b, v > 0 ? "+Inf" : "-Inf");
    else sb_printf(b, "%.17g", v);
}

/* Bounds as people write them: 0.1, not 0.10000000000000001. */
static void put_bound(StrBuf *b, double v) {
    if (isinf(v)) sb_puts(b, "+Inf");
    else sb_printf(b, v == floor(v) && fabs(v) < 1e15 ? "%.1f" : "%.10g", v);
}

static void put_labels(PromW *w, const char *extra, const double *le) {
    bool some = *w->labels || extra || le;
    if (!some) return;
    sb_putc(w->b, '{');
    sb_puts(w->b, w->labels);
    if (extra) sb_printf(w->b, "%s%s", *w->labels ? "," : "", extra);
    if (le) {
        sb_puts(w->b, *w->labels || extra ? ",le=\"" : "le=\"");
        put_bound(w->b, *le);
        sb_putc(w->b, '"');
    }
    sb_putc(w->b, '}');
}

static void put_sample(PromW *w, const char *end, const char *extra, const double *le, double v) {
    sb_printf(w->b, "%s%s", w->name, end);
    put_labels(w, extra, le);
    sb_putc(w->b, ' ');
    put_number(w->b, v);
    sb_putc(w->b, '\n');
}

void prom_value(PromW *w, const char *extra, double v) { put_sample(w, ending(w), extra, NULL, v); }

void prom_hist(PromW *w, const char *extra, const PromHist *h) {
    static const double inf = HUGE_VAL;
    for (int i = 0; i < h->n; i++)
        put_sample(w, "_bucket", extra, &h->bound[i], (double)h->upto[i]);
    put_sample(w, "_bucket", extra, &inf, (double)h->count);
    put_sample(w, "_sum", extra, NULL, h->sum);
    put_sample(w, "_count", extra, NULL, (double)h->count);
}

void prom_end(PromW *w) {
    if (w->openmetrics) sb_puts(w->b, "# EOF\n");
}
