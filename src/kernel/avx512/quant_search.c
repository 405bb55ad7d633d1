/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks of 32 whose scales are searched for, on AVX-512: kernel/quant_lanes.inc. */
#include "kernel/avx512/lanes.h"
#include "kernel/quant_lanes.inc"

static const SmallType q4_0 = {sizeof(BlockQ4_0), false, 8};
static const SmallType q4_1 = {sizeof(BlockQ4_1), true, 8};
static const SmallType q5_0 = {sizeof(BlockQ5_0), false, 16};
static const SmallType q5_1 = {sizeof(BlockQ5_1), true, 16};

static void q4_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_small(y, &q4_0, x, w, rows, cols);
}

static void q4_1_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_small(y, &q4_1, x, w, rows, cols);
}

static void q4_1_from_f32(void *y, const float *x, size_t n) { lanes_small_flat(y, &q4_1, x, n); }

static void q5_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_small(y, &q5_0, x, w, rows, cols);
}

static void q5_0_from_f32(void *y, const float *x, size_t n) { lanes_small_flat(y, &q5_0, x, n); }

static void q5_1_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    lanes_small(y, &q5_1, x, w, rows, cols);
}

static void q5_1_from_f32(void *y, const float *x, size_t n) { lanes_small_flat(y, &q5_1, x, n); }

static float level_error(const float *x, const float *w, int n, float s, float min, int lo,
                         int hi) {
    return lanes_level_error(x, w, n, s, min, lo, hi);
}

static void level_sums(float sums[5], const float *x, const float *w, int n, float s, float min,
                       int lo, int hi) {
    lanes_level_sums(sums, x, w, n, s, min, lo, hi);
}

void kern_avx512_quant_search(Kern *k) {
    k->from_f32[DT_Q4_1] = q4_1_from_f32;
    k->from_f32[DT_Q5_0] = q5_0_from_f32;
    k->from_f32[DT_Q5_1] = q5_1_from_f32;
    k->quant[DT_Q4_0] = q4_0_quant;
    k->quant[DT_Q4_1] = q4_1_quant;
    k->quant[DT_Q5_0] = q5_0_quant;
    k->quant[DT_Q5_1] = q5_1_quant;
    k->level_error = level_error;
    k->level_sums = level_sums;
}
