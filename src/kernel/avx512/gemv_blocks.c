/* SPDX-License-Identifier: Apache-2.0
 * Blocks of 32 weights on AVX-512, for kernel/gemv_blocks.inc: the weights themselves are made. */
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

static ALWAYS_INLINE void scales_convert(Kind t, float *now, const uint16_t *next) {
#pragma GCC unroll 2
    for (int i = 0; i < t.halves * GROUP; i += 16) {
        __m256i h = _mm256_loadu_si256((const __m256i *)(next + i));
        _mm512_storeu_ps(now + i, _mm512_cvtph_ps(h));
    }
}

static ALWAYS_INLINE void block_times(Kind t, const Gemv *g, const char *block, const float *x,
                                      const float *dm, Gv a[M_MAX], int M) {
    __m512 w[2];
    t.unpack(w, block, dm);
#pragma GCC unroll 4
    for (int j = 0; j < M; j++) {
        const float *xj = x + (size_t)j * g->ldx;
        a[j] = _mm512_fmadd_ps(w[0], _mm512_loadu_ps(xj), a[j]);
        a[j] = _mm512_fmadd_ps(w[1], _mm512_loadu_ps(xj + 16), a[j]);
    }
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

static const Kind kind_q8_0 = {unpack_q8_0, sizeof(BlockQ8_0), 1},
                  kind_q4_0 = {unpack_q4_0, sizeof(BlockQ4_0), 1},
                  kind_q4_1 = {unpack_q4_1, sizeof(BlockQ4_1), 2},
                  kind_q5_0 = {unpack_q5_0, sizeof(BlockQ5_0), 1},
                  kind_q5_1 = {unpack_q5_1, sizeof(BlockQ5_1), 2};

#include "kernel/gemv_blocks.inc"

void kern_avx512_gemv_blocks(Kern *k) { fill_gemv_blocks(k); }
