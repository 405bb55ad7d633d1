/* SPDX-License-Identifier: Apache-2.0
 * Rows of many kinds, quantized by the kernels of every level and by llama.cpp's ggml, byte by byte. Built
 * and run by quant_rows.sh, which says how; not part of `make test`.
 *
 *   quant_rows LIBGGML_BASE.so [SECONDS [SEED]]
 *   quant_rows LIBGGML_BASE.so --hashes     the table of tests/kernel/quant.c, from llama.cpp's bytes */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "kernel/quant_inputs.h"

enum { MAX_COLS = 2048, MAX_ROWS = 40, MAX_N = MAX_COLS * MAX_ROWS };

typedef size_t (*PeerFn)(int type, const float *x, void *y, int64_t start, int64_t rows,
                         int64_t cols, const float *w);

static const DType types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                              DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};
static const char *const x_kinds[] = {"normal",    "heavy", "constant", "zeros",      "tiny",
                                      "subnormal", "huge",  "negative", "positive",   "near",
                                      "steps",     "one",   "mixed",    "zero_block", "two_values"};
static const char *const w_kinds[] = {"none",     "ones", "random", "zeros_in",
                                      "all_zero", "huge", "tiny",   "spread"};

static uint64_t seed, drawn;

static uint32_t u32(void) {
    uint32_t w[4];
    rng_philox(w, seed, 3, drawn++);
    return w[0];
}
static float unit(void) { return (float)(u32() >> 8) * 0x1p-24f; }
static float normal(void) {
    return sqrtf(-2.0f * logf(unit() + 1e-7f)) * cosf(6.2831853f * unit());
}

/* Element of a kind; `base` is drawn once a block. */
static float element(int kind, float base, int i) {
    switch (kind) {
    case 0: return 0.02f * normal();
    case 1: return 0.02f * normal() / (unit() + 1e-3f);
    case 2: return base;
    case 3: return u32() & 1 ? 0.0f : -0.0f;
    case 4: return 1e-7f * normal();
    case 5: return 1e-38f * normal() * unit();
    case 6: return 1e5f * normal();
    case 7: return -fabsf(normal()) - 0.01f;
    case 8: return fabsf(normal()) + 0.01f;
    case 9: return base * (1.0f + 1e-6f * (float)(u32() % 5));
    case 10: return (float)((int)(u32() % 33) - 16) * 0.5f;
    case 11: return i == (int)(fabsf(base) * 1e6f) % 32 ? base : 0.0f;
    case 12: return normal() * powf(10.0f, (float)(int)(u32() % 20) - 12.0f);
    case 13: return base > 0 ? 0.0f : 0.02f * normal();
    default: return u32() % 31 ? base : -base * 0.5f;
    }
}

static void fill(float *x, size_t n, int kind) {
    float base = 0;
    for (size_t i = 0; i < n; i++) {
        if (i % 32 == 0) base = normal() * powf(10.0f, (float)(int)(u32() % 12) - 8.0f);
        x[i] = element(kind, base, (int)(i % 32));
    }
}

static void fill_weights(float *w, size_t n, int kind) {
    for (size_t i = 0; i < n; i++) {
        float u = unit();
        w[i] = kind == 1   ? 1.0f
               : kind == 2 ? u * u
               : kind == 3 ? (u < 0.5f ? 0.0f : u)
               : kind == 4 ? 0.0f
               : kind == 5 ? u * 1e12f
               : kind == 6 ? u * 1e-14f
                           : expf(12.0f * (u - 0.5f));
    }
}

typedef struct Run {
    PeerFn peer;
    Kern kern[CPU_LEVELS];
    int n_level;
    uint64_t n_same, n_different;
} Run;

static float x[MAX_N], w[MAX_COLS];
static uint8_t want[MAX_N * 2], got[MAX_N * 2];

static void compare(Run *r, DType t, int xk, int wk, size_t rows, size_t cols) {
    const float *pw = wk ? w : NULL;
    size_t bytes = dtype_bytes(t, rows * cols), block = (size_t)dtype_info(t)->block_bytes;
    r->peer((int)t, x, want, 0, (int64_t)rows, (int64_t)cols, pw);
    for (int l = 0; l < r->n_level; l++) {
        memset(got, 0xaa, bytes);
        r->kern[l].quant[t](got, x, pw, rows, cols);
        if (!pw && memcmp(got, want, bytes) == 0) r->kern[l].from_f32[t](got, x, rows * cols);
        size_t at = 0;
        while (at < bytes && got[at] == want[at]) at++;
        if (at == bytes) {
            r->n_same++;
            continue;
        }
        if (r->n_different++ < 40)
            printf("DIFFERENT %s %s x=%s w=%s %zux%zu seed %llu: byte %zu of block %zu: %02x, not "
                   "%02x\n",
                   kern_level_name(r->kern[l].level), dtype_name(t), x_kinds[xk], w_kinds[wk], rows,
                   cols, (unsigned long long)seed, at % block, at / block, got[at], want[at]);
    }
}

static void one_round(Run *r) {
    for (size_t xk = 0; xk < COUNT_OF(x_kinds); xk++) {
        for (size_t wk = 0; wk < COUNT_OF(w_kinds); wk++) {
            DType t = types[u32() % COUNT_OF(types)];
            size_t block = (size_t)dtype_info(t)->block;
            size_t cols = block * (1 + u32() % (MAX_COLS / block)), rows = 1 + u32() % MAX_ROWS;
            if (u32() % 2) rows = 1 + rows % 3;
            fill(x, rows * cols, (int)xk);
            fill_weights(w, cols, (int)wk);
            compare(r, t, (int)xk, (int)wk, rows, cols);
        }
    }
}

static int print_hashes(PeerFn peer) {
    for (size_t t = 0; t < COUNT_OF(qi_types); t++) {
        printf("    {");
        for (int i = 0; i < QI_KINDS * QI_WEIGHTS; i++) {
            int wk = i % QI_WEIGHTS;
            qi_rows(x, i / QI_WEIGHTS);
            qi_weights(w, wk);
            peer((int)qi_types[t], x, want, 0, QI_ROWS, QI_COLS, wk ? w : NULL);
            uint64_t h = qi_hash(want, dtype_bytes(qi_types[t], QI_N));
            printf("%s0x%08x", i ? ", " : "", (unsigned)(h ^ h >> 32));
        }
        printf("}, /* %s */\n", dtype_name(qi_types[t]));
    }
    return 0;
}

int main(int argc, char **argv) {
    Run r = {0};
    Err e = {0};
    void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!lib) return fprintf(stderr, "usage: quant_rows LIBGGML_BASE.so [SECONDS [SEED]]\n"), 2;
    *(void **)&r.peer = dlsym(lib, "ggml_quantize_chunk");
    if (argc > 2 && strcmp(argv[2], "--hashes") == 0) return print_hashes(r.peer);
    for (int l = 0; l < CPU_AMX; l++)
        if (kern_init(&r.kern[r.n_level], kern_level_name((CpuLevel)l), &e) == OK) r.n_level++;
    double seconds = argc > 2 ? atof(argv[2]) : 10, t0 = clock_now_s();
    seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    do {
        one_round(&r);
        seed++;
        drawn = 0;
    } while (clock_now_s() - t0 < seconds);
    printf("%llu tensors the same on %d levels, %llu different\n", (unsigned long long)r.n_same,
           r.n_level, (unsigned long long)r.n_different);
    return r.n_different > 0;
}
