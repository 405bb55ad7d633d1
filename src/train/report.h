/* SPDX-License-Identifier: Apache-2.0
 * The report of a training run: one HTML page that needs no network. It reads what the run wrote
 *
 *   metrics.jsonl   {"iter":10,"loss":3.2,"lr":0.001,"grad_norm":1.1,"tokens":40960}        a step
 *                   {"iter":100,"train_loss":3.1,"val_loss":3.3,"best":true}                a validation
 *   speed.jsonl     {"iter":10,"tok_s":5100.0,"mfu":0.41,"elapsed_s":12.5}                  may be absent
 *   config.yaml     shown as it is                                                          may be absent
 *
 * A member that is absent or null is a gap in its curve. */
#ifndef INGOT_TRAIN_REPORT_H
#define INGOT_TRAIN_REPORT_H

#include "base/err.h"

/* Write run_dir/report.html atomically. ERR_NOT_FOUND without metrics.jsonl; ERR_FORMAT names the line that
 * is no such object. Any thread, one a folder. */
MUST_CHECK Status train_report_write(const char *run_dir, Err *e);

#endif
