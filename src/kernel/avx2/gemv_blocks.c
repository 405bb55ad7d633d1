/* SPDX-License-Identifier: Apache-2.0
 * Blocks of 32 weights on AVX2, for kernel/gemv_blocks.inc. Without a minimum a sum of integers times x is
 * multiplied with the scale once a block; with one the weights themselves are made. */
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

static ALWAYS_INLINE void scales_convert(Kind t, float *now, const uint16_t *next) {
    __m256 one = _mm256_set1_ps(1), unit = _mm256_set1_ps(t.unit);
    if (t.halves == 2) unit = _mm256_blend_ps(unit, one, 0xaa);
#pragma GCC unroll 2
    for (int i = 0; i < t.halves * GROUP; i += 8) {
        __m256 v = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(next + i)));
        _mm256_storeu_ps(now + i, _mm256_mul_ps(v, unit));
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

static ALWAYS_INLINE void block_times(Kind t, const Gemv *g, const char *block, const float *x,
                                      const float *dm, Gv a[M_MAX], int M) {
    __m256 w[QUARTERS];
    t.unpack(w, block);
#pragma GCC unroll 4
    for (int i = 0; i < QUARTERS; i++) {
        if (t.halves < 2) continue;
        w[i] = _mm256_fmadd_ps(w[i], _mm256_broadcast_ss(dm), _mm256_broadcast_ss(dm + 1));
    }
#pragma GCC unroll 4
    for (int j = 0; j < M; j++) {
        const float *xj = x + (size_t)j * g->ldx;
        if (t.halves < 2) a[j] = add_scaled(a[j], w, xj, dm);
        else a[j] = add_products(a[j], w, xj);
    }
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

static const Kind kind_q8_0 = {quarters_q8_0, sizeof(BlockQ8_0), 1.0f, 1},
                  kind_q4_0 = {quarters_q4_0, sizeof(BlockQ4_0), UNPACK_UNIT, 1},
                  kind_q4_1 = {quarters_q4_1, sizeof(BlockQ4_1), UNPACK_UNIT, 2},
                  kind_q5_0 = {quarters_q5_0, sizeof(BlockQ5_0), UNPACK_UNIT, 1},
                  kind_q5_1 = {quarters_q5_1, sizeof(BlockQ5_1), UNPACK_UNIT, 2};

#include "kernel/gemv_blocks.inc"

void kern_avx2_gemv_blocks(Kern *k) { fill_gemv_blocks(k); }
