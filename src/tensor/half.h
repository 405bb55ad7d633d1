/* SPDX-License-Identifier: Apache-2.0
 * f16 (IEEE 754 binary16) and bf16 conversions in plain C: round to nearest even, NaN stays NaN. */
#ifndef INGOT_TENSOR_HALF_H
#define INGOT_TENSOR_HALF_H

#include <string.h>

#include "base/platform.h"

static inline uint32_t half_f32_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float half_f32_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline float half_bf16_to_f32(uint16_t h) { return half_f32_from_bits((uint32_t)h << 16); }

static inline uint16_t half_f32_to_bf16(float x) {
    uint32_t u = half_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 64u); /* quiet NaN */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float half_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3ffu;
    if (exp == 31) return half_f32_from_bits(sign | 0x7f800000u | (man << 13));
    if (exp == 0) { /* zero and subnormals: man * 2^-24 is exact in f32 */
        float v = (float)man * 0x1p-24f;
        return half_f32_from_bits(sign | half_f32_bits(v));
    }
    return half_f32_from_bits(sign | ((exp + 112) << 23) | (man << 13));
}

static inline uint16_t half_f32_to_f16(float x) {
    uint32_t u = half_f32_bits(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to infinity */
    if (a < 0x38800000u) {                                   /* below 2^-14: subnormal result */
        /* adding 0.5 leaves the value in units of 2^-24, rounded to nearest even, in the low bits */
        float v = half_f32_from_bits(a) + 0.5f;
        return (uint16_t)(sign | (half_f32_bits(v) - 0x3f000000u));
    }
    uint32_t r = a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u;
    return (uint16_t)(sign | (r >> 13));
}

#endif
