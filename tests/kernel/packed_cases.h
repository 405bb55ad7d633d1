/* SPDX-License-Identifier: Apache-2.0
 * Packed weights and rounded rows: a group holds the very weights, x is rounded as told, and their product is
 * that of float64, with the same bits at every level and however the work is cut. The file that includes this
 * says which tables are tested: way(i) makes the i-th of WAYS the one under test, false where it cannot run. */
#ifndef INGOT_TESTS_KERNEL_PACKED_CASES_H
#define INGOT_TESTS_KERNEL_PACKED_CASES_H

#include <float.h>

#include "common.h"
#include "kernel/packed.h"

static bool way(int i);

static const DType types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                              DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

typedef struct Case {
    DType t;
    int n, k, m;
    size_t row_bytes, ldx;
    char *w, *packed, *rounded; /* for the level under test */
    float *x;
} Case;

static int groups_of(int n, int R) { return (n + R - 1) / R; }

static char *pack_all(const Kern *k, const Case *c) {
    size_t bytes = pack_group_bytes(c->t, k->pack_rows, c->k);
    int R = k->pack_rows, n = groups_of(c->n, R);
    char *p = kt_bytes((size_t)n * bytes);
    for (int g = 0; g < n; g++)
        k->pack[c->t](p + (size_t)g * bytes, c->w + (size_t)(g * R) * c->row_bytes, c->row_bytes,
                      MIN(R, c->n - g * R), c->k, R);
    return p;
}

static Case make(DType t, int n, int k, int m) {
    Case c = {.t = t, .n = n, .k = k, .m = m};
    c.row_bytes = dtype_bytes(t, (size_t)k);
    c.ldx = (size_t)k + (size_t)kt_int(0, 5);
    c.w = kt_bytes((size_t)n * c.row_bytes);
    kt_blocks(c.w, t, (size_t)n * (size_t)k, false, 0.01f);
    c.x = kt_normals((size_t)(m - 1) * c.ldx + (size_t)k, 1);
    if (k > 0 && kt_int(0, 3) == 0) /* one far outlier, and a block of nothing */
        c.x[kt_int(0, k - 1)] = 1e4f;
    for (int i = 0; k > 64 && i < QK; i++) c.x[QK + i] = 0.0f;
    c.packed = pack_all(&kt, &c);
    c.rounded = kt_bytes(pack_x_bytes(m, k));
    kt.round_x(c.rounded, c.x, c.ldx, m, k, t);
    return c;
}

static void each_case(void (*body)(const Case *c)) {
    static const int rows[] = {1, 15, 16, 33}, ms[] = {1, 2, 4, 8}, blocks[] = {0, 1, 3};
    for (size_t t = 0; t < COUNT_OF(types); t++)
        for (size_t r = 0; r < COUNT_OF(rows); r++)
            for (size_t b = 0; b < COUNT_OF(blocks); b++)
                for (size_t m = 0; m < COUNT_OF(ms); m++) {
                    kt_start(t * 100000 + r * 1000 + b * 10 + m);
                    Case c =
                        make(types[t], rows[r], blocks[b] * dtype_info(types[t])->block, ms[m]);
                    body(&c);
                    kt_free();
                }
}

static void each_level(void (*body)(const Case *c)) {
    for (int l = 0; l < WAYS; l++)
        if (way(l)) each_case(body);
}

/* ---- a group holds the weights ---- */

static void check_unpack(const Case *c) {
    int R = kt.pack_rows;
    size_t ld = (size_t)c->k + 3;
    float *want = kt_floats((size_t)c->k), *got = kt_floats((size_t)(R - 1) * ld + (size_t)c->k);
    for (int g = 0; g < groups_of(c->n, R); g++) {
        const char *group = c->packed + (size_t)g * pack_group_bytes(c->t, R, c->k);
        kt.packed_to_f32[c->t](got, ld, group, 0, c->k, R);
        for (int r = 0; r < R && g * R + r < c->n; r++) {
            kt.to_f32[c->t](want, c->w + (size_t)(g * R + r) * c->row_bytes, (size_t)c->k);
            for (int i = 0; i < c->k; i++) TRUE_(got[(size_t)r * ld + (size_t)i] == want[i]);
        }
        for (int k0 = 0; k0 < c->k; k0 += QK) { /* a part is the same part of the whole */
            float part[16 * QK];
            kt.packed_to_f32[c->t](part, QK, group, k0, QK, R);
            for (int r = 0; r < R; r++)
                kt_same("packed_to_f32 part", part + r * QK, got + (size_t)r * ld + k0,
                        QK * sizeof(float));
        }
    }
}

TEST(a_packed_group_holds_the_weights) { each_level(check_unpack); }

/* ---- rounding ---- */

static void check_round(const Case *c) {
    Kern ref = kt_ref();
    char *want = kt_bytes(pack_x_bytes(c->m, c->k));
    ref.round_x(want, c->x, c->ldx, c->m, c->k, c->t);
    kt_same("round_x", c->rounded, want, pack_x_bytes(c->m, c->k));
}

TEST(rounding_has_the_same_bits_at_every_level) { each_level(check_round); }

/* A row of 32: what is in the record, element by element. */
TEST(rounding_is_to_the_nearest_of_127_steps) {
    for (int l = 0; l < WAYS; l++) {
        if (!way(l)) continue;
        float x[QK] = {0}, d, sum;
        char rec[PACK_X_BYTES];
        for (int i = 0; i < QK; i++) x[i] = (float)(i - 16) * 0.3f;
        kt.round_x(rec, x, QK, 1, QK, DT_Q6_K);
        int total[2] = {0, 0}, z[2];
        memcpy(&d, rec + 32, 4);
        memcpy(&sum, rec + 36, 4);
        memcpy(z, rec + 40, 8);
        NEAR(d, 4.8 / 127, 1e-8);
        for (int i = 0; i < QK; i++) {
            EQ(rec[i], (int)lrint((double)x[i] * 127 / 4.8));
            total[i / 16] += rec[i];
        }
        EQ(z[0], -32 * total[0]);
        EQ(z[1], -32 * total[1]);
        TRUE_(sum == d * (float)(total[0] + total[1]));
    }
}

TEST(rounding_of_what_is_not_finite_gives_nan) {
    const float bad[] = {INFINITY, -INFINITY, NAN};
    for (int l = 0; l < WAYS; l++) {
        if (!way(l)) continue;
        for (size_t i = 0; i < COUNT_OF(bad); i++) {
            kt_start(5);
            Case c = make(DT_Q4_0, 16, 96, 2);
            float y[32], before[32];
            kt.packed_dot[c.t](before, 16, c.packed, c.rounded, 2, 16, 96);
            c.x[70] = bad[i];
            kt.round_x(c.rounded, c.x, c.ldx, 2, 96, c.t);
            kt.packed_dot[c.t](y, 16, c.packed, c.rounded, 2, 16, 96);
            for (int j = 0; j < 16; j++) TRUE_(isnan(y[j]));
            kt_same("the other row", y + 16, before + 16, 16 * sizeof(float));
            kt_free();
        }
    }
}

/* ---- products ---- */

/* x as it was rounded. */
static double x_at(const Case *c, int j, int k) {
    const char *rec = c->rounded + (size_t)(k / QK) * (size_t)c->m * PACK_X_BYTES;
    float d;
    memcpy(&d, rec + c->m * QK + 4 * j, sizeof d);
    return (double)d * (double)(int8_t)rec[j * QK + k % QK];
}

static void check_dot(const Case *c) {
    Kern ref = kt_ref();
    size_t ldy = (size_t)c->n + 3, n_y = (size_t)(c->m - 1) * ldy + (size_t)c->n;
    float *y = kt_floats(n_y), *want = kt_floats(n_y), *w = kt_floats((size_t)c->k);
    char *packed = pack_all(&ref, c);
    for (size_t i = 0; i < n_y; i++) y[i] = want[i] = 12345;
    kt.packed_dot[c->t](y, ldy, c->packed, c->rounded, c->m, c->n, c->k);
    ref.packed_dot[c->t](want, ldy, packed, c->rounded, c->m, c->n, c->k);
    kt_same("packed_dot", y, want, n_y * sizeof *y);
    for (int i = 0; i < c->n; i++) {
        kt.to_f32[c->t](w, c->w + (size_t)i * c->row_bytes, (size_t)c->k);
        for (int j = 0; j < c->m; j++) {
            double sum = 0, terms = 1e-30;
            for (int k = 0; k < c->k; k++) {
                double v = (double)w[k] * x_at(c, j, k);
                sum += v;
                terms += fabs(v) * (pack_kind(c->t).min ? 8 : 1); /* a min is added apart */
            }
            NEAR((double)y[(size_t)j * ldy + (size_t)i], sum, 2e-6 * terms);
        }
    }
}

TEST(packed_products_match_ref_and_float64) { each_level(check_dot); }

/* The largest codes against the largest x of one sign: sums in 16 bits must not overflow. */
TEST(packed_products_of_extremes) {
    for (int l = 0; l < WAYS; l++) {
        if (!way(l)) continue;
        for (size_t t = 0; t < COUNT_OF(types); t++)
            for (int sign = -1; sign <= 1; sign += 2) {
                kt_start(t);
                Case c = make(types[t], 17, 512, 4);
                memset(c.w, types[t] == DT_Q8_0 ? 0x80 : 0xff, (size_t)c.n * c.row_bytes);
                size_t step = (size_t)dtype_info(types[t])->block_bytes;
                int at[2];
                kt_halves(types[t], at);
                for (size_t i = 0; i < (size_t)c.n * c.row_bytes; i += step)
                    for (int h = 0; h < 2; h++)
                        if (at[h] >= 0) memcpy(c.w + i + at[h], &(uint16_t){0x2000}, 2);
                for (size_t i = 0; i < 3 * c.ldx + 512; i++) c.x[i] = (float)sign;
                c.packed = pack_all(&kt, &c);
                kt.round_x(c.rounded, c.x, c.ldx, 4, 512, c.t);
                check_dot(&c);
                kt_free();
            }
    }
}

/* Every row of x alone gives the bits it has among eight. */
static void check_alone(const Case *c) {
    float *all = kt_floats((size_t)(c->m * c->n)), *one = kt_floats((size_t)c->n);
    char *x = kt_bytes(pack_x_bytes(1, c->k));
    kt.packed_dot[c->t](all, (size_t)c->n, c->packed, c->rounded, c->m, c->n, c->k);
    for (int j = 0; j < c->m; j++) {
        kt.round_x(x, c->x + (size_t)j * c->ldx, c->ldx, 1, c->k, c->t);
        kt.packed_dot[c->t](one, (size_t)c->n, c->packed, x, 1, c->n, c->k);
        kt_same("a row alone", one, all + j * c->n, (size_t)c->n * sizeof *one);
    }
}

TEST(packed_products_do_not_depend_on_the_rows_beside) { each_level(check_alone); }

/* ---- what no model should have, and files and activations do ---- */

/* The same bits; of what is no number, that it is none. */
static void same_or_nan(const Case *c, const float *got, const float *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (isnan(got[i]) && isnan(want[i])) continue;
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            FAIL("packed_dot %s at level %s, seed %llu, element %zu: got %g, want %g",
                 dtype_name(c->t), kern_level_name(kt.level), (unsigned long long)kt_seed, i,
                 (double)got[i], (double)want[i]);
    }
}

static void check_strange(Case *c) {
    Kern ref = kt_ref();
    size_t n_y = (size_t)(c->m * c->n);
    float *y = kt_floats(n_y), *want = kt_floats(n_y);
    char *rounded = kt_bytes(pack_x_bytes(c->m, c->k));
    c->packed = pack_all(&kt, c);
    kt.round_x(c->rounded, c->x, c->ldx, c->m, c->k, c->t);
    ref.round_x(rounded, c->x, c->ldx, c->m, c->k, c->t);
    kt_same("round_x", c->rounded, rounded, pack_x_bytes(c->m, c->k));
    kt.packed_dot[c->t](y, (size_t)c->n, c->packed, c->rounded, c->m, c->n, c->k);
    ref.packed_dot[c->t](want, (size_t)c->n, pack_all(&ref, c), rounded, c->m, c->n, c->k);
    same_or_nan(c, y, want, n_y);
}

/* Scales of any bits: infinite ones, NaN, denormals. */
TEST(packed_products_of_any_bytes) {
    for (int l = 0; l < WAYS; l++)
        for (size_t t = 0; way(l) && t < COUNT_OF(types); t++)
            for (uint64_t seed = 0; seed < 8; seed++) {
                kt_start(seed * 10 + t);
                Case c = make(types[t], 33, 3 * dtype_info(types[t])->block, 1 << seed % 4);
                kt_blocks(c.w, c.t, (size_t)(c.n * c.k), true, 0);
                check_strange(&c);
                kt_free();
            }
}

/* Numbers of every size, the largest and the smallest in one row. */
TEST(packed_products_of_any_x) {
    static const float odd[] = {FLT_MAX, -FLT_MAX, FLT_MIN, -FLT_MIN / 3, 1e-45f,  -1e-45f,
                                -0.0f,   INFINITY, NAN,     1e30f,        -1e-37f, 3.8e-37f};
    for (int l = 0; l < WAYS; l++)
        for (size_t t = 0; way(l) && t < COUNT_OF(types); t++)
            for (size_t i = 0; i < COUNT_OF(odd); i++) {
                kt_start(i * 10 + t);
                Case c = make(types[t], 17, 512, 2);
                for (int k = 0; k < 64; k++) c.x[k] = kt_int(0, 1) ? odd[i] : 0.0f;
                for (int k = 64; k < 128; k++) c.x[k] = odd[kt_int(0, 6)];
                check_strange(&c);
                kt_free();
            }
}

#endif
