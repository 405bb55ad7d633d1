/* SPDX-License-Identifier: Apache-2.0
 * Stop strings in text that comes in pieces. Text is passed on as soon as it cannot be part of a stop string
 * any more, byte for byte, however the pieces are cut.
 *
 * The match that ends first in the text counts; of those that end at the same byte the longest, of equal
 * strings the first in the list. Stop strings and pieces of whole code points give whole code points, so
 * this goes behind a Detok. One thread. */
#ifndef INGOT_ENGINE_STOP_H
#define INGOT_ENGINE_STOP_H

#include "base/err.h"
#include "base/str.h"

enum { SAMPLE_MAX_STOPS = 16, SAMPLE_MAX_STOP_BYTES = 256 };

/* Callers read `hit` alone. Zeroed: there are no stop strings and all text passes through. */
typedef struct SampleStop {
    int hit;      /* number of the stop string that came, from 1 in the order given; 0: none yet */
    int n;        /* strings */
    bool include; /* the stop string itself is passed on too */
    bool muted;   /* callers' too: strings that end in what is pushed do not count */
    struct {
        const uint8_t *text, *fail; /* [len], in the caller's memory */
        uint16_t len, at;           /* at: bytes of it that the newest text ends with */
    } s[SAMPLE_MAX_STOPS];
} SampleStop;

/* ERR_ARG: too many, an empty or a too long one; names it by its index. */
MUST_CHECK Status sample_stop_check(const Slice *strs, int n, Err *e);
/* Bytes of memory that the strings need, 0 for none. */
size_t sample_stop_bytes(const Slice *strs, int n);
/* Strings that were checked. They are copied to mem[sample_stop_bytes], which is borrowed. */
void sample_stop_init(SampleStop *s, const Slice *strs, int n, bool include, void *mem);
/* Append to out what may be shown now; true once a stop string has come, after which all is ignored. While `muted` is
 * set none comes; one that has begun meanwhile may. */
bool sample_stop_push(SampleStop *s, Slice piece, StrBuf *out);
/* The end of the text: append what was held back. */
void sample_stop_finish(SampleStop *s, StrBuf *out);

#endif
