/* SPDX-License-Identifier: Apache-2.0
 * Filling and prefixing an Err. The message is kept to one printable line and is never cut inside a
 * UTF-8 sequence, because it ends up in logs, JSON bodies and terminals unchanged. Any thread. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const ERR_NAMES[STATUS_COUNT] = {
    [OK] = "ok",
    [ERR_NOMEM] = "out of memory",
    [ERR_IO] = "i/o error",
    [ERR_FORMAT] = "bad format",
    [ERR_ARG] = "bad argument",
    [ERR_NOT_FOUND] = "not found",
    [ERR_FULL] = "limit reached",
    [ERR_CANCELLED] = "cancelled",
    [ERR_UNSUPPORTED] = "unsupported",
    [ERR_TIMEOUT] = "timed out",
    [ERR_INTERNAL] = "internal error",
    [ERR_AUTH] = "not authenticated",
    [ERR_DENIED] = "not allowed",
};

const char *err_name(Status code) {
    return (unsigned)code < STATUS_COUNT ? ERR_NAMES[code] : "unknown status";
}

/* Length of msg without a UTF-8 sequence that the end of the buffer cut in two. */
static size_t whole_len(const char *msg, size_t n) {
    size_t lead = n;
    while (lead > 0 && n - lead < 3 && ((unsigned char)msg[lead - 1] & 0xC0) == 0x80) lead--;
    if (lead == 0) return n;
    unsigned char c = (unsigned char)msg[lead - 1];
    size_t want = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
    return want > n - lead + 1 ? lead - 1 : n;
}

static void clean_line(char *msg, size_t cap, bool was_cut) {
    size_t n = strnlen(msg, cap - 1);
    if (was_cut) n = whole_len(msg, n);
    msg[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)msg[i];
        if (c < 0x20 || c == 0x7F) msg[i] = ' ';
    }
}

Status err__set(Err *e, Status code, const char *file, int line, const char *fmt, ...) {
    if (!e || e->code != OK) return code;
    e->code = code;
    e->file = file;
    e->line = line;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    if (n < 0) snprintf(e->msg, sizeof e->msg, "%s", err_name(code));
    clean_line(e->msg, sizeof e->msg, n >= (int)sizeof e->msg);
    return code;
}

void err_in(Err *e, const char *where) {
    if (!e || e->code == OK) return;
    size_t n = strlen(where);
    if (strncmp(e->msg, where, n) == 0 && e->msg[n] == ':') return;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    int len = snprintf(e->msg, sizeof e->msg, "%s: %s", where, old);
    clean_line(e->msg, sizeof e->msg, len >= (int)sizeof e->msg);
}
