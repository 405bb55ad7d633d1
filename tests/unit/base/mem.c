/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "test.h"

static bool is_zero(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return false;
    return true;
}

TEST(zeroed_and_counted) {
    size_t live = mem_live_bytes();
    uint64_t n = mem_n_alloc();
    uint8_t *p = mem_new_n(uint8_t, 1000);
    TRUE_(p && is_zero(p, 1000));
    TRUE_(mem_live_bytes() >= live + 1000);
    EQ(mem_n_alloc(), n + 1);
    mem_free(p);
    EQ(mem_live_bytes(), live);
    EQ(mem_n_alloc(), n + 1);
    mem_free(NULL);
}

TEST(nothing_is_a_pointer_too) {
    size_t live = mem_live_bytes();
    void *p = mem_alloc_n(0, 8), *q = mem_map_alloc(0);
    TRUE_(p && q);
    mem_free(p);
    mem_map_free(q, 0);
    mem_map_free(NULL, 100);
    EQ(mem_live_bytes(), live);
}

TEST(overflow_is_out_of_memory) {
    char *p = mem_new_n(char, 4);
    EQ(mem_alloc_n(SIZE_MAX / 2 + 1, 2) == NULL, 1);
    EQ(mem_alloc_n(SIZE_MAX, 1) == NULL, 1);
    EQ(mem_realloc_n(p, SIZE_MAX / 4, 8) == NULL, 1);
    EQ(mem_map_alloc(SIZE_MAX) == NULL, 1);
    EQ(mem_dup("", SIZE_MAX) == NULL, 1);
    mem_free(p);
}

TEST(realloc_keeps_content_and_count) {
    size_t live = mem_live_bytes();
    char *p = mem_realloc_n(NULL, 10, 1);
    memcpy(p, "123456789", 10);
    p = mem_realloc_n(p, 100000, 1);
    EQ_STR(p, "123456789");
    TRUE_(mem_live_bytes() >= live + 100000);
    p = mem_realloc_n(p, 0, 1);
    TRUE_(p != NULL);
    mem_free(p);
    EQ(mem_live_bytes(), live);
}

TEST(dup_ends_in_nul) {
    char *p = mem_dup("abcdef", 3), *q = mem_dup(NULL, 0);
    EQ_STR(p, "abc");
    EQ_STR(q, "");
    mem_free(p);
    mem_free(q);
}

TEST(map_blocks_are_aligned_zeroed_counted) {
    static const size_t SIZES[] = {
        1, 63, 64, 65, 4096, 100000, (2u << 20) - 1, 2u << 20, (2u << 20) + 1, 7u << 20};
    for (size_t i = 0; i < COUNT_OF(SIZES); i++) {
        size_t live = mem_live_bytes(), n = SIZES[i];
        uint8_t *p = mem_map_alloc(n);
        TRUE_(p && is_zero(p, n));
        EQ((uintptr_t)p % 64, 0);
        if (n >= 2u << 20) EQ((uintptr_t)p % (2u << 20), 0);
        memset(p, 0xAB, n);
        TRUE_(mem_live_bytes() >= live + n);
        mem_map_free(p, n);
        EQ(mem_live_bytes(), live);
    }
}

/* Bytes of p's pages that are in memory. */
static size_t resident(void *p, size_t n) {
    static unsigned char in[4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = 0;
    TRUE_(n / page <= sizeof in);
    EQ(mincore(p, n, in), 0);
    for (size_t i = 0; i < n / page; i++) all += (in[i] & 1) != 0 ? page : 0;
    return all;
}

TEST(pages_are_there_when_asked_for) {
    const size_t n = 8 << 20, half = 4 << 20;
    uint8_t *p = mem_map_alloc(n), *small = mem_map_alloc(100000);
    TRUE_(p && small);
    EQ(resident(p, n), 0);
    mem_map_touch(p + half, half);
    size_t there = resident(p, n);
    bool known = madvise(p, half, 23) == 0; /* MADV_POPULATE_WRITE, since Linux 5.14 */
    EQ(there, known ? half : 0);
    TRUE_(is_zero(p, n));
    memset(small, 7, 100000);
    mem_map_touch(small, 100000);
    for (size_t i = 0; i < 100000; i++) EQ(small[i], 7);
    mem_map_free(p, n);
    mem_map_free(small, 100000);
}

TEST(peak_never_falls) {
    size_t before = mem_peak_bytes();
    void *p = mem_map_alloc(32u << 20);
    TRUE_(mem_peak_bytes() >= mem_live_bytes());
    size_t peak = mem_peak_bytes();
    mem_map_free(p, 32u << 20);
    EQ(mem_peak_bytes(), peak);
    TRUE_(peak >= before);
}

TEST(fault_points) {
    char *p = mem_dup("x", 1);
    void *q[4];
    fault_arm(FAULT_ALLOC, 1);
    q[0] = mem_new(int);
    fault_arm(FAULT_ALLOC, 1);
    q[1] = mem_realloc_n(p, 100, 1);
    fault_arm(FAULT_ALLOC, 1);
    q[2] = mem_map_alloc(100);
    fault_arm(FAULT_ALLOC, 1);
    q[3] = mem_dup("y", 1);
    fault_arm(FAULT_ALLOC, 0);
    for (int i = 0; i < 4; i++) TRUE_(q[i] == NULL);
    EQ_STR(p, "x");
    mem_free(p);
}

TEST(checked_sums) {
    size_t v;
    TRUE_(mem_mul(&v, SIZE_MAX / 3, 3));
    EQ(v, SIZE_MAX);
    TRUE_(!mem_mul(&v, SIZE_MAX / 2 + 1, 2));
    TRUE_(mem_add(&v, SIZE_MAX - 1, 1));
    TRUE_(!mem_add(&v, SIZE_MAX, 1));
}

TEST(limits_are_plausible) {
    TRUE_(mem_limit_bytes() >= 16u << 20);
    TRUE_(mem_limit_bytes() < (size_t)1 << 50);
    TRUE_(mem_peak_rss_bytes() >= 100000);
    TRUE_(mem_peak_rss_bytes() < (size_t)1 << 46); /* a sanitizer's shadow is not resident */
}
