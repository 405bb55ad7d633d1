/* SPDX-License-Identifier: Apache-2.0
 * Sixteen rows side by side for kernel/packed_dot.inc; what multiplies bytes is in the file that includes this. */
#ifndef INGOT_KERNEL_AVX512_PACKED_H
#define INGOT_KERNEL_AVX512_PACKED_H

#include <immintrin.h>
#include <string.h>

#include "base/platform.h"

enum { PV_R = 16 };
#define PV_PREFETCH(p) _mm_prefetch((p), _MM_HINT_T0)

typedef __m512i Pv;
typedef __m512 Pf;
typedef __mmask64 PvSign;

static ALWAYS_INLINE Pv pv_zero(void) { return _mm512_setzero_si512(); }
static ALWAYS_INLINE Pv pv_load(const char *p) { return _mm512_loadu_si512(p); }
static ALWAYS_INLINE Pv pv_bytes(char c) { return _mm512_set1_epi8(c); }
static ALWAYS_INLINE Pv pv_and(Pv a, Pv b) { return _mm512_and_si512(a, b); }
static ALWAYS_INLINE Pv pv_xor(Pv a, Pv b) { return _mm512_xor_si512(a, b); }
static ALWAYS_INLINE Pv pv_or(Pv a, Pv b) { return _mm512_or_si512(a, b); }
static ALWAYS_INLINE Pv pv_right(Pv a, int n) { return _mm512_srli_epi32(a, (unsigned)n); }
static ALWAYS_INLINE Pv pv_left(Pv a, int n) { return _mm512_slli_epi32(a, (unsigned)n); }
static ALWAYS_INLINE Pv pv_add(Pv a, Pv b) { return _mm512_add_epi32(a, b); }
/* The word at p in every lane. */
static ALWAYS_INLINE Pv pv_word(const char *p) {
    int32_t w;
    memcpy(&w, p, sizeof w);
    return _mm512_set1_epi32(w);
}
static ALWAYS_INLINE Pv pv_abs(Pv a) { return _mm512_abs_epi8(a); }
static ALWAYS_INLINE PvSign pv_sign_of(Pv a) { return _mm512_movepi8_mask(a); }
static ALWAYS_INLINE Pv pv_signed(Pv x, PvSign s) {
    return _mm512_mask_sub_epi8(x, s, _mm512_setzero_si512(), x);
}

static ALWAYS_INLINE Pf pf_zero(void) { return _mm512_setzero_ps(); }
static ALWAYS_INLINE Pf pf_of(Pv v) { return _mm512_cvtepi32_ps(v); }
static ALWAYS_INLINE Pf pf_mul(Pf a, Pf b) { return _mm512_mul_ps(a, b); }
static ALWAYS_INLINE Pf pf_fma(Pf a, Pf b, Pf c) { return _mm512_fmadd_ps(a, b, c); }
static ALWAYS_INLINE Pf pf_minus(Pf a) {
    return _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)0x80000000u)));
}
static ALWAYS_INLINE Pf pf_one(const char *p) {
    float f;
    memcpy(&f, p, sizeof f);
    return _mm512_set1_ps(f);
}
static ALWAYS_INLINE Pf pf_halves(const char *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static ALWAYS_INLINE Pf pf_bytes(const char *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b));
}
static ALWAYS_INLINE Pf pf_signed_bytes(const char *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}
static ALWAYS_INLINE void pf_store(float *y, Pf v) { _mm512_storeu_ps(y, v); }

#endif
