/* SPDX-License-Identifier: Apache-2.0
 * A stream of server-sent events, cut into its events wherever the network has cut it: lines end in LF, CR or CRLF,
 * an empty line ends an event, its "data" lines are joined by LF; everything else is passed over. What one event
 * holds is bounded. One thread. */
#ifndef INGOT_LOAD_SSE_H
#define INGOT_LOAD_SSE_H

#include "base/str.h"

enum { LOAD_MAX_EVENT = 4 << 20 };

typedef struct LoadSse {
    StrBuf line, data; /* owned */
    bool any;          /* the event has a data line */
    bool after_cr;
} LoadSse;

/* A zeroed LoadSse is a stream that begins. */
void load_sse_deinit(LoadSse *s);
/* Empty again; the memory stays for reuse. */
void load_sse_clear(LoadSse *s);
/* Take bytes; take is called for each event that ends among them, and ends the walk with its Status.
 * ERR_FULL: an event over LOAD_MAX_EVENT bytes. ERR_NOMEM. */
MUST_CHECK Status load_sse_feed(LoadSse *s, Slice bytes,
                                Status (*take)(void *ctx, Slice data, Err *e), void *ctx, Err *e);
/* Whether bytes wait for the end of their event. */
bool load_sse_pending(const LoadSse *s);

#endif
