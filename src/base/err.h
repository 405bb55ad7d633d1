/* SPDX-License-Identifier: Apache-2.0
 * Errors: a Status is returned, an Err on the caller's stack carries the words.
 *
 * First cause wins: whoever detects the failure calls err_set with one lower-case line that names the
 * thing, its value and the limit; the one caller that knows which file or request it was prefixes it
 * once with err_in. `Err *` may be NULL everywhere: not interested. */
#ifndef INGOT_BASE_ERR_H
#define INGOT_BASE_ERR_H

#include "base/platform.h"

typedef enum Status {
    OK = 0,
    ERR_NOMEM,     /* memory is out */
    ERR_IO,        /* the operating system said no */
    ERR_FORMAT,    /* foreign bytes break their format */
    ERR_ARG,       /* a value the caller chose is wrong */
    ERR_NOT_FOUND, /* the named thing does not exist */
    ERR_FULL,      /* a pool or queue is at its limit; nothing changed */
    ERR_CANCELLED, /* somebody asked to stop */
    ERR_UNSUPPORTED,
    ERR_TIMEOUT,
    ERR_INTERNAL,
    ERR_AUTH,   /* nobody we know */
    ERR_DENIED, /* known, but not allowed this */
    STATUS_COUNT
} Status;

typedef struct Err {
    Status code;
    const char *file; /* where it was detected */
    int line;
    char msg[240]; /* one line, no newline */
} Err;

/* Fill e (unless NULL or already filled) and return code, so that `return err_set(...)` reads well. */
#define err_set(e, code, ...) err__set((e), (code), __FILE__, __LINE__, __VA_ARGS__)
/* Prefix e's message with "where: " once. */
void err_in(Err *e, const char *where);
/* Short lower-case name of a status ("out of memory", "i/o error", ...). */
const char *err_name(Status code);
Status err__set(Err *e, Status code, const char *file, int line, const char *fmt, ...)
    PRINTF_LIKE(5, 6);

/* Return early on failure; only in functions that own nothing at that point. */
#define TRY(expr)                          \
    do {                                   \
        Status try_st_ = (expr);           \
        if (try_st_ != OK) return try_st_; \
    } while (0)

#endif
