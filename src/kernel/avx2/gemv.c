/* SPDX-License-Identifier: Apache-2.0
 * Matrix times 1 to 4 vectors on AVX2, the products of decoding: every weight is read once and
 * multiplied with all vectors while it is in a register, so memory is the limit.
 *
 * The rows are cut into R streams that are walked side by side: independent chains of additions, shared
 * loads of x, and R places in memory that are each read strictly forward, which is what the hardware
 * prefetcher follows best (neighbouring rows side by side are half as fast). Each (row, vector) has one
 * accumulator and takes k in order, so its bits depend neither on n nor on m. */
#include "kernel/avx2/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"

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

/* What R streams of equal length leave over is one stream. */
static ALWAYS_INLINE void sweep(StreamFn fn, const Gemv *g, int R, int M) {
    size_t n = (size_t)g->n, rows = n / (size_t)R;
    run(fn, g, 0, rows, R, M);
    run(fn, g, rows * (size_t)R, n - rows * (size_t)R, 1, M);
}

static ALWAYS_INLINE void gemv(StreamFn fn, const Gemv *g, int m) {
    switch (m) {
    case 1: sweep(fn, g, 4, 1); break;
    case 2: sweep(fn, g, 4, 2); break;
    case 3: sweep(fn, g, 2, 3); break;
    case 4: sweep(fn, g, 2, 4); break;
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

/* 8 columns from `at` of the rows at w. */
static ALWAYS_INLINE void plain_step(LoadFn load, const Gemv *g, const char *w, size_t apart,
                                     size_t at, size_t left, __m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        __m256 v = load(w + (size_t)r * apart, at, left);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            __m256 x = vec_load(g->x + (size_t)j * g->ldx + at, left);
            a[r][j] = _mm256_fmadd_ps(v, x, a[r][j]);
        }
    }
}

static ALWAYS_INLINE void plain(LoadFn load, size_t elem, const Gemv *g, const Streams *s, int R,
                                int M) {
    size_t k = (size_t)g->k, line = 64 / elem;
    for (size_t i = 0; i < s->rows; i++) {
        const char *w = s->w + i * g->row_bytes;
        __m256 a[R_MAX][M_MAX];
        size_t at = 0;
        acc_zero(a, R, M);
        for (; at + line <= k; at += line) {
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                _mm_prefetch(w + (size_t)r * s->apart + at * elem + AHEAD, _MM_HINT_T0);
            }
#pragma GCC unroll 4
            for (size_t j = 0; j < line; j += 8) {
                plain_step(load, g, w, s->apart, at + j, 8, a, R, M);
            }
        }
        for (; at < k; at += 8) plain_step(load, g, w, s->apart, at, k - at, a, R, M);
        acc_store(g, s, i, a, R, M);
    }
}

static ALWAYS_INLINE void stream_f32(const Gemv *g, const Streams *s, int R, int M) {
    plain(load_f32, sizeof(float), g, s, R, M);
}

static ALWAYS_INLINE void stream_f16(const Gemv *g, const Streams *s, int R, int M) {
    plain(load_f16, sizeof(uint16_t), g, s, R, M);
}

static ALWAYS_INLINE void stream_bf16(const Gemv *g, const Streams *s, int R, int M) {
    plain(load_bf16, sizeof(uint16_t), g, s, R, M);
}

/* ---- blocks of 32 weights with one scale ----
 *
 * A stream is one sequence of blocks, rows or not. Its scales are converted 8 at a time; the halves of
 * the next 8 are copied together, one for each block that is computed, so that the conversion finds
 * them in the cache and no wait shows. */

enum { GROUP = 8, QUARTERS = 4 }; /* blocks; registers of 8 weights a block */

typedef struct Scales {
    uint16_t next[R_MAX][GROUP];
    float now[R_MAX][GROUP];
} Scales;

static ALWAYS_INLINE void scales_copy(Scales *d, int j, const char *block, size_t apart, int R) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) memcpy(&d->next[r][j], block + (size_t)r * apart, sizeof(uint16_t));
}

/* unit undoes what unpacking multiplies by. */
static ALWAYS_INLINE void scales_convert(Scales *d, float unit, int R) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        __m128i h = _mm_loadu_si128((const __m128i *)d->next[r]);
        _mm256_storeu_ps(d->now[r], _mm256_mul_ps(_mm256_cvtph_ps(h), _mm256_set1_ps(unit)));
    }
}

/* One block of each of R streams, times 32 elements of each vector; d[r] are the scales. */
typedef void (*BlockFn)(const Gemv *g, const char *block, size_t apart, const float *x,
                        const Scales *d, int j, __m256 a[R_MAX][M_MAX], int R, int M);

/* Computes n blocks from place j of a group; with `ahead`, copies the scales of the group behind it. */
static ALWAYS_INLINE void blocks_run(BlockFn step, size_t size, const Gemv *g, const char *w,
                                     size_t apart, const float *x, Scales *d, int j, int n,
                                     bool ahead, __m256 a[R_MAX][M_MAX], int R, int M) {
    for (int end = j + n; j < end; j++) {
        if (ahead) scales_copy(d, j, w + GROUP * size, apart, R);
        step(g, w, apart, x, d, j, a, R, M);
        w += size;
        x += QK;
    }
}

static ALWAYS_INLINE void blocks(BlockFn step, size_t size, float unit, const Gemv *g,
                                 const Streams *s, int R, int M) {
    size_t per_row = (size_t)g->k / QK, total = s->rows * per_row, in_row = 0, row = 0;
    const char *w = s->w;
    bool copied = false;
    Scales d = {0};
    __m256 a[R_MAX][M_MAX];
    acc_zero(a, R, M);
    for (size_t i = 0; i < total; i += GROUP) {
        int n = (int)MIN(GROUP, total - i);
        bool ahead = i + 2 * GROUP <= total;
        for (int j = 0; !copied && j < n; j++) {
            scales_copy(&d, j, w + (size_t)j * size, s->apart, R);
        }
        copied = ahead;
        scales_convert(&d, unit, R);
        for (int j = 0, len; j < n; j += len) {
            const float *x = g->x + in_row * QK;
            len = (int)MIN((size_t)(n - j), per_row - in_row);
            if (ahead) blocks_run(step, size, g, w, s->apart, x, &d, j, len, true, a, R, M);
            else blocks_run(step, size, g, w, s->apart, x, &d, j, len, false, a, R, M);
            w += (size_t)len * size;
            in_row += (size_t)len;
            if (in_row < per_row) continue;
            acc_store(g, s, row++, a, R, M);
            acc_zero(a, R, M);
            in_row = 0;
        }
    }
    for (; row < s->rows; row++) acc_store(g, s, row, a, R, M); /* k = 0 */
}

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

static ALWAYS_INLINE __m256 vector_q8_0(const float *x, int i) {
    return _mm256_loadu_ps(x + 8 * i);
}

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

static ALWAYS_INLINE void block_step(UnpackFn unpack, VectorFn vector, const Gemv *g,
                                     const char *block, size_t apart, const float *x,
                                     const Scales *d, int b, __m256 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = block + (size_t)r * apart;
        __m256 v[QUARTERS], dr = _mm256_set1_ps(d->now[r][b]);
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

static ALWAYS_INLINE void step_q4_0(const Gemv *g, const char *block, size_t apart, const float *x,
                                    const Scales *d, int b, __m256 a[R_MAX][M_MAX], int R, int M) {
    block_step(unpack_q4_0, vector_q4_0, g, block, apart, x, d, b, a, R, M);
}

static ALWAYS_INLINE void step_q8_0(const Gemv *g, const char *block, size_t apart, const float *x,
                                    const Scales *d, int b, __m256 a[R_MAX][M_MAX], int R, int M) {
    block_step(unpack_q8_0, vector_q8_0, g, block, apart, x, d, b, a, R, M);
}

static ALWAYS_INLINE void stream_q4_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks(step_q4_0, sizeof(BlockQ4_0), 0x1p-24f, g, s, R, M);
}

static ALWAYS_INLINE void stream_q8_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks(step_q8_0, sizeof(BlockQ8_0), 1.0f, g, s, R, M);
}

static Gemv call(DType t, float *y, size_t ldy, const void *w, const float *x, size_t ldx, int n,
                 int k) {
    return (Gemv){y, ldy, w, dtype_bytes(t, (size_t)k), x, ldx, n, k};
}

static void gemv_f32(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                     int k) {
    Gemv g = call(DT_F32, y, ldy, w, x, ldx, n, k);
    gemv(stream_f32, &g, m);
}

static void gemv_f16(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                     int k) {
    Gemv g = call(DT_F16, y, ldy, w, x, ldx, n, k);
    gemv(stream_f16, &g, m);
}

static void gemv_bf16(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_BF16, y, ldy, w, x, ldx, n, k);
    gemv(stream_bf16, &g, m);
}

static void gemv_q8_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q8_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q8_0, &g, m);
}

static void gemv_q4_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_0, &g, m);
}

void kern_avx2_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
}
