/* SPDX-License-Identifier: Apache-2.0
 * RMSNorm (Zhang & Sennrich 2019) and LayerNorm (Ba et al. 2016) of one row, with their gradients, by
 * definition. Sums are f64. */
#include <math.h>

#include "kernel/internal.h"

static void rmsnorm(float *y, float *rstd, const float *x, const float *w, int C, float eps) {
    double sum = 0;
    for (int i = 0; i < C; i++) sum += (double)x[i] * (double)x[i];
    double r = 1.0 / sqrt(sum / C + (double)eps);
    *rstd = (float)r;
    for (int i = 0; i < C; i++) y[i] = (float)((double)x[i] * r * (double)w[i]);
}

/* With h = x rstd and g = dy w: dx = rstd (g - h mean(g h)), dw = dy h. */
static void rmsnorm_bwd(float *dx, float *dw, const float *dy, const float *x, const float *w,
                        float rstd, int C) {
    double r = (double)rstd, gh = 0;
    for (int i = 0; i < C; i++) gh += (double)dy[i] * (double)w[i] * (double)x[i] * r;
    gh /= C;
    for (int i = 0; i < C; i++) {
        double h = (double)x[i] * r, g = (double)dy[i] * (double)w[i];
        dx[i] += (float)(r * (g - h * gh));
        dw[i] += (float)((double)dy[i] * h);
    }
}

static void layernorm(float *y, float *stat, const float *x, const float *w, const float *b, int C,
                      float eps) {
    double mean = 0, var = 0;
    for (int i = 0; i < C; i++) mean += (double)x[i];
    mean /= C;
    for (int i = 0; i < C; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
    double r = 1.0 / sqrt(var / C + (double)eps);
    stat[0] = (float)mean;
    stat[1] = (float)r;
    for (int i = 0; i < C; i++) {
        double bias = b ? (double)b[i] : 0.0;
        y[i] = (float)(((double)x[i] - mean) * r * (double)w[i] + bias);
    }
}

/* With h = (x - mean) rstd and g = dy w: dx = rstd (g - mean(g) - h mean(g h)), dw = dy h, db = dy. */
static void layernorm_bwd(float *dx, float *dw, float *db, const float *dy, const float *x,
                          const float *w, const float *stat, int C) {
    double mean = (double)stat[0], r = (double)stat[1], g_mean = 0, gh = 0;
    for (int i = 0; i < C; i++) {
        double g = (double)dy[i] * (double)w[i];
        g_mean += g;
        gh += g * ((double)x[i] - mean) * r;
    }
    g_mean /= C;
    gh /= C;
    for (int i = 0; i < C; i++) {
        double h = ((double)x[i] - mean) * r, g = (double)dy[i] * (double)w[i];
        dx[i] += (float)(r * (g - g_mean - h * gh));
        dw[i] += (float)((double)dy[i] * h);
        if (db) db[i] += dy[i];
    }
}

void kern_ref_norm(Kern *k) {
    k->rmsnorm = rmsnorm;
    k->rmsnorm_bwd = rmsnorm_bwd;
    k->layernorm = layernorm;
    k->layernorm_bwd = layernorm_bwd;
}
