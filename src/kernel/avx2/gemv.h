/* SPDX-License-Identifier: Apache-2.0
 * Products of a matrix with 1 to 4 vectors on AVX2: what kernel/gemv_walk.inc needs to know. */
#ifndef INGOT_KERNEL_AVX2_GEMV_H
#define INGOT_KERNEL_AVX2_GEMV_H

#include "kernel/avx2/vec.h"

/* The slots of the other two files. */
void kern_avx2_gemv_blocks(Kern *k);
void kern_avx2_gemv_k(Kern *k);

typedef __m256 Gv;
static ALWAYS_INLINE Gv gv_zero(void) { return _mm256_setzero_ps(); }

/* 8 accumulators fit the 16 registers beside the weights and vectors. */
enum { R_MAX = 4, R_MANY = 2 };

#include "kernel/gemv_walk.inc"

#endif
