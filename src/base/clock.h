/* SPDX-License-Identifier: Apache-2.0
 * Monotonic time. Any thread. */
#ifndef INGOT_BASE_CLOCK_H
#define INGOT_BASE_CLOCK_H

#include "base/platform.h"

/* Nanoseconds since some moment in the past; never goes back. */
uint64_t clock_now_ns(void);
static inline double clock_now_s(void) { return (double)clock_now_ns() * 1e-9; }
/* "1h02m", "3m20s", "12.3s" into buf; returns buf. */
const char *clock_format_span(char buf[24], double seconds);

#endif
