/* SPDX-License-Identifier: Apache-2.0
 * f32, f16 and bf16 weights times 1 to 4 vectors on AVX-512: 16 weights are one load and a conversion. */
#include "kernel/avx512/gemv.h"

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

void kern_avx512_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    kern_avx512_gemv_blocks(k);
    kern_avx512_gemv_k(k);
}
