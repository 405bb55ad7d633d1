/* SPDX-License-Identifier: Apache-2.0
 * The ring and how its reader sleeps. Falling asleep is "announce, then look again", waking is "change, then look
 * for a sleeper", all four sequentially consistent, so one of the two always sees the other. The kernel compares
 * the announcement once more before it puts the reader to sleep, hence no wake-up is lost in between. */
#include "engine/ring.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

Status ring_init(Ring *r, size_t cap, size_t rec_bytes, Err *e) {
    size_t stride = ROUND_UP(rec_bytes, 8);
    *r = (Ring){.cap = cap, .stride = stride};
    r->mem = mem_alloc_n(cap, stride);
    return r->mem ? OK : err_set(e, ERR_NOMEM, "%zu records of %zu bytes", cap, stride);
}

void ring_deinit(Ring *r) {
    mem_free(r->mem);
    r->mem = NULL;
}

static unsigned char *place(const Ring *r, uint64_t i) { return r->mem + i % r->cap * r->stride; }

static void wake_reader(Ring *r) {
    if (atomic_load(&r->asleep) == 0) return;
    atomic_store(&r->asleep, 0);
    syscall(SYS_futex, &r->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool ring_push(Ring *r, const void *rec, size_t n) {
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&r->head, memory_order_acquire) == r->cap) return false;
    memcpy(place(r, tail), rec, n);
    atomic_store(&r->tail, tail + 1);
    wake_reader(r);
    return true;
}

const void *ring_peek(const Ring *r) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    return atomic_load(&r->tail) == head ? NULL : place(r, head);
}

void ring_drop(Ring *r) {
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
    atomic_store_explicit(&r->head, head + 1, memory_order_release);
}

bool ring_wait(Ring *r, int timeout_ms) {
    struct timespec t = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    if (ring_peek(r)) return true;
    atomic_store(&r->asleep, 1);
    if (!ring_peek(r))
        syscall(SYS_futex, &r->asleep, FUTEX_WAIT_PRIVATE, 1, timeout_ms < 0 ? NULL : &t, NULL, 0);
    atomic_store(&r->asleep, 0);
    return ring_peek(r) != NULL;
}
