/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks, by definition.
 *
 * q8_0 and q4_0 follow the rules of the format's reference quantizer, so that files come out byte for
 * byte equal: all arithmetic in f32, the scale is used before it is rounded to f16.
 *   q8_0  d = max|x| / 127, q = round(x / d), halves away from zero
 *   q4_0  d = m / -8 where m is the element of largest magnitude (the first of equals), with its sign,
 *         q = min(15, floor(x / d + 8.5))
 * x / d is computed as x * (1 / d). Where d is so small that 1 / d overflows, x * (1 / d) has no value
 * that fits; q is then 0, as in the reference. */
#include <math.h>
#include <string.h>

#include "kernel/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

/* v as an integer when it is within the range of q, else 0. */
static int to_int_or_0(float v) { return v > -256.0f && v < 256.0f ? (int)v : 0; }

static void q8_0_block(BlockQ8_0 *b, const float *x) {
    float amax = 0.0f;
    for (int j = 0; j < QK; j++) amax = fmaxf(amax, fabsf(x[j]));
    float d = amax / 127.0f, id = d != 0.0f ? 1.0f / d : 0.0f;
    b->d = half_f32_to_f16(d);
    for (int j = 0; j < QK; j++) b->qs[j] = (int8_t)to_int_or_0(roundf(x[j] * id));
}

static void q8_0_from_f32(void *y, const float *x, size_t n) {
    BlockQ8_0 *b = y;
    for (size_t i = 0; i < n / QK; i++) q8_0_block(&b[i], x + i * QK);
}

static void q4_0_block(BlockQ4_0 *b, const float *x) {
    float amax = 0.0f, max = 0.0f;
    for (int j = 0; j < QK; j++) {
        if (fabsf(x[j]) <= amax) continue;
        amax = fabsf(x[j]);
        max = x[j];
    }
    float d = max / -8.0f, id = d != 0.0f ? 1.0f / d : 0.0f;
    b->d = half_f32_to_f16(d);
    for (int j = 0; j < QK / 2; j++) {
        int lo = to_int_or_0(x[j] * id + 8.5f), hi = to_int_or_0(x[j + QK / 2] * id + 8.5f);
        b->qs[j] = (uint8_t)(MIN(lo, 15) | MIN(hi, 15) << 4);
    }
}

static void q4_0_from_f32(void *y, const float *x, size_t n) {
    BlockQ4_0 *b = y;
    for (size_t i = 0; i < n / QK; i++) q4_0_block(&b[i], x + i * QK);
}

void kern_ref_quant(Kern *k) {
    k->from_f32[DT_Q8_0] = q8_0_from_f32;
    k->from_f32[DT_Q4_0] = q4_0_from_f32;
}
