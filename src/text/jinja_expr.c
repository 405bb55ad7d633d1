/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions as a tree. One function per level of precedence, loosest first: x if y else z, or, and, not,
 * comparisons, + -, ~, * / // %, **, sign, then attributes, calls, filters and tests.
 */
#include "text/jinja_internal.h"

JNode *jinja__node(JParser *p, JNodeKind kind) {
    JNode *n = arena_new(p->mem, JNode);
    if (!n) {
        (void)err_set(p->e, ERR_NOMEM, "template");
        return NULL;
    }
    n->kind = kind;
    n->line = p->t->line;
    n->col = p->t->col;
    return n;
}

void jinja__chain(JChain *c, JNode *n) {
    if (!c->last) c->last = &c->first;
    *c->last = n;
    c->last = &n->next;
}

Status jinja__unexpected(JParser *p, const char *wanted) {
    static const char *const kinds[] = {
        [JT_END] = "the end",  [JT_TEXT] = "text",      [JT_VAR_BEGIN] = "{{",
        [JT_VAR_END] = "}}",   [JT_BLOCK_BEGIN] = "{%", [JT_BLOCK_END] = "%}",
        [JT_STR] = "a string", [JT_INT] = "a number",   [JT_REAL] = "a number"};
    const JTok *t = p->t;
    Slice s = t->kind == JT_NAME || t->kind == JT_OP ? t->s : slice_of(kinds[t->kind]);
    return err_set(p->e, ERR_FORMAT, "line %u, column %u: found %.*s, wanted %s", t->line, t->col,
                   (int)MIN(s.n, 40), s.p, wanted);
}

bool jinja__at_op(const JParser *p, const char *op) {
    return p->t->kind == JT_OP && slice_eq_str(p->t->s, op);
}

bool jinja__at_name(const JParser *p, const char *name) {
    return p->t->kind == JT_NAME && slice_eq_str(p->t->s, name);
}

bool jinja__skip_op(JParser *p, const char *op) {
    bool at = jinja__at_op(p, op);
    p->t += at;
    return at;
}

bool jinja__skip_name(JParser *p, const char *name) {
    bool at = jinja__at_name(p, name);
    p->t += at;
    return at;
}

Status jinja__want_op(JParser *p, const char *op) {
    return jinja__skip_op(p, op) ? OK : jinja__unexpected(p, op);
}

/* One level deeper; the caller takes p->nest back when it is through. */
Status jinja__nest(JParser *p) {
    if (++p->nest <= JINJA_MAX_NEST) return OK;
    return err_set(p->e, ERR_FORMAT, "line %u, column %u: nested deeper than %d", p->t->line,
                   p->t->col, (int)JINJA_MAX_NEST);
}

#define NEW(var, kind)                 \
    JNode *var = jinja__node(p, kind); \
    if (!(var)) return ERR_NOMEM

/* ---- what stands alone ---- */

static Status parse_items(JParser *p, JNode *n, const char *end, bool pairs) {
    JChain items = {0};
    while (!jinja__at_op(p, end)) {
        JNode *k = NULL;
        if (items.first) TRY(jinja__want_op(p, ","));
        if (jinja__at_op(p, end)) break;
        TRY(jinja__parse_expr(p, &k, true));
        jinja__chain(&items, k);
        if (!pairs) continue;
        TRY(jinja__want_op(p, ":"));
        TRY(jinja__parse_expr(p, &k, true));
        jinja__chain(&items, k);
    }
    n->a = items.first;
    return jinja__want_op(p, end);
}

static Status parse_name(JParser *p, JNode **out) {
    static const struct {
        const char *name;
        JNodeKind kind;
        int i;
    } words[] = {{"true", JN_BOOL, 1},  {"True", JN_BOOL, 1}, {"false", JN_BOOL, 0},
                 {"False", JN_BOOL, 0}, {"none", JN_NONE, 0}, {"None", JN_NONE, 0}};
    NEW(n, JN_NAME);
    n->s = p->t->s;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (!slice_eq_str(n->s, words[i].name)) continue;
        n->kind = words[i].kind;
        n->i = words[i].i;
    }
    p->sees |= slice_eq_str(n->s, "varargs")  ? JINJA_SEES_VARARGS
               : slice_eq_str(n->s, "kwargs") ? JINJA_SEES_KWARGS
               : slice_eq_str(n->s, "caller") ? JINJA_SEES_CALLER
                                              : 0;
    p->t++;
    *out = n;
    return OK;
}

/* Strings that follow each other are one. */
static Status parse_strings(JParser *p, JNode **out) {
    NEW(n, JN_STR);
    StrBuf b = {0};
    n->s = p->t++->s;
    *out = n;
    if (p->t->kind != JT_STR) return OK;
    sb_put(&b, n->s.p, n->s.n);
    for (; p->t->kind == JT_STR; p->t++) sb_put(&b, p->t->s.p, p->t->s.n);
    n->s = (Slice){arena_dup(p->mem, sb_str(&b), b.n), b.n};
    bool ok = !b.failed && n->s.p;
    sb_deinit(&b);
    return ok ? OK : err_set(p->e, ERR_NOMEM, "template");
}

static Status parse_bracketed(JParser *p, JNode **out) {
    if (jinja__at_op(p, "(")) {
        NEW(empty, JN_TUPLE);
        p->t++;
        if (jinja__skip_op(p, ")")) {
            *out = empty;
            return OK;
        }
        TRY(jinja__parse_tuple(p, out, true, NULL));
        return jinja__want_op(p, ")");
    }
    NEW(n, jinja__at_op(p, "[") ? JN_LIST : JN_DICT);
    if (n->kind == JN_DICT && !jinja__at_op(p, "{")) return jinja__unexpected(p, "an expression");
    p->t++;
    *out = n;
    return parse_items(p, n, n->kind == JN_LIST ? "]" : "}", n->kind == JN_DICT);
}

static Status parse_primary(JParser *p, JNode **out) {
    const JTok *t = p->t;
    if (t->kind == JT_NAME) return parse_name(p, out);
    if (t->kind == JT_STR) return parse_strings(p, out);
    if (t->kind == JT_OP) return parse_bracketed(p, out);
    if (t->kind != JT_INT && t->kind != JT_REAL) return jinja__unexpected(p, "an expression");
    NEW(n, t->kind == JT_INT ? JN_INT : JN_REAL);
    n->i = t->i;
    n->real = t->d;
    p->t++;
    *out = n;
    return OK;
}

/* ---- what is put behind it ---- */

static bool at_slice_end(const JParser *p) {
    return jinja__at_op(p, ":") || jinja__at_op(p, "]") || jinja__at_op(p, ",");
}

static Status parse_subscript(JParser *p, JNode **out) {
    NEW(n, JN_SLICE);
    if (!jinja__at_op(p, ":")) {
        TRY(jinja__parse_expr(p, &n->a, true));
        if (!jinja__at_op(p, ":")) {
            *out = n->a;
            return OK;
        }
    }
    p->t++;
    if (!at_slice_end(p)) TRY(jinja__parse_expr(p, &n->b, true));
    if (jinja__skip_op(p, ":") && !at_slice_end(p)) TRY(jinja__parse_expr(p, &n->c, true));
    *out = n;
    return OK;
}

static Status parse_dot(JParser *p, JNode **node) {
    NEW(n, JN_ATTR);
    p->t++;
    n->a = *node;
    n->s = p->t->s;
    if (p->t->kind == JT_INT) {
        n->kind = JN_ITEM;
        n->b = jinja__node(p, JN_INT);
        if (!n->b) return ERR_NOMEM;
        n->b->i = p->t->i;
    } else if (p->t->kind != JT_NAME) {
        return jinja__unexpected(p, "a name");
    }
    p->t++;
    *node = n;
    return OK;
}

static Status parse_index(JParser *p, JNode **node) {
    NEW(n, JN_ITEM);
    JChain many = {0};
    p->t++;
    n->a = *node;
    do {
        JNode *k = NULL;
        TRY(parse_subscript(p, &k));
        jinja__chain(&many, k);
    } while (jinja__skip_op(p, ","));
    n->b = many.first;
    if (many.first->next) {
        n->b = jinja__node(p, JN_TUPLE);
        if (!n->b) return ERR_NOMEM;
        n->b->a = many.first;
    }
    *node = n;
    return jinja__want_op(p, "]");
}

/* What an argument begins with, by which the order goes: 0 a value, 1 name=, 2 *, 3 **. */
static int argument_kind(const JParser *p) {
    if (jinja__at_op(p, "*")) return 2;
    if (jinja__at_op(p, "**")) return 3;
    return p->t->kind == JT_NAME && p->t[1].kind == JT_OP && slice_eq_str(p->t[1].s, "=");
}

static Status parse_argument(JParser *p, JNode **out, int kind) {
    if (kind == 0) return jinja__parse_expr(p, out, true);
    NEW(n, kind == 1 ? JN_KWARG : JN_SPREAD);
    n->s = p->t->s;
    n->op = kind == 3 ? 'p' : '*';
    p->t += kind == 1 ? 2 : 1;
    *out = n;
    return jinja__parse_expr(p, &n->a, true);
}

/* (a, b, name=c, *list, **dict), the current token being the bracket. */
Status jinja__parse_args(JParser *p, JNode **out) {
    JChain args = {0};
    unsigned seen = 0; /* kinds, a bit each */
    p->t++;
    while (!jinja__at_op(p, ")")) {
        if (args.first) TRY(jinja__want_op(p, ","));
        if (jinja__at_op(p, ")")) break;
        static const unsigned before[] = {1, 3 | 4, 3,
                                          7}; /* what may stand in front of each kind */
        JNode *n = NULL;
        int kind = argument_kind(p);
        if (seen & ~before[kind]) return jinja__unexpected(p, "arguments in their order");
        seen |= 1u << kind;
        TRY(parse_argument(p, &n, kind));
        jinja__chain(&args, n);
    }
    *out = args.first;
    return jinja__want_op(p, ")");
}

static Status parse_call(JParser *p, JNode **node) {
    NEW(n, JN_CALL);
    n->a = *node;
    *node = n;
    return jinja__parse_args(p, &n->b);
}

/* Each step makes the tree deeper, so each counts. */
static Status count_link(JParser *p, int *n) {
    if (++*n <= 4 * JINJA_MAX_NEST) return OK;
    return err_set(p->e, ERR_FORMAT, "line %u, column %u: a chain of more than %d", p->t->line,
                   p->t->col, 4 * (int)JINJA_MAX_NEST);
}

static Status parse_postfix(JParser *p, JNode **node) {
    for (int n = 0;;) {
        TRY(count_link(p, &n));
        if (jinja__at_op(p, ".")) TRY(parse_dot(p, node));
        else if (jinja__at_op(p, "[")) TRY(parse_index(p, node));
        else if (jinja__at_op(p, "(")) TRY(parse_call(p, node));
        else return OK;
    }
}

/* A name, or names with dots between them, as they stand in the source. */
static Status parse_dotted(JParser *p, Slice *name) {
    const JTok *last = p->t;
    if (p->t->kind != JT_NAME) return jinja__unexpected(p, "a name");
    *name = p->t++->s;
    for (; jinja__at_op(p, ".") && p->t[1].kind == JT_NAME; p->t += 2) last = &p->t[1];
    name->n = (size_t)(last->s.p + last->s.n - name->p);
    return OK;
}

Status jinja__parse_filter(JParser *p, JNode **node) {
    int n_links = 0;
    do {
        NEW(n, JN_FILTER);
        TRY(count_link(p, &n_links));
        TRY(parse_dotted(p, &n->s));
        n->a = *node;
        if (jinja__at_op(p, "(")) TRY(jinja__parse_args(p, &n->b));
        *node = n;
    } while (jinja__skip_op(p, "|"));
    return OK;
}

static bool at_test_argument(const JParser *p) {
    static const char *const not_these[] = {"else", "or", "and", "is", "if", "in", "not"};
    JTokKind k = p->t->kind;
    if (k == JT_STR || k == JT_INT || k == JT_REAL) return true;
    if (k == JT_OP) return jinja__at_op(p, "[") || jinja__at_op(p, "{");
    if (k != JT_NAME) return false;
    for (size_t i = 0; i < COUNT_OF(not_these); i++)
        if (jinja__at_name(p, not_these[i])) return false;
    return true;
}

static Status parse_test(JParser *p, JNode **node) {
    NEW(n, JN_TEST);
    n->op = (char)jinja__skip_name(p, "not");
    n->a = *node;
    TRY(parse_dotted(p, &n->s));
    *node = n;
    if (jinja__at_op(p, "(")) return jinja__parse_args(p, &n->b);
    if (!at_test_argument(p)) return OK;
    TRY(parse_primary(p, &n->b));
    return parse_postfix(p, &n->b);
}

static Status parse_filters(JParser *p, JNode **node) {
    for (int n = 0;;) {
        TRY(count_link(p, &n));
        if (jinja__skip_op(p, "|")) TRY(jinja__parse_filter(p, node));
        else if (jinja__skip_name(p, "is")) TRY(parse_test(p, node));
        else if (jinja__at_op(p, "(")) TRY(parse_call(p, node));
        else return OK;
    }
}

/* ---- levels ---- */

static Status parse_unary(JParser *p, JNode **out, bool with_filter) {
    bool neg = jinja__at_op(p, "-");
    if (neg || jinja__at_op(p, "+")) {
        NEW(n, neg ? JN_NEG : JN_POS);
        p->t++;
        TRY(jinja__nest(p));
        TRY(parse_unary(p, &n->a, false));
        p->nest--;
        *out = n;
    } else {
        TRY(parse_primary(p, out));
    }
    TRY(parse_postfix(p, out));
    return with_filter ? parse_filters(p, out) : OK;
}

/* Binary operators of four levels, loosest first; left to right in each. */
static const struct {
    const char *text;
    char op;
    int level;
} binaries[] = {{"+", '+', 0}, {"-", '-', 0},  {"~", '~', 1}, {"*", '*', 2},
                {"/", '/', 2}, {"//", 'f', 2}, {"%", '%', 2}, {"**", 'p', 3}};
enum { N_LEVELS = 4 };

static char binary_at(const JParser *p, int level) {
    for (size_t i = 0; i < COUNT_OF(binaries); i++)
        if (binaries[i].level == level && jinja__at_op(p, binaries[i].text)) return binaries[i].op;
    return 0;
}

static Status parse_binary(JParser *p, JNode **out, int level) {
    int n_links = 0;
    if (level == N_LEVELS) return parse_unary(p, out, true);
    TRY(parse_binary(p, out, level + 1));
    for (char op; (op = binary_at(p, level)) != 0;) {
        NEW(n, JN_BIN);
        TRY(count_link(p, &n_links));
        p->t++;
        n->op = op;
        n->a = *out;
        TRY(parse_binary(p, &n->b, level + 1));
        *out = n;
    }
    return OK;
}

static char compare_at(JParser *p) {
    static const char *const texts[] = {"==", "!=", "<", ">", "<=", ">="};
    static const char ops[] = "=!<>lg";
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (jinja__skip_op(p, texts[i])) return ops[i];
    if (jinja__skip_name(p, "in")) return 'i';
    if (!jinja__at_name(p, "not") || p->t[1].kind != JT_NAME || !slice_eq_str(p->t[1].s, "in"))
        return 0;
    p->t += 2;
    return 'n';
}

static Status parse_compare(JParser *p, JNode **out) {
    NEW(n, JN_COMPARE);
    JChain ops = {0};
    TRY(parse_binary(p, &n->a, 0));
    for (;;) {
        NEW(c, JN_CMP);
        c->op = compare_at(p);
        if (!c->op) break;
        TRY(parse_binary(p, &c->a, 0));
        jinja__chain(&ops, c);
    }
    n->b = ops.first;
    *out = n->b ? n : n->a;
    return OK;
}

static Status parse_not(JParser *p, JNode **out) {
    NEW(n, JN_NOT);
    if (!jinja__skip_name(p, "not")) return parse_compare(p, out);
    *out = n;
    TRY(jinja__nest(p));
    TRY(parse_not(p, &n->a));
    p->nest--;
    return OK;
}

static Status parse_logic(JParser *p, JNode **out, bool is_or) {
    int n_links = 0;
    TRY(is_or ? parse_logic(p, out, false) : parse_not(p, out));
    for (;;) {
        NEW(n, is_or ? JN_OR : JN_AND);
        if (!jinja__skip_name(p, is_or ? "or" : "and")) return OK;
        TRY(count_link(p, &n_links));
        n->a = *out;
        TRY(is_or ? parse_logic(p, &n->b, false) : parse_not(p, &n->b));
        *out = n;
    }
}

static Status parse_cond(JParser *p, JNode **out) {
    int n_links = 0;
    TRY(parse_logic(p, out, true));
    for (;;) {
        NEW(n, JN_COND);
        if (!jinja__skip_name(p, "if")) return OK;
        TRY(count_link(p, &n_links));
        n->b = *out;
        TRY(parse_logic(p, &n->a, true));
        if (jinja__skip_name(p, "else")) TRY(jinja__parse_expr(p, &n->c, true));
        *out = n;
    }
}

Status jinja__parse_expr(JParser *p, JNode **out, bool with_cond) {
    TRY(jinja__nest(p));
    TRY(with_cond ? parse_cond(p, out) : parse_logic(p, out, true));
    p->nest--;
    return OK;
}

static bool at_tuple_end(const JParser *p, const char *stop) {
    JTokKind k = p->t->kind;
    return k == JT_VAR_END || k == JT_BLOCK_END || k == JT_END || jinja__at_op(p, ")") ||
           (stop && jinja__at_name(p, stop));
}

Status jinja__parse_tuple(JParser *p, JNode **out, bool with_cond, const char *stop) {
    NEW(n, JN_TUPLE);
    JChain items = {0};
    bool comma = false;
    for (;;) {
        JNode *k = NULL;
        if (items.first && at_tuple_end(p, stop)) break;
        TRY(jinja__parse_expr(p, &k, with_cond));
        jinja__chain(&items, k);
        if (!jinja__skip_op(p, ",")) break;
        comma = true;
    }
    n->a = items.first;
    *out = comma ? n : items.first;
    return OK;
}

/* ---- targets ---- */

static Status parse_one_target(JParser *p, JNode **out, bool with_attr) {
    if (jinja__skip_op(p, "(")) {
        TRY(jinja__nest(p));
        TRY(jinja__parse_target(p, out, false));
        p->nest--;
        return jinja__want_op(p, ")");
    }
    if (p->t->kind != JT_NAME) return jinja__unexpected(p, "a name to assign to");
    TRY(parse_name(p, out));
    if ((*out)->kind != JN_NAME) {
        p->t--;
        return jinja__unexpected(p, "a name to assign to");
    }
    return with_attr && jinja__at_op(p, ".") ? parse_dot(p, out) : OK;
}

Status jinja__parse_target(JParser *p, JNode **out, bool with_attr) {
    NEW(n, JN_TUPLE);
    JChain items = {0};
    bool comma = false;
    for (;;) {
        JNode *k = NULL;
        TRY(parse_one_target(p, &k, with_attr));
        jinja__chain(&items, k);
        if (!jinja__skip_op(p, ",")) break;
        comma = true;
        if (p->t->kind != JT_NAME && !jinja__at_op(p, "(")) break;
        if (jinja__at_name(p, "in")) break;
    }
    n->a = items.first;
    *out = comma ? n : items.first;
    return OK;
}
