/* SPDX-License-Identifier: Apache-2.0
 * The walk that all products of a matrix with 1 to 4 vectors share on AVX2; what a type does with the weights it
 * comes to is in gemv.c (plain types), gemv_blocks.c and gemv_k.c. Every weight is read once and multiplied with
 * all vectors while it is in a register, so memory is the limit.
 *
 * The rows are cut into R streams that are walked side by side: independent chains of additions, shared
 * loads of x, and R places in memory that are each read strictly forward, which is what the hardware
 * prefetcher follows best (neighbouring rows side by side are half as fast). Each (row, vector) has one
 * accumulator and takes k in order, so its bits depend neither on n nor on m. */
#ifndef INGOT_KERNEL_AVX2_GEMV_H
#define INGOT_KERNEL_AVX2_GEMV_H

#include "kernel/avx2/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"

/* The slots of the other two files. */
void kern_avx2_gemv_blocks(Kern *k);
void kern_avx2_gemv_k(Kern *k);

/* 8 accumulators fit the 16 registers beside the weights and vectors. */
enum { R_MAX = 4, M_MAX = 4 };

/* How far ahead of the reads of a stream memory is asked for, in bytes. */
enum { AHEAD = 1024 };

/* One call: y[j * ldy + i] for all rows i. */
typedef struct Gemv {
    float *y;
    size_t ldy;
    const char *w;
    size_t row_bytes;
    const float *x;
    size_t ldx;
    int n, k;
} Gemv;

/* Where R streams begin: stream r has the rows first + r * rows to first + (r + 1) * rows - 1. */
typedef struct Streams {
    size_t first, rows;
    const char *w;
    size_t apart; /* bytes between streams */
} Streams;

/* Computes the rows of R streams for vectors 0 .. M - 1; R and M are constants where it is expanded. */
typedef void (*StreamFn)(const Gemv *g, const Streams *s, int R, int M);

static ALWAYS_INLINE void run(StreamFn fn, const Gemv *g, size_t first, size_t rows, int R, int M) {
    Streams s = {first, rows, g->w + first * g->row_bytes, rows * g->row_bytes};
    if (rows > 0) fn(g, &s, R, M);
}

/* What R streams of equal length leave over is one stream, for one vector after the other: bits do not depend
 * on it, and there is less code. */
static ALWAYS_INLINE void gemv(StreamFn fn, const Gemv *g, int m) {
    size_t n = (size_t)g->n, R = m <= 2 ? 4 : 2, rows = n / R;
    switch (m) {
    case 1: run(fn, g, 0, rows, 4, 1); break;
    case 2: run(fn, g, 0, rows, 4, 2); break;
    case 3: run(fn, g, 0, rows, 2, 3); break;
    case 4: run(fn, g, 0, rows, 2, 4); break;
    }
    for (size_t j = 0; j < (size_t)m; j++) {
        Gemv one = *g;
        one.x += j * g->ldx;
        one.y += j * g->ldy;
        run(fn, &one, rows * R, n - rows * R, 1, 1);
    }
}

static ALWAYS_INLINE void acc_zero(__m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) a[r][j] = _mm256_setzero_ps();
    }
}

/* The sums of row i of each stream. */
static ALWAYS_INLINE void acc_store(const Gemv *g, const Streams *s, size_t i,
                                    __m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        float *y = g->y + s->first + (size_t)r * s->rows + i;
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) y[(size_t)j * g->ldy] = vec_sum(a[r][j]);
    }
}

static ALWAYS_INLINE Gemv call(DType t, float *y, size_t ldy, const void *w, const float *x,
                               size_t ldx, int n, int k) {
    return (Gemv){y, ldy, w, dtype_bytes(t, (size_t)k), x, ldx, n, k};
}

#endif
