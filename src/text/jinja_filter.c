/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters of texts and numbers, and the way from a filter's name to its function.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

/* A filter that is a method of str(in). */
static Status by_method(JRun *r, JVal *out, JVal in, const JArgs *a, const char *name) {
    JVal self = in;
    Slice s;
    TRY(jinja__text(r, &s, in));
    if (in.kind != JV_STR) self = jinja__slice(s);
    return jinja__text_method(r, out, self, name, a);
}
static Status f_upper(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return by_method(r, out, in, a, "upper");
}
static Status f_lower(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return by_method(r, out, in, a, "lower");
}
static Status f_capitalize(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return by_method(r, out, in, a, "capitalize");
}
/* Of the texts of whatever is given. */
static Status f_replace(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *old = jinja__arg(a, 0, "old"), *by = jinja__arg(a, 1, "new"),
               *count = jinja__arg(a, 2, "count");
    JVal v[3];
    JArgs three = {.v = v, .n = 3};
    Slice s;
    TRY(jinja__text(r, &s, *old));
    v[0] = jinja__slice(s);
    TRY(jinja__text(r, &s, *by));
    v[1] = jinja__slice(s);
    v[2] = count && count->kind != JV_NONE ? *count : jinja__int(-1);
    if (in.kind == JV_STR) in.safe = false;
    return by_method(r, out, in, &three, "replace");
}

static Status f_trim(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JArgs one = *a;
    const JVal *chars = jinja__arg(a, 0, "chars");
    JVal v = chars ? *chars : jinja__none();
    one.v = &v;
    one.n = 1;
    one.n_kw = 0;
    return by_method(r, out, in, &one, "strip");
}

static Status f_center(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *given = jinja__arg(a, 0, "width");
    JVal width = given ? *given : jinja__int(80);
    JArgs one = {.v = &width, .n = 1};
    if (width.kind == JV_NONE) return jinja__fail(r, "center to none");
    return by_method(r, out, in, &one, "center");
}

static Status f_string(JRun *r, JVal *out, JVal in, const JArgs *a) {
    Slice s;
    (void)a;
    *out = in;
    if (in.kind == JV_STR) return OK;
    TRY(jinja__text(r, &s, in));
    *out = jinja__slice(s);
    return OK;
}

static Status f_format(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JVal values, fmt = in;
    Slice s;
    TRY(jinja__text(r, &s, in));
    if (in.kind != JV_STR) fmt = jinja__slice(s);
    if (a->n && a->n_kw) return jinja__fail(r, "format by place and by name");
    if (a->n_kw) {
        TRY(jinja__dict(r, &values, JV_DICT));
        for (size_t i = 0; i < a->n_kw; i++)
            TRY(jinja__put(r, values.dict, jinja__slice(a->name[i]), a->kw[i]));
        return jinja__percent(r, out, fmt, values);
    }
    TRY(jinja__list(r, &values, JL_TUPLE, 0));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, values.list, a->v[i]));
    return jinja__percent(r, out, fmt, values);
}

/* Runs of letters, digits and underscores. */
static Status f_wordcount(JRun *r, JVal *out, JVal in, const JArgs *a) {
    bool inside = false;
    int64_t n = 0;
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    TRY(jinja__step(r, s.n / 16));
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0xfffd;
        i += (size_t)MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
        bool word = cp == '_' || (ucd_class(cp) & (UCD_L | UCD_N));
        n += word && !inside;
        inside = word;
    }
    *out = jinja__int(n);
    return OK;
}

/* ---- numbers ---- */

/* A text as a C string as strto... wants it: white space at its ends gone, underscores between digits too. False where
 * it is no number or too long to be one. */
static bool number_text(char text[64], Slice s) {
    size_t n = 0;
    s = jinja__strip(s, true, true);
    if (s.n >= 64 || s.n == 0 || memchr(s.p, 0, s.n)) return false;
    for (size_t i = 0; i < s.n; i++) {
        bool between = s.p[i] == '_' && i > 0 && i + 1 < s.n && s.p[i - 1] != '_';
        if (s.p[i] == '_' && !between) return false;
        if (s.p[i] != '_') text[n++] = s.p[i];
    }
    text[n] = 0;
    return strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-.") == n;
}

/* int(text, base) of Python; 0 it is no number, -1 it has more than 64 bits. */
static int read_int(int64_t *out, Slice s, int base) {
    char text[64], *end;
    if (!number_text(text, s)) return 0;
    char *p = text + (text[0] == '+' || text[0] == '-');
    char mark = p[0] == '0' ? (char)(p[1] | 0x20) : 0;
    int of = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (of && (base == of || base == 0)) {
        memmove(p, p + 2, strlen(p + 2) + 1);
        base = of;
    }
    if (!((*p >= '0' && *p <= '9') || (*p | 0x20) >= 'a')) return 0;
    if (base == 0) base = 10;
    errno = 0;
    *out = strtoll(text, &end, base);
    return *end || end == text ? 0 : errno ? -1 : 1;
}

static bool read_real(double *out, Slice s) {
    char text[64], *end;
    if (!number_text(text, s)) return false;
    const char *p = text + (text[0] == '+' || text[0] == '-');
    char lower[16] = {0};
    for (size_t i = 0; i < 15 && p[i]; i++) lower[i] = (char)(p[i] | 0x20);
    bool word =
        strcmp(lower, "inf") == 0 || strcmp(lower, "infinity") == 0 || strcmp(lower, "nan") == 0;
    if (!word && (strspn(p, "0123456789.eE+-") != strlen(p))) return false;
    *out = strtod(text, &end);
    return !*end && end != text;
}

static Status from_real(JRun *r, JVal *out, double d) {
    if (!isfinite(d)) return jinja__fail(r, "int of a number without end");
    if (!(d > -9.2e18 && d < 9.2e18)) return jinja__fail(r, "an integer over 64 bits");
    *out = jinja__int((int64_t)d);
    return OK;
}

static Status f_int(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 0, "default");
    int64_t base = 10, i = 0;
    double d = 0;
    TRY(jinja__arg_int(r, &base, a, 1, "base"));
    *out = usual ? *usual : jinja__int(0);
    if (in.kind == JV_UNDEF)
        return jinja__fail(r, "'%.*s' is undefined", (int)MIN(in.s.n, 80), in.s.p);
    if (in.kind == JV_INT || in.kind == JV_BOOL) *out = jinja__int(in.kind == JV_INT ? in.i : in.b);
    if (in.kind == JV_REAL && !isnan(in.d)) return from_real(r, out, in.d);
    if (in.kind != JV_STR) return OK;
    TRY(jinja__step(r, in.s.n / 4));
    int got = base == 0 || (base >= 2 && base <= 36) ? read_int(&i, in.s, (int)base) : 0;
    if (got > 0) *out = jinja__int(i);
    if (got < 0) return jinja__fail(r, "an integer over 64 bits");
    if (got == 0 && read_real(&d, in.s) && !isnan(d)) return from_real(r, out, d);
    return OK;
}

static Status f_float(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 0, "default");
    double d;
    *out = usual ? *usual : jinja__real(0);
    if (in.kind == JV_UNDEF)
        return jinja__fail(r, "'%.*s' is undefined", (int)MIN(in.s.n, 80), in.s.p);
    if (in.kind == JV_STR) TRY(jinja__step(r, in.s.n / 4));
    if (jinja__is_num(in)) *out = jinja__real(jinja__num(in));
    else if (in.kind == JV_STR && read_real(&d, in.s)) *out = jinja__real(d);
    return OK;
}

static Status f_abs(JRun *r, JVal *out, JVal in, const JArgs *a) {
    (void)a;
    if (!jinja__is_num(in)) return jinja__fail(r, "abs of %s", jinja__type(in));
    if (in.kind == JV_REAL) *out = jinja__real(fabs(in.d));
    else if (in.kind == JV_INT && in.i == INT64_MIN)
        return jinja__fail(r, "an integer over 64 bits");
    else *out = jinja__int(in.kind == JV_INT ? (in.i < 0 ? -in.i : in.i) : in.b);
    return OK;
}

/* To the even neighbour on ties, of the decimal text as Python does. */
static double round_common(double d, int64_t digits) {
    if (digits < 0) {
        double p = pow(10, (double)-digits);
        return nearbyint(d / p) * p;
    }
    StrBuf b = {0};
    sb_printf(&b, "%.*f", (int)digits, d);
    double v = b.failed ? d : strtod(sb_str(&b), NULL);
    sb_deinit(&b);
    return v;
}

/* An integer to tens, hundreds ..., to the even one on ties. */
static Status round_int(JRun *r, JVal *out, int64_t v, int64_t digits) {
    uint64_t unit = 1, size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    for (; digits < 0 && unit <= UINT64_MAX / 10 / 10; digits++) unit *= 10;
    if (digits < 0) size = 0;
    uint64_t down = size / unit, rest = size % unit, half = unit / 2;
    if (unit > 1 && (rest > half || (rest == half && (down & 1)))) down++;
    if (down * unit > INT64_MAX) return jinja__fail(r, "an integer over 64 bits");
    int64_t size_now = (int64_t)(down * unit);
    *out = jinja__int(v < 0 ? -size_now : size_now);
    return OK;
}

static Status f_round(JRun *r, JVal *out, JVal in, const JArgs *a) {
    int64_t digits = 0;
    Slice how = slice_of("common");
    TRY(jinja__arg_int(r, &digits, a, 0, "precision"));
    TRY(jinja__arg_str(r, &how, a, 1, "method"));
    if (!jinja__is_num(in)) return jinja__fail(r, "round of %s", jinja__type(in));
    if (digits < -300 || digits > 300)
        return jinja__fail(r, "round to %lld digits", (long long)digits);
    double d = jinja__num(in), p = pow(10, (double)digits);
    bool common = slice_eq_str(how, "common");
    int64_t i = in.kind == JV_BOOL ? in.b : in.i;
    if (common && in.kind != JV_REAL) return round_int(r, out, i, MIN(digits, 0));
    if (common) *out = jinja__real(isfinite(d) ? round_common(d, digits) : d);
    else if (slice_eq_str(how, "ceil")) *out = jinja__real(ceil(d * p) / p);
    else if (slice_eq_str(how, "floor")) *out = jinja__real(floor(d * p) / p);
    else return jinja__fail(r, "round: method must be common, ceil or floor");
    return OK;
}

/* ---- whatever is given ---- */

static Status f_default(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 0, "default_value");
    bool falsy = jinja__arg_bool(a, 1, "boolean", false) && !jinja__truth(in);
    (void)r;
    *out = in;
    if (in.kind == JV_UNDEF || falsy) *out = usual ? *usual : jinja__slice(slice_of(""));
    return OK;
}

static Status f_length(JRun *r, JVal *out, JVal in, const JArgs *a) {
    int64_t n;
    (void)a;
    TRY(jinja__len(r, &n, in));
    *out = jinja__int(n);
    return OK;
}

static Status f_attr(JRun *r, JVal *out, JVal in, const JArgs *a) {
    Slice name = {0};
    TRY(jinja__arg_str(r, &name, a, 0, "name"));
    if (in.kind == JV_DICT && !jinja__has_method(in, name)) {
        *out = jinja__undef(name);
        return OK;
    }
    return jinja__attr(r, out, in, name);
}

const JCallRow jinja__text_filters[] = {{"trim", f_trim, "chars", 0},
                                        {"tojson", jinja__tojson,
                                         "ensure_ascii indent separators sort_keys", 0},
                                        {"upper", f_upper, "", 0},
                                        {"lower", f_lower, "", 0},
                                        {"capitalize", f_capitalize, "", 0},
                                        {"replace", f_replace, "old new count", 2},
                                        {"center", f_center, "width", 0},
                                        {"string", f_string, "", 0},
                                        {"format", f_format, "*", 0},
                                        {"wordcount", f_wordcount, "", 0},
                                        {"int", f_int, "default base", 0},
                                        {"float", f_float, "default", 0},
                                        {"abs", f_abs, "", 0},
                                        {"round", f_round, "precision method", 0},
                                        {"default", f_default, "default_value boolean", 0},
                                        {"d", f_default, "default_value boolean", 0},
                                        {"length", f_length, "", 0},
                                        {"count", f_length, "", 0},
                                        {"attr", f_attr, "name", 1},
                                        {NULL, NULL, NULL, 0}};

static const JCallRow *find_filter(Slice name) {
    const JCallRow *tables[] = {jinja__text_filters, jinja__list_filters, jinja__markup_filters};
    for (size_t k = 0; k < COUNT_OF(tables); k++)
        for (const JCallRow *f = tables[k]; f->name; f++)
            if (slice_eq_str(name, f->name)) return f;
    return NULL;
}

bool jinja__has_filter(Slice name) { return find_filter(name) != NULL; }

Status jinja__filter(JRun *r, JVal *out, Slice name, JVal in, const JArgs *a) {
    const JCallRow *f = find_filter(name);
    JVal v = {0};
    if (!f) return jinja__fail(r, "no filter named '%.*s'", (int)MIN(name.n, 40), name.p);
    TRY(jinja__check_args(r, f->name, f->params, f->need, a));
    TRY(f->fn(r, &v, in, a));
    *out = v;
    return OK;
}
