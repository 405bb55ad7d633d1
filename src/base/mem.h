/* SPDX-License-Identifier: Apache-2.0
 * The one door to the heap. Sizes are checked, small objects come zeroed, and a test can make the
 * n-th allocation fail (base/fault.h). NULL means memory is out. Any thread. */
#ifndef INGOT_BASE_MEM_H
#define INGOT_BASE_MEM_H

#include "base/err.h"

/* Zeroed object or array; NULL when out of memory or when n * sizeof(T) overflows. Free with mem_free. */
#define mem_new(T) ((T *)mem_alloc_n(1, sizeof(T)))
#define mem_new_n(T, n) ((T *)mem_alloc_n((n), sizeof(T)))
/* n * size zeroed bytes. n == 0 gives a valid pointer. */
void *mem_alloc_n(size_t n, size_t size);
/* Resize to n * size bytes, the tail uninitialised; NULL leaves p as it was. */
void *mem_realloc_n(void *p, size_t n, size_t size);
/* Copy of n bytes plus a terminating NUL. */
char *mem_dup(const void *p, size_t n);
void mem_free(void *p);

/* Large zeroed block, 64-byte aligned, backed by 2 MB pages where the kernel has them. The size must be
 * given back on freeing. NULL when out of memory. */
void *mem_map_alloc(size_t bytes);
void mem_map_free(void *p, size_t bytes);
/* The whole pages of bytes at p inside such a block are there from now on, and whoever writes first does not wait for
 * the kernel (and it for the host) to find them. Nothing happens where the kernel does not know how. */
void mem_map_touch(void *p, size_t bytes);

/* out = a * b or a + b; false on overflow. */
MUST_CHECK bool mem_mul(size_t *out, size_t a, size_t b);
MUST_CHECK bool mem_add(size_t *out, size_t a, size_t b);

/* Bytes now held through this header and the highest they have been, for plans and tests. */
size_t mem_live_bytes(void);
size_t mem_peak_bytes(void);
/* Allocations ever made: a test holds the token loop and the train step to a difference of zero. */
uint64_t mem_n_alloc(void);
/* Physical memory this process may use: the smaller of the machine's and its cgroup's limit. */
size_t mem_limit_bytes(void);
/* Peak resident set size of the process, from the kernel. */
size_t mem_peak_rss_bytes(void);

#endif
