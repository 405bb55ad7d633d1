/* SPDX-License-Identifier: Apache-2.0
 * Eight rows side by side for kernel/packed_dot.inc; what multiplies bytes is in the file that includes this. */
#ifndef INGOT_KERNEL_AVX2_PACKED_H
#define INGOT_KERNEL_AVX2_PACKED_H

#include <immintrin.h>
#include <string.h>

#include "base/platform.h"

enum { PV_R = 8 };
#define PV_PREFETCH(p) _mm_prefetch((p), _MM_HINT_T0)

typedef __m256i Pv;
typedef __m256i PvSign;
typedef __m256 Pf;

static ALWAYS_INLINE Pv pv_zero(void) { return _mm256_setzero_si256(); }
static ALWAYS_INLINE Pv pv_load(const char *p) {
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
static ALWAYS_INLINE Pv pv_bytes(char c) { return _mm256_set1_epi8(c); }
static ALWAYS_INLINE Pv pv_and(Pv a, Pv b) { return _mm256_and_si256(a, b); }
static ALWAYS_INLINE Pv pv_xor(Pv a, Pv b) { return _mm256_xor_si256(a, b); }
static ALWAYS_INLINE Pv pv_or(Pv a, Pv b) { return _mm256_or_si256(a, b); }
static ALWAYS_INLINE Pv pv_right(Pv a, int n) { return _mm256_srli_epi32(a, n); }
static ALWAYS_INLINE Pv pv_left(Pv a, int n) { return _mm256_slli_epi32(a, n); }
static ALWAYS_INLINE Pv pv_add(Pv a, Pv b) { return _mm256_add_epi32(a, b); }
/* The word at p in every lane. */
static ALWAYS_INLINE Pv pv_word(const char *p) {
    int32_t w;
    memcpy(&w, p, sizeof w);
    return _mm256_set1_epi32(w);
}
static ALWAYS_INLINE Pv pv_abs(Pv a) { return _mm256_abs_epi8(a); }
static ALWAYS_INLINE PvSign pv_sign_of(Pv a) { return a; }
static ALWAYS_INLINE Pv pv_signed(Pv x, PvSign s) { return _mm256_sign_epi8(x, s); }

static ALWAYS_INLINE Pf pf_zero(void) { return _mm256_setzero_ps(); }
static ALWAYS_INLINE Pf pf_of(Pv v) { return _mm256_cvtepi32_ps(v); }
static ALWAYS_INLINE Pf pf_mul(Pf a, Pf b) { return _mm256_mul_ps(a, b); }
static ALWAYS_INLINE Pf pf_fma(Pf a, Pf b, Pf c) { return _mm256_fmadd_ps(a, b, c); }
static ALWAYS_INLINE Pf pf_minus(Pf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
static ALWAYS_INLINE Pf pf_one(const char *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return _mm256_set1_ps(f);
}
static ALWAYS_INLINE Pf pf_halves(const char *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
static ALWAYS_INLINE Pf pf_bytes(const char *p) {
    __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(b));
}
static ALWAYS_INLINE Pf pf_signed_bytes(const char *p) {
    __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b));
}
static ALWAYS_INLINE void pf_store(float *y, Pf v) { _mm256_storeu_ps(y, v); }

#endif
