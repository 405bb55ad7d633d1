/* SPDX-License-Identifier: Apache-2.0
 * A machine's speed out of what ingot load --json wrote: a line for each point, and after a sweep one that says what it
 * found. Where that line is missing (an older file, points measured one by one) it is found here: of each rate the last
 * look, below the lowest that broke. */
#include <math.h>

#include "base/mem.h"
#include "eval/cost.h"

enum { MOST_POINTS = 4096 };

typedef struct Point {
    double x, tok_s;
    bool users, held;
} Point;

typedef struct Points {
    Point v[MOST_POINTS];
    int n;
    bool found; /* a sweep has said it */
    double highest_tok_s;
} Points;

/* Within its limits, if it has any, and most of its requests were answered. */
static bool has_held(const Json *j) {
    const Json *slo = json_get(j, "slo");
    if (json_num(json_get(j, "failed")) > json_num(json_get(j, "answered"))) return false;
    return !slo || json_bool(json_get(slo, "within"));
}

static Status take_point(Points *p, const Json *j, Err *e) {
    const Json *users = json_get(j, "users");
    Point q = {.x = json_num(users ? users : json_get(j, "rate")),
               .tok_s = json_num(json_get(j, "tokens_out_per_s")),
               .users = users != NULL,
               .held = has_held(j)};
    int i = 0;
    while (i < p->n && (p->v[i].users != q.users || fabs(p->v[i].x - q.x) > 1e-9 * fabs(q.x))) i++;
    if (i == MOST_POINTS) return err_set(e, ERR_FORMAT, "more than %d points", MOST_POINTS);
    p->v[i] = q;
    p->n = MAX(p->n, i + 1);
    return OK;
}

static Status take_line(Points *p, Slice line, Err *e) {
    Json *j = NULL;
    Status st = OK;
    if (line.n == 0) return OK;
    TRY(json_parse(&j, line, e));
    if (json_get(j, "sweep")) {
        p->found = true;
        p->highest_tok_s = json_get(j, "highest") ? json_num(json_get(j, "tok_s")) : 0;
    } else if (json_get(j, "tokens_out_per_s")) {
        st = take_point(p, j, e);
    }
    json_free(j);
    return st;
}

static double best_of(const Points *p) {
    double broke[2] = {HUGE_VAL, HUGE_VAL}, best = 0;
    if (p->found) return p->highest_tok_s;
    for (int i = 0; i < p->n; i++)
        if (!p->v[i].held) broke[p->v[i].users] = fmin(broke[p->v[i].users], p->v[i].x);
    for (int i = 0; i < p->n; i++)
        if (p->v[i].held && p->v[i].x < broke[p->v[i].users]) best = fmax(best, p->v[i].tok_s);
    return best;
}

Status cost_read_load(double *tok_s, Slice text, Err *e) {
    Status st = OK;
    Points *p = mem_new(Points);
    if (!p) return err_set(e, ERR_NOMEM, "out of memory for points");
    for (size_t at = 0; st == OK && at < text.n;) {
        const char *eol = memchr(text.p + at, '\n', text.n - at);
        size_t n = eol ? (size_t)(eol - text.p) - at : text.n - at;
        st = take_line(p, (Slice){text.p + at, n}, e);
        at += n + 1;
    }
    double best = best_of(p);
    mem_free(p);
    TRY(st);
    if (!(best > 0))
        return err_set(
            e, ERR_FORMAT,
            "no point of ingot load --json within its limits, with most requests answered");
    *tok_s = best;
    return OK;
}
