/* SPDX-License-Identifier: Apache-2.0
 * Attention on AVX2: eight floats at a time, for kernel/attn_walk.inc. */
#include <math.h>

#include "kernel/avx2/vec.h"

typedef __m256 Av;
typedef enum AvPart { AV_ALL } AvPart; /* hd is a multiple of 8: there are no parts of one */

enum {
    AV = 8,
    AV_REG = 2,    /* queries in registers together */
    AV_FEW = 2,    /* they are never many */
    AV_W_FEW = 4,  /* registers of columns taken together */
    AV_W_MANY = 4, /* the same */
    AV_LAID = 8,   /* queries that take a block as it lies, */
    AV_LAID_Q8 = 4 /* and one of bytes */
};

static ALWAYS_INLINE AvPart av_part(size_t left) { return (void)left, AV_ALL; }
static ALWAYS_INLINE Av av_set(float v) { return _mm256_set1_ps(v); }
static ALWAYS_INLINE Av av_load(const float *p, AvPart part) {
    return (void)part, _mm256_loadu_ps(p);
}
static ALWAYS_INLINE void av_store(float *p, AvPart part, Av v) {
    (void)part;
    _mm256_storeu_ps(p, v);
}
static ALWAYS_INLINE Av av_max(Av a, Av b) { return _mm256_max_ps(a, b); }
static ALWAYS_INLINE Av av_fmadd(Av a, Av b, Av c) { return _mm256_fmadd_ps(a, b, c); }
static ALWAYS_INLINE float av_most(Av v) { return vec_max(v); }
static ALWAYS_INLINE float av_first_lane(Av v) { return _mm256_cvtss_f32(v); }
/* Lanes from n on become -inf. */
static ALWAYS_INLINE Av av_first(Av v, int n) {
    __m256i in = vec_mask((size_t)MAX(0, MIN(AV, n)));
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), v, _mm256_castsi256_ps(in));
}
/* f16 and signed bytes at p; one f16 everywhere */
static ALWAYS_INLINE Av av_halves(const char *p, AvPart part) {
    return (void)part, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static ALWAYS_INLINE Av av_bytes(const char *p, AvPart part) {
    __m128i q = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return (void)part, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
}
static ALWAYS_INLINE Av av_half(uint16_t h) { return _mm256_cvtph_ps(_mm_set1_epi16((short)h)); }

#include "kernel/attn_walk.inc"

void kern_avx2_attn(Kern *k) { fill_attn(k); }
