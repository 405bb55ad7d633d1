/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements as a tree: {% if %}, {% for %}, {% set %} and the rest.
 */
#include "text/jinja_internal.h"

static Status parse_list(JParser *p, JNode **out, const char *const *ends);

#define NEW(var, kind)                 \
    JNode *var = jinja__node(p, kind); \
    if (!(var)) return ERR_NOMEM

static Status want_block_end(JParser *p) {
    if (p->t->kind != JT_BLOCK_END) return jinja__unexpected(p, "%}");
    p->t++;
    return OK;
}

/* Statements up to one of these words, at which p is left. */
static Status parse_until(JParser *p, JNode **out, const char *const *ends) {
    TRY(want_block_end(p));
    TRY(jinja__nest(p));
    TRY(parse_list(p, out, ends));
    p->nest--;
    return OK;
}

static Status parse_to_end(JParser *p, JNode **out, const char *end) {
    const char *const ends[] = {end, NULL};
    TRY(parse_until(p, out, ends));
    p->t++;
    return OK;
}

/* An elif is an if in the else of the one before: the chain is walked, not descended. */
static Status parse_if(JParser *p, JNode **out) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    JNode **at = out;
    for (;;) {
        NEW(n, JN_IF);
        *at = n;
        TRY(jinja__parse_tuple(p, &n->a, false, NULL));
        TRY(parse_until(p, &n->b, ends));
        at = &n->c;
        if (!jinja__skip_name(p, "elif")) break;
    }
    if (jinja__skip_name(p, "else")) return parse_to_end(p, at, "endif");
    p->t++;
    return OK;
}

static Status parse_for(JParser *p, JNode **out) {
    static const char *const ends[] = {"else", "endfor", NULL};
    NEW(n, JN_FOR);
    *out = n;
    TRY(jinja__parse_target(p, &n->a, false));
    if (!jinja__skip_name(p, "in")) return jinja__unexpected(p, "in");
    TRY(jinja__parse_tuple(p, &n->b, false, "recursive"));
    if (jinja__skip_name(p, "if")) TRY(jinja__parse_expr(p, &n->f, true));
    n->op = (char)jinja__skip_name(p, "recursive");
    p->loops++;
    TRY(parse_until(p, &n->c, ends));
    p->loops--;
    if (jinja__skip_name(p, "else")) return parse_to_end(p, &n->d, "endfor");
    p->t++;
    return OK;
}

static Status parse_set(JParser *p, JNode **out) {
    NEW(n, JN_SET);
    *out = n;
    TRY(jinja__parse_target(p, &n->a, true));
    if (jinja__skip_op(p, "=")) return jinja__parse_tuple(p, &n->b, true, NULL);
    n->kind = JN_SETBLOCK;
    if (jinja__skip_op(p, "|")) TRY(jinja__parse_filter(p, &n->b));
    return parse_to_end(p, &n->c, "endset");
}

/* (a, b=1), the current token being the bracket. */
static Status parse_params(JParser *p, JNode **out) {
    JChain params = {0};
    bool usual = false; /* a default stood before */
    TRY(jinja__want_op(p, "("));
    while (!jinja__at_op(p, ")")) {
        if (params.first) TRY(jinja__want_op(p, ","));
        if (jinja__at_op(p, ")")) break;
        if (p->t->kind != JT_NAME) return jinja__unexpected(p, "the name of a parameter");
        NEW(n, JN_NAME);
        n->s = p->t++->s;
        if (jinja__skip_op(p, "=")) TRY(jinja__parse_expr(p, &n->a, true));
        else if (params.last && usual) return jinja__unexpected(p, "a default, as before");
        usual = n->a != NULL;
        jinja__chain(&params, n);
    }
    *out = params.first;
    return jinja__want_op(p, ")");
}

/* A body of its own: break and continue do not reach out of it. */
static Status parse_own(JParser *p, JNode **out, const char *end) {
    int loops = p->loops;
    p->loops = 0;
    TRY(parse_to_end(p, out, end));
    p->loops = loops;
    return OK;
}

/* The body of a macro, and which names it makes use of. */
static Status parse_macro_body(JParser *p, JNode *n, const char *end) {
    int outer = p->sees;
    p->sees = 0;
    TRY(parse_own(p, &n->c, end));
    n->i = p->sees;
    p->sees |= outer;
    return OK;
}

static Status parse_macro(JParser *p, JNode **out) {
    NEW(n, JN_MACRO);
    *out = n;
    if (p->t->kind != JT_NAME) return jinja__unexpected(p, "the name of a macro");
    n->s = p->t++->s;
    TRY(parse_params(p, &n->a));
    return parse_macro_body(p, n, "endmacro");
}

static Status parse_caller(JParser *p, JNode **out) {
    NEW(n, JN_CALLER);
    *out = n;
    if (jinja__at_op(p, "(")) TRY(parse_params(p, &n->b));
    TRY(jinja__parse_expr(p, &n->a, true));
    if (n->a->kind != JN_CALL) return jinja__unexpected(p, "a call");
    return parse_macro_body(p, n, "endcall");
}

static Status parse_filtered(JParser *p, JNode **out) {
    NEW(n, JN_FILTERED);
    *out = n;
    TRY(jinja__parse_filter(p, &n->b));
    return parse_to_end(p, &n->c, "endfilter");
}

static Status parse_with(JParser *p, JNode **out) {
    NEW(n, JN_WITH);
    JChain pairs = {0};
    *out = n;
    while (p->t->kind != JT_BLOCK_END) {
        JNode *target = NULL, *value = NULL;
        if (pairs.first) TRY(jinja__want_op(p, ","));
        TRY(jinja__parse_target(p, &target, false));
        TRY(jinja__want_op(p, "="));
        TRY(jinja__parse_expr(p, &value, true));
        jinja__chain(&pairs, target);
        jinja__chain(&pairs, value);
    }
    n->a = pairs.first;
    return parse_to_end(p, &n->c, "endwith");
}

static Status parse_spanned(JParser *p, JNode **out) {
    NEW(n, JN_SPANNED);
    *out = n;
    return parse_own(p, &n->c, "endgeneration");
}

static Status parse_leave(JParser *p, JNode **out) {
    bool is_break = slice_eq_str(p->t[-1].s, "break");
    NEW(n, is_break ? JN_BREAK : JN_CONTINUE);
    *out = n;
    if (p->loops > 0) return OK;
    p->t--;
    return jinja__unexpected(p, "a statement (this one needs a loop around it)");
}

static const struct {
    const char *word;
    Status (*parse)(JParser *p, JNode **out);
} statements[] = {{"if", parse_if},       {"for", parse_for},
                  {"set", parse_set},     {"macro", parse_macro},
                  {"call", parse_caller}, {"filter", parse_filtered},
                  {"with", parse_with},   {"generation", parse_spanned},
                  {"break", parse_leave}, {"continue", parse_leave}};

static Status parse_statement(JParser *p, JNode **out) {
    for (size_t i = 0; i < COUNT_OF(statements); i++) {
        if (!jinja__skip_name(p, statements[i].word)) continue;
        TRY(statements[i].parse(p, out));
        return want_block_end(p);
    }
    return jinja__unexpected(p, "a statement");
}

static bool at_one_of(const JParser *p, const char *const *ends) {
    for (; ends && *ends; ends++)
        if (jinja__at_name(p, *ends)) return true;
    return false;
}

static Status parse_print(JParser *p, JNode **out) {
    NEW(n, JN_PRINT);
    p->t++;
    *out = n;
    TRY(jinja__parse_tuple(p, &n->a, true, NULL));
    if (p->t->kind != JT_VAR_END) return jinja__unexpected(p, "}}");
    p->t++;
    return OK;
}

static Status parse_text(JParser *p, JNode **out) {
    NEW(n, JN_TEXT);
    n->s = p->t++->s;
    *out = n;
    return OK;
}

static Status parse_list(JParser *p, JNode **out, const char *const *ends) {
    JChain list = {0};
    for (; p->t->kind != JT_END;) {
        JNode *n = NULL;
        if (p->t->kind == JT_TEXT) TRY(parse_text(p, &n));
        else if (p->t->kind == JT_VAR_BEGIN) TRY(parse_print(p, &n));
        else {
            p->t++;
            if (at_one_of(p, ends)) break;
            TRY(parse_statement(p, &n));
        }
        jinja__chain(&list, n);
    }
    *out = list.first;
    if (p->t->kind == JT_END && ends) return jinja__unexpected(p, *ends);
    return OK;
}

Status jinja__parse_body(JNode **out, const JToks *toks, Arena *mem, Err *e) {
    JParser p = {.t = toks->v, .mem = mem, .e = e};
    return parse_list(&p, out, NULL);
}
