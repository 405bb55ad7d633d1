/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls: what is called, arguments by place or name, and the functions every template has.
 */
#include <stdio.h>
#include <time.h>

#include "text/jinja_internal.h"

const JVal *jinja__arg(const JArgs *a, size_t i, const char *name) {
    if (i < a->n) return &a->v[i];
    for (size_t k = 0; name && k < a->n_kw; k++)
        if (slice_eq_str(a->name[k], name)) return &a->kw[k];
    return NULL;
}

Status jinja__arg_int(JRun *r, int64_t *out, const JArgs *a, size_t i, const char *name) {
    const JVal *v = jinja__arg(a, i, name);
    if (!v || v->kind == JV_NONE) return OK;
    if (v->kind != JV_INT && v->kind != JV_BOOL)
        return jinja__fail(r, "argument %zu is %s, wanted int", i + 1, jinja__type(*v));
    *out = v->kind == JV_BOOL ? v->b : v->i;
    return OK;
}

Status jinja__arg_str(JRun *r, Slice *out, const JArgs *a, size_t i, const char *name) {
    const JVal *v = jinja__arg(a, i, name);
    if (!v || v->kind == JV_NONE) return OK;
    if (v->kind != JV_STR)
        return jinja__fail(r, "argument %zu is %s, wanted str", i + 1, jinja__type(*v));
    *out = v->s;
    return OK;
}

bool jinja__arg_bool(const JArgs *a, size_t i, const char *name, bool usual) {
    const JVal *v = jinja__arg(a, i, name);
    return v ? jinja__truth(*v) : usual;
}

/* ---- functions ---- */

static Status do_range(JRun *r, JVal *out, const JArgs *a) {
    int64_t from = 0, to = 0, step = 1;
    if (a->n == 0 || a->n > 3) return jinja__fail(r, "range() wants one to three numbers");
    TRY(jinja__arg_int(r, &to, a, 0, NULL));
    if (a->n > 1) {
        from = to;
        TRY(jinja__arg_int(r, &to, a, 1, NULL));
        TRY(jinja__arg_int(r, &step, a, 2, NULL));
    }
    if (step == 0) return jinja__fail(r, "range() with step 0");
    TRY(jinja__list(r, out, JL_RANGE, 0));
    while (step > 0 ? from < to : from > to) {
        if (out->list->n == JINJA_MAX_RANGE)
            return jinja__fail(r, "range() of more than %d numbers", (int)JINJA_MAX_RANGE);
        TRY(jinja__push(r, out->list, jinja__int(from)));
        if (__builtin_add_overflow(from, step, &from)) break;
    }
    return OK;
}

static Status do_dict(JRun *r, JVal *out, const JArgs *a, JKind kind) {
    TRY(jinja__dict(r, out, kind));
    if (a->n > 0 && a->v[0].kind == JV_DICT)
        for (size_t i = 0; i < a->v[0].dict->n; i++)
            TRY(jinja__put(r, out->dict, a->v[0].dict->key[i], a->v[0].dict->val[i]));
    else if (a->n > 0) return jinja__fail(r, "a dict out of %s", jinja__type(a->v[0]));
    for (size_t i = 0; i < a->n_kw; i++)
        TRY(jinja__put(r, out->dict, jinja__slice(a->name[i]), a->kw[i]));
    return OK;
}

static Status do_namespace(JRun *r, JVal *out, const JArgs *a) {
    return do_dict(r, out, a, JV_SPACE);
}
static Status do_make_dict(JRun *r, JVal *out, const JArgs *a) {
    return do_dict(r, out, a, JV_DICT);
}

static Status do_raise(JRun *r, JVal *out, const JArgs *a) {
    Slice s = slice_of("raise_exception()");
    (void)out;
    if (a->n > 0) TRY(jinja__text(r, &s, a->v[0]));
    return jinja__fail(r, "%.*s", (int)MIN(s.n, 150), s.p);
}

static Status do_strftime(JRun *r, JVal *out, const JArgs *a) {
    enum { MAX_FORMAT = 200, MAX_TEXT = 4096 };
    char fmt[MAX_FORMAT + 2], text[MAX_TEXT];
    Slice s = {0};
    struct tm tm;
    time_t t = (time_t)r->now_s;
    TRY(jinja__arg_str(r, &s, a, 0, "format"));
    if (s.n > MAX_FORMAT || memchr(s.n ? s.p : "", 0, s.n))
        return jinja__fail(r, "strftime_now() with a format of %zu bytes, the limit is %d", s.n,
                           (int)MAX_FORMAT);
    /* glibc's widths ("%9999d") are not Python's */
    for (size_t i = 0; i + 1 < s.n; i++)
        if (s.p[i] == '%' && s.p[i + 1] >= '0' && s.p[i + 1] <= '9')
            return jinja__fail(r, "strftime_now() with a width");
    memcpy(fmt, s.n ? s.p : "", s.n);
    memcpy(fmt + s.n, "x", 2); /* so that nothing written is told from no room */
    if (!localtime_r(&t, &tm)) return jinja__fail(r, "strftime_now() without a time");
    size_t n = strftime(text, sizeof text, fmt, &tm);
    if (n == 0) return jinja__fail(r, "strftime_now() gives more than %d bytes", (int)MAX_TEXT);
    return jinja__copy(r, out, (Slice){text, n - 1});
}

static Status make_turning(JRun *r, JVal *out, JFuncKind kind, JVal self) {
    JFunc *f = NULL;
    TRY(jinja__alloc(r, &f, 1, sizeof *f));
    *f = (JFunc){.kind = kind, .name = slice_of("joiner"), .self = self};
    *out = (JVal){.kind = JV_FUNC, .func = f};
    return OK;
}

static Status do_joiner(JRun *r, JVal *out, const JArgs *a) {
    Slice sep = slice_of(", ");
    TRY(jinja__arg_str(r, &sep, a, 0, "sep"));
    return make_turning(r, out, JF_JOINER, jinja__slice(sep));
}

static Status do_cycler(JRun *r, JVal *out, const JArgs *a) {
    JVal list;
    if (a->n == 0) return jinja__fail(r, "cycler() without items");
    TRY(jinja__list(r, &list, JL_LIST, 0));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, list.list, a->v[i]));
    return make_turning(r, out, JF_CYCLER, list);
}

static const struct {
    const char *name;
    Status (*fn)(JRun *r, JVal *out, const JArgs *a);
} globals[] = {{"range", do_range},           {"dict", do_make_dict},
               {"namespace", do_namespace},   {"raise_exception", do_raise},
               {"strftime_now", do_strftime}, {"joiner", do_joiner},
               {"cycler", do_cycler}};

bool jinja__is_global(Slice name) {
    for (size_t i = 0; i < COUNT_OF(globals); i++)
        if (slice_eq_str(name, globals[i].name)) return true;
    return false;
}

Status jinja__global(JRun *r, JVal *out, const JFunc *f, const JArgs *a) {
    for (size_t i = 0; i < COUNT_OF(globals); i++)
        if (slice_eq_str(f->name, globals[i].name)) return globals[i].fn(r, out, a);
    return jinja__fail(r, "no function of this name");
}

Status jinja__call(JRun *r, JVal *out, JVal v, const JArgs *a) {
    if (v.kind == JV_UNDEF)
        return jinja__fail(r, "'%.*s' is undefined", (int)MIN(v.s.n, 80), v.s.p);
    if (v.kind == JV_LOOP) return jinja__loop_call(r, out, v.loop, a);
    if (v.kind != JV_FUNC) return jinja__fail(r, "%s is not callable", jinja__type(v));
    switch (v.func->kind) {
    case JF_GLOBAL: return jinja__global(r, out, v.func, a);
    case JF_METHOD: return jinja__method(r, out, v.func, a);
    case JF_MACRO:
    case JF_CALLER: return jinja__call_macro(r, out, v.func, a);
    case JF_JOINER: *out = v.func->turn++ ? v.func->self : jinja__slice(slice_of("")); return OK;
    case JF_CYCLER: break;
    }
    return jinja__fail(r, "a cycler is not callable");
}

/* ---- texts with places in them ---- */

typedef struct Spec {
    bool left, zero, plus, space, alt;
    int64_t width, precision; /* -1: none */
    char conv;
} Spec;

static void put_padded(StrBuf *b, const Spec *sp, Slice s) {
    int64_t pad = sp->width - (int64_t)jinja__n_cp(s);
    for (int64_t i = 0; !sp->left && i < pad; i++) sb_putc(b, ' ');
    sb_put(b, s.p, s.n);
    for (int64_t i = 0; sp->left && i < pad; i++) sb_putc(b, ' ');
}

static Status put_number(JRun *r, StrBuf *b, const Spec *sp, JVal v) {
    char fmt[24], text[600];
    bool real = strchr("eEfFgG", sp->conv) != NULL;
    if (!jinja__is_num(v))
        return jinja__fail(r, "%%%c wants a number, not %s", sp->conv, jinja__type(v));
    snprintf(fmt, sizeof fmt, "%%%s%s%s%s%s*.*%s%c", sp->left ? "-" : "", sp->zero ? "0" : "",
             sp->plus ? "+" : "", sp->space ? " " : "", sp->alt ? "#" : "", real ? "" : "ll",
             sp->conv);
    int w = (int)sp->width, p = (int)sp->precision;
    double d = jinja__num(v);
    if (!real && v.kind == JV_REAL && !(d > -9e18 && d < 9e18))
        return jinja__fail(r, "a number out of range for %%%c", sp->conv);
    long long whole = v.kind == JV_REAL ? (long long)d : v.kind == JV_BOOL ? v.b : v.i;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (real) snprintf(text, sizeof text, fmt, w, p, d);
    else snprintf(text, sizeof text, fmt, w, p, whole);
#pragma GCC diagnostic pop
    sb_puts(b, text);
    return OK;
}

/* Flags, width, precision and conversion behind a '%'; bytes read, 0 where it is broken. */
static size_t read_spec(Spec *sp, Slice s) {
    enum { MOST = 100 };
    size_t i = 0;
    *sp = (Spec){.precision = -1};
    for (; i < s.n && s.p[i] && strchr("-0+ #", s.p[i]); i++) {
        sp->left |= s.p[i] == '-';
        sp->zero |= s.p[i] == '0';
        sp->plus |= s.p[i] == '+';
        sp->space |= s.p[i] == ' ';
        sp->alt |= s.p[i] == '#';
    }
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && sp->width <= MOST; i++)
        sp->width = sp->width * 10 + (s.p[i] - '0');
    if (i < s.n && s.p[i] == '.') {
        sp->precision = 0;
        for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && sp->precision <= MOST; i++)
            sp->precision = sp->precision * 10 + (s.p[i] - '0');
    }
    if (i == s.n || sp->width > MOST || sp->precision > MOST) return 0;
    sp->conv = s.p[i++];
    return sp->conv && strchr("srdiuxXoeEfFgG%", sp->conv) ? i : 0;
}

static Status put_place(JRun *r, StrBuf *b, Spec *sp, JVal v) {
    Slice s;
    if (sp->conv == 'r') {
        StrBuf t = {0};
        Status st = jinja__put_repr(r, &t, v, 1);
        if (st == OK) st = jinja__take(r, &v, &t);
        else sb_deinit(&t);
        TRY(st);
    } else if (sp->conv != 's') {
        if (sp->conv == 'i' || sp->conv == 'u') sp->conv = 'd';
        return put_number(r, b, sp, v);
    }
    TRY(jinja__text(r, &s, v));
    if (sp->precision >= 0) s.n = jinja__cp_at(s, (size_t)sp->precision);
    put_padded(b, sp, s);
    return b->n <= r->max_mem ? OK : jinja__fail(r, "a text too long");
}

static Status percent(JRun *r, StrBuf *b, Slice fmt, const JVal *v, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < fmt.n;) {
        Spec sp;
        if (fmt.p[i] != '%') {
            sb_putc(b, fmt.p[i++]);
            continue;
        }
        size_t took = read_spec(&sp, (Slice){fmt.p + i + 1, fmt.n - i - 1});
        if (!took) return jinja__fail(r, "a place in a format that is not known here");
        i += took + 1;
        if (sp.conv == '%') sb_putc(b, '%');
        else if (k == n) return jinja__fail(r, "not enough values for a format");
        else TRY(put_place(r, b, &sp, v[k++]));
    }
    return k == n ? OK : jinja__fail(r, "more values than places in a format");
}

Status jinja__percent(JRun *r, JVal *out, Slice fmt, JVal args) {
    bool many = args.kind == JV_LIST && args.list->kind == JL_TUPLE;
    StrBuf b = {0};
    TRY(jinja__step(r, fmt.n / 16));
    Status st = percent(r, &b, fmt, many ? args.list->v : &args, many ? args.list->n : 1);
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}

/* The value of {name}, {0} or {}. */
static Status find_place(JRun *r, JVal *out, Slice name, const JArgs *a, size_t *next) {
    char text[64];
    int64_t i;
    const JVal *v = NULL;
    if (name.n == 0) v = jinja__arg(a, (*next)++, NULL);
    else if (name.n < sizeof text) {
        memcpy(text, name.p, name.n);
        text[name.n] = 0;
        if (str_to_i64(&i, text)) v = i >= 0 ? jinja__arg(a, (size_t)i, NULL) : NULL;
        else v = jinja__arg(a, a->n, text);
    }
    if (!v) return jinja__fail(r, "format() has no value for {%.*s}", (int)MIN(name.n, 40), name.p);
    *out = *v;
    return OK;
}

static Status format(JRun *r, StrBuf *b, Slice fmt, const JArgs *a) {
    size_t next = 0;
    for (size_t i = 0; i < fmt.n; i++) {
        char c = fmt.p[i];
        if (c != '{' && c != '}') {
            sb_putc(b, c);
            continue;
        }
        if (i + 1 < fmt.n && fmt.p[i + 1] == c) {
            sb_putc(b, c);
            i++;
            continue;
        }
        const char *end = memchr(fmt.p + i, '}', fmt.n - i);
        JVal v;
        Slice name = {fmt.p + i + 1, end && c == '{' ? (size_t)(end - fmt.p) - i - 1 : 0};
        if (!end || c == '}' || memchr(name.p, ':', name.n) || memchr(name.p, '!', name.n))
            return jinja__fail(r, "a place in a format that is not known here");
        TRY(find_place(r, &v, name, a, &next));
        TRY(jinja__put_str(r, b, v));
        i += name.n + 1;
    }
    return b->n <= r->max_mem ? OK : jinja__fail(r, "a text too long");
}

Status jinja__format(JRun *r, JVal *out, Slice fmt, const JArgs *a) {
    StrBuf b = {0};
    TRY(jinja__step(r, fmt.n / 16));
    Status st = format(r, &b, fmt, a);
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}
