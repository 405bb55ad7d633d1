/* SPDX-License-Identifier: Apache-2.0
 * Every backward kernel against central differences of its forward function in float64: with
 * L = sum of dy[i] y[i](x), dL/dx must be what the kernel gives. */
#include "common.h"

enum { N_MAX = 64 };

/* The forward function y[n](x) with its other inputs behind ctx. */
typedef void (*Forward)(double *y, const double *x, int n, const void *ctx);

static double loss(Forward f, const double *x, int n, const float *dy, const void *ctx) {
    double y[N_MAX], sum = 0;
    f(y, x, n, ctx);
    for (int i = 0; i < n; i++) sum += y[i] * (double)dy[i];
    return sum;
}

static double slope(Forward f, const float *x, int n, int i, const float *dy, const void *ctx) {
    double v[N_MAX] = {0}, h = 1e-5 * (1 + fabs((double)x[i]));
    for (int j = 0; j < n; j++) v[j] = (double)x[j];
    v[i] += h;
    double up = loss(f, v, n, dy, ctx);
    v[i] -= 2 * h;
    return (up - loss(f, v, n, dy, ctx)) / (2 * h);
}

static void check(const char *what, Forward f, const float *x, int n, const float *dy,
                  const float *got, const void *ctx) {
    for (int i = 0; i < n; i++) {
        double want = slope(f, x, n, i, dy, ctx), tol = 2e-5 * (1 + fabs(want));
        if (fabs((double)got[i] - want) <= tol) continue;
        FAIL("%s at level %s, seed %llu: d/dx[%d] is %.9g, differences say %.9g", what,
             kern_level_name(kt.level), (unsigned long long)kt_seed, i, (double)got[i], want);
    }
}

/* Run body for every level, some lengths and seeds. */
static void each(void (*body)(int n)) {
    static const int sizes[] = {1, 2, 7, 16, 33, N_MAX};
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
            for (uint64_t seed = 1; seed <= KT_SEEDS; seed++) {
                kt_start(seed * 100 + i);
                body(sizes[i]);
                kt_free();
            }
        }
    }
}

static float *zeros(int n) {
    float *x = kt_floats((size_t)n);
    memset(x, 0, (size_t)n * sizeof *x);
    return x;
}

/* ---- gelu ---- */

static void gelu_fwd(double *y, const double *x, int n, const void *ctx) {
    (void)ctx;
    for (int i = 0; i < n; i++) {
        double u = sqrt(2 / M_PI) * (x[i] + 0.044715 * x[i] * x[i] * x[i]);
        y[i] = 0.5 * x[i] * (1 + tanh(u));
    }
}

static void gelu(int n) {
    float *x = kt_normals((size_t)n, 2), *dy = kt_normals((size_t)n, 1), *dx = kt_floats((size_t)n);
    kt.gelu_bwd(dx, dy, x, (size_t)n);
    check("gelu_bwd", gelu_fwd, x, n, dy, dx, NULL);
}

TEST(gelu_gradient) { each(gelu); }

/* ---- swiglu: by the gate with u fixed, and by u with the gate fixed ---- */

static void swiglu_of_g(double *y, const double *g, int n, const void *u) {
    for (int i = 0; i < n; i++) y[i] = g[i] / (1 + exp(-g[i])) * (double)((const float *)u)[i];
}

static void swiglu_of_u(double *y, const double *u, int n, const void *gate) {
    for (int i = 0; i < n; i++) {
        double g = (double)((const float *)gate)[i];
        y[i] = g / (1 + exp(-g)) * u[i];
    }
}

static void swiglu(int n) {
    float *g = kt_normals((size_t)n, 2), *u = kt_normals((size_t)n, 1),
          *dy = kt_normals((size_t)n, 1);
    float *dg = kt_floats((size_t)n), *du = kt_floats((size_t)n);
    kt.swiglu_bwd(dg, du, dy, g, u, (size_t)n);
    check("swiglu_bwd dg", swiglu_of_g, g, n, dy, dg, u);
    check("swiglu_bwd du", swiglu_of_u, u, n, dy, du, g);
}

TEST(swiglu_gradient) { each(swiglu); }

/* ---- norms: the statistics are part of the function ---- */

typedef struct Norm {
    const float *x, *w, *b; /* the input that is varied is NULL */
    double eps;
    bool centre;
} Norm;

static double pick(const float *fixed, const double *varied, int i) {
    return fixed ? (double)fixed[i] : varied[i];
}

static void norm_fwd(double *y, const double *v, int n, const void *ctx) {
    const Norm *c = ctx;
    double mean = 0, var = 0;
    for (int i = 0; i < n && c->centre; i++) mean += pick(c->x, v, i) / n;
    for (int i = 0; i < n; i++) var += pow(pick(c->x, v, i) - mean, 2) / n;
    double r = 1 / sqrt(var + c->eps);
    for (int i = 0; i < n; i++) {
        y[i] = (pick(c->x, v, i) - mean) * r * pick(c->w, v, i);
        if (c->centre) y[i] += pick(c->b, v, i);
    }
}

static void rmsnorm(int n) {
    float *x = kt_normals((size_t)n, 2), *w = kt_normals((size_t)n, 1),
          *dy = kt_normals((size_t)n, 1);
    float *y = kt_floats((size_t)n), *dx = zeros(n), *dw = zeros(n), rstd;
    kt.rmsnorm(y, &rstd, x, w, n, 1e-3f);
    kt.rmsnorm_bwd(dx, dw, dy, x, w, rstd, n);
    check("rmsnorm_bwd dx", norm_fwd, x, n, dy, dx, &(Norm){.w = w, .eps = (double)1e-3f});
    check("rmsnorm_bwd dw", norm_fwd, w, n, dy, dw, &(Norm){.x = x, .eps = (double)1e-3f});
}

TEST(rmsnorm_gradient) { each(rmsnorm); }

static void layernorm(int n) {
    float *x = kt_normals((size_t)n, 2), *w = kt_normals((size_t)n, 1),
          *b = kt_normals((size_t)n, 1);
    float *dy = kt_normals((size_t)n, 1), *y = kt_floats((size_t)n), stat[2];
    float *dx = zeros(n), *dw = zeros(n), *db = zeros(n);
    double eps = (double)0.1f;
    kt.layernorm(y, stat, x, w, b, n, 0.1f);
    kt.layernorm_bwd(dx, dw, db, dy, x, w, stat, n);
    check("layernorm_bwd dx", norm_fwd, x, n, dy, dx,
          &(Norm){.w = w, .b = b, .eps = eps, .centre = true});
    check("layernorm_bwd dw", norm_fwd, w, n, dy, dw,
          &(Norm){.x = x, .b = b, .eps = eps, .centre = true});
    check("layernorm_bwd db", norm_fwd, b, n, dy, db,
          &(Norm){.x = x, .w = w, .eps = eps, .centre = true});
}

TEST(layernorm_gradient) { each(layernorm); }

/* ---- softmax and loss ---- */

static void softmax_fwd(double *y, const double *x, int n, const void *scale) {
    double s = (double)*(const float *)scale, sum = 0;
    for (int i = 0; i < n; i++) sum += exp(s * x[i]);
    for (int i = 0; i < n; i++) y[i] = exp(s * x[i]) / sum;
}

static void softmax(int n) {
    float *x = kt_normals((size_t)n, 2), *p = kt_copy(x, (size_t)n), *dy = kt_normals((size_t)n, 1);
    float *dp = kt_copy(dy, (size_t)n), scale = 0.7f;
    kt.softmax(p, n, scale);
    kt.softmax_bwd(dp, p, kt.dot(p, dy, (size_t)n), scale, n);
    check("softmax_bwd", softmax_fwd, x, n, dy, dp, &scale);
}

TEST(softmax_gradient) { each(softmax); }

/* The loss as the first of n outputs, so that dy = {scale, 0, ...} makes it the sum. */
static void xent_fwd(double *y, const double *x, int n, const void *target) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += exp(x[i]);
    for (int i = 1; i < n; i++) y[i] = 0;
    y[0] = log(sum) - x[*(const int *)target];
}

static void xent(int n) {
    float *x = kt_normals((size_t)n, 2), *g = kt_copy(x, (size_t)n), *dy = zeros(n);
    int target = kt_int(0, n - 1);
    dy[0] = 0.25f;
    kt.xent(g, n, target, 0.25f);
    check("xent", xent_fwd, x, n, dy, g, &target);
}

TEST(xent_gradient) { each(xent); }

/* ---- rotary positions: the gradient is the inverse rotation ---- */

typedef struct Rope {
    const float *cs;
    bool halves;
} Rope;

static void rope_fwd(double *y, const double *x, int n, const void *ctx) {
    const Rope *r = ctx;
    for (int i = 0; i < n / 2; i++) {
        int a = r->halves ? i : 2 * i, b = r->halves ? i + n / 2 : 2 * i + 1;
        double c = (double)r->cs[2 * i], s = (double)r->cs[2 * i + 1];
        y[a] = x[a] * c - x[b] * s;
        y[b] = x[a] * s + x[b] * c;
    }
}

static void rope(int n) {
    n = MAX(2, n / 2 * 2);
    float *x = kt_normals((size_t)n, 1), *dy = kt_normals((size_t)n, 1), *cs = kt_floats((size_t)n);
    for (int i = 0; i < n / 2; i++) {
        cs[2 * i] = cosf((float)i);
        cs[2 * i + 1] = sinf((float)i);
    }
    for (int halves = 0; halves < 2; halves++) {
        float *dx = kt_copy(dy, (size_t)n);
        kt.rope(dx, cs, 1, n, n / 2, halves, true);
        check("rope", rope_fwd, x, n, dy, dx, &(Rope){cs, halves});
    }
}

TEST(rope_gradient) { each(rope); }
