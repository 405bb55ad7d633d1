/* SPDX-License-Identifier: Apache-2.0
 * RMSNorm and LayerNorm, both directions, against float64. */
#include "common.h"

static void rmsnorm(size_t n) {
    if (n == 0) return;
    float *x = kt_normals(n, 3), *w = kt_normals(n, 1), *y = kt_floats(n), rstd;
    kt.rmsnorm(y, &rstd, x, w, (int)n, 1e-5f);
    double sq = 0;
    for (size_t i = 0; i < n; i++) sq += (double)x[i] * (double)x[i];
    double r = 1 / sqrt(sq / (double)n + (double)1e-5f);
    kt_near("rmsnorm", 0, rstd, r, r);
    for (size_t i = 0; i < n; i++) {
        double want = (double)x[i] * r * (double)w[i];
        kt_near("rmsnorm", i, y[i], want, fabs(want));
    }
}

TEST(rmsnorm_matches_float64) {
    kt_each_size(rmsnorm);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(1);
        rmsnorm(8192);
        kt_free();
    }
}

static void rmsnorm_bwd(size_t n) {
    if (n == 0) return;
    float *x = kt_normals(n, 3), *w = kt_normals(n, 1), *dy = kt_normals(n, 1);
    float *dx = kt_normals(n, 1), *dw = kt_normals(n, 1), rstd = 0.37f;
    float *dx0 = kt_copy(dx, n), *dw0 = kt_copy(dw, n);
    kt.rmsnorm_bwd(dx, dw, dy, x, w, rstd, (int)n);
    double r = (double)rstd, gh = 0, gh_terms = 0;
    for (size_t i = 0; i < n; i++) {
        double v = (double)dy[i] * (double)w[i] * (double)x[i] * r / (double)n;
        gh += v;
        gh_terms += fabs(v);
    }
    for (size_t i = 0; i < n; i++) {
        double g = (double)dy[i] * (double)w[i], h = (double)x[i] * r, d = (double)dy[i];
        double want = (double)dx0[i] + r * (g - h * gh);
        double terms = fabs((double)dx0[i]) + r * (fabs(g) + fabs(h) * gh_terms);
        kt_near("rmsnorm_bwd", i, dx[i], want, terms);
        kt_near("rmsnorm_bwd", i, dw[i], (double)dw0[i] + d * h,
                fabs((double)dw0[i]) + fabs(d * h));
    }
}

TEST(rmsnorm_bwd_matches_float64) { kt_each_size(rmsnorm_bwd); }

static void check_layernorm(size_t n, float shift, bool bias) {
    float *x = kt_normals(n, 2), *w = kt_normals(n, 1), *b = bias ? kt_normals(n, 1) : NULL;
    float *y = kt_floats(n), stat[2];
    for (size_t i = 0; i < n; i++) x[i] += shift;
    kt.layernorm(y, stat, x, w, b, (int)n, 1e-5f);
    double mean = 0, var = 0, mean_terms = 0;
    for (size_t i = 0; i < n; i++) {
        mean += (double)x[i] / (double)n;
        mean_terms += fabs((double)x[i]) / (double)n;
    }
    for (size_t i = 0; i < n; i++) var += pow((double)x[i] - mean, 2) / (double)n;
    double r = 1 / sqrt(var + (double)1e-5f);
    kt_near("layernorm", 0, stat[0], mean, mean_terms);
    /* the variance is of differences, each rounded at the size of x */
    kt_near("layernorm", 1, stat[1], r, r * (1 + mean_terms * r));
    for (size_t i = 0; i < n; i++) {
        double h = ((double)x[i] - mean) * r, add = b ? (double)b[i] : 0;
        double terms = (fabs((double)x[i]) + mean_terms) * r * fabs((double)w[i]) + fabs(add);
        kt_near("layernorm", i, y[i], h * (double)w[i] + add, terms);
    }
}

static void layernorm(size_t n) {
    if (n == 0) return;
    check_layernorm(n, 0, true);
    check_layernorm(n, 0, false);
    check_layernorm(n, 100, true);
}

TEST(layernorm_matches_float64) { kt_each_size(layernorm); }

static void check_layernorm_bwd(size_t n, bool bias) {
    float *x = kt_normals(n, 2), *w = kt_normals(n, 1), *dy = kt_normals(n, 1);
    float *dx = kt_normals(n, 1), *dw = kt_normals(n, 1), *db = bias ? kt_normals(n, 1) : NULL;
    float *dx0 = kt_copy(dx, n), *dw0 = kt_copy(dw, n), *db0 = bias ? kt_copy(db, n) : NULL;
    float stat[2] = {0.21f, 0.6f};
    kt.layernorm_bwd(dx, dw, db, dy, x, w, stat, (int)n);
    double mean = (double)stat[0], r = (double)stat[1], gm = 0, gh = 0, gm_terms = 0, gh_terms = 0;
    for (size_t i = 0; i < n; i++) {
        double g = (double)dy[i] * (double)w[i] / (double)n, h = ((double)x[i] - mean) * r;
        gm += g;
        gh += g * h;
        gm_terms += fabs(g);
        gh_terms += fabs(g * h);
    }
    for (size_t i = 0; i < n; i++) {
        double d = (double)dy[i], g = d * (double)w[i], h = ((double)x[i] - mean) * r;
        double want = (double)dx0[i] + r * (g - gm - h * gh);
        double terms = fabs((double)dx0[i]) + r * (fabs(g) + gm_terms + fabs(h) * gh_terms);
        kt_near("layernorm_bwd", i, dx[i], want, terms);
        kt_near("layernorm_bwd", i, dw[i], (double)dw0[i] + d * h,
                fabs((double)dw0[i]) + fabs(d * h));
        if (db)
            kt_near("layernorm_bwd", i, db[i], (double)db0[i] + d, fabs((double)db0[i]) + fabs(d));
    }
}

static void layernorm_bwd(size_t n) {
    if (n == 0) return;
    check_layernorm_bwd(n, true);
    check_layernorm_bwd(n, false);
}

TEST(layernorm_bwd_matches_float64) { kt_each_size(layernorm_bwd); }
