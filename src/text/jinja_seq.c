/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters of lists: order, choice, mapping. Sorting is a merge sort, stable as Python's.
 */
#include "text/jinja_internal.h"

Status jinja__path(JRun *r, JVal *out, JVal v, JVal path) {
    if (path.kind == JV_INT) return jinja__item(r, out, v, path);
    if (path.kind != JV_STR) return jinja__fail(r, "an attribute named by %s", jinja__type(path));
    *out = v;
    for (Slice left = path.s;;) {
        const char *dot = left.n ? memchr(left.p, '.', left.n) : NULL;
        Slice part = {left.p, dot ? (size_t)(dot - left.p) : left.n};
        JVal key = jinja__slice(part);
        int64_t i = 0;
        size_t k = 0;
        for (; k < part.n && k < 9 && part.p[k] >= '0' && part.p[k] <= '9'; k++)
            i = i * 10 + (part.p[k] - '0');
        if (k > 0 && k == part.n) key = jinja__int(i);
        TRY(jinja__item(r, out, *out, key));
        if (!dot) return OK;
        left = (Slice){dot + 1, left.n - part.n - 1};
    }
}

/* What a list is ordered by: its element, an attribute of it, in lower case unless case counts. */
static Status key_of(JRun *r, JVal *out, JVal v, const JVal *path, bool fold) {
    *out = v;
    if (path && path->kind != JV_NONE) TRY(jinja__path(r, out, v, *path));
    return fold && out->kind == JV_STR ? jinja__case(r, out, out->s, 'l') : OK;
}

typedef struct Keyed {
    JVal key, v;
} Keyed;

static Status merge(JRun *r, Keyed *v, Keyed *tmp, size_t n, bool down) {
    size_t half = n / 2, i = 0, k = half, at = 0;
    if (n < 2) return OK;
    TRY(merge(r, v, tmp, half, down));
    TRY(merge(r, v + half, tmp, n - half, down));
    while (i < half && k < n) {
        int c;
        TRY(jinja__order(r, &c, v[i].key, v[k].key, "<"));
        bool right = down ? c < 0 : c > 0;
        tmp[at++] = right ? v[k++] : v[i++];
    }
    while (i < half) tmp[at++] = v[i++];
    memcpy(v, tmp, at * sizeof *v);
    return OK;
}

/* Several attributes, "a,b.c": the list of their keys. */
static Status keys_of(JRun *r, JVal *out, JVal v, const JVal *path, bool fold) {
    bool many = path && path->kind == JV_STR && path->s.n && memchr(path->s.p, ',', path->s.n);
    if (!many) return key_of(r, out, v, path, fold);
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (Slice left = path->s;;) {
        const char *comma = left.n ? memchr(left.p, ',', left.n) : NULL;
        size_t n = comma ? (size_t)(comma - left.p) : left.n;
        JVal one = jinja__slice((Slice){left.p, n}), key;
        TRY(key_of(r, &key, v, &one, fold));
        TRY(jinja__push(r, out->list, key));
        if (!comma) return OK;
        left = (Slice){comma + 1, left.n - n - 1};
    }
}

static Status sort(JRun *r, JVal *out, const JList *l, const JVal *path, bool fold, bool down) {
    Keyed *v = NULL;
    TRY(jinja__alloc(r, &v, 2 * l->n + 1, sizeof *v));
    for (size_t i = 0; i < l->n; i++) {
        v[i].v = l->v[i];
        TRY(keys_of(r, &v[i].key, l->v[i], path, fold));
    }
    TRY(merge(r, v, v + l->n, l->n, down));
    TRY(jinja__list(r, out, JL_LIST, l->n));
    for (size_t i = 0; i < l->n; i++) TRY(jinja__push(r, out->list, v[i].v));
    return OK;
}

static Status f_sort(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JList *l;
    TRY(jinja__iter(r, &l, in));
    return sort(r, out, l, jinja__arg(a, 2, "attribute"),
                !jinja__arg_bool(a, 1, "case_sensitive", false),
                jinja__arg_bool(a, 0, "reverse", false));
}

static Status pairs(JRun *r, JVal *out, JVal in, JListKind kind) {
    TRY(jinja__list(r, out, kind, 0));
    if (in.kind == JV_UNDEF) return OK;
    if (in.kind != JV_DICT) return jinja__fail(r, "items of %s", jinja__type(in));
    for (size_t i = 0; i < in.dict->n; i++) {
        JVal pair;
        TRY(jinja__pair(r, &pair, in.dict->key[i], in.dict->val[i]));
        TRY(jinja__push(r, out->list, pair));
    }
    return OK;
}

static Status f_items(JRun *r, JVal *out, JVal in, const JArgs *a) {
    (void)a;
    return pairs(r, out, in, JL_LAZY);
}

static Status f_dictsort(JRun *r, JVal *out, JVal in, const JArgs *a) {
    Slice by = slice_of("key");
    JVal all;
    TRY(jinja__arg_str(r, &by, a, 1, "by"));
    if (!slice_eq_str(by, "key") && !slice_eq_str(by, "value"))
        return jinja__fail(r, "dictsort by '%.*s', wanted key or value", (int)MIN(by.n, 40), by.p);
    if (in.kind != JV_DICT) return jinja__fail(r, "dictsort of %s", jinja__type(in));
    TRY(pairs(r, &all, in, JL_LIST));
    JVal at = jinja__int(slice_eq_str(by, "value"));
    return sort(r, out, all.list, &at, !jinja__arg_bool(a, 0, "case_sensitive", false),
                jinja__arg_bool(a, 2, "reverse", false));
}

static Status f_unique(JRun *r, JVal *out, JVal in, const JArgs *a) {
    bool fold = !jinja__arg_bool(a, 0, "case_sensitive", false);
    JVal seen;
    JList *l;
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, JL_LAZY, 0));
    TRY(jinja__list(r, &seen, JL_LIST, 0));
    for (size_t i = 0; i < l->n; i++) {
        JVal key;
        bool had;
        TRY(key_of(r, &key, l->v[i], jinja__arg(a, 1, "attribute"), fold));
        if (key.kind == JV_DICT || (key.kind == JV_LIST && key.list->kind == JL_LIST))
            return jinja__fail(r, "unique of a %s, which cannot be looked up", jinja__type(key));
        TRY(jinja__in(r, &had, key, seen));
        if (had) continue;
        TRY(jinja__push(r, seen.list, key));
        TRY(jinja__push(r, out->list, l->v[i]));
    }
    return OK;
}

static Status extreme(JRun *r, JVal *out, JVal in, const JArgs *a, int sign) {
    bool fold = !jinja__arg_bool(a, 0, "case_sensitive", false);
    JVal best = jinja__none();
    JList *l;
    TRY(jinja__iter(r, &l, in));
    *out = jinja__undef(slice_of("element"));
    for (size_t i = 0; i < l->n; i++) {
        JVal key;
        int c = 0;
        TRY(key_of(r, &key, l->v[i], jinja__arg(a, 1, "attribute"), fold));
        if (i) TRY(jinja__order(r, &c, key, best, "<"));
        if (i && c * sign <= 0) continue;
        best = key;
        *out = l->v[i];
    }
    return OK;
}
static Status f_max(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return extreme(r, out, in, a, 1);
}
static Status f_min(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return extreme(r, out, in, a, -1);
}

static Status f_sum(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *path = jinja__arg(a, 0, "attribute"), *start = jinja__arg(a, 1, "start");
    JVal sum = start ? *start : jinja__int(0);
    JList *l;
    if (sum.kind == JV_STR) return jinja__fail(r, "sum of str: join does that");
    TRY(jinja__iter(r, &l, in));
    for (size_t i = 0; i < l->n; i++) {
        JVal v;
        TRY(key_of(r, &v, l->v[i], path, false));
        TRY(jinja__binary(r, &sum, '+', sum, v));
    }
    *out = sum;
    return OK;
}

static Status f_first(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JList *l;
    (void)a;
    TRY(jinja__iter(r, &l, in));
    *out = l->n ? l->v[0] : jinja__undef(slice_of("first"));
    bool lazy = in.kind == JV_LIST && in.list->kind == JL_LAZY;
    if (lazy && l->n) in.list->n_taken -= l->n - 1;
    return OK;
}

static Status f_last(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JList *l;
    (void)a;
    if (in.kind == JV_LIST && in.list->kind == JL_LAZY)
        return jinja__fail(r, "last of a generator, which has no end to begin at");
    TRY(jinja__iter(r, &l, in));
    *out = l->n ? l->v[l->n - 1] : jinja__undef(slice_of("last"));
    return OK;
}

static Status f_list(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JList *l;
    (void)a;
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, JL_LIST, l->n));
    for (size_t i = 0; i < l->n; i++) TRY(jinja__push(r, out->list, l->v[i]));
    return OK;
}

static Status f_reverse(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JVal bound[3] = {jinja__none(), jinja__none(), jinja__int(-1)};
    JList *l;
    (void)a;
    if (in.kind == JV_STR) return jinja__slice_of(r, out, in, bound);
    bool lazy = in.kind == JV_LIST && in.list->kind == JL_LAZY;
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, lazy ? JL_LIST : JL_LAZY, l->n));
    for (size_t i = l->n; i-- > 0;) TRY(jinja__push(r, out->list, l->v[i]));
    return OK;
}

static Status put_joined(JRun *r, StrBuf *b, const JList *l, Slice sep, const JVal *path) {
    for (size_t i = 0; i < l->n; i++) {
        JVal v;
        if (i) sb_put(b, sep.p, sep.n);
        TRY(key_of(r, &v, l->v[i], path, false));
        TRY(jinja__put_str(r, b, v));
        if (b->n > jinja__room(r)) return jinja__fail(r, "a text too long");
    }
    return OK;
}

static Status f_join(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *d = jinja__arg(a, 0, "d");
    StrBuf b = {0};
    Slice sep = {0};
    JList *l;
    if (d) TRY(jinja__text(r, &sep, *d));
    TRY(jinja__iter(r, &l, in));
    Status st = put_joined(r, &b, l, sep, jinja__arg(a, 1, "attribute"));
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}

/* ---- choosing and mapping ---- */

/* The arguments behind the first n. */
static JArgs rest(const JArgs *a, size_t n) {
    JArgs b = *a;
    b.v += MIN(n, a->n);
    b.n -= MIN(n, a->n);
    return b;
}

static Status choose(JRun *r, JVal *out, JVal in, const JArgs *a, bool by_attr, bool keep) {
    size_t n_own = by_attr ? 1 : 0;
    JArgs more = rest(a, n_own + 1);
    JList *l;
    if (by_attr && a->n == 0) return jinja__fail(r, "the name of an attribute is missing");
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, JL_LAZY, 0));
    for (size_t i = 0; i < l->n; i++) {
        JVal v;
        TRY(key_of(r, &v, l->v[i], by_attr ? &a->v[0] : NULL, false));
        bool yes = jinja__truth(v);
        if (a->n > n_own) {
            if (a->v[n_own].kind != JV_STR) return jinja__fail(r, "the name of a test is no str");
            TRY(jinja__test(r, &yes, a->v[n_own].s, v, &more));
        }
        if (yes == keep) TRY(jinja__push(r, out->list, l->v[i]));
    }
    return OK;
}
static Status f_select(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return choose(r, out, in, a, false, true);
}
static Status f_reject(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return choose(r, out, in, a, false, false);
}
static Status f_selectattr(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return choose(r, out, in, a, true, true);
}
static Status f_rejectattr(JRun *r, JVal *out, JVal in, const JArgs *a) {
    return choose(r, out, in, a, true, false);
}

static Status map_one(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JVal *path = jinja__arg(a, a->n, "attribute"), *usual = jinja__arg(a, a->n, "default");
    JArgs more = rest(a, 1);
    if (!path) {
        if (a->n == 0 || a->v[0].kind != JV_STR) return jinja__fail(r, "map wants a filter's name");
        return jinja__filter(r, out, a->v[0].s, v, &more);
    }
    TRY(jinja__path(r, out, v, *path));
    if (out->kind == JV_UNDEF && usual) *out = *usual;
    return OK;
}

static Status f_map(JRun *r, JVal *out, JVal in, const JArgs *a) {
    JList *l;
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, JL_LAZY, l->n));
    if (++r->depth > JINJA_MAX_DEPTH) return jinja__fail(r, "evaluation nested too deep");
    for (size_t i = 0; i < l->n; i++) {
        JVal v;
        TRY(map_one(r, &v, l->v[i], a));
        TRY(jinja__push(r, out->list, v));
    }
    r->depth--;
    return OK;
}

static Status f_batch(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *fill = jinja__arg(a, 1, "fill_with");
    int64_t size = 0;
    JVal part = {0};
    JList *l;
    TRY(jinja__arg_int(r, &size, a, 0, "linecount"));
    if (size < 1) return jinja__fail(r, "batch of %lld", (long long)size);
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, JL_LAZY, 0));
    for (size_t i = 0; i < l->n; i++) {
        if (i % (size_t)size == 0) {
            TRY(jinja__list(r, &part, JL_LIST, 0));
            TRY(jinja__push(r, out->list, part));
        }
        TRY(jinja__push(r, part.list, l->v[i]));
    }
    bool filled = l->n && fill && fill->kind != JV_NONE;
    while (filled && part.list->n < (size_t)size) TRY(jinja__push(r, part.list, *fill));
    return OK;
}

static Status f_slice(JRun *r, JVal *out, JVal in, const JArgs *a) {
    const JVal *fill = jinja__arg(a, 1, "fill_with");
    int64_t slices = 0;
    size_t at = 0;
    JList *l;
    TRY(jinja__arg_int(r, &slices, a, 0, "slices"));
    if (slices < 1) return jinja__fail(r, "slice into %lld", (long long)slices);
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__list(r, out, JL_LAZY, 0));
    size_t n = (size_t)slices, each = l->n / n, larger = l->n % n;
    for (size_t i = 0; i < n; i++) {
        JVal part;
        TRY(jinja__list(r, &part, JL_LIST, 0));
        for (size_t k = 0; k < each + (i < larger); k++) TRY(jinja__push(r, part.list, l->v[at++]));
        if (i >= larger && fill && fill->kind != JV_NONE) TRY(jinja__push(r, part.list, *fill));
        TRY(jinja__push(r, out->list, part));
    }
    return OK;
}

/* The attribute things are grouped by, or what stands for a missing one. */
static Status group_key(JRun *r, JVal *out, JVal v, const JArgs *a, bool fold) {
    const JVal *usual = jinja__arg(a, 1, "default");
    TRY(key_of(r, out, v, jinja__arg(a, 0, "attribute"), false));
    if (out->kind == JV_UNDEF && usual && usual->kind != JV_NONE) *out = *usual;
    return fold && out->kind == JV_STR ? jinja__case(r, out, out->s, 'l') : OK;
}

static Status f_groupby(JRun *r, JVal *out, JVal in, const JArgs *a) {
    bool fold = !jinja__arg_bool(a, 2, "case_sensitive", false);
    Keyed *v = NULL;
    JVal group = {0};
    JList *l;
    TRY(jinja__iter(r, &l, in));
    TRY(jinja__alloc(r, &v, 2 * l->n + 1, sizeof *v));
    for (size_t i = 0; i < l->n; i++) {
        v[i].v = l->v[i];
        TRY(group_key(r, &v[i].key, l->v[i], a, fold));
    }
    TRY(merge(r, v, v + l->n, l->n, false));
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (size_t i = 0; i < l->n; i++) {
        JVal shown, pair;
        bool same = false;
        if (i) TRY(jinja__equal(r, &same, v[i].key, v[i - 1].key));
        if (!same) {
            TRY(group_key(r, &shown, v[i].v, a, false));
            TRY(jinja__list(r, &group, JL_LIST, 0));
            TRY(jinja__pair(r, &pair, shown, group));
            pair.list->kind = JL_GROUP;
            TRY(jinja__push(r, out->list, pair));
        }
        TRY(jinja__push(r, group.list, v[i].v));
    }
    return OK;
}

const JCallRow jinja__list_filters[] = {{"join", f_join, "d attribute", 0},
                                        {"first", f_first, "", 0},
                                        {"last", f_last, "", 0},
                                        {"list", f_list, "", 0},
                                        {"map", f_map, "*", 0},
                                        {"select", f_select, "*", 0},
                                        {"reject", f_reject, "*", 0},
                                        {"selectattr", f_selectattr, "*", 0},
                                        {"rejectattr", f_rejectattr, "*", 0},
                                        {"items", f_items, "", 0},
                                        {"dictsort", f_dictsort, "case_sensitive by reverse", 0},
                                        {"sort", f_sort, "reverse case_sensitive attribute", 0},
                                        {"unique", f_unique, "case_sensitive attribute", 0},
                                        {"reverse", f_reverse, "", 0},
                                        {"min", f_min, "case_sensitive attribute", 0},
                                        {"max", f_max, "case_sensitive attribute", 0},
                                        {"sum", f_sum, "attribute start", 0},
                                        {"batch", f_batch, "linecount fill_with", 1},
                                        {"slice", f_slice, "slices fill_with", 1},
                                        {"groupby", f_groupby, "attribute default case_sensitive",
                                         1},
                                        {NULL, NULL, NULL, 0}};
