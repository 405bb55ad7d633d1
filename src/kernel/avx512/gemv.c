/* SPDX-License-Identifier: Apache-2.0
 * Matrix times 1 to 4 vectors on AVX-512, the products of decoding: every weight is read once and
 * multiplied with all vectors while it is in a register, so memory is the limit.
 *
 * The rows are cut into R streams that are walked side by side: independent chains of additions, shared
 * loads of x, and R places in memory that are each read strictly forward, which is what the hardware
 * prefetcher follows best (neighbouring rows side by side are half as fast). Each (row, vector) has one
 * accumulator and takes k in order, so its bits depend neither on n nor on m. */
#include "kernel/avx512/vec.h"
#include "kernel/internal.h"
#include "tensor/blocks.h"

/* 16 accumulators fit the 32 registers beside the weights and vectors. */
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

/* What four streams of equal length leave over is one stream. */
static ALWAYS_INLINE void sweep(StreamFn fn, const Gemv *g, int M) {
    size_t n = (size_t)g->n, rows = n / R_MAX;
    run(fn, g, 0, rows, R_MAX, M);
    run(fn, g, rows * R_MAX, n - rows * R_MAX, 1, M);
}

static ALWAYS_INLINE void gemv(StreamFn fn, const Gemv *g, int m) {
    switch (m) {
    case 1: sweep(fn, g, 1); break;
    case 2: sweep(fn, g, 2); break;
    case 3: sweep(fn, g, 3); break;
    case 4: sweep(fn, g, 4); break;
    }
}

static ALWAYS_INLINE void acc_zero(__m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) a[r][j] = _mm512_setzero_ps();
    }
}

/* The sums of row i of each stream. */
static ALWAYS_INLINE void acc_store(const Gemv *g, const Streams *s, size_t i,
                                    __m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        float *y = g->y + s->first + (size_t)r * s->rows + i;
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) y[(size_t)j * g->ldy] = vec_sum(a[r][j]);
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

/* 16 columns from `at`, under a mask, of the rows at w. */
static ALWAYS_INLINE void plain_step(LoadFn load, const Gemv *g, const char *w, size_t apart,
                                     size_t at, __mmask16 m, __m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        __m512 v = load(w + (size_t)r * apart, at, m);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            __m512 x = vec_load(g->x + (size_t)j * g->ldx + at, m);
            a[r][j] = _mm512_fmadd_ps(v, x, a[r][j]);
        }
    }
}

/* The lines of 32 elements that each stream comes to. */
static ALWAYS_INLINE void plain_prefetch(const char *w, size_t apart, size_t elem, int R) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *p = w + (size_t)r * apart + AHEAD;
        _mm_prefetch(p, _MM_HINT_T0);
        if (elem == sizeof(float)) _mm_prefetch(p + 64, _MM_HINT_T0);
    }
}

static ALWAYS_INLINE void plain(LoadFn load, size_t elem, const Gemv *g, const Streams *s, int R,
                                int M) {
    size_t k = (size_t)g->k;
    for (size_t i = 0; i < s->rows; i++) {
        const char *w = s->w + i * g->row_bytes;
        __m512 a[R_MAX][M_MAX];
        size_t at = 0;
        acc_zero(a, R, M);
        for (; at + 32 <= k; at += 32) {
            plain_prefetch(w + at * elem, s->apart, elem, R);
            plain_step(load, g, w, s->apart, at, VEC_FULL, a, R, M);
            plain_step(load, g, w, s->apart, at + 16, VEC_FULL, a, R, M);
        }
        for (; at < k; at += 16) plain_step(load, g, w, s->apart, at, vec_mask(k - at), a, R, M);
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
 * A stream is one sequence of blocks, rows or not. Its scales are converted 16 at a time; the halves of
 * the next 16 are copied together, one for each block that is computed, so that the conversion finds
 * them in the cache and no wait shows. */

enum { GROUP = 16 };

typedef struct Scales {
    uint16_t next[R_MAX][GROUP];
    float now[R_MAX][GROUP];
} Scales;

static ALWAYS_INLINE void scales_copy(Scales *d, int j, const char *block, size_t apart, int R) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) memcpy(&d->next[r][j], block + (size_t)r * apart, sizeof(uint16_t));
}

static ALWAYS_INLINE void scales_convert(Scales *d, int R) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        __m256i h = _mm256_loadu_si256((const __m256i *)d->next[r]);
        _mm512_storeu_ps(d->now[r], _mm512_cvtph_ps(h));
    }
}

/* One block of each of R streams, times 32 elements of each vector; d[r] are the scales. */
typedef void (*BlockFn)(const Gemv *g, const char *block, size_t apart, const float *x,
                        const Scales *d, int j, __m512 a[R_MAX][M_MAX], int R, int M);

/* Computes n blocks from place j of a group; with `ahead`, copies the scales of the group behind it. */
static ALWAYS_INLINE void blocks_run(BlockFn step, size_t size, const Gemv *g, const char *w,
                                     size_t apart, const float *x, Scales *d, int j, int n,
                                     bool ahead, __m512 a[R_MAX][M_MAX], int R, int M) {
    for (int end = j + n; j < end; j++) {
        if (ahead) scales_copy(d, j, w + GROUP * size, apart, R);
        step(g, w, apart, x, d, j, a, R, M);
        w += size;
        x += QK;
    }
}

static ALWAYS_INLINE void blocks(BlockFn step, size_t size, const Gemv *g, const Streams *s, int R,
                                 int M) {
    size_t per_row = (size_t)g->k / QK, total = s->rows * per_row, in_row = 0, row = 0;
    const char *w = s->w;
    bool copied = false;
    Scales d = {0};
    __m512 a[R_MAX][M_MAX];
    acc_zero(a, R, M);
    for (size_t i = 0; i < total; i += GROUP) {
        int n = (int)MIN(GROUP, total - i);
        bool ahead = i + 2 * GROUP <= total;
        for (int j = 0; !copied && j < n; j++) {
            scales_copy(&d, j, w + (size_t)j * size, s->apart, R);
        }
        copied = ahead;
        scales_convert(&d, R);
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

/* The sixteen values of a nibble, times the scale, are a table in a register: exact, since a scale has
 * 11 bits. Looking up takes the low four bits of each lane, so the upper ones need no mask. */
static ALWAYS_INLINE void step_q4_0(const Gemv *g, const char *block, size_t apart, const float *x,
                                    const Scales *d, int b, __m512 a[R_MAX][M_MAX], int R, int M) {
    const __m512 values = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = block + (size_t)r * apart + offsetof(BlockQ4_0, qs);
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        __m512 table = _mm512_mul_ps(values, _mm512_set1_ps(d->now[r][b]));
        __m512i v = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q));
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

static ALWAYS_INLINE void step_q8_0(const Gemv *g, const char *block, size_t apart, const float *x,
                                    const Scales *d, int b, __m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = block + (size_t)r * apart + offsetof(BlockQ8_0, qs);
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        __m512 dr = _mm512_set1_ps(d->now[r][b]);
        __m128i q0 = _mm_loadu_si128((const __m128i *)q);
        __m128i q1 = _mm_loadu_si128((const __m128i *)q + 1);
        __m512 w0 = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q0)), dr);
        __m512 w1 = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q1)), dr);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            a[r][j] = _mm512_fmadd_ps(w0, _mm512_loadu_ps(xj), a[r][j]);
            a[r][j] = _mm512_fmadd_ps(w1, _mm512_loadu_ps(xj + 16), a[r][j]);
        }
    }
}

static ALWAYS_INLINE void stream_q4_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks(step_q4_0, sizeof(BlockQ4_0), g, s, R, M);
}

static ALWAYS_INLINE void stream_q8_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks(step_q8_0, sizeof(BlockQ8_0), g, s, R, M);
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

void kern_avx512_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
}
