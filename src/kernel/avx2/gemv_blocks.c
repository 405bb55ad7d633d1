/* SPDX-License-Identifier: Apache-2.0
 * Blocks of 32 weights (q8_0, q4_0, q4_1, q5_0, q5_1) times 1 to 4 vectors on AVX2. Without a minimum a sum of
 * integers times x is multiplied with the scale once a block; with one the weights themselves are made.
 *
 * A stream is one sequence of blocks, rows or not. Its scales are converted 8 at a time; the halves of
 * the next 8 are copied together, one for each block that is computed, so that the conversion finds
 * them in the cache and no wait shows. */
#include "kernel/avx2/gemv.h"
#include "kernel/avx2/unpack.h"

enum { GROUP = 8, QUARTERS = 4 }; /* blocks; registers of 8 weights a block */

/* What a type is made of; a constant where it is expanded. */
typedef struct Kind {
    /* The 32 integers of a block as f32, over `unit`. */
    void (*unpack)(__m256 w[QUARTERS], const char *block);
    size_t size;
    float unit;
    int halves; /* 1: d; 2: d and m */
} Kind;

typedef struct Scales {
    uint16_t next[R_MAX][2 * GROUP];
    float now[R_MAX][2 * GROUP]; /* [block][halves] */
} Scales;

static ALWAYS_INLINE void scales_copy(Kind t, Scales *d, int b, const char *block, size_t apart,
                                      int R) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        memcpy(&d->next[r][b * t.halves], block + (size_t)r * apart, (size_t)t.halves * 2);
    }
}

static ALWAYS_INLINE void scales_convert(Kind t, Scales *d, int R) {
    __m256 one = _mm256_set1_ps(1), unit = _mm256_set1_ps(t.unit);
    if (t.halves == 2) unit = _mm256_blend_ps(unit, one, 0xaa);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
        for (int i = 0; i < t.halves * GROUP; i += 8) {
            __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(d->next[r] + i)));
            _mm256_storeu_ps(d->now[r] + i, _mm256_mul_ps(v, unit));
        }
    }
}

/* a + (integers w times x) * scale, at dm. */
static ALWAYS_INLINE __m256 add_scaled(__m256 a, const __m256 w[QUARTERS], const float *x,
                                       const float *dm) {
    __m256 s = _mm256_mul_ps(w[0], _mm256_loadu_ps(x));
#pragma GCC unroll 4
    for (int i = 1; i < QUARTERS; i++) s = _mm256_fmadd_ps(w[i], _mm256_loadu_ps(x + 8 * i), s);
    return _mm256_fmadd_ps(s, _mm256_broadcast_ss(dm), a);
}

/* a + weights times x. */
static ALWAYS_INLINE __m256 add_products(__m256 a, const __m256 w[QUARTERS], const float *x) {
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) a = _mm256_fmadd_ps(w[i], _mm256_loadu_ps(x + 8 * i), a);
    return a;
}

/* Block b of the group, of each of R streams, times 32 elements of each vector. */
static ALWAYS_INLINE void block_step(Kind t, const Gemv *g, const char *block, size_t apart,
                                     const float *x, const Scales *d, int b, __m256 a[R_MAX][M_MAX],
                                     int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = block + (size_t)r * apart;
        const float *dm = &d->now[r][b * t.halves];
        __m256 w[QUARTERS];
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        t.unpack(w, q);
#pragma GCC unroll 4
        for (int i = 0; i < QUARTERS; i++) {
            if (t.halves < 2) continue;
            w[i] = _mm256_fmadd_ps(w[i], _mm256_broadcast_ss(dm), _mm256_broadcast_ss(dm + 1));
        }
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            if (t.halves < 2) a[r][j] = add_scaled(a[r][j], w, xj, dm);
            else a[r][j] = add_products(a[r][j], w, xj);
        }
    }
}

/* Computes n blocks from place b of a group, and copies the scales of those `ahead` bytes on. */
static ALWAYS_INLINE void blocks_run(Kind t, const Gemv *g, const char *w, size_t apart,
                                     const float *x, Scales *d, int b, int n, size_t ahead,
                                     __m256 a[R_MAX][M_MAX], int R, int M) {
    for (int end = b + n; b < end; b++) {
        scales_copy(t, d, b, w + ahead, apart, R);
        block_step(t, g, w, apart, x, d, b, a, R, M);
        w += t.size;
        x += QK;
    }
}

static ALWAYS_INLINE void blocks(Kind t, const Gemv *g, const Streams *s, int R, int M) {
    size_t per_row = (size_t)g->k / QK, total = s->rows * per_row, in_row = 0, row = 0;
    const char *w = s->w;
    bool copied = false;
    Scales d = {0};
    __m256 a[R_MAX][M_MAX];
    acc_zero(a, R, M);
    for (size_t i = 0; i < total; i += GROUP) {
        int n = (int)MIN(GROUP, total - i);
        for (int b = 0; !copied && b < n; b++) {
            scales_copy(t, &d, b, w + (size_t)b * t.size, s->apart, R);
        }
        copied = i + 2 * GROUP <= total; /* else this group's are copied again, for nothing */
        scales_convert(t, &d, R);
        for (int b = 0, len; b < n; b += len) {
            const float *x = g->x + in_row * QK;
            len = (int)MIN((size_t)(n - b), per_row - in_row);
            blocks_run(t, g, w, s->apart, x, &d, b, len, copied ? GROUP * t.size : 0, a, R, M);
            w += (size_t)len * t.size;
            in_row += (size_t)len;
            if (in_row < per_row) continue;
            acc_store(g, s, row++, a, R, M);
            acc_zero(a, R, M);
            in_row = 0;
        }
    }
    for (; row < s->rows; row++) acc_store(g, s, row, a, R, M); /* k = 0 */
}

/* ---- the types ---- */

static ALWAYS_INLINE void quarters(__m256 w[QUARTERS], __m256i bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) w[i] = unpack_f32(bytes, i);
}

static ALWAYS_INLINE void quarters_q8_0(__m256 w[QUARTERS], const char *block) {
    const char *q = block + offsetof(BlockQ8_0, qs);
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) {
        __m128i v = _mm_loadl_epi64((const __m128i *)(q + 8 * i));
        w[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v));
    }
}

static ALWAYS_INLINE void quarters_q4_0(__m256 w[QUARTERS], const char *block) {
    quarters(w, unpack_q4_0(block));
}

static ALWAYS_INLINE void quarters_q4_1(__m256 w[QUARTERS], const char *block) {
    quarters(w, unpack_q4_1(block));
}

static ALWAYS_INLINE void quarters_q5_0(__m256 w[QUARTERS], const char *block) {
    quarters(w, unpack_q5_0(block));
}

static ALWAYS_INLINE void quarters_q5_1(__m256 w[QUARTERS], const char *block) {
    quarters(w, unpack_q5_1(block));
}
static ALWAYS_INLINE void stream_q8_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){quarters_q8_0, sizeof(BlockQ8_0), 1.0f, 1}, g, s, R, M);
}

static void gemv_q8_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q8_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q8_0, &g, m);
}

static ALWAYS_INLINE void stream_q4_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){quarters_q4_0, sizeof(BlockQ4_0), UNPACK_UNIT, 1}, g, s, R, M);
}

static void gemv_q4_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_0, &g, m);
}

static ALWAYS_INLINE void stream_q4_1(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){quarters_q4_1, sizeof(BlockQ4_1), UNPACK_UNIT, 2}, g, s, R, M);
}

static void gemv_q4_1(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_1, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_1, &g, m);
}

static ALWAYS_INLINE void stream_q5_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){quarters_q5_0, sizeof(BlockQ5_0), UNPACK_UNIT, 1}, g, s, R, M);
}

static void gemv_q5_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q5_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q5_0, &g, m);
}

static ALWAYS_INLINE void stream_q5_1(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){quarters_q5_1, sizeof(BlockQ5_1), UNPACK_UNIT, 2}, g, s, R, M);
}

static void gemv_q5_1(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q5_1, y, ldy, w, x, ldx, n, k);
    gemv(stream_q5_1, &g, m);
}

void kern_avx2_gemv_blocks(Kern *k) {
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
    k->gemv[DT_Q4_1] = gemv_q4_1;
    k->gemv[DT_Q5_0] = gemv_q5_0;
    k->gemv[DT_Q5_1] = gemv_q5_1;
}
