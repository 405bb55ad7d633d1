/* SPDX-License-Identifier: Apache-2.0
 * Names to places, in constant time: linear probing at a load of one half or less. The seed
 * differs from run to run, and since a file can hold names that collide under every seed, a
 * chain that chance does not make is refused: time stays linear in the names. Immutable once the
 * file is open, so any thread may look up. */
#include "base/clock.h"
#include "base/sha.h"
#include "format/gguf_internal.h"

enum { MAX_CHAIN = 1024 };

/* Every entry starts with its name. */
_Static_assert(offsetof(GgufKv, key) == 0 && offsetof(GgufTensor, name) == 0, "name comes first");

static Slice name_at(GgufNames names, size_t i) {
    return *(const Slice *)((const char *)names.base + i * names.stride);
}

static size_t first_slot(const GgufIndex *x, Slice name) {
    return (size_t)sha_hash64(name.p, name.n, x->seed) & (x->cap - 1);
}

bool gguf__index_reserve(GgufIndex *x, GgufNames names, size_t n_have, size_t n_want) {
    size_t cap = x->cap ? x->cap : 16;
    while (cap < 2 * n_want) cap *= 2;
    if (cap == x->cap) return true;
    uint32_t *slot = mem_new_n(uint32_t, cap);
    if (!slot) return false;
    mem_free(x->slot);
    x->slot = slot;
    x->cap = cap;
    x->seed = clock_now_ns() ^ (uintptr_t)slot;
    for (size_t i = 0; i < n_have; i++) {
        if (!gguf__index_add(x, names, i)) return false;
    }
    return true;
}

size_t gguf__index_find(const GgufIndex *x, GgufNames names, Slice name) {
    if (!x->cap) return SIZE_MAX;
    for (size_t s = first_slot(x, name); x->slot[s]; s = (s + 1) & (x->cap - 1)) {
        size_t i = x->slot[s] - 1;
        if (slice_eq(name_at(names, i), name)) return i;
    }
    return SIZE_MAX;
}

bool gguf__index_add(GgufIndex *x, GgufNames names, size_t i) {
    size_t s = first_slot(x, name_at(names, i));
    for (int n = 0; x->slot[s]; n++) {
        if (n == MAX_CHAIN) return false;
        s = (s + 1) & (x->cap - 1);
    }
    x->slot[s] = (uint32_t)i + 1;
    return true;
}

void gguf__index_deinit(GgufIndex *x) {
    mem_free(x->slot);
    *x = (GgufIndex){0};
}
