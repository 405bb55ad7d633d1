/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include "base/fault.h"
#include "test.h"

TEST(nothing_before_first_use) {
    Arena a;
    uint64_t n = mem_n_alloc();
    arena_init(&a, 1000);
    arena_deinit(&a);
    EQ(mem_n_alloc(), n);
}

TEST(objects_are_zeroed_aligned_apart) {
    size_t live = mem_live_bytes();
    Arena a;
    uint8_t *p[200];
    arena_init(&a, 1024);
    for (size_t i = 0; i < 200; i++) {
        size_t n = i * 7 % 50;
        p[i] = arena_alloc(&a, n, 1);
        TRUE_(p[i] != NULL);
        EQ((uintptr_t)p[i] % 16, 0);
        for (size_t j = 0; j < n; j++) EQ(p[i][j], 0);
        memset(p[i], (int)i, n);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < i * 7 % 50; j++) EQ(p[i][j], i);
    TRUE_(arena_ok(&a));
    arena_deinit(&a);
    EQ(mem_live_bytes(), live);
}

/* One large object must not strand the rest of the chunk in use. */
TEST(large_object_gets_its_own_chunk) {
    Arena a;
    arena_init(&a, 1024);
    TRUE_(arena_alloc(&a, 16, 1) != NULL);
    uint64_t n = mem_n_alloc();
    TRUE_(arena_alloc(&a, 100000, 1) != NULL);
    EQ(mem_n_alloc(), n + 1);
    TRUE_(arena_alloc(&a, 16, 1) != NULL);
    EQ(mem_n_alloc(), n + 1);
    arena_deinit(&a);
}

TEST(first_object_larger_than_a_chunk) {
    Arena a;
    arena_init(&a, 256);
    uint8_t *p = arena_alloc(&a, 5000, 1);
    TRUE_(p != NULL);
    memset(p, 1, 5000);
    TRUE_(arena_new(&a, int) != NULL);
    arena_deinit(&a);
}

TEST(failure_sticks) {
    Arena a;
    arena_init(&a, 1024);
    fault_arm(FAULT_ALLOC, 1);
    void *p = arena_alloc(&a, 1, 1);
    fault_arm(FAULT_ALLOC, 0);
    TRUE_(p == NULL);
    TRUE_(!arena_ok(&a));
    TRUE_(arena_alloc(&a, 1, 1) == NULL);
    arena_deinit(&a);
    TRUE_(arena_ok(&a));
}

TEST(sizes_that_overflow) {
    Arena a;
    for (int i = 0; i < 4; i++) {
        arena_init(&a, 1024);
        if (i == 0) TRUE_(arena_alloc(&a, SIZE_MAX / 2, 3) == NULL);
        if (i == 1) TRUE_(arena_alloc(&a, SIZE_MAX, 1) == NULL);
        if (i == 2) TRUE_(arena_alloc(&a, SIZE_MAX - 30, 1) == NULL);
        if (i == 3) TRUE_(arena_dup(&a, "", SIZE_MAX) == NULL);
        TRUE_(!arena_ok(&a));
        arena_deinit(&a);
    }
}

TEST(dup) {
    Arena a;
    arena_init(&a, 0);
    EQ_STR(arena_dup(&a, "hello", 4), "hell");
    EQ_STR(arena_dup(&a, NULL, 0), "");
    arena_deinit(&a);
}
