/* SPDX-License-Identifier: Apache-2.0
 * GBNF: rules `name ::= alternatives`, of literals "...", classes [...], any character ., groups, names, and ? * +
 * {m} {m,} {m,n} behind any of them; # comments; a rule ends with its line, except inside a group and after ::= and |.
 * The start is `root`. Characters are code points; escapes \n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH. */
#include "base/sha.h"
#include "engine/grammar/internal.h"
#include "text/utf8.h"

typedef struct Gbnf {
    Comp *c;
    Slice s;
    size_t i;
    int depth;
    uint32_t *index; /* owned: by name, rule + 1 */
    uint32_t cap;    /* a power of two */
} Gbnf;

#define REFUSE(g, at, code, ...) grammar__fail((g)->c, here((g), (at)), (code), __VA_ARGS__)

static const Where *here(const Gbnf *g, size_t at) {
    return grammar__where(g->c, NULL, (Slice){0}, at);
}
static bool more(const Gbnf *g) { return g->i < g->s.n && g->c->st == OK; }
static char peek(const Gbnf *g) { return g->i < g->s.n ? g->s.p[g->i] : 0; }

static void skip(Gbnf *g, bool lines) {
    while (g->i < g->s.n) {
        char c = peek(g);
        if (c == '#') {
            while (g->i < g->s.n && peek(g) != '\n') g->i++;
        } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
            g->i++;
        } else {
            return;
        }
    }
}

/* ---- names ---- */

static bool in_name(char c) {
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '-' || c == '_';
}

static Slice name(Gbnf *g) {
    size_t at = g->i;
    while (g->i < g->s.n && in_name(peek(g))) g->i++;
    return (Slice){g->s.p + at, g->i - at};
}

static void put(Gbnf *g, uint32_t rule) {
    Slice n = g->c->rules[rule].name;
    uint32_t at = (uint32_t)sha_hash64(n.p, n.n, 0) & (g->cap - 1);
    while (g->index[at]) at = (at + 1) & (g->cap - 1);
    g->index[at] = rule + 1;
}

static bool room(Gbnf *g) {
    if (g->c->n_rules * 2 < g->cap) return true;
    uint32_t cap = g->cap ? 2 * g->cap : 64;
    uint32_t *index = mem_new_n(uint32_t, cap);
    if (!index) {
        if (g->c->st == OK) g->c->st = err_set(g->c->e, ERR_NOMEM, "grammar: rules");
        return false;
    }
    mem_free(g->index);
    g->index = index;
    g->cap = cap;
    for (uint32_t i = 0; i < g->c->n_rules; i++) put(g, i);
    return true;
}

/* The rule of this name, made if it is not there yet. */
static uint32_t rule_of(Gbnf *g, Slice n, size_t at) {
    if (!room(g)) return 0;
    uint32_t k = (uint32_t)sha_hash64(n.p, n.n, 0) & (g->cap - 1);
    for (; g->index[k]; k = (k + 1) & (g->cap - 1))
        if (slice_eq(g->c->rules[g->index[k] - 1].name, n)) return g->index[k] - 1;
    uint32_t r = grammar__rule(g->c, n, here(g, at));
    if (g->c->st == OK) g->index[k] = r + 1;
    return r;
}

/* ---- characters ---- */

static uint32_t hex(Gbnf *g, int n, size_t at) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++, g->i++) {
        char c = peek(g), l = (char)(c | 32);
        int d = c >= '0' && c <= '9' ? c - '0' : l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
        if (d < 0) {
            REFUSE(g, at, ERR_FORMAT, "%d hexadecimal digits are needed", n);
            return 0;
        }
        v = v << 4 | (uint32_t)d;
    }
    if (v > GRAMMAR_MAX_CP || (v >= 0xd800 && v <= 0xdfff)) {
        REFUSE(g, at, ERR_FORMAT, "not a code point");
        return 0;
    }
    return v;
}

static uint32_t character(Gbnf *g) {
    static const char from[] = "nrt\\\"[]-^", to[] = "\n\r\t\\\"[]-^";
    uint32_t cp = 0;
    size_t at = g->i;
    if (peek(g) != '\\') {
        int n = utf8_decode(&cp, g->s.p + g->i, g->s.n - g->i);
        if (n == 0) REFUSE(g, at, ERR_FORMAT, "not UTF-8");
        g->i += (size_t)MAX(n, 1);
        return cp;
    }
    g->i++;
    char c = peek(g);
    const char *p = c ? strchr(from, c) : NULL;
    g->i++;
    if (p) return (uint8_t)to[p - from];
    if (c == 'x' || c == 'u' || c == 'U') return hex(g, c == 'x' ? 2 : c == 'u' ? 4 : 8, at);
    REFUSE(g, at, ERR_FORMAT, "unknown escape");
    return 0;
}

static Node *literal(Gbnf *g) {
    StrBuf b = {0};
    size_t at = g->i++;
    while (more(g) && peek(g) != '"' && peek(g) != '\n') {
        char buf[4];
        int n = utf8_encode(buf, character(g));
        sb_put(&b, buf, (size_t)n);
    }
    if (peek(g) != '"') REFUSE(g, at, ERR_FORMAT, "literal without an end");
    g->i++;
    if (b.failed && g->c->st == OK) g->c->st = err_set(g->c->e, ERR_NOMEM, "grammar: literal");
    Node *k = grammar__bytes(g->c, (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
    return k;
}

static Node *class_(Gbnf *g) {
    SetBuild b = {0};
    size_t at = g->i++;
    bool negate = peek(g) == '^';
    g->i += negate;
    while (more(g) && peek(g) != ']') {
        size_t from = g->i;
        uint32_t lo = character(g), hi = lo;
        if (peek(g) == '-' && g->i + 1 < g->s.n && g->s.p[g->i + 1] != ']') {
            g->i++;
            hi = character(g);
        }
        if (lo > hi) REFUSE(g, from, ERR_FORMAT, "a range from high to low");
        grammar__set_add(g->c, &b, lo, hi);
    }
    if (peek(g) != ']') REFUSE(g, at, ERR_FORMAT, "class without an end");
    g->i++;
    return grammar__set(g->c, grammar__set_take(g->c, &b, negate));
}

/* ---- structure ---- */

static Node *alternatives(Gbnf *g, bool nested);

static Node *group(Gbnf *g) {
    size_t at = g->i++;
    if (++g->depth > g->c->lim.depth)
        REFUSE(g, at, ERR_FULL, "groups nested deeper than %d", g->c->lim.depth);
    Node *k = g->c->st == OK ? alternatives(g, true) : grammar__empty(g->c);
    g->depth--;
    if (peek(g) != ')') REFUSE(g, at, ERR_FORMAT, "group without an end");
    g->i++;
    return k;
}

/* NULL where none begins. */
static Node *atom(Gbnf *g) {
    SetBuild b = {0};
    size_t at = g->i;
    char c = peek(g);
    if (c == '"') return literal(g);
    if (c == '[') return class_(g);
    if (c == '(') return group(g);
    if (c == '.') {
        g->i++;
        return grammar__set(g->c, grammar__set_take(g->c, &b, true));
    }
    if (!in_name(c)) return NULL;
    Slice n = name(g);
    return grammar__ref(g->c, rule_of(g, n, at), here(g, at));
}

static int64_t number(Gbnf *g) {
    int64_t v = 0;
    size_t at = g->i;
    for (; peek(g) >= '0' && peek(g) <= '9'; g->i++)
        if (v < 1000000000) v = v * 10 + (peek(g) - '0');
    skip(g, false);
    return g->i == at ? -1 : v;
}

static void braces(Gbnf *g, int64_t *min, int64_t *max) {
    size_t at = g->i++;
    skip(g, false);
    *min = *max = peek(g) >= '0' && peek(g) <= '9' ? number(g) : -1;
    if (*min >= 0 && peek(g) == ',') {
        g->i++;
        skip(g, false);
        *max = peek(g) >= '0' && peek(g) <= '9' ? number(g) : GRAMMAR_INF;
    }
    if (*min < 0 || peek(g) != '}') REFUSE(g, at, ERR_FORMAT, "not {m}, {m,} or {m,n}");
    if (*max != GRAMMAR_INF && *min > *max) REFUSE(g, at, ERR_FORMAT, "repeated from high to low");
    g->i++;
}

static Node *repeated(Gbnf *g, Node *k, bool nested) {
    for (skip(g, nested); more(g); skip(g, nested)) {
        int64_t min = 0, max = GRAMMAR_INF;
        size_t at = g->i;
        char c = peek(g);
        if (c == '{') {
            braces(g, &min, &max);
        } else if (c == '*' || c == '+' || c == '?') {
            g->i++;
            min = c == '+';
            max = c == '?' ? 1 : GRAMMAR_INF;
        } else {
            break;
        }
        k = grammar__repeat(g->c, k, min, max, here(g, at));
    }
    return k;
}

static Node *sequence(Gbnf *g, bool nested) {
    NodeList parts = {0};
    for (skip(g, nested); more(g); skip(g, nested)) {
        Node *k = atom(g);
        if (!k) break;
        grammar__push(g->c, &parts, repeated(g, k, nested));
    }
    Node *k = grammar__seq(g->c, parts.v, parts.n);
    mem_free(parts.v);
    return k;
}

static Node *alternatives(Gbnf *g, bool nested) {
    NodeList alts = {0};
    skip(g, true);
    grammar__push(g->c, &alts, sequence(g, nested));
    while (more(g) && peek(g) == '|') {
        g->i++;
        skip(g, true);
        grammar__push(g->c, &alts, sequence(g, nested));
    }
    Node *k = grammar__alt(g->c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

static void rule(Gbnf *g) {
    size_t at = g->i;
    Slice n = name(g);
    if (!n.n) {
        REFUSE(g, at, ERR_FORMAT, "a rule's name is expected");
        return;
    }
    skip(g, false);
    if (g->s.n - g->i < 3 || memcmp(g->s.p + g->i, "::=", 3) != 0) {
        REFUSE(g, g->i, ERR_FORMAT, "::= is expected");
        return;
    }
    g->i += 3;
    uint32_t r = rule_of(g, n, at);
    Node *body = alternatives(g, false);
    if (g->c->st != OK) return;
    if (g->i < g->s.n && peek(g) != '\n' && peek(g) != '\r') {
        REFUSE(g, g->i, ERR_FORMAT, "the end of the line is expected");
        return;
    }
    if (g->c->rules[r].body)
        REFUSE(g, at, ERR_FORMAT, "rule \"%.*s\" is defined twice", (int)MIN(n.n, (size_t)60), n.p);
    g->c->rules[r].body = body;
    g->c->rules[r].where = here(g, at);
}

static void check_defined(Comp *c) {
    for (uint32_t i = 0; i < c->n_rules && c->st == OK; i++) {
        const Rule *r = &c->rules[i];
        if (!r->body)
            grammar__fail(c, r->where, ERR_FORMAT, "rule \"%.*s\" is not defined",
                          (int)MIN(r->name.n, (size_t)60), r->name.p);
    }
}

Status grammar_from_gbnf(Grammar **out, Slice text, const GrammarLimits *limits, Err *e) {
    Comp c;
    grammar__comp_init(&c, limits, text.n ? text : slice_of(""), e);
    Gbnf g = {.c = &c, .s = c.text};
    if (text.n > c.lim.source_bytes)
        c.st = err_set(e, ERR_FULL, "1:1: %zu bytes, limit %zu", text.n, c.lim.source_bytes);
    if (c.st == OK) rule_of(&g, slice_of("root"), 0);
    for (skip(&g, true); more(&g); skip(&g, true)) rule(&g);
    check_defined(&c);
    mem_free(g.index);
    return grammar__finish(out, &c);
}
