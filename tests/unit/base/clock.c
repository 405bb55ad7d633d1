/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <math.h>
#include <time.h>

#include "test.h"

TEST(clock_goes_forward) {
    uint64_t a = clock_now_ns();
    nanosleep(&(struct timespec){0, 2000000}, NULL);
    uint64_t b = clock_now_ns();
    TRUE_(b - a >= 2000000 && b - a < 60000000000u);
    NEAR(clock_now_s(), (double)b * 1e-9, 60);
}

static const char *span(double s) {
    static char buf[24];
    return clock_format_span(buf, s);
}

TEST(spans) {
    EQ_STR(span(0), "0.0s");
    EQ_STR(span(12.34), "12.3s");
    EQ_STR(span(59.94), "59.9s");
    EQ_STR(span(59.97), "1m00s"); /* never "60.0s" */
    EQ_STR(span(200), "3m20s");
    EQ_STR(span(3599.4), "59m59s");
    EQ_STR(span(3599.6), "1h00m");
    EQ_STR(span(3720), "1h02m");
    EQ_STR(span(360000), "100h00m");
}

TEST(odd_spans) {
    EQ_STR(span(-1), "0.0s");
    EQ_STR(span((double)NAN), "0.0s");
    TRUE_(strlen(span((double)INFINITY)) < 24);
}
