/* SPDX-License-Identifier: Apache-2.0
 *
 * Values: made in the arena of a render, never freed alone, never changed once seen (namespaces apart), so copies
 * share what they hold. Equality, order, truth and membership are Python's.
 */
#include <math.h>
#include <stdio.h>

#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

Status jinja__fail(JRun *r, const char *fmt, ...) {
    char msg[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    for (char *p = msg; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
    msg[utf8_complete_prefix((Slice){msg, strlen(msg)})] = 0;
    return err_set(r->e, ERR_FORMAT, "line %u, column %u: %s", r->at ? r->at->line : 1,
                   r->at ? r->at->col : 1, msg);
}

static Status full(JRun *r, const char *what, unsigned long long limit) {
    return err_set(r->e, ERR_FULL, "line %u, column %u: the template takes more than %llu %s",
                   r->at ? r->at->line : 1, r->at ? r->at->col : 1, limit, what);
}

size_t jinja__room(const JRun *r) { return r->max_mem - r->mem_used; }

Status jinja__step(JRun *r, size_t n) {
    r->steps += n;
    return r->steps <= r->max_steps ? OK : full(r, "steps", r->max_steps);
}

Status jinja__alloc(JRun *r, void *out, size_t n, size_t size) {
    size_t bytes;
    void *p = NULL;
    if (!mem_mul(&bytes, n, size) || bytes > r->max_mem - r->mem_used)
        return full(r, "bytes of values", r->max_mem);
    r->mem_used += bytes;
    p = arena_alloc(&r->mem, n, size);
    if (!p) return err_set(r->e, ERR_NOMEM, "template");
    memcpy(out, &p, sizeof p);
    return OK;
}

JVal jinja__none(void) { return (JVal){.kind = JV_NONE}; }
JVal jinja__bool(bool b) { return (JVal){.kind = JV_BOOL, .b = b}; }
JVal jinja__int(int64_t i) { return (JVal){.kind = JV_INT, .i = i}; }
JVal jinja__real(double d) { return (JVal){.kind = JV_REAL, .d = d}; }
JVal jinja__undef(Slice name) { return (JVal){.kind = JV_UNDEF, .s = name}; }
JVal jinja__slice(Slice s) { return (JVal){.kind = JV_STR, .s = s}; }
bool jinja__is_tuple(JVal v) {
    return v.kind == JV_LIST && (v.list->kind == JL_TUPLE || v.list->kind == JL_GROUP);
}

Status jinja__copy(JRun *r, JVal *out, Slice s) {
    char *p = NULL;
    TRY(jinja__alloc(r, &p, s.n + 1, 1));
    if (s.n) memcpy(p, s.p, s.n);
    *out = jinja__slice((Slice){p, s.n});
    return OK;
}

Status jinja__take(JRun *r, JVal *out, StrBuf *b) {
    Status st = sb_check(b, r->e);
    if (st == OK) st = jinja__copy(r, out, (Slice){sb_str(b), b->n});
    sb_deinit(b);
    return st;
}

/* ---- lists and dicts ---- */

Status jinja__list(JRun *r, JVal *out, JListKind kind, size_t cap) {
    JList *l = NULL;
    TRY(jinja__alloc(r, &l, 1, sizeof *l));
    l->kind = kind;
    l->cap = cap;
    if (cap) TRY(jinja__alloc(r, &l->v, cap, sizeof *l->v));
    *out = (JVal){.kind = JV_LIST, .list = l};
    return OK;
}

Status jinja__push(JRun *r, JList *l, JVal v) {
    TRY(jinja__step(r, 1));
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 4;
        JVal *more = NULL;
        TRY(jinja__alloc(r, &more, cap, sizeof *more));
        if (l->n) memcpy(more, l->v, l->n * sizeof *more);
        l->v = more;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return OK;
}

Status jinja__pair(JRun *r, JVal *out, JVal a, JVal b) {
    TRY(jinja__list(r, out, JL_TUPLE, 2));
    TRY(jinja__push(r, out->list, a));
    return jinja__push(r, out->list, b);
}

Status jinja__dict(JRun *r, JVal *out, JKind kind) {
    JDict *d = NULL;
    TRY(jinja__alloc(r, &d, 1, sizeof *d));
    *out = (JVal){.kind = kind, .dict = d};
    return OK;
}

static Status put_new(JRun *r, JDict *d, JVal key, JVal v) {
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 4;
        JVal *more = NULL;
        TRY(jinja__alloc(r, &more, 2 * cap, sizeof *more));
        if (d->n) {
            memcpy(more, d->key, d->n * sizeof *more);
            memcpy(more + cap, d->val, d->n * sizeof *more);
        }
        d->key = more;
        d->val = more + cap;
        d->cap = cap;
    }
    d->key[d->n] = key;
    d->val[d->n++] = v;
    return OK;
}

Status jinja__find(JRun *r, JVal **out, const JDict *d, JVal key) {
    *out = NULL;
    if (key.kind == JV_DICT || (key.kind == JV_LIST && key.list->kind == JL_LIST))
        return jinja__fail(r, "a %s cannot be a key", jinja__type(key));
    TRY(jinja__step(r, d->n / 8));
    if (key.kind == JV_STR && key.s.n > 256) TRY(jinja__step(r, key.s.n / 64 * d->n));
    if (key.kind == JV_STR) {
        *out = jinja__find_str(d, key.s);
        return OK;
    }
    for (size_t i = 0; i < d->n && !*out; i++) {
        bool same = false;
        TRY(jinja__equal(r, &same, d->key[i], key));
        if (same) *out = &d->val[i];
    }
    return OK;
}

JVal *jinja__find_str(const JDict *d, Slice key) {
    for (size_t i = 0; i < d->n; i++)
        if (d->key[i].kind == JV_STR && slice_eq(d->key[i].s, key)) return &d->val[i];
    return NULL;
}

Status jinja__put(JRun *r, JDict *d, JVal key, JVal v) {
    JVal *old;
    TRY(jinja__find(r, &old, d, key));
    if (!old) return put_new(r, d, key, v);
    *old = v;
    return OK;
}

static Status object_from(JRun *r, JVal *out, const Json *j) {
    Slice key = {0};
    const Json *m = NULL;
    TRY(jinja__dict(r, out, JV_DICT));
    for (void *it = json_next(j, NULL, &key, &m); it; it = json_next(j, it, &key, &m)) {
        JVal v;
        TRY(jinja__from_json(r, &v, m));
        TRY(put_new(r, out->dict, jinja__slice(key), v)); /* a parsed object has no key twice */
    }
    return OK;
}

static Status array_from(JRun *r, JVal *out, const Json *j) {
    size_t n = json_len(j);
    TRY(jinja__list(r, out, JL_LIST, n));
    for (size_t i = 0; i < n; i++) {
        JVal v;
        TRY(jinja__from_json(r, &v, json_at(j, i)));
        TRY(jinja__push(r, out->list, v));
    }
    return OK;
}

Status jinja__from_json(JRun *r, JVal *out, const Json *j) {
    TRY(jinja__step(r, 1));
    switch (json_kind(j)) {
    case JSON_KIND_NULL: *out = jinja__none(); return OK;
    case JSON_KIND_BOOL: *out = jinja__bool(json_bool(j)); return OK;
    case JSON_KIND_INT: *out = jinja__int(json_int(j)); return OK;
    case JSON_KIND_REAL: *out = jinja__real(json_num(j)); return OK;
    case JSON_KIND_STR: *out = jinja__slice(json_str(j)); return OK;
    case JSON_KIND_ARRAY: return array_from(r, out, j);
    case JSON_KIND_OBJECT: return object_from(r, out, j);
    }
    return OK;
}

/* ---- what Python thinks of them ---- */

bool jinja__truth(JVal v) {
    switch (v.kind) {
    case JV_UNDEF:
    case JV_NONE: return false;
    case JV_BOOL: return v.b;
    case JV_INT: return v.i != 0;
    case JV_REAL: return v.d != 0;
    case JV_STR: return v.s.n > 0;
    case JV_LIST: return v.list->kind == JL_LAZY || v.list->n > 0;
    case JV_DICT: return v.dict->n > 0;
    default: return true;
    }
}

bool jinja__is_num(JVal v) { return v.kind == JV_BOOL || v.kind == JV_INT || v.kind == JV_REAL; }
static int64_t whole(JVal v) { return v.kind == JV_BOOL ? v.b : v.i; }
double jinja__num(JVal v) { return v.kind == JV_REAL ? v.d : (double)whole(v); }
bool jinja__is_str(JVal v, const char *s) { return v.kind == JV_STR && slice_eq_str(v.s, s); }

const char *jinja__type(JVal v) {
    static const char *const names[] = {
        [JV_UNDEF] = "undefined", [JV_NONE] = "none",     [JV_BOOL] = "bool", [JV_INT] = "int",
        [JV_REAL] = "float",      [JV_STR] = "str",       [JV_LIST] = "list", [JV_DICT] = "dict",
        [JV_SPACE] = "namespace", [JV_FUNC] = "function", [JV_LOOP] = "loop"};
    static const char *const lists[] = {
        [JL_LIST] = "list",        [JL_TUPLE] = "tuple",    [JL_GROUP] = "tuple",
        [JL_RANGE] = "range",      [JL_KEYS] = "dict_keys", [JL_VALUES] = "dict_values",
        [JL_ITEMS] = "dict_items", [JL_LAZY] = "generator"};
    return v.kind == JV_LIST ? lists[v.list->kind] : names[v.kind];
}

static int compare_numbers(JVal a, JVal b) {
    if (a.kind != JV_REAL && b.kind != JV_REAL)
        return whole(a) < whole(b) ? -1 : whole(a) > whole(b);
    double x = jinja__num(a), y = jinja__num(b);
    return x < y ? -1 : x > y;
}

static Status equal(JRun *r, bool *out, JVal a, JVal b, int depth);

/* What may be equal: lists, tuples and ranges among themselves, keys and pairs of dicts as sets. */
static int family(JListKind k) {
    switch (k) {
    case JL_LIST: return 0;
    case JL_TUPLE:
    case JL_GROUP: return 1;
    case JL_RANGE: return 2;
    case JL_KEYS:
    case JL_ITEMS: return 3;
    default: return -1;
    }
}

static Status equal_sets(JRun *r, bool *out, const JList *a, const JList *b, int depth) {
    for (size_t i = 0; *out && i < a->n; i++) {
        bool found = false;
        for (size_t k = 0; !found && k < b->n; k++)
            TRY(equal(r, &found, a->v[i], b->v[k], depth + 1));
        *out = found;
    }
    return OK;
}

static Status equal_lists(JRun *r, bool *out, const JList *a, const JList *b, int depth) {
    int what = family(a->kind);
    *out = a == b || (a->n == b->n && what >= 0 && what == family(b->kind));
    if (a == b) return OK;
    if (what == 3) return equal_sets(r, out, a, b, depth);
    for (size_t i = 0; *out && i < a->n; i++) TRY(equal(r, out, a->v[i], b->v[i], depth + 1));
    return OK;
}

static Status equal_dicts(JRun *r, bool *out, const JDict *a, const JDict *b, int depth) {
    *out = a == b || a->n == b->n;
    if (a == b) return OK;
    for (size_t i = 0; *out && i < a->n; i++) {
        JVal *other;
        TRY(jinja__find(r, &other, b, a->key[i]));
        *out = other != NULL;
        if (other) TRY(equal(r, out, a->val[i], *other, depth + 1));
    }
    return OK;
}

static Status equal(JRun *r, bool *out, JVal a, JVal b, int depth) {
    TRY(jinja__step(r, 1));
    if (depth > JINJA_MAX_VALUE) return jinja__fail(r, "values nested too deep to compare");
    *out = false;
    if (jinja__is_num(a) && jinja__is_num(b)) {
        *out = compare_numbers(a, b) == 0 && !isnan(jinja__num(a)) && !isnan(jinja__num(b));
        return OK;
    }
    if (a.kind != b.kind) return OK;
    if (a.kind == JV_LIST) return equal_lists(r, out, a.list, b.list, depth);
    if (a.kind == JV_DICT) return equal_dicts(r, out, a.dict, b.dict, depth);
    if (a.kind == JV_STR) {
        TRY(jinja__step(r, a.s.n / 128));
        *out = slice_eq(a.s, b.s);
    } else {
        *out = a.kind == JV_UNDEF || a.kind == JV_NONE || a.func == b.func;
    }
    return OK;
}

Status jinja__equal(JRun *r, bool *out, JVal a, JVal b) { return equal(r, out, a, b, 0); }

/* Order of UTF-8 bytes is order of code points. */
static int order_text(Slice a, Slice b) {
    int c = memcmp(a.n ? a.p : "", b.n ? b.p : "", MIN(a.n, b.n));
    return c ? (c < 0 ? -1 : 1) : a.n < b.n ? -1 : a.n > b.n;
}

static Status order(JRun *r, int *out, JVal a, JVal b, const char *op, int depth) {
    TRY(jinja__step(r, 1));
    if (depth > JINJA_MAX_VALUE) return jinja__fail(r, "values nested too deep to compare");
    if (jinja__is_num(a) && jinja__is_num(b)) {
        *out = compare_numbers(a, b);
        return OK;
    }
    if (a.kind == JV_STR && b.kind == JV_STR) {
        *out = order_text(a.s, b.s);
        return jinja__step(r, MIN(a.s.n, b.s.n) / 128);
    }
    bool lists = a.kind == JV_LIST && b.kind == JV_LIST && family(a.list->kind) >= 0 &&
                 family(a.list->kind) < 2 && family(a.list->kind) == family(b.list->kind);
    if (!lists)
        return jinja__fail(r, "%s cannot be used between %s and %s", op, jinja__type(a),
                           jinja__type(b));
    *out = 0;
    for (size_t i = 0; i < MIN(a.list->n, b.list->n) && *out == 0; i++) {
        bool same;
        TRY(jinja__equal(r, &same, a.list->v[i], b.list->v[i]));
        if (!same) TRY(order(r, out, a.list->v[i], b.list->v[i], op, depth + 1));
    }
    if (*out == 0) *out = a.list->n < b.list->n ? -1 : a.list->n > b.list->n;
    return OK;
}

Status jinja__order(JRun *r, int *out, JVal a, JVal b, const char *op) {
    return order(r, out, a, b, op, 0);
}

Status jinja__in(JRun *r, bool *out, JVal item, JVal box) {
    JList *l = NULL;
    *out = false;
    if (box.kind == JV_STR) {
        if (item.kind != JV_STR)
            return jinja__fail(r, "in a str there can be a str only, not %s", jinja__type(item));
        *out = jinja__search(box.s, item.s, 0) != SIZE_MAX;
        return jinja__step(r, box.s.n / 64);
    }
    if (box.kind == JV_DICT) {
        JVal *v;
        TRY(jinja__find(r, &v, box.dict, item));
        *out = v != NULL;
        return OK;
    }
    TRY(jinja__iter(r, &l, box));
    size_t i = 0;
    for (; i < l->n && !*out; i++) TRY(jinja__equal(r, out, l->v[i], item));
    if (box.kind == JV_LIST && box.list->kind == JL_LAZY) box.list->n_taken -= l->n - i;
    return OK;
}

static Status iter_text(JRun *r, JVal *list, Slice s) {
    TRY(jinja__list(r, list, JL_LIST, 0));
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        int n = MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
        TRY(jinja__push(r, list->list, jinja__slice((Slice){s.p + i, (size_t)n})));
        i += (size_t)n;
    }
    return OK;
}

/* What a lazy list has left, which it has given then. */
static Status take_rest(JRun *r, JVal *out, JList *l) {
    TRY(jinja__list(r, out, JL_LIST, 0));
    out->list->n = l->n - l->n_taken;
    out->list->v = l->v ? l->v + l->n_taken : NULL;
    out->list->cap = out->list->n;
    l->n_taken = l->n;
    return OK;
}

Status jinja__iter(JRun *r, JList **out, JVal v) {
    JVal list = v;
    if (v.kind == JV_LIST && v.list->kind == JL_LAZY) {
        TRY(take_rest(r, &list, v.list));
        *out = list.list;
        return OK;
    }
    if (v.kind == JV_STR) TRY(iter_text(r, &list, v.s));
    else if (v.kind == JV_DICT || v.kind == JV_UNDEF) {
        TRY(jinja__list(r, &list, JL_LIST, 0));
        for (size_t i = 0; v.kind == JV_DICT && i < v.dict->n; i++)
            TRY(jinja__push(r, list.list, v.dict->key[i]));
    } else if (v.kind != JV_LIST) {
        return jinja__fail(r, "%s is not iterable", jinja__type(v));
    }
    *out = list.list;
    return jinja__step(r, list.list->n / 2);
}

Status jinja__len(JRun *r, int64_t *out, JVal v) {
    *out = 0;
    if (v.kind == JV_STR) {
        *out = (int64_t)jinja__n_cp(v.s);
        return jinja__step(r, v.s.n / 64);
    }
    if (v.kind == JV_LIST && v.list->kind != JL_LAZY) *out = (int64_t)v.list->n;
    else if (v.kind == JV_DICT) *out = (int64_t)v.dict->n;
    else if (v.kind != JV_UNDEF) return jinja__fail(r, "%s has no length", jinja__type(v));
    return OK;
}

/* ---- code points ---- */

size_t jinja__n_cp(Slice s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

size_t jinja__cp_at(Slice s, size_t i) {
    size_t at = 0;
    for (; at < s.n; at++) {
        if (((unsigned char)s.p[at] & 0xc0) == 0x80) continue;
        if (i-- == 0) break;
    }
    return at;
}

bool jinja__is_space(uint32_t cp) {
    if (cp < 0x80) return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x1f);
    return ucd_class(cp) & UCD_SPACE;
}

/* The code point that ends at s.n; its bytes, 0 if there is none. */
static size_t last_cp(uint32_t *cp, Slice s) {
    size_t n = 1;
    if (s.n == 0) return 0;
    while (n < 4 && n < s.n && ((unsigned char)s.p[s.n - n] & 0xc0) == 0x80) n++;
    return utf8_decode(cp, s.p + s.n - n, n) == (int)n ? n : 0;
}

static bool in_set(uint32_t cp, const Slice *set) {
    uint32_t k;
    if (!set) return jinja__is_space(cp);
    for (size_t i = 0; i < set->n;) {
        int n = utf8_decode(&k, set->p + i, set->n - i);
        if (n > 0 && k == cp) return true;
        i += (size_t)MAX(1, n);
    }
    return false;
}

static Slice strip(Slice s, const Slice *set, bool left, bool right) {
    uint32_t cp = 0;
    while (left && s.n) {
        int n = utf8_decode(&cp, s.p, s.n);
        if (n == 0 || !in_set(cp, set)) break;
        s.p += n;
        s.n -= (size_t)n;
    }
    while (right && s.n) {
        size_t n = last_cp(&cp, s);
        if (n == 0 || !in_set(cp, set)) break;
        s.n -= n;
    }
    return s;
}

Slice jinja__strip(Slice s, bool left, bool right) { return strip(s, NULL, left, right); }
Slice jinja__strip_set(Slice s, Slice set, bool left, bool right) {
    return strip(s, &set, left, right);
}

size_t jinja__search(Slice s, Slice needle, size_t from) {
    if (needle.n == 0 || from > s.n) return from <= s.n ? from : SIZE_MAX;
    const char *p = s.n ? memmem(s.p + from, s.n - from, needle.p, needle.n) : NULL;
    return p ? (size_t)(p - s.p) : SIZE_MAX;
}
