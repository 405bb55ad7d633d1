/* SPDX-License-Identifier: Apache-2.0
 *
 * Two open-addressing tables, at most half full: bytes -> token id, and pair of ids -> merge. Filled
 * once while loading, read by any thread afterwards.
 */
#include "base/clock.h"
#include "token/internal.h"

uint64_t tok__seed(const void *p) {
    return tok__mix(clock_now_ns(), (uintptr_t)p, (uintptr_t)&tok__seed);
}

/* Slots for n entries: a power of two, at least twice as many. */
static size_t slots_for(size_t n, int *bits) {
    *bits = 4;
    while (((size_t)1 << *bits) < 2 * n) ++*bits;
    return (size_t)1 << *bits;
}

bool tok__idmap_init(IdMap *m, const Slice *keys, size_t n_max) {
    int bits;
    size_t n = slots_for(n_max, &bits);
    *m = (IdMap){.keys = keys, .slots = mem_new_n(int32_t, n), .mask = n - 1};
    if (!m->slots) return false;
    m->seed = tok__seed(m->slots);
    memset(m->slots, 0xff, n * sizeof *m->slots);
    return true;
}

void tok__idmap_deinit(IdMap *m) { mem_free(m->slots); }

/* The slot that holds key, or the empty one where it belongs. */
static size_t find_slot(const IdMap *m, Slice key) {
    size_t i = (size_t)tok__hash(key, m->seed) & m->mask;
    while (m->slots[i] >= 0 && !tok__same(m->keys[m->slots[i]], key)) i = (i + 1) & m->mask;
    return i;
}

bool tok__idmap_add(IdMap *m, int32_t id, int32_t *other) {
    size_t i = find_slot(m, m->keys[id]);
    if (m->slots[i] >= 0) {
        *other = m->slots[i];
        return false;
    }
    m->slots[i] = id;
    return true;
}

int32_t tok__idmap_find(const IdMap *m, Slice key) { return m->slots[find_slot(m, key)]; }

bool tok__merges_init(MergeMap *m, size_t n_max) {
    int bits;
    size_t n = slots_for(n_max, &bits);
    *m = (MergeMap){.slots = mem_new_n(Merge, n), .mask = n - 1, .shift = 64 - bits};
    if (!m->slots) return false;
    m->odd = tok__seed(m->slots) | 1;
    for (size_t i = 0; i < n; i++) m->slots[i].pair = UINT64_MAX;
    return true;
}

void tok__merges_deinit(MergeMap *m) { mem_free(m->slots); }

bool tok__merges_add(MergeMap *m, Merge x, uint32_t *rank) {
    size_t i = (size_t)(x.pair * m->odd >> m->shift);
    while (m->slots[i].pair != UINT64_MAX && m->slots[i].pair != x.pair) i = (i + 1) & m->mask;
    if (m->slots[i].pair == x.pair) {
        *rank = m->slots[i].rank;
        return false;
    }
    m->slots[i] = x;
    return true;
}
