/* SPDX-License-Identifier: Apache-2.0
 * Blocks of 256 weights (q4_K, q5_K, q6_K) times 1 to 4 vectors on AVX-512. The scales of a block are made together;
 * then come steps of 64 weights that share their bytes: two groups of q4_K or q5_K, four of q6_K. */
#include "kernel/avx512/gemv.h"
#include "kernel/avx512/unpack.h"

enum { STEPS = 4 };

/* What a type is made of; a constant where it is expanded. */
typedef struct Kind {
    __m512 (*scales)(const char *block);
    /* The 64 weights of step i (a constant) of a half; s are the scales of the block. */
    void (*unpack)(__m512 w[4], const char *block, const float s[16], int half, int i);
    size_t size;
} Kind;

static ALWAYS_INLINE void scales_make(Kind t, float s[16], const char *block) {
    _mm512_storeu_ps(s, t.scales(block));
}

/* Step i of a half of the block of each of R streams; x: the 64 elements that belong to it. */
static ALWAYS_INLINE void step(Kind t, int half, int i, const Gemv *g, const char *block,
                               size_t apart, const float *x, float s[R_MAX][16],
                               __m512 a[R_MAX][M_MAX], int R, int M) {
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *b = block + (size_t)r * apart;
        __m512 w[4];
        _mm_prefetch(b + (size_t)(2 * half + i) * t.size / STEPS + AHEAD, _MM_HINT_T0);
        t.unpack(w, b, s[r], half, i);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
#pragma GCC unroll 4
            for (int c = 0; c < 4; c++) {
                a[r][j] = _mm512_fmadd_ps(w[c], _mm512_loadu_ps(xj + 16 * c), a[r][j]);
            }
        }
    }
}

/* One block of each stream: its steps, and between them the scales of the block `ahead` bytes on, a row a step, so
 * that nothing waits for them there. */
static ALWAYS_INLINE void block_run(Kind t, const Gemv *g, const char *w, size_t apart,
                                    size_t ahead, const float *x, float now[R_MAX][16],
                                    float next[R_MAX][16], __m512 a[R_MAX][M_MAX], int R, int M) {
    for (int half = 0; half < 2; half++) {
#pragma GCC unroll 2
        for (int i = 0; i < STEPS / 2; i++) {
            int r = half * STEPS / 2 + i;
            if (r < R) scales_make(t, next[r], w + (size_t)r * apart + ahead);
            step(t, half, i, g, w, apart, x + 64 * r, now, a, R, M);
        }
    }
}

static ALWAYS_INLINE void blocks(Kind t, const Gemv *g, const Streams *st, int R, int M) {
    const char *w = st->w, *end = st->w + st->rows * g->row_bytes;
    float s[2][R_MAX][16];
    int now = 0;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        if (g->k > 0) scales_make(t, s[0][r], w + (size_t)r * st->apart);
    }
    for (size_t row = 0; row < st->rows; row++) {
        __m512 a[R_MAX][M_MAX];
        acc_zero(a, R, M);
        for (int k = 0; k < g->k; k += QK_K, now ^= 1, w += t.size) {
            size_t ahead = w + t.size < end ? t.size : 0;
            block_run(t, g, w, st->apart, ahead, g->x + k, s[now], s[now ^ 1], a, R, M);
        }
        acc_store(g, st, row, a, R, M);
    }
}

/* ---- the types ---- */

/* Two groups: low nibbles of 32 bytes, then high ones. */
static ALWAYS_INLINE void nibbles(__m512 w[4], const char *qs, const float s[16], int i) {
    __m512i v0 = unpack_bytes(qs + 32 * i), v1 = unpack_bytes(qs + 32 * i + 16);
    __m512 count = unpack_table(0);
    __m512 lo = _mm512_fmsub_ps(count, _mm512_set1_ps(s[2 * i]), _mm512_set1_ps(s[8 + 2 * i]));
    __m512 hi = _mm512_fmsub_ps(count, _mm512_set1_ps(s[2 * i + 1]), _mm512_set1_ps(s[9 + 2 * i]));
    w[0] = _mm512_permutexvar_ps(v0, lo);
    w[1] = _mm512_permutexvar_ps(v1, lo);
    w[2] = _mm512_permutexvar_ps(_mm512_srli_epi32(v0, 4), hi);
    w[3] = _mm512_permutexvar_ps(_mm512_srli_epi32(v1, 4), hi);
}

static ALWAYS_INLINE void unpack_q4_k(__m512 w[4], const char *block, const float s[16], int half,
                                      int i) {
    nibbles(w, block + offsetof(BlockQ4_K, qs), s, 2 * half + i);
}

static ALWAYS_INLINE void unpack_q5_k(__m512 w[4], const char *block, const float s[16], int half,
                                      int i) {
    const char *qh = block + offsetof(BlockQ5_K, qh);
    nibbles(w, block + offsetof(BlockQ5_K, qs), s, 2 * half + i);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) { /* the fifth bit is sixteen times the scale */
        int g = 4 * half + 2 * i + c / 2;
        __mmask16 h = unpack_fifth_k(qh + c % 2 * 16, g);
        w[c] = _mm512_mask3_fmadd_ps(_mm512_set1_ps(16), _mm512_set1_ps(s[g]), w[c], h);
    }
}

static ALWAYS_INLINE void unpack_q6_k_64(__m512 w[4], const char *block, const float s[16],
                                         int half, int i) {
    __m512i v[2];
    unpack_q6_k(v, block, half);
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        w[c] = _mm512_mul_ps(unpack_quarter(v[i], c), _mm512_set1_ps(s[8 * half + 4 * i + c]));
    }
}
static ALWAYS_INLINE void stream_q4_k(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_scales_k, unpack_q4_k, sizeof(BlockQ4_K)}, g, s, R, M);
}

static void gemv_q4_k(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_K, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_k, &g, m);
}

static ALWAYS_INLINE void stream_q5_k(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_scales_k, unpack_q5_k, sizeof(BlockQ5_K)}, g, s, R, M);
}

static void gemv_q5_k(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q5_K, y, ldy, w, x, ldx, n, k);
    gemv(stream_q5_k, &g, m);
}

static ALWAYS_INLINE void stream_q6_k(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_scales_q6_k, unpack_q6_k_64, sizeof(BlockQ6_K)}, g, s, R, M);
}

static void gemv_q6_k(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q6_K, y, ldy, w, x, ldx, n, k);
    gemv(stream_q6_k, &g, m);
}

void kern_avx512_gemv_k(Kern *k) {
    k->gemv[DT_Q4_K] = gemv_q4_k;
    k->gemv[DT_Q5_K] = gemv_q5_k;
    k->gemv[DT_Q6_K] = gemv_q6_k;
}
