/* SPDX-License-Identifier: Apache-2.0
 * Matrix times 1 to 4 vectors: against float64, and the same bits however the work is cut. */
#include "common.h"

static const DType types[] = {DT_F32,  DT_F16,  DT_BF16, DT_Q8_0, DT_Q4_0, DT_Q4_1,
                              DT_Q5_0, DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

typedef struct Case {
    DType t;
    int n, k, m;
    size_t ldx, ldy, row_bytes;
    char slot[16];
    char *w;
    float *wf, *x, *y; /* wf: the weights as f32 */
} Case;

static size_t at(size_t i, size_t ld, size_t j) { return i * ld + j; }

static Case make(DType t, int n, int k, int m) {
    Case c = {.t = t, .n = n, .k = k, .m = m};
    Kern ref = kt_ref();
    size_t all = (size_t)n * (size_t)k;
    snprintf(c.slot, sizeof c.slot, "gemv %s", dtype_name(t));
    c.ldx = (size_t)k + (size_t)kt_int(0, 5);
    c.ldy = (size_t)n + (size_t)kt_int(0, 5);
    c.row_bytes = dtype_bytes(t, (size_t)k);
    c.wf = kt_normals(all, 0.05f);
    c.w = kt_bytes((size_t)n * c.row_bytes);
    if (dtype_info(t)->is_quantized) kt_blocks(c.w, t, all, false, 0.01f);
    else ref.from_f32[t](c.w, c.wf, all);
    ref.to_f32[t](c.wf, c.w, all);
    /* the last row of x and y has no padding */
    c.x = kt_normals((size_t)(m - 1) * c.ldx + (size_t)k, 1);
    c.y = kt_floats((size_t)(m - 1) * c.ldy + (size_t)n);
    return c;
}

static void check(const Case *c) {
    size_t n_y = (size_t)(c->m - 1) * c->ldy + (size_t)c->n;
    for (size_t i = 0; i < n_y; i++) c->y[i] = 12345;
    kt.gemv[c->t](c->y, c->ldy, c->w, c->x, c->ldx, c->m, c->n, c->k);
    for (size_t j = 0; j < (size_t)c->m; j++) {
        for (size_t i = 0; i < (size_t)c->n; i++) {
            double sum = 0, terms = 0;
            for (size_t k = 0; k < (size_t)c->k; k++) {
                double v = (double)c->wf[at(i, (size_t)c->k, k)] * (double)c->x[at(j, c->ldx, k)];
                sum += v;
                terms += fabs(v);
            }
            kt_near(c->slot, i, c->y[at(j, c->ldy, i)], sum, terms);
        }
        for (size_t i = (size_t)c->n; j + 1 < (size_t)c->m && i < c->ldy; i++) {
            TRUE_(c->y[at(j, c->ldy, i)] == 12345.0f);
        }
    }
}

static void each_shape(void (*body)(DType t, int n, int k, int m)) {
    static const int rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 17};
    static const int cols[] = {0, 1, 5, 15, 16, 17, 31, 32, 33, 49, 64, 100, 257};
    static const int blocks[] = {0, 1, 2, 3, 8, 9, 15, 16, 17, 33, 48};
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        bool quant = dtype_info(types[t])->is_quantized;
        int block = dtype_info(types[t])->block;
        size_t n_k = !quant ? COUNT_OF(cols) : block == QK ? COUNT_OF(blocks) : 5;
        for (size_t r = 0; r < COUNT_OF(rows); r++) {
            for (size_t i = 0; i < n_k; i++) {
                for (int m = 1; m <= 4; m++) {
                    kt_start((uint64_t)(t * 1000000 + r * 10000 + i * 10) + (uint64_t)m);
                    body(types[t], rows[r], quant ? blocks[i] * block : cols[i], m);
                    kt_free();
                }
            }
        }
    }
}

static void check_shape(DType t, int n, int k, int m) {
    Case c = make(t, n, k, m);
    check(&c);
}

TEST(gemv_matches_float64) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (kt_level(l)) each_shape(check_shape);
    }
}

TEST(gemv_long_rows) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t t = 0; t < COUNT_OF(types); t++) {
            for (uint64_t seed = 1; seed <= KT_SEEDS; seed++) {
                kt_start(seed);
                check_shape(types[t], 6, 8960, 3);
                kt_free();
            }
        }
    }
}

/* Weights in [0.5, 1); of blocks with a minimum all positive, of the others half. */
static void one_sign(Case *c) {
    Kern ref = kt_ref();
    size_t all = (size_t)c->n * (size_t)c->k;
    int step = dtype_info(c->t)->block_bytes, at[2];
    kt_halves(c->t, at);
    for (size_t i = 0; i < all; i++) c->wf[i] = 0.5f + 0.5f * kt_uniform(0, 1);
    if (!dtype_info(c->t)->is_quantized) ref.from_f32[c->t](c->w, c->wf, all);
    for (size_t i = 0; dtype_info(c->t)->is_quantized && i < (size_t)c->n * c->row_bytes; i++) {
        int in = (int)(i % (size_t)step), min = in - at[1];
        bool k_min = c->t == DT_Q4_K || c->t == DT_Q5_K;
        if (in == at[0] + 1) c->w[i] = (char)(c->w[i] & 0x7f);
        if (at[1] >= 0 && min == 1) c->w[i] = (char)(k_min ? c->w[i] | 0x80 : c->w[i] & 0x7f);
    }
    ref.to_f32[c->t](c->wf, c->w, all);
}

/* All positive terms: the running sum is as large as it can be. */
TEST(gemv_one_sign) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t t = 0; t < COUNT_OF(types); t++) {
            kt_start(77);
            Case c = make(types[t], 4, 8192, 1);
            for (int k = 0; k < c.k; k++) c.x[k] = 1.0f + fabsf(c.x[k]);
            one_sign(&c);
            check(&c);
            kt_free();
        }
    }
}

/* Rows alone and vectors alone give the bits they have together. */
static void check_cut(DType t, int n, int k, int m) {
    Case c = make(t, n, k, m);
    float one;
    check(&c);
    for (size_t j = 0; j < (size_t)m; j++) {
        for (size_t i = 0; i < (size_t)n; i++) {
            const char *row = c.w + i * c.row_bytes;
            kt.gemv[t](&one, 1, row, c.x + j * c.ldx, c.ldx, 1, 1, k);
            kt_same(c.slot, &one, &c.y[at(j, c.ldy, i)], sizeof one);
        }
    }
}

TEST(gemv_bits_do_not_depend_on_the_cut) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (kt_level(l)) each_shape(check_cut);
    }
}

TEST(gemv_no_rows) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        float x[32] = {0}, y = 3;
        for (size_t t = 0; t < COUNT_OF(types); t++)
            kt.gemv[types[t]](&y, 0, NULL, x, 32, 1, 0, 32);
        TRUE_(y == 3.0f);
    }
}
