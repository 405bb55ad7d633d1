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

/* The place of a name in a row's list of parameters, or SIZE_MAX. */
static size_t find_param(const char *params, Slice name) {
    size_t i = 0;
    for (const char *p = params; *p; i++) {
        size_t n = strcspn(p, " ");
        if (slice_eq((Slice){p, n}, name)) return i;
        p += n + (p[n] == ' ');
    }
    return SIZE_MAX;
}

static size_t count_params(const char *p) {
    size_t n = *p != 0;
    for (; *p; p++) n += *p == ' ';
    return n;
}

Status jinja__check_args(JRun *r, const char *name, const char *params, int need, const JArgs *a) {
    unsigned given = 0; /* by name, a bit each */
    bool by_place = *params == '/';
    if (*params == '*') return OK;
    params += by_place;
    size_t n = count_params(params);
    if (a->n > n) return jinja__fail(r, "%s takes %zu arguments, not %zu", name, n, a->n);
    for (size_t i = 0; i < a->n_kw; i++) {
        size_t at = by_place ? SIZE_MAX : find_param(params, a->name[i]);
        if (at == SIZE_MAX || at < a->n)
            return jinja__fail(r, "%s takes no argument %.*s%s", name, (int)MIN(a->name[i].n, 40),
                               a->name[i].p, at == SIZE_MAX ? "" : " twice");
        given |= 1u << at;
    }
    for (size_t i = a->n; i < (size_t)need; i++)
        if (!(given >> i & 1)) return jinja__fail(r, "%s wants %d arguments", name, need);
    return OK;
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
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].kind != JV_INT && a->v[i].kind != JV_BOOL)
            return jinja__fail(r, "range() wants int, not %s", jinja__type(a->v[i]));
    if (step == 0) return jinja__fail(r, "range() with step 0");
    TRY(jinja__list(r, out, JL_RANGE, 0));
    int64_t all[3] = {from, to, step};
    memcpy(out->list->range, all, sizeof all);
    while (step > 0 ? from < to : from > to) {
        if (out->list->n == JINJA_MAX_RANGE)
            return jinja__fail(r, "range() of more than %d numbers", (int)JINJA_MAX_RANGE);
        TRY(jinja__push(r, out->list, jinja__int(from)));
        if (__builtin_add_overflow(from, step, &from)) break;
    }
    return OK;
}

/* A list of pairs into a dict. */
static Status put_pairs(JRun *r, JDict *d, JVal list) {
    JList *l, *pair;
    TRY(jinja__iter(r, &l, list));
    for (size_t i = 0; i < l->n; i++) {
        TRY(jinja__iter(r, &pair, l->v[i]));
        if (pair->n != 2) return jinja__fail(r, "a dict out of what are no pairs");
        TRY(jinja__put(r, d, pair->v[0], pair->v[1]));
    }
    return OK;
}

static Status do_dict(JRun *r, JVal *out, const JArgs *a, JKind kind) {
    TRY(jinja__dict(r, out, kind));
    if (a->n > 1) return jinja__fail(r, "a dict out of %zu values", a->n);
    if (a->n > 0 && a->v[0].kind == JV_DICT)
        for (size_t i = 0; i < a->v[0].dict->n; i++)
            TRY(jinja__put(r, out->dict, a->v[0].dict->key[i], a->v[0].dict->val[i]));
    else if (a->n > 0) TRY(put_pairs(r, out->dict, a->v[0]));
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

/* Python's words of a time that C has not: %f is microseconds, %z and %Z are nothing without a zone. */
static bool put_format(StrBuf *b, Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        char next = i + 1 < s.n ? s.p[i + 1] : 0;
        if (s.p[i] != '%') {
            sb_putc(b, s.p[i]);
            continue;
        }
        /* glibc's widths ("%9999d") are not Python's */
        if (next >= '0' && next <= '9') return false;
        i++;
        if (next == 'f') sb_puts(b, "000000");
        else if (next != 'z' && next != 'Z') sb_printf(b, next ? "%%%c" : "%%%%", next);
    }
    sb_putc(b, 'x'); /* so that nothing written is told from no room */
    return true;
}

static Status do_strftime(JRun *r, JVal *out, const JArgs *a) {
    enum { MAX_FORMAT = 200, MAX_TEXT = 4096 };
    char text[MAX_TEXT];
    StrBuf fmt = {0};
    Slice s = {0};
    struct tm tm;
    time_t t = (time_t)r->now_s;
    TRY(jinja__check_args(r, "strftime_now()", "format", 1, a));
    TRY(jinja__arg_str(r, &s, a, 0, "format"));
    if (s.n > MAX_FORMAT || memchr(s.n ? s.p : "", 0, s.n))
        return jinja__fail(r, "strftime_now() with a format of %zu bytes, the limit is %d", s.n,
                           (int)MAX_FORMAT);
    bool known = put_format(&fmt, s) && localtime_r(&t, &tm);
    size_t n = known && !fmt.failed ? strftime(text, sizeof text, sb_str(&fmt), &tm) : 0;
    Status st = sb_check(&fmt, r->e);
    sb_deinit(&fmt);
    TRY(st);
    if (!known) return jinja__fail(r, "strftime_now() with a width");
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
    TRY(jinja__check_args(r, "joiner()", "sep", 0, a));
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
