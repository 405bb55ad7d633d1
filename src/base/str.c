/* SPDX-License-Identifier: Apache-2.0
 * Slices, strict numbers and the string builder. Numbers are parsed by hand or behind a character
 * check, because strtol and strtod also take blanks, hexadecimal, "inf" and "nan". One thread. */
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/internal.h"

#define SB_FIRST_CAP ((size_t)64)

bool slice_eq(Slice a, Slice b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }

bool slice_eq_str(Slice a, const char *s) { return slice_eq(a, slice_of(s)); }

bool str_starts_with(const char *s, const char *head) {
    return strncmp(s, head, strlen(head)) == 0;
}

bool slice_has(Slice s, const char *part) {
    return s.n > 0 && memmem(s.p, s.n, part, strlen(part)) != NULL;
}

bool str_ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), n_tail = strlen(tail);
    return n >= n_tail && memcmp(s + n - n_tail, tail, n_tail) == 0;
}

const char *str__tail(const char *s, size_t max) {
    size_t n = strlen(s);
    if (n <= max) return s;
    s += n - max;
    while (((unsigned char)*s & 0xC0) == 0x80) s++;
    return s;
}

bool str_to_u64(uint64_t *out, const char *s) {
    uint64_t v = 0;
    if (*s == '\0') return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9') return false;
        if (__builtin_mul_overflow(v, (uint64_t)10, &v)) return false;
        if (__builtin_add_overflow(v, (uint64_t)(*s - '0'), &v)) return false;
    }
    *out = v;
    return true;
}

bool str_to_i64(int64_t *out, const char *s) {
    bool minus = *s == '-';
    uint64_t v;
    if (!str_to_u64(&v, s + minus)) return false;
    if (v > (uint64_t)INT64_MAX + minus) return false;
    *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool str_to_f64(double *out, const char *s) {
    if (*s == '\0' || s[strspn(s, "0123456789+-.eE")] != '\0') return false;
    char *end;
    double v = strtod(s, &end);
    if (end == s || *end != '\0' || !isfinite(v)) return false;
    *out = v;
    return true;
}

void sb_deinit(StrBuf *b) {
    mem_free(b->p);
    *b = (StrBuf){0};
}

void sb_clear(StrBuf *b) {
    b->n = 0;
    b->failed = false;
    if (b->p) b->p[0] = '\0';
}

bool sb__reserve(StrBuf *b, size_t n) {
    size_t want, twice;
    if (b->failed) return false;
    if (!mem_add(&want, b->n, n) || !mem_add(&want, want, 1)) {
        b->failed = true;
        return false;
    }
    if (want <= b->cap) return true;
    if (mem_mul(&twice, b->cap, 2)) want = MAX(want, twice);
    want = MAX(want, SB_FIRST_CAP);
    char *p = mem_realloc_n(b->p, want, 1);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = want;
    return true;
}

void sb_put(StrBuf *b, const void *p, size_t n) {
    if (!sb__reserve(b, n)) return;
    if (n > 0) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void sb_puts(StrBuf *b, const char *s) { sb_put(b, s, strlen(s)); }
void sb_putc(StrBuf *b, char c) { sb_put(b, &c, 1); }

void sb_vprintf(StrBuf *b, const char *fmt, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) b->failed = true;
    else if (sb__reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

void sb_printf(StrBuf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    sb_vprintf(b, fmt, ap);
    va_end(ap);
}

/* Bytes of the code point at s if it is well formed (no overlong form, no surrogate) and printable;
 * 0 otherwise. */
static size_t printable_len(const unsigned char *s, size_t n) {
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7F;
    size_t len = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xC2 && s[1] < 0xA0) return 0; /* C1 controls */
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;
    if (s[0] == 0xED && s[1] > 0x9F) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
    return len;
}

/* Escape s into b (unless NULL) while it fits into max bytes; *shown = bytes it takes. True if all
 * of s was shown. */
static bool escape(StrBuf *b, Slice s, size_t max, size_t *shown) {
    size_t at = 0, total = 0;
    while (at < s.n) {
        const unsigned char *c = (const unsigned char *)s.p + at;
        size_t len = printable_len(c, s.n - at), width = len > 0 ? len : 4;
        if (width > max - total) break;
        if (b && len > 0) sb_put(b, c, len);
        if (b && len == 0) sb_printf(b, "\\x%02x", *c);
        total += width;
        at += len > 0 ? len : 1;
    }
    *shown = total;
    return at == s.n;
}

void sb_put_quoted(StrBuf *b, Slice s, size_t max) {
    size_t shown;
    if (escape(NULL, s, max, &shown)) {
        escape(b, s, max, &shown);
        return;
    }
    size_t n_dots = MIN(max, (size_t)3);
    escape(b, s, max - n_dots, &shown);
    sb_put(b, "...", n_dots);
}

const char *sb_str(const StrBuf *b) { return b->p ? b->p : ""; }

Status sb_check(const StrBuf *b, Err *e) {
    if (!b->failed) return OK;
    return err_set(e, ERR_NOMEM, "out of memory while building %zu bytes of text", b->n);
}

char *sb_take(StrBuf *b) {
    sb_put(b, "", 0); /* an empty builder has no bytes to give yet */
    if (b->failed) {
        sb_deinit(b);
        return NULL;
    }
    char *p = b->p;
    *b = (StrBuf){0};
    return p;
}
