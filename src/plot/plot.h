/* SPDX-License-Identifier: Apache-2.0
 * Pages with curves: one HTML file that needs no network, light or dark as the browser asks. Long curves are cut into
 * buckets of neighbouring points, so that a page stays small. A page is opened, filled with figures and sections of
 * the caller's, closed; its Content-Security-Policy keeps it from loading anything. All of it is appended to a StrBuf
 * with its sticky failure. One thread per page. */
#ifndef INGOT_PLOT_PLOT_H
#define INGOT_PLOT_PLOT_H

#include "base/str.h"

/* Points of rising x. Zeroed: empty. */
typedef struct PlotCurve {
    double *x, *y; /* owned */
    size_t n, cap;
} PlotCurve;

/* A point at the end; points at x and beyond are dropped before. ERR_NOMEM. */
MUST_CHECK Status plot_curve_add(PlotCurve *c, double x, double y, Err *e);
void plot_curve_deinit(PlotCurve *c);

/* One line of a chart. */
typedef struct PlotLine {
    const char *name;  /* in the legend; "": the chart's only line needs none */
    const char *style; /* CSS class a..e for the colour, more after a blank: faint, dash */
    const PlotCurve *curve;
    bool dots; /* few points, each shown */
    bool ring; /* around the least of them */
    bool
        band; /* least and greatest value of each bucket behind the line, where there are buckets */
} PlotLine;

typedef struct Plot {
    const char *title;
    const char *by; /* what x counts: "step", "second" */
    int w, h;       /* of the viewBox */
    const PlotLine *line;
    int n_line;
    bool from_zero; /* the y axis begins at 0 */
    bool fine_x;    /* values under the pointer have fractions of x */
} Plot;

/* A figure with legend, axes, curves and the values for the script. Nothing for a chart without points. A line has at
 * most 1,000 points: longer curves are drawn by the means of buckets. */
void plot_put(StrBuf *b, const Plot *p);
/* "12,345" for whole numbers up to 2^53, else up to 4 significant digits. */
void plot_put_number(StrBuf *b, double v);
/* Any bytes as text of the page. */
void plot_put_escaped(StrBuf *b, Slice s);

/* The page up to its heading; "what" stands in the title and below the heading. */
void plot_open_page(StrBuf *b, Slice name, const char *what);
void plot_close_page(StrBuf *b);

#endif
