/* SPDX-License-Identifier: Apache-2.0
 * Bump allocation in chunks. A chunk is zeroed when it comes from the heap and its bytes are handed
 * out once, so objects need no clearing. An object too large for a quarter of a chunk gets a chunk
 * of its own behind the head, and the head goes on filling up. One thread. */
#include "base/arena.h"

#include <string.h>

#define ARENA_ALIGN ((size_t)16)

struct ArenaChunk {
    ArenaChunk *next; /* owned */
    size_t used, cap; /* bytes of data */
    ALIGNED(16) uint8_t data[];
};

void arena_init(Arena *a, size_t chunk_bytes) {
    *a = (Arena){.chunk_bytes = MAX(ROUND_UP(chunk_bytes, ARENA_ALIGN), (size_t)256)};
}

void arena_deinit(Arena *a) {
    for (ArenaChunk *c = a->head, *next; c; c = next) {
        next = c->next;
        mem_free(c);
    }
    a->head = NULL;
    a->failed = false;
}

static ArenaChunk *chunk_new(size_t cap) {
    size_t bytes;
    if (!mem_add(&bytes, sizeof(ArenaChunk), cap)) return NULL;
    ArenaChunk *c = mem_alloc_n(bytes, 1);
    if (c) c->cap = cap;
    return c;
}

/* A chunk with room for n more bytes, or NULL. */
static ArenaChunk *chunk_for(Arena *a, size_t n) {
    if (a->head && a->head->cap - a->head->used >= n) return a->head;
    bool own = n > a->chunk_bytes / 4;
    ArenaChunk *c = chunk_new(own ? n : a->chunk_bytes);
    if (!c) return NULL;
    if (own && a->head) {
        c->next = a->head->next;
        a->head->next = c;
    } else {
        c->next = a->head;
        a->head = c;
    }
    return c;
}

void *arena_alloc(Arena *a, size_t n, size_t size) {
    size_t bytes, padded;
    if (a->failed) return NULL;
    ArenaChunk *c = NULL;
    if (mem_mul(&bytes, n, size) && mem_add(&padded, MAX(bytes, (size_t)1), ARENA_ALIGN - 1)) {
        bytes = padded / ARENA_ALIGN * ARENA_ALIGN;
        c = chunk_for(a, bytes);
    }
    if (!c) {
        a->failed = true;
        return NULL;
    }
    void *p = c->data + c->used;
    c->used += bytes;
    return p;
}

char *arena_dup(Arena *a, const void *p, size_t n) {
    size_t bytes;
    if (!mem_add(&bytes, n, 1)) {
        a->failed = true;
        return NULL;
    }
    char *q = arena_new_n(a, char, bytes);
    if (q && n > 0) memcpy(q, p, n);
    return q;
}

bool arena_ok(const Arena *a) { return !a->failed; }
