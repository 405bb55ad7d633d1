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

/* x // y, or x % y: the remainder first, exact, and the quotient out of it. */
static double divide_floor(double x, double y, bool want_rest) {
    double rest = fmod(x, y), q = (x - rest) / y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
        rest += y;
        q -= 1;
    } else if (rest == 0) {
        rest = copysign(0, y);
    }
    if (want_rest) return rest;
    if (q == 0) return copysign(0, x / y);
    double whole = floor(q);
    return q - whole > 0.5 ? whole + 1 : whole;
}

static Status real_binary(JRun *r, JVal *out, char op, double x, double y) {
    double z = 0;
    if ((op == '/' || op == 'f' || op == '%') && y == 0) return jinja__fail(r, "division by zero");
    switch (op) {
    case '+': z = x + y; break;
    case '-': z = x - y; break;
    case '*': z = x * y; break;
    case '/': z = x / y; break;
    case 'p': z = pow(x, y); break;
    default: z = divide_floor(x, y, op == '%');
    }
    bool odd = op == 'p' && isfinite(x) && isfinite(y) && !isfinite(z);
    if (odd)
        return jinja__fail(r, isnan(z) ? "a power that is no real number" : "a power too large");
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

/* Text + text: where one is safe the other is escaped. */
static Status add_texts(JRun *r, JVal *out, JVal a, JVal b) {
    bool safe = a.safe || b.safe;
    if (safe) TRY(jinja__escape(r, &a, a));
    if (safe) TRY(jinja__escape(r, &b, b));
    TRY(concat(r, out, a.s, b.s));
    out->safe = safe;
    return OK;
}

static Status add_lists(JRun *r, JVal *out, const JList *a, const JList *b) {
    TRY(jinja__list(r, out, a->kind == JL_LIST ? JL_LIST : JL_TUPLE, a->n + b->n));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, out->list, a->v[i]));
    for (size_t i = 0; i < b->n; i++) TRY(jinja__push(r, out->list, b->v[i]));
    return OK;
}

static bool plain_list(JVal v) {
    return v.kind == JV_LIST && (v.list->kind == JL_LIST || jinja__is_tuple(v));
}

static JListKind plain_kind(JVal v) { return jinja__is_tuple(v) ? JL_TUPLE : JL_LIST; }

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
        out->safe = v.safe;
        return OK;
    }
    TRY(jinja__list(r, out, plain_kind(v), total));
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
    if (a.kind == JV_STR && op == '%') return jinja__percent(r, out, a, b);
    if (a.kind == JV_UNDEF) return undefined(r, a);
    if (b.kind == JV_UNDEF) return undefined(r, b);
    if (jinja__is_num(a) && jinja__is_num(b))
        return a.kind == JV_REAL || b.kind == JV_REAL
                   ? real_binary(r, out, op, jinja__num(a), jinja__num(b))
                   : int_binary(r, out, op, whole(a), whole(b));
    if (op == '+' && a.kind == JV_STR && b.kind == JV_STR) return add_texts(r, out, a, b);
    if (op == '+' && plain_list(a) && plain_list(b) && plain_kind(a) == plain_kind(b))
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

/* ---- the rest ---- */

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

/* Room for so many more arguments of each kind. */
static Status grow_args(JRun *r, JArgs *a, size_t n, size_t n_kw) {
    JArgs b = *a;
    TRY(jinja__alloc(r, &b.v, a->n + n + 1, sizeof *b.v));
    TRY(jinja__alloc(r, &b.kw, a->n_kw + n_kw + 1, sizeof *b.kw));
    TRY(jinja__alloc(r, &b.name, a->n_kw + n_kw + 1, sizeof *b.name));
    if (a->n) memcpy(b.v, a->v, a->n * sizeof *b.v);
    if (a->n_kw) memcpy(b.kw, a->kw, a->n_kw * sizeof *b.kw);
    if (a->n_kw) memcpy(b.name, a->name, a->n_kw * sizeof *b.name);
    *a = b;
    return OK;
}

static Status put_named(JRun *r, JArgs *a, Slice name, JVal v) {
    for (size_t i = 0; i < a->n_kw; i++)
        if (slice_eq(a->name[i], name))
            return jinja__fail(r, "the argument %.*s twice", (int)MIN(name.n, 40), name.p);
    TRY(jinja__step(r, 1 + a->n_kw / 8));
    a->name[a->n_kw] = name;
    a->kw[a->n_kw++] = v;
    return OK;
}

static Status spread(JRun *r, JArgs *a, const JNode *n) {
    JVal v;
    JList *l;
    TRY(jinja__eval(r, &v, n->a));
    r->at = n;
    if (n->op == '*') {
        TRY(jinja__iter(r, &l, v));
        TRY(grow_args(r, a, l->n, 0));
        for (size_t i = 0; i < l->n; i++) a->v[a->n++] = l->v[i];
        return jinja__step(r, l->n);
    }
    if (v.kind != JV_DICT) return jinja__fail(r, "** wants a dict, not %s", jinja__type(v));
    TRY(grow_args(r, a, 0, v.dict->n));
    for (size_t i = 0; i < v.dict->n; i++) {
        if (v.dict->key[i].kind != JV_STR) return jinja__fail(r, "** wants names as keys");
        TRY(put_named(r, a, v.dict->key[i].s, v.dict->val[i]));
    }
    return OK;
}

Status jinja__args(JRun *r, JArgs *out, const JNode *list) {
    size_t n = 0;
    *out = (JArgs){0};
    for (const JNode *k = list; k; k = k->next) n++;
    if (n == 0) return OK;
    TRY(grow_args(r, out, n, n));
    for (const JNode *k = list; k; k = k->next) {
        JVal v;
        if (k->kind == JN_SPREAD) {
            size_t left = 0;
            for (const JNode *m = k->next; m; m = m->next) left++;
            TRY(spread(r, out, k));
            TRY(grow_args(r, out, 0, left));
            continue;
        }
        TRY(jinja__eval(r, &v, k->kind == JN_KWARG ? k->a : k));
        if (k->kind == JN_KWARG) TRY(put_named(r, out, k->s, v));
        else out->v[out->n++] = v;
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
