/* SPDX-License-Identifier: Apache-2.0
 * Reading a run's files for its report: JSON lines into curves. A run that was continued may say a step
 * twice in speed.jsonl; the later line counts. */
#include <stdio.h>

#include "base/io.h"
#include "text/json.h"
#include "train/report_internal.h"

enum { MAX_CONFIG = 1 << 20 };
#define MAX_VALUE 1e100

typedef struct KeyRow {
    const char *key;
    CurveId curve;
    double scale;
} KeyRow;

static const KeyRow metric_keys[] = {
    {"loss", CURVE_LOSS, 1},
    {"lr", CURVE_LR, 1},
    {"grad_norm", CURVE_GRAD, 1},
    {"tokens", CURVE_TOKENS, 1},
    {"train_loss", CURVE_EVAL_TRAIN, 1},
    {"val_loss", CURVE_VAL, 1},
};
static const KeyRow speed_keys[] = {{"tok_s", CURVE_SPEED, 1}, {"mfu", CURVE_MFU, 100}};

/* Where the lines of one file go. */
typedef struct Sink {
    ReportData *d;
    const KeyRow *key;
    size_t n_key;
    double elapsed; /* of the line before */
} Sink;

/* elapsed_s counts from the start of one process: when it falls, the run was continued. */
static void add_elapsed(Sink *s, double now) {
    s->d->seconds += now >= s->elapsed ? now - s->elapsed : now;
    s->elapsed = now;
}

static Status take_members(Sink *s, const Json *j, Err *e) {
    int64_t iter = -1;
    double elapsed = -1;
    if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "not an object");
    TRY(json_opt_int(&iter, j, "iter", 0, (int64_t)1 << 53, e));
    if (iter < 0) return err_set(e, ERR_FORMAT, "\"iter\" is missing");
    for (size_t i = 0; i < s->n_key; i++) {
        const KeyRow *k = &s->key[i];
        double v = 2 * MAX_VALUE;
        TRY(json_opt_num(&v, j, k->key, -MAX_VALUE, MAX_VALUE, e));
        if (v <= MAX_VALUE)
            TRY(plot_curve_add(&s->d->curve[k->curve], (double)iter, v * k->scale, e));
    }
    TRY(json_opt_num(&elapsed, j, "elapsed_s", 0, 1e12, e));
    if (elapsed >= 0) add_elapsed(s, elapsed);
    return OK;
}

static Status take_line(Sink *s, Slice line, Err *e) {
    Json *j = NULL;
    TRY(json_parse(&j, line, e));
    Status st = take_members(s, j, e);
    json_free(j);
    return st;
}

static bool is_blank(Slice line) {
    for (size_t i = 0; i < line.n; i++)
        if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r') return false;
    return true;
}

static Status take_lines(Sink *s, Slice text, const char *path, Err *e) {
    for (size_t at = 0, number = 1; at < text.n; number++) {
        const char *end = memchr(text.p + at, '\n', text.n - at);
        Slice line = {text.p + at, end ? (size_t)(end - text.p) - at : text.n - at};
        Err why = {0};
        Status st = is_blank(line) ? OK : take_line(s, line, &why);
        if (st == ERR_NOMEM) return err_set(e, st, "%s: %s", path, why.msg);
        if (st != OK) return err_set(e, ERR_FORMAT, "%s:%zu: %s", path, number, why.msg);
        at += line.n + 1;
    }
    return OK;
}

static Status read_lines(Sink *s, const char *run_dir, const char *name, bool needed, Err *e) {
    StrBuf path = {0};
    IoMap map = {0};
    sb_printf(&path, "%s/%s", run_dir, name);
    Status st = sb_check(&path, e);
    if (st == OK && !needed && !io_exists(path.p)) {
        sb_deinit(&path);
        return OK;
    }
    if (st == OK) st = io_map(&map, path.p, e);
    if (st == OK) st = take_lines(s, (Slice){(const char *)map.p, map.n}, path.p, e);
    io_unmap(&map);
    sb_deinit(&path);
    return st;
}

static Status read_config(ReportData *d, const char *run_dir, Err *e) {
    StrBuf path = {0};
    sb_printf(&path, "%s/config.yaml", run_dir);
    Status st = sb_check(&path, e);
    if (st == OK && io_exists(path.p)) st = io_read_file(&d->config, path.p, MAX_CONFIG, e);
    sb_deinit(&path);
    return st;
}

enum { LEAST_REACH = 3, MOST_REACH = 500 };

/* Mean over the points around each, about a fiftieth of the run: no lag. Where the run begins, and falls
 * fastest, the window is as narrow as what lies before the point. */
static Status smooth(ReportData *d, Err *e) {
    const PlotCurve *c = &d->curve[CURVE_LOSS];
    size_t most = MIN(MAX(c->n / 100, (size_t)LEAST_REACH), (size_t)MOST_REACH);
    for (size_t i = 0; i < c->n; i++) {
        size_t reach = MIN(i, most), end = MIN(i + reach + 1, c->n);
        double sum = 0;
        for (size_t k = i - reach; k < end; k++) sum += c->y[k];
        TRY(plot_curve_add(&d->curve[CURVE_SMOOTH], c->x[i], sum / (double)(end - (i - reach)), e));
    }
    return OK;
}

Status train__report_read(ReportData *d, const char *run_dir, Err *e) {
    *d = (ReportData){.seconds = 0};
    Sink metrics = {d, metric_keys, COUNT_OF(metric_keys), 0};
    Sink speed = {d, speed_keys, COUNT_OF(speed_keys), 0};
    TRY(read_lines(&metrics, run_dir, "metrics.jsonl", true, e));
    TRY(read_lines(&speed, run_dir, "speed.jsonl", false, e));
    TRY(read_config(d, run_dir, e));
    return smooth(d, e);
}

void train__report_deinit(ReportData *d) {
    for (int i = 0; i < CURVES; i++) plot_curve_deinit(&d->curve[i]);
    sb_deinit(&d->config);
}
