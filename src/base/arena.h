/* SPDX-License-Identifier: Apache-2.0
 * Arena: many small objects, freed in one call. Sticky failure: after the first failed allocation every
 * later one fails too, so check once at the end with arena_ok. One thread. */
#ifndef INGOT_BASE_ARENA_H
#define INGOT_BASE_ARENA_H

#include "base/mem.h"

typedef struct ArenaChunk ArenaChunk;
typedef struct Arena {
    ArenaChunk *head; /* owned */
    size_t chunk_bytes;
    bool failed;
} Arena;

/* Nothing is allocated before the first use. */
void arena_init(Arena *a, size_t chunk_bytes);
void arena_deinit(Arena *a);
/* Zeroed, 16-byte aligned, valid until arena_deinit; NULL when memory is out. */
void *arena_alloc(Arena *a, size_t n, size_t size);
#define arena_new(a, T) ((T *)arena_alloc((a), 1, sizeof(T)))
#define arena_new_n(a, T, n) ((T *)arena_alloc((a), (n), sizeof(T)))
/* Copy of n bytes plus a terminating NUL. */
char *arena_dup(Arena *a, const void *p, size_t n);
bool arena_ok(const Arena *a);

#endif
