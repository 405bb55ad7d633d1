/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing JSON into a StrBuf: one compact line, commas by a bit per open level. Nesting deeper than
 * JSON_MAX_DEPTH or a key in the wrong place is a programmer's error; the depth one also fails the buffer.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/json.h"
#include "text/utf8.h"

_Static_assert(JSON_MAX_DEPTH <= 64, "JsonW.need_comma has one bit per level");

void jw_init(JsonW *w, StrBuf *b) { *w = (JsonW){.b = b}; }

static void put_escaped(StrBuf *b, uint8_t c) {
    static const char plain[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    const char *p = c ? strchr(plain, c) : NULL;
    if (p) {
        sb_putc(b, '\\');
        sb_putc(b, letter[p - plain]);
    } else {
        sb_printf(b, "\\u%04x", c);
    }
}

/* Bytes that need no escape at the start of well-formed s. */
static size_t plain_prefix(const char *p, size_t n) {
    size_t i = 0;
    while (i < n && (uint8_t)p[i] >= 0x20 && p[i] != '"' && p[i] != '\\') i++;
    return i;
}

static void put_valid(StrBuf *b, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t plain = plain_prefix(p + i, n - i);
        sb_put(b, p + i, plain);
        i += plain;
        if (i < n) put_escaped(b, (uint8_t)p[i]);
    }
}

static void put_string(StrBuf *b, Slice v) {
    sb_putc(b, '"');
    if (utf8_valid(v)) {
        put_valid(b, v.p, v.n);
    } else {
        StrBuf clean = {0};
        utf8_put_clean(&clean, v);
        if (clean.failed) b->failed = true;
        put_valid(b, sb_str(&clean), clean.n);
        sb_deinit(&clean);
    }
    sb_putc(b, '"');
}

/* Comma, key and colon in front of any value. */
static void lead(JsonW *w, const char *key) {
    uint64_t bit = w->depth > 0 ? (uint64_t)1 << (w->depth - 1) : 0;
    if (w->need_comma & bit) sb_putc(w->b, ',');
    w->need_comma |= bit;
    if (!key) return;
    put_string(w->b, slice_of(key));
    sb_putc(w->b, ':');
}

static void open(JsonW *w, const char *key, char bracket) {
    if (w->depth >= JSON_MAX_DEPTH) {
        w->b->failed = true;
        return;
    }
    lead(w, key);
    sb_putc(w->b, bracket);
    w->need_comma &= ~((uint64_t)1 << w->depth);
    w->depth++;
}

static void shut(JsonW *w, char bracket) {
    if (w->depth > 0) w->depth--;
    sb_putc(w->b, bracket);
}

void jw_obj(JsonW *w, const char *key) { open(w, key, '{'); }
void jw_end_obj(JsonW *w) { shut(w, '}'); }
void jw_arr(JsonW *w, const char *key) { open(w, key, '['); }
void jw_end_arr(JsonW *w) { shut(w, ']'); }

void jw_str(JsonW *w, const char *key, Slice v) {
    lead(w, key);
    put_string(w->b, v);
}

void jw_cstr(JsonW *w, const char *key, const char *v) { jw_str(w, key, slice_of(v)); }

void jw_int(JsonW *w, const char *key, int64_t v) {
    lead(w, key);
    sb_printf(w->b, "%lld", (long long)v);
}

/* What "%g" would not say well: no numbers, and a zero whose sign readers of integers drop. */
static bool put_odd(JsonW *w, double v) {
    if (isfinite(v) && !(v == 0 && signbit(v))) return false;
    sb_puts(w->b, isfinite(v) ? "-0.0" : "null");
    return true;
}

void jw_num(JsonW *w, const char *key, double v) {
    char text[40] = "";
    bool same = false;
    lead(w, key);
    if (put_odd(w, v)) return;
    for (int digits = 15; digits <= 17 && !same; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        same = strtod(text, NULL) == v;
    }
    sb_puts(w->b, text);
}

void jw_f32(JsonW *w, const char *key, float v) {
    char text[40] = "";
    bool same = false;
    lead(w, key);
    if (put_odd(w, (double)v)) return;
    for (int digits = 6; digits <= 9 && !same; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        same = strtof(text, NULL) == v;
    }
    sb_puts(w->b, text);
}

void jw_bool(JsonW *w, const char *key, bool v) {
    lead(w, key);
    sb_puts(w->b, v ? "true" : "false");
}

void jw_null(JsonW *w, const char *key) {
    lead(w, key);
    sb_puts(w->b, "null");
}

void jw_raw(JsonW *w, const char *key, Slice json) {
    lead(w, key);
    sb_put(w->b, json.p, json.n);
}

static void put_members(JsonW *w, const Json *v) {
    Slice key;
    const Json *m;
    for (void *it = NULL; (it = json_next(v, it, &key, &m));) jw_json(w, key.p, m);
}

void jw_json(JsonW *w, const char *key, const Json *v) {
    switch (json_kind(v)) {
    case JSON_KIND_NULL: jw_null(w, key); return;
    case JSON_KIND_BOOL: jw_bool(w, key, json_bool(v)); return;
    case JSON_KIND_INT: jw_int(w, key, json_int(v)); return;
    case JSON_KIND_REAL: jw_num(w, key, json_num(v)); return;
    case JSON_KIND_STR: jw_str(w, key, json_str(v)); return;
    case JSON_KIND_ARRAY:
        jw_arr(w, key);
        for (size_t i = 0; i < json_len(v); i++) jw_json(w, NULL, json_at(v, i));
        jw_end_arr(w);
        return;
    case JSON_KIND_OBJECT:
        jw_obj(w, key);
        put_members(w, v);
        jw_end_obj(w);
        return;
    }
}
