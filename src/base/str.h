/* SPDX-License-Identifier: Apache-2.0
 * Slice: borrowed bytes. StrBuf: growing bytes with sticky failure. One thread. */
#ifndef INGOT_BASE_STR_H
#define INGOT_BASE_STR_H

#include <stdarg.h>
#include <string.h>

#include "base/mem.h"

typedef struct Slice {
    const char *p; /* borrowed, not NUL-terminated */
    size_t n;
} Slice;

static inline Slice slice_of(const char *s) { return (Slice){s, strlen(s)}; }
/* Same bytes. */
bool slice_eq(Slice a, Slice b);
/* Same bytes as the string s. */
bool slice_eq_str(Slice a, const char *s);
/* Whether part stands in s. */
bool slice_has(Slice s, const char *part);
/* Whether s ends with tail; an empty tail always fits. */
bool str_ends_with(const char *s, const char *tail);
/* Whether s starts with head; an empty head always fits. */
bool str_starts_with(const char *s, const char *head);

/* Strict whole-string numbers: false on empty, trailing bytes, overflow, nan or inf. */
MUST_CHECK bool str_to_i64(int64_t *out, const char *s);
MUST_CHECK bool str_to_u64(uint64_t *out, const char *s);
MUST_CHECK bool str_to_f64(double *out, const char *s);

typedef struct StrBuf {
    char *p; /* owned; NUL-terminated once anything was written; NULL while empty */
    size_t n, cap;
    bool failed; /* an allocation failed: content is incomplete, later writes are ignored */
} StrBuf;

/* A zeroed StrBuf is ready for use. */
void sb_deinit(StrBuf *b);
/* Empty, also of a failure; the memory stays for reuse. */
void sb_clear(StrBuf *b);
void sb_put(StrBuf *b, const void *p, size_t n);
void sb_puts(StrBuf *b, const char *s);
void sb_putc(StrBuf *b, char c);
void sb_printf(StrBuf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void sb_vprintf(StrBuf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Text as bytes for a message: control bytes and bad UTF-8 as \xNN, at most `max` bytes of output, "..."
 * at the end if cut. Adds no quotation marks. */
void sb_put_quoted(StrBuf *b, Slice s, size_t max);
/* NUL-terminated content; never NULL. Borrowed until the next write. */
const char *sb_str(const StrBuf *b);
/* OK, or ERR_NOMEM if any write failed. */
MUST_CHECK Status sb_check(const StrBuf *b, Err *e);
/* Ownership of the NUL-terminated bytes moves to the caller (mem_free); NULL if a write failed. */
char *sb_take(StrBuf *b);

#endif
