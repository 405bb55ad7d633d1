/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks of 256 on AVX-512: kernel/quant_lanes.inc. */
#include "kernel/avx512/lanes.h"
#include "kernel/quant_lanes.inc"

static const SuperType q4_K = {sizeof(BlockQ4_K), 15, &kern_fit_q4_K};
static const SuperType q5_K = {sizeof(BlockQ5_K), 31, &kern_fit_q5_K};

static void q4_K_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_super(y, &q4_K, x, w, rows, cols);
}

static void q5_K_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_super(y, &q5_K, x, w, rows, cols);
}

static void q6_K_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_q6_K(y, x, w, rows, cols);
}

static void q4_K_from_f32(void *y, const float *x, size_t n) {
    lanes_super(y, &q4_K, x, NULL, 1, n);
}

static void q5_K_from_f32(void *y, const float *x, size_t n) {
    lanes_super(y, &q5_K, x, NULL, 1, n);
}

static void q6_K_from_f32(void *y, const float *x, size_t n) { lanes_q6_K(y, x, NULL, 1, n); }

void kern_avx512_quant_k(Kern *k) {
    k->from_f32[DT_Q4_K] = q4_K_from_f32;
    k->from_f32[DT_Q5_K] = q5_K_from_f32;
    k->from_f32[DT_Q6_K] = q6_K_from_f32;
    k->quant[DT_Q4_K] = q4_K_quant;
    k->quant[DT_Q5_K] = q5_K_quant;
    k->quant[DT_Q6_K] = q6_K_quant;
}
