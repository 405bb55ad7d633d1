/* SPDX-License-Identifier: Apache-2.0
 * Packed weights: quantized rows laid out for products with integers. R rows (the lanes of a register of 32-bit
 * numbers; Kern.pack_rows) are a group; a group is a run of records, one for each block of the type:
 *
 *   q4_0 q5_0 q8_0     d f16[R]                     codes
 *   q4_1 q5_1          d f16[R], m f16[R]           codes
 *   q4_K q5_K          d f16[R], dmin f16[R]        8 x { scale u8[R], min u8[R], codes }
 *   q6_K               d f16[R]                     8 x { scale i8[R] of columns 0..15, i8[R] of 16..31, codes }
 *
 * codes are those of 32 columns, in lines of R 32-bit words; a word is of one row, its byte b of column 4 l + b:
 *
 *   low four bits      lines 0..3: column 4 l + b in the low half of the byte, 16 + 4 l + b in the high half
 *   fifth              one line: bit l of byte b is of column 4 l + b, l = 0..7
 *   fifth and sixth    two lines, of columns 0..15 and 16..31: bits 2 l and 2 l + 1, l = 0..3
 *   q8_0               lines 0..7: the signed bytes themselves
 *
 * Rows past the last one are zeros. A word of four columns meets the four bytes of x for these columns in one
 * instruction (pmaddubsw, vpdpbusd, a row of an AMX tile), R rows at a time.
 *
 * The other side is up to PACK_M rows of x, rounded to integers in -127..127 with a scale for every 32 columns,
 * as a run of records, one for each 32 columns of the M rows together:
 *
 *   q i8[M][32], d f32[M], sum f32[M] (d times the sum of q), z i32[M][2] (minus the zero code times the sum)
 *
 * z[0] is of all 32 columns, but of q6_K, which has two scales, of the first 16 and z[1] of the last. Where x has an
 * infinity or NaN, q is zero and d and sum are NaN, and so will the products be. */
#ifndef INGOT_KERNEL_PACKED_H
#define INGOT_KERNEL_PACKED_H

#include <string.h>

#include "tensor/blocks.h"
#include "tensor/dtype.h"

enum { PACK_M = 8, PACK_X_BYTES = QK + 16 /* of a row of x and 32 columns */ };

typedef struct PackKind {
    int bits; /* of a code; 0: the type has no packed form */
    int zero; /* the code that stands for 0, where there is no min; a code of q8_0 is its signed byte + 128 */
    bool min;  /* value = scale * code + min, or with is_k - min; else scale * (code - zero) */
    bool is_k; /* blocks of 256 */
} PackKind;

static inline PackKind pack_kind(DType t) {
    switch (t) {
    case DT_Q4_0: return (PackKind){4, 8, false, false};
    case DT_Q4_1: return (PackKind){4, 0, true, false};
    case DT_Q5_0: return (PackKind){5, 16, false, false};
    case DT_Q5_1: return (PackKind){5, 0, true, false};
    case DT_Q8_0: return (PackKind){8, 128, false, false};
    case DT_Q4_K: return (PackKind){4, 0, true, true};
    case DT_Q5_K: return (PackKind){5, 0, true, true};
    case DT_Q6_K: return (PackKind){6, 32, false, true};
    default: return (PackKind){0};
    }
}

/* Bytes of a row: the scales before a record, a k-type's scales before 32 columns, the codes of 32 columns. */
static inline int pack_head(PackKind p) { return p.min ? 4 : 2; }
static inline int pack_sub(PackKind p) { return p.is_k ? 2 : 0; }
static inline int pack_codes(PackKind p) { return 4 * p.bits; }

static inline int pack_parts(PackKind p) { return p.is_k ? QK_K / QK : 1; } /* of 32 columns */

static inline size_t pack_record(PackKind p, int R) {
    return (size_t)R * (size_t)(pack_head(p) + pack_parts(p) * (pack_sub(p) + pack_codes(p)));
}

/* Bytes of a group of R rows of k columns. */
static inline size_t pack_group_bytes(DType t, int R, int k) {
    PackKind p = pack_kind(t);
    return (size_t)(k / (QK * pack_parts(p))) * pack_record(p, R);
}

/* What stands behind the q of row j in a record of m rows: a and b are the sums of q's two halves. In four stores: one
 * load of two of them would wait for both. */
static inline void pack_x_put(char *record, PackKind p, int m, int j, float d, int32_t a,
                              int32_t b) {
    float sum = d * (float)(a + b);
    int32_t z0 = -p.zero * (p.bits == 6 ? a : a + b), z1 = p.bits == 6 ? -p.zero * b : 0;
    memcpy(record + m * QK + 4 * j, &d, 4);
    memcpy(record + m * (QK + 4) + 4 * j, &sum, 4);
    memcpy(record + m * (QK + 8) + 8 * j, &z0, 4);
    memcpy(record + m * (QK + 8) + 8 * j + 4, &z1, 4);
}

/* Bytes of m rows of x. */
static inline size_t pack_x_bytes(int m, int k) {
    return (size_t)m * (size_t)(k / QK) * PACK_X_BYTES;
}

#endif
