/* SPDX-License-Identifier: Apache-2.0
 * Philox4x32-10: ten rounds of two 32 x 32 -> 64 bit products with a Weyl sequence as key schedule.
 * Nothing has state; every value is a function of its arguments. Any thread. */
#include "base/rng.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/random.h>

#include "base/fault.h"

#define PHILOX_M0 0xD2511F53u
#define PHILOX_M1 0xCD9E8D57u
#define PHILOX_W0 0x9E3779B9u /* golden ratio */
#define PHILOX_W1 0xBB67AE85u /* sqrt(3) - 1 */
#define PHILOX_ROUNDS 10
#define FEISTEL_ROUNDS 8 /* fewer are visibly uneven over domains of three bits */

void rng_philox(uint32_t out[4], uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
    uint32_t c0 = (uint32_t)counter_lo, c1 = (uint32_t)(counter_lo >> 32);
    uint32_t c2 = (uint32_t)counter_hi, c3 = (uint32_t)(counter_hi >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int r = 0; r < PHILOX_ROUNDS; r++) {
        uint64_t a = (uint64_t)PHILOX_M0 * c0, b = (uint64_t)PHILOX_M1 * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += PHILOX_W0;
        k1 += PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

double rng_uniform(uint64_t key, uint64_t hi, uint64_t lo) {
    uint32_t w[4];
    rng_philox(w, key, hi, lo);
    uint64_t u = (uint64_t)w[1] << 32 | w[0];
    return (double)(u >> 11) * 0x1p-53;
}

/* Two uniform words -> two normals. (u + 1) keeps the logarithm away from zero. */
static void box_muller(double z[2], uint32_t a, uint32_t b) {
    double r = sqrt(-2.0 * log(((double)a + 1.0) * 0x1p-32));
    double angle = 6.283185307179586477 * 0x1p-32 * (double)b;
    z[0] = r * cos(angle);
    z[1] = r * sin(angle);
}

/* Element i depends on (key, stream, i) alone: a longer fill starts with the shorter one. */
void rng_normal_fill(float *x, size_t n, float std, uint64_t key, uint64_t stream) {
    for (size_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        double z[4];
        rng_philox(w, key, stream, i / 4);
        box_muller(z, w[0], w[1]);
        box_muller(z + 2, w[2], w[3]);
        for (size_t j = 0; j < 4 && i + j < n; j++) x[i + j] = (float)(z[j] * (double)std);
    }
}

/* The finalizer of splitmix64. */
static uint64_t mix64(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* One pass over the 2^bits domain. Both halves are updated in place by xor, which is invertible for
 * any round function and for halves of different widths. */
static uint64_t feistel(uint64_t i, int bits, uint64_t key) {
    int n_lo = bits - bits / 2;
    uint64_t lo_mask = ((uint64_t)1 << n_lo) - 1, hi_mask = ((uint64_t)1 << (bits / 2)) - 1;
    uint64_t hi = i >> n_lo, lo = i & lo_mask;
    for (uint64_t r = 0; r < FEISTEL_ROUNDS; r++) {
        hi ^= mix64(key + mix64(lo + (2 * r << 40))) & hi_mask;
        lo ^= mix64(key + mix64(hi + ((2 * r + 1) << 40))) & lo_mask;
    }
    return hi << n_lo | lo;
}

uint64_t rng_permute(uint64_t i, uint64_t n, uint64_t key) {
    if (n <= 1) return 0;
    int bits = 64 - __builtin_clzll(n - 1);
    /* The domain is less than twice n, so fewer than two passes are needed on average. */
    do i = feistel(i, bits, key);
    while (i >= n);
    return i;
}

uint64_t rng_key(uint64_t seed, const char *purpose) {
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */
    for (const char *p = purpose; *p; p++) h = (h ^ (uint8_t)*p) * 0x100000001B3u;
    uint32_t w[4];
    rng_philox(w, seed, h, 0x696E676F74u);
    return (uint64_t)w[1] << 32 | w[0];
}

Status rng_secret(void *p, size_t n, Err *e) {
    for (size_t done = 0; done < n;) {
        errno = EIO;
        ssize_t k = fault_hit(FAULT_IO) ? -1 : getrandom((uint8_t *)p + done, n - done, 0);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return err_set(e, ERR_IO, "getrandom: %s", strerror(errno));
        done += (size_t)k;
    }
    return OK;
}
