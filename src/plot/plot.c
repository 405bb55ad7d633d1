/* SPDX-License-Identifier: Apache-2.0
 * One chart: curves as an inline SVG with axes, ticks, a legend, and beside it the same values as
 * JSON for the script that shows them under the pointer. Long curves are cut into buckets of neighbouring
 * points: the line goes through the means, the band covers the least and the greatest value. */
#include <math.h>

#include "plot/plot.h"
#include "text/json.h"

enum {
    MAX_BUCKETS = 1000,
    TICKS = 6,
    PAD_LEFT = 62,
    PAD_RIGHT = 14,
    PAD_TOP = 12,
    PAD_BOTTOM = 30
};

typedef struct Axis {
    double lo, hi, step; /* of the values; a tick each step */
    double at_lo, at_hi; /* of the picture */
} Axis;

typedef struct Bucket {
    double x, y, min, max; /* means of x and y */
} Bucket;

static double place(const Axis *a, double v) {
    return a->at_lo + (v - a->lo) / (a->hi - a->lo) * (a->at_hi - a->at_lo);
}

static size_t n_buckets(const PlotCurve *c) { return MIN(c->n, (size_t)MAX_BUCKETS); }

static Bucket bucket_at(const PlotCurve *c, size_t i) {
    size_t nb = n_buckets(c), from = i * c->n / nb, to = (i + 1) * c->n / nb;
    Bucket b = {0, 0, c->y[from], c->y[from]};
    for (size_t k = from; k < to; k++) {
        b.x += c->x[k] / (double)(to - from);
        b.y += c->y[k] / (double)(to - from);
        b.min = fmin(b.min, c->y[k]);
        b.max = fmax(b.max, c->y[k]);
    }
    return b;
}

/* ---- axes ---- */

/* 1, 2 or 5 times a power of ten, so that at most TICKS steps cover the span. */
static double nice_step(double span) {
    double p = pow(10, floor(log10(span / TICKS)));
    for (double m = 1; m < 10; m *= m == 2 ? 2.5 : 2)
        if (span / (m * p) <= TICKS) return m * p;
    return 10 * p;
}

static void axis_fit(Axis *a, double lo, double hi) {
    double least = fmax(fabs(lo), fabs(hi)) * 1e-6;
    if (hi - lo < least) {
        lo -= least;
        hi += least;
    }
    if (!(hi > lo)) hi = lo + 1;
    a->step = nice_step(hi - lo);
    a->lo = lo;
    a->hi = hi;
}

static bool has_points(const Plot *p) {
    for (int i = 0; i < p->n_line; i++)
        if (p->line[i].curve->n > 0) return true;
    return false;
}

static void fit(const Plot *p, Axis *x, Axis *y) {
    double lo = HUGE_VAL, hi = -HUGE_VAL, last = 1;
    for (int i = 0; i < p->n_line; i++) {
        const PlotCurve *c = p->line[i].curve;
        for (size_t k = 0; k < n_buckets(c); k++) {
            Bucket b = bucket_at(c, k);
            lo = fmin(lo, p->line[i].band ? b.min : b.y);
            hi = fmax(hi, p->line[i].band ? b.max : b.y);
            last = fmax(last, b.x);
        }
        if (c->n > 0) last = fmax(last, c->x[c->n - 1]);
    }
    if (p->from_zero) lo = fmin(lo, 0);
    *x = (Axis){.at_lo = PAD_LEFT, .at_hi = p->w - PAD_RIGHT};
    *y = (Axis){.at_lo = p->h - PAD_BOTTOM, .at_hi = PAD_TOP};
    axis_fit(x, 0, last);
    axis_fit(y, lo, hi);
    y->lo = floor(y->lo / y->step + 1e-9) * y->step;
    y->hi = ceil(y->hi / y->step - 1e-9) * y->step;
}

/* ---- numbers ---- */

static void put_commas(StrBuf *b, double v) {
    if (v >= 1000) {
        put_commas(b, floor(v / 1000));
        sb_printf(b, ",%03.0f", fmod(v, 1000));
    } else {
        sb_printf(b, "%.0f", v);
    }
}

void plot_put_number(StrBuf *b, double v) {
    double whole = floor(fabs(v));
    if (whole != fabs(v) || whole > 0x1p53) {
        sb_printf(b, "%.4g", v);
        return;
    }
    if (v < 0) sb_putc(b, '-');
    put_commas(b, whole);
}

/* The number of a tick, in thousands or millions where the axis reaches that far: 2.5, 5k, 1.5M, 5e-05. */
static void put_tick(StrBuf *b, double v, const Axis *a) {
    double most = fmax(fabs(a->lo), fabs(a->hi));
    if (fabs(v) < a->step * 1e-6) sb_putc(b, '0');
    else if (most >= 1e6 && most < 1e9) sb_printf(b, "%.6gM", v / 1e6);
    else if (most >= 1e4 && most < 1e6) sb_printf(b, "%.6gk", v / 1e3);
    else sb_printf(b, "%.6g", v);
}

/* ---- SVG ---- */

static void put_axes(StrBuf *b, const Plot *p, const Axis *x, const Axis *y) {
    int n_x = (int)floor((x->hi - x->lo) / x->step + 1e-9),
        n_y = (int)floor((y->hi - y->lo) / y->step + 1e-9);
    sb_puts(b, "<path class=\"grid\" d=\"");
    for (int i = 0; i <= n_y; i++)
        sb_printf(b, "M%d %.1fH%d", PAD_LEFT, place(y, y->lo + i * y->step), p->w - PAD_RIGHT);
    sb_puts(b, "\"/>\n<g class=\"ticks\" text-anchor=\"end\">");
    for (int i = 0; i <= n_y; i++) {
        double v = y->lo + i * y->step;
        sb_printf(b, "<text x=\"%d\" y=\"%.1f\">", PAD_LEFT - 8, place(y, v) + 4);
        put_tick(b, v, y);
        sb_puts(b, "</text>");
    }
    sb_puts(b, "</g>\n<g class=\"ticks\" text-anchor=\"middle\">");
    for (int i = 0; i <= n_x; i++) {
        double v = x->lo + i * x->step;
        sb_printf(b, "<text x=\"%.1f\" y=\"%d\">", place(x, v), p->h - PAD_BOTTOM + 20);
        put_tick(b, v, x);
        sb_puts(b, "</text>");
    }
    sb_printf(b, "</g>\n<path class=\"axis\" d=\"M%d %.1fH%d\"/>\n", PAD_LEFT, y->at_lo,
              p->w - PAD_RIGHT);
}

static void put_point(StrBuf *b, size_t i, double x, double y) {
    sb_printf(b, "%s%.1f %.1f", i ? "L" : "M", x, y);
}

static void put_band(StrBuf *b, const PlotLine *l, const Axis *x, const Axis *y) {
    size_t n = n_buckets(l->curve);
    sb_printf(b, "<path class=\"band %s\" d=\"", l->style);
    for (size_t i = 0; i < 2 * n; i++) {
        Bucket k = bucket_at(l->curve, i < n ? i : 2 * n - 1 - i);
        put_point(b, i, place(x, k.x), place(y, i < n ? k.max : k.min));
    }
    sb_puts(b, "Z\"/>\n");
}

static void put_dots(StrBuf *b, const PlotLine *l, const Axis *x, const Axis *y) {
    const PlotCurve *c = l->curve;
    size_t least = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->y[i] < c->y[least]) least = i;
        sb_printf(b, "<circle class=\"dot %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>", l->style,
                  place(x, c->x[i]), place(y, c->y[i]));
    }
    if (!l->ring) return;
    sb_printf(b, "<circle class=\"ring %s\" cx=\"%.1f\" cy=\"%.1f\" r=\"6\"/>\n", l->style,
              place(x, c->x[least]), place(y, c->y[least]));
}

static void put_line(StrBuf *b, const PlotLine *l, const Axis *x, const Axis *y) {
    size_t n = n_buckets(l->curve);
    if (n == 0) return;
    if (l->band && l->curve->n > n) put_band(b, l, x, y);
    sb_printf(b, "<path class=\"line %s\" d=\"", l->style);
    for (size_t i = 0; i < n; i++) {
        Bucket k = bucket_at(l->curve, i);
        put_point(b, i, place(x, k.x), place(y, k.y));
    }
    sb_puts(b, "\"/>\n");
    if (n == 1 || (l->dots && l->curve->n <= 100)) put_dots(b, l, x, y);
}

/* ---- values for the script ---- */

static void put_axis_json(JsonW *w, const char *key, const Axis *a) {
    const double v[] = {a->lo, a->hi, a->at_lo, a->at_hi};
    jw_arr(w, key);
    for (size_t i = 0; i < COUNT_OF(v); i++) jw_num(w, NULL, v[i]);
    jw_end_arr(w);
}

static void put_short(JsonW *w, double v) {
    if (v != round(v) && fabs(v) < 1e30) jw_f32(w, NULL, (float)v);
    else jw_num(w, NULL, v);
}

static void put_values(StrBuf *b, const Plot *p, const Axis *x, const Axis *y) {
    JsonW w;
    sb_puts(b, "<script type=\"application/json\">");
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "by", p->by);
    put_axis_json(&w, "x", x);
    put_axis_json(&w, "y", y);
    jw_arr(&w, "lines");
    for (int i = 0; i < p->n_line; i++) {
        const PlotCurve *c = p->line[i].curve;
        jw_obj(&w, NULL);
        jw_cstr(&w, "name", p->line[i].name);
        jw_cstr(&w, "style", p->line[i].style);
        jw_arr(&w, "points");
        for (size_t k = 0; k < n_buckets(c); k++) {
            Bucket v = bucket_at(c, k);
            put_short(&w, p->fine_x ? v.x : round(v.x));
            put_short(&w, v.y);
        }
        jw_end_arr(&w);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    sb_puts(b, "</script>\n");
}

static void put_caption(StrBuf *b, const Plot *p) {
    sb_printf(b, "<figcaption><b>%s</b>", p->title);
    for (int i = 0; i < p->n_line; i++) {
        const PlotLine *l = &p->line[i];
        if (l->name[0] && l->curve->n > 0)
            sb_printf(b, "<span class=\"key %s\">%s</span>", l->style, l->name);
    }
    sb_printf(b, "<span class=\"by\">by %s</span></figcaption>\n", p->by);
}

void plot_put(StrBuf *b, const Plot *p) {
    Axis x, y;
    if (!has_points(p)) return;
    fit(p, &x, &y);
    sb_puts(b, "<figure>\n");
    put_caption(b, p);
    sb_printf(b,
              "<div class=\"plot\"><svg viewBox=\"0 0 %d %d\" class=\"%s\" role=\"img\" "
              "aria-label=\"%s by %s\">\n",
              p->w, p->h, p->w > 600 ? "wide" : "", p->title, p->by);
    put_axes(b, p, &x, &y);
    for (int i = 0; i < p->n_line; i++) put_line(b, &p->line[i], &x, &y);
    sb_puts(b, "<g class=\"cross\"></g></svg><div class=\"tip\"></div></div>\n");
    put_values(b, p, &x, &y);
    sb_puts(b, "</figure>\n");
}
