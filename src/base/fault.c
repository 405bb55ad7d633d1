/* SPDX-License-Identifier: Apache-2.0
 * Counters behind the fault points. Disarming keeps the count and the fired flag, so that a test
 * can disarm first, clean up without faults, and look afterwards. Any thread. */
#include "base/fault.h"

#include <signal.h>
#include <stdatomic.h>

typedef struct FaultPoint {
    _Atomic uint64_t at;    /* [atomic] 1-based call that fails; 0: not armed. Relaxed: a test arms
                               before it starts the threads that are to see it */
    _Atomic uint64_t count; /* [atomic] calls since armed */
    _Atomic bool fired;     /* [atomic] */
} FaultPoint;

static FaultPoint points[FAULT_KIND_COUNT];

void fault_arm(FaultKind kind, uint64_t n) {
    FaultPoint *f = &points[kind];
    if (n != 0) {
        atomic_store_explicit(&f->count, 0, memory_order_relaxed);
        atomic_store_explicit(&f->fired, false, memory_order_relaxed);
    }
    atomic_store_explicit(&f->at, n, memory_order_relaxed);
}

uint64_t fault_count(FaultKind kind) {
    return atomic_load_explicit(&points[kind].count, memory_order_relaxed);
}

bool fault_fired(FaultKind kind) {
    return atomic_load_explicit(&points[kind].fired, memory_order_relaxed);
}

/* Count a call; true if it is the armed one. */
static bool count_call(FaultKind kind) {
    FaultPoint *f = &points[kind];
    uint64_t at = atomic_load_explicit(&f->at, memory_order_relaxed);
    if (LIKELY(at == 0)) return false;
    uint64_t n = atomic_fetch_add_explicit(&f->count, 1, memory_order_relaxed) + 1;
    if (n != at) return false;
    atomic_store_explicit(&f->fired, true, memory_order_relaxed);
    return true;
}

bool fault_hit(FaultKind kind) {
    if (kind == FAULT_IO && count_call(FAULT_KILL)) raise(SIGKILL);
    return count_call(kind);
}
