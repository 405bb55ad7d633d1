/* SPDX-License-Identifier: Apache-2.0
 * The heap, counted. Block sizes come from malloc_usable_size, so there is no header in front of a
 * block and a sanitizer still sees every byte out of bounds. Large blocks are anonymous maps
 * aligned to 2 MB, because the kernel backs only whole aligned ranges with huge pages. Any thread:
 * the counters are relaxed atomics and order nothing. */
#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/internal.h"

#define MEM_HUGE ((size_t)2 << 20)
#define MEM_PAGE ((size_t)64 << 10) /* the largest page of the machines in question */
#define MEM_LINE ((size_t)64)
#define MEM_POPULATE 23 /* MADV_POPULATE_WRITE of Linux 5.14, for older headers */

static _Atomic size_t live_bytes, peak_bytes;
static _Atomic uint64_t n_alloc;

static void count_live(size_t bytes) {
    size_t live = atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed) + bytes;
    size_t peak = atomic_load_explicit(&peak_bytes, memory_order_relaxed);
    while (live > peak &&
           !atomic_compare_exchange_weak_explicit(&peak_bytes, &peak, live, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

static void count_gone(size_t bytes) {
    atomic_fetch_sub_explicit(&live_bytes, bytes, memory_order_relaxed);
}

static void count_alloc(size_t bytes) {
    atomic_fetch_add_explicit(&n_alloc, 1, memory_order_relaxed);
    count_live(bytes);
}

bool mem_mul(size_t *out, size_t a, size_t b) { return !__builtin_mul_overflow(a, b, out); }
bool mem_add(size_t *out, size_t a, size_t b) { return !__builtin_add_overflow(a, b, out); }

/* PTRDIFF_MAX: a larger object breaks pointer subtraction, and sanitizers stop on it. */
static bool block_bytes(size_t *out, size_t n, size_t size) {
    if (!mem_mul(out, n, size) || *out > PTRDIFF_MAX - 2 * MEM_HUGE) return false;
    *out = MAX(*out, (size_t)1);
    return true;
}

void *mem_alloc_n(size_t n, size_t size) {
    size_t bytes;
    if (!block_bytes(&bytes, n, size) || fault_hit(FAULT_ALLOC)) return NULL;
    void *p = calloc(1, bytes);
    if (p) count_alloc(malloc_usable_size(p));
    return p;
}

void *mem_realloc_n(void *p, size_t n, size_t size) {
    size_t bytes;
    if (!block_bytes(&bytes, n, size) || fault_hit(FAULT_ALLOC)) return NULL;
    size_t old = p ? malloc_usable_size(p) : 0;
    void *q = realloc(p, bytes);
    if (!q) return NULL;
    count_gone(old);
    count_alloc(malloc_usable_size(q));
    return q;
}

char *mem_dup(const void *p, size_t n) {
    size_t bytes;
    if (!mem_add(&bytes, n, 1)) return NULL;
    char *q = mem_new_n(char, bytes);
    if (q && n > 0) memcpy(q, p, n);
    return q;
}

void mem_free(void *p) {
    if (!p) return;
    count_gone(malloc_usable_size(p));
    free(p);
}

/* Map one huge page more than asked and give back what lies outside the aligned range. */
static void *map_aligned(size_t bytes) {
    uint8_t *base =
        mmap(NULL, bytes + MEM_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    size_t head = (MEM_HUGE - (uintptr_t)base % MEM_HUGE) % MEM_HUGE;
    if (head > 0) munmap(base, head);
    if (head < MEM_HUGE) munmap(base + head + bytes, MEM_HUGE - head);
    madvise(base + head, bytes, MADV_HUGEPAGE); /* refused by some kernels: slower, not wrong */
    return base + head;
}

static void *alloc_lines(size_t bytes) {
    void *p = aligned_alloc(MEM_LINE, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

/* What a block of this size really takes; the same answer on allocation and on freeing. */
static size_t map_bytes(size_t bytes) {
    if (bytes < MEM_HUGE) return ROUND_UP(MAX(bytes, (size_t)1), MEM_LINE);
    return ROUND_UP(bytes, MEM_PAGE);
}

void *mem_map_alloc(size_t bytes) {
    size_t full;
    if (!block_bytes(&full, bytes, 1) || fault_hit(FAULT_ALLOC)) return NULL;
    full = map_bytes(bytes);
    void *p = bytes < MEM_HUGE ? alloc_lines(full) : map_aligned(full);
    if (p) count_alloc(full);
    return p;
}

void mem_map_free(void *p, size_t bytes) {
    if (!p) return;
    size_t full = map_bytes(bytes);
    count_gone(full);
    if (bytes < MEM_HUGE) free(p);
    else munmap(p, full);
}

void mem_map_touch(void *p, size_t bytes) {
    uintptr_t from = ROUND_UP((uintptr_t)p, MEM_PAGE), end = (uintptr_t)p + bytes;
    if (from < end) madvise((void *)from, end - from, MEM_POPULATE);
}

size_t mem_live_bytes(void) { return atomic_load_explicit(&live_bytes, memory_order_relaxed); }
size_t mem_peak_bytes(void) { return atomic_load_explicit(&peak_bytes, memory_order_relaxed); }
uint64_t mem_n_alloc(void) { return atomic_load_explicit(&n_alloc, memory_order_relaxed); }

/* Version 2 calls the file memory.max ("max" or bytes), version 1 memory.limit_in_bytes. */
static void lower_to_cgroup(void *ctx, const char *dir) {
    size_t *limit = ctx;
    char text[64];
    uint64_t v;
    if (!cgroup__read(text, sizeof text, dir, "memory.max") &&
        !cgroup__read(text, sizeof text, dir, "memory.limit_in_bytes"))
        return;
    if (str_to_u64(&v, text) && v > 0) *limit = MIN(*limit, (size_t)v);
}

size_t mem_limit_bytes(void) {
    long n_pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t limit = n_pages > 0 && page > 0 ? (size_t)n_pages * (size_t)page : SIZE_MAX;
    cgroup__visit("memory", lower_to_cgroup, &limit);
    return limit;
}

/* VmHWM and not getrusage: ru_maxrss survives exec, so a small program started by a large one
 * reports the size of its parent. */
size_t mem_peak_rss_bytes(void) {
    struct rusage ru;
    unsigned long kb = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && kb == 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lu kB", &kb) != 1) kb = 0;
    if (f) fclose(f);
    if (kb == 0 && getrusage(RUSAGE_SELF, &ru) == 0) kb = (unsigned long)ru.ru_maxrss;
    return (size_t)kb * 1024;
}
