/* SPDX-License-Identifier: Apache-2.0
 * The page of a load: with several points the curves over the rate and a table first, then each point with its
 * distributions, what happened when, and how requests failed. */
#include <math.h>

#include "load/out.h"
#include "plot/plot.h"

enum {
    NARROW = 500,
    LOW = 230,
    STEPS = 200,
    BARS = 60,
    MAX_OPEN = 16,
    MAX_LINES = 4,
    STRETCHES = 60
};

/* A chart in the making: its curves are freed with it. */
typedef struct Chart {
    PlotCurve curve[MAX_LINES];
    PlotLine line[MAX_LINES];
    int n;
    Status st;
    Err *e;
} Chart;

static PlotCurve *line(Chart *c, const char *name, const char *style, bool dots) {
    PlotCurve *v = &c->curve[c->n];
    c->line[c->n++] = (PlotLine){.name = name, .style = style, .curve = v, .dots = dots};
    return v;
}

static void add(Chart *c, PlotCurve *v, double x, double y) {
    if (c->st == OK && isfinite(x) && isfinite(y)) c->st = plot_curve_add(v, x, y, c->e);
}

static Status draw(Chart *c, StrBuf *b, const char *title, const char *by, int w, int h) {
    if (c->st == OK)
        plot_put(b, &(Plot){.title = title,
                            .by = by,
                            .w = w,
                            .h = h,
                            .line = c->line,
                            .n_line = c->n,
                            .from_zero = true,
                            .fine_x = true});
    for (int i = 0; i < MAX_LINES; i++) plot_curve_deinit(&c->curve[i]);
    return c->st;
}

static double at_ms(const LoadHist *h, double q) { return (double)load_hist_at(h, q) * 1e-6; }

/* ---- over the points ---- */

static double x_of(const LoadPoint *p) { return p->users ? p->users : p->rate; }
static const char *by_of(const LoadPoint *p) { return p->users ? "user" : "request a second"; }

/* The i-th smallest x: points of a search come in any order. */
static const LoadPoint *in_order(const LoadPoint *p, int n, int i) {
    for (int k = 0; k < n; k++) {
        int less = 0;
        for (int j = 0; j < n; j++)
            less += x_of(&p[j]) < x_of(&p[k]) || (x_of(&p[j]) <= x_of(&p[k]) && j < k);
        if (less == i) return &p[k];
    }
    return &p[0];
}

static Status put_latency(StrBuf *b, const LoadPoint *p, int n, LoadTime t, const char *title,
                          uint64_t limit, Err *e) {
    Chart c = {.e = e};
    static const struct {
        const char *name, *style;
        double q;
    } rows[] = {{"p50", "a", 0.5}, {"p90", "b", 0.9}, {"p99", "c", 0.99}};
    for (size_t k = 0; k < COUNT_OF(rows); k++) {
        PlotCurve *v = line(&c, rows[k].name, rows[k].style, true);
        for (int i = 0; i < n; i++) {
            const LoadPoint *q = in_order(p, n, i);
            if (q->stats->time[t].n > 0) add(&c, v, x_of(q), at_ms(&q->stats->time[t], rows[k].q));
        }
    }
    if (limit > 0) {
        PlotCurve *v = line(&c, "limit", "e dash", false);
        add(&c, v, 0, (double)limit * 1e-6);
        add(&c, v, x_of(in_order(p, n, n - 1)), (double)limit * 1e-6);
    }
    return draw(&c, b, title, by_of(p), NARROW, LOW);
}

static double tokens_s(const LoadStats *s) {
    double elapsed = load_stats_elapsed(s);
    return elapsed > 0 ? (double)s->n_out / elapsed : 0;
}

static Status put_throughput(StrBuf *b, const LoadPoint *p, int n, Err *e) {
    Chart c = {.e = e};
    PlotCurve *v = line(&c, "", "d", true);
    for (int i = 0; i < n; i++)
        add(&c, v, x_of(in_order(p, n, i)), tokens_s(in_order(p, n, i)->stats));
    return draw(&c, b, "Tokens a second", by_of(p), NARROW, LOW);
}

static Status put_goodput(StrBuf *b, const LoadPoint *p, int n, Err *e) {
    Chart c = {.e = e};
    bool slo = load_slo_any(&p->slo);
    PlotCurve *all = line(&c, "answered", "a", true);
    PlotCurve *good = line(&c, slo ? "within the limits" : "", "d", true);
    for (int i = 0; i < n; i++) {
        const LoadPoint *q = in_order(p, n, i);
        double window = fmax(q->stats->window_s, 1e-9);
        add(&c, all, x_of(q), (double)q->stats->n_ok / window);
        if (slo) add(&c, good, x_of(q), load_stats_goodput(q->stats));
    }
    return draw(&c, b, "Requests a second that were", by_of(p), NARROW, LOW);
}

static Status put_curves(StrBuf *b, const LoadPoint *p, int n, Err *e) {
    sb_puts(b, "<div class=\"two\">\n");
    TRY(put_latency(b, p, n, LOAD_TTFT, "Time to the first token, ms", p->slo.ttft, e));
    TRY(put_latency(b, p, n, LOAD_TPOT, "Time per token after it, ms", p->slo.tpot, e));
    TRY(put_latency(b, p, n, LOAD_E2E, "Time to the end, ms", p->slo.e2e, e));
    TRY(put_goodput(b, p, n, e));
    TRY(put_throughput(b, p, n, e));
    sb_puts(b, "</div>\n");
    return OK;
}

static void put_cell(StrBuf *b, double v, bool there) {
    if (there) {
        sb_puts(b, "<td class=\"n\">");
        plot_put_number(b, v);
        sb_puts(b, "</td>");
    } else {
        sb_puts(b, "<td class=\"n\">-</td>");
    }
}

static void put_points(StrBuf *b, const LoadPoint *p, int n, int best) {
    bool slo = load_slo_any(&p->slo);
    sb_printf(b, "<section><h2>Points</h2>\n<div class=\"scroll\"><table><tr><th>%s</th>",
              p->users ? "users" : "requests/s");
    sb_puts(
        b, "<th class=\"n\">answered</th><th class=\"n\">failed</th><th class=\"n\">TTFT p50</th>"
           "<th class=\"n\">p99</th><th class=\"n\">TPOT p50</th><th class=\"n\">p99</th>"
           "<th class=\"n\">e2e p50</th><th class=\"n\">p99, ms</th><th class=\"n\">tokens/s</th>");
    sb_puts(b, slo ? "<th class=\"n\">within</th><th>verdict</th></tr>\n" : "</tr>\n");
    for (int i = 0; i < n; i++) {
        const LoadPoint *q = in_order(p, n, i);
        const LoadStats *s = q->stats;
        LoadShare sh;
        LoadVerdict v = load_verdict(q, &sh);
        sb_puts(b, q - p == best ? "<tr class=\"best\"><td>" : "<tr><td>");
        plot_put_number(b, x_of(q));
        sb_puts(b, "</td>");
        put_cell(b, (double)s->n_ok, true);
        put_cell(b, (double)load_stats_failed(s), true);
        static const LoadTime times[] = {LOAD_TTFT, LOAD_TPOT, LOAD_E2E};
        for (size_t k = 0; k < COUNT_OF(times); k++) {
            put_cell(b, at_ms(&s->time[times[k]], 0.5), s->time[times[k]].n > 0);
            put_cell(b, at_ms(&s->time[times[k]], 0.99), s->time[times[k]].n > 0);
        }
        put_cell(b, tokens_s(s), true);
        if (slo)
            sb_printf(b, "<td class=\"n\">%.1f%%</td><td>%s</td>", sh.share * 100,
                      load_verdict_words(v));
        sb_puts(b, "</tr>\n");
    }
    sb_puts(b, "</table></div></section>\n");
}

/* ---- one point ---- */

static Status put_cdf(StrBuf *b, const LoadStats *s, LoadTime t, const char *title, Err *e) {
    const LoadHist *h = &s->time[t];
    Chart c = {.e = e};
    if (h->n == 0) return OK;
    PlotCurve *v = line(&c, "", "a", false);
    add(&c, v, (double)h->min * 1e-6, 100.0 / (double)h->n);
    for (int i = 1; i <= STEPS; i++) {
        double q = (double)i / STEPS;
        add(&c, v, at_ms(h, q), 100 * q);
    }
    return draw(&c, b, title, "millisecond", NARROW, LOW);
}

/* The histogram as a density, so that areas are shares though bars of the tail are wider. */
static Status put_density(StrBuf *b, const LoadStats *s, LoadTime t, const char *title, Err *e) {
    const LoadHist *h = &s->time[t];
    LoadBar bar[BARS];
    Chart c = {.e = e};
    int n = load_hist_bars(h, bar, BARS);
    if (n == 0) return OK;
    PlotCurve *v = line(&c, "", "c", false);
    add(&c, v, bar[0].from * 1e-6, 0);
    for (int i = 0; i < n; i++) {
        double from = bar[i].from * 1e-6, to = bar[i].to * 1e-6, width = to - from;
        double y = 100.0 * (double)bar[i].n / (double)h->n / width;
        add(&c, v, from + 1e-6 * width, y); /* a curve's x has to rise */
        add(&c, v, to, y);
    }
    add(&c, v, bar[n - 1].to * 1e-6 * (1 + 1e-9), 0);
    return draw(&c, b, title, "millisecond", NARROW, LOW);
}

static Status put_cdfs(StrBuf *b, const LoadStats *s, Err *e) {
    sb_puts(b, "<div class=\"two\">\n");
    TRY(put_cdf(b, s, LOAD_TTFT, "% with the first token", e));
    TRY(put_density(b, s, LOAD_TTFT, "Histogram: first tokens, % a millisecond", e));
    TRY(put_cdf(b, s, LOAD_ITL, "% of gaps between tokens", e));
    TRY(put_density(b, s, LOAD_ITL, "Histogram: gaps between tokens, % a millisecond", e));
    TRY(put_cdf(b, s, LOAD_TPOT, "% with their time per token", e));
    TRY(put_density(b, s, LOAD_TPOT, "Histogram: times per token, % a millisecond", e));
    TRY(put_cdf(b, s, LOAD_E2E, "% with the end", e));
    TRY(put_density(b, s, LOAD_E2E, "Histogram: whole answers, % a millisecond", e));
    sb_puts(b, "</div>\n");
    return OK;
}

static int n_bins(const LoadStats *s) {
    int n = 1;
    for (int i = 0; i < LOAD_BINS; i++)
        if (s->bin[i].n_plan || s->bin[i].n_ok || s->bin[i].n_fail || s->bin[i].n_text) n = i + 1;
    return n;
}

/* So many neighbours together. */
static LoadBin sum_of(const LoadBin *v, int n) {
    LoadBin k = {.n_plan = 0};
    for (int i = 0; i < n; i++) {
        k.n_plan += v[i].n_plan;
        k.n_ok += v[i].n_ok;
        k.n_fail += v[i].n_fail;
        k.n_ttft += v[i].n_ttft;
        k.n_text += v[i].n_text;
        k.flight = MAX(k.flight, v[i].flight);
        k.ttft_sum += v[i].ttft_sum;
        k.ttft_max = fmax(k.ttft_max, v[i].ttft_max);
    }
    return k;
}

static Status put_when(StrBuf *b, const LoadStats *s, Err *e) {
    Chart ttft = {.e = e}, rate = {.e = e}, tokens = {.e = e}, flight = {.e = e};
    PlotCurve *mean = line(&ttft, "mean", "a", false),
              *max = line(&ttft, "greatest", "b faint", false);
    PlotCurve *plan = line(&rate, "meant to start", "a faint", false);
    PlotCurve *ok = line(&rate, "answered", "d", false), *bad = line(&rate, "failed", "e", false);
    PlotCurve *tok = line(&tokens, "", "d", false), *fly = line(&flight, "", "c", false);
    int n = n_bins(s), step = MAX(n / STRETCHES, 2);
    double width = step * s->bin_s;
    for (int i = 0; i < n; i += step) {
        LoadBin k = sum_of(&s->bin[i], MIN(step, LOAD_BINS - i));
        double x = i * s->bin_s + width / 2;
        if (k.n_ttft) {
            add(&ttft, mean, x, k.ttft_sum / k.n_ttft * 1e-6);
            add(&ttft, max, x, k.ttft_max * 1e-6);
        }
        add(&rate, plan, x, k.n_plan / width);
        add(&rate, ok, x, k.n_ok / width);
        if (load_stats_failed(s) > 0) add(&rate, bad, x, k.n_fail / width);
        add(&tokens, tok, x, (double)k.n_text / width);
        add(&flight, fly, x, k.flight);
    }
    sb_puts(b, "<div class=\"two\">\n");
    Status st[] = {draw(&ttft, b, "Time to the first token, ms, by the start", "second", NARROW,
                        LOW),
                   draw(&rate, b, "Requests a second", "second", NARROW, LOW),
                   draw(&tokens, b, "Pieces of text a second", "second", NARROW, LOW),
                   draw(&flight, b, "Requests under way", "second", NARROW, LOW)};
    sb_puts(b, "</div>\n");
    for (size_t i = 0; i < COUNT_OF(st); i++) TRY(st[i]);
    return OK;
}

static void put_times(StrBuf *b, const LoadStats *s) {
    static const char *const names[] = {"first token", "between tokens", "per token", "end",
                                        "sent late by"};
    sb_puts(b, "<section><h2>Milliseconds");
    if (load_stats_failed(s) > 0) {
        sb_puts(b, ", of ");
        plot_put_number(b, (double)s->n_ok);
        sb_puts(b, " answered");
    }
    sb_puts(b, "</h2>\n<table><tr><th></th><th class=\"n\">mean</th>");
    for (int k = 0; k < LOAD_QUANTILES; k++)
        sb_printf(b, "<th class=\"n\">%s</th>", load_quantile_names[k]);
    sb_puts(b, "<th class=\"n\">max</th></tr>\n");
    for (int i = 0; i < LOAD_TIMES; i++) {
        const LoadHist *h = &s->time[i];
        sb_printf(b, "<tr><th>%s</th>", names[i]);
        put_cell(b, load_hist_mean(h) * 1e-6, h->n > 0);
        for (int k = 0; k < LOAD_QUANTILES; k++)
            put_cell(b, at_ms(h, load_quantiles[k]), h->n > 0 && !load_few(h, load_quantiles[k]));
        put_cell(b, (double)h->max * 1e-6, h->n > 0);
        sb_puts(b, "</tr>\n");
    }
    sb_puts(b, "</table></section>\n");
}

static void put_row(StrBuf *b, const char *name, double v, const char *unit) {
    sb_printf(b, "<tr><th>%s</th><td class=\"n\">", name);
    plot_put_number(b, v);
    sb_printf(b, "%s</td></tr>\n", unit);
}

static void put_summary(StrBuf *b, const LoadPoint *p) {
    const LoadStats *s = p->stats;
    double elapsed = fmax(load_stats_elapsed(s), 1e-9);
    LoadShare sh;
    LoadVerdict v = load_verdict(p, &sh);
    sb_puts(b, "<section><h2>Summary</h2>\n<table>\n");
    put_row(b, "requests sent", (double)s->n_sent, "");
    put_row(b, "answered", (double)s->n_ok, "");
    put_row(b, "failed", (double)load_stats_failed(s), "");
    put_row(b, "answers a second", (double)s->n_ok / elapsed, "");
    put_row(b, s->counted ? "tokens a second" : "pieces of text a second", tokens_s(s), "");
    if (v != LOAD_NO_SLO) {
        put_row(b, "goodput", load_stats_goodput(s), " requests/s");
        sb_printf(
            b,
            "<tr><th>within the limits</th><td class=\"n\">%.2f%% (%.2f to %.2f), %s</td></tr>\n",
            sh.share * 100, sh.lo * 100, sh.hi * 100, load_verdict_words(v));
    }
    put_row(b, "most at a time", s->flight_max, "");
    put_row(b, "sent over 10 ms late", (double)s->n_late, "");
    put_row(b, "the generator was busy", round(s->busy * 1000) / 10, "% of a processor");
    sb_puts(b, "</table></section>\n");
}

static void put_errors(StrBuf *b, const LoadStats *s) {
    if (load_stats_failed(s) == 0) return;
    sb_puts(b, "<section><h2>Failures</h2>\n<table>\n");
    for (int i = LOAD_OK + 1; i < LOAD_ENDS; i++) {
        if (s->fail[i].n == 0 || i == LOAD_STOPPED) continue;
        sb_printf(b, "<tr><th>%s</th><td class=\"n\">%llu</td><td>", load_end_words((LoadEnd)i),
                  (unsigned long long)s->fail[i].n);
        plot_put_escaped(b, slice_of(s->fail[i].example));
        sb_puts(b, "</td></tr>\n");
    }
    sb_puts(b, "</table></section>\n");
}

static Status put_point(StrBuf *b, const LoadPoint *p, Err *e) {
    sb_puts(b, "<div class=\"two\">\n");
    put_summary(b, p);
    put_times(b, p->stats);
    sb_puts(b, "</div>\n");
    put_errors(b, p->stats);
    TRY(put_when(b, p->stats, e));
    return put_cdfs(b, p->stats, e);
}

static bool is_last_look(const LoadPoint *p, int n, int i) {
    for (int k = i + 1; k < n; k++)
        if (fabs(x_of(&p[k]) - x_of(&p[i])) <= 1e-9 * x_of(&p[i])) return false;
    return true;
}

/* Of many points the last look at each rate, and of these the first MAX_OPEN. */
static Status put_details(StrBuf *b, const LoadPoint *p, int n, int best, Err *e) {
    int n_open = 0, n_left = 0;
    for (int i = 0; i < n; i++) {
        bool wanted = n <= MAX_OPEN || (n_open < MAX_OPEN && is_last_look(p, n, i));
        if (!wanted && i != best) {
            n_left++;
            continue;
        }
        n_open++;
        sb_printf(b, "<details%s><summary>", i == best ? " open" : "");
        plot_put_number(b, x_of(&p[i]));
        sb_puts(b, p->users ? " users</summary>\n" : " requests a second</summary>\n");
        TRY(put_point(b, &p[i], e));
        sb_puts(b, "</details>\n");
    }
    if (n_left > 0)
        sb_printf(b,
                  "<p>%d of %d points stand in the table alone: shorter looks at a rate that was "
                  "measured for longer, and what follows the %dth.</p>\n",
                  n_left, n, MAX_OPEN);
    return OK;
}

static void put_settings(StrBuf *b, const char *const *v) {
    sb_puts(b, "<section><h2>Settings</h2>\n<table>\n");
    for (; v[0]; v += 2) {
        sb_printf(b, "<tr><th>%s</th><td>", v[0]);
        plot_put_escaped(b, slice_of(v[1]));
        sb_puts(b, "</td></tr>\n");
    }
    sb_puts(b, "</table></section>\n");
}

Status load_put_report(StrBuf *b, const LoadPoint *p, int n, int best, Slice title,
                       const char *const *settings, Err *e) {
    plot_open_page(b, title, "Load report");
    if (n > 1) {
        TRY(put_curves(b, p, n, e));
        put_points(b, p, n, best);
        TRY(put_details(b, p, n, best, e));
    } else if (n == 1) {
        TRY(put_point(b, p, e));
    }
    put_settings(b, settings);
    plot_close_page(b);
    return sb_check(b, e);
}
