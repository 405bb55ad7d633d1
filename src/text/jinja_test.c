/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests: x is defined, x is divisibleby 3 ...
 */
#include <math.h>

#include "text/jinja_internal.h"

static bool is_iterable(JVal v) {
    return v.kind == JV_STR || v.kind == JV_LIST || v.kind == JV_DICT || v.kind == JV_UNDEF;
}

/* Tests of what a value is; -1: no such test. */
static int test_kind(Slice name, JVal v) {
    const struct {
        const char *name;
        bool yes;
    } all[] = {{"defined", v.kind != JV_UNDEF},
               {"undefined", v.kind == JV_UNDEF},
               {"none", v.kind == JV_NONE},
               {"boolean", v.kind == JV_BOOL},
               {"true", v.kind == JV_BOOL && v.b},
               {"false", v.kind == JV_BOOL && !v.b},
               {"integer", v.kind == JV_INT},
               {"float", v.kind == JV_REAL},
               {"number", jinja__is_num(v)},
               {"string", v.kind == JV_STR},
               {"mapping", v.kind == JV_DICT},
               {"iterable", is_iterable(v)},
               {"sequence", is_iterable(v) && !(v.kind == JV_LIST && v.list->kind >= JL_KEYS)},
               {"callable", v.kind == JV_FUNC || v.kind == JV_LOOP || v.kind == JV_UNDEF},
               {"filter", v.kind == JV_STR && jinja__has_filter(v.s)},
               {"test", v.kind == JV_STR && jinja__has_test(v.s)},
               {"escaped", v.kind == JV_STR && v.safe}};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (slice_eq_str(name, all[i].name)) return all[i].yes;
    return -1;
}

static Status test_case(JRun *r, bool *out, JVal in, const char *method) {
    JArgs none = {0};
    JVal v;
    Slice s;
    TRY(jinja__text(r, &s, in));
    TRY(jinja__text_method(r, &v, jinja__slice(s), method, &none));
    *out = v.b;
    return OK;
}

/* Whether in % by is `rest`. */
static Status test_rest(JRun *r, bool *out, JVal in, JVal by, int64_t want) {
    JVal rest;
    TRY(jinja__binary(r, &rest, '%', in, by));
    return jinja__equal(r, out, rest, jinja__int(want));
}

static Status test_same(JRun *r, bool *out, JVal a, JVal b) {
    *out = false;
    if (a.kind != b.kind) return OK;
    if (a.kind == JV_LIST || a.kind == JV_DICT || a.kind == JV_SPACE) {
        *out = a.list == b.list;
        return OK;
    }
    return jinja__equal(r, out, a, b);
}

static const struct {
    const char *name;
    char op;
} two_sided[] = {{"eq", '='}, {"==", '='},          {"equalto", '='},    {"ne", '!'}, {"!=", '!'},
                 {"lt", '<'}, {"lessthan", '<'},    {"<", '<'},          {"le", 'l'}, {"<=", 'l'},
                 {"gt", '>'}, {"greaterthan", '>'}, {">", '>'},          {"ge", 'g'}, {">=", 'g'},
                 {"in", 'i'}, {"sameas", 's'},      {"divisibleby", 'd'}};

static Status test_pair(JRun *r, bool *out, char op, JVal a, JVal b) {
    int c;
    if (op == 'i') return jinja__in(r, out, a, b);
    if (op == 's') return test_same(r, out, a, b);
    if (op == 'd') return test_rest(r, out, a, b, 0);
    if (op == '=' || op == '!') {
        TRY(jinja__equal(r, out, a, b));
        if (op == '!') *out = !*out;
        return OK;
    }
    TRY(jinja__order(r, &c, a, b, "an order"));
    *out = op == '<' ? c < 0 : op == '>' ? c > 0 : op == 'l' ? c <= 0 : c >= 0;
    return OK;
}

bool jinja__has_test(Slice name) {
    static const char *const others[] = {"odd", "even", "upper", "lower"};
    for (size_t i = 0; i < COUNT_OF(others); i++)
        if (slice_eq_str(name, others[i])) return true;
    for (size_t i = 0; i < COUNT_OF(two_sided); i++)
        if (slice_eq_str(name, two_sided[i].name)) return true;
    return test_kind(name, jinja__none()) >= 0;
}

Status jinja__test(JRun *r, bool *out, Slice name, JVal in, const JArgs *a) {
    int yes = test_kind(name, in);
    size_t n = a->n + a->n_kw;
    bool by_name = slice_eq_str(name, "filter") || slice_eq_str(name, "test");
    if (by_name && (in.kind == JV_DICT || (in.kind == JV_LIST && in.list->kind == JL_LIST)))
        return jinja__fail(r, "a %s is no name", jinja__type(in));
    if (yes >= 0) {
        *out = yes;
        return n == 0 ? OK : jinja__fail(r, "the test %.*s takes no argument", (int)name.n, name.p);
    }
    for (size_t i = 0; i < COUNT_OF(two_sided); i++) {
        if (!slice_eq_str(name, two_sided[i].name)) continue;
        if (n != 1) return jinja__fail(r, "the test %s wants one argument", two_sided[i].name);
        return test_pair(r, out, two_sided[i].op, in, a->n ? a->v[0] : a->kw[0]);
    }
    bool odd = slice_eq_str(name, "odd");
    if (odd || slice_eq_str(name, "even")) return test_rest(r, out, in, jinja__int(2), odd);
    if (slice_eq_str(name, "upper")) return test_case(r, out, in, "isupper");
    if (slice_eq_str(name, "lower")) return test_case(r, out, in, "islower");
    return jinja__fail(r, "no test named '%.*s'", (int)MIN(name.n, 40), name.p);
}
