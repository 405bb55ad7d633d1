/* SPDX-License-Identifier: Apache-2.0
 * Layouts of quantized blocks as they lie in GGUF files (little endian, no padding).
 *
 *   q8_0  34 bytes, 32 elements:  x[j] = d * qs[j]
 *   q4_0  18 bytes, 32 elements:  x[j] = d * ((qs[j] & 15) - 8), x[j + 16] = d * ((qs[j] >> 4) - 8), j < 16 */
#ifndef INGOT_TENSOR_BLOCKS_H
#define INGOT_TENSOR_BLOCKS_H

#include "base/platform.h"

enum { QK = 32 }; /* elements in a block of q4_0 and q8_0 */

typedef struct BlockQ8_0 {
    uint16_t d; /* scale, f16 bits */
    int8_t qs[QK];
} BlockQ8_0;
_Static_assert(sizeof(BlockQ8_0) == 34, "q8_0 block");

typedef struct BlockQ4_0 {
    uint16_t d; /* scale, f16 bits */
    uint8_t qs[QK / 2];
} BlockQ4_0;
_Static_assert(sizeof(BlockQ4_0) == 18, "q4_0 block");

#endif
