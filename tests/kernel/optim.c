/* SPDX-License-Identifier: Apache-2.0
 * AdamW against float64. */
#include "common.h"

static void check_adamw(size_t n, const AdamwArgs *a) {
    float *p = kt_normals(n, 1), *m = kt_normals(n, 0.1f), *v = kt_normals(n, 0.01f);
    float *g = kt_normals(n, 1);
    for (size_t i = 0; i < n; i++) {
        v[i] = fabsf(v[i]);
        if (i % 5 == 0) g[i] = 0;
        if (i % 10 == 0) m[i] = v[i] = 0; /* never touched so far */
    }
    float *p0 = kt_copy(p, n), *m0 = kt_copy(m, n), *v0 = kt_copy(v, n);
    kt.adamw(p, m, v, g, n, a);
    double b1 = (double)a->beta1, b2 = (double)a->beta2;
    for (size_t i = 0; i < n; i++) {
        double gi = (double)g[i] * (double)a->grad_scale;
        double m_terms = b1 * fabs((double)m0[i]) + (1 - b1) * fabs(gi);
        double mi = b1 * (double)m0[i] + (1 - b1) * gi,
               vi = b2 * (double)v0[i] + (1 - b2) * gi * gi;
        kt_near("adamw", i, m[i], mi, m_terms);
        kt_near("adamw", i, v[i], vi, vi);
        double root = sqrt(vi * (double)a->c2) + (double)a->eps, c1 = (double)a->c1;
        double wd = (double)a->weight_decay * (double)p0[i], lr = (double)a->lr;
        double want = (double)p0[i] - lr * (mi * c1 / root + wd);
        double terms = fabs((double)p0[i]) + lr * (m_terms * c1 / root + fabs(wd));
        kt_near("adamw", i, p[i], want, terms);
    }
}

static void adamw(size_t n) {
    AdamwArgs a = {.lr = 0.01f,
                   .beta1 = 0.9f,
                   .beta2 = 0.95f,
                   .eps = 1e-8f,
                   .weight_decay = 0.1f,
                   .c1 = 1 / (1 - 0.9f),
                   .c2 = 1 / (1 - 0.95f),
                   .grad_scale = 1};
    check_adamw(n, &a);
    a = (AdamwArgs){.lr = 3e-4f,
                    .beta1 = 0.9f,
                    .beta2 = 0.999f,
                    .eps = 1e-8f,
                    .weight_decay = 0,
                    .c1 = 1.02f,
                    .c2 = 1.7f,
                    .grad_scale = 0.013f};
    check_adamw(n, &a);
}

TEST(adamw_matches_float64) { kt_each_size(adamw); }

/* The first step from rest moves every parameter by lr, whatever the size of its gradient. */
TEST(adamw_first_step_is_lr) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        AdamwArgs a = {.lr = 0.1f,
                       .beta1 = 0.9f,
                       .beta2 = 0.999f,
                       .eps = 1e-12f,
                       .c1 = 1 / (1 - 0.9f),
                       .c2 = 1 / (1 - 0.999f),
                       .grad_scale = 1};
        float p[21], m[21] = {0}, v[21] = {0}, g[21];
        for (int i = 0; i < 21; i++) {
            p[i] = 1;
            g[i] = (i % 2 ? 1.0f : -1.0f) * powf(10, (float)(i - 10) / 2);
        }
        kt.adamw(p, m, v, g, 21, &a);
        for (int i = 0; i < 21; i++) NEAR(p[i], i % 2 ? 0.9 : 1.1, 1e-5);
    }
}
