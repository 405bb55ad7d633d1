/* SPDX-License-Identifier: Apache-2.0
 * Packed weights by definition (packed.h): how a group is made and read again, how x is rounded, and the
 * product of the two. Sums of integers are exact; the floats are added in the order of the columns, one fused
 * multiply-add after the other, so that every level has these bits. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernel/internal.h"
#include "kernel/packed.h"
#include "tensor/half.h"

/* ---- one block of a file ---- */

static uint16_t half_at(const char *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return h;
}

static uint32_t word_at(const void *p) {
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* The words of a row in the lines of 32 columns: low[8] of q8_0, else low[4] and what lies above. Four columns are
 * handled at a time, a byte each. */
typedef struct Words {
    uint32_t low[8], up[2];
} Words;

/* Bits 0, 4, 8, .. 28. */
static uint32_t every_fourth(uint32_t x) {
    x &= 0x11111111u;
    x = (x | x >> 3) & 0x03030303u;
    x = (x | x >> 6) & 0x000f000fu;
    return (x | x >> 12) & 0xffu;
}

static void small_words(Words *w, const void *low, const void *fifth) {
    memcpy(w->low, low, QK / 2);
    if (!fifth) return;
    uint32_t h = word_at(fifth);
    w->up[0] = 0;
    for (int b = 0; b < 4; b++) w->up[0] |= every_fourth(h >> b) << (8 * b);
}

/* Of 32 bytes, the low or high halves. */
static void nibble_words(Words *w, const uint8_t *q, int shift) {
    for (int l = 0; l < 4; l++)
        w->low[l] = (word_at(q + 4 * l) >> shift & 0x0f0f0f0fu) |
                    (word_at(q + 4 * l + 16) >> shift & 0x0f0f0f0fu) << 4;
}

static void words_q5_k(Words *w, const BlockQ5_K *b, int g) {
    nibble_words(w, b->qs + g / 2 * QK, g % 2 * 4);
    w->up[0] = 0;
    for (int l = 0; l < 8; l++) w->up[0] |= (word_at(b->qh + 4 * l) >> g & 0x01010101u) << l;
}

static void words_q6_k(Words *w, const BlockQ6_K *b, int g) {
    const uint8_t *qh = b->qh + g / 4 * 32;
    nibble_words(w, b->ql + g / 4 * 64 + g % 2 * 32, g % 4 / 2 * 4);
    w->up[0] = w->up[1] = 0;
    for (int l = 0; l < 8; l++)
        w->up[l / 4] |= (word_at(qh + 4 * l) >> (g % 4 * 2) & 0x03030303u) << (l % 4 * 2);
}

/* Of columns 32 g .. 32 g + 31 of a block. */
static ALWAYS_INLINE void words_of(Words *w, DType t, const void *block, int g) {
    switch (t) {
    case DT_Q4_0: small_words(w, ((const BlockQ4_0 *)block)->qs, NULL); break;
    case DT_Q4_1: small_words(w, ((const BlockQ4_1 *)block)->qs, NULL); break;
    case DT_Q5_0:
        small_words(w, ((const BlockQ5_0 *)block)->qs, ((const BlockQ5_0 *)block)->qh);
        break;
    case DT_Q5_1:
        small_words(w, ((const BlockQ5_1 *)block)->qs, ((const BlockQ5_1 *)block)->qh);
        break;
    case DT_Q8_0: memcpy(w->low, ((const BlockQ8_0 *)block)->qs, QK); break;
    case DT_Q4_K: nibble_words(w, ((const BlockQ4_K *)block)->qs + g / 2 * QK, g % 2 * 4); break;
    case DT_Q5_K: words_q5_k(w, block, g); break;
    case DT_Q6_K: words_q6_k(w, block, g); break;
    default: break;
    }
}

/* ---- packing ---- */

/* The scales of a row before a record. */
static ALWAYS_INLINE void put_head(char *dst, DType t, const void *block, int R, int r) {
    const char *b = block, *d = t == DT_Q6_K ? b + offsetof(BlockQ6_K, d) : b;
    memcpy(dst + 2 * r, d, 2);
    if (pack_kind(t).min) memcpy(dst + 2 * R + 2 * r, b + 2, 2);
}

static ALWAYS_INLINE void put_sub(uint8_t *dst, DType t, const void *block, int g, int R, int r) {
    const BlockQ4_K *b = block; /* q5_K has its scales at the same place */
    const BlockQ6_K *b6 = block;
    bool six = t == DT_Q6_K;
    dst[r] = six ? (uint8_t)b6->scales[2 * g] : (uint8_t)block_scale(b->scales, g);
    dst[R + r] = six ? (uint8_t)b6->scales[2 * g + 1] : (uint8_t)block_min(b->scales, g);
}

static ALWAYS_INLINE void pack_block(char *record, DType t, const void *block, int R, int r) {
    const PackKind p = pack_kind(t);
    put_head(record, t, block, R, r);
    char *part = record + R * pack_head(p);
    for (int g = 0; g < pack_parts(p); g++) {
        Words w;
        words_of(&w, t, block, g);
        if (p.is_k) put_sub((uint8_t *)part, t, block, g, R, r);
        part += R * pack_sub(p);
        int low = p.bits == 8 ? 8 : 4, up = p.bits == 8 ? 0 : p.bits - 4;
        for (int l = 0; l < low; l++) memcpy(part + 4 * (R * l + r), &w.low[l], 4);
        for (int l = 0; l < up; l++) memcpy(part + 4 * (R * (4 + l) + r), &w.up[l], 4);
        part += R * pack_codes(p);
    }
}

static ALWAYS_INLINE void pack(DType t, void *dst, const void *rows, size_t row_bytes, int n, int k,
                               int R) {
    PackKind p = pack_kind(t);
    size_t record = pack_record(p, R), block = (size_t)dtype_info(t)->block_bytes;
    int n_blocks = k / dtype_info(t)->block;
    if (n < R) memset(dst, 0, (size_t)n_blocks * record);
    for (int i = 0; i < n_blocks; i++)
        for (int r = 0; r < n; r++)
            pack_block((char *)dst + (size_t)i * record, t,
                       (const char *)rows + (size_t)r * row_bytes + (size_t)i * block, R, r);
}

/* ---- reading ---- */

/* The code of column j of a row, whose words are at p. */
static int code_at(const uint8_t *p, int bits, int R, int j) {
    size_t line = 4 * (size_t)R;
    if (bits == 8) return (int8_t)p[(size_t)(j / 4) * line + (size_t)(j % 4)] + 128;
    int low = p[(size_t)(j % 16 / 4) * line + (size_t)(j % 4)] >> (j / 16 * 4) & 15;
    const uint8_t *up = p + 4 * line;
    if (bits == 5) return low | (up[j % 4] >> (j / 4) & 1) << 4;
    if (bits == 6)
        return low | (up[(size_t)(j / 16) * line + (size_t)(j % 4)] >> (j % 16 / 4 * 2) & 3) << 4;
    return low;
}

/* What 32 columns of a row are made with: the scales of the two halves, and what is added. */
typedef struct Scales {
    float s[2], min;
} Scales;

static Scales scales_of(DType t, const char *record, const char *part, int R, int r) {
    PackKind p = pack_kind(t);
    float d = half_f16_to_f32(half_at(record + 2 * r)), m = 0.0f;
    if (p.min) m = half_f16_to_f32(half_at(record + 2 * R + 2 * r));
    if (!p.is_k) return (Scales){{d, d}, m};
    const uint8_t *u = (const uint8_t *)part;
    if (t == DT_Q6_K) return (Scales){{d * (float)(int8_t)u[r], d * (float)(int8_t)u[R + r]}, 0.0f};
    float s = d * (float)u[r];
    return (Scales){{s, s}, -(m * (float)u[R + r])};
}

static void unpack_part(DType t, float *y, const char *record, const char *part, int R, int r) {
    PackKind p = pack_kind(t);
    Scales s = scales_of(t, record, part, R, r);
    const uint8_t *codes = (const uint8_t *)part + R * pack_sub(p) + 4 * r;
    for (int j = 0; j < QK; j++) {
        float v = s.s[j / 16] * (float)(code_at(codes, p.bits, R, j) - p.zero);
        y[j] = p.min ? v + s.min : v;
    }
}

static void packed_to_f32(DType t, float *y, size_t ldy, const void *group, int k0, int kn, int R) {
    PackKind p = pack_kind(t);
    int cols = QK * pack_parts(p), step = R * (pack_sub(p) + pack_codes(p));
    for (int k = k0; k < k0 + kn; k += QK) {
        const char *record = (const char *)group + (size_t)(k / cols) * pack_record(p, R);
        const char *part = record + R * pack_head(p) + k % cols / QK * step;
        for (int r = 0; r < R; r++)
            unpack_part(t, y + (size_t)r * ldy + (k - k0), record, part, R, r);
    }
}

/* ---- rounding x ---- */

static void round_part(char *dst, const float *x, PackKind p, int m, int j) {
    float max = 0.0f, bad = 0.0f, d[2];
    int32_t sum[2] = {0, 0}, z[2];
    int8_t q[QK];
    for (int i = 0; i < QK; i++) {
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
        bad += x[i] * 0.0f;
    }
    bool good = bad == 0.0f;
    float inverse = good && max > 0.0f ? 127.0f / max : 0.0f;
    if (inverse > FLT_MAX)
        inverse = 0.0f; /* below the normal floats there is nothing to tell apart */
    for (int i = 0; i < QK; i++) {
        q[i] = good ? (int8_t)lrintf(x[i] * inverse) : 0;
        sum[i / 16] += q[i];
    }
    d[0] = good ? max / 127.0f : NAN;
    d[1] = d[0] * (float)(sum[0] + sum[1]);
    z[0] = -p.zero * (p.bits == 6 ? sum[0] : sum[0] + sum[1]);
    z[1] = p.bits == 6 ? -p.zero * sum[1] : 0;
    memcpy(dst + j * QK, q, sizeof q);
    memcpy(dst + m * QK + 4 * j, &d[0], 4);
    memcpy(dst + m * (QK + 4) + 4 * j, &d[1], 4);
    memcpy(dst + m * (QK + 8) + 8 * j, z, 8);
}

static void round_x(void *dst, const float *x, size_t ldx, int m, int k, DType t) {
    for (int i = 0; i < k / QK; i++)
        for (int j = 0; j < m; j++)
            round_part((char *)dst + (size_t)i * (size_t)m * PACK_X_BYTES,
                       x + (size_t)j * ldx + (size_t)i * QK, pack_kind(t), m, j);
}

/* ---- the product ---- */

static float f32_at(const char *p, int i) {
    float v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

static int32_t i32_at(const char *p, int i) {
    int32_t v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

/* sum + the product of 32 columns of row r with row j of the m in x. */
static float dot_part(DType t, float sum, const char *record, const char *part, int R, int r,
                      const char *x, int m, int j) {
    PackKind p = pack_kind(t);
    Scales s = scales_of(t, record, part, R, r);
    const uint8_t *codes = (const uint8_t *)part + R * pack_sub(p) + 4 * r;
    const int8_t *q = (const int8_t *)x + j * QK;
    float d = f32_at(x + m * QK, j);
    int32_t dot[2];
    for (int h = 0; h < 2; h++) {
        dot[h] = i32_at(x + m * (QK + 8), 2 * j + h);
        for (int i = 16 * h; i < 16 * h + 16; i++) dot[h] += code_at(codes, p.bits, R, i) * q[i];
    }
    if (p.bits == 6) {
        sum = fmaf(s.s[0] * d, (float)dot[0], sum);
        return fmaf(s.s[1] * d, (float)dot[1], sum);
    }
    sum = fmaf(s.s[0] * d, (float)(dot[0] + dot[1]), sum);
    return p.min ? fmaf(s.min, f32_at(x + m * (QK + 4), j), sum) : sum;
}

static float dot_row(DType t, const char *group, int R, int r, const char *x, int m, int j, int k) {
    PackKind p = pack_kind(t);
    int cols = QK * pack_parts(p), step = R * (pack_sub(p) + pack_codes(p));
    float sum = 0.0f;
    for (int i = 0; i < k; i += QK) {
        const char *record = group + (size_t)(i / cols) * pack_record(p, R);
        sum = dot_part(t, sum, record, record + R * pack_head(p) + i % cols / QK * step, R, r,
                       x + (size_t)(i / QK) * (size_t)m * PACK_X_BYTES, m, j);
    }
    return sum;
}

enum { REF_R = 8 };

static void packed_dot(DType t, float *y, size_t ldy, const void *groups, const void *x, int m,
                       int n, int k) {
    size_t bytes = pack_group_bytes(t, REF_R, k);
    for (int j = 0; j < m; j++)
        for (int i = 0; i < n; i++)
            y[(size_t)j * ldy + (size_t)i] =
                dot_row(t, (const char *)groups + (size_t)(i / REF_R) * bytes, REF_R, i % REF_R, x,
                        m, j, k);
}

/* The functions of the table for a type. */
#define PACKED(name, type)                                                                        \
    static void pack_##name(void *dst, const void *rows, size_t row_bytes, int n, int k, int R) { \
        pack(type, dst, rows, row_bytes, n, k, R);                                                \
    }                                                                                             \
    static void to_f32_##name(float *y, size_t ldy, const void *group, int k0, int kn, int R) {   \
        packed_to_f32(type, y, ldy, group, k0, kn, R);                                            \
    }                                                                                             \
    static void dot_##name(float *y, size_t ldy, const void *groups, const void *x, int m, int n, \
                           int k) {                                                               \
        packed_dot(type, y, ldy, groups, x, m, n, k);                                             \
    }                                                                                             \
    static void fill_##name(Kern *k) {                                                            \
        k->pack[type] = pack_##name;                                                              \
        k->packed_to_f32[type] = to_f32_##name;                                                   \
        k->packed_dot[type] = dot_##name;                                                         \
    }
PACKED(q4_0, DT_Q4_0)
PACKED(q4_1, DT_Q4_1)
PACKED(q5_0, DT_Q5_0)
PACKED(q5_1, DT_Q5_1)
PACKED(q8_0, DT_Q8_0)
PACKED(q4_k, DT_Q4_K)
PACKED(q5_k, DT_Q5_K)
PACKED(q6_k, DT_Q6_K)

void kern_ref_packed(Kern *k) {
    k->pack_rows = REF_R;
    k->round_x = round_x;
    fill_q4_0(k);
    fill_q4_1(k);
    fill_q5_0(k);
    fill_q5_1(k);
    fill_q8_0(k);
    fill_q4_k(k);
    fill_q5_k(k);
    fill_q6_k(k);
}
