/* SPDX-License-Identifier: Apache-2.0
 * The frame of a page, text in it, and curves in memory. */
#include "plot/internal.h"
#include "plot/plot.h"
#include "text/utf8.h"

void plot_put_escaped(StrBuf *b, Slice s) {
    StrBuf clean = {0};
    utf8_put_clean(&clean, s);
    if (clean.failed) b->failed = true;
    for (size_t i = 0; i < clean.n; i++) {
        char c = clean.p[i];
        if (c == '<') sb_puts(b, "&lt;");
        else if (c == '>') sb_puts(b, "&gt;");
        else if (c == '&') sb_puts(b, "&amp;");
        else if (c == '"') sb_puts(b, "&quot;");
        else if ((unsigned char)c >= 0x20 || c == '\n' || c == '\t') sb_putc(b, c);
    }
    sb_deinit(&clean);
}

void plot_open_page(StrBuf *b, Slice name, const char *what) {
    sb_puts(b, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
               "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
               "style-src 'unsafe-inline'; "
               "script-src 'unsafe-inline'\">\n"
               "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    plot_put_escaped(b, name);
    sb_printf(b, " - %c%s</title>\n<style>\n", what[0] | 0x20, what + 1);
    sb_puts(b, plot__css);
    sb_puts(b, "</style></head>\n<body><main>\n<h1>");
    plot_put_escaped(b, name);
    sb_printf(b, "</h1>\n<p>%s</p>\n", what);
}

void plot_close_page(StrBuf *b) {
    sb_puts(b, "</main>\n<script>\n");
    sb_puts(b, plot__js);
    sb_puts(b, "</script>\n</body></html>\n");
}

static Status room(PlotCurve *c, Err *e) {
    if (c->n < c->cap) return OK;
    size_t cap = c->cap ? 2 * c->cap : 256;
    double *x = mem_realloc_n(c->x, cap, sizeof *x);
    if (x) c->x = x;
    double *y = x ? mem_realloc_n(c->y, cap, sizeof *y) : NULL;
    if (!y) return err_set(e, ERR_NOMEM, "report: out of memory");
    c->y = y;
    c->cap = cap;
    return OK;
}

Status plot_curve_add(PlotCurve *c, double x, double y, Err *e) {
    while (c->n > 0 && c->x[c->n - 1] >= x) c->n--;
    TRY(room(c, e));
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return OK;
}

void plot_curve_deinit(PlotCurve *c) {
    mem_free(c->x);
    mem_free(c->y);
    *c = (PlotCurve){0};
}
