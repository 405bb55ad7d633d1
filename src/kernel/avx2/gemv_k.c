/* SPDX-License-Identifier: Apache-2.0
 * Blocks of 256 weights (q4_K, q5_K, q6_K) times 1 to 4 vectors on AVX2. The scales of a block are made together;
 * then come eight steps of 32 weights: with a minimum the weights themselves times x, without one a sum of integers
 * times x that is multiplied with the scale of its 16. */
#include "kernel/avx2/gemv.h"
#include "kernel/avx2/unpack.h"

enum { STEPS = 8, QUARTERS = 4 };

/* What a type is made of; a constant where it is expanded. */
typedef struct Kind {
    __m256i (*unpack)(const char *block, int half, int i);
    size_t size;
    bool min; /* 8 scales and 8 minimums; otherwise 16 scales */
} Kind;

static ALWAYS_INLINE void scales_make(Kind t, float s[16], const char *block) {
    const __m256 unit = _mm256_set1_ps(UNPACK_UNIT);
    __m256 lo, hi;
    if (t.min) {
        unpack_scales_k(&lo, &hi, block);
    } else {
        lo = unpack_scales_q6_k(block, 0);
        hi = _mm256_mul_ps(unpack_scales_q6_k(block, 1), unit);
    }
    _mm256_storeu_ps(s, _mm256_mul_ps(lo, unit));
    _mm256_storeu_ps(s + 8, hi);
}

/* a + 32 weights times x. */
static ALWAYS_INLINE __m256 add_32(__m256 a, const __m256 w[QUARTERS], const float *x) {
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) a = _mm256_fmadd_ps(w[i], _mm256_loadu_ps(x + 8 * i), a);
    return a;
}

/* 32 integers of a group as f32; those with a minimum times the scale and less the minimum. */
static ALWAYS_INLINE void weights(Kind t, __m256 w[QUARTERS], const char *block, const float s[16],
                                  int half, int i) {
    int at = STEPS / 2 * half + i;
    __m256i v = t.unpack(block, half, i);
#pragma GCC unroll 4
    for (int c = 0; c < QUARTERS; c++) {
        w[c] = unpack_f32(v, c);
        if (!t.min) continue;
        w[c] = _mm256_fmsub_ps(w[c], _mm256_broadcast_ss(&s[at]), _mm256_broadcast_ss(&s[8 + at]));
    }
}

/* a + 32 integers of two scales times x. */
static ALWAYS_INLINE __m256 add_16_16(__m256 a, const __m256 w[QUARTERS], const float *x,
                                      const float *s) {
    __m256 t = _mm256_mul_ps(w[0], _mm256_loadu_ps(x));
    __m256 u = _mm256_mul_ps(w[2], _mm256_loadu_ps(x + 16));
    t = _mm256_fmadd_ps(w[1], _mm256_loadu_ps(x + 8), t);
    u = _mm256_fmadd_ps(w[3], _mm256_loadu_ps(x + 24), u);
    a = _mm256_fmadd_ps(t, _mm256_broadcast_ss(s), a);
    return _mm256_fmadd_ps(u, _mm256_broadcast_ss(s + 1), a);
}

/* Step i of a half of the block of each of R streams; x: the 32 elements that belong to it. */
static ALWAYS_INLINE void step(Kind t, int half, int i, const Gemv *g, const char *block,
                               size_t apart, const float *x, float s[R_MAX][16],
                               __m256 a[R_MAX][M_MAX], int R, int M) {
    int at = STEPS / 2 * half + i;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
        const char *b = block + (size_t)r * apart;
        __m256 w[QUARTERS];
        weights(t, w, b, s[r], half, i);
        if (i % 2 == 0) _mm_prefetch(b + (size_t)at * t.size / STEPS + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int j = 0; j < M; j++) {
            const float *xj = x + (size_t)j * g->ldx;
            if (t.min) a[r][j] = add_32(a[r][j], w, xj);
            else a[r][j] = add_16_16(a[r][j], w, xj, &s[r][2 * at]);
        }
    }
}

/* One block of each stream: its steps, and between them the scales of the block `ahead` bytes on, a row a step, so
 * that nothing waits for them there. */
static ALWAYS_INLINE void block_run(Kind t, const Gemv *g, const char *w, size_t apart,
                                    size_t ahead, const float *x, float now[R_MAX][16],
                                    float next[R_MAX][16], __m256 a[R_MAX][M_MAX], int R, int M) {
    for (int half = 0; half < 2; half++) {
#pragma GCC unroll 4
        for (int i = 0; i < STEPS / 2; i++) {
            int r = half * STEPS / 2 + i;
            if (r < R) scales_make(t, next[r], w + (size_t)r * apart + ahead);
            step(t, half, i, g, w, apart, x + 32 * r, now, a, R, M);
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
        __m256 a[R_MAX][M_MAX];
        acc_zero(a, R, M);
        for (int k = 0; k < g->k; k += QK_K, now ^= 1, w += t.size) {
            size_t ahead = w + t.size < end ? t.size : 0;
            block_run(t, g, w, st->apart, ahead, g->x + k, s[now], s[now ^ 1], a, R, M);
        }
        acc_store(g, st, row, a, R, M);
    }
}
static ALWAYS_INLINE void stream_q4_k(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q4_k, sizeof(BlockQ4_K), true}, g, s, R, M);
}

static void gemv_q4_k(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q4_K, y, ldy, w, x, ldx, n, k);
    gemv(stream_q4_k, &g, m);
}

static ALWAYS_INLINE void stream_q5_k(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q5_k, sizeof(BlockQ5_K), true}, g, s, R, M);
}

static void gemv_q5_k(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q5_K, y, ldy, w, x, ldx, n, k);
    gemv(stream_q5_k, &g, m);
}

static ALWAYS_INLINE void stream_q6_k(const Gemv *g, const Streams *s, int R, int M) {
    blocks((Kind){unpack_q6_k, sizeof(BlockQ6_K), false}, g, s, R, M);
}

static void gemv_q6_k(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, int n,
                      int k) {
    Gemv g = call(DT_Q6_K, y, ldy, w, x, ldx, n, k);
    gemv(stream_q6_k, &g, m);
}

void kern_avx2_gemv_k(Kern *k) {
    k->gemv[DT_Q4_K] = gemv_q4_k;
    k->gemv[DT_Q5_K] = gemv_q5_k;
    k->gemv[DT_Q6_K] = gemv_q6_k;
}
