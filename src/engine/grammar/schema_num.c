/* SPDX-License-Identifier: Apache-2.0
 * Numbers within bounds, as texts: compared digit by digit, so that every prefix that is allowed can be finished.
 * Integers are exact over all of int64; decimals are plain (no exponent), up to 16 digits before the point. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/internal.h"

enum { INT_DIGITS = 18, DEC_DIGITS = 16 };
static const uint64_t max_int = 999999999999999999u; /* INT_DIGITS nines */

static Node *seq2(Comp *c, Node *a, Node *b) { return grammar__seq(c, (Node *[]){a, b}, 2); }
static Node *alt2(Comp *c, Node *a, Node *b) { return grammar__alt(c, (Node *[]){a, b}, 2); }
static Node *alt3(Comp *c, Node *a, Node *b, Node *d) {
    return grammar__alt(c, (Node *[]){a, b, d}, 3);
}

/* One digit from lo to hi; none where lo > hi. */
static Node *digit(Comp *c, int lo, int hi) {
    SetBuild b = {0};
    if (lo > hi) return grammar__none(c);
    grammar__set_add(c, &b, (uint32_t)lo, (uint32_t)hi);
    return grammar__set(c, grammar__set_take(c, &b, false));
}

static Node *digits(Comp *c, int64_t min, int64_t max) {
    if (max < min) return grammar__none(c);
    return grammar__repeat(c, digit(c, '0', '9'), min, max, NULL);
}

/* ---- integers ---- */

/* As many digits as a has, not below a (dir > 0) or not above it. */
static Node *beyond(Comp *c, const char *a, int dir) {
    if (!*a) return grammar__empty(c);
    int n = (int)strlen(a + 1);
    Node *same = seq2(c, digit(c, *a, *a), beyond(c, a + 1, dir));
    Node *other = dir > 0 ? digit(c, *a + 1, '9') : digit(c, '0', *a - 1);
    return alt2(c, same, seq2(c, other, digits(c, n, n)));
}

/* From a to b, which have the same number of digits. */
static Node *between(Comp *c, const char *a, const char *b) {
    if (!*a) return grammar__empty(c);
    if (*a == *b) return seq2(c, digit(c, *a, *a), between(c, a + 1, b + 1));
    int n = (int)strlen(a + 1);
    Node *low = seq2(c, digit(c, *a, *a), beyond(c, a + 1, 1));
    Node *mid = seq2(c, digit(c, *a + 1, *b - 1), digits(c, n, n));
    Node *high = seq2(c, digit(c, *b, *b), beyond(c, b + 1, -1));
    return alt3(c, low, mid, high);
}

static Node *unsigned_range(Comp *c, uint64_t lo, uint64_t hi) {
    NodeList alts = {0};
    uint64_t from = lo;
    while (lo <= hi) {
        char a[24], b[24];
        int n = snprintf(a, sizeof a, "%llu", (unsigned long long)from);
        uint64_t last = 9;
        for (int i = 1; i < n && last <= (UINT64_MAX - 9) / 10; i++) last = last * 10 + 9;
        if (n >= 20) last = UINT64_MAX;
        snprintf(b, sizeof b, "%llu", (unsigned long long)MIN(last, hi));
        grammar__push(c, &alts, between(c, a, b));
        if (last >= hi) break;
        from = last + 1;
    }
    Node *k = grammar__alt(c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

static uint64_t negated(int64_t v) { return 0 - (uint64_t)v; }

Node *grammar__int_range(Comp *c, int64_t lo, int64_t hi) {
    Node *neg = grammar__none(c), *pos = grammar__none(c);
    if (lo > hi) return neg;
    if (lo < 0) {
        uint64_t to = hi < 0 ? negated(hi) : 1;
        neg = seq2(c, grammar__str(c, "-"), unsigned_range(c, to, negated(lo)));
    }
    if (hi >= 0) pos = unsigned_range(c, lo < 0 ? 0 : (uint64_t)lo, (uint64_t)hi);
    return alt2(c, neg, pos);
}

/* The least integer the bound allows (dir > 0), or the greatest. False: it is beyond all of int64. */
static bool int_bound(const Bound *b, int dir, int64_t *out) {
    if (b->exact) {
        if (b->strict && b->i == (dir > 0 ? INT64_MAX : INT64_MIN)) return false;
        *out = b->i + (b->strict ? dir : 0);
        return true;
    }
    double v = dir > 0 ? ceil(b->v) : floor(b->v);
    if (b->strict && v == b->v) v += dir;
    if (dir > 0 && v <= -0x1p63) v = -0x1p63;
    if (dir < 0 && v >= 0x1p63) {
        *out = INT64_MAX;
        return true;
    }
    if (!(v >= -0x1p63 && v < 0x1p63)) return false;
    *out = (int64_t)v;
    return true;
}

/* Rules "so many digits may follow, and the number so far is r modulo m": at most n_left * m of them. */
static Node *multiples_from_1(Comp *c, int64_t m, const Where *at) {
    uint32_t first = c->n_rules;
    for (int64_t i = 0; i < m * INT_DIGITS && !grammar__failed(c); i++)
        grammar__rule(c, (Slice){"", 0}, at);
    for (int64_t i = 0; i < m * INT_DIGITS && !grammar__failed(c); i++) {
        int64_t left = i / m, r = i % m;
        Node *alts[11];
        size_t n = 0;
        if (r == 0) alts[n++] = grammar__empty(c);
        for (int d = 0; d < 10 && left > 0; d++) {
            uint32_t to = first + (uint32_t)((left - 1) * m + (10 * r + d) % m);
            alts[n++] = seq2(c, digit(c, '0' + d, '0' + d), grammar__ref(c, to, at));
        }
        c->rules[first + i].body = grammar__alt(c, alts, n);
        c->rules[first + i].must_call = true;
    }
    Node *alts[9];
    for (int d = 1; d < 10; d++) {
        uint32_t to = first + (uint32_t)((INT_DIGITS - 1) * m + d % m);
        alts[d - 1] = seq2(c, digit(c, '0' + d, '0' + d), grammar__ref(c, to, at));
    }
    return grammar__alt(c, alts, 9);
}

static Node *listed(Comp *c, int64_t lo, int64_t hi, int64_t m) {
    NodeList alts = {0};
    int64_t r = lo % m, v = r == 0 ? lo : r < 0 ? lo - r : lo + (m - r);
    for (; v <= hi && v >= lo && !grammar__failed(c); v += m) {
        char buf[24];
        snprintf(buf, sizeof buf, "%lld", (long long)v);
        grammar__push(c, &alts, grammar__str(c, buf));
        if (v > INT64_MAX - m) break;
    }
    Node *k = grammar__alt(c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

static Node *multiples(Comp *c, int64_t lo, int64_t hi, bool has_lo, bool has_hi, int64_t m,
                       const Where *at) {
    enum { MOST = 2000, MAX_M = 500 };
    if (has_lo && has_hi && (uint64_t)hi - (uint64_t)lo <= (uint64_t)m * MOST)
        return listed(c, lo, hi, m);
    if (m > MAX_M || has_hi || (has_lo && lo != 0 && lo != 1)) {
        grammar__fail(c, at, ERR_UNSUPPORTED,
                      "multiples of %lld within these bounds: more than %d of them, or over %d",
                      (long long)m, (int)MOST, (int)MAX_M);
        return grammar__none(c);
    }
    Node *pos = multiples_from_1(c, m, at);
    Node *k = has_lo ? pos : seq2(c, grammar__repeat(c, grammar__str(c, "-"), 0, 1, NULL), pos);
    return has_lo && lo == 1 ? k : alt2(c, grammar__str(c, "0"), k);
}

Node *grammar__integers(Comp *c, JsonRules *j, const Bound *lo, const Bound *hi, int64_t m,
                        const Where *at) {
    int64_t from = -(int64_t)max_int, to = (int64_t)max_int;
    if (!lo->given && !hi->given && m <= 1) return grammar__json_integer(c, j);
    if (lo->given && !int_bound(lo, 1, &from)) return grammar__none(c);
    if (hi->given && !int_bound(hi, -1, &to)) return grammar__none(c);
    if (!hi->given && from > (int64_t)max_int) to = INT64_MAX;
    if (!lo->given && to < -(int64_t)max_int) from = INT64_MIN;
    if (from > to) return grammar__none(c);
    return m > 1 ? multiples(c, from, to, lo->given, hi->given, m, at)
                 : grammar__int_range(c, from, to);
}

/* ---- decimals: digits after the point, of which i are read and equal to those of the bound ---- */

typedef struct Frac {
    Comp *c;
    int max; /* digits */
} Frac;

static Node *any_tail(Frac f, int i) { return digits(f.c, 0, f.max - i); }

/* At least one more digit is not 0. */
static Node *not_zero(Frac f, int i) {
    if (i >= f.max) return grammar__none(f.c);
    return alt2(f.c, seq2(f.c, digit(f.c, '1', '9'), any_tail(f, i + 1)),
                seq2(f.c, digit(f.c, '0', '0'), not_zero(f, i + 1)));
}

static Node *above(Frac f, const char *a, int i, bool strict) {
    Comp *c = f.c;
    if (i >= f.max && a[i]) return grammar__none(c);
    if (!a[i]) return strict ? not_zero(f, i) : any_tail(f, i);
    return alt2(c, seq2(c, digit(c, a[i], a[i]), above(f, a, i + 1, strict)),
                seq2(c, digit(c, a[i] + 1, '9'), any_tail(f, i + 1)));
}

/* With need, some digit has to be other than 0: what is above an exhausted lower bound. */
static Node *below(Frac f, const char *b, int i, bool strict, bool need) {
    Comp *c = f.c;
    Node *stop = i > 0 && !need ? grammar__empty(c) : grammar__none(c);
    if (!b[i] && (strict || need)) return grammar__none(c);
    if (!b[i]) return grammar__repeat(c, digit(c, '0', '0'), i > 0 ? 0 : 1, f.max - i, NULL);
    if (i >= f.max) return stop;
    Node *same = seq2(c, digit(c, b[i], b[i]), below(f, b, i + 1, strict, need && b[i] == '0'));
    Node *less = seq2(c, digit(c, '1', b[i] - 1), any_tail(f, i + 1));
    Node *zero = b[i] == '0'
                     ? grammar__none(c)
                     : seq2(c, digit(c, '0', '0'), need ? not_zero(f, i + 1) : any_tail(f, i + 1));
    return alt2(c, stop, alt3(c, same, less, zero));
}

static Node *inside(Frac f, const char *a, bool a_strict, const char *b, bool b_strict, int i) {
    Comp *c = f.c;
    if (!a[i]) return below(f, b, i, b_strict, a_strict);
    if (!b[i] || i >= f.max || a[i] > b[i]) return grammar__none(c);
    if (a[i] == b[i])
        return seq2(c, digit(c, a[i], a[i]), inside(f, a, a_strict, b, b_strict, i + 1));
    return alt3(c, seq2(c, digit(c, a[i], a[i]), above(f, a, i + 1, a_strict)),
                seq2(c, digit(c, a[i] + 1, b[i] - 1), any_tail(f, i + 1)),
                seq2(c, digit(c, b[i], b[i]), below(f, b, i + 1, b_strict, false)));
}

/* A bound that is not negative, cut at the point. */
typedef struct Dec {
    bool given, strict;
    uint64_t whole;
    char frac[24]; /* no zeros at the end */
} Dec;

static bool parse_dec(Dec *d, double v, bool strict) {
    char buf[64];
    for (int p = 0; p <= 17; p++) {
        double back;
        snprintf(buf, sizeof buf, "%.*f", p, v);
        if (str_to_f64(&back, buf) && back == v) break;
        if (p == 17) return false;
    }
    char *point = strchr(buf, '.');
    *d = (Dec){.given = true, .strict = strict};
    if (point) {
        *point = 0;
        snprintf(d->frac, sizeof d->frac, "%s", point + 1);
        for (size_t n = strlen(d->frac); n && d->frac[n - 1] == '0';) d->frac[--n] = 0;
    }
    return strlen(buf) <= DEC_DIGITS && str_to_u64(&d->whole, buf);
}

static Node *dotted(Comp *c, Node *k) { return seq2(c, grammar__str(c, "."), k); }

static Node *with_whole(Comp *c, uint64_t w, Node *bare, Node *frac) {
    char buf[24];
    snprintf(buf, sizeof buf, "%llu", (unsigned long long)w);
    return seq2(c, grammar__str(c, buf), alt2(c, bare, dotted(c, frac)));
}

/* Numbers that are not negative, from a (given) to b (or any). */
static Node *positive(Frac f, const Dec *a, const Dec *b) {
    static const uint64_t most = 9999999999999999u; /* DEC_DIGITS nines */
    Comp *c = f.c;
    Node *none = grammar__none(c), *empty = grammar__empty(c);
    Node *any = f.max > 0 ? grammar__repeat(c, dotted(c, digits(c, 1, f.max)), 0, 1, NULL) : empty;
    bool a_bare = !a->frac[0] && !a->strict, b_bare = b->frac[0] || !b->strict;
    if (b->given && (b->whole < a->whole)) return none;
    if (b->given && a->whole == b->whole)
        return with_whole(c, a->whole, a_bare && b_bare ? empty : none,
                          f.max > 0 ? inside(f, a->frac, a->strict, b->frac, b->strict, 0) : none);
    Node *from_a = f.max <= 0 ? none
                   : a_bare   ? digits(c, 1, f.max)
                              : above(f, a->frac, 0, a->strict);
    Node *low = with_whole(c, a->whole, a_bare ? empty : none, from_a);
    uint64_t top = b->given ? b->whole : most + 1;
    Node *mid = a->whole + 1 < top ? seq2(c, unsigned_range(c, a->whole + 1, top - 1), any) : none;
    Node *high = !b->given ? none
                           : with_whole(c, b->whole, b_bare ? empty : none,
                                        f.max > 0 ? below(f, b->frac, 0, b->strict, false) : none);
    return alt3(c, low, mid, high);
}

static bool too_fine(Comp *c, const Bound *b) {
    grammar__fail(c, b->at, ERR_UNSUPPORTED, "bound %g has too many digits to be held to", b->v);
    return false;
}

/* The part of lo..hi on one side of 0, as distances from it. False: failed. *empty: nothing is there. */
static bool side(Comp *c, const Bound *lo, const Bound *hi, int sign, Dec *a, Dec *b, bool *empty) {
    const Bound *near = sign > 0 ? lo : hi, *far = sign > 0 ? hi : lo;
    double from = near->given ? sign * near->v : -1, to = far->given ? sign * far->v : 0;
    *a = (Dec){.given = true, .strict = sign < 0}; /* 0 is on the positive side */
    *b = (Dec){0};
    *empty = far->given && (to < 0 || (to == 0 && (sign < 0 || far->strict)));
    if (*empty) return true;
    if (near->given && (from > 0 || (from == 0 && near->strict)) &&
        !parse_dec(a, fabs(from), near->strict))
        return too_fine(c, near);
    if (far->given && !parse_dec(b, fabs(to), far->strict)) return too_fine(c, far);
    return true;
}

Node *grammar__decimals(Comp *c, const Bound *lo, const Bound *hi, int n_frac) {
    Frac f = {c, n_frac};
    Node *part[2];
    for (int i = 0; i < 2; i++) {
        Dec a, b;
        bool empty;
        part[i] = grammar__none(c);
        if (!side(c, lo, hi, i ? 1 : -1, &a, &b, &empty)) return part[i];
        if (empty) continue;
        part[i] = positive(f, &a, &b);
        if (!i) part[i] = seq2(c, grammar__str(c, "-"), part[i]);
    }
    return alt2(c, part[0], part[1]);
}
