/* SPDX-License-Identifier: Apache-2.0
 *
 * Macros and call blocks. A macro takes what it has no parameter for only if its body makes use of varargs, kwargs or
 * caller, as in Jinja: the parser has noted that in the node.
 */
#include "text/jinja_internal.h"

static Status make_macro(JRun *r, JVal *out, JFuncKind kind, const JNode *n) {
    JFunc *f = NULL;
    TRY(jinja__alloc(r, &f, 1, sizeof *f));
    *f = (JFunc){.kind = kind,
                 .name = kind == JF_MACRO ? n->s : slice_of("caller"),
                 .node = n,
                 .scope = r->scope};
    *out = (JVal){.kind = JV_FUNC, .func = f};
    return OK;
}

static const JNode *params_of(const JFunc *f) {
    return f->kind == JF_MACRO ? f->node->a : f->node->b;
}

/* The place of a parameter, or SIZE_MAX. */
static size_t find_param(const JFunc *f, Slice name) {
    size_t i = 0;
    for (const JNode *p = params_of(f); p; p = p->next, i++)
        if (slice_eq(p->s, name)) return i;
    return SIZE_MAX;
}

static const JVal *named(const JArgs *a, Slice name) {
    for (size_t i = 0; i < a->n_kw; i++)
        if (slice_eq(a->name[i], name)) return &a->kw[i];
    return NULL;
}

/* Parameters from arguments, then from their defaults, which see the parameters before them. */
static Status bind_params(JRun *r, const JFunc *f, const JArgs *a) {
    size_t i = 0;
    for (const JNode *p = params_of(f); p; p = p->next, i++) {
        const JVal *kw = named(a, p->s);
        JVal v = jinja__undef(p->s);
        if (i < a->n) v = a->v[i];
        else if (kw) v = *kw;
        else if (p->a) TRY(jinja__eval(r, &v, p->a));
        TRY(jinja__set(r, r->scope, p->s, v));
    }
    return OK;
}

/* varargs: what came beyond the parameters. */
static Status bind_more(JRun *r, const JFunc *f, const JArgs *a) {
    size_t n = 0;
    JVal rest;
    for (const JNode *p = params_of(f); p; p = p->next) n++;
    if (!(f->node->i & JINJA_SEES_VARARGS)) {
        if (a->n <= n) return OK;
        return jinja__fail(r, "%.*s() takes %zu arguments, not %zu", (int)MIN(f->name.n, 40),
                           f->name.p, n, a->n);
    }
    TRY(jinja__list(r, &rest, JL_TUPLE, 0));
    for (size_t i = n; i < a->n; i++) TRY(jinja__push(r, rest.list, a->v[i]));
    return jinja__set(r, r->scope, slice_of("varargs"), rest);
}

/* kwargs: names that no parameter took, caller apart. */
static Status bind_named(JRun *r, const JFunc *f, const JArgs *a) {
    int64_t sees = f->node->i;
    JVal kw, caller = jinja__undef(slice_of("caller"));
    TRY(jinja__dict(r, &kw, JV_DICT));
    for (size_t i = 0; i < a->n_kw; i++) {
        size_t at = find_param(f, a->name[i]);
        bool is_caller = slice_eq_str(a->name[i], "caller") && (sees & JINJA_SEES_CALLER);
        if (is_caller) caller = a->kw[i];
        if (is_caller || (at != SIZE_MAX && at >= a->n)) continue;
        if (!(sees & JINJA_SEES_KWARGS))
            return jinja__fail(r, "%.*s() takes no argument %.*s", (int)MIN(f->name.n, 40),
                               f->name.p, (int)MIN(a->name[i].n, 40), a->name[i].p);
        TRY(jinja__put(r, kw.dict, jinja__slice(a->name[i]), a->kw[i]));
    }
    if (sees & JINJA_SEES_CALLER) TRY(jinja__set(r, r->scope, slice_of("caller"), caller));
    if (!(sees & JINJA_SEES_KWARGS)) return OK;
    return jinja__set(r, r->scope, slice_of("kwargs"), kw);
}

Status jinja__call_macro(JRun *r, JVal *out, const JFunc *f, const JArgs *a) {
    JScope *outer = r->scope;
    if (++r->depth > JINJA_MAX_DEPTH)
        return jinja__fail(r, "evaluation nested deeper than %d", (int)JINJA_MAX_DEPTH);
    TRY(jinja__push_scope(r, f->scope));
    TRY(bind_more(r, f, a));
    TRY(bind_named(r, f, a));
    TRY(bind_params(r, f, a));
    TRY(jinja__capture(r, out, f->node->c));
    r->depth--;
    r->scope = outer;
    return OK;
}

Status jinja__exec_macro(JRun *r, const JNode *n) {
    JVal f;
    TRY(make_macro(r, &f, JF_MACRO, n));
    return jinja__set(r, r->scope, n->s, f);
}

/* {% call f(x) %}: the body is the argument `caller`. */
Status jinja__exec_caller(JRun *r, const JNode *n) {
    JVal f, v;
    JArgs a, more;
    Slice s;
    TRY(jinja__eval(r, &f, n->a->a));
    TRY(jinja__args(r, &a, n->a->b));
    more = a;
    more.n_kw = a.n_kw + 1;
    TRY(jinja__alloc(r, &more.kw, more.n_kw, sizeof *more.kw));
    TRY(jinja__alloc(r, &more.name, more.n_kw, sizeof *more.name));
    for (size_t i = 0; i < a.n_kw; i++) {
        more.kw[i] = a.kw[i];
        more.name[i] = a.name[i];
    }
    more.name[a.n_kw] = slice_of("caller");
    TRY(make_macro(r, &more.kw[a.n_kw], JF_CALLER, n));
    r->at = n;
    TRY(jinja__call(r, &v, f, &more));
    TRY(jinja__text(r, &s, v));
    return jinja__write(r, s);
}
