/* SPDX-License-Identifier: Apache-2.0
 * Attention on AVX-512: sixteen floats at a time, for kernel/attn_walk.inc. */
#include <math.h>

#include "kernel/avx512/vec.h"

typedef __m512 Av;
typedef __mmask16 AvPart; /* the first lanes of one */
#define AV_ALL VEC_FULL

enum {
    AV = 16,
    AV_REG = 8,    /* queries in registers together */
    AV_FEW = 6,    /* up to here they are few, */
    AV_W_FEW = 4,  /* and so many registers of columns are taken together; */
    AV_W_MANY = 2, /* with more queries so many */
    AV_LAID = 8,   /* queries that take a block as it lies, */
    AV_LAID_Q8 = 8 /* and one of bytes */
};

static ALWAYS_INLINE AvPart av_part(size_t left) { return vec_mask(left); }
static ALWAYS_INLINE Av av_set(float v) { return _mm512_set1_ps(v); }
static ALWAYS_INLINE Av av_load(const float *p, AvPart part) { return vec_load(p, part); }
static ALWAYS_INLINE void av_store(float *p, AvPart part, Av v) {
    _mm512_mask_storeu_ps(p, part, v);
}
static ALWAYS_INLINE Av av_max(Av a, Av b) { return _mm512_max_ps(a, b); }
static ALWAYS_INLINE Av av_fmadd(Av a, Av b, Av c) { return _mm512_fmadd_ps(a, b, c); }
static ALWAYS_INLINE float av_most(Av v) { return _mm512_reduce_max_ps(v); }
static ALWAYS_INLINE float av_first_lane(Av v) { return _mm512_cvtss_f32(v); }
/* Lanes from n on become -inf. */
static ALWAYS_INLINE Av av_first(Av v, int n) {
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), vec_mask((size_t)MAX(n, 0)), v);
}
/* f16 and signed bytes at p; one f16 everywhere */
static ALWAYS_INLINE Av av_halves(const char *p, AvPart part) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(part, p));
}
static ALWAYS_INLINE Av av_bytes(const char *p, AvPart part) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(part, p)));
}
static ALWAYS_INLINE Av av_half(uint16_t h) { return _mm512_cvtph_ps(_mm256_set1_epi16((short)h)); }

#include "kernel/attn_walk.inc"

void kern_avx512_attn(Kern *k) { fill_attn(k); }
