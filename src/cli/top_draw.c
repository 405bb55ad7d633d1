/* SPDX-License-Identifier: Apache-2.0
 * The screen of ingot top. A row of the server's answer is an array in the order of its "names"; null is a number that
 * nothing stands behind, and is drawn as "-" or a blank. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/top.h"
#include "text/utf8.h"

enum { NAME_CELLS = 12 };

typedef struct Top {
    const Json *data, *names, *rows;
    const TopView *v;
    StrBuf *b;
} Top;

/* ---- numbers ---- */

static int column(const Top *t, const char *name) {
    for (size_t i = 0; i < json_len(t->names); i++) {
        if (slice_eq_str(json_str(json_at(t->names, i)), name)) return (int)i;
    }
    return -1;
}

static double value_at(const Top *t, size_t row, const char *name) {
    int i = column(t, name);
    const Json *x = i < 0 ? NULL : json_at(json_at(t->rows, row), (size_t)i);
    JsonKind k = x ? json_kind(x) : JSON_KIND_NULL;
    return k == JSON_KIND_INT || k == JSON_KIND_REAL ? json_num(x) : (double)NAN;
}

static double newest(const Top *t, const char *name) {
    size_t n = json_len(t->rows);
    return n ? value_at(t, n - 1, name) : (double)NAN;
}

static double number(const Json *j, const char *key) {
    const Json *x = json_get(j, key);
    return x && json_kind(x) != JSON_KIND_NULL ? json_num(x) : (double)NAN;
}

/* "12", "3.4", "1,234", or "-": three digits at least. */
static const char *count(char buf[32], double v) {
    if (!(v >= 0)) return "-";
    if (v >= 100 || v == floor(v)) return cli_commas(buf, (uint64_t)fmin(v + 0.5, 1e18));
    snprintf(buf, 32, v < 9.995 ? "%.2f" : "%.1f", v);
    return buf;
}

static const char *millis(char buf[32], double seconds) {
    double ms = seconds * 1000;
    if (isnan(seconds)) return "-";
    if (ms >= 9999.5) snprintf(buf, 32, "%.1f s", seconds);
    else snprintf(buf, 32, ms < 9.95 ? "%.1f ms" : "%.0f ms", ms);
    return buf;
}

static const char *percent(char buf[32], double share) {
    if (isnan(share)) return "-";
    snprintf(buf, 32, "%.0f%%", 100 * share);
    return buf;
}

/* ---- plots ---- */

/* A series over the window, its greatest value the full height. */
static void spark(Top *t, const char *name, int width) {
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static const char *const plain[] = {" ", ".", ":", "-", "=", "+", "*", "%", "#"};
    const char *const *mark = t->v->utf8 ? blocks : plain;
    size_t n = json_len(t->rows), from = n > (size_t)width ? n - (size_t)width : 0;
    double top = 0;
    for (size_t i = from; i < n; i++) {
        double x = value_at(t, i, name);
        if (!isnan(x)) top = fmax(top, x);
    }
    for (size_t i = from; i < n; i++) {
        double x = value_at(t, i, name);
        int level = isnan(x) || x <= 0 || top <= 0 ? 0 : MAX(1, (int)lround(8 * x / top));
        sb_puts(t->b, mark[level]);
    }
}

static void bar(Top *t, double share) {
    enum { CELLS = 20 };
    int full = isnan(share) ? 0 : (int)lround(CELLS * fmin(fmax(share, 0), 1));
    sb_putc(t->b, '[');
    for (int i = 0; i < CELLS; i++) sb_putc(t->b, i < full ? '#' : '.');
    sb_putc(t->b, ']');
}

/* A line: its name, what stands in it, the plot of a series behind. */
PRINTF_LIKE(4, 5)
static void line(Top *t, const char *name, const char *series, const char *fmt, ...) {
    enum { TEXT_CELLS = 52 };
    va_list ap;
    char text[160];
    int room = t->v->columns - NAME_CELLS - TEXT_CELLS - 1;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    bool plot = series && room > 4;
    sb_printf(t->b, "%-*s%-*s", NAME_CELLS, name, plot ? TEXT_CELLS + 1 : 0, text);
    if (plot) spark(t, series, MIN(room, TOP_CELLS));
    sb_putc(t->b, '\n');
}

/* What a client chose, such as an id, on a terminal: nothing but what can be seen. */
static void put_word(StrBuf *b, Slice s, int cells) {
    int n = 0;
    for (size_t i = 0; i < s.n && n < cells; i++, n++)
        sb_putc(b, s.p[i] > ' ' && s.p[i] < 0x7f ? s.p[i] : '?');
    for (; n <= cells; n++) sb_putc(b, ' ');
}

/* ---- parts ---- */

/* "14:46:17" of an answer's clock; "-" for what is no time. */
static const char *clock_of(char buf[16], const Json *data) {
    double now = number(data, "now");
    time_t t = now >= 0 && now < 1e11 ? (time_t)now : 0;
    struct tm tm;
    if (t == 0 || !localtime_r(&t, &tm) || strftime(buf, 16, "%H:%M:%S", &tm) == 0) return "-";
    return buf;
}

static void put_head(Top *t) {
    char span[24], when[16];
    Slice model = json_str(json_get(t->data, "model"));
    sb_printf(t->b, "%s  ", t->v->url);
    put_word(t->b, model, (int)MIN(model.n, 40));
    sb_printf(t->b, " up %s  %s  last %d min\n",
              clock_format_span(span, number(t->data, "now") - number(t->data, "started")),
              clock_of(when, t->data), t->v->window_s / 60);
    if (!json_bool(json_get(t->data, "loaded"))) sb_puts(t->b, "the model is loading\n");
    sb_putc(t->b, '\n');
}

static void put_latency(Top *t, const char *name, const char *key) {
    static const char *const q[] = {"p50", "p95", "p99"};
    char series[3][24], text[3][32];
    const char *s[3];
    for (int i = 0; i < 3; i++) {
        snprintf(series[i], sizeof series[i], "%s_%s", key, q[i]);
        s[i] = millis(text[i], newest(t, series[i]));
    }
    line(t, name, series[2], "p50 %-9s p95 %-9s p99 %s", s[0], s[1], s[2]);
}

static void put_errors(Top *t) {
    static const char *const kinds[][2] = {
        {"err_client_s", "wrong"}, {"err_denied_s", "denied"}, {"err_busy_s", "busy"},
        {"err_timeout_s", "late"}, {"err_left_s", "left"},     {"err_server_s", "failed"},
    };
    StrBuf text = {0};
    double all = 0;
    char a[32], b[32];
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        double v = newest(t, kinds[i][0]);
        if (isnan(v) || v <= 0) continue;
        all += v;
        sb_printf(&text, "  %s %s", kinds[i][1], count(a, v));
    }
    line(t, "errors", NULL, "%s/s  %s since the start%s", count(a, all),
         count(b, number(json_get(t->data, "totals"), "errors")), sb_str(&text));
    sb_deinit(&text);
}

static void put_numbers(Top *t) {
    char a[32], b[32], c[32];
    const Json *limits = json_get(t->data, "limits");
    line(t, "requests", "requests_s", "%s/s  running %s  waiting %s",
         count(a, newest(t, "requests_s")), count(b, newest(t, "running")),
         count(c, newest(t, "waiting")));
    line(t, "tokens", "new_tokens_s", "%s/s generated  %s/s read",
         count(a, newest(t, "new_tokens_s")), count(b, newest(t, "prompt_tokens_s")));
    put_latency(t, "first token", "ttft");
    put_latency(t, "next token", "itl");
    line(t, "batch", "batch", "%s rows a step  %s connections", count(a, newest(t, "batch")),
         count(b, newest(t, "connections")));
    line(t, "prefixes", "prefix_hit", "%s of prompts found in the cache",
         percent(a, newest(t, "prefix_hit")));
    put_errors(t);
    double cpu = newest(t, "cpu") / 100;
    line(t, "processors", "cpu", "%s in use, %s by this server", percent(a, cpu),
         percent(b, newest(t, "cpu_self") / 100));
    sb_printf(t->b, "%-*s", NAME_CELLS, "KV cache");
    bar(t, newest(t, "kv"));
    sb_printf(t->b, " %s of %s blocks\n", percent(a, newest(t, "kv")),
              count(b, number(limits, "kv_blocks")));
    double memory = newest(t, "memory_bytes"), most = number(limits, "memory_bytes");
    sb_printf(t->b, "%-*s", NAME_CELLS, "memory");
    bar(t, memory / most);
    sb_printf(t->b, " %s of %s\n", cli_bytes(a, isnan(memory) ? 0 : memory), cli_bytes(b, most));
}

static void put_requests(Top *t, int room) {
    const Json *list = json_get(t->data, "requests");
    size_t n = json_len(list);
    char a[32], b[32], c[24];
    sb_printf(t->b, "\n%-24s %-22s %-10s %8s %8s %8s\n", "request", "route", "state", "prompt",
              "tokens", "age");
    for (size_t i = 0; i < n && (int)i < room; i++) {
        const Json *r = json_at(list, i);
        put_word(t->b, json_str(json_get(r, "id")), 24);
        put_word(t->b, json_str(json_get(r, "route")), 22);
        put_word(t->b, json_str(json_get(r, "state")), 10);
        sb_printf(t->b, "%8s %8s %8s\n", count(a, number(r, "prompt_tokens")),
                  count(b, number(r, "tokens")), clock_format_span(c, number(r, "age_s")));
    }
    double all = number(t->data, "n_requests");
    if (all > room) sb_printf(t->b, "and %.0f more\n", all - room);
}

/* ---- the door ---- */

/* Cut every line to the width: a wrapped one would scroll the screen. */
static void cut_lines(StrBuf *out, Slice text, int columns) {
    for (size_t i = 0, at = 0; i < text.n; i++) {
        char c = text.p[i];
        bool begins = ((unsigned char)c & 0xc0) != 0x80;
        if (c == '\n') at = 0;
        else if (begins) at++;
        if (c == '\n' || at <= (size_t)columns) sb_putc(out, c);
    }
}

void cli_top_draw(StrBuf *b, const TopView *v, const Json *data) {
    enum { OTHER_LINES = 17 };
    StrBuf text = {0};
    Top t = {.data = data,
             .names = json_get(data, "names"),
             .rows = json_get(data, "rows"),
             .v = v,
             .b = &text};
    if (data) {
        put_head(&t);
        put_numbers(&t);
        put_requests(&t, MAX(v->lines - OTHER_LINES, 3));
    }
    if (v->lost) sb_printf(&text, "%s%s\n", data ? "\n" : "", v->lost);
    if (text.failed) b->failed = true;
    cut_lines(b, (Slice){sb_str(&text), text.n}, v->columns);
    sb_deinit(&text);
}

void cli_top_line(StrBuf *b, const Json *data) {
    Top t = {.data = data, .names = json_get(data, "names"), .rows = json_get(data, "rows")};
    char when[16], x[6][32];
    double errors = number(json_get(data, "totals"), "errors");
    sb_printf(b, "%s  %s req/s  %s tok/s  running %s  waiting %s  first p99 %s  next p99 %s  ",
              when, count(x[0], newest(&t, "requests_s")), count(x[1], newest(&t, "new_tokens_s")),
              count(x[2], newest(&t, "running")), count(x[3], newest(&t, "waiting")),
              millis(x[4], newest(&t, "ttft_p99")), millis(x[5], newest(&t, "itl_p99")));
    sb_printf(b, "KV %s  errors %s\n", percent(x[0], newest(&t, "kv")), count(x[1], errors));
}
