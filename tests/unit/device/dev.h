/* SPDX-License-Identifier: Apache-2.0
 * What the device tests share: a device of a level, arrays of random numbers on both sides, and the
 * comparison with a float64 result. */
#ifndef INGOT_TESTS_DEVICE_DEV_H
#define INGOT_TESTS_DEVICE_DEV_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "device/backend.h"
#include "kernel/kernel.h"
#include "test.h"

static uint64_t dev_seed = 1;
static const char *dev_level; /* of the device that was made last */

/* ---- levels: for (size_t l = 0; l < DEV_LEVELS; l++) { if (!dev_has(l)) continue; ... } ---- */

static UNUSED const char *const dev_levels[] = {"ref", "avx2", "avx512"};
enum { DEV_LEVELS = 3 };

static UNUSED bool dev_has(size_t i) {
    static bool said[DEV_LEVELS];
    CpuLevel l = CPU_REF;
    if (kern_level_from_name(&l, dev_levels[i]) && l <= kern_best_level(kern_caps())) return true;
    if (!said[i]) printf("SKIP level %s: not on this processor\n", dev_levels[i]);
    said[i] = true;
    return false;
}

/* f32 products. level NULL: the best. */
static UNUSED Device *dev_new(const char *level, int n_threads) {
    Device *d = NULL;
    dev_level = level ? level : "best";
    OK_(device_cpu_new(&d, &(DeviceOpts){.cpu = level, .n_threads = n_threads}, TERR));
    return d;
}

/* The device says that nothing failed, and goes. */
static UNUSED void dev_free(Device *d) {
    OK_(d->ops->sync(d, TERR));
    device_free(d);
}

/* ---- random numbers ---- */

static UNUSED uint32_t dev_u32(void) {
    uint64_t z = dev_seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(z >> 32);
}

static UNUSED int dev_int(int lo, int hi) {
    return lo + (int)(dev_u32() % (uint32_t)(hi - lo + 1));
}

/* In [-1, 1). */
static UNUSED float dev_rnd(void) { return (float)(int32_t)dev_u32() * 0x1p-31f; }

static UNUSED void *dev_alloc(size_t n, size_t size) {
    void *p = calloc(n + (n == 0), size);
    if (!p) abort();
    return p;
}

static UNUSED float *dev_floats(size_t n) { return dev_alloc(n, sizeof(float)); }
static UNUSED double *dev_doubles(size_t n) { return dev_alloc(n, sizeof(double)); }

static UNUSED float *dev_random(size_t n) {
    float *x = dev_floats(n);
    for (size_t i = 0; i < n; i++) x[i] = dev_rnd();
    return x;
}

static UNUSED double *dev_widen(const float *x, size_t n) {
    double *y = dev_doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}

/* ---- device memory ---- */

static UNUSED Buf *dev_buf(Device *d, size_t n) {
    Buf *b = d->ops->buf_new(d, n * sizeof(float));
    TRUE_(b != NULL);
    return b;
}

static UNUSED Buf *dev_put(Device *d, const float *x, size_t n) {
    Buf *b = dev_buf(d, n);
    d->ops->upload(d, buf_at(b, 0), x, n * sizeof(float));
    return b;
}

static UNUSED float *dev_get(Device *d, Buf *b, size_t n) {
    float *x = dev_floats(n);
    d->ops->download(d, x, buf_at(b, 0), n * sizeof(float));
    return x;
}

/* ---- comparison ---- */

/* |got - want| within tol; says where. */
static UNUSED void dev_near(const char *what, size_t i, float got, double want, double tol) {
    if (fabs((double)got - want) <= tol) return;
    FAIL("%s at level %s, element %zu: got %.9g, want %.9g, off by %.3g, allowed %.3g", what,
         dev_level, i, (double)got, want, fabs((double)got - want), tol);
}

static UNUSED void dev_all_near(const char *what, const float *got, const double *want, size_t n,
                                double tol) {
    for (size_t i = 0; i < n; i++) dev_near(what, i, got[i], want[i], tol);
}

#endif
