/* SPDX-License-Identifier: Apache-2.0
 * Matrix times a few vectors, by definition: each row of W is expanded a piece at a time and multiplied
 * in f64. */
#include "kernel/internal.h"

enum { PIECE = 256 }; /* elements expanded at once; a multiple of every block size */

static double row_dot(const Kern *k, DType t, const char *w, const float *x, int n) {
    float piece[PIECE];
    double sum = 0;
    for (int i = 0; i < n; i += PIECE) {
        int len = MIN(PIECE, n - i);
        k->to_f32[t](piece, w + dtype_bytes(t, (size_t)i), (size_t)len);
        for (int j = 0; j < len; j++) sum += (double)piece[j] * (double)x[i + j];
    }
    return sum;
}

static void gemv(DType t, float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m,
                 int n, int k) {
    Kern ref;
    kern_ref_convert(&ref);
    size_t row_bytes = dtype_bytes(t, (size_t)k);
    for (int j = 0; j < m; j++) {
        for (int i = 0; i < n; i++) {
            const char *row = (const char *)w + (size_t)i * row_bytes;
            y[(size_t)j * ldy + (size_t)i] = (float)row_dot(&ref, t, row, x + (size_t)j * ldx, k);
        }
    }
}

/* One function of the table for a type. */
#define GEMV(name, type)                                                                     \
    static void name(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m, \
                     int n, int k) {                                                         \
        gemv(type, y, ldy, w, x, ldx, m, n, k);                                              \
    }
GEMV(gemv_f32, DT_F32)
GEMV(gemv_f16, DT_F16)
GEMV(gemv_bf16, DT_BF16)
GEMV(gemv_q8_0, DT_Q8_0)
GEMV(gemv_q4_0, DT_Q4_0)
GEMV(gemv_q4_1, DT_Q4_1)
GEMV(gemv_q5_0, DT_Q5_0)
GEMV(gemv_q5_1, DT_Q5_1)
GEMV(gemv_q4_k, DT_Q4_K)
GEMV(gemv_q5_k, DT_Q5_K)
GEMV(gemv_q6_k, DT_Q6_K)

void kern_ref_gemv(Kern *k) {
    k->gemv[DT_F32] = gemv_f32;
    k->gemv[DT_F16] = gemv_f16;
    k->gemv[DT_BF16] = gemv_bf16;
    k->gemv[DT_Q8_0] = gemv_q8_0;
    k->gemv[DT_Q4_0] = gemv_q4_0;
    k->gemv[DT_Q4_1] = gemv_q4_1;
    k->gemv[DT_Q5_0] = gemv_q5_0;
    k->gemv[DT_Q5_1] = gemv_q5_1;
    k->gemv[DT_Q4_K] = gemv_q4_k;
    k->gemv[DT_Q5_K] = gemv_q5_k;
    k->gemv[DT_Q6_K] = gemv_q6_k;
}
