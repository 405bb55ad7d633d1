/* SPDX-License-Identifier: Apache-2.0
 * f32, f16 and bf16 weights times 1 to 4 vectors on AVX2: 8 weights are one load and a conversion. */
#include "kernel/avx2/gemv.h"

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

void kern_avx2_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    kern_avx2_gemv_blocks(k);
    kern_avx2_gemv_k(k);
}
