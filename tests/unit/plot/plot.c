/* SPDX-License-Identifier: Apache-2.0
 * Charts: long curves stay small, axes hold for odd values, numbers read well. */
#include "plot/plot.h"

#include <stdio.h>

#include "test.h"

static size_t count(const char *s, const char *what) {
    size_t n = 0;
    for (const char *p = strstr(s, what); p; p = strstr(p + 1, what)) n++;
    return n;
}

TEST(long_run_stays_small) {
    enum { N = 50000 };
    PlotCurve c = {mem_new_n(double, N), mem_new_n(double, N), N, N};
    StrBuf b = {0};
    for (size_t i = 0; i < N; i++) {
        c.x[i] = (double)i;
        c.y[i] = i == 31234 ? 9.5 : 2 + (double)(i % 3);
    }
    PlotLine l = {.name = "", .style = "a", .curve = &c, .band = true};
    plot_put(&b, &(Plot){.title = "T",
                         .by = "step",
                         .w = 500,
                         .h = 230,
                         .line = &l,
                         .n_line = 1,
                         .from_zero = true});
    OK_(sb_check(&b, TERR));
    EQ(count(b.p, "L"), 999 + 1999);
    TRUE_(strstr(b.p, "\"y\":[0,10,200,12]")); /* the axis reaches the one spike, at 9.5 */
    EQ(count(b.p, " 21.4L"), 1);               /* and the band shows it */
    mem_free(c.x);
    mem_free(c.y);
    sb_deinit(&b);
}

TEST(axes_hold_for_odd_values) {
    static const double values[][2] = {{0, 0},         {5, 5},          {-3, -3},
                                       {1e-12, 1e-12}, {1e100, -1e100}, {1e100, 1e100},
                                       {1, 1 + 1e-15}, {0.1, 0.7},      {-2, 7}};
    for (size_t i = 0; i < COUNT_OF(values); i++) {
        double x[2] = {0, 1}, y[2] = {values[i][0], values[i][1]};
        PlotCurve c = {x, y, 2, 2};
        StrBuf b = {0};
        PlotLine l = {.name = "", .style = "a", .curve = &c};
        plot_put(&b,
                 &(Plot){.title = "T", .by = "step", .w = 500, .h = 230, .line = &l, .n_line = 1});
        OK_(sb_check(&b, TERR));
        TRUE_(!strstr(b.p, "nan") && !strstr(b.p, "inf") && !strstr(b.p, "null"));
        size_t ticks = count(b.p, "<text");
        if (ticks < 4 || ticks > 18) FAIL("%g..%g: %zu ticks", y[0], y[1], ticks);
        sb_deinit(&b);
    }
}

TEST(numbers_read_well) {
    static const struct {
        double v;
        const char *text;
    } rows[] = {{0, "0"},          {999, "999"},       {1000, "1,000"}, {1234567, "1,234,567"},
                {-1000, "-1,000"}, {2.34567, "2.346"}, {1e20, "1e+20"}, {0.00012346, "0.0001235"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        StrBuf b = {0};
        plot_put_number(&b, rows[i].v);
        EQ_STR(sb_str(&b), rows[i].text);
        sb_deinit(&b);
    }
}
