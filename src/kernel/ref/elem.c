/* SPDX-License-Identifier: Apache-2.0
 * Element-wise functions, dropout and sums, by definition. Sums and activations are computed in f64. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/internal.h"

static void add(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static void scale(float *y, float s, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] *= s;
}

#define GELU_C 0.79788456080286535588 /* sqrt(2 / pi) */
#define GELU_A 0.044715

static void gelu(float *y, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        y[i] = (float)(0.5 * v * (1.0 + tanh(GELU_C * (v + GELU_A * v * v * v))));
    }
}

/* d/dx 0.5 x (1 + t), t = tanh(u(x)): 0.5 (1 + t) + 0.5 x (1 - t^2) u'(x) */
static void gelu_bwd(float *dx, const float *dy, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        double t = tanh(GELU_C * (v + GELU_A * v * v * v));
        double du = GELU_C * (1.0 + 3.0 * GELU_A * v * v);
        dx[i] = (float)((double)dy[i] * (0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * du));
    }
}

static double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static void swiglu(float *y, const float *g, const float *u, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)g[i];
        y[i] = (float)(v * sigmoid(v) * (double)u[i]);
    }
}

/* silu(g) = g s, silu'(g) = s (1 + g (1 - s)), s = sigmoid(g) */
static void swiglu_bwd(float *dg, float *du, const float *dy, const float *g, const float *u,
                       size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v = (double)g[i], w = (double)u[i], d = (double)dy[i], s = sigmoid(v);
        dg[i] = (float)(d * w * s * (1.0 + v * (1.0 - s)));
        du[i] = (float)(d * v * s);
    }
}

static void dropout(float *x, size_t n, uint32_t threshold, float factor, uint64_t key, uint64_t hi,
                    uint64_t first) {
    for (size_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_philox(w, key, hi, (first + i) / 4);
        x[i] = w[(first + i) % 4] >= threshold ? x[i] * factor : 0.0f;
    }
}

static float dot(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return (float)sum;
}

static double sum_sq(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static void col_sum(float *y, const float *x, size_t ldx, int rows, int n) {
    for (int j = 0; j < n; j++) {
        double sum = (double)y[j];
        for (int i = 0; i < rows; i++) sum += (double)x[(size_t)i * ldx + (size_t)j];
        y[j] = (float)sum;
    }
}

static uint64_t read_xor(const void *p, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i += sizeof sum) {
        uint64_t w;
        memcpy(&w, (const char *)p + i, sizeof w);
        sum ^= w;
    }
    return sum;
}

enum { PEAK_CHAINS = 8 };

static uint64_t fma_peak(int n) {
    float acc[PEAK_CHAINS] = {0};
    volatile float sink, start = 0.5f;
    float a = start;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < PEAK_CHAINS; j++) acc[j] = acc[j] * a + a;
    }
    for (int j = 1; j < PEAK_CHAINS; j++) acc[0] += acc[j];
    sink = acc[0];
    (void)sink;
    return (uint64_t)n * PEAK_CHAINS * 2;
}

void kern_ref_elem(Kern *k) {
    k->add = add;
    k->scale = scale;
    k->gelu = gelu;
    k->gelu_bwd = gelu_bwd;
    k->swiglu = swiglu;
    k->swiglu_bwd = swiglu_bwd;
    k->dropout = dropout;
    k->dot = dot;
    k->sum_sq = sum_sq;
    k->col_sum = col_sum;
    k->read = read_xor;
    k->fma_peak = fma_peak;
}
