/* SPDX-License-Identifier: Apache-2.0
 * The page: what came out in a table, the curves, the configuration. All of it is in one file, and its
 * Content-Security-Policy keeps it from loading anything. What stands in the run's files is escaped. */
#include "train/report.h"

#include <math.h>

#include "base/clock.h"
#include "base/io.h"
#include "train/report_internal.h"

enum { WIDE = 1000, NARROW = 500, TALL = 380, LOW = 230, MAX_EVAL_ROWS = 200 };

/* Last part of the folder's path. */
static Slice run_name(const char *dir) {
    size_t n = strlen(dir), from;
    while (n > 1 && dir[n - 1] == '/') n--;
    for (from = n; from > 0 && dir[from - 1] != '/'; from--) continue;
    return (Slice){dir + from, n - from};
}

/* ---- tables ---- */

static size_t best_of(const PlotCurve *c) {
    size_t best = 0;
    for (size_t i = 1; i < c->n; i++)
        if (c->y[i] < c->y[best]) best = i;
    return best;
}

static double last_y(const PlotCurve *c) { return c->y[c->n - 1]; }

static void put_head(StrBuf *b, const char *what) {
    sb_printf(b, "<tr><th>%s</th><td class=\"n\">", what);
}

static void put_row(StrBuf *b, const char *what, double v, const char *unit) {
    put_head(b, what);
    plot_put_number(b, v);
    sb_printf(b, "%s</td></tr>\n", unit);
}

static void put_loss_rows(StrBuf *b, const ReportData *d) {
    const PlotCurve *val = &d->curve[CURVE_VAL], *smooth = &d->curve[CURVE_SMOOTH];
    if (val->n > 0) {
        size_t i = best_of(val);
        put_head(b, "best validation loss");
        sb_printf(b, "<b>%.4f</b></td></tr>\n", val->y[i]);
        put_row(b, "&emsp;at step", val->x[i], "");
        put_row(b, "&emsp;perplexity", exp(val->y[i]), "");
        put_head(b, "last validation loss");
        sb_printf(b, "%.4f</td></tr>\n", last_y(val));
    }
    if (smooth->n == 0) return;
    put_head(b, "last training loss, smoothed");
    sb_printf(b, "%.4f</td></tr>\n", last_y(smooth));
}

static double last_step(const ReportData *d) {
    double last = 0;
    for (int i = 0; i < CURVES; i++)
        if (d->curve[i].n > 0) last = fmax(last, d->curve[i].x[d->curve[i].n - 1]);
    return last;
}

static void put_summary(StrBuf *b, const ReportData *d) {
    const PlotCurve *tokens = &d->curve[CURVE_TOKENS];
    char span[24];
    sb_puts(b, "<section><h2>Summary</h2>\n<table>\n");
    put_loss_rows(b, d);
    put_row(b, "steps", last_step(d), "");
    if (tokens->n > 0) put_row(b, "tokens", last_y(tokens), "");
    if (d->seconds > 0) {
        put_head(b, "time");
        sb_printf(b, "%s</td></tr>\n", clock_format_span(span, d->seconds));
    }
    if (tokens->n > 0 && d->seconds > 0)
        put_row(b, "speed, all counted", round(last_y(tokens) / d->seconds), " tokens/s");
    sb_puts(b, "</table></section>\n");
}

/* Value at exactly x; NaN if there is none. */
static double value_at(const PlotCurve *c, double x) {
    size_t i = 0;
    while (i < c->n && c->x[i] < x) i++;
    return i < c->n && c->x[i] <= x ? c->y[i] : (double)NAN;
}

static void put_evals(StrBuf *b, const ReportData *d) {
    const PlotCurve *val = &d->curve[CURVE_VAL];
    if (val->n == 0) return;
    size_t best = best_of(val), every = (val->n + MAX_EVAL_ROWS - 1) / MAX_EVAL_ROWS;
    sb_puts(b, "<section><h2>Validations</h2>\n<div class=\"scroll\"><table>\n<tr><th>step</th>"
               "<th class=\"n\">training loss</th><th class=\"n\">validation loss</th></tr>\n");
    for (size_t i = val->n; i-- > 0;) {
        if (i % every != 0 && i != best && i + 1 != val->n) continue;
        double t = value_at(&d->curve[CURVE_EVAL_TRAIN], val->x[i]);
        sb_puts(b, i == best ? "<tr class=\"best\"><td>" : "<tr><td>");
        plot_put_number(b, val->x[i]);
        if (isnan(t)) sb_puts(b, "</td><td></td>");
        else sb_printf(b, "</td><td class=\"n\">%.4f</td>", t);
        sb_printf(b, "<td class=\"n\">%.4f%s</td></tr>\n", val->y[i], i == best ? " best" : "");
    }
    sb_puts(b, "</table></div></section>\n");
}

static void put_config(StrBuf *b, const ReportData *d) {
    if (d->config.n == 0) return;
    sb_puts(b, "<section><h2>Configuration</h2>\n<pre>");
    plot_put_escaped(b, (Slice){d->config.p, d->config.n});
    sb_puts(b, "</pre></section>\n");
}

/* ---- charts ---- */

static void put_loss_chart(StrBuf *b, const ReportData *d) {
    const PlotLine lines[] = {
        {.name = "training", .style = "a faint", .curve = &d->curve[CURVE_LOSS], .band = true},
        {.name = "training, smoothed", .style = "a", .curve = &d->curve[CURVE_SMOOTH]},
        {.name = "validation",
         .style = "b",
         .curve = &d->curve[CURVE_VAL],
         .dots = true,
         .ring = true},
    };
    plot_put(b, &(Plot){.title = "Loss",
                        .by = "step",
                        .w = WIDE,
                        .h = TALL,
                        .line = lines,
                        .n_line = (int)COUNT_OF(lines)});
}

static void put_small_charts(StrBuf *b, const ReportData *d) {
    static const struct {
        const char *title, *style;
        CurveId curve;
    } rows[] = {{"Learning rate", "c", CURVE_LR},
                {"Gradient norm", "d", CURVE_GRAD},
                {"Tokens per second", "a", CURVE_SPEED},
                {"Share of the processor's peak, %", "b", CURVE_MFU}};
    sb_puts(b, "<div class=\"two\">\n");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        PlotLine l = {.name = "",
                      .style = rows[i].style,
                      .curve = &d->curve[rows[i].curve],
                      .band = true};
        plot_put(b, &(Plot){.title = rows[i].title,
                            .by = "step",
                            .w = NARROW,
                            .h = LOW,
                            .line = &l,
                            .n_line = 1,
                            .from_zero = true});
    }
    sb_puts(b, "</div>\n");
}

/* ---- the page ---- */

static void put_page(StrBuf *b, const ReportData *d, Slice name) {
    plot_open_page(b, name, "Training report");
    put_loss_chart(b, d);
    put_small_charts(b, d);
    sb_puts(b, "<div class=\"two\">\n");
    put_summary(b, d);
    put_evals(b, d);
    sb_puts(b, "</div>\n");
    put_config(b, d);
    plot_close_page(b);
}

static Status write_page(const StrBuf *page, const char *run_dir, Err *e) {
    StrBuf path = {0};
    IoWriter w = {0};
    sb_printf(&path, "%s/report.html", run_dir);
    Status st = sb_check(&path, e);
    if (st == OK) st = io_writer_open(&w, path.p, true, e);
    if (st == OK) {
        st = io_write(&w, page->p, page->n, e);
        if (st == OK) st = io_writer_close(&w, e);
        else io_writer_abort(&w);
    }
    sb_deinit(&path);
    return st;
}

Status train_report_write(const char *run_dir, Err *e) {
    ReportData d;
    StrBuf page = {0};
    Status st = train__report_read(&d, run_dir, e);
    if (st == OK) {
        put_page(&page, &d, run_name(run_dir));
        st = sb_check(&page, e);
    }
    if (st == OK) st = write_page(&page, run_dir, e);
    sb_deinit(&page);
    train__report_deinit(&d);
    return st;
}
