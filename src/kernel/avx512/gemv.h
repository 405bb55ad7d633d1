/* SPDX-License-Identifier: Apache-2.0
 * Products of a matrix with 1 to 4 vectors on AVX-512: what kernel/gemv_walk.inc needs to know. */
#ifndef INGOT_KERNEL_AVX512_GEMV_H
#define INGOT_KERNEL_AVX512_GEMV_H

#include "kernel/avx512/vec.h"

/* The slots of the other two files. */
void kern_avx512_gemv_blocks(Kern *k);
void kern_avx512_gemv_k(Kern *k);

typedef __m512 Gv;
static ALWAYS_INLINE Gv gv_zero(void) { return _mm512_setzero_ps(); }

/* 16 accumulators fit the 32 registers beside the weights and vectors. */
enum { R_MAX = 4, R_MANY = 4 };

#include "kernel/gemv_walk.inc"

#endif
