/* SPDX-License-Identifier: Apache-2.0
 * Element-wise functions, dropout, sums and probes against float64. */
#include "common.h"

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double gelu_u(double x) { return sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }

static void add_scale(size_t n) {
    Kern ref = kt_ref();
    float *x = kt_normals(n, 3), *y = kt_normals(n, 3), *yr = kt_copy(y, n);
    kt.add(y, x, n);
    ref.add(yr, x, n);
    kt_same("add", y, yr, n * sizeof *y);
    kt.scale(y, 0.3f, n);
    ref.scale(yr, 0.3f, n);
    kt_same("scale", y, yr, n * sizeof *y);
}

TEST(add_and_scale) { kt_each_size(add_scale); }

/* Normal numbers and some from the far ends, finite. */
static float *wide(size_t n) {
    static const float ends[] = {0,      -0.0f, 1e-30f, -1e-30f, 20,    -20,   88.5f,
                                 -88.5f, 104,   -104,   1e4f,    -1e4f, 1e20f, -1e20f,
                                 5,      -5,    10,     -10,     12.5f, -12.5f};
    float *x = kt_normals(n, 2);
    for (size_t i = 0; i < n; i += 3) x[i] = ends[kt_u32() % COUNT_OF(ends)];
    return x;
}

static void gelu(size_t n) {
    float *x = wide(n), *y = kt_floats(n), *same = kt_copy(x, n);
    kt.gelu(y, x, n);
    kt.gelu(same, same, n);
    kt_same("gelu", same, y, n * sizeof *y);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], want = 0.5 * v * (1 + tanh(gelu_u(v)));
        kt_near("gelu", i, y[i], want, fabs(v));
    }
}

TEST(gelu_matches_float64) { kt_each_size(gelu); }

static void gelu_bwd(size_t n) {
    float *x = wide(n), *dy = kt_normals(n, 1), *dx = kt_floats(n), *same = kt_copy(dy, n);
    kt.gelu_bwd(dx, dy, x, n);
    kt.gelu_bwd(same, same, x, n);
    kt_same("gelu_bwd", same, dx, n * sizeof *dx);
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i], t = tanh(gelu_u(v)), d = (double)dy[i];
        double du = sqrt(2 / M_PI) * (1 + 3 * 0.044715 * v * v);
        double a = 0.5 * (1 + t), b = 0.5 * v * (1 - t * t) * du;
        kt_near("gelu_bwd", i, dx[i], d * (a + b), fabs(d) * (1 + fabs(b)));
    }
}

TEST(gelu_bwd_matches_float64) { kt_each_size(gelu_bwd); }

static void swiglu(size_t n) {
    float *g = wide(n), *u = kt_normals(n, 1), *y = kt_floats(n);
    float *over_g = kt_copy(g, n), *over_u = kt_copy(u, n);
    kt.swiglu(y, g, u, n);
    kt.swiglu(over_g, over_g, u, n);
    kt.swiglu(over_u, g, over_u, n);
    kt_same("swiglu", over_g, y, n * sizeof *y);
    kt_same("swiglu", over_u, y, n * sizeof *y);
    for (size_t i = 0; i < n; i++) {
        double v = (double)g[i], want = v * sigmoid(v) * (double)u[i];
        kt_near("swiglu", i, y[i], want, fabs(want));
    }
}

TEST(swiglu_matches_float64) { kt_each_size(swiglu); }

static void swiglu_bwd(size_t n) {
    float *g = wide(n), *u = kt_normals(n, 1), *dy = kt_normals(n, 1);
    float *dg = kt_floats(n), *du = kt_floats(n), *over_g = kt_copy(g, n), *over_u = kt_copy(u, n);
    kt.swiglu_bwd(dg, du, dy, g, u, n);
    kt.swiglu_bwd(over_g, over_u, dy, over_g, over_u, n);
    kt_same("swiglu_bwd", over_g, dg, n * sizeof *dg);
    kt_same("swiglu_bwd", over_u, du, n * sizeof *du);
    for (size_t i = 0; i < n; i++) {
        double v = (double)g[i], w = (double)u[i], d = (double)dy[i], s = sigmoid(v);
        double b = s * v * (1 - s);
        kt_near("swiglu_bwd", i, dg[i], d * w * (s + b), fabs(d * w) * (s + fabs(b)));
        kt_near("swiglu_bwd", i, du[i], d * v * s, fabs(d * v * s));
    }
}

TEST(swiglu_bwd_matches_float64) { kt_each_size(swiglu_bwd); }

/* NaN comes out where NaN went in, and nowhere else. */
TEST(activations_keep_nan) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        float x[40], y[40], z[40], one[40];
        for (int i = 0; i < 40; i++) {
            x[i] = i % 7 == 3 ? NAN : 0.1f * (float)i;
            one[i] = 1;
        }
        kt.gelu(y, x, 40);
        for (int i = 0; i < 40; i++) EQ(isnan(y[i]) != 0, i % 7 == 3);
        kt.gelu_bwd(y, one, x, 40);
        for (int i = 0; i < 40; i++) EQ(isnan(y[i]) != 0, i % 7 == 3);
        kt.swiglu(y, x, one, 40);
        for (int i = 0; i < 40; i++) EQ(isnan(y[i]) != 0, i % 7 == 3);
        kt.swiglu_bwd(y, z, one, x, one, 40);
        for (int i = 0; i < 40; i++) EQ(isnan(y[i]) && isnan(z[i]), i % 7 == 3);
    }
}

/* ---- dropout ---- */

static void dropout_at(size_t n, uint32_t threshold, uint64_t key, uint64_t hi, uint64_t first) {
    float *x = kt_normals(n, 1), *want = kt_copy(x, n);
    kt.dropout(x, n, threshold, 1.25f, key, hi, first);
    for (size_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_philox(w, key, hi, (first + i) / 4);
        want[i] = w[(first + i) % 4] >= threshold ? want[i] * 1.25f : 0.0f;
    }
    kt_same("dropout", x, want, n * sizeof *x);
}

static void dropout(size_t n) {
    uint64_t key = (uint64_t)kt_u32() << 32 | kt_u32(), hi = (uint64_t)kt_u32() << 32 | kt_u32();
    for (uint64_t first = 0; first < 6; first++) dropout_at(n, 0x33333333u, key, hi, first);
    dropout_at(n, 0, key, hi, 1);
    dropout_at(n, UINT32_MAX, key, hi, 2);
    uint32_t w[4];
    rng_philox(w, key, hi, 3);
    dropout_at(n, w[1], key, hi, 0); /* word 13 is the threshold itself: kept */
    dropout_at(n, 0x80000000u, key, hi,
               ((uint64_t)5 << 34) - n / 2); /* low half of the counter wraps */
    dropout_at(n, 0x80000000u, key, hi, UINT64_MAX - n / 2);
}

TEST(dropout_is_the_stream) { kt_each_size(dropout); }

/* A tensor may be dropped in pieces by several threads. */
TEST(dropout_in_pieces) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(3);
        float *x = kt_normals(1000, 1), *y = kt_copy(x, 1000);
        kt.dropout(x, 1000, 0x40000000u, 2, 11, 22, 33);
        for (size_t i = 0, n; i < 1000; i += n) {
            n = MIN((size_t)kt_int(0, 99), 1000 - i);
            kt.dropout(y + i, n, 0x40000000u, 2, 11, 22, 33 + i);
        }
        kt_same("dropout", y, x, 1000 * sizeof *x);
        size_t zeros = 0;
        for (int i = 0; i < 1000; i++) zeros += x[i] == 0.0f;
        TRUE_(zeros > 190 && zeros < 310);
        kt_free();
    }
}

/* ---- sums ---- */

static void sums(size_t n) {
    float *a = kt_normals(n, 2), *b = kt_normals(n, 2);
    double dot = 0, terms = 0, sq = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        terms += fabs((double)a[i] * (double)b[i]);
        sq += (double)a[i] * (double)a[i];
    }
    kt_near("dot", 0, kt.dot(a, b, n), dot, terms);
    double got = kt.sum_sq(a, n);
    TRUE_(fabs(got - sq) <= kt_rel("sum_sq") * sq);
    kt_near("dot", 0, kt.dot(a, a, n), sq, sq);
}

TEST(dot_and_sum_sq) {
    kt_each_size(sums);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(4);
        sums(300001);
        kt_free();
    }
}

static void check_col_sum(int rows, int n) {
    size_t ldx = (size_t)n + (size_t)kt_int(0, 9),
           len = rows ? (size_t)(rows - 1) * ldx + (size_t)n : 0;
    float *x = kt_normals(len, 1), *y = kt_normals((size_t)n, 1), *y0 = kt_copy(y, (size_t)n);
    kt.col_sum(y, x, ldx, rows, n);
    for (int j = 0; j < n; j++) {
        double want = (double)y0[j], terms = fabs(want);
        for (int i = 0; i < rows; i++) {
            want += (double)x[(size_t)i * ldx + (size_t)j];
            terms += fabs((double)x[(size_t)i * ldx + (size_t)j]);
        }
        kt_near("col_sum", (size_t)j, y[j], want, terms);
    }
}

static void col_sum(size_t n) {
    static const int rows[] = {0, 1, 2, 7, 8, 9, 16, 31};
    for (size_t i = 0; i < COUNT_OF(rows); i++) check_col_sum(rows[i], (int)n);
}

TEST(col_sum_matches_float64) {
    kt_each_size(col_sum);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(8);
        check_col_sum(5000, 33);
        kt_free();
    }
}

/* ---- probes ---- */

TEST(read_is_xor) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t n = 0; n <= 1024; n += 64) {
            kt_start(n);
            uint64_t *p = kt_bytes(n), want = 0;
            for (size_t i = 0; i < n / 8; i++) {
                p[i] = (uint64_t)kt_u32() << 32 | kt_u32();
                want ^= p[i];
            }
            EQ(kt.read(p, n), want);
            kt_free();
        }
    }
}

TEST(fma_peak_counts) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        EQ(kt.fma_peak(0), 0);
        TRUE_(kt.fma_peak(10) > 0);
        EQ(kt.fma_peak(1000), 100 * kt.fma_peak(10));
    }
}
