/* SPDX-License-Identifier: Apache-2.0
 * Plain types in both directions, and blocks to f32, by the definitions in tensor/blocks.h. */
#include <string.h>

#include "kernel/internal.h"
#include "tensor/blocks.h"
#include "tensor/half.h"

static void f32_to_f32(float *y, const void *x, size_t n) {
    if (n > 0) memcpy(y, x, n * sizeof *y);
}

static void f32_from_f32(void *y, const float *x, size_t n) {
    if (n > 0) memcpy(y, x, n * sizeof *x);
}

static void f16_to_f32(float *y, const void *x, size_t n) {
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i++) y[i] = half_f16_to_f32(h[i]);
}

static void f16_from_f32(void *y, const float *x, size_t n) {
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) h[i] = half_f32_to_f16(x[i]);
}

static void bf16_to_f32(float *y, const void *x, size_t n) {
    const uint16_t *h = x;
    for (size_t i = 0; i < n; i++) y[i] = half_bf16_to_f32(h[i]);
}

static void bf16_from_f32(void *y, const float *x, size_t n) {
    uint16_t *h = y;
    for (size_t i = 0; i < n; i++) h[i] = half_f32_to_bf16(x[i]);
}

static void q8_0_to_f32(float *y, const void *x, size_t n) {
    const BlockQ8_0 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        float d = half_f16_to_f32(b[i].d);
        for (int j = 0; j < QK; j++) y[i * QK + (size_t)j] = d * (float)b[i].qs[j];
    }
}

static void q4_0_to_f32(float *y, const void *x, size_t n) {
    const BlockQ4_0 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        float d = half_f16_to_f32(b[i].d), *yb = y + i * QK;
        for (int j = 0; j < QK / 2; j++) {
            yb[j] = d * (float)((b[i].qs[j] & 15) - 8);
            yb[j + QK / 2] = d * (float)((b[i].qs[j] >> 4) - 8);
        }
    }
}

/* The fifth bits of a block: of element j in bit j. */
static uint32_t fifth_bits(const uint8_t qh[4]) {
    return (uint32_t)qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 | (uint32_t)qh[3] << 24;
}

static void q4_1_to_f32(float *y, const void *x, size_t n) {
    const BlockQ4_1 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        float d = half_f16_to_f32(b[i].d), m = half_f16_to_f32(b[i].m), *yb = y + i * QK;
        for (int j = 0; j < QK / 2; j++) {
            yb[j] = d * (float)(b[i].qs[j] & 15) + m;
            yb[j + QK / 2] = d * (float)(b[i].qs[j] >> 4) + m;
        }
    }
}

static void q5_0_to_f32(float *y, const void *x, size_t n) {
    const BlockQ5_0 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        float d = half_f16_to_f32(b[i].d), *yb = y + i * QK;
        uint32_t h = fifth_bits(b[i].qh);
        for (int j = 0; j < QK / 2; j++) {
            int lo = (b[i].qs[j] & 15) | (int)(h >> j & 1) << 4;
            int hi = (b[i].qs[j] >> 4) | (int)(h >> (j + QK / 2) & 1) << 4;
            yb[j] = d * (float)(lo - 16);
            yb[j + QK / 2] = d * (float)(hi - 16);
        }
    }
}

static void q5_1_to_f32(float *y, const void *x, size_t n) {
    const BlockQ5_1 *b = x;
    for (size_t i = 0; i < n / QK; i++) {
        float d = half_f16_to_f32(b[i].d), m = half_f16_to_f32(b[i].m), *yb = y + i * QK;
        uint32_t h = fifth_bits(b[i].qh);
        for (int j = 0; j < QK / 2; j++) {
            yb[j] = d * (float)((b[i].qs[j] & 15) | (int)(h >> j & 1) << 4) + m;
            yb[j + QK / 2] = d * (float)((b[i].qs[j] >> 4) | (int)(h >> (j + QK / 2) & 1) << 4) + m;
        }
    }
}

static void q4_k_to_f32(float *y, const void *x, size_t n) {
    const BlockQ4_K *b = x;
    for (size_t i = 0; i < n / QK_K; i++) {
        float d = half_f16_to_f32(b[i].d), dmin = half_f16_to_f32(b[i].dmin), *yb = y + i * QK_K;
        for (int g = 0; g < QK_K / 32; g++) {
            float s = d * (float)block_scale(b[i].scales, g),
                  m = dmin * (float)block_min(b[i].scales, g);
            const uint8_t *q = b[i].qs + g / 2 * 32;
            for (int j = 0; j < 32; j++) yb[g * 32 + j] = s * (float)(q[j] >> (g % 2 * 4) & 15) - m;
        }
    }
}

static void q5_k_to_f32(float *y, const void *x, size_t n) {
    const BlockQ5_K *b = x;
    for (size_t i = 0; i < n / QK_K; i++) {
        float d = half_f16_to_f32(b[i].d), dmin = half_f16_to_f32(b[i].dmin), *yb = y + i * QK_K;
        for (int g = 0; g < QK_K / 32; g++) {
            float s = d * (float)block_scale(b[i].scales, g),
                  m = dmin * (float)block_min(b[i].scales, g);
            const uint8_t *q = b[i].qs + g / 2 * 32;
            for (int j = 0; j < 32; j++) {
                int v = (q[j] >> (g % 2 * 4) & 15) | (b[i].qh[j] >> g & 1) << 4;
                yb[g * 32 + j] = s * (float)v - m;
            }
        }
    }
}

static void q6_k_to_f32(float *y, const void *x, size_t n) {
    const BlockQ6_K *b = x;
    for (size_t i = 0; i < n / QK_K; i++) {
        float d = half_f16_to_f32(b[i].d), *yb = y + i * QK_K;
        for (int g = 0; g < QK_K / 32; g++) { /* 32 elements with one shift */
            const uint8_t *ql = b[i].ql + g / 4 * 64 + g % 2 * 32, *qh = b[i].qh + g / 4 * 32;
            const int8_t *s = b[i].scales + g * 2;
            for (int j = 0; j < 32; j++) {
                int v = (ql[j] >> (g % 4 / 2 * 4) & 15) | (qh[j] >> (g % 4 * 2) & 3) << 4;
                yb[g * 32 + j] = d * (float)s[j / 16] * (float)(v - 32);
            }
        }
    }
}

void kern_ref_convert(Kern *k) {
    k->to_f32[DT_F32] = f32_to_f32;
    k->to_f32[DT_F16] = f16_to_f32;
    k->to_f32[DT_BF16] = bf16_to_f32;
    k->to_f32[DT_Q8_0] = q8_0_to_f32;
    k->to_f32[DT_Q4_0] = q4_0_to_f32;
    k->to_f32[DT_Q4_1] = q4_1_to_f32;
    k->to_f32[DT_Q5_0] = q5_0_to_f32;
    k->to_f32[DT_Q5_1] = q5_1_to_f32;
    k->to_f32[DT_Q4_K] = q4_k_to_f32;
    k->to_f32[DT_Q5_K] = q5_k_to_f32;
    k->to_f32[DT_Q6_K] = q6_k_to_f32;
    k->from_f32[DT_F32] = f32_from_f32;
    k->from_f32[DT_F16] = f16_from_f32;
    k->from_f32[DT_BF16] = bf16_from_f32;
}
