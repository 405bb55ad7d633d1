/* SPDX-License-Identifier: Apache-2.0
 * Rows and weights made of integers alone, the same on every machine, for hashes of quantized blocks that
 * are written down (quant.c) and were made by llama.cpp's quantizer (tests/peers/quant_rows.sh --hashes). */
#ifndef INGOT_TESTS_KERNEL_QUANT_INPUTS_H
#define INGOT_TESTS_KERNEL_QUANT_INPUTS_H

#include "base/rng.h"
#include "tensor/dtype.h"

enum { QI_COLS = 768, QI_ROWS = 21, QI_N = QI_COLS * QI_ROWS, QI_KINDS = 6, QI_WEIGHTS = 4 };

static UNUSED uint32_t qi_u32(uint64_t i, uint64_t stream) {
    uint32_t w[4];
    rng_philox(w, 2024, stream, i);
    return w[0];
}

/* Sum of four bytes around 0: -510 .. 510. */
static UNUSED int qi_bell(uint32_t u) {
    return (int)((u & 255) + (u >> 8 & 255) + (u >> 16 & 255) + (u >> 24)) - 510;
}

/* Kinds: bell; far outliers; constant; tiny (f16 subnormal scales); of one sign; blocks of zeros between. */
static UNUSED void qi_rows(float *x, int kind) {
    for (uint64_t i = 0; i < QI_N; i++) {
        float v = (float)qi_bell(qi_u32(i, 1)) * 0x1p-13f;
        uint32_t far = qi_u32(i, 2), block = qi_u32(i / 32, 3);
        if (kind == 1 && far % 61 == 0) v *= 40.0f;
        if (kind == 2) v = (float)(block % 7) * 0.25f - 0.5f;
        if (kind == 3) v *= 0x1p-14f;
        if (kind == 4) v = (v < 0 ? -v : v) * (block & 64 ? 1.0f : -1.0f);
        if (kind == 5 && block % 3 == 0) v = 0.0f;
        x[i] = v;
    }
}

/* Weights 1: ones; 2: squares; 3: a third of zeros and a wide range. 0 is none. */
static UNUSED void qi_weights(float *w, int kind) {
    for (uint64_t i = 0; i < QI_COLS; i++) {
        uint32_t u = qi_u32(i, 4);
        float b = (float)(u & 255);
        w[i] = kind == 1 ? 1.0f : kind == 2 ? b * b : u % 3 ? b * b * b * b : 0.0f;
    }
}

static UNUSED uint64_t qi_hash(const uint8_t *p, size_t n) {
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static const DType qi_types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                                 DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

#endif
