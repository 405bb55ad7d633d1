/* SPDX-License-Identifier: Apache-2.0
 *
 * Texts with places in them: "%5.2f" % x and "{:>8,}".format(x). Both ways of saying how a value is to look become one
 * Spec; what a number looks like under it is Python's, not printf's (a negative number in base 16 has a sign).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja_internal.h"
#include "text/utf8.h"

enum { MOST = 4096, MOST_DIGITS = 100 }; /* of width, of precision */

typedef struct Spec {
    Slice fill;
    char align; /* < > ^ =, 0: as usual for the kind of value */
    char sign;  /* + or blank: written before positive numbers */
    bool alt, zero;
    int64_t width, precision; /* precision -1: none */
    char group;               /* , or _ between thousands */
    char type;                /* 0: none given */
} Spec;

static Status unknown(JRun *r) {
    return jinja__fail(r, "a place in a format that is not known here");
}

/* ---- numbers ---- */

static void put_fill(StrBuf *b, Slice fill, int64_t n) {
    for (; n > 0; n--) sb_put(b, fill.p, fill.n);
}

/* head (sign and prefix), then digits, in the width; '=' fills between them. */
static void put_aligned(StrBuf *b, const Spec *sp, Slice head, Slice body, char usual) {
    char align = sp->align ? sp->align : sp->zero ? '=' : usual;
    Slice fill = sp->fill.n ? sp->fill : slice_of(sp->zero ? "0" : " ");
    int64_t need = MAX(0, sp->width - (int64_t)(jinja__n_cp(head) + jinja__n_cp(body)));
    int64_t left = align == '>' ? need : align == '^' ? need / 2 : 0;
    put_fill(b, fill, left);
    sb_put(b, head.p, head.n);
    if (align == '=') put_fill(b, fill, need);
    sb_put(b, body.p, body.n);
    if (align == '<' || align == '^') put_fill(b, fill, need - left);
}

/* Digits with a separator between groups of n. */
static void group_digits(StrBuf *b, Slice digits, char by, size_t n) {
    for (size_t i = 0; i < digits.n; i++) {
        if (i && (digits.n - i) % n == 0) sb_putc(b, by);
        sb_putc(b, digits.p[i]);
    }
}

static void put_sign(StrBuf *head, const Spec *sp, bool negative) {
    if (negative) sb_putc(head, '-');
    else if (sp->sign) sb_putc(head, sp->sign);
}

/* The digits of v in a base, at least `least` of them. */
static void put_digits(StrBuf *b, uint64_t v, unsigned base, bool upper, int64_t least) {
    const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char text[72];
    size_t n = sizeof text;
    do text[--n] = set[v % base];
    while ((v /= base) != 0);
    for (int64_t i = (int64_t)(sizeof text - n); i < least; i++) sb_putc(b, '0');
    sb_put(b, text + n, sizeof text - n);
}

static Status put_int(JRun *r, StrBuf *b, const Spec *sp, int64_t v) {
    StrBuf head = {0}, digits = {0}, body = {0};
    char t = sp->type ? sp->type : 'd';
    unsigned base = t == 'b' ? 2 : t == 'o' ? 8 : t == 'x' || t == 'X' ? 16 : 10;
    if (sp->group == ',' && base != 10) return unknown(r);
    put_sign(&head, sp, v < 0);
    if (sp->alt && base != 10) sb_printf(&head, "0%c", t);
    put_digits(&digits, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, base, t == 'X', sp->precision);
    Slice d = {sb_str(&digits), digits.n};
    if (sp->group) group_digits(&body, d, sp->group, base == 10 ? 3 : 4);
    else sb_put(&body, d.p, d.n);
    put_aligned(b, sp, (Slice){sb_str(&head), head.n}, (Slice){sb_str(&body), body.n}, '>');
    b->failed |= head.failed || digits.failed || body.failed;
    sb_deinit(&head);
    sb_deinit(&digits);
    sb_deinit(&body);
    return OK;
}

/* Zeros at the end of a fraction go, `keep` of them stay. */
static void strip_zeros(StrBuf *b, size_t keep) {
    char *dot = b->p ? memchr(b->p, '.', b->n) : NULL;
    if (!dot) return;
    char *exp = memchr(dot, 'e', b->n - (size_t)(dot - b->p));
    char *end = exp ? exp : b->p + b->n, *cut = end;
    while (cut > dot + 1 + keep && cut[-1] == '0') cut--;
    if (cut == dot + 1) cut = dot;
    size_t tail = (size_t)(b->p + b->n - end);
    memmove(cut, end, tail + 1);
    b->n = (size_t)(cut - b->p) + tail;
}

/* No type but a precision: so many digits, as "g" has them, and always a point. */
static void put_plain_real(StrBuf *b, double x, int precision) {
    char text[200];
    int p = MAX(1, precision);
    snprintf(text, sizeof text, "%.*e", p - 1, x);
    const char *e = strchr(text, 'e');
    int exp = e ? (int)strtol(e + 1, NULL, 10) : 0;
    if (exp < -4 || exp + 1 > p - 1) {
        sb_puts(b, text);
        strip_zeros(b, 0);
    } else {
        sb_printf(b, "%.*f", MAX(1, p - 1 - exp), x);
        strip_zeros(b, 1);
    }
}

/* The digits of a number that is not negative. */
static void put_magnitude(StrBuf *b, const Spec *sp, double x) {
    int p = sp->precision < 0 ? 6 : (int)sp->precision;
    if (!isfinite(x)) {
        bool upper = sp->type && strchr("EFG", sp->type);
        sb_puts(b, isnan(x) ? (upper ? "NAN" : "nan") : upper ? "INF" : "inf");
        return;
    }
    switch (sp->type) {
    case 'e': sb_printf(b, sp->alt ? "%#.*e" : "%.*e", p, x); break;
    case 'E': sb_printf(b, sp->alt ? "%#.*E" : "%.*E", p, x); break;
    case 'f':
    case 'F': sb_printf(b, sp->alt ? "%#.*f" : "%.*f", p, x); break;
    case 'g':
    case 'n': sb_printf(b, sp->alt ? "%#.*g" : "%.*g", p, x); break;
    case 'G': sb_printf(b, sp->alt ? "%#.*G" : "%.*G", p, x); break;
    case '%': sb_printf(b, "%.*f%%", p, x * 100); break;
    default:
        if (sp->precision < 0) jinja__put_real(b, x);
        else put_plain_real(b, x, p);
    }
}

static Status put_real(StrBuf *b, const Spec *sp, double x) {
    StrBuf head = {0}, text = {0}, body = {0};
    size_t whole = 0;
    put_sign(&head, sp, signbit(x) && !isnan(x));
    put_magnitude(&text, sp, fabs(x));
    const char *p = sb_str(&text);
    while (sp->group && whole < text.n && p[whole] >= '0' && p[whole] <= '9') whole++;
    group_digits(&body, (Slice){p, whole}, sp->group, 3);
    sb_put(&body, p + whole, text.n - whole);
    put_aligned(b, sp, (Slice){sb_str(&head), head.n}, (Slice){sb_str(&body), body.n}, '>');
    b->failed |= head.failed || text.failed || body.failed;
    sb_deinit(&head);
    sb_deinit(&text);
    sb_deinit(&body);
    return OK;
}

static Status put_text(JRun *r, StrBuf *b, const Spec *sp, Slice s, char usual) {
    if (sp->precision >= 0) s.n = jinja__cp_at(s, (size_t)sp->precision);
    Spec plain = *sp;
    if (!plain.align) plain.align = usual;
    put_aligned(b, &plain, (Slice){"", 0}, s, usual);
    return jinja__step(r, s.n / 64 + (size_t)sp->width / 16);
}

/* Text in the making counts as memory of the render. */
static Status check_room(JRun *r, const StrBuf *b) {
    return b->n <= jinja__room(r) ? OK : jinja__fail(r, "a text too long");
}

/* ---- % ---- */

/* Where reading a format stands. */
typedef struct Percent {
    Slice fmt;
    size_t i;
    const JVal *v; /* the values, one after another */
    size_t n, k;
    const JDict *named;
    bool safe;
} Percent;

static Status next_value(JRun *r, JVal *out, Percent *p) {
    if (p->k == p->n) return jinja__fail(r, "not enough values for a format");
    *out = p->v[p->k++];
    return OK;
}

/* A width or a precision: digits, or * for the next value. */
static Status read_size(JRun *r, int64_t *out, Percent *p) {
    if (p->i < p->fmt.n && p->fmt.p[p->i] == '*') {
        JVal v = {0};
        p->i++;
        TRY(next_value(r, &v, p));
        if (v.kind != JV_INT) return jinja__fail(r, "* in a format wants int");
        *out = v.i;
    } else {
        *out = 0;
        for (; p->i < p->fmt.n && p->fmt.p[p->i] >= '0' && p->fmt.p[p->i] <= '9'; p->i++)
            *out = MIN(*out * 10 + (p->fmt.p[p->i] - '0'), (int64_t)MOST + 1);
    }
    return OK;
}

/* (name) behind a '%': the value of it. */
static Status read_key(JRun *r, Percent *p, JVal *v, bool *found) {
    size_t from = p->i + 1;
    *found = p->i < p->fmt.n && p->fmt.p[p->i] == '(';
    if (!*found) return OK;
    const char *end = memchr(p->fmt.p + p->i, ')', p->fmt.n - p->i);
    if (!end || !p->named) return jinja__fail(r, "a format with names wants a dict");
    Slice key = {p->fmt.p + from, (size_t)(end - p->fmt.p) - from};
    JVal *got = jinja__find_str(p->named, key);
    if (!got) return jinja__fail(r, "no value for %%(%.*s)", (int)MIN(key.n, 40), key.p);
    *v = *got;
    p->i = from + key.n + 1;
    return jinja__step(r, p->named->n / 8);
}

static Status read_percent(JRun *r, Spec *sp, Percent *p) {
    *sp = (Spec){.precision = -1};
    for (; p->i < p->fmt.n && p->fmt.p[p->i] && strchr("-0+ #", p->fmt.p[p->i]); p->i++) {
        char c = p->fmt.p[p->i];
        if (c == '-') sp->align = '<';
        sp->zero |= c == '0';
        sp->alt |= c == '#';
        if (c == '+' || (c == ' ' && !sp->sign)) sp->sign = c;
    }
    TRY(read_size(r, &sp->width, p));
    if (sp->width < 0) {
        sp->align = '<';
        sp->width = sp->width < -MOST ? MOST + 1 : -sp->width;
    }
    if (p->i < p->fmt.n && p->fmt.p[p->i] == '.') {
        p->i++;
        TRY(read_size(r, &sp->precision, p));
        sp->precision = MAX(0, sp->precision);
    }
    if (p->i < p->fmt.n && strchr("hlL", p->fmt.p[p->i]) && p->fmt.p[p->i]) p->i++;
    if (p->i == p->fmt.n || sp->width > MOST || sp->precision > MOST_DIGITS) return unknown(r);
    sp->type = p->fmt.p[p->i++];
    return OK;
}

static Status put_whole(JRun *r, StrBuf *b, Spec *sp, JVal v) {
    bool any = strchr("diu", sp->type) != NULL;
    if (!jinja__is_num(v) || (v.kind == JV_REAL && !any))
        return jinja__fail(r, "%%%c wants an integer, not %s", sp->type, jinja__type(v));
    if (v.kind == JV_REAL && !(v.d > -9e18 && v.d < 9e18))
        return jinja__fail(r, "a number out of range for %%%c", sp->type);
    if (any) sp->type = 'd';
    return put_int(r, b, sp, v.kind == JV_REAL ? (int64_t)v.d : v.kind == JV_BOOL ? v.b : v.i);
}

/* What %c takes: a text of one character, or the number of one. */
static Status one_character(JRun *r, JVal *v) {
    int64_t cp = v->kind == JV_INT ? v->i : v->kind == JV_BOOL ? v->b : -1;
    char u[4];
    if (v->kind == JV_STR && jinja__n_cp(v->s) == 1) return OK;
    if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
        return jinja__fail(r, "%%c wants one character");
    return jinja__copy(r, v, (Slice){u, (size_t)utf8_encode(u, (uint32_t)cp)});
}

/* A text, or for %c one character. */
static Status put_words(JRun *r, StrBuf *b, Spec *sp, JVal v, bool safe) {
    StrBuf t = {0};
    JVal text = {0};
    if (sp->type == 'c') TRY(one_character(r, &v));
    Status st = sp->type == 'r' ? jinja__put_repr(r, &t, v, 1) : jinja__put_str(r, &t, v);
    if (st != OK) sb_deinit(&t);
    TRY(st);
    TRY(jinja__take(r, &text, &t));
    if (safe && !(v.kind == JV_STR && v.safe)) TRY(jinja__escape(r, &text, text));
    sp->zero = false;
    return put_text(r, b, sp, text.s, '>');
}

static Status put_percent(JRun *r, StrBuf *b, Percent *p) {
    Spec sp;
    JVal v = {0};
    bool named;
    TRY(read_key(r, p, &v, &named));
    TRY(read_percent(r, &sp, p));
    if (sp.type == '%') {
        sb_putc(b, '%');
        return OK;
    }
    if (!sp.type || !strchr("srcdiuxXoeEfFgG", sp.type)) return unknown(r);
    if (!named) TRY(next_value(r, &v, p));
    if (strchr("src", sp.type)) return put_words(r, b, &sp, v, p->safe);
    if (strchr("diuxXo", sp.type)) return put_whole(r, b, &sp, v);
    if (!jinja__is_num(v))
        return jinja__fail(r, "%%%c wants a number, not %s", sp.type, jinja__type(v));
    return put_real(b, &sp, jinja__num(v));
}

static Status percent(JRun *r, StrBuf *b, Percent *p, bool all_used) {
    while (p->i < p->fmt.n) {
        char c = p->fmt.p[p->i++];
        if (c != '%') sb_putc(b, c);
        else TRY(put_percent(r, b, p));
        TRY(check_room(r, b));
    }
    return p->k == p->n || !all_used ? OK : jinja__fail(r, "more values than places in a format");
}

Status jinja__percent(JRun *r, JVal *out, JVal fmt, JVal args) {
    bool many = jinja__is_tuple(args);
    bool boxed = args.kind == JV_DICT || (args.kind == JV_LIST && !many);
    StrBuf b = {0};
    Percent p = {.fmt = fmt.s,
                 .v = many ? args.list->v : &args,
                 .n = many ? args.list->n : 1,
                 .named = args.kind == JV_DICT ? args.dict : NULL,
                 .safe = fmt.safe};
    TRY(jinja__step(r, fmt.s.n / 16));
    Status st = percent(r, &b, &p, !boxed);
    if (st == OK) st = jinja__take(r, out, &b);
    else sb_deinit(&b);
    if (st == OK) out->safe = fmt.safe;
    return st;
}

/* ---- format() ---- */

/* Which value the next {} takes: 0 and up, or -1 once a number was written out. */
typedef struct Places {
    const JArgs *a;
    int64_t next;
} Places;

static Status find_value(JRun *r, JVal *out, Slice name, Places *p) {
    int64_t i = 0;
    size_t k = 0;
    for (; k < name.n && name.p[k] >= '0' && name.p[k] <= '9'; k++)
        i = MIN(i * 10 + (name.p[k] - '0'), INT32_MAX);
    bool numbered = k == name.n && name.n > 0;
    if (name.n == 0 && p->next < 0) return jinja__fail(r, "{} behind {0} in a format");
    if (numbered && p->next > 0) return jinja__fail(r, "{0} behind {} in a format");
    if (name.n == 0) i = p->next++;
    if (numbered) p->next = -1;
    if (name.n == 0 || numbered) {
        if ((size_t)i >= p->a->n) return jinja__fail(r, "format() has no value %lld", (long long)i);
        *out = p->a->v[i];
        return OK;
    }
    for (size_t n = 0; n < p->a->n_kw; n++) {
        if (!slice_eq(p->a->name[n], name)) continue;
        *out = p->a->kw[n];
        return jinja__step(r, n / 8);
    }
    return jinja__fail(r, "format() has no value for {%.*s}", (int)MIN(name.n, 40), name.p);
}

/* .name and [key] behind the name of a value. */
static Status find_member(JRun *r, JVal *v, Slice s) {
    while (s.n > 0) {
        bool dot = s.p[0] == '.';
        size_t n = 1;
        while (n < s.n && (dot ? s.p[n] != '.' && s.p[n] != '[' : s.p[n] != ']')) n++;
        Slice key = {s.p + 1, n - 1};
        if (key.n == 0 || (!dot && n == s.n)) return unknown(r);
        if (dot) TRY(jinja__attr(r, v, *v, key));
        else TRY(jinja__path(r, v, *v, jinja__slice(key)));
        n += !dot;
        s = (Slice){s.p + n, s.n - n};
        if (s.n && s.p[0] != '.' && s.p[0] != '[') return unknown(r);
    }
    return OK;
}

static bool is_align(char c) { return c == '<' || c == '>' || c == '^' || c == '='; }

static int64_t read_number(Slice s, size_t *i) {
    int64_t v = 0;
    for (; *i < s.n && s.p[*i] >= '0' && s.p[*i] <= '9'; ++*i)
        v = MIN(v * 10 + (s.p[*i] - '0'), (int64_t)MOST + 1);
    return v;
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static Status read_spec(JRun *r, Spec *sp, Slice s) {
    size_t i = 0, first = jinja__cp_at(s, 1);
    *sp = (Spec){.precision = -1};
    if (first < s.n && is_align(s.p[first])) {
        sp->fill = (Slice){s.p, first};
        i = first;
    }
    if (i < s.n && is_align(s.p[i])) sp->align = s.p[i++];
    if (i < s.n && strchr("+- ", s.p[i]) && s.p[i]) sp->sign = s.p[i++];
    if (sp->sign == '-') sp->sign = 0;
    if (i < s.n && s.p[i] == '#') sp->alt = s.p[i++];
    if (i < s.n && s.p[i] == '0') sp->zero = s.p[i++];
    sp->width = read_number(s, &i);
    if (i < s.n && (s.p[i] == ',' || s.p[i] == '_')) sp->group = s.p[i++];
    if (i < s.n && s.p[i] == '.') {
        size_t from = ++i;
        sp->precision = read_number(s, &i);
        if (i == from) return unknown(r);
    }
    if (i < s.n) sp->type = s.p[i++];
    if (i < s.n || sp->width > MOST || sp->precision > MOST_DIGITS) return unknown(r);
    return OK;
}

static Status put_value(JRun *r, StrBuf *b, JVal v, Slice how) {
    Spec sp;
    if (how.n == 0) return jinja__put_str(r, b, v);
    TRY(read_spec(r, &sp, how));
    bool whole = v.kind == JV_INT || v.kind == JV_BOOL;
    if (v.kind == JV_STR && (!sp.type || sp.type == 's') && !sp.sign && !sp.group && !sp.alt &&
        sp.align != '=') {
        return put_text(r, b, &sp, v.s, '<');
    }
    if (whole && sp.precision < 0 && (!sp.type || strchr("bdoxXn", sp.type)))
        return put_int(r, b, &sp, v.kind == JV_BOOL ? v.b : v.i);
    if (v.kind == JV_REAL || whole) {
        bool real = !sp.type || strchr("eEfFgGn%", sp.type);
        if (real && !(whole && !sp.type)) return put_real(b, &sp, jinja__num(v));
    }
    return jinja__fail(r, "format() cannot show %s as '%.*s'", jinja__type(v), (int)MIN(how.n, 40),
                       how.p);
}

static Status expand(JRun *r, StrBuf *b, Slice fmt, Places *p, int depth);

/* What stands between { and }: name, !conversion, :specification, which may hold places itself. */
static Status put_place(JRun *r, StrBuf *b, Slice s, Places *p, int depth) {
    size_t name = 0, end, at;
    JVal v;
    StrBuf how = {0};
    while (name < s.n && s.p[name] != '.' && s.p[name] != '[' && s.p[name] != ':' &&
           s.p[name] != '!')
        name++;
    for (end = name; end < s.n && s.p[end] != ':' && s.p[end] != '!'; end++)
        while (s.p[end] == '[' && end + 1 < s.n && s.p[end + 1] != ']') end++;
    TRY(find_value(r, &v, (Slice){s.p, name}, p));
    TRY(find_member(r, &v, (Slice){s.p + name, end - name}));
    at = end;
    if (at < s.n && s.p[at] == '!') {
        if (at + 1 >= s.n || (s.p[at + 1] != 'r' && s.p[at + 1] != 's')) return unknown(r);
        Status st =
            s.p[at + 1] == 'r' ? jinja__put_repr(r, &how, v, 1) : jinja__put_str(r, &how, v);
        if (st != OK) sb_deinit(&how);
        TRY(st);
        TRY(jinja__take(r, &v, &how));
        at += 2;
        if (at < s.n && s.p[at] != ':') return unknown(r);
    }
    Slice spec = at < s.n ? (Slice){s.p + at + 1, s.n - at - 1} : (Slice){"", 0};
    Status st = expand(r, &how, spec, p, depth + 1);
    if (st == OK) st = put_value(r, b, v, (Slice){sb_str(&how), how.n});
    b->failed |= how.failed;
    sb_deinit(&how);
    return st;
}

/* The } that closes the { before s. */
static size_t closing(Slice s) {
    int open = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '{') open++;
        if (s.p[i] == '}' && open-- == 0) return i;
    }
    return SIZE_MAX;
}

static Status expand(JRun *r, StrBuf *b, Slice fmt, Places *p, int depth) {
    if (depth > 2) return jinja__fail(r, "a format in a format in a format");
    for (size_t i = 0; i < fmt.n; i++) {
        char c = fmt.p[i];
        TRY(check_room(r, b));
        if (c != '{' && c != '}') {
            sb_putc(b, c);
            continue;
        }
        if (i + 1 < fmt.n && fmt.p[i + 1] == c && depth == 0) {
            sb_putc(b, c);
            i++;
            continue;
        }
        Slice rest = {fmt.p + i + 1, fmt.n - i - 1};
        size_t end = c == '{' ? closing(rest) : SIZE_MAX;
        if (end == SIZE_MAX) return jinja__fail(r, "a single %c in a format", c);
        TRY(jinja__step(r, 1 + rest.n / 64));
        TRY(put_place(r, b, (Slice){rest.p, end}, p, depth));
        i += end + 1;
    }
    return check_room(r, b);
}

Status jinja__format(JRun *r, JVal *out, Slice fmt, const JArgs *a) {
    StrBuf b = {0};
    Places p = {.a = a};
    TRY(jinja__step(r, fmt.n / 16));
    Status st = expand(r, &b, fmt, &p, 0);
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}
