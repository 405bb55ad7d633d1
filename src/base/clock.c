/* SPDX-License-Identifier: Apache-2.0
 * Monotonic clock and spans for people. Any thread. */
#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

uint64_t clock_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

const char *clock_format_span(char buf[24], double seconds) {
    double s = seconds > 0 ? fmin(seconds, 1e12) : 0; /* negative and nan: nothing to wait for */
    long long whole = llround(s), minutes = (whole + 30) / 60;
    if (s < 59.95) snprintf(buf, 24, "%.1fs", s);
    else if (whole < 3600) snprintf(buf, 24, "%dm%02ds", (int)whole / 60, (int)whole % 60);
    else snprintf(buf, 24, "%lldh%02dm", minutes / 60, (int)(minutes % 60));
    return buf;
}
