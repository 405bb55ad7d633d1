/* SPDX-License-Identifier: Apache-2.0
 * Sets of code points, as sorted ranges. Surrogates are in no set: they have no UTF-8. */
#include <stdlib.h>

#include "engine/grammar/internal.h"

void grammar__set_add(Comp *c, SetBuild *b, uint32_t lo, uint32_t hi) {
    if (grammar__failed(c) || lo > hi) return;
    if (b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 8;
        CpRange *r = mem_realloc_n(b->r, cap, sizeof *r);
        if (!r) {
            c->st = err_set(c->e, ERR_NOMEM, "grammar: class");
            return;
        }
        b->r = r;
        b->cap = cap;
    }
    b->r[b->n++] = (CpRange){lo, MIN(hi, (uint32_t)GRAMMAR_MAX_CP)};
}

static int by_lo(const void *x, const void *y) {
    const CpRange *a = x, *b = y;
    return (a->lo > b->lo) - (a->lo < b->lo);
}

static size_t merge(CpRange *r, size_t n) {
    size_t m = 0;
    if (n) qsort(r, n, sizeof *r, by_lo);
    for (size_t i = 0; i < n; i++) {
        if (m && r[i].lo <= r[m - 1].hi + 1) r[m - 1].hi = MAX(r[m - 1].hi, r[i].hi);
        else r[m++] = r[i];
    }
    return m;
}

/* lo..hi without the surrogates, appended. */
static void put(CharSet *s, uint32_t lo, uint32_t hi) {
    enum { FIRST = 0xd800, LAST = 0xdfff };
    if (lo > hi) return;
    if (hi < FIRST || lo > LAST) {
        s->r[s->n++] = (CpRange){lo, hi};
        return;
    }
    if (lo < FIRST) s->r[s->n++] = (CpRange){lo, FIRST - 1};
    if (hi > LAST) s->r[s->n++] = (CpRange){LAST + 1, hi};
}

CharSet grammar__set_take(Comp *c, SetBuild *b, bool negate) {
    CharSet s = {0};
    size_t n = merge(b->r, b->n);
    if (!grammar__failed(c)) s.r = arena_new_n(&c->arena, CpRange, n + 2);
    if (s.r && !negate) {
        for (size_t i = 0; i < n; i++) put(&s, b->r[i].lo, b->r[i].hi);
    } else if (s.r) {
        uint32_t lo = 0;
        for (size_t i = 0; i < n; i++) {
            if (b->r[i].lo > lo) put(&s, lo, b->r[i].lo - 1);
            lo = b->r[i].hi + 1;
        }
        put(&s, lo, GRAMMAR_MAX_CP);
    }
    mem_free(b->r);
    *b = (SetBuild){0};
    return s;
}
