/* SPDX-License-Identifier: Apache-2.0
 *
 * x.y, x[y], x[a:b:c]. As in Jinja's sandbox an attribute is a method first and a member then, an item the other way
 * round, and what is not there is undefined.
 */
#include "text/jinja_internal.h"

static Status undefined(JRun *r, JVal v) {
    return jinja__fail(r, "'%.*s' is undefined", (int)MIN(v.s.n, 80), v.s.p);
}

static int64_t whole(JVal v) { return v.kind == JV_BOOL ? v.b : v.i; }

static Status loop_attr(JVal *out, const JLoop *l, Slice name) {
    const struct {
        const char *name;
        JVal v;
    } all[] = {{"index", jinja__int((int64_t)l->i + 1)},
               {"index0", jinja__int((int64_t)l->i)},
               {"revindex", jinja__int((int64_t)(l->list->n - l->i))},
               {"revindex0", jinja__int((int64_t)(l->list->n - l->i) - 1)},
               {"first", jinja__bool(l->i == 0)},
               {"last", jinja__bool(l->i + 1 == l->list->n)},
               {"length", jinja__int((int64_t)l->list->n)},
               {"depth", jinja__int(l->depth)},
               {"depth0", jinja__int(l->depth - 1)},
               {"previtem", l->i ? l->list->v[l->i - 1] : jinja__undef(name)},
               {"nextitem", l->i + 1 < l->list->n ? l->list->v[l->i + 1] : jinja__undef(name)}};
    *out = jinja__undef(name);
    for (size_t i = 0; i < COUNT_OF(all); i++)
        if (slice_eq_str(name, all[i].name)) *out = all[i].v;
    return OK;
}

static Status bind(JRun *r, JVal *out, JVal self, Slice name) {
    JFunc *f = NULL;
    TRY(jinja__alloc(r, &f, 1, sizeof *f));
    *f = (JFunc){.kind = JF_METHOD, .name = name, .self = self};
    *out = (JVal){.kind = JV_FUNC, .func = f};
    return OK;
}

/* Methods that would change a dict hide members of their name. */
static bool is_hidden(JVal v, Slice name) {
    static const char *const names[] = {"pop",    "popitem",    "clear",
                                        "update", "setdefault", "fromkeys"};
    if (v.kind != JV_DICT) return false;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (slice_eq_str(name, names[i])) return true;
    return name.n > 2 && name.p[0] == '_' && name.p[1] == '_';
}

/* grouper and list of a group; name, arguments and what it catches of a macro; current of a cycler. */
static Status odd_attr(JRun *r, JVal *out, JVal v, Slice name) {
    if (v.kind == JV_LIST && v.list->kind == JL_GROUP) {
        if (slice_eq_str(name, "grouper")) *out = v.list->v[0];
        if (slice_eq_str(name, "list")) *out = v.list->v[1];
    }
    if (v.kind != JV_FUNC) return OK;
    JFunc *f = v.func;
    bool cycler = f->kind == JF_CYCLER;
    if (cycler && slice_eq_str(name, "current")) *out = f->self.list->v[f->turn % f->self.list->n];
    if (f->kind != JF_MACRO && f->kind != JF_CALLER) return OK;
    if (slice_eq_str(name, "name"))
        *out = f->kind == JF_MACRO ? jinja__slice(f->name) : jinja__none();
    if (slice_eq_str(name, "catch_varargs")) *out = jinja__bool(f->node->i & JINJA_SEES_VARARGS);
    if (slice_eq_str(name, "catch_kwargs")) *out = jinja__bool(f->node->i & JINJA_SEES_KWARGS);
    if (slice_eq_str(name, "caller")) *out = jinja__bool(f->node->i & JINJA_SEES_CALLER);
    if (!slice_eq_str(name, "arguments")) return OK;
    TRY(jinja__list(r, out, JL_TUPLE, 0));
    for (const JNode *p = f->kind == JF_MACRO ? f->node->a : f->node->b; p; p = p->next)
        TRY(jinja__push(r, out->list, jinja__slice(p->s)));
    return OK;
}

Status jinja__attr(JRun *r, JVal *out, JVal v, Slice name) {
    if (v.kind == JV_UNDEF) return undefined(r, v);
    if (jinja__has_method(v, name)) return bind(r, out, v, name);
    if (v.kind == JV_LOOP) return loop_attr(out, v.loop, name);
    *out = jinja__undef(name);
    if (v.kind == JV_LIST || v.kind == JV_FUNC) return odd_attr(r, out, v, name);
    if ((v.kind != JV_DICT && v.kind != JV_SPACE) || is_hidden(v, name)) return OK;
    TRY(jinja__step(r, v.dict->n / 8));
    JVal *found = jinja__find_str(v.dict, name);
    if (found) *out = *found;
    return OK;
}

/* Element i of n, counted from the end where negative; false if there is none. */
static bool place(size_t *at, JVal key, size_t n) {
    int64_t i = whole(key);
    if (i < 0) i += (int64_t)n;
    *at = (size_t)i;
    return i >= 0 && (uint64_t)i < n;
}

static Status text_item(JRun *r, JVal *out, JVal v, JVal key) {
    Slice s = v.s;
    size_t at, n = jinja__n_cp(s);
    TRY(jinja__step(r, s.n / 64));
    if (!place(&at, key, n)) return OK;
    size_t from = jinja__cp_at(s, at), to = jinja__cp_at(s, at + 1);
    *out = jinja__slice((Slice){s.p + from, to - from});
    out->safe = v.safe;
    return OK;
}

Status jinja__item(JRun *r, JVal *out, JVal v, JVal key) {
    bool is_int = key.kind == JV_INT || key.kind == JV_BOOL;
    size_t at;
    if (v.kind == JV_UNDEF) return undefined(r, v);
    *out = jinja__undef(key.kind == JV_STR ? key.s : slice_of("element"));
    if (v.kind == JV_DICT && key.kind != JV_DICT && key.kind != JV_UNDEF) {
        JVal *found;
        if (key.kind == JV_LIST && key.list->kind == JL_LIST) return OK;
        TRY(jinja__find(r, &found, v.dict, key));
        if (found) *out = *found;
        if (found) return OK;
    }
    if (v.kind == JV_LIST && is_int && v.list->kind <= JL_RANGE) {
        if (place(&at, key, v.list->n)) *out = v.list->v[at];
        return OK;
    }
    if (v.kind == JV_STR && is_int) return text_item(r, out, v, key);
    if (key.kind != JV_STR || v.kind == JV_DICT) {
        if (key.kind == JV_STR && jinja__has_method(v, key.s)) return bind(r, out, v, key.s);
        return OK;
    }
    return jinja__attr(r, out, v, key.s);
}

/* Python's clamping of one bound of a slice. */
static int64_t clamp(int64_t i, int64_t n, bool down) {
    if (i < 0) i += n;
    if (i < 0) return down ? -1 : 0;
    return i >= n ? (down ? n - 1 : n) : i;
}

static Status bounds(JRun *r, int64_t out[3], const JVal b[3], int64_t n) {
    for (int i = 0; i < 3; i++)
        if (b[i].kind != JV_NONE && b[i].kind != JV_INT && b[i].kind != JV_BOOL)
            return jinja__fail(r, "a slice with %s", jinja__type(b[i]));
    out[2] = b[2].kind == JV_NONE ? 1 : whole(b[2]);
    if (out[2] == 0) return jinja__fail(r, "a slice with step 0");
    bool down = out[2] < 0;
    out[0] = b[0].kind == JV_NONE ? (down ? n - 1 : 0) : clamp(whole(b[0]), n, down);
    out[1] = b[1].kind == JV_NONE ? (down ? -1 : n) : clamp(whole(b[1]), n, down);
    /* no step goes further than that */
    if (out[2] > n) out[2] = n + 1;
    if (out[2] < -n) out[2] = -n - 1;
    return OK;
}

static bool inside(const int64_t b[3], int64_t i) { return b[2] > 0 ? i < b[1] : i > b[1]; }

static Status slice_text(JRun *r, JVal *out, Slice s, const JVal bound[3]) {
    int64_t b[3];
    StrBuf text = {0};
    TRY(jinja__step(r, s.n / 32));
    TRY(bounds(r, b, bound, (int64_t)jinja__n_cp(s)));
    if (b[2] == 1) {
        size_t from = jinja__cp_at(s, (size_t)b[0]);
        size_t to = b[1] <= b[0] ? from : jinja__cp_at(s, (size_t)b[1]);
        *out = jinja__slice((Slice){s.p + from, to - from});
        return OK;
    }
    JList *l;
    TRY(jinja__iter(r, &l, jinja__slice(s)));
    for (int64_t i = b[0]; inside(b, i); i += b[2]) sb_put(&text, l->v[i].s.p, l->v[i].s.n);
    return jinja__take(r, out, &text);
}

/* Start, stop and step of a part of a range, for printing; they wrap around where they leave 64 bits. */
static void slice_range(int64_t out[3], const int64_t of[3], const int64_t b[3]) {
    out[0] = (int64_t)((uint64_t)of[0] + (uint64_t)b[0] * (uint64_t)of[2]);
    out[1] = (int64_t)((uint64_t)of[0] + (uint64_t)b[1] * (uint64_t)of[2]);
    out[2] = (int64_t)((uint64_t)of[2] * (uint64_t)b[2]);
}

Status jinja__slice_of(JRun *r, JVal *out, JVal v, const JVal bound[3]) {
    int64_t b[3];
    if (v.kind == JV_STR) {
        TRY(slice_text(r, out, v.s, bound));
        out->safe = v.safe;
        return OK;
    }
    if (v.kind == JV_UNDEF) return undefined(r, v);
    if (v.kind != JV_LIST || v.list->kind > JL_RANGE) {
        *out = jinja__undef(slice_of("slice"));
        return OK;
    }
    TRY(bounds(r, b, bound, (int64_t)v.list->n));
    TRY(jinja__list(r, out, v.list->kind == JL_GROUP ? JL_TUPLE : v.list->kind, 0));
    for (int64_t i = b[0]; inside(b, i); i += b[2]) TRY(jinja__push(r, out->list, v.list->v[i]));
    if (v.list->kind == JL_RANGE) slice_range(out->list->range, v.list->range, b);
    return OK;
}
