/* SPDX-License-Identifier: Apache-2.0
 *
 * Open-addressing tables, at most half full: bytes -> id, texts numbered as they come, and pair of
 * symbols -> merge. Filled once while loading, read by any thread afterwards.
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

/* ---- bytes -> id ---- */

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

int32_t tok__idmap_add(IdMap *m, int32_t id) {
    size_t i = find_slot(m, m->keys[id]);
    if (m->slots[i] < 0) m->slots[i] = id;
    return m->slots[i];
}

int32_t tok__idmap_find(const IdMap *m, Slice key) { return m->slots[find_slot(m, key)]; }

/* ---- symbols: texts numbered as they come ---- */

bool tok__syms_init(Syms *s, size_t n_max) {
    s->cap = MAX(n_max, (size_t)64);
    s->text = mem_new_n(Slice, s->cap);
    return s->text && tok__idmap_init(&s->map, s->text, s->cap);
}

void tok__syms_deinit(Syms *s) {
    tok__idmap_deinit(&s->map);
    mem_free(s->text);
}

/* Twice the room; all is found as before. */
static bool syms_grow(Syms *s) {
    IdMap map = {0};
    Slice *text = mem_new_n(Slice, 2 * s->cap);
    if (!text || !tok__idmap_init(&map, text, 2 * s->cap)) {
        mem_free(text);
        return false;
    }
    memcpy(text, s->text, s->n * sizeof *text);
    tok__syms_deinit(s);
    *s = (Syms){.text = text, .n = s->n, .cap = 2 * s->cap, .map = map};
    for (size_t i = 0; i < s->n; i++) tok__idmap_add(&s->map, (int32_t)i);
    return true;
}

int32_t tok__syms_add(Syms *s, Slice text) {
    if (s->n == s->cap && (s->n >= INT32_MAX / 2 || !syms_grow(s))) return -1;
    s->text[s->n] = text;
    return tok__idmap_add(&s->map, (int32_t)s->n++);
}

int32_t tok__syms_intern(Syms *s, Slice text) {
    int32_t id = tok__idmap_find(&s->map, text);
    return id >= 0 ? id : tok__syms_add(s, text);
}

/* ---- pair -> merge ---- */

static void merges_put(MergeMap *m, Merge x) {
    size_t i = (size_t)(x.pair * m->odd >> m->shift);
    while (m->slots[i].pair != UINT64_MAX) i = (i + 1) & m->mask;
    m->slots[i] = x;
    m->n++;
}

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

bool tok__merges_add(MergeMap *m, Merge x) {
    if (2 * (m->n + 1) > m->mask + 1) {
        MergeMap old = *m;
        if (!tok__merges_init(m, old.mask + 1)) {
            *m = old;
            return false;
        }
        for (size_t i = 0; i <= old.mask; i++) {
            if (old.slots[i].pair != UINT64_MAX) merges_put(m, old.slots[i]);
        }
        tok__merges_deinit(&old);
    }
    if (tok__merges_find(m, (int32_t)(x.pair >> 32), (int32_t)(x.pair & UINT32_MAX)).rank ==
        TOK_NO_RANK) {
        merges_put(m, x);
    }
    return true;
}
