/* SPDX-License-Identifier: Apache-2.0
 * Fields of a query string or a form: name=value&name=value, percent-encoded, + for a blank. */
#include "net/http.h"
#include "text/utf8.h"

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch = (char)(ch | 0x20);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* The next character of s, which gets shorter; -1: a bad escape. */
static int take_char(Slice *s) {
    char ch = s->p[0];
    size_t used = 1;
    int value = ch == '+' ? ' ' : (int)(unsigned char)ch;
    if (ch == '%') {
        int hi = s->n > 2 ? hex_digit(s->p[1]) : -1, lo = s->n > 2 ? hex_digit(s->p[2]) : -1;
        used = 3;
        if (hi < 0 || lo < 0) return -1;
        value = hi << 4 | lo;
    }
    *s = (Slice){s->p + used, s->n - used};
    return value;
}

static bool is_name(Slice s, const char *name) {
    while (s.n > 0 && *name) {
        if (take_char(&s) != (int)(unsigned char)*name++) return false;
    }
    return s.n == 0 && !*name;
}

/* Decode v onto out; on failure out is as it was. */
static Status decode(StrBuf *out, Slice v, Err *e) {
    StrBuf b = {0};
    Status st = OK;
    while (st == OK && v.n > 0) {
        int ch = take_char(&v);
        if (ch < 0) st = err_set(e, ERR_FORMAT, "bad percent escape");
        else if (ch == 0) st = err_set(e, ERR_FORMAT, "a NUL in it");
        else sb_putc(&b, (char)ch);
    }
    if (st == OK) st = sb_check(&b, e);
    if (st == OK && !utf8_valid((Slice){sb_str(&b), b.n})) st = err_set(e, ERR_FORMAT, "not UTF-8");
    if (st == OK) {
        sb_put(out, sb_str(&b), b.n);
        st = sb_check(out, e);
    }
    sb_deinit(&b);
    return st;
}

Status http_query_get(StrBuf *out, bool *found, Slice query, const char *name, Err *e) {
    *found = false;
    while (query.n > 0) {
        const char *amp = memchr(query.p, '&', query.n);
        Slice pair = {query.p, amp ? (size_t)(amp - query.p) : query.n};
        query = amp ? (Slice){amp + 1, query.n - pair.n - 1} : (Slice){"", 0};
        const char *eq = pair.n > 0 ? memchr(pair.p, '=', pair.n) : NULL;
        Slice key = {pair.p, eq ? (size_t)(eq - pair.p) : pair.n};
        if (!is_name(key, name)) continue;
        *found = true;
        return decode(out, eq ? (Slice){eq + 1, pair.n - key.n - 1} : (Slice){"", 0}, e);
    }
    return OK;
}
