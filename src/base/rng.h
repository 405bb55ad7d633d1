/* SPDX-License-Identifier: Apache-2.0
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11): random numbers
 * as a pure function of key and counter. Nothing has a state to save: dropout is keyed by
 * (seed, step, site), sampling by (request seed, position). Any thread. */
#ifndef INGOT_BASE_RNG_H
#define INGOT_BASE_RNG_H

#include "base/err.h"

/* Bytes nobody can guess, from the kernel, for keys and seeds of tables. ERR_IO. */
MUST_CHECK Status rng_secret(void *p, size_t n, Err *e);
/* out = four random words of (key, counter). */
void rng_philox(uint32_t out[4], uint64_t key, uint64_t counter_hi, uint64_t counter_lo);
/* Uniform in [0, 1) with 24 bits. */
static inline float rng_u32_to_unit(uint32_t u) { return (float)(u >> 8) * 0x1p-24f; }
/* Uniform in [0, 1) with 53 bits of (key, hi, lo). */
double rng_uniform(uint64_t key, uint64_t hi, uint64_t lo);
/* x[n] = mean 0, standard deviation std normals of (key, stream), by Box-Muller. */
void rng_normal_fill(float *x, size_t n, float std, uint64_t key, uint64_t stream);
/* Position i of a random permutation of [0, n), by a Feistel network with cycle walking. */
uint64_t rng_permute(uint64_t i, uint64_t n, uint64_t key);
/* A key for a named purpose, so that two uses of one seed never meet. */
uint64_t rng_key(uint64_t seed, const char *purpose);

#endif
