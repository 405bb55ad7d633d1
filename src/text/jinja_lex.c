/* SPDX-License-Identifier: Apache-2.0
 *
 * Templates as tokens. Text between tags is trimmed here, as trim_blocks and lstrip_blocks have it: a newline behind
 * a block or a comment goes, blanks between the start of a line and a block go; "-" takes all white space of that
 * side, "+" keeps it. A newline at the end of a source goes, and every kind of line end is one "\n".
 */
#include "text/jinja_internal.h"
#include "text/utf8.h"

typedef struct Lexer {
    Slice s;
    size_t at;
    bool line_start; /* the last tag ended with its line */
    int open;        /* brackets within a tag */
    char shut[JINJA_MAX_NEST];
    JToks *out;
    Arena *mem;
    /* place up to which lines were counted */
    size_t counted, line_at;
    uint32_t line;
    Err *e;
} Lexer;

static void place(Lexer *x, size_t at, uint32_t *line, uint32_t *col) {
    for (; x->counted < at; x->counted++) {
        if (x->s.p[x->counted] != '\n') continue;
        x->line++;
        x->line_at = x->counted + 1;
    }
    *line = x->line;
    *col = (uint32_t)(at - x->line_at + 1);
}

static Status bad(Lexer *x, size_t at, const char *what) {
    uint32_t line, col;
    place(x, at, &line, &col);
    return err_set(x->e, ERR_FORMAT, "line %u, column %u: %s", line, col, what);
}

static Status put(Lexer *x, JTok t, size_t at) {
    JToks *o = x->out;
    if (o->n == o->cap) {
        size_t cap = o->cap ? 2 * o->cap : 64;
        JTok *v = arena_new_n(x->mem, JTok, cap);
        if (!v) return err_set(x->e, ERR_NOMEM, "template");
        if (o->n) memcpy(v, o->v, o->n * sizeof *v);
        o->v = v;
        o->cap = cap;
    }
    place(x, at, &t.line, &t.col);
    o->v[o->n++] = t;
    return OK;
}

static Status put_text(Lexer *x, size_t a, size_t b) {
    return a < b ? put(x, (JTok){.kind = JT_TEXT, .s = {x->s.p + a, b - a}}, a) : OK;
}

static bool has_at(const Lexer *x, size_t at, const char *s) {
    size_t n = strlen(s);
    return at + n <= x->s.n && memcmp(x->s.p + at, s, n) == 0;
}

static size_t skip_space(const Lexer *x, size_t at) {
    Slice rest = {x->s.p + at, x->s.n - at};
    return x->s.n - jinja__strip(rest, true, false).n;
}

/* ---- text between tags ---- */

/* Where text from `from` to the tag at `tag` ends, by the tag's sign and kind. */
static size_t text_end(const Lexer *x, size_t from, size_t tag, bool is_var) {
    char sign = tag + 2 < x->s.n ? x->s.p[tag + 2] : 0;
    Slice text = {x->s.p + from, tag - from};
    if (sign == '-') return from + jinja__strip(text, false, true).n;
    if (sign == '+' || is_var) return tag;
    size_t nl = tag;
    while (nl > from && x->s.p[nl - 1] != '\n') nl--;
    if (nl == from && !x->line_start) return tag;
    return skip_space(x, nl) >= tag ? nl : tag;
}

/* Behind the closing tag at `at` that a sign may stand before. */
static size_t behind_close(Lexer *x, size_t at, bool trim) {
    char sign = x->s.p[at];
    if (sign == '-') at = skip_space(x, at + 3);
    else if (sign == '+') at += 3;
    else {
        at += 2;
        if (trim && at < x->s.n && x->s.p[at] == '\n') at++;
    }
    x->line_start = at > 0 && x->s.p[at - 1] == '\n';
    return at;
}

static size_t find_tag(const Lexer *x, size_t at) {
    for (; at + 1 < x->s.n; at++)
        if (x->s.p[at] == '{' && strchr("{%#", x->s.p[at + 1]) && x->s.p[at + 1]) return at;
    return x->s.n;
}

static Status comment(Lexer *x, size_t tag) {
    size_t at = tag + 2;
    while (at + 1 < x->s.n && !has_at(x, at, "#}")) at++;
    if (at + 1 >= x->s.n) return bad(x, tag, "a comment without its #}");
    if (at > tag + 2 && (x->s.p[at - 1] == '-' || x->s.p[at - 1] == '+')) at--;
    x->at = behind_close(x, at, true);
    return OK;
}

/* Position behind "{%- word" and white space, or 0. */
static size_t block_word(const Lexer *x, size_t tag, const char *word) {
    size_t at = tag + 2;
    if (!has_at(x, tag, "{%")) return 0;
    if (at < x->s.n && (x->s.p[at] == '-' || x->s.p[at] == '+')) at++;
    at = skip_space(x, at);
    if (!has_at(x, at, word)) return 0;
    return skip_space(x, at + strlen(word));
}

static bool is_close(const Lexer *x, size_t at) {
    return has_at(x, at, "%}") || has_at(x, at, "-%}") || has_at(x, at, "+%}");
}

/* The text of {% raw %}, whose tag ends at `at`. */
static Status raw(Lexer *x, size_t tag, size_t at) {
    size_t from = behind_close(x, at, false), end = from, close = 0;
    for (; end < x->s.n; end++) {
        close = block_word(x, end, "endraw");
        if (close && is_close(x, close)) break;
    }
    if (end >= x->s.n) return bad(x, tag, "raw without its endraw");
    TRY(put_text(x, from, text_end(x, from, end, false)));
    x->at = behind_close(x, close, true);
    return OK;
}

/* ---- words within a tag ---- */

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n digits of a \x escape; a code point that is none becomes U+FFFD. False where digits are missing. */
static bool put_hex(StrBuf *b, const char *p, size_t left, size_t n) {
    uint32_t cp = 0;
    char u[4];
    if (left < n) return false;
    for (size_t i = 0; i < n; i++) {
        int v = hex_value(p[i]);
        if (v < 0) return false;
        cp = cp << 4 | (uint32_t)v;
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) cp = 0xfffd;
    sb_put(b, u, (size_t)utf8_encode(u, cp));
    return true;
}

static size_t put_octal(StrBuf *b, const char *p, size_t left) {
    uint32_t cp = 0;
    size_t i = 0;
    char u[4];
    for (; i < 3 && i < left && p[i] >= '0' && p[i] <= '7'; i++)
        cp = cp * 8 + (uint32_t)(p[i] - '0');
    sb_put(b, u, (size_t)utf8_encode(u, cp));
    return i;
}

/* One escape behind its backslash; the bytes it takes, or 0 where it is broken. */
static size_t escape(StrBuf *b, const char *p, size_t left) {
    static const char from[] = "ntrabfv\\'\"", to[] = "\n\t\r\a\b\f\v\\'\"";
    const char *k = *p ? strchr(from, *p) : NULL;
    if (k) {
        sb_putc(b, to[k - from]);
        return 1;
    }
    size_t digits = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    if (digits) return put_hex(b, p + 1, left - 1, digits) ? digits + 1 : 0;
    if (*p >= '0' && *p <= '7') return put_octal(b, p, left);
    if (*p == '\n') return 1;
    sb_putc(b, '\\');
    sb_putc(b, *p);
    return 1;
}

static Status string(Lexer *x) {
    size_t from = x->at;
    char quote = x->s.p[x->at++];
    StrBuf b = {0};
    while (x->at < x->s.n && x->s.p[x->at] != quote) {
        char c = x->s.p[x->at++];
        size_t left = x->s.n - x->at;
        size_t took = 0;
        if (c != '\\') sb_putc(&b, c);
        else if (left == 0 || (took = escape(&b, x->s.p + x->at, left)) == 0) {
            sb_deinit(&b);
            return bad(x, x->at - 1, "a broken escape in a string");
        }
        x->at += took;
    }
    char *text = b.failed ? NULL : arena_dup(x->mem, sb_str(&b), b.n);
    Slice s = {text, b.n};
    sb_deinit(&b);
    if (x->at >= x->s.n) return bad(x, from, "a string without its end");
    if (!text) return err_set(x->e, ERR_NOMEM, "template");
    x->at++;
    return put(x, (JTok){.kind = JT_STR, .s = s}, from);
}

/* Digits and single underscores between them. */
static size_t digits(const Lexer *x, size_t at) {
    while (at < x->s.n && (is_digit(x->s.p[at]) ||
                           (x->s.p[at] == '_' && at + 1 < x->s.n && is_digit(x->s.p[at + 1]))))
        at++;
    return at;
}

/* Where the number's fraction and exponent end, or `at` if it has none. */
static size_t real_end(const Lexer *x, size_t at) {
    const char *p = x->s.p;
    size_t n = x->s.n, end = at;
    if (at + 1 < n && p[at] == '.' && is_digit(p[at + 1])) end = digits(x, at + 1);
    if (end < n && (p[end] | 0x20) == 'e') {
        size_t k = end + 1;
        if (k < n && (p[k] == '+' || p[k] == '-')) k++;
        if (k < n && is_digit(p[k])) end = digits(x, k);
    }
    return end;
}

static Status based(Lexer *x, int base) {
    size_t from = x->at;
    int64_t v = 0;
    for (x->at += 2; x->at < x->s.n; x->at++) {
        int d = x->s.p[x->at] == '_' ? -2 : hex_value(x->s.p[x->at]);
        if (d == -2) continue;
        if (d < 0 || d >= base) break;
        if (v > (INT64_MAX - d) / base) return bad(x, from, "an integer over 64 bits");
        v = v * base + d;
    }
    return put(x, (JTok){.kind = JT_INT, .i = v}, from);
}

static Status number(Lexer *x) {
    char text[64];
    size_t from = x->at, end = digits(x, from), real = real_end(x, end), n = 0;
    char second = from + 1 < x->s.n ? (char)(x->s.p[from + 1] | 0x20) : 0;
    int base = x->s.p[from] != '0' ? 0
               : second == 'x'     ? 16
               : second == 'o'     ? 8
               : second == 'b'     ? 2
                                   : 0;
    if (base) return based(x, base);
    for (size_t i = from; i < real && n + 1 < sizeof text; i++)
        if (x->s.p[i] != '_') text[n++] = x->s.p[i];
    text[n] = 0;
    if (n + 1 == sizeof text) return bad(x, from, "a number of more than 62 digits");
    JTok t = {.kind = real > end ? JT_REAL : JT_INT};
    x->at = real;
    bool ok = t.kind == JT_REAL ? str_to_f64(&t.d, text) : str_to_i64(&t.i, text);
    return ok ? put(x, t, from) : bad(x, from, "a number out of range");
}

static Status word(Lexer *x) {
    size_t from = x->at;
    while (x->at < x->s.n && (is_word(x->s.p[x->at]) || is_digit(x->s.p[x->at]))) x->at++;
    if (x->at - from > JINJA_MAX_NAME) return bad(x, from, "a name of more than 256 bytes");
    return put(x, (JTok){.kind = JT_NAME, .s = {x->s.p + from, x->at - from}}, from);
}

static Status bracket(Lexer *x, char c) {
    static const char open[] = "([{", shut[] = ")]}";
    const char *k = strchr(open, c);
    if (k) {
        if (x->open == JINJA_MAX_NEST) return bad(x, x->at, "brackets nested too deep");
        x->shut[x->open++] = shut[k - open];
    } else if (strchr(shut, c)) {
        if (x->open == 0 || x->shut[x->open - 1] != c)
            return bad(x, x->at, "a bracket that closes nothing");
        x->open--;
    }
    return OK;
}

static Status operator(Lexer *x) {
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    static const char one[] = "+-/*%~[](){}><=.:|,;";
    size_t from = x->at, n = 0;
    for (size_t i = 0; i < COUNT_OF(two); i++)
        if (has_at(x, from, two[i])) n = 2;
    if (n == 0 && x->s.p[from] && strchr(one, x->s.p[from])) n = 1;
    if (n == 0) return bad(x, from, "a character that means nothing here");
    if (n == 1) TRY(bracket(x, x->s.p[from]));
    x->at += n;
    return put(x, (JTok){.kind = JT_OP, .s = {x->s.p + from, n}}, from);
}

/* Tokens of a tag up to its end. */
static Status inside(Lexer *x, size_t tag, bool is_var) {
    x->open = 0;
    for (;;) {
        x->at = skip_space(x, x->at);
        if (x->at >= x->s.n) return bad(x, tag, "a tag without its end");
        size_t at = x->at;
        bool end = is_var ? has_at(x, at, "}}") || has_at(x, at, "-}}") : is_close(x, at);
        if (end && x->open == 0) {
            x->at = behind_close(x, at, !is_var);
            return put(x, (JTok){.kind = is_var ? JT_VAR_END : JT_BLOCK_END}, at);
        }
        char c = x->s.p[at];
        if (is_digit(c)) TRY(number(x));
        else if (is_word(c)) TRY(word(x));
        else if (c == '"' || c == '\'') TRY(string(x));
        else TRY(operator(x));
    }
}

/* Text, then the tag that ends it. */
static Status step(Lexer *x) {
    size_t from = x->at, tag = find_tag(x, from);
    if (tag == x->s.n) {
        x->at = tag;
        return put_text(x, from, tag);
    }
    char c = x->s.p[tag + 1];
    TRY(put_text(x, from, text_end(x, from, tag, c == '{')));
    if (c == '#') return comment(x, tag);
    size_t close = block_word(x, tag, "raw");
    if (close && (has_at(x, close, "%}") || has_at(x, close, "-%}"))) return raw(x, tag, close);
    x->at = tag + 2;
    if (x->at < x->s.n && (x->s.p[x->at] == '-' || x->s.p[x->at] == '+')) x->at++;
    TRY(put(x, (JTok){.kind = c == '{' ? JT_VAR_BEGIN : JT_BLOCK_BEGIN}, tag));
    return inside(x, tag, c == '{');
}

/* Line ends as "\n", the last one gone. */
static Slice normal(char *p, size_t n) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n') continue;
        p[k++] = p[i] == '\r' ? '\n' : p[i];
    }
    if (k > 0 && p[k - 1] == '\n') k--;
    return (Slice){p, k};
}

Status jinja__lex(JToks *out, Arena *mem, Slice source, Err *e) {
    if (source.n > JINJA_MAX_SOURCE)
        return err_set(e, ERR_FORMAT, "a template of %zu bytes, the limit is %d", source.n,
                       (int)JINJA_MAX_SOURCE);
    size_t good = utf8_valid_prefix(source);
    if (good < source.n)
        return err_set(e, ERR_FORMAT, "the template is not UTF-8 at byte %zu", good);
    char *copy = arena_dup(mem, source.n ? source.p : "", source.n);
    if (!copy) return err_set(e, ERR_NOMEM, "template");
    Lexer x = {
        .s = normal(copy, source.n), .line_start = true, .out = out, .mem = mem, .line = 1, .e = e};
    while (x.at < x.s.n) TRY(step(&x));
    return put(&x, (JTok){.kind = JT_END}, x.s.n);
}
