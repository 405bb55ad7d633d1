/* SPDX-License-Identifier: Apache-2.0
 * The three searches behind the quantizers that look for their scales, by definition (ref/quant_fit.c).
 * Each takes n values x with weights w and gives integers q with what turns them back into values, trying
 * a few scales around the obvious one and keeping what has the least weighted squared error.
 *
 * Files have to come out byte for byte as the format's reference quantizer writes them, so the order of
 * every operation is part of the definition: f32 throughout, sums from the first element to the last. */
#ifndef INGOT_KERNEL_QUANT_FIT_H
#define INGOT_KERNEL_QUANT_FIT_H

#include <string.h>

#include "base/platform.h"

/* Blocks whose greatest magnitude is below this are zeros to the searches. */
#define FIT_TINY 1e-15f

/* Scales tried by fit_affine: (first + step * i + top) / (max - min) for i = 0..last. */
typedef struct FitSteps {
    float first, step;
    int last;
} FitSteps;

/* The steps of every type with importance weights; and without. */
extern const FitSteps kern_fit_weighted, kern_fit_q4_K, kern_fit_q5_K;

/* Nearest integer, halves to even, as the low bits of v + 1.5 * 2^23: within 2^22 that is rounding, beyond
 * it (infinity and NaN included) it is what the format's reference computes. */
static inline int fit_nearest(float v) {
    float t = v + 12582912.0f;
    uint32_t u;
    memcpy(&u, &t, sizeof u);
    return (int)(u & 0x7fffffu) - 0x400000;
}

/* x ~ scale * (q - half), q in 0..2 half - 1. w NULL: x^2. Returns the scale; 0 with all q 0 if x is tiny. */
float kern_ref_fit_symmetric(uint8_t *q, const float *x, const float *w, int n, int half);
/* x ~ scale * q - *min, q in 0..top, *min >= 0. Returns the scale. n <= 32. */
float kern_ref_fit_affine(uint8_t *q, float *min, const float *x, const float *w, int n, int top,
                          const FitSteps *s);
/* x ~ scale * q for x >= 0, q in 0..63: the scales of a block's groups. Returns the scale. */
float kern_ref_fit_scales(uint8_t *q, const float *x, const float *w, int n);

#endif
