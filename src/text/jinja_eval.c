/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions evaluated. After a failure the render is over, so counters are not taken back on the way out.
 */
#include <math.h>

#include "text/jinja_internal.h"

static Status undefined(JRun *r, JVal v) {
    return jinja__fail(r, "'%.*s' is undefined", (int)MIN(v.s.n, 80), v.s.p);
}

/* ---- arithmetic ---- */

static Status overflow(JRun *r) { return jinja__fail(r, "an integer over 64 bits"); }

static Status int_power(JRun *r, JVal *out, int64_t x, int64_t n) {
    int64_t y = 1;
    if (n < 0) {
        if (x == 0) return jinja__fail(r, "0 to a negative power");
        *out = jinja__real(pow((double)x, (double)n));
        return OK;
    }
    for (; n > 0; n >>= 1) {
        if ((n & 1) && __builtin_mul_overflow(y, x, &y)) return overflow(r);
        if (n > 1 && __builtin_mul_overflow(x, x, &x)) return overflow(r);
    }
    *out = jinja__int(y);
    return OK;
}

/* Towards minus infinity, the remainder with the sign of the divisor. */
static Status int_divide(JRun *r, JVal *out, char op, int64_t x, int64_t y) {
    if (y == 0) return jinja__fail(r, "division by zero");
    if (op == '/') {
        *out = jinja__real((double)x / (double)y);
        return OK;
    }
    if (y == -1) {
        int64_t neg;
        if (__builtin_sub_overflow((int64_t)0, x, &neg)) return overflow(r);
        *out = jinja__int(op == '%' ? 0 : neg);
        return OK;
    }
    int64_t q = x / y, m = x % y;
    if (m != 0 && (m < 0) != (y < 0)) {
        q--;
        m += y;
    }
    *out = jinja__int(op == '%' ? m : q);
    return OK;
}

static Status int_binary(JRun *r, JVal *out, char op, int64_t x, int64_t y) {
    int64_t z = 0;
    bool over = false;
    if (op == '/' || op == 'f' || op == '%') return int_divide(r, out, op, x, y);
    if (op == 'p') return int_power(r, out, x, y);
    if (op == '+') over = __builtin_add_overflow(x, y, &z);
    else if (op == '-') over = __builtin_sub_overflow(x, y, &z);
    else over = __builtin_mul_overflow(x, y, &z);
    *out = jinja__int(z);
    return over ? overflow(r) : OK;
}

static Status real_binary(JRun *r, JVal *out, char op, double x, double y) {
    double z = 0;
    if ((op == '/' || op == 'f' || op == '%') && y == 0) return jinja__fail(r, "division by zero");
    switch (op) {
    case '+': z = x + y; break;
    case '-': z = x - y; break;
    case '*': z = x * y; break;
    case '/': z = x / y; break;
    case 'f': z = floor(x / y); break;
    case 'p': z = pow(x, y); break;
    default:
        z = fmod(x, y);
        if (z != 0 && (z < 0) != (y < 0)) z += y;
        else if (z == 0) z = copysign(0, y);
    }
    *out = jinja__real(z);
    return OK;
}

static Status concat(JRun *r, JVal *out, Slice a, Slice b) {
    char *p = NULL;
    TRY(jinja__alloc(r, &p, a.n + b.n + 1, 1));
    if (a.n) memcpy(p, a.p, a.n);
    if (b.n) memcpy(p + a.n, b.p, b.n);
    *out = jinja__slice((Slice){p, a.n + b.n});
    return jinja__step(r, (a.n + b.n) / 128);
}

static Status add_lists(JRun *r, JVal *out, const JList *a, const JList *b) {
    TRY(jinja__list(r, out, a->kind, a->n + b->n));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, out->list, a->v[i]));
    for (size_t i = 0; i < b->n; i++) TRY(jinja__push(r, out->list, b->v[i]));
    return OK;
}

static bool plain_list(JVal v) {
    return v.kind == JV_LIST && (v.list->kind == JL_LIST || v.list->kind == JL_TUPLE);
}

static Status repeat(JRun *r, JVal *out, JVal v, int64_t n) {
    size_t len = v.kind == JV_STR ? v.s.n : v.list->n, total;
    if (n < 0) n = 0;
    if (!mem_mul(&total, len, (size_t)n) || total > r->max_mem)
        return err_set(r->e, ERR_FULL, "line %u, column %u: a value repeated %lld times",
                       r->at->line, r->at->col, (long long)n);
    if (len == 0) n = 0;
    TRY(jinja__step(r, total / 64));
    if (v.kind == JV_STR) {
        char *p = NULL;
        TRY(jinja__alloc(r, &p, total + 1, 1));
        for (int64_t i = 0; i < n; i++) memcpy(p + (size_t)i * len, v.s.p, len);
        *out = jinja__slice((Slice){p, total});
        return OK;
    }
    TRY(jinja__list(r, out, v.list->kind, total));
    for (int64_t i = 0; i < n; i++)
        for (size_t k = 0; k < len; k++) TRY(jinja__push(r, out->list, v.list->v[k]));
    return OK;
}

static bool repeats(JVal v, JVal n) {
    return (v.kind == JV_STR || plain_list(v)) && (n.kind == JV_INT || n.kind == JV_BOOL);
}

static int64_t whole(JVal v) { return v.kind == JV_BOOL ? v.b : v.i; }

Status jinja__binary(JRun *r, JVal *out, char op, JVal a, JVal b) {
    if (op == '~') {
        Slice x, y;
        TRY(jinja__text(r, &x, a));
        TRY(jinja__text(r, &y, b));
        return concat(r, out, x, y);
    }
    if (a.kind == JV_STR && op == '%') return jinja__percent(r, out, a.s, b);
    if (a.kind == JV_UNDEF) return undefined(r, a);
    if (b.kind == JV_UNDEF) return undefined(r, b);
    if (jinja__is_num(a) && jinja__is_num(b))
        return a.kind == JV_REAL || b.kind == JV_REAL
                   ? real_binary(r, out, op, jinja__num(a), jinja__num(b))
                   : int_binary(r, out, op, whole(a), whole(b));
    if (op == '+' && a.kind == JV_STR && b.kind == JV_STR) return concat(r, out, a.s, b.s);
    if (op == '+' && plain_list(a) && plain_list(b) && a.list->kind == b.list->kind)
        return add_lists(r, out, a.list, b.list);
    if (op == '*' && repeats(a, b)) return repeat(r, out, a, whole(b));
    if (op == '*' && repeats(b, a)) return repeat(r, out, b, whole(a));
    const char *name = op == 'f' ? "//" : op == 'p' ? "**" : (const char[]){op, 0};
    return jinja__fail(r, "%s cannot be used between %s and %s", name, jinja__type(a),
                       jinja__type(b));
}

static Status eval_sign(JRun *r, JVal *out, const JNode *n) {
    JVal v;
    TRY(jinja__eval(r, &v, n->a));
    r->at = n;
    if (v.kind == JV_UNDEF) return undefined(r, v);
    if (!jinja__is_num(v)) return jinja__fail(r, "a sign before %s", jinja__type(v));
    if (v.kind == JV_REAL) *out = jinja__real(n->kind == JN_NEG ? -v.d : v.d);
    else return int_binary(r, out, n->kind == JN_NEG ? '-' : '+', 0, whole(v));
    return OK;
}

/* ---- attributes, items, slices ---- */

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

Status jinja__attr(JRun *r, JVal *out, JVal v, Slice name) {
    if (v.kind == JV_UNDEF) return undefined(r, v);
    if (jinja__has_method(v, name)) return bind(r, out, v, name);
    if (v.kind == JV_LOOP) return loop_attr(out, v.loop, name);
    *out = jinja__undef(name);
    if (v.kind != JV_DICT && v.kind != JV_SPACE) return OK;
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

static Status text_item(JRun *r, JVal *out, Slice s, JVal key) {
    size_t at, n = jinja__n_cp(s);
    TRY(jinja__step(r, s.n / 64));
    if (!place(&at, key, n)) return OK;
    size_t from = jinja__cp_at(s, at), to = jinja__cp_at(s, at + 1);
    *out = jinja__slice((Slice){s.p + from, to - from});
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
    if (v.kind == JV_STR && is_int) return text_item(r, out, v.s, key);
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

Status jinja__slice_of(JRun *r, JVal *out, JVal v, const JVal bound[3]) {
    int64_t b[3];
    if (v.kind == JV_STR) return slice_text(r, out, v.s, bound);
    if (v.kind == JV_UNDEF) return undefined(r, v);
    if (v.kind != JV_LIST || v.list->kind > JL_RANGE) {
        *out = jinja__undef(slice_of("slice"));
        return OK;
    }
    TRY(bounds(r, b, bound, (int64_t)v.list->n));
    TRY(jinja__list(r, out, v.list->kind, 0));
    for (int64_t i = b[0]; inside(b, i); i += b[2]) TRY(jinja__push(r, out->list, v.list->v[i]));
    return OK;
}

static Status eval_item(JRun *r, JVal *out, const JNode *n) {
    JVal v, key, bound[3] = {jinja__none(), jinja__none(), jinja__none()};
    TRY(jinja__eval(r, &v, n->a));
    if (n->b->kind != JN_SLICE) {
        TRY(jinja__eval(r, &key, n->b));
        r->at = n;
        return jinja__item(r, out, v, key);
    }
    const JNode *part[3] = {n->b->a, n->b->b, n->b->c};
    for (int i = 0; i < 3; i++)
        if (part[i]) TRY(jinja__eval(r, &bound[i], part[i]));
    r->at = n;
    return jinja__slice_of(r, out, v, bound);
}

/* ---- the rest ---- */

static Status eval_name(JRun *r, JVal *out, const JNode *n) {
    size_t looked = 0;
    for (const JScope *s = r->scope; s; s = s->up)
        for (const JVar *v = s->vars; v; v = v->next, looked++) {
            if (!slice_eq(v->name, n->s)) continue;
            *out = v->v;
            return jinja__step(r, looked / 16);
        }
    *out = jinja__undef(n->s);
    if (!jinja__is_global(n->s)) return jinja__step(r, looked / 16);
    JFunc *f = NULL;
    TRY(jinja__alloc(r, &f, 1, sizeof *f));
    *f = (JFunc){.kind = JF_GLOBAL, .name = n->s};
    *out = (JVal){.kind = JV_FUNC, .func = f};
    return OK;
}

static Status eval_list(JRun *r, JVal *out, const JNode *n) {
    TRY(jinja__list(r, out, n->kind == JN_TUPLE ? JL_TUPLE : JL_LIST, 0));
    JList *l = out->list;
    for (const JNode *k = n->a; k; k = k->next) {
        JVal v;
        TRY(jinja__eval(r, &v, k));
        TRY(jinja__push(r, l, v));
    }
    return OK;
}

static Status eval_dict(JRun *r, JVal *out, const JNode *n) {
    JVal key, v, d;
    TRY(jinja__dict(r, &d, JV_DICT));
    for (const JNode *k = n->a; k; k = k->next->next) {
        TRY(jinja__eval(r, &key, k));
        TRY(jinja__eval(r, &v, k->next));
        r->at = n;
        TRY(jinja__put(r, d.dict, key, v));
    }
    *out = d;
    return OK;
}

Status jinja__args(JRun *r, JArgs *out, const JNode *list) {
    size_t n = 0;
    *out = (JArgs){0};
    for (const JNode *k = list; k; k = k->next) n++;
    if (n == 0) return OK;
    TRY(jinja__alloc(r, &out->v, 2 * n, sizeof *out->v));
    TRY(jinja__alloc(r, &out->name, n, sizeof *out->name));
    out->kw = out->v + n;
    for (const JNode *k = list; k; k = k->next) {
        bool named = k->kind == JN_KWARG;
        TRY(jinja__eval(r, named ? &out->kw[out->n_kw] : &out->v[out->n], named ? k->a : k));
        if (named) out->name[out->n_kw++] = k->s;
        else out->n++;
    }
    return OK;
}

static Status eval_call(JRun *r, JVal *out, const JNode *n) {
    JVal f;
    JArgs a;
    TRY(jinja__eval(r, &f, n->a));
    TRY(jinja__args(r, &a, n->b));
    r->at = n;
    return jinja__call(r, out, f, &a);
}

static Status eval_filter(JRun *r, JVal *out, const JNode *n) {
    JVal in = r->piped;
    JArgs a;
    if (n->a) TRY(jinja__eval(r, &in, n->a));
    TRY(jinja__args(r, &a, n->b));
    r->at = n;
    return jinja__filter(r, out, n->s, in, &a);
}

static Status eval_test(JRun *r, JVal *out, const JNode *n) {
    JVal in;
    JArgs a;
    bool yes = false;
    TRY(jinja__eval(r, &in, n->a));
    TRY(jinja__args(r, &a, n->b));
    r->at = n;
    TRY(jinja__test(r, &yes, n->s, in, &a));
    *out = jinja__bool(n->op ? !yes : yes);
    return OK;
}

static Status compare(JRun *r, bool *out, char op, JVal a, JVal b) {
    int c = 0;
    if (op == '=' || op == '!') TRY(jinja__equal(r, out, a, b));
    if (op == 'i' || op == 'n') TRY(jinja__in(r, out, a, b));
    if (op == '!' || op == 'n') *out = !*out;
    if (!strchr("<>lg", op)) return OK;
    if (a.kind == JV_UNDEF) return undefined(r, a);
    if (b.kind == JV_UNDEF) return undefined(r, b);
    TRY(jinja__order(r, &c, a, b, op == '<' ? "<" : op == '>' ? ">" : op == 'l' ? "<=" : ">="));
    bool nan = (a.kind == JV_REAL && isnan(a.d)) || (b.kind == JV_REAL && isnan(b.d));
    *out = !nan && (op == '<' ? c < 0 : op == '>' ? c > 0 : op == 'l' ? c <= 0 : c >= 0);
    return OK;
}

static Status eval_compare(JRun *r, JVal *out, const JNode *n) {
    JVal left, right;
    bool yes = true;
    TRY(jinja__eval(r, &left, n->a));
    for (const JNode *c = n->b; c && yes; c = c->next) {
        TRY(jinja__eval(r, &right, c->a));
        r->at = c;
        TRY(compare(r, &yes, c->op, left, right));
        left = right;
    }
    *out = jinja__bool(yes);
    return OK;
}

static Status eval_binary(JRun *r, JVal *out, const JNode *n) {
    JVal a, b;
    TRY(jinja__eval(r, &a, n->a));
    TRY(jinja__eval(r, &b, n->b));
    r->at = n;
    return jinja__binary(r, out, n->op, a, b);
}

static Status eval_logic(JRun *r, JVal *out, const JNode *n) {
    TRY(jinja__eval(r, out, n->a));
    if (n->kind == JN_NOT) *out = jinja__bool(!jinja__truth(*out));
    else if (jinja__truth(*out) == (n->kind == JN_AND)) return jinja__eval(r, out, n->b);
    return OK;
}

static Status eval_cond(JRun *r, JVal *out, const JNode *n) {
    JVal cond;
    TRY(jinja__eval(r, &cond, n->a));
    if (jinja__truth(cond)) return jinja__eval(r, out, n->b);
    *out = jinja__undef(slice_of("the inline if without else"));
    return n->c ? jinja__eval(r, out, n->c) : OK;
}

static Status eval_attr(JRun *r, JVal *out, const JNode *n) {
    JVal v;
    TRY(jinja__eval(r, &v, n->a));
    r->at = n;
    return jinja__attr(r, out, v, n->s);
}

static Status eval(JRun *r, JVal *out, const JNode *n) {
    switch (n->kind) {
    case JN_STR: *out = jinja__slice(n->s); return OK;
    case JN_INT: *out = jinja__int(n->i); return OK;
    case JN_REAL: *out = jinja__real(n->real); return OK;
    case JN_BOOL: *out = jinja__bool(n->i != 0); return OK;
    case JN_NONE: *out = jinja__none(); return OK;
    case JN_NAME: return eval_name(r, out, n);
    case JN_LIST:
    case JN_TUPLE: return eval_list(r, out, n);
    case JN_DICT: return eval_dict(r, out, n);
    case JN_ATTR: return eval_attr(r, out, n);
    case JN_ITEM: return eval_item(r, out, n);
    case JN_CALL: return eval_call(r, out, n);
    case JN_FILTER: return eval_filter(r, out, n);
    case JN_TEST: return eval_test(r, out, n);
    case JN_NEG:
    case JN_POS: return eval_sign(r, out, n);
    case JN_NOT:
    case JN_AND:
    case JN_OR: return eval_logic(r, out, n);
    case JN_BIN: return eval_binary(r, out, n);
    case JN_COMPARE: return eval_compare(r, out, n);
    case JN_COND: return eval_cond(r, out, n);
    default: return jinja__fail(r, "a slice or a statement where a value is wanted");
    }
}

Status jinja__eval(JRun *r, JVal *out, const JNode *n) {
    JVal v = {0}; /* out may be an operand of n's */
    r->at = n;
    TRY(jinja__step(r, 1));
    if (++r->depth > JINJA_MAX_DEPTH)
        return jinja__fail(r, "evaluation nested deeper than %d", (int)JINJA_MAX_DEPTH);
    TRY(eval(r, &v, n));
    r->depth--;
    *out = v;
    return OK;
}
