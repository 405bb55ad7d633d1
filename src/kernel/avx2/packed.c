/* SPDX-License-Identifier: Apache-2.0
 * Packed weights on AVX2: products of bytes are added in 16 bits; and the rounding of x. */
#include <float.h>
#include <math.h>

#include "kernel/avx2/packed.h"
#include "kernel/avx2/vec.h"
#include "kernel/packed.h"

typedef __m256i PvSum;

static ALWAYS_INLINE PvSum pv_dot(Pv c, Pv x) { return _mm256_maddubs_epi16(c, x); }
static ALWAYS_INLINE PvSum pv_dot_add(PvSum a, Pv c, Pv x) {
    return _mm256_add_epi16(a, _mm256_maddubs_epi16(c, x));
}
static ALWAYS_INLINE Pv pv_widen(PvSum a) { return _mm256_madd_epi16(a, _mm256_set1_epi16(1)); }

enum { PV_EXACT = false, PV_PAIRS = false, PV_MOST = 4 };

#include "kernel/packed_dot.inc"

/* ---- rounding x ---- */

static ALWAYS_INLINE float max_of(__m256 v) {
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)));
}

/* Sums of the bytes of the two halves. */
static ALWAYS_INLINE void sums_of(int32_t sum[2], __m256i q) {
    __m256i w = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    w = _mm256_madd_epi16(w, _mm256_set1_epi16(1));
    w = _mm256_add_epi32(w, _mm256_shuffle_epi32(w, 0x4e));
    w = _mm256_add_epi32(w, _mm256_shuffle_epi32(w, 0xb1));
    sum[0] = _mm256_cvtsi256_si32(w);
    sum[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(w, 1));
}

/* 32 floats times s as bytes, in order; none is beyond -127..127. */
static ALWAYS_INLINE __m256i bytes_of(const __m256 v[4], float s) {
    __m256 f = _mm256_set1_ps(s);
    __m256i i[4];
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) i[n] = _mm256_cvtps_epi32(_mm256_mul_ps(v[n], f));
    __m256i b = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
    return _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

static ALWAYS_INLINE void round_part(char *dst, const float *x, PackKind p, int m, int j) {
    __m256 v[4], max = _mm256_setzero_ps(), bad = max;
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {
        v[n] = _mm256_loadu_ps(x + 8 * n);
        max = _mm256_max_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v[n]), max);
        bad = _mm256_fmadd_ps(v[n], _mm256_setzero_ps(), bad);
    }
    bool good = _mm256_movemask_ps(_mm256_cmp_ps(bad, bad, _CMP_UNORD_Q)) == 0;
    float top = max_of(max), inverse = good && top > 0.0f ? 127.0f / top : 0.0f;
    if (inverse > FLT_MAX) inverse = 0.0f;
    __m256i q = good ? bytes_of(v, inverse) : _mm256_setzero_si256();
    int32_t sum[2];
    sums_of(sum, q);
    _mm256_storeu_si256((__m256i *)(void *)(dst + j * QK), q);
    pack_x_put(dst, p, m, j, good ? top / 127.0f : NAN, sum[0], sum[1]);
}

static void round_x(void *dst, const float *x, size_t ldx, int m, int k, DType t) {
    PackKind p = pack_kind(t);
    for (int i = 0; i < k / QK; i++)
        for (int j = 0; j < m; j++)
            round_part((char *)dst + (size_t)i * (size_t)m * PACK_X_BYTES,
                       x + (size_t)j * ldx + (size_t)i * QK, p, m, j);
}

void kern_avx2_packed(Kern *k) {
    packed_fill(k);
    k->round_x = round_x;
}
