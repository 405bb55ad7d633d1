/* SPDX-License-Identifier: Apache-2.0
 * Blocks of 32 weights (q8_0, q4_0, q4_1, q5_0, q5_1) times 1 to 4 vectors on AVX-512.
 *
 * A stream is one sequence of blocks, rows or not. Its scales are converted 16 at a time; the halves of
 * the next 16 are copied together, one for each block that is computed, so that the conversion finds
 * them in the cache and no wait shows. */
#include "kernel/avx512/gemv.h"
#include "kernel/avx512/unpack.h"

enum { GROUP = 16 };

/* What a type is made of; a constant where it is expanded. */
typedef struct Kind {
    /* The 32 weights of a block whose d (and m) are at dm. */
    void (*unpack)(__m512 w[2], const char *block, const float *dm);
    size_t size;
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
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
        for (int i = 0; i < t.halves * GROUP; i += 16) {
            __m256i h = _mm256_loadu_si256((const __m256i *)(d->next[r] + i));
            _mm512_storeu_ps(d->now[r] + i, _mm512_cvtph_ps(h));
        }
    }
}

/* Block b of the group, of each of R streams, times 32 elements of each vector. */
static ALWAYS_INLINE void block_step(Kind t, const Gemv *g, const char *block, size_t apart,
                                     const float *x, const Scales *d, int b, __m512 a[R_MAX][M_MAX],
                                     int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *q = block + (size_t)r * apart;
        __m512 w[2];
        _mm_prefetch(q + AHEAD, _MM_HINT_T0);
        t.unpack(w, q, &d->now[r][b * t.halves]);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            a[r][j] = _mm512_fmadd_ps(w[0], _mm512_loadu_ps(xj), a[r][j]);
            a[r][j] = _mm512_fmadd_ps(w[1], _mm512_loadu_ps(xj + 16), a[r][j]);
        }
    }
}

/* Computes n blocks from place b of a group, and copies the scales of those `ahead` bytes on. */
static ALWAYS_INLINE void blocks_run(Kind t, const Gemv *g, const char *w, size_t apart,
                                     const float *x, Scales *d, int b, int n, size_t ahead,
                                     __m512 a[R_MAX][M_MAX], int R, int M) {
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
    __m512 a[R_MAX][M_MAX];
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

static ALWAYS_INLINE void unpack_q8_0(__m512 w[2], const char *block, const float *dm) {
    const __m128i *q = (const __m128i *)(const void *)(block + offsetof(BlockQ8_0, qs));
    __m512 d = _mm512_set1_ps(*dm);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        __m512i v = _mm512_cvtepi8_epi32(_mm_loadu_si128(q + i));
        w[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(v), d);
    }
}

static ALWAYS_INLINE void look_up(__m512 w[2], __m512 table, const char *qs) {
    __m512i v = unpack_bytes(qs);
    w[0] = _mm512_permutexvar_ps(v, table);
    w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(v, 4), table);
}

/* The fifth bit is sixteen times the scale. */
static ALWAYS_INLINE void add_fifth(__m512 w[2], const char *qh, const float *dm) {
    __mmask32 h = unpack_fifth(qh);
    __m512 up = _mm512_set1_ps(16), d = _mm512_set1_ps(*dm);
    w[0] = _mm512_mask3_fmadd_ps(up, d, w[0], (__mmask16)h);
    w[1] = _mm512_mask3_fmadd_ps(up, d, w[1], (__mmask16)(h >> 16));
}

static ALWAYS_INLINE void unpack_q4_0(__m512 w[2], const char *block, const float *dm) {
    __m512 table = _mm512_mul_ps(unpack_table(-8), _mm512_set1_ps(*dm));
    look_up(w, table, block + offsetof(BlockQ4_0, qs));
}

static ALWAYS_INLINE void unpack_q4_1(__m512 w[2], const char *block, const float *dm) {
    __m512 table = _mm512_fmadd_ps(unpack_table(0), _mm512_set1_ps(*dm), _mm512_set1_ps(dm[1]));
    look_up(w, table, block + offsetof(BlockQ4_1, qs));
}

static ALWAYS_INLINE void unpack_q5_0(__m512 w[2], const char *block, const float *dm) {
    __m512 table = _mm512_mul_ps(unpack_table(-16), _mm512_set1_ps(*dm));
    look_up(w, table, block + offsetof(BlockQ5_0, qs));
    add_fifth(w, block + offsetof(BlockQ5_0, qh), dm);
}

static ALWAYS_INLINE void unpack_q5_1(__m512 w[2], const char *block, const float *dm) {
    __m512 table = _mm512_fmadd_ps(unpack_table(0), _mm512_set1_ps(*dm), _mm512_set1_ps(dm[1]));
    look_up(w, table, block + offsetof(BlockQ5_1, qs));
    add_fifth(w, block + offsetof(BlockQ5_1, qh), dm);
}
static ALWAYS_INLINE void stream_q8_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q8_0, sizeof(BlockQ8_0), 1}, g, s, R, M);
}

static void gemv_q8_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q8_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q8_0, &g, m);
}

static ALWAYS_INLINE void stream_q4_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q4_0, sizeof(BlockQ4_0), 1}, g, s, R, M);
}

static void gemv_q4_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_0, &g, m);
}

static ALWAYS_INLINE void stream_q4_1(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q4_1, sizeof(BlockQ4_1), 2}, g, s, R, M);
}

static void gemv_q4_1(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_1, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_1, &g, m);
}

static ALWAYS_INLINE void stream_q5_0(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q5_0, sizeof(BlockQ5_0), 1}, g, s, R, M);
}

static void gemv_q5_0(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q5_0, y, ldy, w, x, ldx, n, k);
    gemv(stream_q5_0, &g, m);
}

static ALWAYS_INLINE void stream_q5_1(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q5_1, sizeof(BlockQ5_1), 2}, g, s, R, M);
}

static void gemv_q5_1(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q5_1, y, ldy, w, x, ldx, n, k);
    gemv(stream_q5_1, &g, m);
}

void kern_avx512_gemv_blocks(Kern *k) {
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
    k->gemv[DT_Q4_1] = gemv_q4_1;
    k->gemv[DT_Q5_0] = gemv_q5_0;
    k->gemv[DT_Q5_1] = gemv_q5_1;
}
