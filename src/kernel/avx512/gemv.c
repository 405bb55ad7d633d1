/* SPDX-License-Identifier: Apache-2.0
 * Matrix times 1 to 4 vectors on AVX-512, the products of decoding: every weight is read once and
 * multiplied with all vectors while it is in a register, so memory is the limit.
 *
 * R rows are walked side by side, which gives independent chains of additions and shares the loads of x.
 * Each (row, vector) has one accumulator and takes k in order, so its bits depend neither on R nor m. */
#include "kernel/avx512/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"

/* How far ahead of the reads memory is asked for, in bytes. */
enum { AHEAD = 1024 };

/* 16 accumulators fit the 32 registers beside the weights and vectors. */
enum { R_MAX = 4, M_MAX = 4 };

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

/* Computes rows i .. i + R - 1 for vectors 0 .. M - 1; R and M are constants where it is expanded. */
typedef void (*TileFn)(const Gemv *g, int i, int R, int M);

static ALWAYS_INLINE void sweep(TileFn tile, const Gemv *g, int R, int M) {
    int i = 0;
    for (; i + R <= g->n; i += R) tile(g, i, R, M);
    for (; i < g->n; i++) tile(g, i, 1, M);
}

static ALWAYS_INLINE void gemv(TileFn tile, const Gemv *g, int m) {
    switch (m) {
    case 1: sweep(tile, g, R_MAX, 1); break;
    case 2: sweep(tile, g, R_MAX, 2); break;
    case 3: sweep(tile, g, R_MAX, 3); break;
    case 4: sweep(tile, g, R_MAX, 4); break;
    }
}

static ALWAYS_INLINE void acc_zero(__m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) a[r][j] = _mm512_setzero_ps();
    }
}

static ALWAYS_INLINE void acc_store(const Gemv *g, int i, __m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            g->y[(size_t)j * g->ldy + (size_t)(i + r)] = vec_sum(a[r][j]);
        }
    }
}

/* ---- plain types: 16 weights are one load and a conversion ---- */

typedef __m512 (*LoadFn)(const char *row, size_t at, __mmask16 m);

static ALWAYS_INLINE __m512 load_f32(const char *row, size_t at, __mmask16 m) {
    return vec_load((const float *)row + at, m);
}

static ALWAYS_INLINE __m512 load_f16(const char *row, size_t at, __mmask16 m) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)row + at));
}

static ALWAYS_INLINE __m512 load_bf16(const char *row, size_t at, __mmask16 m) {
    __m256i h = _mm256_maskz_loadu_epi16(m, (const uint16_t *)row + at);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

/* 32 columns from `at`, under masks. */
static ALWAYS_INLINE void plain_step(LoadFn load, const Gemv *g, const char *w, size_t at, __mmask16 m0,
                              __mmask16 m1, __m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *row = w + (size_t)r * g->row_bytes;
        __m512 w0 = load(row, at, m0), w1 = load(row, at + 16, m1);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *x = g->x + (size_t)j * g->ldx + at;
            a[r][j] = _mm512_fmadd_ps(w0, vec_load(x, m0), a[r][j]);
            a[r][j] = _mm512_fmadd_ps(w1, vec_load(x + 16, m1), a[r][j]);
        }
    }
}

static ALWAYS_INLINE void plain_tile(LoadFn load, size_t elem, const Gemv *g, int i, int R, int M) {
    __m512 a[R_MAX][M_MAX];
    const char *w = g->w + (size_t)i * g->row_bytes;
    size_t k = (size_t)g->k, at = 0;
    acc_zero(a, R, M);
    for (; at + 32 <= k; at += 32) {
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            const char *next = w + (size_t)r * g->row_bytes + at * elem + AHEAD;
            _mm_prefetch(next, _MM_HINT_T0);
            if (elem == sizeof(float)) _mm_prefetch(next + 64, _MM_HINT_T0);
        }
        plain_step(load, g, w, at, VEC_FULL, VEC_FULL, a, R, M);
    }
    if (at < k) {
        size_t left = k - at;
        __mmask16 m1 = left > 16 ? vec_mask(left - 16) : 0;
        plain_step(load, g, w, at, vec_mask(left), m1, a, R, M);
    }
    acc_store(g, i, a, R, M);
}

static ALWAYS_INLINE void tile_f32(const Gemv *g, int i, int R, int M) {
    plain_tile(load_f32, sizeof(float), g, i, R, M);
}

static ALWAYS_INLINE void tile_f16(const Gemv *g, int i, int R, int M) {
    plain_tile(load_f16, sizeof(uint16_t), g, i, R, M);
}

static ALWAYS_INLINE void tile_bf16(const Gemv *g, int i, int R, int M) {
    plain_tile(load_bf16, sizeof(uint16_t), g, i, R, M);
}

/* ---- blocks of 32 weights with one scale: scales are converted 16 at a time ---- */

enum { GROUP = 16 }; /* blocks */

/* The block b of R rows, whose scales are d[r][b of the group]. */
typedef void (*BlockFn)(const Gemv *g, const char *w, size_t block, float d[R_MAX][GROUP], int b,
                        __m512 a[R_MAX][M_MAX], int R, int M);

static ALWAYS_INLINE void group_step(BlockFn step, size_t size, const Gemv *g, const char *w, int b,
                                     int n, __m512 a[R_MAX][M_MAX], int R, int M) {
    float d[R_MAX][GROUP] ALIGNED(64);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *blocks = w + (size_t)r * g->row_bytes + (size_t)b * size;
        _mm512_store_ps(d[r], vec_block_scales(blocks, size, n));
    }
    for (int j = 0; j < n; j++) step(g, w, (size_t)(b + j), d, j, a, R, M);
}

static ALWAYS_INLINE void block_tile(BlockFn step, size_t size, const Gemv *g, int i, int R,
                                     int M) {
    __m512 a[R_MAX][M_MAX];
    const char *w = g->w + (size_t)i * g->row_bytes;
    int n = g->k / QK, b = 0;
    acc_zero(a, R, M);
    for (; b + GROUP <= n; b += GROUP) group_step(step, size, g, w, b, GROUP, a, R, M);
    if (b < n) group_step(step, size, g, w, b, n - b, a, R, M);
    acc_store(g, i, a, R, M);
}

/* The sixteen values of a nibble, times the scale, are a table in a register: exact, since a scale has
 * 11 bits. Looking up takes the low four bits of each lane, so the upper ones need no mask. */
static ALWAYS_INLINE void step_q4_0(const Gemv *g, const char *w, size_t block, float d[R_MAX][GROUP],
                             int b, __m512 a[R_MAX][M_MAX], int R, int M) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
    const float *x = g->x + block * QK;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = w + (size_t)r * g->row_bytes + block * sizeof(BlockQ4_0);
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        __m512 table = _mm512_mul_ps(values, _mm512_set1_ps(d[r][b]));
        __m512i v = _mm512_cvtepu8_epi32(
            _mm_loadu_si128((const __m128i *)(q + offsetof(BlockQ4_0, qs))));
        __m512 w0 = _mm512_permutexvar_ps(v, table);
        __m512 w1 = _mm512_permutexvar_ps(_mm512_srli_epi32(v, 4), table);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            a[r][j] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(xj), a[r][j]);
            a[r][j] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(xj + 16), a[r][j]);
        }
    }
}

static ALWAYS_INLINE void step_q8_0(const Gemv *g, const char *w, size_t block, float d[R_MAX][GROUP],
                             int b, __m512 a[R_MAX][M_MAX], int R, int M) {
    const float *x = g->x + block * QK;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = w + (size_t)r * g->row_bytes + block * sizeof(BlockQ8_0);
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        const __m128i *qs = (const __m128i *)(q + offsetof(BlockQ8_0, qs));
        __m512 dr = _mm512_set1_ps(d[r][b]);
        __m512 w0 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(qs)));
        __m512 w1 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(qs + 1)));
        w0 = _mm512_mul_ps(w0, dr);
        w1 = _mm512_mul_ps(w1, dr);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            a[r][j] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(xj), a[r][j]);
            a[r][j] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(xj + 16), a[r][j]);
        }
    }
}

static ALWAYS_INLINE void tile_q4_0(const Gemv *g, int i, int R, int M) {
    block_tile(step_q4_0, sizeof(BlockQ4_0), g, i, R, M);
}

static ALWAYS_INLINE void tile_q8_0(const Gemv *g, int i, int R, int M) {
    block_tile(step_q8_0, sizeof(BlockQ8_0), g, i, R, M);
}

static Gemv call(DType t, float *y, size_t ldy, const void *w, const float *x, size_t ldx, int n,
                 int k) {
    return (Gemv){y, ldy, w, dtype_bytes(t, (size_t)k), x, ldx, n, k};
}

static void gemv_f32(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                     int k) {
    Gemv g = call(DT_F32, y, ldy, w, x, ldx, n, k);
    gemv(tile_f32, &g, m);
}

static void gemv_f16(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                     int k) {
    Gemv g = call(DT_F16, y, ldy, w, x, ldx, n, k);
    gemv(tile_f16, &g, m);
}

static void gemv_bf16(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_BF16, y, ldy, w, x, ldx, n, k);
    gemv(tile_bf16, &g, m);
}

static void gemv_q8_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q8_0, y, ldy, w, x, ldx, n, k);
    gemv(tile_q8_0, &g, m);
}

static void gemv_q4_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_0, y, ldy, w, x, ldx, n, k);
    gemv(tile_q4_0, &g, m);
}

void kern_avx512_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
}
