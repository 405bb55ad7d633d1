/* SPDX-License-Identifier: Apache-2.0
 * Regular expressions of the subset that is regular: literals, ., classes, \d \w \s (of ASCII) and their
 * opposites, groups, |, ? * + {m} {m,} {m,n}, escapes. Lazy and possessive marks change nothing about which texts
 * match and are skipped. ^ and $ are allowed at the ends of alternatives of the whole pattern. Refused: look-around,
 * back-references, \b, \p, inline flags.
 *
 * For a pattern in a schema the tree is written in the inside of a JSON string: a quote is two bytes there. */
#include "engine/grammar/internal.h"
#include "text/utf8.h"

typedef struct Rx {
    Comp *c;
    Slice s;
    size_t i;
    const Where *up; /* of a schema, or NULL */
    bool json, search;
    int depth;
} Rx;

static const Where *here(const Rx *r, size_t at) {
    return r->up ? r->up : grammar__where(r->c, NULL, (Slice){0}, at);
}

#define REFUSE(r, at, code, ...) grammar__fail((r)->c, here((r), (at)), (code), __VA_ARGS__)

static bool more(const Rx *r) { return r->i < r->s.n && r->c->st == OK; }
static char peek(const Rx *r) { return r->i < r->s.n ? r->s.p[r->i] : 0; }
static bool at_str(const Rx *r, const char *s) {
    size_t n = strlen(s);
    return r->s.n - r->i >= n && memcmp(r->s.p + r->i, s, n) == 0;
}

/* ---- in the inside of a JSON string ---- */

static Node *escaped(Comp *c, uint32_t cp) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    char buf[8] = {'\\', 0};
    const char *p = cp ? strchr(from, (int)cp) : NULL;
    if (p) {
        buf[1] = to[p - from];
        return grammar__bytes(c, (Slice){buf, 2});
    }
    static const char hex[] = "0123456789abcdef";
    memcpy(buf, "\\u00", 4);
    buf[4] = hex[cp >> 4 & 15];
    buf[5] = hex[cp & 15];
    return grammar__bytes(c, (Slice){buf, 6});
}

Node *grammar__json_set(Comp *c, CharSet s) {
    NodeList alts = {0};
    SetBuild plain = {0};
    for (uint32_t i = 0; i < s.n; i++) {
        uint32_t lo = s.r[i].lo, hi = s.r[i].hi;
        for (uint32_t cp = lo; cp <= MIN(hi, (uint32_t)'\\'); cp++) {
            if (cp < 0x20 || cp == '"' || cp == '\\') grammar__push(c, &alts, escaped(c, cp));
            else grammar__set_add(c, &plain, cp, cp);
        }
        if (hi > '\\') grammar__set_add(c, &plain, MAX(lo, (uint32_t)'\\' + 1), hi);
    }
    grammar__push(c, &alts, grammar__set(c, grammar__set_take(c, &plain, false)));
    Node *k = grammar__alt(c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

static Node *set_node(Rx *r, CharSet s) {
    return r->json ? grammar__json_set(r->c, s) : grammar__set(r->c, s);
}

static Node *take_set(Rx *r, SetBuild *b, bool negate) {
    return set_node(r, grammar__set_take(r->c, b, negate));
}

static Node *any_char(Rx *r, bool newline) {
    SetBuild b = {0};
    if (!newline) grammar__set_add(r->c, &b, '\n', '\n');
    return take_set(r, &b, true);
}

/* ---- parts ---- */

static uint32_t code_point(Rx *r) {
    uint32_t cp = 0;
    int n = utf8_decode(&cp, r->s.p + r->i, r->s.n - r->i);
    if (n == 0) REFUSE(r, r->i, ERR_FORMAT, "not UTF-8");
    r->i += (size_t)MAX(n, 1);
    return cp;
}

static uint32_t hex_digits(Rx *r, int n, size_t at) {
    uint32_t v = 0;
    for (int i = 0; i < n; i++, r->i++) {
        char c = peek(r);
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0) {
            REFUSE(r, at, ERR_FORMAT, "%d hexadecimal digits are needed", n);
            return 0;
        }
        v = v << 4 | (uint32_t)d;
    }
    return v;
}

/* \xHH, \uHHHH, \u{H...}; r->i is after the letter. */
static uint32_t hex_escape(Rx *r, char letter, size_t at) {
    if (letter == 'x') return hex_digits(r, 2, at);
    if (peek(r) != '{') {
        uint32_t hi = hex_digits(r, 4, at);
        if (hi < 0xd800 || hi > 0xdbff || !at_str(r, "\\u")) return hi;
        r->i += 2;
        uint32_t lo = hex_digits(r, 4, at);
        return 0x10000 + ((hi - 0xd800) << 10) + ((lo - 0xdc00) & 0x3ff);
    }
    int n = 0;
    r->i++;
    while (r->i + (size_t)n < r->s.n && r->s.p[r->i + (size_t)n] != '}' && n < 7) n++;
    uint32_t cp = hex_digits(r, n, at);
    if (n == 0 || n > 6 || cp > GRAMMAR_MAX_CP || peek(r) != '}')
        REFUSE(r, at, ERR_FORMAT, "not a code point");
    r->i++;
    return cp;
}

static void add_named(Rx *r, SetBuild *b, char letter) {
    Comp *c = r->c;
    if (letter == 'd' || letter == 'w') grammar__set_add(c, b, '0', '9');
    if (letter == 'w') {
        grammar__set_add(c, b, 'a', 'z');
        grammar__set_add(c, b, 'A', 'Z');
        grammar__set_add(c, b, '_', '_');
    }
    if (letter == 's') {
        grammar__set_add(c, b, '\t', '\r');
        grammar__set_add(c, b, ' ', ' ');
    }
}

/* Add \d and the like to b; false if the letter is none of them. */
static bool add_class(Rx *r, SetBuild *b, char letter) {
    if (!letter || !strchr("dwsDWS", letter)) return false;
    if (letter >= 'a') {
        add_named(r, b, letter);
        return true;
    }
    SetBuild other = {0};
    add_named(r, &other, (char)(letter | 32));
    CharSet s = grammar__set_take(r->c, &other, true);
    for (uint32_t i = 0; i < s.n; i++) grammar__set_add(r->c, b, s.r[i].lo, s.r[i].hi);
    return true;
}

/* The code point of an escape that stands for one; r->i is after the backslash. */
static uint32_t escape(Rx *r, bool in_class) {
    static const char from[] = "nrtfv0", to[] = "\n\r\t\f\v";
    size_t at = r->i - 1;
    char c = peek(r);
    const char *p = c ? strchr(from, c) : NULL;
    if (r->i >= r->s.n) {
        REFUSE(r, at, ERR_FORMAT, "a backslash at the end");
        return 0;
    }
    if (c == 'b' && in_class) {
        r->i++;
        return '\b';
    }
    if (p) {
        r->i++;
        return (uint8_t)to[p - from];
    }
    if (c == 'x' || c == 'u') {
        r->i++;
        return hex_escape(r, c, at);
    }
    if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) {
        REFUSE(r, at, ERR_UNSUPPORTED, "\\%c is not supported", c);
        return 0;
    }
    return code_point(r);
}

static uint32_t one_char(Rx *r, bool in_class) {
    if (peek(r) != '\\') return code_point(r);
    r->i++;
    return escape(r, in_class);
}

static Node *class_(Rx *r) {
    SetBuild b = {0};
    size_t at = r->i++;
    bool negate = peek(r) == '^', first = true;
    r->i += negate;
    for (; more(r) && (first || peek(r) != ']'); first = false) {
        if (at_str(r, "[:")) REFUSE(r, r->i, ERR_UNSUPPORTED, "[: :] is not supported");
        if (peek(r) == '\\' && r->i + 1 < r->s.n && add_class(r, &b, r->s.p[r->i + 1])) {
            r->i += 2;
            continue;
        }
        if (first && peek(r) == ']' && !negate && r->json) break; /* [] matches nothing there */
        size_t from = r->i;
        uint32_t lo = one_char(r, true), hi = lo;
        if (peek(r) == '-' && r->i + 1 < r->s.n && r->s.p[r->i + 1] != ']') {
            r->i++;
            if (peek(r) == '\\' && r->i + 1 < r->s.n && strchr("dwsDWS", r->s.p[r->i + 1]))
                REFUSE(r, from, ERR_FORMAT, "a range ends in a class");
            hi = one_char(r, true);
        }
        if (lo > hi) REFUSE(r, from, ERR_FORMAT, "a range from high to low");
        grammar__set_add(r->c, &b, lo, hi);
    }
    if (peek(r) != ']' && r->c->st == OK) REFUSE(r, at, ERR_FORMAT, "class without an end");
    r->i++;
    return take_set(r, &b, negate);
}

static Node *alternatives(Rx *r);

static Node *group(Rx *r) {
    size_t at = r->i++;
    if (peek(r) == '?') {
        if (at_str(r, "?:")) r->i += 2;
        else if ((at_str(r, "?<") && !at_str(r, "?<=") && !at_str(r, "?<!")) || at_str(r, "?P<"))
            while (more(r) && r->s.p[r->i++] != '>') {}
        else REFUSE(r, at, ERR_UNSUPPORTED, "look-around and flags are not supported");
    }
    if (++r->depth > r->c->lim.depth)
        REFUSE(r, at, ERR_FULL, "groups nested deeper than %d", r->c->lim.depth);
    Node *k = r->c->st == OK ? alternatives(r) : grammar__empty(r->c);
    r->depth--;
    if (peek(r) != ')' || r->i >= r->s.n) REFUSE(r, at, ERR_FORMAT, "group without an end");
    r->i++;
    return k;
}

static Node *atom(Rx *r) {
    SetBuild b = {0};
    size_t at = r->i;
    char c = peek(r);
    if (c == '(') return group(r);
    if (c == '[') return class_(r);
    if (c == '.') {
        r->i++;
        return any_char(r, false);
    }
    if (c == '*' || c == '+' || c == '?' || (c == '{' && !r->json)) {
        REFUSE(r, at, ERR_FORMAT, "nothing to repeat before %c", c);
        return grammar__empty(r->c);
    }
    if (c == '^' || c == '$') {
        REFUSE(r, at, ERR_UNSUPPORTED, "%c is supported at the ends of the pattern only", c);
        return grammar__empty(r->c);
    }
    if (c == '\\' && r->i + 1 < r->s.n && add_class(r, &b, r->s.p[r->i + 1])) {
        r->i += 2;
        return take_set(r, &b, false);
    }
    uint32_t cp = one_char(r, false);
    if (cp >= 0xd800 && cp <= 0xdfff) REFUSE(r, at, ERR_FORMAT, "half of a surrogate pair");
    grammar__set_add(r->c, &b, cp, cp);
    return take_set(r, &b, false);
}

static int64_t number(Rx *r) {
    int64_t v = 0;
    size_t at = r->i;
    for (; peek(r) >= '0' && peek(r) <= '9'; r->i++)
        if (v < 1000000000) v = v * 10 + (peek(r) - '0');
    return r->i == at ? -1 : v;
}

/* {m}, {m,}, {m,n}; false and nothing taken where it is not one. */
static bool braces(Rx *r, int64_t *min, int64_t *max) {
    size_t at = r->i++;
    *min = *max = number(r);
    if (*min >= 0 && peek(r) == ',') {
        r->i++;
        *max = number(r);
    }
    if (*min >= 0 && peek(r) == '}') {
        r->i++;
        return true;
    }
    r->i = at;
    return false;
}

static Node *repeated(Rx *r) {
    Node *k = atom(r);
    while (more(r)) {
        int64_t min = 0, max = GRAMMAR_INF;
        size_t at = r->i;
        char c = peek(r);
        if (c == '{') {
            if (!braces(r, &min, &max)) {
                REFUSE(r, at, ERR_FORMAT, "not a repetition; write \\{ for the character");
                break;
            }
        } else if (c == '*' || c == '+' || c == '?') {
            r->i++;
            min = c == '+';
            max = c == '?' ? 1 : GRAMMAR_INF;
        } else {
            break;
        }
        if (max != GRAMMAR_INF && min > max) REFUSE(r, at, ERR_FORMAT, "repeated from high to low");
        if (peek(r) == '?' || peek(r) == '+') r->i++;
        k = grammar__repeat(r->c, k, min, max, here(r, at));
    }
    return k;
}

static Node *sequence(Rx *r) {
    NodeList parts = {0};
    bool top = r->depth == 0, start = true, end = true;
    if (top && peek(r) == '^') r->i++;
    else start = false;
    while (more(r) && peek(r) != '|' && peek(r) != ')') {
        if (top && peek(r) == '$' && (r->i + 1 == r->s.n || r->s.p[r->i + 1] == '|')) break;
        grammar__push(r->c, &parts, repeated(r));
    }
    if (top && peek(r) == '$' && r->i < r->s.n) r->i++;
    else end = false;
    Node *k = grammar__seq(r->c, parts.v, parts.n);
    mem_free(parts.v);
    if (!r->search || !top || (start && end)) return k;
    Node *any = grammar__repeat(r->c, any_char(r, true), 0, GRAMMAR_INF, NULL);
    Node *all[3] = {start ? grammar__empty(r->c) : any, k, end ? grammar__empty(r->c) : any};
    return grammar__seq(r->c, all, 3);
}

static Node *alternatives(Rx *r) {
    NodeList alts = {0};
    grammar__push(r->c, &alts, sequence(r));
    while (more(r) && peek(r) == '|') {
        r->i++;
        grammar__push(r->c, &alts, sequence(r));
    }
    Node *k = grammar__alt(r->c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

Node *grammar__regex(Comp *c, Slice pattern, const Where *up, bool json, bool search) {
    Rx r = {.c = c, .s = pattern, .up = up, .json = json, .search = search};
    Node *k = alternatives(&r);
    if (c->st == OK && r.i < r.s.n) REFUSE(&r, r.i, ERR_FORMAT, "a ) without its (");
    return k;
}

/* ---- the whole ---- */

static Status too_long(Comp *c, size_t n) {
    if (n <= c->lim.source_bytes) return OK;
    return c->st = err_set(c->e, ERR_FULL, "1:1: %zu bytes, limit %zu", n, c->lim.source_bytes);
}

Status grammar_from_regex(Grammar **out, Slice pattern, const GrammarLimits *limits, Err *e) {
    Comp c;
    grammar__comp_init(&c, limits, pattern.n ? pattern : slice_of(""), e);
    if (too_long(&c, pattern.n) == OK) {
        uint32_t root = grammar__rule(&c, slice_of("root"), NULL);
        Node *k = grammar__regex(&c, c.text, NULL, false, false);
        if (!grammar__failed(&c)) c.rules[root].body = k;
    }
    return grammar__finish(out, &c);
}

Status grammar_from_choices(Grammar **out, const Slice *choices, size_t n,
                            const GrammarLimits *limits, Err *e) {
    Comp c;
    size_t total = n;
    grammar__comp_init(&c, limits, slice_of(""), e);
    for (size_t i = 0; i < n && total <= c.lim.source_bytes; i++) {
        total += choices[i].n;
        Where w = {.at = 0};
        if (!utf8_valid(choices[i]))
            grammar__fail(&c, &w, ERR_FORMAT, "choice %zu is not UTF-8", i);
    }
    if (c.st == OK) too_long(&c, total);
    uint32_t root = grammar__rule(&c, slice_of("root"), NULL);
    Node *k = grammar__words(&c, choices, n);
    if (!grammar__failed(&c)) c.rules[root].body = k;
    return grammar__finish(out, &c);
}
