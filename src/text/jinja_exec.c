/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements executed: text goes to r->out, names live in scopes. A loop's pass, a macro, a with and a caller's body
 * have scopes of their own; if has none. Macros are in jinja_macro.c.
 */
#include <time.h>

#include "text/jinja_internal.h"

Status jinja__write(JRun *r, Slice s) {
    if (s.n > r->max_out - r->n_out)
        return err_set(r->e, ERR_FULL,
                       "line %u, column %u: the template writes more than %zu bytes",
                       r->at ? r->at->line : 1, r->at ? r->at->col : 1, r->max_out);
    r->n_out += s.n;
    sb_put(r->out, s.p, s.n);
    TRY(sb_check(r->out, r->e));
    return jinja__step(r, s.n / 128);
}

Status jinja__set(JRun *r, JScope *s, Slice name, JVal v) {
    JVar *var = s->vars;
    while (var && !slice_eq(var->name, name)) var = var->next;
    if (!var) {
        TRY(jinja__alloc(r, &var, 1, sizeof *var));
        var->name = name;
        var->next = s->vars;
        s->vars = var;
    }
    var->v = v;
    return OK;
}

Status jinja__push_scope(JRun *r, JScope *up) {
    JScope *s = NULL;
    TRY(jinja__alloc(r, &s, 1, sizeof *s));
    s->up = up;
    r->scope = s;
    return OK;
}

static Status in_scope(JRun *r, const JNode *body) {
    JScope *up = r->scope;
    TRY(jinja__push_scope(r, up));
    TRY(jinja__exec(r, body));
    r->scope = up;
    return OK;
}

Status jinja__capture(JRun *r, JVal *out, const JNode *body) {
    StrBuf b = {0}, *outer = r->out;
    r->out = &b;
    Status st = jinja__exec(r, body);
    r->out = outer;
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}

/* ---- assignment ---- */

static Status assign_attr(JRun *r, const JNode *target, JVal v) {
    JVal space;
    TRY(jinja__eval(r, &space, target->a));
    r->at = target;
    if (space.kind != JV_SPACE)
        return jinja__fail(r, "cannot assign to an attribute of %s, only of a namespace",
                           jinja__type(space));
    return jinja__put(r, space.dict, jinja__slice(target->s), v);
}

static Status assign(JRun *r, const JNode *target, JVal v) {
    JList *l;
    size_t i = 0;
    if (target->kind == JN_NAME) return jinja__set(r, r->scope, target->s, v);
    if (target->kind == JN_ATTR) return assign_attr(r, target, v);
    if (target->kind != JN_TUPLE) return jinja__fail(r, "cannot assign to this");
    TRY(jinja__iter(r, &l, v));
    for (const JNode *t = target->a; t; t = t->next) {
        if (i == l->n) return jinja__fail(r, "too few values to unpack: %zu", l->n);
        TRY(assign(r, t, l->v[i++]));
    }
    return i == l->n ? OK : jinja__fail(r, "too many values to unpack: %zu", l->n);
}

static Status exec_set(JRun *r, const JNode *n) {
    JVal v;
    TRY(jinja__eval(r, &v, n->b));
    return assign(r, n->a, v);
}

/* `filters` over a text. */
static Status pipe(JRun *r, JVal *v, const JNode *filters) {
    JVal outer = r->piped;
    r->piped = *v;
    TRY(jinja__eval(r, v, filters));
    r->piped = outer;
    return OK;
}

static Status exec_setblock(JRun *r, const JNode *n) {
    JVal v;
    JScope *up = r->scope;
    TRY(jinja__push_scope(r, up));
    TRY(jinja__capture(r, &v, n->c));
    r->scope = up;
    if (n->b) TRY(pipe(r, &v, n->b));
    return assign(r, n->a, v);
}

static Status exec_filtered(JRun *r, const JNode *n) {
    JVal v;
    JScope *up = r->scope;
    TRY(jinja__push_scope(r, up));
    TRY(jinja__capture(r, &v, n->c));
    r->scope = up;
    TRY(pipe(r, &v, n->b));
    if (v.kind != JV_STR) return jinja__fail(r, "a filter block gives %s", jinja__type(v));
    return jinja__write(r, v.s);
}

/* Values are computed outside, names set inside. */
static Status exec_with(JRun *r, const JNode *n) {
    JScope *up = r->scope, *own;
    TRY(jinja__push_scope(r, up));
    own = r->scope;
    for (const JNode *t = n->a; t; t = t->next->next) {
        JVal v;
        r->scope = up;
        TRY(jinja__eval(r, &v, t->next));
        r->scope = own;
        TRY(assign(r, t, v));
    }
    TRY(jinja__exec(r, n->c));
    r->scope = up;
    return OK;
}

/* ---- loops ---- */

static Status pick(JRun *r, JVal *out, const JNode *n, const JList *l) {
    JScope *up = r->scope;
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (size_t i = 0; i < l->n; i++) {
        JVal yes;
        TRY(jinja__push_scope(r, up));
        TRY(assign(r, n->a, l->v[i]));
        TRY(jinja__eval(r, &yes, n->f));
        if (jinja__truth(yes)) TRY(jinja__push(r, out->list, l->v[i]));
    }
    r->scope = up;
    return OK;
}

static Status run_passes(JRun *r, const JNode *n, JLoop *loop, JScope *up) {
    JVal self = {.kind = JV_LOOP, .loop = loop};
    for (; loop->i < loop->list->n; loop->i++) {
        TRY(jinja__push_scope(r, up));
        TRY(jinja__set(r, r->scope, slice_of("loop"), self));
        TRY(assign(r, n->a, loop->list->v[loop->i]));
        TRY(jinja__exec(r, n->c));
        JFlow flow = r->flow;
        r->flow = JINJA_FLOW_ON;
        if (flow == JINJA_FLOW_BREAK) break;
    }
    return OK;
}

Status jinja__loop(JRun *r, const JNode *n, JVal over, int depth) {
    JScope *up = r->scope;
    JList *l,
        *lazy = !n->f && over.kind == JV_LIST && over.list->kind == JL_LAZY ? over.list : NULL;
    JLoop *loop = NULL;
    r->at = n;
    TRY(jinja__iter(r, &l, over));
    if (n->f) {
        JVal picked;
        TRY(pick(r, &picked, n, l));
        l = picked.list;
    }
    if (l->n == 0) return in_scope(r, n->d);
    TRY(jinja__alloc(r, &loop, 1, sizeof *loop));
    *loop = (JLoop){.list = l, .depth = depth, .node = n, .scope = up};
    TRY(run_passes(r, n, loop, up));
    if (lazy && loop->i < l->n) lazy->n_taken -= l->n - loop->i - 1; /* a break left some */
    r->scope = up;
    return OK;
}

Status jinja__loop_call(JRun *r, JVal *out, const JLoop *l, const JArgs *a) {
    StrBuf b = {0}, *outer = r->out;
    JScope *scope = r->scope;
    if (!l->node->op) return jinja__fail(r, "loop() in a loop that is not recursive");
    if (a->n != 1) return jinja__fail(r, "loop() wants one list");
    r->out = &b;
    r->scope = l->scope;
    Status st = jinja__loop(r, l->node, a->v[0], l->depth + 1);
    r->out = outer;
    r->scope = scope;
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}

/* A recursive loop is captured like a macro: the output stands still meanwhile. */
static Status exec_for(JRun *r, const JNode *n) {
    StrBuf b = {0}, *outer = r->out;
    JVal over, text;
    TRY(jinja__eval(r, &over, n->b));
    if (!n->op) return jinja__loop(r, n, over, 1);
    r->out = &b;
    Status st = jinja__loop(r, n, over, 1);
    r->out = outer;
    if (st != OK) sb_deinit(&b);
    TRY(st);
    TRY(jinja__take(r, &text, &b));
    return jinja__write(r, text.s);
}

/* ---- the rest ---- */

/* Code points of what the template has written for good. */
static size_t n_written(JRun *r) {
    const StrBuf *o = r->main_out;
    if (o->n > r->main_seen)
        r->main_cp += jinja__n_cp((Slice){o->p + r->main_seen, o->n - r->main_seen});
    r->main_seen = o->n;
    return r->main_cp;
}

static Status add_span(JRun *r, Slice text) {
    JinjaSpans *s = r->spans;
    if (!s) return OK;
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        JinjaSpan *v = mem_realloc_n(s->v, cap, sizeof *v);
        if (!v) return err_set(r->e, ERR_NOMEM, "template");
        s->v = v;
        s->cap = cap;
    }
    size_t from = n_written(r);
    s->v[s->n++] = (JinjaSpan){from, from + jinja__n_cp(text)};
    return jinja__step(r, text.n / 64);
}

/* A macro of its own, called where it stands. */
static Status exec_spanned(JRun *r, const JNode *n) {
    JVal v;
    JScope *up = r->scope;
    TRY(jinja__push_scope(r, up));
    TRY(jinja__capture(r, &v, n->c));
    r->scope = up;
    TRY(add_span(r, v.s));
    return jinja__write(r, v.s);
}

static Status exec_print(JRun *r, const JNode *n) {
    JVal v;
    Slice s;
    TRY(jinja__eval(r, &v, n->a));
    TRY(jinja__text(r, &s, v));
    return jinja__write(r, s);
}

/* Down the chain of elif, which are alone in their lists. */
static Status exec_if(JRun *r, const JNode *n) {
    while (n && n->kind == JN_IF) {
        JVal cond;
        TRY(jinja__eval(r, &cond, n->a));
        if (jinja__truth(cond)) return jinja__exec(r, n->b);
        if (!n->c || n->c->kind != JN_IF || n->c->next) return jinja__exec(r, n->c);
        n = n->c;
    }
    return OK;
}

static Status exec_one(JRun *r, const JNode *n) {
    r->at = n;
    TRY(jinja__step(r, 1));
    switch (n->kind) {
    case JN_TEXT: return jinja__write(r, n->s);
    case JN_PRINT: return exec_print(r, n);
    case JN_IF: return exec_if(r, n);
    case JN_FOR: return exec_for(r, n);
    case JN_SET: return exec_set(r, n);
    case JN_SETBLOCK: return exec_setblock(r, n);
    case JN_MACRO: return jinja__exec_macro(r, n);
    case JN_CALLER: return jinja__exec_caller(r, n);
    case JN_FILTERED: return exec_filtered(r, n);
    case JN_WITH: return exec_with(r, n);
    case JN_SPANNED: return exec_spanned(r, n);
    case JN_BREAK: r->flow = JINJA_FLOW_BREAK; return OK;
    case JN_CONTINUE: r->flow = JINJA_FLOW_CONTINUE; return OK;
    default: return jinja__fail(r, "a value where a statement is wanted");
    }
}

Status jinja__exec(JRun *r, const JNode *list) {
    if (++r->depth > JINJA_MAX_DEPTH)
        return jinja__fail(r, "evaluation nested deeper than %d", (int)JINJA_MAX_DEPTH);
    for (const JNode *n = list; n && r->flow == JINJA_FLOW_ON; n = n->next) TRY(exec_one(r, n));
    r->depth--;
    return OK;
}

/* ---- a render ---- */

Status jinja_parse(Jinja **out, Slice source, Err *e) {
    enum { CHUNK = 16 << 10 };
    JToks toks = {0};
    Jinja *t = mem_new(Jinja);
    if (!t) return err_set(e, ERR_NOMEM, "template");
    arena_init(&t->mem, CHUNK);
    Status st = jinja__lex(&toks, &t->mem, source, e);
    if (st == OK) st = jinja__parse_body(&t->body, &toks, &t->mem, e);
    if (st == OK) {
        *out = t;
        return OK;
    }
    jinja_free(t);
    return st;
}

void jinja_free(Jinja *t) {
    if (!t) return;
    arena_deinit(&t->mem);
    mem_free(t);
}

void jinja_spans_deinit(JinjaSpans *s) {
    mem_free(s->v);
    *s = (JinjaSpans){0};
}

static Status set_vars(JRun *r, const JinjaVar *vars, int n) {
    for (int i = 0; i < n; i++) {
        JVal v = jinja__slice(vars[i].text);
        if (vars[i].json) TRY(jinja__from_json(r, &v, vars[i].json));
        TRY(jinja__set(r, r->scope, slice_of(vars[i].name), v));
    }
    return OK;
}

static Status render(JRun *r, const Jinja *t, const JinjaVar *vars, int n_vars) {
    TRY(jinja__push_scope(r, NULL));
    TRY(set_vars(r, vars, n_vars));
    return jinja__exec(r, t->body);
}

Status jinja_render(StrBuf *out, JinjaSpans *spans, const Jinja *t, const JinjaVar *vars,
                    int n_vars, const JinjaOpts *o, Err *e) {
    enum { CHUNK = 64 << 10 };
    static const JinjaOpts usual = {0};
    StrBuf text = {0};
    size_t n_spans = spans ? spans->n : 0;
    size_t before = spans ? jinja__n_cp((Slice){sb_str(out), out->n}) : 0;
    if (!o) o = &usual;
    JRun r = {.max_mem = o->max_mem ? o->max_mem : (size_t)256 << 20,
              .max_out = o->max_out ? o->max_out : (size_t)64 << 20,
              .max_steps = o->max_steps ? o->max_steps : 20000000,
              .now_s = o->now_s ? o->now_s : (int64_t)time(NULL),
              .out = &text,
              .main_out = &text,
              .spans = spans,
              .e = e};
    arena_init(&r.mem, CHUNK);
    Status st = render(&r, t, vars, n_vars);
    arena_deinit(&r.mem);
    for (size_t i = n_spans; st == OK && spans && i < spans->n; i++) {
        spans->v[i].begin += before;
        spans->v[i].end += before;
    }
    if (st == OK) {
        sb_put(out, text.p, text.n);
        st = sb_check(out, e);
    }
    if (st != OK && spans) spans->n = n_spans;
    sb_deinit(&text);
    return st;
}
