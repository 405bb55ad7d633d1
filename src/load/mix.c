/* SPDX-License-Identifier: Apache-2.0 */
#include "load/mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { WHICH = 0x6D697877, WHERE = 0x6D697876 };

/* A number at *s, which moves behind it; false if there is none. */
static bool take_number(double *out, const char **s) {
    char *end = NULL;
    if (!(**s >= '0' && **s <= '9') && **s != '.') return false;
    *out = strtod(*s, &end);
    *s = end;
    return isfinite(*out);
}

static bool take_part(LoadMixPart *p, const char **s) {
    *p = (LoadMixPart){.weight = 1};
    if (!take_number(&p->lo, s)) return false;
    p->hi = p->lo;
    if (**s == '-') {
        ++*s;
        if (!take_number(&p->hi, s)) return false;
    } else if (**s == '~') {
        ++*s;
        if (!take_number(&p->sigma, s) || p->sigma <= 0 || p->sigma > 5) return false;
    }
    if (**s == ':') {
        ++*s;
        if (!take_number(&p->weight, s) || p->weight <= 0) return false;
    }
    return true;
}

static bool in_range(const LoadMixPart *p, int least) {
    return p->lo >= least && p->hi >= p->lo && p->hi <= LOAD_MAX_LENGTH && p->lo == floor(p->lo) &&
           p->hi == floor(p->hi);
}

Status load_mix_parse(LoadMix *out, const char *what, const char *text, int least, Err *e) {
    LoadMix m = {.n = 0};
    for (const char *s = text;; s++) {
        if (m.n == LOAD_MAX_PARTS)
            return err_set(e, ERR_ARG, "%s: \"%.80s\" has over %d parts", what, text,
                           LOAD_MAX_PARTS);
        LoadMixPart *p = &m.part[m.n++];
        if (!take_part(p, &s) || (*s != '\0' && *s != ','))
            return err_set(e, ERR_ARG,
                           "%s: \"%.80s\" is no length, such as 256, 64-1024, 300~0.8, or "
                           "several with weights: 64:0.7,1024:0.3",
                           what, text);
        if (!in_range(p, least))
            return err_set(e, ERR_ARG, "%s: \"%.80s\": lengths are whole, from %d to %d", what,
                           text, least, LOAD_MAX_LENGTH);
        if (*s == '\0') break;
    }
    *out = m;
    return OK;
}

static const LoadMixPart *choose(const LoadMix *m, double u) {
    double sum = 0;
    for (int i = 0; i < m->n; i++) sum += m->part[i].weight;
    u *= sum;
    for (int i = 0; i + 1 < m->n; i++) {
        if (u < m->part[i].weight) return &m->part[i];
        u -= m->part[i].weight;
    }
    return &m->part[m->n - 1];
}

/* A standard normal of two uniforms (Box-Muller). */
static double normal(double u, double v) {
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

int load_mix_draw(const LoadMix *m, uint64_t seed, uint64_t i) {
    const LoadMixPart *p = choose(m, rng_uniform(seed, WHICH, i));
    double u = rng_uniform(seed, WHERE, 2 * i), v = rng_uniform(seed, WHERE, 2 * i + 1);
    if (p->sigma <= 0) return (int)(p->lo + floor(u * (p->hi - p->lo + 1)));
    double x = round(p->lo * exp(p->sigma * normal(u, v)));
    return (int)fmin(fmax(x, 1), fmin(100 * p->lo, LOAD_MAX_LENGTH));
}
