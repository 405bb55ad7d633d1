/* SPDX-License-Identifier: Apache-2.0
 * Shared by the report's files: report.c (the page), report_read.c (the run's files), report_plot.c (a chart
 * as SVG), report_style.c (CSS and the script that shows values under the pointer). */
#ifndef INGOT_TRAIN_REPORT_INTERNAL_H
#define INGOT_TRAIN_REPORT_INTERNAL_H

#include "base/str.h"

/* Points of rising x. */
typedef struct Curve {
    double *x, *y; /* owned */
    size_t n, cap;
} Curve;

typedef enum CurveId {
    CURVE_LOSS,
    CURVE_LR,
    CURVE_GRAD,
    CURVE_TOKENS,
    CURVE_EVAL_TRAIN,
    CURVE_VAL,
    CURVE_SPEED,
    CURVE_MFU,
    CURVE_SMOOTH, /* made from CURVE_LOSS */
    CURVES
} CurveId;

typedef struct ReportData {
    Curve curve[CURVES];
    double seconds; /* of training, all continuations together; 0: not known */
    StrBuf config;  /* owned; empty without config.yaml */
} ReportData;

/* All files of the run. Free with train__report_deinit in every case. */
MUST_CHECK Status train__report_read(ReportData *d, const char *run_dir, Err *e);
void train__report_deinit(ReportData *d);

/* One line of a chart. */
typedef struct PlotLine {
    const char *name;  /* in the legend; "": the chart's only line needs none */
    const char *style; /* CSS class a..d for the colour, more after a blank */
    const Curve *curve;
    bool dots; /* few points, each shown */
    bool
        band; /* least and greatest value of each bucket behind the line, where there are buckets */
} PlotLine;

typedef struct Plot {
    const char *title;
    int w, h; /* of the viewBox */
    const PlotLine *line;
    int n_line;
    bool from_zero; /* the y axis begins at 0 */
} Plot;

/* A figure with legend, axes, curves and the values for the script, appended. Nothing for a chart without
 * points. A line has at most 1,000 points: longer curves are drawn by the means of buckets. */
void train__plot(StrBuf *b, const Plot *p);
/* "12,345" for whole numbers up to 2^53, else up to 4 significant digits. */
void train__put_number(StrBuf *b, double v);

extern const char train__report_css[], train__report_js[];

#endif
