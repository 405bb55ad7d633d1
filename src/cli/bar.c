/* SPDX-License-Identifier: Apache-2.0
 * Progress on standard error. On a terminal one line is drawn over and over:
 *
 *   prepare [#########...........]  43%  12.3 MB/s  ETA 0:12
 *
 * Elsewhere (a log) the same without the bar, as a line of its own every ten seconds. The rate
 * is the mean since the start. Nothing is allocated, so the training loop may call this. Main
 * thread. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

enum { BAR_CELLS = 20, LINE_BYTES = 256 };

typedef struct Line {
    char s[LINE_BYTES];
    size_t n;
} Line;

PRINTF_LIKE(2, 3)
static void line_put(Line *l, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int k = vsnprintf(l->s + l->n, sizeof l->s - l->n, fmt, ap);
    va_end(ap);
    if (k > 0) l->n = MIN(l->n + (size_t)k, sizeof l->s - 1);
}

const char *cli_commas(char buf[32], uint64_t n) {
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), k = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) buf[k++] = ',';
        buf[k++] = digits[i];
    }
    buf[k] = 0;
    return buf;
}

Status cli_size(size_t *out, const char *what, const char *text, Err *e) {
    static const char units[] = "KMGT";
    char *end = NULL;
    double v = strtod(text, &end);
    const char *unit =
        end != text && isalpha((unsigned char)*end) ? strchr(units, *end & ~32) : NULL;
    if (unit) {
        v *= ldexp(1.0, 10 * (int)(unit - units + 1));
        end++;
        if (*end == 'i') end++;
        if (*end == 'B' || *end == 'b') end++;
    }
    if (end == text || *end || !(v >= 1.0 && v <= 0x1p50))
        return err_set(e, ERR_ARG,
                       "%s: \"%s\" is not a size from 1 byte to 1024T, such as 512M or 4G", what,
                       text);
    *out = (size_t)v;
    return OK;
}

const char *cli_bytes(char buf[32], double bytes) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    size_t u = 0;
    while (fabs(bytes) >= 999.95 && u + 1 < COUNT_OF(unit)) {
        bytes /= 1000;
        u++;
    }
    snprintf(buf, 32, u ? "%.1f %s" : "%.0f %s", bytes, unit[u]);
    return buf;
}

void cli_bar_init(CliBar *b, const char *label, const char *unit, double scale, bool quiet) {
    double now = clock_now_s();
    *b = (CliBar){.label = label,
                  .unit = unit,
                  .scale = scale,
                  .t_start = now,
                  .t_last = now,
                  .done_start = -1,
                  .tty = isatty(STDERR_FILENO) == 1,
                  .quiet = quiet};
}

static void put_amount(Line *l, double v, const char *unit) {
    char buf[32];
    if (v < 99.95 && v != floor(v)) line_put(l, "%.1f %s", v, unit);
    else line_put(l, "%s %s", cli_commas(buf, (uint64_t)(v + 0.5)), unit);
}

static void put_cells(Line *l, double share) {
    char cells[BAR_CELLS + 1];
    int full = (int)(share * BAR_CELLS + 0.5);
    memset(cells, '.', BAR_CELLS);
    memset(cells, '#', (size_t)full);
    cells[BAR_CELLS] = 0;
    line_put(l, " [%s]", cells);
}

static void put_eta(Line *l, double seconds) {
    if (!(seconds >= 0 && seconds < 360000)) return;
    unsigned long s = (unsigned long)(seconds + 0.5);
    if (s >= 3600) line_put(l, "  ETA %lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else line_put(l, "  ETA %lu:%02lu", s / 60, s % 60);
}

static void compose(const CliBar *b, Line *l, double now, double done, double total,
                    const char *tail) {
    double rate = (done - b->done_start) / fmax(now - b->t_start, 1e-3);
    double share = total > 0 ? fmin(fmax(done / total, 0), 1) : 0;
    line_put(l, "%s", b->label);
    if (total > 0 && b->tty) put_cells(l, share);
    if (total > 0) line_put(l, " %3.0f%%", floor(share * 100));
    else if (b->unit) {
        line_put(l, "  ");
        put_amount(l, done * b->scale, b->unit);
    }
    if (b->unit) {
        line_put(l, "  ");
        put_amount(l, rate * b->scale, b->unit);
        line_put(l, "/s");
    }
    if (total > 0 && rate > 0) put_eta(l, (total - done) / rate);
    if (tail) line_put(l, "  %s", tail);
}

/* A line that wraps could not be drawn over. */
static size_t columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col - 1u : 79;
}

void cli_bar_update(CliBar *b, double done, double total, const char *tail) {
    double now = clock_now_s();
    Line l = {.n = 0};
    if (b->quiet) return;
    if (b->done_start < 0) b->done_start = done;
    if (now - b->t_last < (b->tty ? 0.1 : 10.0)) return;
    b->t_last = now;
    b->any = true;
    compose(b, &l, now, done, total, tail);
    if (b->tty) fprintf(stderr, "\r%.*s\033[K", (int)MIN(l.n, columns()), l.s);
    else fprintf(stderr, "%s\n", l.s);
    fflush(stderr);
}

void cli_bar_finish(CliBar *b) {
    if (b->any && b->tty) fputs("\r\033[K", stderr);
    b->any = false;
}

void cli_bar_count(void *bar, uint64_t done, uint64_t total) {
    cli_bar_update(bar, (double)done, (double)total, NULL);
}
