/* SPDX-License-Identifier: Apache-2.0
 * Ring: records from one thread to another without a lock. The engine's thread puts tokens in, the thread that
 * reads an answer takes them out; putting neither waits nor allocates, and makes a system call only when the
 * reader sleeps.
 *
 *   mem   [ . . 5 6 7 8 . . ]    records head .. tail - 1 are in it, number i at place i % cap
 *             ^head     ^tail    head is the reader's, tail the writer's
 *
 * A full ring refuses the record: whoever sizes it sees to it that this cannot happen (answer.c has room for all
 * tokens a request may make), so that a slow reader holds nobody up. One writer, one reader. */
#ifndef INGOT_ENGINE_RING_H
#define INGOT_ENGINE_RING_H

#include <stdatomic.h>

#include "base/err.h"

/* Callers look at no field. */
typedef struct Ring {
    unsigned char *mem; /* [const] owned; cap * stride bytes */
    size_t cap, stride; /* [const] */
    char pad0[64];      /* the writer's and the reader's words stand on lines of their own */
    _Atomic uint64_t
        tail; /* [atomic] stored by the writer, loaded by the reader: the record is there */
    char pad1[64];
    _Atomic uint64_t
        head; /* [atomic] stored by the reader, loaded by the writer: the place is free */
    _Atomic uint32_t asleep; /* [atomic] the reader waits or is about to; futex word */
} Ring;

/* Room for cap >= 1 records of at most rec_bytes. ERR_NOMEM. */
MUST_CHECK Status ring_init(Ring *r, size_t cap, size_t rec_bytes, Err *e);
/* Neither side may be in it. A zeroed ring is legal. */
void ring_deinit(Ring *r);
/* Copy a record of n <= rec_bytes in and wake the reader. False: the ring is full. Writer. */
MUST_CHECK bool ring_push(Ring *r, const void *rec, size_t n);
/* The oldest record, aligned to 8 bytes, valid until ring_drop; NULL: there is none. Reader. */
const void *ring_peek(const Ring *r);
/* The oldest record's place may be used again. Only after a ring_peek that gave one. Reader. */
void ring_drop(Ring *r);
/* Sleep until there is a record, a signal comes or timeout_ms have passed (below 0: without end). Whether
 * there is one. Reader. */
bool ring_wait(Ring *r, int timeout_ms);

#endif
