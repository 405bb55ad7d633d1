/* SPDX-License-Identifier: Apache-2.0
 *
 * Methods of dicts, lists and loops, and the way from a method's name to its function. Those that would change a value
 * are not there: a call of one fails as in Jinja's sandbox.
 */
#include "text/jinja_internal.h"

/* ---- dicts ---- */

static Status view(JRun *r, JVal *out, JVal v, bool key, bool val) {
    TRY(jinja__list(r, out, !val ? JL_KEYS : !key ? JL_VALUES : JL_ITEMS, 0));
    for (size_t i = 0; i < v.dict->n; i++) {
        JVal item = key ? v.dict->key[i] : v.dict->val[i];
        if (key && val) TRY(jinja__pair(r, &item, v.dict->key[i], v.dict->val[i]));
        TRY(jinja__push(r, out->list, item));
    }
    return OK;
}
static Status m_items(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return view(r, out, v, true, true);
}
static Status m_keys(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return view(r, out, v, true, false);
}
static Status m_values(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return view(r, out, v, false, true);
}
static Status m_get(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 1, NULL);
    JVal *found;
    if (a->n == 0) return jinja__fail(r, "get() wants a key");
    TRY(jinja__find(r, &found, v.dict, a->v[0]));
    *out = found ? *found : usual ? *usual : jinja__none();
    return OK;
}
static Status m_copy(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)r;
    (void)a;
    *out = v;
    return OK;
}

/* ---- lists, loops ---- */

static Status l_count(JRun *r, JVal *out, JVal v, const JArgs *a) {
    int64_t n = 0;
    for (size_t i = 0; a->n && i < v.list->n; i++) {
        bool same;
        TRY(jinja__equal(r, &same, v.list->v[i], a->v[0]));
        n += same;
    }
    *out = jinja__int(n);
    return OK;
}
static Status l_index(JRun *r, JVal *out, JVal v, const JArgs *a) {
    int64_t n = (int64_t)v.list->n, from = 0, to = n;
    TRY(jinja__arg_int(r, &from, a, 1, NULL));
    TRY(jinja__arg_int(r, &to, a, 2, NULL));
    if (from < 0) from = MAX(0, from + n);
    if (to < 0) to += n;
    for (int64_t i = from; i < MIN(to, n); i++) {
        bool same;
        TRY(jinja__equal(r, &same, v.list->v[i], a->v[0]));
        *out = jinja__int(i);
        if (same) return OK;
    }
    return jinja__fail(r, "index(): not in the list");
}
static Status loop_cycle(JRun *r, JVal *out, JVal v, const JArgs *a) {
    if (a->n == 0) return jinja__fail(r, "cycle() without items");
    *out = a->v[v.loop->i % a->n];
    return OK;
}
static Status loop_changed(JRun *r, JVal *out, JVal v, const JArgs *a) {
    JVal now;
    bool same = false;
    TRY(jinja__list(r, &now, JL_TUPLE, 0));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, now.list, a->v[i]));
    if (v.loop->changed.kind == JV_LIST) TRY(jinja__equal(r, &same, v.loop->changed, now));
    v.loop->changed = now;
    *out = jinja__bool(!same);
    return OK;
}
static Status cycler_next(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JList *l = v.func->self.list;
    (void)r;
    (void)a;
    *out = l->v[v.func->turn++ % l->n];
    return OK;
}

static Status cycler_reset(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)r;
    (void)a;
    v.func->turn = 0;
    *out = jinja__none();
    return OK;
}

static const JCallRow dict_methods[] = {
    {"items", m_items, "", 0},         {"keys", m_keys, "", 0}, {"values", m_values, "", 0},
    {"get", m_get, "/key default", 1}, {"copy", m_copy, "", 0}, {NULL, NULL, NULL, 0}};
static const JCallRow list_methods[] = {{"count", l_count, "/value", 1},
                                        {"index", l_index, "/value start stop", 1},
                                        {"copy", m_copy, "", 0},
                                        {NULL, NULL, NULL, 0}};
static const JCallRow loop_methods[] = {{"cycle", loop_cycle, "*", 0},
                                        {"changed", loop_changed, "*", 0},
                                        {NULL, NULL, NULL, 0}};
static const JCallRow cycler_methods[] = {{"next", cycler_next, "", 0},
                                          {"reset", cycler_reset, "", 0},
                                          {NULL, NULL, NULL, 0}};

static const JCallRow *methods_of(JVal v) {
    static const JCallRow none[] = {{NULL, NULL, NULL, 0}};
    switch (v.kind) {
    case JV_STR: return jinja__text_methods;
    case JV_DICT: return dict_methods;
    case JV_LIST: return v.list->kind <= JL_RANGE ? list_methods : none;
    case JV_LOOP: return loop_methods;
    case JV_FUNC: return v.func->kind == JF_CYCLER ? cycler_methods : none;
    default: return none;
    }
}

static const JCallRow *find_method(JVal v, Slice name) {
    for (const JCallRow *m = jinja__case_methods; v.kind == JV_STR && m->name; m++)
        if (slice_eq_str(name, m->name)) return m;
    for (const JCallRow *m = methods_of(v); m->name; m++) {
        bool is_copy = v.kind == JV_LIST && v.list->kind != JL_LIST && m->fn == m_copy;
        if (slice_eq_str(name, m->name) && !is_copy) return m;
    }
    return NULL;
}

bool jinja__has_method(JVal v, Slice name) { return find_method(v, name) != NULL; }

/* What a method makes of a safe text is safe. */
static void keep_safe(JVal *out) {
    if (out->kind == JV_STR) out->safe = true;
    for (size_t i = 0; out->kind == JV_LIST && i < out->list->n; i++) out->list->v[i].safe = true;
}

/* The arguments of a safe text's method, escaped. */
static Status escape_args(JRun *r, JArgs *a) {
    JVal *v = NULL;
    TRY(jinja__alloc(r, &v, a->n + 1, sizeof *v));
    for (size_t i = 0; i < a->n; i++) {
        v[i] = a->v[i];
        if (v[i].kind == JV_STR) TRY(jinja__escape(r, &v[i], v[i]));
    }
    a->v = v;
    return OK;
}

Status jinja__method(JRun *r, JVal *out, const JFunc *f, const JArgs *a) {
    const JCallRow *m = find_method(f->self, f->name);
    bool safe = f->self.kind == JV_STR && f->self.safe;
    JArgs own = *a;
    if (!m) return jinja__fail(r, "no such method");
    TRY(jinja__check_args(r, m->name, m->params, m->need, a));
    if (safe) TRY(escape_args(r, &own));
    TRY(m->fn(r, out, f->self, &own));
    if (safe) keep_safe(out);
    return OK;
}

Status jinja__text_method(JRun *r, JVal *out, JVal self, const char *name, const JArgs *a) {
    JFunc f = {.name = slice_of(name), .self = self};
    return jinja__method(r, out, &f, a);
}
