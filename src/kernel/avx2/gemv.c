/* SPDX-License-Identifier: Apache-2.0
 * Matrix times 1 to 4 vectors on AVX2, the products of decoding: every weight is read once and multiplied
 * with all vectors while it is in a register.
 *
 * R rows are walked side by side, which gives independent chains of additions and shares the loads of x.
 * Each (row, vector) has one accumulator and takes k in order, so its bits depend neither on R nor m. */
#include "kernel/avx2/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"

/* How far ahead of the reads memory is asked for, in bytes. */
enum { AHEAD = 1024 };

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

/* As many rows at once as 16 registers hold accumulators for. */
static ALWAYS_INLINE void gemv(TileFn tile, const Gemv *g, int m) {
    switch (m) {
    case 1: sweep(tile, g, 4, 1); break;
    case 2: sweep(tile, g, 4, 2); break;
    case 3: sweep(tile, g, 2, 3); break;
    case 4: sweep(tile, g, 2, 4); break;
    }
}

static ALWAYS_INLINE void acc_zero(__m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) a[r][j] = _mm256_setzero_ps();
    }
}

static ALWAYS_INLINE void acc_store(const Gemv *g, int i, __m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            g->y[(size_t)j * g->ldy + (size_t)(i + r)] = vec_sum(a[r][j]);
        }
    }
}

/* ---- plain types: 8 weights are one load and a conversion ---- */

typedef __m256 (*LoadFn)(const char *row, size_t at, size_t left);

static ALWAYS_INLINE __m256 load_f32(const char *row, size_t at, size_t left) {
    return vec_load((const float *)row + at, left);
}

static ALWAYS_INLINE __m256 load_f16(const char *row, size_t at, size_t left) {
    return _mm256_cvtph_ps(vec_load_u16((const uint16_t *)row + at, left));
}

static ALWAYS_INLINE __m256 load_bf16(const char *row, size_t at, size_t left) {
    return vec_bf16(vec_load_u16((const uint16_t *)row + at, left));
}

/* 8 columns from `at`. */
static ALWAYS_INLINE void plain_step(LoadFn load, const Gemv *g, const char *w, size_t at,
                                     size_t left, __m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        __m256 v = load(w + (size_t)r * g->row_bytes, at, left);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            __m256 x = vec_load(g->x + (size_t)j * g->ldx + at, left);
            a[r][j] = _mm256_fmadd_ps(v, x, a[r][j]);
        }
    }
}

static ALWAYS_INLINE void plain_tile(LoadFn load, size_t elem, const Gemv *g, int i, int R, int M) {
    __m256 a[R_MAX][M_MAX];
    const char *w = g->w + (size_t)i * g->row_bytes;
    size_t k = (size_t)g->k, at = 0, line = 64 / elem;
    acc_zero(a, R, M);
    for (; at + line <= k; at += line) {
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            _mm_prefetch(w + (size_t)r * g->row_bytes + at * elem + AHEAD, _MM_HINT_T0);
        }
#pragma GCC unroll 4
        for (size_t j = 0; j < line; j += 8) plain_step(load, g, w, at + j, 8, a, R, M);
    }
    for (; at < k; at += 8) plain_step(load, g, w, at, k - at, a, R, M);
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

/* ---- blocks of 32 weights with one scale: scales are converted 8 at a time ---- */

enum { GROUP = 8, QUARTERS = 4 }; /* blocks; registers of 8 weights a block */

/* The 32 integers of a block as f32, times 2^24 for q4_0, in the order in which x is loaded for it. */
typedef void (*UnpackFn)(__m256 w[QUARTERS], const char *block);
/* Eight of the 32 elements of x that belong to register i of a block. */
typedef __m256 (*VectorFn)(const float *x, int i);

static ALWAYS_INLINE void unpack_q8_0(__m256 w[QUARTERS], const char *block) {
    const char *q = block + offsetof(BlockQ8_0, qs);
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) {
        __m128i v = _mm_loadl_epi64((const __m128i *)(q + 8 * i));
        w[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v));
    }
}

static ALWAYS_INLINE __m256 vector_q8_0(const float *x, int i) { return _mm256_loadu_ps(x + 8 * i); }

/* Low nibbles in the lower lane, high ones in the upper, less 8; then four bytes of each lane go to the
 * top of a dword, where they are the integer times 2^24 with its sign. */
static ALWAYS_INLINE void unpack_q4_0(__m256 w[QUARTERS], const char *block) {
    const __m256i up = _mm256_setr_epi8(-1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3,
                                        -1, -1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3);
    __m128i q = _mm_loadu_si128((const __m128i *)(block + offsetof(BlockQ4_0, qs)));
    __m256i v = _mm256_srlv_epi64(_mm256_broadcastsi128_si256(q), _mm256_setr_epi64x(0, 0, 4, 4));
    v = _mm256_sub_epi8(_mm256_and_si256(v, _mm256_set1_epi8(15)), _mm256_set1_epi8(8));
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) {
        __m256i at = _mm256_or_si256(up, _mm256_set1_epi32(4 * i << 24)); /* bytes 4 i .. 4 i + 3 */
        w[i] = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(v, at));
    }
}

static ALWAYS_INLINE __m256 vector_q4_0(const float *x, int i) {
    __m256 lo = _mm256_castps128_ps256(_mm_loadu_ps(x + 4 * i));
    return _mm256_insertf128_ps(lo, _mm_loadu_ps(x + 4 * i + QK / 2), 1);
}

/* Block `block` of R rows, whose scales are d[r][b]. */
static ALWAYS_INLINE void block_step(UnpackFn unpack, VectorFn vector, size_t size, const Gemv *g,
                                     const char *w, size_t block, float d[R_MAX][GROUP], int b,
                                     __m256 a[R_MAX][M_MAX], int R, int M) {
    const float *x = g->x + block * QK;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = w + (size_t)r * g->row_bytes + block * size;
        __m256 v[QUARTERS], dr = _mm256_set1_ps(d[r][b]);
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        unpack(v, q);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            __m256 t = _mm256_mul_ps(v[0], vector(xj, 0));
#pragma GCC unroll 4
            for (int i = 1; i < QUARTERS; i++) t = _mm256_fmadd_ps(v[i], vector(xj, i), t);
            a[r][j] = _mm256_fmadd_ps(t, dr, a[r][j]);
        }
    }
}

/* unit undoes what unpack multiplies by. */
static ALWAYS_INLINE void block_group(UnpackFn unpack, VectorFn vector, size_t size, float unit,
                                      const Gemv *g, const char *w, int b, int n,
                                      __m256 a[R_MAX][M_MAX], int R, int M) {
    float d[R_MAX][GROUP] ALIGNED(32);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *blocks = w + (size_t)r * g->row_bytes + (size_t)b * size;
        __m256 v = vec_block_scales(blocks, size, n);
        _mm256_store_ps(d[r], _mm256_mul_ps(v, _mm256_set1_ps(unit)));
    }
    for (int j = 0; j < n; j++) {
        block_step(unpack, vector, size, g, w, (size_t)(b + j), d, j, a, R, M);
    }
}

static ALWAYS_INLINE void block_tile(UnpackFn unpack, VectorFn vector, size_t size, float unit,
                                     const Gemv *g, int i, int R, int M) {
    __m256 a[R_MAX][M_MAX];
    const char *w = g->w + (size_t)i * g->row_bytes;
    int n = g->k / QK, b = 0;
    acc_zero(a, R, M);
    for (; b + GROUP <= n; b += GROUP) {
        block_group(unpack, vector, size, unit, g, w, b, GROUP, a, R, M);
    }
    if (b < n) block_group(unpack, vector, size, unit, g, w, b, n - b, a, R, M);
    acc_store(g, i, a, R, M);
}

static ALWAYS_INLINE void tile_q4_0(const Gemv *g, int i, int R, int M) {
    block_tile(unpack_q4_0, vector_q4_0, sizeof(BlockQ4_0), 0x1p-24f, g, i, R, M);
}

static ALWAYS_INLINE void tile_q8_0(const Gemv *g, int i, int R, int M) {
    block_tile(unpack_q8_0, vector_q8_0, sizeof(BlockQ8_0), 1.0f, g, i, R, M);
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

void kern_avx2_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
}
