/* SPDX-License-Identifier: Apache-2.0
 * Where the integers of a block go (tensor/blocks.h), for the quantizers of every level. q holds one integer
 * an element, in order. */
#ifndef INGOT_KERNEL_QUANT_PACK_H
#define INGOT_KERNEL_QUANT_PACK_H

#include <string.h>

#include "kernel/quant_fit.h"
#include "tensor/blocks.h"

enum { GROUP = 32, GROUPS = QK_K / GROUP, GROUP6 = 16, GROUPS6 = QK_K / GROUP6 };

/* ---- blocks of 32 ---- */

static inline void pack_nibbles(uint8_t qs[QK / 2], const uint8_t q[QK]) {
    for (int j = 0; j < QK / 2; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + QK / 2] & 15) << 4);
}

static inline void pack_fifths(uint8_t qh[4], const uint8_t q[QK]) {
    memset(qh, 0, 4);
    for (int j = 0; j < QK; j++) qh[j / 8] |= (uint8_t)((q[j] >> 4 & 1) << j % 8);
}

/* ---- q4_K, q5_K ---- */

/* 6-bit numbers ls, lm of the groups into their places. The upper bits are not masked: the reference does
 * not, and a search may leave 64 or more. */
static inline void pack_scales(uint8_t s[12], const uint8_t ls[GROUPS], const uint8_t lm[GROUPS]) {
    for (int j = 0; j < 4; j++) {
        s[j] = (uint8_t)(ls[j] | ls[j + 4] >> 4 << 6);
        s[j + 4] = (uint8_t)(lm[j] | lm[j + 4] >> 4 << 6);
        s[j + 8] = (uint8_t)((ls[j + 4] & 15) | (lm[j + 4] & 15) << 4);
    }
}

/* Integers of the groups' scales as fractions of the greatest, which becomes 63; returns that unit. */
static inline float pack_round_scales(uint8_t q[GROUPS], const float x[GROUPS]) {
    float max = 0.0f;
    for (int j = 0; j < GROUPS; j++) max = x[j] > max ? x[j] : max;
    float inverse = max > 0.0f ? 63.0f / max : 0.0f;
    for (int j = 0; j < GROUPS; j++) {
        uint8_t l = (uint8_t)fit_nearest(inverse * x[j]);
        q[j] = MIN(l, 63);
    }
    return max / 63.0f;
}

static inline void pack_k_nibbles(uint8_t qs[QK_K / 2], const uint8_t q[QK_K]) {
    for (int j = 0; j < QK_K / 64; j++, qs += GROUP, q += 2 * GROUP)
        for (int i = 0; i < GROUP; i++) qs[i] = (uint8_t)((q[i] & 15) | (q[i + GROUP] & 15) << 4);
}

static inline void pack_k_fifths(uint8_t qh[GROUP], const uint8_t q[QK_K]) {
    memset(qh, 0, GROUP);
    for (int j = 0; j < GROUPS; j++, q += GROUP)
        for (int i = 0; i < GROUP; i++) qh[i] |= (uint8_t)(q[i] >> 4 << j);
}

/* ---- q6_K ---- */

static inline void pack_q6(BlockQ6_K *b, const uint8_t q[QK_K]) {
    for (int h = 0; h < 2; h++, q += 128) {
        uint8_t *ql = b->ql + 64 * h, *qh = b->qh + 32 * h;
        for (int i = 0; i < 64; i++) ql[i] = (uint8_t)((q[i] & 15) | (q[i + 64] & 15) << 4);
        for (int i = 0; i < 32; i++)
            qh[i] = (uint8_t)(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 |
                              q[i + 96] >> 4 << 6);
    }
}

#endif
