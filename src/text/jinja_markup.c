/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters that lay text out or carry it into another language: indenting, wrapping, cutting, HTML, URLs.
 */
#include <math.h>
#include <stdlib.h>

#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

static JVal safe_text(JVal v, bool safe) {
    v.safe = safe;
    return v;
}

/* ---- HTML ---- */

static void put_escaped(StrBuf *b, Slice s) {
    static const char from[] = "&<>\"'";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    for (size_t i = 0; i < s.n; i++) {
        const char *k = s.p[i] ? strchr(from, s.p[i]) : NULL;
        if (k) sb_puts(b, to[k - from]);
        else sb_putc(b, s.p[i]);
    }
}

static Status escape(JRun *r, JVal *out, JVal v) {
    StrBuf b = {0};
    Slice s;
    TRY(jinja__text(r, &s, v));
    TRY(jinja__step(r, s.n / 16));
    put_escaped(&b, s);
    TRY(jinja__take(r, out, &b));
    out->safe = true;
    return OK;
}

Status jinja__escape(JRun *r, JVal *out, JVal v) {
    if (v.kind != JV_STR || !v.safe) return escape(r, out, v);
    *out = v;
    return OK;
}

static Status f_escape(JRun *r, JVal *out, JVal in, const JArgs *a) {
    (void)a;
    return jinja__escape(r, out, in);
}
static Status f_forceescape(JRun *r, JVal *out, JVal in, const JArgs *a) {
    (void)a;
    return escape(r, out, in);
}
static Status f_safe(JRun *r, JVal *out, JVal in, const JArgs *a) {
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    *out = safe_text(jinja__slice(s), true);
    return OK;
}

/* key="value" for each that is there. */
static Status put_attributes(JRun *r, StrBuf *b, const JDict *d) {
    for (size_t i = 0; i < d->n; i++) {
        JVal key, v;
        if (d->val[i].kind == JV_NONE || d->val[i].kind == JV_UNDEF) continue;
        if (d->key[i].kind != JV_STR)
            return jinja__fail(r, "xmlattr: a name that is %s", jinja__type(d->key[i]));
        TRY(jinja__escape(r, &key, d->key[i]));
        TRY(jinja__escape(r, &v, d->val[i]));
        for (size_t k = 0; k < key.s.n; k++)
            if (key.s.p[k] && strchr(" \t\n\r\f\v/>=", key.s.p[k]))
                return jinja__fail(r, "xmlattr: a name with '%c'", key.s.p[k]);
        if (b->n) sb_putc(b, ' ');
        sb_put(b, key.s.p, key.s.n);
        sb_puts(b, "=\"");
        sb_put(b, v.s.p, v.s.n);
        sb_putc(b, '"');
    }
    return OK;
}

static Status f_xmlattr(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0}, all = {0};
    if (in.kind != JV_DICT) return jinja__fail(r, "xmlattr of %s", jinja__type(in));
    Status st = put_attributes(r, &b, in.dict);
    if (b.n && jinja__arg_bool(a, 0, "autospace", true)) sb_putc(&all, ' ');
    sb_put(&all, sb_str(&b), b.n);
    all.failed |= b.failed;
    sb_deinit(&b);
    if (st == OK) return jinja__take(r, out, &all);
    sb_deinit(&all);
    return st;
}

/* Without what stands between `open` and `shut`; without end it stays. */
static void put_without(StrBuf *b, Slice s, const char *open, const char *shut) {
    size_t from = 0;
    for (;;) {
        size_t at = jinja__search(s, slice_of(open), from);
        size_t end = at == SIZE_MAX ? at : jinja__search(s, slice_of(shut), at + strlen(open));
        if (end == SIZE_MAX) break;
        sb_put(b, s.p + from, at - from);
        from = end + strlen(shut);
    }
    sb_put(b, s.p + from, s.n - from);
}

/* The reference at s, which begins with &; bytes read, 0 where it is none. */
static size_t put_reference(StrBuf *b, Slice s) {
    static const struct {
        const char *name, *text;
    } known[] = {{"&amp;", "&"},       {"&lt;", "<"},         {"&gt;", ">"},
                 {"&quot;", "\""},     {"&apos;", "'"},       {"&nbsp;", "\u00a0"},
                 {"&copy;", "\u00a9"}, {"&hellip;", "\u2026"}};
    char u[4];
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        size_t n = strlen(known[i].name);
        if (s.n < n || memcmp(s.p, known[i].name, n) != 0) continue;
        sb_puts(b, known[i].text);
        return n;
    }
    if (s.n < 4 || s.p[1] != '#') return 0;
    char *end;
    bool hex = s.p[2] == 'x' || s.p[2] == 'X';
    char digits[12] = {0};
    memcpy(digits, s.p + 2 + hex, MIN(s.n - 2 - hex, sizeof digits - 1));
    if (digits[0] == '-' || digits[0] == '+' || jinja__is_space((unsigned char)digits[0])) return 0;
    unsigned long cp = strtoul(digits, &end, hex ? 16 : 10);
    if (end == digits || *end != ';') return 0;
    if (cp == 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) cp = 0xfffd;
    sb_put(b, u, (size_t)utf8_encode(u, (uint32_t)cp));
    return (size_t)(end - digits) + 3 + hex;
}

/* Comments and tags gone, white space one blank each, references resolved. */
static Status f_striptags(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0}, c = {0}, text = {0};
    JArgs none = {0};
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    TRY(jinja__step(r, s.n));
    put_without(&b, s, "<!--", "-->");
    put_without(&c, (Slice){sb_str(&b), b.n}, "<", ">");
    c.failed |= b.failed;
    sb_deinit(&b);
    TRY(jinja__take(r, out, &c));
    TRY(jinja__text_method(r, out, *out, "split", &none));
    const JList *words = out->list;
    for (size_t i = 0; i < words->n; i++) {
        Slice w = words->v[i].s;
        if (i) sb_putc(&text, ' ');
        for (size_t k = 0; k < w.n;) {
            size_t n = w.p[k] == '&' ? put_reference(&text, (Slice){w.p + k, w.n - k}) : 0;
            if (!n) sb_putc(&text, w.p[k]);
            k += MAX(n, (size_t)1);
        }
    }
    return jinja__take(r, out, &text);
}

/* ---- URLs ---- */

static void put_quoted(StrBuf *b, Slice s, bool query) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (plain) sb_putc(b, (char)c);
        else if (c == ' ' && query) sb_putc(b, '+');
        else {
            sb_putc(b, '%');
            sb_putc(b, hex[c >> 4]);
            sb_putc(b, hex[c & 15]);
        }
    }
}

static Status put_query(JRun *r, StrBuf *b, const JList *pairs) {
    for (size_t i = 0; i < pairs->n; i++) {
        JList *pair;
        Slice s;
        TRY(jinja__iter(r, &pair, pairs->v[i]));
        if (pair->n != 2) return jinja__fail(r, "urlencode of what are no pairs");
        if (i) sb_putc(b, '&');
        TRY(jinja__text(r, &s, pair->v[0]));
        put_quoted(b, s, true);
        sb_putc(b, '=');
        TRY(jinja__text(r, &s, pair->v[1]));
        put_quoted(b, s, true);
    }
    return OK;
}

static Status f_urlencode(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0};
    JArgs none = {0};
    JVal list = in;
    JList *l;
    (void)a;
    if (in.kind != JV_DICT && in.kind != JV_LIST && in.kind != JV_UNDEF) {
        Slice s;
        TRY(jinja__text(r, &s, in));
        TRY(jinja__step(r, s.n / 16));
        put_quoted(&b, s, false);
        return jinja__take(r, out, &b);
    }
    if (in.kind == JV_DICT) TRY(jinja__filter(r, &list, slice_of("items"), in, &none));
    TRY(jinja__iter(r, &l, list));
    Status st = put_query(r, &b, l);
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}

/* ---- layout ---- */

static Status want_text(JRun *r, JVal v, const char *filter) {
    return v.kind == JV_STR ? OK : jinja__fail(r, "%s of %s", filter, jinja__type(v));
}

/* What a line is indented by: an argument that is a text, or so many blanks. */
static Status read_pad(JRun *r, Slice *pad, const JArgs *a) {
    static const char blanks[] = "                                                                ";
    const JVal *width = jinja__arg(a, 0, "width");
    int64_t n = 4;
    if (width && width->kind == JV_STR) {
        *pad = width->s;
        return OK;
    }
    TRY(jinja__arg_int(r, &n, a, 0, "width"));
    if (width && width->kind == JV_NONE) return jinja__fail(r, "indent by none");
    if (n >= (int64_t)sizeof blanks)
        return jinja__fail(r, "indent: %lld, the limit is %d", (long long)n,
                           (int)sizeof blanks - 1);
    *pad = (Slice){blanks, (size_t)MAX(0, n)};
    return OK;
}

static Status f_indent(JRun *r, JVal *out, JVal in, const JArgs *a) {
    bool first = jinja__arg_bool(a, 1, "first", false),
         blank = jinja__arg_bool(a, 2, "blank", false);
    StrBuf b = {0}, whole = {0};
    JVal text, lines;
    Slice pad = {0};
    TRY(want_text(r, in, "indent"));
    TRY(read_pad(r, &pad, a));
    sb_put(&whole, in.s.p, in.s.n);
    sb_putc(&whole, '\n'); /* so that an empty last line is one */
    TRY(jinja__take(r, &text, &whole));
    TRY(jinja__lines(r, &lines, text.s, false));
    for (size_t i = 0; i < lines.list->n && b.n <= jinja__room(r); i++) {
        Slice line = lines.list->v[i].s;
        if (i) sb_putc(&b, '\n');
        if (i == 0 ? first : blank || line.n) sb_put(&b, pad.p, pad.n);
        sb_put(&b, line.p, line.n);
    }
    TRY(jinja__take(r, out, &b));
    out->safe = in.safe;
    return OK;
}

/* Words begin behind white space, hyphens and opening brackets. */
static Status f_title(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0};
    Slice s;
    (void)a;
    TRY(jinja__text(r, &s, in));
    for (size_t i = 0; i < s.n;) {
        size_t to = i, n = 0;
        JVal word;
        for (; to < s.n; to += n) {
            uint32_t cp = 0xfffd;
            n = (size_t)MAX(1, utf8_decode(&cp, s.p + to, s.n - to));
            if (jinja__is_space(cp) || (cp < 0x80 && strchr("-({[<", (int)cp))) break;
        }
        Status st = jinja__case(r, &word, (Slice){s.p + i, to - i}, 'C');
        if (st != OK) sb_deinit(&b);
        TRY(st);
        sb_put(&b, word.s.p, word.s.n);
        if (to < s.n) sb_put(&b, s.p + to, n);
        i = to < s.n ? to + n : to;
    }
    return jinja__take(r, out, &b);
}

/* The first n code points of in, and `end`. */
static Status put_cut(JRun *r, JVal *out, JVal in, size_t n, Slice end, bool words) {
    Slice s = {in.s.p, jinja__cp_at(in.s, n)};
    JVal tail = jinja__slice(end), head;
    if (words)
        for (size_t i = s.n; i-- > 0;)
            if (s.p[i] == ' ') {
                s.n = i;
                break;
            }
    head = safe_text(jinja__slice(s), in.safe);
    return jinja__binary(r, out, '+', head, tail);
}

static Status f_truncate(JRun *r, JVal *out, JVal in, const JArgs *a) {
    int64_t length = 255, leeway = 5;
    Slice end = slice_of("...");
    int64_t n;
    TRY(jinja__arg_int(r, &length, a, 0, "length"));
    TRY(jinja__arg_str(r, &end, a, 2, "end"));
    TRY(jinja__arg_int(r, &leeway, a, 3, "leeway"));
    int64_t n_end = (int64_t)jinja__n_cp(end);
    if (length < n_end || leeway < 0)
        return jinja__fail(r, "truncate: length %lld, leeway %lld", (long long)length,
                           (long long)leeway);
    TRY(jinja__len(r, &n, in));
    *out = in;
    if (leeway > n || n <= length + leeway) return OK;
    TRY(want_text(r, in, "truncate"));
    return put_cut(r, out, in, (size_t)(length - n_end), end,
                   !jinja__arg_bool(a, 1, "killwords", false));
}

static Status f_filesizeformat(JRun *r, JVal *out, JVal in, const JArgs *a) {
    static const char letters[] = "kMGTPEZY";
    bool binary = jinja__arg_bool(a, 0, "binary", false);
    double base = binary ? 1024 : 1000, unit = base;
    JVal number;
    StrBuf b = {0};
    JArgs none = {0};
    TRY(jinja__filter(r, &number, slice_of("float"), in, &none));
    double n = number.d, whole = trunc(number.d);
    if (!isfinite(n)) return jinja__fail(r, "filesizeformat of a number without end");
    if (n == 1) sb_puts(&b, "1 Byte");
    else if (n < base) sb_printf(&b, "%.0f Bytes", whole != 0 ? whole : 0);
    for (int i = 0; b.n == 0; i++) {
        unit *= base;
        if (n >= unit && letters[i + 1]) continue;
        sb_printf(&b, "%.1f %c%sB", base * n / unit, binary && !i ? 'K' : letters[i],
                  binary ? "i" : "");
    }
    return jinja__take(r, out, &b);
}

const JCallRow jinja__markup_filters[] = {{"escape", f_escape, "", 0},
                                          {"e", f_escape, "", 0},
                                          {"forceescape", f_forceescape, "", 0},
                                          {"safe", f_safe, "", 0},
                                          {"xmlattr", f_xmlattr, "autospace", 0},
                                          {"striptags", f_striptags, "", 0},
                                          {"urlencode", f_urlencode, "", 0},
                                          {"indent", f_indent, "width first blank", 0},
                                          {"title", f_title, "", 0},
                                          {"truncate", f_truncate, "length killwords end leeway",
                                           0},
                                          {"wordwrap", jinja__wordwrap,
                                           "width break_long_words wrapstring break_on_hyphens", 0},
                                          {"filesizeformat", f_filesizeformat, "binary", 0},
                                          {NULL, NULL, NULL, 0}};
