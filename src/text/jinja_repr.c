/* SPDX-License-Identifier: Apache-2.0
 *
 * Values as text: str() and repr() of Python, and JSON as json.dumps writes it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

/* The shortest digits that read back the same: "d.ddde+xx", the exponent's value. */
static int shortest(char text[40], double d) {
    for (int digits = 0; digits <= 16; digits++) {
        snprintf(text, 40, "%.*e", digits, d);
        if (strtod(text, NULL) == d) break;
    }
    const char *e = strchr(text, 'e');
    return e ? (int)strtol(e + 1, NULL, 10) : 0;
}

void jinja__put_real(StrBuf *b, double d) {
    char text[40], digits[24];
    if (!isfinite(d)) {
        sb_puts(b, isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    int exp = shortest(text, d), n = 0;
    for (const char *p = text; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    if (text[0] == '-') sb_putc(b, '-');
    if (exp < -4 || exp >= 16) {
        sb_putc(b, digits[0]);
        if (n > 1) sb_putc(b, '.');
        sb_put(b, digits + 1, (size_t)n - 1);
        sb_printf(b, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
        return;
    }
    if (exp < 0) {
        sb_puts(b, "0.");
        for (int i = exp + 1; i < 0; i++) sb_putc(b, '0');
        sb_put(b, digits, (size_t)n);
        return;
    }
    for (int i = 0; i < MAX(n, exp + 2); i++) {
        if (i == exp + 1) sb_putc(b, '.');
        sb_putc(b, i < n ? digits[i] : '0');
    }
}

bool jinja__printable(uint32_t cp) {
    const UcdSet other = 0xf << 26 | UCD_Z | 1; /* Cc Cf Cs Co, white space, Cn */
    if (cp < 0x7f) return cp >= ' ';
    return !(ucd_class(cp) & other);
}

static void put_quoted(StrBuf *b, Slice s) {
    char q = memchr(s.n ? s.p : "", '\'', s.n) && !memchr(s.p, '"', s.n) ? '"' : '\'';
    sb_putc(b, q);
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
        if (cp == (uint32_t)q || cp == '\\') sb_printf(b, "\\%c", (char)cp);
        else if (cp == '\n' || cp == '\r' || cp == '\t')
            sb_puts(b, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        else if (jinja__printable(cp)) sb_put(b, s.p + i, (size_t)n);
        else sb_printf(b, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        i += (size_t)n;
    }
    sb_putc(b, q);
}

/* Text being written counts as memory of the render. */
static Status check_size(JRun *r, const StrBuf *b) {
    if (b->n <= jinja__room(r)) return OK;
    return err_set(r->e, ERR_FULL, "line %u, column %u: a text of more than %zu bytes",
                   r->at ? r->at->line : 1, r->at ? r->at->col : 1, r->max_mem);
}

static Status put_range(StrBuf *b, const int64_t range[3]) {
    sb_printf(b, "range(%lld, %lld", (long long)range[0], (long long)range[1]);
    if (range[2] != 1) sb_printf(b, ", %lld", (long long)range[2]);
    sb_putc(b, ')');
    return OK;
}

static Status put_list(JRun *r, StrBuf *b, JList *l, int depth) {
    bool tuple = l->kind == JL_TUPLE || l->kind == JL_GROUP;
    bool named = l->kind >= JL_KEYS;
    if (l->kind == JL_RANGE) return put_range(b, l->range);
    if (l->kind == JL_LAZY) {
        sb_puts(b, "<generator object>");
        return OK;
    }
    if (named) sb_printf(b, "%s(", jinja__type((JVal){.kind = JV_LIST, .list = l}));
    sb_putc(b, tuple ? '(' : '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i) sb_puts(b, ", ");
        TRY(jinja__put_repr(r, b, l->v[i], depth + 1));
    }
    if (tuple && l->n == 1) sb_putc(b, ',');
    sb_putc(b, tuple ? ')' : ']');
    if (named) sb_putc(b, ')');
    return OK;
}

static Status put_dict(JRun *r, StrBuf *b, const JDict *d, int depth) {
    sb_putc(b, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i) sb_puts(b, ", ");
        TRY(jinja__put_repr(r, b, d->key[i], depth + 1));
        sb_puts(b, ": ");
        TRY(jinja__put_repr(r, b, d->val[i], depth + 1));
    }
    sb_putc(b, '}');
    return OK;
}

Status jinja__put_repr(JRun *r, StrBuf *b, JVal v, int depth) {
    TRY(jinja__step(r, 1));
    TRY(check_size(r, b));
    if (depth > JINJA_MAX_VALUE) return jinja__fail(r, "a value nested too deep to be written");
    switch (v.kind) {
    case JV_UNDEF: sb_puts(b, depth ? "Undefined" : ""); break;
    case JV_NONE: sb_puts(b, "None"); break;
    case JV_BOOL: sb_puts(b, v.b ? "True" : "False"); break;
    case JV_INT: sb_printf(b, "%lld", (long long)v.i); break;
    case JV_REAL: jinja__put_real(b, v.d); break;
    case JV_STR:
        if (v.safe) sb_puts(b, "Markup(");
        put_quoted(b, v.s);
        if (v.safe) sb_putc(b, ')');
        break;
    case JV_LIST: return put_list(r, b, v.list, depth);
    case JV_DICT: return put_dict(r, b, v.dict, depth);
    case JV_SPACE:
        sb_puts(b, "<Namespace ");
        TRY(put_dict(r, b, v.dict, depth));
        sb_putc(b, '>');
        break;
    case JV_FUNC: sb_puts(b, "<function>"); break;
    case JV_LOOP: sb_printf(b, "<LoopContext %zu/%zu>", v.loop->i + 1, v.loop->list->n); break;
    }
    return OK;
}

Status jinja__put_str(JRun *r, StrBuf *b, JVal v) {
    if (v.kind != JV_STR) return jinja__put_repr(r, b, v, 0);
    sb_put(b, v.s.p, v.s.n);
    return jinja__step(r, v.s.n / 128);
}

Status jinja__text(JRun *r, Slice *out, JVal v) {
    StrBuf b = {0};
    JVal s = {0};
    if (v.kind == JV_STR) {
        *out = v.s;
        return OK;
    }
    Status st = jinja__put_str(r, &b, v);
    if (st == OK) st = jinja__take(r, &s, &b);
    else sb_deinit(&b);
    *out = s.s;
    return st;
}

/* ---- JSON ---- */

typedef struct Dump {
    JRun *r;
    StrBuf *b;
    Slice indent, item, colon;
    bool ascii, sort, lines;
} Dump;

static Status dump(Dump *d, JVal v, int depth);

static void put_escape(StrBuf *b, uint32_t cp) {
    static const char plain[] = "\"\\\n\r\t\f\b", letter[] = "\"\\nrtfb";
    const char *k = cp && cp < 0x80 ? strchr(plain, (int)cp) : NULL;
    if (k) sb_printf(b, "\\%c", letter[k - plain]);
    else if (cp < 0x10000) sb_printf(b, "\\u%04x", cp);
    else sb_printf(b, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
}

static void dump_text(Dump *d, Slice s) {
    sb_putc(d->b, '"');
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
        bool escaped = cp < ' ' || cp == '"' || cp == '\\' || (d->ascii && cp > 0x7e);
        if (escaped) put_escape(d->b, cp);
        else sb_put(d->b, s.p + i, (size_t)n);
        i += (size_t)n;
    }
    sb_putc(d->b, '"');
}

static void line_of(Dump *d, int depth) {
    if (!d->lines) return;
    sb_putc(d->b, '\n');
    for (int i = 0; i < depth; i++) sb_put(d->b, d->indent.p, d->indent.n);
}

static Status dump_list(Dump *d, const JList *l, int depth) {
    sb_putc(d->b, '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i) sb_put(d->b, d->item.p, d->item.n);
        line_of(d, depth + 1);
        TRY(dump(d, l->v[i], depth + 1));
    }
    if (l->n) line_of(d, depth);
    sb_putc(d->b, ']');
    return OK;
}

/* Numbers, booleans and none as keys become strings. */
static Status dump_key(Dump *d, JVal key) {
    if (key.kind == JV_STR) dump_text(d, key.s);
    else if (jinja__is_num(key) || key.kind == JV_NONE) {
        sb_putc(d->b, '"');
        TRY(dump(d, key, 0));
        sb_putc(d->b, '"');
    } else {
        return jinja__fail(d->r, "a key of JSON cannot be %s", jinja__type(key));
    }
    sb_put(d->b, d->colon.p, d->colon.n);
    return OK;
}

/* Places of the members in the order of their keys: an insertion sort, objects being small. */
static Status sorted(JRun *r, size_t **out, const JDict *d) {
    size_t *at = NULL;
    TRY(jinja__alloc(r, &at, d->n + 1, sizeof *at));
    for (size_t i = 0; i < d->n; i++) {
        size_t k = i;
        for (; k > 0; k--) {
            int c = 0;
            TRY(jinja__order(r, &c, d->key[at[k - 1]], d->key[i], "<"));
            if (c <= 0) break;
            at[k] = at[k - 1];
        }
        at[k] = i;
    }
    *out = at;
    return OK;
}

static Status dump_dict(Dump *d, const JDict *m, int depth) {
    size_t *at = NULL;
    if (d->sort) TRY(sorted(d->r, &at, m));
    sb_putc(d->b, '{');
    for (size_t i = 0; i < m->n; i++) {
        size_t k = at ? at[i] : i;
        if (i) sb_put(d->b, d->item.p, d->item.n);
        line_of(d, depth + 1);
        TRY(dump_key(d, m->key[k]));
        TRY(dump(d, m->val[k], depth + 1));
    }
    if (m->n) line_of(d, depth);
    sb_putc(d->b, '}');
    return OK;
}

static void dump_real(StrBuf *b, double x) {
    if (isfinite(x)) jinja__put_real(b, x);
    else sb_puts(b, isnan(x) ? "NaN" : x < 0 ? "-Infinity" : "Infinity");
}

static Status dump(Dump *d, JVal v, int depth) {
    TRY(jinja__step(d->r, 1));
    TRY(check_size(d->r, d->b));
    if (depth > JINJA_MAX_VALUE) return jinja__fail(d->r, "a value nested too deep for JSON");
    switch (v.kind) {
    case JV_NONE: sb_puts(d->b, "null"); return OK;
    case JV_BOOL: sb_puts(d->b, v.b ? "true" : "false"); return OK;
    case JV_INT: sb_printf(d->b, "%lld", (long long)v.i); return OK;
    case JV_REAL: dump_real(d->b, v.d); return OK;
    case JV_STR: dump_text(d, v.s); return jinja__step(d->r, v.s.n / 64);
    case JV_LIST:
        if (v.list->kind == JL_LIST || jinja__is_tuple(v)) return dump_list(d, v.list, depth);
        break;
    case JV_DICT: return dump_dict(d, v.dict, depth);
    default: break;
    }
    return jinja__fail(d->r, "%s is not JSON", jinja__type(v));
}

static Status read_indent(Dump *d, const JVal *v) {
    if (!v || v->kind == JV_NONE) return OK;
    d->lines = true;
    d->item = slice_of(",");
    if (v->kind == JV_STR) {
        d->indent = v->s;
        return OK;
    }
    if (v->kind != JV_INT && v->kind != JV_BOOL)
        return jinja__fail(d->r, "tojson: indent is %s", jinja__type(*v));
    int64_t n = v->kind == JV_BOOL ? v->b : MAX(0, v->i);
    char *p = NULL;
    if (n > 64) return jinja__fail(d->r, "tojson: indent %lld, the limit is 64", (long long)n);
    TRY(jinja__alloc(d->r, &p, (size_t)n + 1, 1));
    memset(p, ' ', (size_t)n);
    d->indent = (Slice){p, (size_t)n};
    return OK;
}

static Status read_separators(Dump *d, const JVal *v) {
    if (!v || v->kind == JV_NONE) return OK;
    if (v->kind != JV_LIST || v->list->n != 2 || v->list->v[0].kind != JV_STR ||
        v->list->v[1].kind != JV_STR)
        return jinja__fail(d->r, "tojson: separators are not two strings");
    d->item = v->list->v[0].s;
    d->colon = v->list->v[1].s;
    return OK;
}

Status jinja__tojson(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0};
    Dump d = {.r = r, .b = &b, .item = slice_of(", "), .colon = slice_of(": ")};
    d.ascii = jinja__arg_bool(a, 0, "ensure_ascii", false);
    d.sort = jinja__arg_bool(a, 3, "sort_keys", false);
    TRY(read_indent(&d, jinja__arg(a, 1, "indent")));
    TRY(read_separators(&d, jinja__arg(a, 2, "separators")));
    Status st = dump(&d, in, 0);
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}
