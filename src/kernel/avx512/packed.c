/* SPDX-License-Identifier: Apache-2.0
 * Packed weights on AVX-512: products of bytes are added in 16 bits; panels of plain numbers for a product core; and
 * the rounding of x. */
#include <float.h>
#include <math.h>

#include "kernel/avx512/packed.h"
#include "kernel/packed.h"

typedef __m512i PvSum;

static ALWAYS_INLINE PvSum pv_dot(Pv c, Pv x) { return _mm512_maddubs_epi16(c, x); }
static ALWAYS_INLINE PvSum pv_dot_add(PvSum a, Pv c, Pv x) {
    return _mm512_add_epi16(a, _mm512_maddubs_epi16(c, x));
}
static ALWAYS_INLINE Pv pv_widen(PvSum a) { return _mm512_madd_epi16(a, _mm512_set1_epi16(1)); }

enum { PV_EXACT = false, PV_PAIRS = false, PV_MOST = 8 };

#include "kernel/packed_dot.inc"

/* ---- panels ---- */

/* Codes of line l and l + 4 of 32 columns, as signed bytes less the zero. */
static ALWAYS_INLINE void panel_lines(Pv c[2], PackKind p, const char *codes, int l) {
    if (p.bits == 8) {
        c[0] = pv_load(codes + l * PACKED_LINE);
        c[1] = pv_load(codes + (l + 4) * PACKED_LINE);
        return;
    }
    Pv up = p.bits == 4 ? pv_zero() : pv_load(codes + 4 * PACKED_LINE);
    code_lines(&c[0], &c[1], p.bits, codes, l, up);
    if (p.bits == 6) {
        c[0] = pv_or(c[0], upper_two(up, l));
        c[1] = pv_or(c[1], upper_two(pv_load(codes + 5 * PACKED_LINE), l));
    }
    for (int h = 0; h < 2; h++) c[h] = _mm512_sub_epi8(c[h], pv_bytes((char)p.zero));
}

/* Four columns of the 16 rows: y[r * ldy + 0..3] = codes times the row's scale (plus its min). */
static ALWAYS_INLINE void panel_store(float *y, size_t ldy, Pv codes, Pf scale, Pf min,
                                      bool has_min) {
    const __m512i spread = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m128i part[4] = {_mm512_castsi512_si128(codes), _mm512_extracti32x4_epi32(codes, 1),
                       _mm512_extracti32x4_epi32(codes, 2), _mm512_extracti32x4_epi32(codes, 3)};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i rows = _mm512_add_epi32(spread, _mm512_set1_epi32(4 * i));
        __m512 v = _mm512_mul_ps(_mm512_permutexvar_ps(rows, scale),
                                 _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(part[i])));
        if (has_min) v = _mm512_add_ps(v, _mm512_permutexvar_ps(rows, min));
        float *row = y + (size_t)(4 * i) * ldy;
        _mm_storeu_ps(row, _mm512_castps512_ps128(v));
        _mm_storeu_ps(row + ldy, _mm512_extractf32x4_ps(v, 1));
        _mm_storeu_ps(row + 2 * ldy, _mm512_extractf32x4_ps(v, 2));
        _mm_storeu_ps(row + 3 * ldy, _mm512_extractf32x4_ps(v, 3));
    }
}

/* 32 columns: part is where their own scales, if any, and codes are; d and m those of the record. */
static ALWAYS_INLINE void panel_part(DType t, float *y, size_t ldy, const char *part, Pf d, Pf m) {
    const PackKind p = pack_kind(t);
    Pf s[2] = {d, d}, min = m;
    if (p.bits == 6) {
        s[0] = pf_mul(d, pf_signed_bytes(part));
        s[1] = pf_mul(d, pf_signed_bytes(part + PV_R));
    } else if (p.is_k) {
        s[0] = s[1] = pf_mul(d, pf_bytes(part));
        min = pf_minus(pf_mul(m, pf_bytes(part + PV_R)));
    }
    for (int l = 0; l < 4; l++) {
        Pv c[2];
        panel_lines(c, p, part + pack_sub(p) * PV_R, l);
        panel_store(y + 4 * l, ldy, c[0], s[0], min, p.min);
        panel_store(y + 16 + 4 * l, ldy, c[1], s[1], min, p.min);
    }
}

static ALWAYS_INLINE void panel(DType t, float *y, size_t ldy, const char *group, int k0, int kn) {
    const PackKind p = pack_kind(t);
    int cols = QK * pack_parts(p), step = PV_R * (pack_sub(p) + pack_codes(p));
    for (int k = k0; k < k0 + kn; k += QK) {
        const char *record = group + (size_t)(k / cols) * pack_record(p, PV_R);
        Pf d = pf_halves(record), m = p.min ? pf_halves(record + 2 * PV_R) : pf_zero();
        panel_part(t, y + (k - k0), ldy, record + PV_R * pack_head(p) + k % cols / QK * step, d, m);
    }
}

#define PANEL(name, type)                                                              \
    static void name(float *y, size_t ldy, const void *group, int k0, int kn, int R) { \
        (void)R;                                                                       \
        panel(type, y, ldy, group, k0, kn);                                            \
    }
PANEL(panel_q8_0, DT_Q8_0)
PANEL(panel_q4_0, DT_Q4_0)
PANEL(panel_q4_1, DT_Q4_1)
PANEL(panel_q5_0, DT_Q5_0)
PANEL(panel_q5_1, DT_Q5_1)
PANEL(panel_q4_k, DT_Q4_K)
PANEL(panel_q5_k, DT_Q5_K)
PANEL(panel_q6_k, DT_Q6_K)

/* ---- rounding x: the bits of AVX2's, but several parts of 32 columns beside one another ---- */

enum { PARTS = 16 };

/* What is common to the parts: the bits of the largest number of each, which are in the order of the numbers with
 * infinity and NaN on top, become scales. An inverse of 0: nothing but zeros comes of it. */
static ALWAYS_INLINE void round_scales(float d[PARTS], float inverse[PARTS],
                                       const uint32_t tops[PARTS]) {
    __m512i bits = _mm512_loadu_si512(tops);
    __m512 top = _mm512_castsi512_ps(bits), most = _mm512_set1_ps(127.0f);
    __mmask16 good = _mm512_cmplt_epu32_mask(bits, _mm512_set1_epi32(0x7f800000));
    __mmask16 some = _mm512_mask_cmpneq_epu32_mask(good, bits, _mm512_setzero_si512());
    __m512 v = _mm512_maskz_div_ps(some, most, top);
    some = _mm512_cmp_ps_mask(v, _mm512_set1_ps(FLT_MAX), _CMP_LE_OQ);
    _mm512_storeu_ps(inverse, _mm512_maskz_mov_ps(some, v));
    _mm512_storeu_ps(d, _mm512_mask_div_ps(_mm512_set1_ps(NAN), good, top, most));
}

static ALWAYS_INLINE uint32_t top_of(const float *x) {
    const __m512i sign = _mm512_set1_epi32(0x7fffffff);
    __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), sign),
            b = _mm512_and_si512(_mm512_loadu_si512(x + 16), sign);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(a, b));
}

static ALWAYS_INLINE __m128i round_16(const float *x, float inverse) {
    __mmask16 some = inverse != 0.0f ? 0xffff : 0;
    __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse));
    return _mm512_cvtepi32_epi8(_mm512_maskz_cvtps_epi32(some, v));
}

/* Part j of m at dst: its bytes, and what the product needs of them. */
static ALWAYS_INLINE void round_part(char *dst, const float *x, float d, float inverse, PackKind p,
                                     int m, int j) {
    __m256i q = _mm256_set_m128i(round_16(x + 16, inverse), round_16(x, inverse));
    uint64_t eight[4]; /* sums of eight bytes, each 128 more than it is */
    _mm256_storeu_si256((__m256i *)(void *)eight,
                        _mm256_sad_epu8(_mm256_xor_si256(q, _mm256_set1_epi8(-128)),
                                        _mm256_setzero_si256()));
    int32_t a = (int32_t)(eight[0] + eight[1]) - 16 * 128,
            b = (int32_t)(eight[2] + eight[3]) - 16 * 128;
    _mm256_storeu_si256((__m256i *)(void *)(dst + j * QK), q);
    pack_x_put(dst, p, m, j, d, a, b);
}

static void round_x(void *dst, const float *x, size_t ldx, int m, int k, DType t) {
    PackKind p = pack_kind(t);
    char *to = dst;
    for (int i = 0; i < k / QK; i += PARTS, x += PARTS * QK, to += PARTS * m * PACK_X_BYTES)
        for (int j = 0, n = MIN(PARTS, k / QK - i); j < m; j++) {
            const float *row = x + (size_t)j * ldx;
            uint32_t tops[PARTS] = {0};
            float d[PARTS], inverse[PARTS];
            for (int l = 0; l < n; l++) tops[l] = top_of(row + l * QK);
            round_scales(d, inverse, tops);
            for (int l = 0; l < n; l++)
                round_part(to + l * m * PACK_X_BYTES, row + l * QK, d[l], inverse[l], p, m, j);
        }
}

void kern_avx512_packed(Kern *k) {
    packed_fill(k);
    k->round_x = round_x;
    k->packed_to_f32[DT_Q8_0] = panel_q8_0;
    k->packed_to_f32[DT_Q4_0] = panel_q4_0;
    k->packed_to_f32[DT_Q4_1] = panel_q4_1;
    k->packed_to_f32[DT_Q5_0] = panel_q5_0;
    k->packed_to_f32[DT_Q5_1] = panel_q5_1;
    k->packed_to_f32[DT_Q4_K] = panel_q4_k;
    k->packed_to_f32[DT_Q5_K] = panel_q5_k;
    k->packed_to_f32[DT_Q6_K] = panel_q6_k;
}
