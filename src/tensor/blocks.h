/* SPDX-License-Identifier: Apache-2.0
 * Layouts of quantized blocks as they lie in GGUF files (little endian, no padding). d, m and dmin are f16.
 *
 * Blocks of 32 elements; j < 16, element j in the low nibble of qs[j], element j + 16 in the high one:
 *   q8_0  34 bytes   x = d * qs
 *   q4_0  18         x = d * (q - 8)
 *   q4_1  20         x = d * q + m
 *   q5_0  22         x = d * (q - 16)      the fifth bit of element i is bit i of qh
 *   q5_1  24         x = d * q + m
 * Blocks of 256, in groups g with small integer scales:
 *   q4_K  144  8 groups of 32   x = (d * scale[g]) * q - dmin * min[g]     6-bit scales and mins, packed
 *   q5_K  176  8 groups of 32   the same                                  fifth bit of element j: bit g of qh[j]
 *   q6_K  210  16 groups of 16  x = (d * scales[g]) * (q - 32)
 * q4_K and q5_K keep two groups of 32 in 32 bytes: the even one in the low nibbles. q6_K keeps 128 elements in
 * 64 bytes of ql and 32 of qh: low nibbles of elements 0..63, high nibbles 64..127, and bits 2 i of qh[j] for
 * element 32 i + j. */
#ifndef INGOT_TENSOR_BLOCKS_H
#define INGOT_TENSOR_BLOCKS_H

#include "base/platform.h"

enum { QK = 32, QK_K = 256 }; /* elements in a small block and in one of a k-type */

typedef struct BlockQ8_0 {
    uint16_t d;
    int8_t qs[QK];
} BlockQ8_0;
_Static_assert(sizeof(BlockQ8_0) == 34, "q8_0 block");

typedef struct BlockQ4_0 {
    uint16_t d;
    uint8_t qs[QK / 2];
} BlockQ4_0;
_Static_assert(sizeof(BlockQ4_0) == 18, "q4_0 block");

typedef struct BlockQ4_1 {
    uint16_t d, m;
    uint8_t qs[QK / 2];
} BlockQ4_1;
_Static_assert(sizeof(BlockQ4_1) == 20, "q4_1 block");

typedef struct BlockQ5_0 {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[QK / 2];
} BlockQ5_0;
_Static_assert(sizeof(BlockQ5_0) == 22, "q5_0 block");

typedef struct BlockQ5_1 {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[QK / 2];
} BlockQ5_1;
_Static_assert(sizeof(BlockQ5_1) == 24, "q5_1 block");

typedef struct BlockQ4_K {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[QK_K / 2];
} BlockQ4_K;
_Static_assert(sizeof(BlockQ4_K) == 144, "q4_K block");

typedef struct BlockQ5_K {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[QK_K / 8];
    uint8_t qs[QK_K / 2];
} BlockQ5_K;
_Static_assert(sizeof(BlockQ5_K) == 176, "q5_K block");

typedef struct BlockQ6_K {
    uint8_t ql[QK_K / 2];
    uint8_t qh[QK_K / 4];
    int8_t scales[QK_K / 16];
    uint16_t d;
} BlockQ6_K;
_Static_assert(sizeof(BlockQ6_K) == 210, "q6_K block");

/* 6-bit scale and min of group g of q4_K and q5_K: scales 0..3 in the low bits of bytes 0..3 and mins 0..3 in
 * those of bytes 4..7; of groups 4..7 the low four bits are in bytes 8..11 and the upper two above the others. */
static inline int block_scale(const uint8_t s[12], int g) {
    return g < 4 ? s[g] & 63 : (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
}
static inline int block_min(const uint8_t s[12], int g) {
    return g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | s[g] >> 6 << 4;
}

#endif
