/* SPDX-License-Identifier: Apache-2.0
 * Shared by the report's files: report.c (the page), report_read.c (the run's files). */
#ifndef INGOT_TRAIN_REPORT_INTERNAL_H
#define INGOT_TRAIN_REPORT_INTERNAL_H

#include "plot/plot.h"

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
    PlotCurve curve[CURVES];
    double seconds; /* of training, all continuations together; 0: not known */
    StrBuf config;  /* owned; empty without config.yaml */
} ReportData;

/* All files of the run. Free with train__report_deinit in every case. */
MUST_CHECK Status train__report_read(ReportData *d, const char *run_dir, Err *e);
void train__report_deinit(ReportData *d);

#endif
