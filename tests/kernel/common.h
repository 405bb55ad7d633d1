/* SPDX-License-Identifier: Apache-2.0
 * What the kernel tests share: levels, random arrays between guard pages, and the comparison with a
 * float64 result in the accuracy class of the slot table. */
#ifndef INGOT_TESTS_KERNEL_COMMON_H
#define INGOT_TESTS_KERNEL_COMMON_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "tensor/blocks.h"
#include "tensor/half.h"
#include "test.h"

/* What a failure is reported with. */
static uint64_t kt_seed;
static uint64_t kt_drawn; /* numbers drawn from kt_seed */
static Kern kt;           /* the level under test */

/* ---- levels: for (int l = 0; l < CPU_LEVELS; l++) { if (!kt_level(l)) continue; ... } ---- */

static UNUSED bool kt_level(int level) {
    static bool said[CPU_LEVELS];
    Err e = {0};
    const char *name = kern_level_name((CpuLevel)level);
    if (kern_init(&kt, name, &e) == OK) return true;
    if (!said[level]) printf("SKIP level %s: %s\n", name, e.msg);
    said[level] = true;
    return false;
}

static UNUSED Kern kt_ref(void) {
    Kern k;
    OK_(kern_init(&k, "ref", TERR));
    return k;
}

/* Accuracy class of a slot. */
static UNUSED double kt_rel(const char *slot) {
    int n;
    const KernSlot *s = kern_slots(&n);
    for (int i = 0; i < n; i++) {
        if (strcmp(s[i].name, slot) == 0) return s[i].rel;
    }
    FAIL("no slot \"%s\"", slot);
}

/* ---- random numbers ---- */

static UNUSED void kt_start(uint64_t seed) {
    kt_seed = seed;
    kt_drawn = 0;
}

static UNUSED uint32_t kt_u32(void) {
    uint32_t w[4];
    rng_philox(w, kt_seed, 7, kt_drawn++);
    return w[0];
}

static UNUSED int kt_int(int lo, int hi) { return lo + (int)(kt_u32() % (uint32_t)(hi - lo + 1)); }

static UNUSED float kt_uniform(float lo, float hi) {
    return lo + (hi - lo) * rng_u32_to_unit(kt_u32());
}

static UNUSED void kt_normal(float *x, size_t n, float std) {
    if (n > 0) rng_normal_fill(x, n, std, kt_seed, kt_drawn++ + 1000);
}

/* ---- arrays that end right before a page nobody may touch, with a canary before them ---- */

enum { KT_ARRAYS = 64, KT_CANARY = 128 };

typedef struct KtArray {
    char *map, *data;
    size_t map_bytes, bytes;
} KtArray;

static KtArray kt_arrays[KT_ARRAYS];
static int kt_n_array;

static UNUSED void *kt_bytes(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = ROUND_UP(bytes + KT_CANARY, page);
    if (kt_n_array == KT_ARRAYS) FAIL("over %d arrays", KT_ARRAYS);
    char *map = mmap(NULL, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + body, page, PROT_NONE) != 0) FAIL("mmap");
    char *data = map + body - bytes;
    memset(map, 0xa5, (size_t)(data - map));
    kt_arrays[kt_n_array++] = (KtArray){map, data, body + page, bytes};
    return data;
}

static UNUSED float *kt_floats(size_t n) { return kt_bytes(n * sizeof(float)); }

static UNUSED float *kt_normals(size_t n, float std) {
    float *x = kt_floats(n);
    kt_normal(x, n, std);
    return x;
}

static UNUSED float *kt_copy(const float *x, size_t n) {
    float *y = kt_floats(n);
    if (n > 0) memcpy(y, x, n * sizeof *y);
    return y;
}

/* Where the f16 scales of a block of a quantized type are; -1: none. */
static UNUSED void kt_halves(DType t, int at[2]) {
    at[0] = t == DT_Q6_K ? (int)offsetof(BlockQ6_K, d) : 0;
    at[1] = t == DT_Q4_1 || t == DT_Q5_1 || t == DT_Q4_K || t == DT_Q5_K ? 2 : -1;
}

/* n elements as blocks of random bytes. wild: of any scale, infinite ones and NaN too; else positive and
 * negative ones of about `size`. */
static UNUSED void kt_blocks(void *y, DType t, size_t n, bool wild, float size) {
    size_t bytes = dtype_bytes(t, n), step = (size_t)dtype_info((uint32_t)t)->block_bytes;
    int at[2];
    char *b = y;
    kt_halves(t, at);
    for (size_t i = 0; i < bytes; i += 4) {
        uint32_t u = kt_u32();
        memcpy(b + i, &u, MIN(bytes - i, sizeof u));
    }
    for (size_t i = 0; i < bytes && !wild; i += step) {
        for (int j = 0; j < 2; j++) {
            uint16_t h = half_f32_to_f16(kt_uniform(0.5f, 1) * (kt_u32() & 1 ? -size : size));
            if (at[j] >= 0) memcpy(b + i + at[j], &h, sizeof h);
        }
    }
}

/* Check every canary and unmap all. */
static UNUSED void kt_free(void) {
    for (int i = 0; i < kt_n_array; i++) {
        const KtArray *a = &kt_arrays[i];
        for (const char *p = a->map; p < a->data; p++) {
            if ((unsigned char)*p != 0xa5) {
                FAIL("level %s seed %llu: byte %td before an array of %zu was written",
                     kern_level_name(kt.level), (unsigned long long)kt_seed, a->data - p, a->bytes);
            }
        }
    }
    for (int i = 0; i < kt_n_array; i++) munmap(kt_arrays[i].map, kt_arrays[i].map_bytes);
    kt_n_array = 0;
}

/* ---- comparison ---- */

/* |got - want| within rel * terms, terms being the sum of absolute values of what was added up. Below
 * 1e-35 the f32 format itself runs out. */
static UNUSED void kt_near(const char *slot, size_t i, float got, double want, double terms) {
    double rel = kt_rel(slot), tol = rel * terms + 1e-35, diff = fabs((double)got - want);
    if (diff <= tol || (double)got == want) return;
    FAIL("%s at level %s, seed %llu, element %zu: got %.9g, want %.9g, off by %.3g, allowed %.3g",
         slot, kern_level_name(kt.level), (unsigned long long)kt_seed, i, (double)got, want, diff,
         tol);
}

static UNUSED void kt_same(const char *slot, const void *got, const void *want, size_t bytes) {
    const unsigned char *g = got, *w = want;
    for (size_t i = 0; i < bytes; i++) {
        if (g[i] == w[i]) continue;
        FAIL("%s at level %s, seed %llu, byte %zu of %zu: got %02x, want %02x", slot,
             kern_level_name(kt.level), (unsigned long long)kt_seed, i, bytes, g[i], w[i]);
    }
}

enum { KT_SEEDS = 3 };

/* Lengths around the widths of registers and unrolled loops. */
static UNUSED const int kt_sizes[] = {0,  1,  2,  3,   4,   5,   7,   8,   9,   15,
                                      16, 17, 23, 24,  31,  32,  33,  47,  48,  63,
                                      64, 65, 95, 127, 128, 129, 255, 257, 1000};
enum { KT_N_SIZES = (int)COUNT_OF(kt_sizes) };

/* Run body(n) for every level that exists, every size and some seeds. */
static UNUSED void kt_each_size(void (*body)(size_t n)) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (int s = 0; s < KT_N_SIZES; s++) {
            for (uint64_t seed = 1; seed <= KT_SEEDS; seed++) {
                kt_start(seed * 1000 + (uint64_t)kt_sizes[s]);
                body((size_t)kt_sizes[s]);
                kt_free();
            }
        }
    }
}

#endif
