/* SPDX-License-Identifier: Apache-2.0
 * Mutated GGUF files: good seeds with flipped bytes, integers replaced by edge values where a
 * reader expects lengths, counts and offsets, cuts, swapped and repeated blocks. Each lies in a
 * block of exactly its size and goes through the walk of tests/fuzz/gguf.c. INGOT_MUTATIONS sets
 * how many (default 2,000); number i is the same file in every run. INGOT_CORPUS=folder writes
 * the seeds there. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "fuzz/gguf.c"
#include "support/gguf_build.h"

/* splitmix64 */
static uint64_t next(uint64_t *s) {
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t below(uint64_t *s, size_t n) { return n ? (size_t)(next(s) % n) : 0; }

static void flip_bytes(Blob *b, uint64_t *s) {
    for (size_t k = 1 + below(s, 4); k > 0 && b->n; k--) {
        size_t at = below(s, b->n);
        b->p[at] = below(s, 2) ? (uint8_t)next(s) : (uint8_t)(b->p[at] ^ 1u << below(s, 8));
    }
}

static uint64_t edge_value(const Blob *b, uint64_t old, uint64_t *s) {
    const uint64_t edges[] = {0,
                              1,
                              2,
                              3,
                              5,
                              9,
                              13,
                              31,
                              32,
                              64,
                              97,
                              127,
                              128,
                              255,
                              256,
                              65535,
                              65536,
                              GGUF_MAX_ENTRIES,
                              GGUF_MAX_ENTRIES + 1,
                              INT32_MAX,
                              UINT64_C(1) << 31,
                              UINT32_MAX,
                              UINT64_C(1) << 32,
                              UINT64_C(1) << 60,
                              UINT64_C(1) << 61,
                              INT64_MAX,
                              UINT64_C(1) << 63,
                              UINT64_MAX - 31,
                              UINT64_MAX,
                              b->n,
                              b->n - 1,
                              old + 1,
                              old - 1,
                              old + 32,
                              old - 32,
                              old * 2,
                              old / 2,
                              ~old,
                              0 - old};
    return edges[below(s, COUNT_OF(edges))];
}

static void edge_fields(Blob *b, uint64_t *s) {
    for (size_t k = 1 + below(s, 2); k > 0; k--) {
        size_t f = below(s, (size_t)b->n_fields), width = (size_t)b->field[f].width;
        uint64_t old = 0;
        if (b->field[f].at + width > b->n) continue; /* cut off by an earlier change */
        memcpy(&old, b->p + b->field[f].at, width);
        uint64_t v = edge_value(b, old, s);
        memcpy(b->p + b->field[f].at, &v, width);
    }
}

static void cut(Blob *b, uint64_t *s) { b->n = below(s, b->n + 1); }

static void swap_blocks(Blob *b, uint64_t *s) {
    size_t len = 1 + below(s, 64);
    if (b->n < 2 * len) return;
    size_t i = below(s, b->n - len + 1), j = below(s, b->n - len + 1);
    for (size_t k = 0; k < len; k++) {
        uint8_t t = b->p[i + k];
        b->p[i + k] = b->p[j + k];
        b->p[j + k] = t;
    }
}

/* A part of the file again, in the middle of it: entries that appear twice. */
static void repeat_block(Blob *b, uint64_t *s) {
    uint8_t part[128], *rest;
    size_t want = 1 + below(s, sizeof part), len = MIN(b->n, want);
    size_t from = below(s, b->n - len + 1), at = below(s, b->n + 1), n_rest = b->n - at;
    memcpy(part, b->p + from, len);
    rest = malloc(n_rest + 1);
    if (!rest) abort();
    memcpy(rest, b->p + at, n_rest);
    b->n = at;
    blob_put(b, part, len);
    blob_put(b, rest, n_rest);
    free(rest);
}

static void remove_block(Blob *b, uint64_t *s) {
    size_t at = below(s, b->n), want = 1 + below(s, 64), len = MIN(b->n - at, want);
    memmove(b->p + at, b->p + at + len, b->n - at - len);
    b->n -= len;
}

/* File number i; edge values twice as often as each other change. */
static void mutate(Blob *b, uint64_t i) {
    static void (*const change[])(Blob *, uint64_t *) = {edge_fields, edge_fields, flip_bytes,
                                                         cut,         swap_blocks, repeat_block,
                                                         remove_block};
    uint64_t s = i * UINT64_C(0x2545f4914f6cdd1d) + 1;
    blob_seed(b, (int)below(&s, BLOB_SEEDS));
    for (size_t k = 1 + below(&s, 3); k > 0 && b->n; k--)
        change[below(&s, COUNT_OF(change))](b, &s);
}

static uint64_t n_mutations(void) {
    const char *text = getenv("INGOT_MUTATIONS");
    uint64_t n = 2000;
    if (text && !str_to_u64(&n, text)) FAIL("INGOT_MUTATIONS \"%s\" is not a number", text);
    return n;
}

TEST(mutated_files_are_refused_or_whole) {
    Blob b = {0};
    uint64_t n = n_mutations(), n_opened = 0;
    for (uint64_t i = 0; i < n; i++) {
        Gguf *g = NULL;
        mutate(&b, i);
        uint8_t *exact = malloc(b.n + (b.n == 0));
        if (!exact) abort();
        memcpy(exact, b.p, b.n);
        const char *bad = gguf_fuzz_check(exact, b.n);
        if (bad) FAIL("file %llu of %llu: %s", (unsigned long long)i, (unsigned long long)n, bad);
        n_opened += gguf_open_bytes(&g, exact, b.n, NULL) == OK;
        gguf_close(g);
        free(exact);
    }
    /* Some must get through, or the walk saw nothing; most must not. */
    TRUE_(n < 100 || (n_opened > n / 100 && n_opened < n / 2));
    /* Files of 5 KB and no count believed: far below the contract's 64 MB. */
    TRUE_(mem_peak_bytes() < (size_t)1 << 20);
    blob_free(&b);
}

TEST(seeds_open) {
    const char *dir = getenv("INGOT_CORPUS");
    for (int i = 0; i < BLOB_SEEDS; i++) {
        Blob b = {0};
        Gguf *g = NULL;
        blob_seed(&b, i);
        OK_(gguf_open_bytes(&g, b.p, b.n, TERR));
        gguf_close(g);
        if (dir) {
            char path[512];
            snprintf(path, sizeof path, "%s/%s.gguf", dir, blob_seed_name(i));
            FILE *f = fopen(path, "wb");
            TRUE_(f && fwrite(b.p, 1, b.n, f) == b.n && fclose(f) == 0);
        }
        blob_free(&b);
    }
}
