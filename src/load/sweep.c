/* SPDX-License-Identifier: Apache-2.0 */
#include "load/sweep.h"

#include <math.h>
#include <stdlib.h>

#include "base/str.h"

static bool take(double *x, const char **s, bool users) {
    char *end = NULL;
    if (!(**s >= '0' && **s <= '9') && **s != '.') return false;
    *x = strtod(*s, &end);
    /* "1..64": the dot that strtod takes belongs to the range */
    if (end > *s + 1 && end[-1] == '.' && *end == '.') end--;
    *s = end;
    return *x > 0 && *x <= 1e6 && (!users || *x == floor(*x));
}

static bool take_all(LoadSweep *s, const char *t) {
    if (!take(&s->list[s->n_list++], &t, s->users)) return false;
    if (str_starts_with(t, "..")) {
        t += 2;
        s->search = true;
        return take(&s->list[s->n_list++], &t, s->users) && *t == '\0' && s->list[1] >= s->list[0];
    }
    while (*t == ',' && s->n_list < LOAD_MAX_POINTS) {
        t++;
        if (!take(&s->list[s->n_list++], &t, s->users)) return false;
    }
    return *t == '\0';
}

Status load_sweep_parse(LoadSweep *s, const char *text, Err *e) {
    *s = (LoadSweep){.users = str_starts_with(text, "concurrency=")};
    const char *t = strchr(text, '=');
    if ((s->users || str_starts_with(text, "rate=")) && take_all(s, t + 1)) return OK;
    return err_set(e, ERR_ARG,
                   "sweep: \"%.80s\" is not rate=1..64, rate=1,2,4, concurrency=1..256 or "
                   "concurrency=1,4,16 (at most %d points)",
                   text, LOAD_MAX_POINTS);
}

static double search_next(const LoadSweep *s) {
    double lo = s->list[0], hi = s->list[1];
    if (s->n_done == 0) return lo;
    if (s->n_done >= LOAD_MAX_POINTS || s->held <= 0) return 0; /* the least is too much */
    if (s->broke <= 0) return s->held < hi ? fmin(2 * s->held, hi) : 0;
    double mid = (s->held + s->broke) / 2;
    if (s->users) mid = floor(mid);
    return s->broke > 1.1 * s->held && mid > s->held ? mid : 0;
}

double load_sweep_next(const LoadSweep *s) {
    if (s->search) return search_next(s);
    return s->n_done < s->n_list ? s->list[s->n_done] : 0;
}

void load_sweep_told(LoadSweep *s, double x, bool within) {
    s->n_done++;
    if (within && x > s->held && (s->broke <= 0 || x < s->broke)) s->held = x;
    if (!within && (s->broke <= 0 || x < s->broke)) s->broke = x;
    if (s->held >= s->broke && s->broke > 0) s->held = 0; /* a list that was not in order */
}
