/* SPDX-License-Identifier: Apache-2.0
 * f32 to blocks of 32, by definition: the rules of the format's reference quantizer, so that files come out
 * byte for byte equal. All arithmetic in f32; the scale is used before it is rounded to f16.
 *
 *   q8_0        d = max|x| / 127, q = round(x / d), halves away from zero
 *   q4_0, q5_0  d = m / -8 (-16), m the element of largest magnitude (the first of equals) with its sign,
 *               q = floor(x / d + 8.5) (16.5), at most 15 (31)
 *   q4_1, q5_1  m = min x, d = (max x - m) / 15 (31), q = floor((x - m) / d + 0.5)
 *
 * x / d is computed as x * (1 / d). Where d is so small that 1 / d overflows, x * (1 / d) has no value that
 * fits; q is then 0, as in the reference.
 *
 * With importance w per column (not q8_0) scales are searched for (kernel/quant_fit.h), each element
 * weighing w sqrt(mean square of its row + x^2). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernel/internal.h"
#include "kernel/quant_pack.h"
#include "tensor/half.h"

const FitSteps kern_fit_weighted = {.first = -0.9f, .step = 0.05f, .last = 36};

/* v as an integer when it is within the range of q, else 0. */
static int to_int_or_0(float v) { return v > -256.0f && v < 256.0f ? (int)v : 0; }

/* ---- without weights ---- */

static void q8_0_block(BlockQ8_0 *b, const float *x) {
    float amax = 0.0f;
    for (int j = 0; j < QK; j++) amax = fmaxf(amax, fabsf(x[j]));
    float d = amax / 127.0f, id = d != 0.0f ? 1.0f / d : 0.0f;
    b->d = half_f32_to_f16(d);
    for (int j = 0; j < QK; j++) b->qs[j] = (int8_t)to_int_or_0(roundf(x[j] * id));
}

/* Integers 0 .. 2 half - 1; returns the scale. */
static float plain_symmetric(uint8_t q[QK], const float *x, int half) {
    float amax = 0.0f, max = 0.0f;
    for (int j = 0; j < QK; j++) {
        if (fabsf(x[j]) <= amax) continue;
        amax = fabsf(x[j]);
        max = x[j];
    }
    float d = max / -(float)half, id = d != 0.0f ? 1.0f / d : 0.0f;
    for (int j = 0; j < QK; j++) {
        int v = to_int_or_0(x[j] * id + ((float)half + 0.5f));
        q[j] = (uint8_t)MIN(v, 2 * half - 1);
    }
    return d;
}

/* Integers 0 .. top; returns the scale. */
static float plain_affine(uint8_t q[QK], float *min, const float *x, int top) {
    float max = -FLT_MAX;
    *min = FLT_MAX;
    for (int j = 0; j < QK; j++) {
        if (x[j] < *min) *min = x[j];
        if (x[j] > max) max = x[j];
    }
    float d = (max - *min) / (float)top, id = d != 0.0f ? 1.0f / d : 0.0f;
    for (int j = 0; j < QK; j++) q[j] = (uint8_t)MIN(to_int_or_0((x[j] - *min) * id + 0.5f), top);
    return d;
}

/* ---- with weights ---- */

static float mean_square(const float *x, size_t n) {
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum / (float)n;
}

static void element_weights(float out[QK], const float *x, const float *w, float square) {
    for (int j = 0; j < QK; j++) out[j] = w[j] * sqrtf(square + x[j] * x[j]);
}

static float block_symmetric(uint8_t q[QK], const float *x, const float *w, float square,
                             int half) {
    float ew[QK];
    if (!w) return plain_symmetric(q, x, half);
    element_weights(ew, x, w, square);
    return kern_ref_fit_symmetric(q, x, ew, QK, half);
}

static float block_affine(uint8_t q[QK], float *min, const float *x, const float *w, float square,
                          int top) {
    float ew[QK], minus;
    if (!w) return plain_affine(q, min, x, top);
    element_weights(ew, x, w, square);
    float d = kern_ref_fit_affine(q, &minus, x, ew, QK, top, &kern_fit_weighted);
    *min = -minus;
    return d;
}

/* ---- blocks: `square` is the mean square of the row, where there are weights ---- */

static void q8_0_one(void *y, const float *x, const float *w, float square) {
    (void)w;
    (void)square;
    q8_0_block(y, x);
}

static void q4_0_one(void *y, const float *x, const float *w, float square) {
    BlockQ4_0 *b = y;
    uint8_t q[QK];
    b->d = half_f32_to_f16(block_symmetric(q, x, w, square, 8));
    pack_nibbles(b->qs, q);
}

static void q5_0_one(void *y, const float *x, const float *w, float square) {
    BlockQ5_0 *b = y;
    uint8_t q[QK];
    b->d = half_f32_to_f16(block_symmetric(q, x, w, square, 16));
    pack_nibbles(b->qs, q);
    pack_fifths(b->qh, q);
}

static void q4_1_one(void *y, const float *x, const float *w, float square) {
    BlockQ4_1 *b = y;
    uint8_t q[QK];
    float min;
    b->d = half_f32_to_f16(block_affine(q, &min, x, w, square, 15));
    b->m = half_f32_to_f16(min);
    pack_nibbles(b->qs, q);
}

static void q5_1_one(void *y, const float *x, const float *w, float square) {
    BlockQ5_1 *b = y;
    uint8_t q[QK];
    float min;
    b->d = half_f32_to_f16(block_affine(q, &min, x, w, square, 31));
    b->m = half_f32_to_f16(min);
    pack_nibbles(b->qs, q);
    pack_fifths(b->qh, q);
}

/* ---- rows ---- */

typedef void (*BlockFn)(void *y, const float *x, const float *w, float square);

static void rows_of(BlockFn one, size_t bytes, void *y, const float *x, const float *w, size_t rows,
                    size_t cols) {
    char *out = y;
    for (size_t r = 0; r < rows; r++, x += cols) {
        float square = w ? mean_square(x, cols) : 0.0f;
        for (size_t i = 0; i < cols; i += QK, out += bytes)
            one(out, x + i, w ? w + i : NULL, square);
    }
}

static void q8_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q8_0_one, sizeof(BlockQ8_0), y, x, w, rows, cols);
}

static void q8_0_from_f32(void *y, const float *x, size_t n) { q8_0_quant(y, x, NULL, 1, n); }

static void q4_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q4_0_one, sizeof(BlockQ4_0), y, x, w, rows, cols);
}

static void q4_0_from_f32(void *y, const float *x, size_t n) { q4_0_quant(y, x, NULL, 1, n); }

static void q4_1_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q4_1_one, sizeof(BlockQ4_1), y, x, w, rows, cols);
}

static void q4_1_from_f32(void *y, const float *x, size_t n) { q4_1_quant(y, x, NULL, 1, n); }

static void q5_0_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q5_0_one, sizeof(BlockQ5_0), y, x, w, rows, cols);
}

static void q5_0_from_f32(void *y, const float *x, size_t n) { q5_0_quant(y, x, NULL, 1, n); }

static void q5_1_quant(void *y, const float *x, const float *w, size_t rows, size_t cols) {
    rows_of(q5_1_one, sizeof(BlockQ5_1), y, x, w, rows, cols);
}

static void q5_1_from_f32(void *y, const float *x, size_t n) { q5_1_quant(y, x, NULL, 1, n); }

void kern_ref_quant(Kern *k) {
    k->from_f32[DT_Q8_0] = q8_0_from_f32;
    k->from_f32[DT_Q4_0] = q4_0_from_f32;
    k->from_f32[DT_Q4_1] = q4_1_from_f32;
    k->from_f32[DT_Q5_0] = q5_0_from_f32;
    k->from_f32[DT_Q5_1] = q5_1_from_f32;
    k->quant[DT_Q8_0] = q8_0_quant;
    k->quant[DT_Q4_0] = q4_0_quant;
    k->quant[DT_Q4_1] = q4_1_quant;
    k->quant[DT_Q5_0] = q5_0_quant;
    k->quant[DT_Q5_1] = q5_1_quant;
    kern_ref_quant_k(k);
    kern_ref_quant_fit(k);
}
