/* SPDX-License-Identifier: Apache-2.0 */
#include "load/slo.h"

#include <math.h>
#include <stdlib.h>

/* "500ms", "1.5s", "20us"; false if it is no time above 0. */
static bool take_time(uint64_t *ns, const char **s) {
    char *end = NULL;
    if (!(**s >= '0' && **s <= '9') && **s != '.') return false;
    double v = strtod(*s, &end);
    if (str_starts_with(end, "ms")) v *= 1e6, end += 2;
    else if (str_starts_with(end, "us")) v *= 1e3, end += 2;
    else if (*end == 's') v *= 1e9, end += 1;
    else return false;
    *s = end;
    if (!(v >= 1 && v <= 1e14)) return false;
    *ns = (uint64_t)v;
    return true;
}

Status load_slo_parse(LoadSlo *out, const char *text, Err *e) {
    LoadSlo v = {.share = out->share};
    struct {
        const char *name;
        uint64_t *to;
    } rows[] = {{"ttft=", &v.ttft}, {"tpot=", &v.tpot}, {"itl=", &v.itl}, {"e2e=", &v.e2e}};
    for (const char *s = text;; s++) {
        size_t i = 0;
        while (i < COUNT_OF(rows) && !str_starts_with(s, rows[i].name)) i++;
        if (i < COUNT_OF(rows)) s += strlen(rows[i].name);
        if (i == COUNT_OF(rows) || !take_time(rows[i].to, &s) || (*s && *s != ','))
            return err_set(
                e, ERR_ARG,
                "slo: \"%.80s\" is no list of limits such as ttft=500ms,tpot=50ms,e2e=10s", text);
        if (*s == '\0') break;
    }
    *out = v;
    return OK;
}

bool load_slo_any(const LoadSlo *s) { return s->ttft || s->tpot || s->itl || s->e2e; }

bool load_slo_met(const LoadSlo *s, const LoadOne *o) {
    if (o->end != LOAD_OK) return false;
    if (s->ttft && (o->first == 0 || o->first - o->plan > s->ttft)) return false;
    if (s->tpot && (o->first == 0 || load_one_tpot(o) > s->tpot)) return false;
    if (s->itl && (o->first == 0 || o->gap_max > s->itl)) return false;
    return !s->e2e || o->stop - o->plan <= s->e2e;
}

LoadShare load_share_of(const uint64_t good[LOAD_BLOCKS], const uint64_t all[LOAD_BLOCKS]) {
    const double z = 1.96, t = 2.131; /* of 15 degrees of freedom */
    double n = 0, k = 0, blocks = 0, var = 0;
    for (int i = 0; i < LOAD_BLOCKS; i++) {
        n += (double)all[i];
        k += (double)good[i];
        blocks += all[i] > 0;
    }
    if (n <= 0) return (LoadShare){0, 0, 1};
    double p = k / n, mid = (p + z * z / (2 * n)) / (1 + z * z / n);
    double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    for (int i = 0; i < LOAD_BLOCKS; i++) {
        if (all[i] == 0) continue;
        double d = (double)good[i] - p * (double)all[i];
        var += d * d;
    }
    double wide = blocks > 1 ? t * sqrt(var * blocks / (blocks - 1)) / n : 0;
    return (LoadShare){p, fmax(fmin(mid - half, p - wide), 0), fmin(fmax(mid + half, p + wide), 1)};
}
