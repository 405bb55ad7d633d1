/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters of texts and numbers, and the way from a filter's name to its function.
 */
#include <math.h>
#include <stdlib.h>

#include "text/jinja_internal.h"

/* A filter that is a method of str(in). */
static Status by_method(JRun *r, JVal *out, JVal in, const JArgs *a, const char *name) {
    JFunc f = {.name = slice_of(name)};
    Slice s;
    TRY(jinja__text(r, &s, in));
    f.self = jinja__slice(s);
    return jinja__method(r, out, &f, a);
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
static Status f_replace(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return by_method(r, out, in, a, "replace");
}

static Status f_trim(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JArgs one = *a;
    const JVal *chars = jinja__arg(a, 0, "chars");
    JVal v = chars ? *chars : jinja__none();
    one.v = &v;
    one.n = 1;
    return by_method(r, out, in, &one, "strip");
}

static Status f_center(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JVal width = jinja__int(80);
    JArgs one = {.v = &width, .n = 1};
    return by_method(r, out, in, jinja__arg(a, 0, "width") ? a : &one, "center");
}

/* Words begin behind white space and opening brackets. */
static Status f_title(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0};
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    for (size_t i = 0; i < s.n;) {
        size_t to = i;
        JVal word;
        while (to < s.n && !strchr("- \t\n\r\f\v({[<", s.p[to])) to++;
        Status st = jinja__case(r, &word, (Slice){s.p + i, to - i}, 'c');
        if (st != OK) sb_deinit(&b);
        TRY(st);
        sb_put(&b, word.s.p, word.s.n);
        if (to < s.n) sb_putc(&b, s.p[to++]);
        i = to;
    }
    return jinja__take(r, out, &b);
}

static Status f_string(JRun *r, JVal *out, JVal in, const JArgs *a) {
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    *out = jinja__slice(s);
    return OK;
}

static Status f_escape(JRun *r, JVal *out, JVal in, const JArgs *a) {
    static const char from[] = "&<>\"'";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    StrBuf b = {0};
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    for (size_t i = 0; i < s.n; i++) {
        const char *k = s.p[i] ? strchr(from, s.p[i]) : NULL;
        if (k) sb_puts(&b, to[k - from]);
        else sb_putc(&b, s.p[i]);
    }
    return jinja__take(r, out, &b);
}

static Status f_indent(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *width = jinja__arg(a, 0, "width");
    bool first = jinja__arg_bool(a, 1, "first", false),
         blank = jinja__arg_bool(a, 2, "blank", false);
    int64_t n = 4;
    StrBuf b = {0};
    Slice s, pad = slice_of("                                                                ");
    TRY(jinja__text(r, &s, in));
    if (width && width->kind == JV_STR) pad = width->s;
    else {
        TRY(jinja__arg_int(r, &n, a, 0, "width"));
        if (n > (int64_t)pad.n)
            return jinja__fail(r, "indent: %lld, the limit is 64", (long long)n);
        pad.n = (size_t)MAX(0, n);
    }
    if (first) sb_put(&b, pad.p, pad.n);
    for (size_t i = 0; i < s.n && b.n <= r->max_mem; i++) {
        sb_putc(&b, s.p[i]);
        bool empty = i + 1 == s.n || s.p[i + 1] == '\n';
        if (s.p[i] == '\n' && (blank || !empty)) sb_put(&b, pad.p, pad.n);
    }
    return jinja__take(r, out, &b);
}

static Status f_format(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JVal values;
    Slice s;
    TRY(jinja__text(r, &s, in));
    TRY(jinja__list(r, &values, JL_TUPLE, 0));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, values.list, a->v[i]));
    return jinja__percent(r, out, s, values);
}

static Status f_wordcount(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JArgs none = {0};
    (void)a;
    TRY(by_method(r, out, in, &none, "split"));
    *out = jinja__int((int64_t)out->list->n);
    return OK;
}

/* ---- numbers ---- */

/* A text as a C string without white space at its ends; false where it is too long to be a number. */
static bool number_text(char text[64], JVal v) {
    Slice s = jinja__strip(v.s, true, true);
    size_t n = 0;
    if (s.n >= 64) return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '_') text[n++] = s.p[i];
    text[n] = 0;
    return n > 0;
}

static Status f_int(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 0, "default");
    char text[64], *end;
    int64_t base = 10, i;
    double d;
    TRY(jinja__arg_int(r, &base, a, 1, "base"));
    *out = usual ? *usual : jinja__int(0);
    if (in.kind == JV_INT || in.kind == JV_BOOL) *out = jinja__int(in.kind == JV_INT ? in.i : in.b);
    bool real = in.kind == JV_REAL;
    d = real ? in.d : 0;
    if (in.kind == JV_STR && number_text(text, in)) {
        if (base == 10 && str_to_i64(&i, text[0] == '+' ? text + 1 : text)) *out = jinja__int(i);
        else if (base == 10) real = str_to_f64(&d, text);
        else if (base >= 2 && base <= 36) {
            i = strtoll(text, &end, (int)base);
            if (!*end) *out = jinja__int(i);
        }
    }
    if (real && d > -9.2e18 && d < 9.2e18) *out = jinja__int((int64_t)d);
    return OK;
}

static Status f_float(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 0, "default");
    char text[64];
    double d;
    (void)r;
    *out = usual ? *usual : jinja__real(0);
    if (jinja__is_num(in)) *out = jinja__real(jinja__num(in));
    else if (in.kind == JV_STR && number_text(text, in) && str_to_f64(&d, text))
        *out = jinja__real(d);
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
    if (common && in.kind != JV_REAL && digits >= 0) *out = in;
    else if (common) *out = jinja__real(isfinite(d) ? round_common(d, digits) : d);
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

const JFilterRow jinja__text_filters[] = {{"trim", f_trim},
                                          {"tojson", jinja__tojson},
                                          {"upper", f_upper},
                                          {"lower", f_lower},
                                          {"title", f_title},
                                          {"capitalize", f_capitalize},
                                          {"replace", f_replace},
                                          {"center", f_center},
                                          {"string", f_string},
                                          {"safe", f_string},
                                          {"escape", f_escape},
                                          {"e", f_escape},
                                          {"forceescape", f_escape},
                                          {"indent", f_indent},
                                          {"format", f_format},
                                          {"wordcount", f_wordcount},
                                          {"int", f_int},
                                          {"float", f_float},
                                          {"abs", f_abs},
                                          {"round", f_round},
                                          {"default", f_default},
                                          {"d", f_default},
                                          {"length", f_length},
                                          {"count", f_length},
                                          {"attr", f_attr},
                                          {NULL, NULL}};

static JFilterFn find_filter(Slice name) {
    const JFilterRow *tables[] = {jinja__text_filters, jinja__list_filters};
    for (size_t k = 0; k < COUNT_OF(tables); k++)
        for (const JFilterRow *f = tables[k]; f->name; f++)
            if (slice_eq_str(name, f->name)) return f->fn;
    return NULL;
}

Status jinja__filter(JRun *r, JVal *out, Slice name, JVal in, const JArgs *a) {
    JFilterFn fn = find_filter(name);
    JVal v = {0};
    if (!fn) return jinja__fail(r, "no filter named '%.*s'", (int)MIN(name.n, 40), name.p);
    TRY(fn(r, &v, in, a));
    *out = v;
    return OK;
}
