/* SPDX-License-Identifier: Apache-2.0
 * The report of a run: what stands in the page, what is refused, that long runs stay small. */
#include "train/report.h"

#include <math.h>
#include <stdio.h>

#include "base/io.h"
#include "test.h"
#include "train/report_internal.h"

static const char *path_of(const char *name) {
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    return path;
}

static void put(const char *name, const char *text) {
    IoWriter w;
    OK_(io_writer_open(&w, path_of(name), true, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
}

/* The page; the caller frees. */
static StrBuf page(void) {
    StrBuf b = {0};
    OK_(train_report_write(test_tmpdir(), TERR));
    OK_(io_read_file(&b, path_of("report.html"), 1 << 20, TERR));
    return b;
}

static const char metrics[] =
    "{\"iter\":0,\"loss\":8.5,\"lr\":0.0001,\"grad_norm\":3.5,\"tokens\":4096}\n"
    "{\"iter\":10,\"loss\":5.25,\"lr\":0.001,\"grad_norm\":1.5,\"tokens\":45056}\n"
    "{\"iter\":10,\"train_loss\":5.125,\"val_loss\":5.375,\"best\":true}\n"
    "\n"
    "{\"iter\":20,\"loss\":4.5,\"lr\":0.0005,\"grad_norm\":1.25,\"tokens\":86016}\n"
    "{\"iter\":20,\"train_loss\":4.25,\"val_loss\":4.625,\"best\":true}\n"
    "{\"iter\":30,\"train_loss\":4.0,\"val_loss\":4.75,\"best\":false}\n";

TEST(page_tells_the_run) {
    put("metrics.jsonl", metrics);
    put("speed.jsonl", "{\"iter\":10,\"tok_s\":5000.0,\"mfu\":0.5,\"elapsed_s\":10}\n"
                       "{\"iter\":20,\"tok_s\":5100.0,\"mfu\":0.25,\"elapsed_s\":16}\n");
    put("config.yaml", "name: a <script>alert(1)</script> & \"b\"\n");
    StrBuf b = page();
    TRUE_(strstr(b.p, "best validation loss</th><td class=\"n\"><b>4.6250</b>"));
    TRUE_(strstr(b.p, "at step</th><td class=\"n\">20<"));
    TRUE_(strstr(b.p, "tokens</th><td class=\"n\">86,016<"));
    TRUE_(strstr(b.p, "time</th><td class=\"n\">16.0s<"));
    TRUE_(strstr(b.p, "speed, all counted</th><td class=\"n\">5,376 tokens/s"));
    TRUE_(strstr(
        b.p,
        "<tr class=\"best\"><td>20</td><td class=\"n\">4.2500</td><td class=\"n\">4.6250 best"));
    TRUE_(strstr(b.p, "name: a &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;b&quot;"));
    TRUE_(strstr(b.p, "Share of the processor's peak, %"));
    TRUE_(strstr(b.p, "\"points\":[10,50,20,25]"));
    EQ(io_exists(path_of("report.html.tmp")), false);
    sb_deinit(&b);
}

TEST(page_loads_nothing) {
    put("metrics.jsonl", metrics);
    StrBuf b = page();
    TRUE_(strstr(b.p, "default-src 'none'"));
    TRUE_(!strstr(b.p, "http:") && !strstr(b.p, "https:") && !strstr(b.p, "src=") &&
          !strstr(b.p, "href="));
    TRUE_(!strstr(b.p, "url(") && !strstr(b.p, "@import"));
    sb_deinit(&b);
}

TEST(metrics_alone_are_enough) {
    put("metrics.jsonl", "{\"iter\":5,\"loss\":2.5}");
    StrBuf b = page();
    TRUE_(strstr(b.p, "2.5000"));
    TRUE_(!strstr(b.p, "Validations") && !strstr(b.p, "Tokens per second") &&
          !strstr(b.p, "Configuration"));
    TRUE_(!strstr(b.p, "nan") && !strstr(b.p, "inf"));
    sb_deinit(&b);
}

TEST(empty_run_has_a_page) {
    put("metrics.jsonl", "");
    StrBuf b = page();
    TRUE_(strstr(b.p, "steps</th><td class=\"n\">0<"));
    sb_deinit(&b);
}

TEST(null_is_a_gap) { /* a loss that is not finite is written as null */
    put("metrics.jsonl",
        "{\"iter\":1,\"loss\":3.0}\n{\"iter\":2,\"loss\":null}\n{\"iter\":3,\"loss\":2.0}\n");
    StrBuf b = page();
    TRUE_(strstr(b.p, "\"points\":[1,3,3,2]"));
    sb_deinit(&b);
}

TEST(absent_run_is_not_found) {
    FAILS(ERR_NOT_FOUND, train_report_write(test_tmpdir(), TERR));
    TRUE_(strstr(test_err.msg, "metrics.jsonl"));
}

TEST(bad_line_is_named) {
    static const char *const bad[] = {
        "{\"iter\":1,\"loss\":",
        "[1]",
        "7",
        "{\"loss\":1}",
        "{\"iter\":\"1\"}",
        "{\"iter\":-1}",
        "{\"iter\":1.5}",
        "{\"iter\":1,\"loss\":\"low\"}",
        "{\"iter\":1,\"loss\":1e200}",
        "{\"iter\":1,\"loss\":1e999}",
        "{\"iter\":1}x",
        "{\"iter\":1,\"iter\":2}",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char text[200];
        snprintf(text, sizeof text, "{\"iter\":0,\"loss\":1}\n%s\n", bad[i]);
        put("metrics.jsonl", text);
        FAILS(ERR_FORMAT, train_report_write(test_tmpdir(), TERR));
        if (!strstr(test_err.msg, "metrics.jsonl:2: ")) FAIL("%s: \"%s\"", bad[i], test_err.msg);
        EQ(io_exists(path_of("report.html")), false);
    }
}

TEST(bad_line_leaves_the_page_before) {
    put("metrics.jsonl", metrics);
    StrBuf before = page(), after = {0};
    put("speed.jsonl", "{\"iter\":1,\"tok_s\":1}\n{\"iter\":2,\"tok_s\":[]}\n");
    FAILS(ERR_FORMAT, train_report_write(test_tmpdir(), TERR));
    TRUE_(strstr(test_err.msg, "speed.jsonl:2: "));
    OK_(io_read_file(&after, path_of("report.html"), 1 << 20, TERR));
    EQ_STR(after.p, before.p);
    sb_deinit(&before);
    sb_deinit(&after);
}

TEST(continued_run_counts_once) { /* speed.jsonl is not cut back, and its clock starts anew */
    ReportData d;
    put("metrics.jsonl", "{\"iter\":1,\"loss\":3}\n");
    put("speed.jsonl",
        "{\"iter\":10,\"tok_s\":1,\"elapsed_s\":5}\n{\"iter\":20,\"tok_s\":2,\"elapsed_s\":9}\n"
        "{\"iter\":15,\"tok_s\":3,\"elapsed_s\":2}\n{\"iter\":25,\"tok_s\":4,\"elapsed_s\":6}\n");
    OK_(train__report_read(&d, test_tmpdir(), TERR));
    const PlotCurve *c = &d.curve[CURVE_SPEED];
    EQ(c->n, 3);
    NEAR(c->x[1], 15, 0);
    NEAR(c->y[1], 3, 0);
    NEAR(d.seconds, 15, 1e-9);
    train__report_deinit(&d);
}

TEST(smoothing_has_no_lag) {
    ReportData d;
    StrBuf b = {0};
    for (int i = 0; i < 500; i++)
        sb_printf(&b, "{\"iter\":%d,\"loss\":%d}\n", i, 1000 - i + (i % 2 ? 3 : -3));
    put("metrics.jsonl", sb_str(&b));
    OK_(train__report_read(&d, test_tmpdir(), TERR));
    const PlotCurve *c = &d.curve[CURVE_SMOOTH];
    EQ(c->n, 500);
    for (int i = 5; i < 495; i++) NEAR(c->y[i], 1000 - i, 0.3);
    train__report_deinit(&d);
    sb_deinit(&b);
}
