/* SPDX-License-Identifier: Apache-2.0
 * Packed matrices as f32, some outputs at a time.
 *
 *   awq   i32 w[cols][rows / 8]: four bits for each output, in the order 0 2 4 6 1 3 5 7
 *         i32 zeros[groups][rows / 8] likewise, scale[groups][rows]; weight = (q - zero) * scale
 *   gptq  i32 w[cols * bits / 32][rows]: each output's column of words is a run of bits, lowest first, with
 *         its inputs in order (so 3 bits may cross from a word into the next)
 *         i32 zeros[groups][rows * bits / 32]: the same along outputs, less one in the first version
 *   nf4   u8 w[rows * cols / 2], first number in the high half; weight = map[q] * absmax[block], where
 *         absmax may be a byte itself: nested_map[byte] * nested[block of blocks] + offset
 *
 * q - zero has at most 9 bits and an f16 scale 11, so these products are exact in f32; those of nf4 are
 * rounded once. Both orders of loops read a line of the file's words once for 16 inputs. */
#include "format/hf_internal.h"
#include "tensor/half.h"

enum { STRIP = 16 }; /* inputs of all outputs that are taken before the next ones */

static uint32_t u32_at(const uint8_t *p, size_t i) {
    uint32_t v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

static float f32_at(const uint8_t *p, size_t i) { return half_f32_from_bits(u32_at(p, i)); }

static float scale_at(const HfPacked *p, size_t i) {
    uint16_t h;
    if (p->scale_type == DT_F32) return f32_at(p->scale, i);
    memcpy(&h, p->scale + 2 * i, sizeof h);
    return p->scale_type == DT_F16 ? half_f16_to_f32(h) : half_bf16_to_f32(h);
}

/* Number i of a run of `bits` wide ones, whose words are `step` words apart. */
static int bits_at(const uint8_t *words, size_t step, size_t i, int bits) {
    size_t at = i * (size_t)bits, word = at / 32, off = at % 32;
    uint32_t v = u32_at(words, word * step) >> off;
    if (off + (size_t)bits > 32) v |= u32_at(words, (word + 1) * step) << (32 - off);
    return (int)(v & ((1u << bits) - 1));
}

/* Output j's four bits of a row of words. */
static int awq_at(const uint8_t *words, size_t j) {
    static const uint8_t place[8] = {0, 16, 4, 20, 8, 24, 12, 28};
    return (int)(u32_at(words, j / 8) >> place[j % 8] & 15);
}

static int zero_at(const HfPacked *p, size_t g, size_t j) {
    size_t n = (size_t)p->rows;
    if (!p->zeros) return p->zero_add;
    if (p->scheme == HF_AWQ) return awq_at(p->zeros + g * (n / 8) * 4, j) + p->zero_add;
    return bits_at(p->zeros + g * (n * (size_t)p->bits / 32) * 4, 1, j, p->bits) + p->zero_add;
}

static size_t group_of(const HfPacked *p, size_t i) {
    return p->index ? u32_at(p->index, i) : i / (size_t)p->group;
}

static void unpack_strip(const HfPacked *p, float *y, const uint32_t *row, size_t n, size_t from,
                         size_t to, const float *scale, const float *zero) {
    size_t cols = (size_t)p->cols, rows = (size_t)p->rows, group[STRIP];
    for (size_t i = from; i < to; i++) group[i - from] = group_of(p, i) * n;
    for (size_t k = 0; k < n; k++) {
        const uint8_t *column = p->w + 4 * (size_t)row[k]; /* of gptq */
        for (size_t i = from; i < to; i++) {
            int q = p->scheme == HF_AWQ ? awq_at(p->w + i * (rows / 8) * 4, row[k])
                                        : bits_at(column, rows, i, p->bits);
            size_t t = group[i - from] + k;
            y[k * cols + i] = ((float)q - zero[t]) * scale[t];
        }
    }
}

static void unpack_groups(const HfPacked *p, float *y, const uint32_t *row, size_t n, float *work) {
    size_t cols = (size_t)p->cols, groups = (size_t)p->n_groups;
    float *scale = work, *zero = work + groups * n; /* [groups][n] */
    for (size_t g = 0; g < groups; g++)
        for (size_t k = 0; k < n; k++) {
            scale[g * n + k] = scale_at(p, g * (size_t)p->rows + row[k]);
            zero[g * n + k] = (float)zero_at(p, g, row[k]);
        }
    for (size_t i = 0; i < cols; i += STRIP)
        unpack_strip(p, y, row, n, i, MIN(i + STRIP, cols), scale, zero);
}

/* ---- blocks ---- */

static float absmax_at(const HfPacked *p, size_t block) {
    if (p->nested_block == 0) return f32_at(p->absmax, block);
    float product = f32_at(p->nested_map, p->absmax[block]) *
                    f32_at(p->nested, block / (size_t)p->nested_block);
    return product + p->offset;
}

static void unpack_blocks(const HfPacked *p, float *y, size_t first, size_t n) {
    size_t block = (size_t)p->block;
    for (size_t i = first, end; i < first + n; i = end) {
        float scale = absmax_at(p, i / block);
        end = MIN((i / block + 1) * block, first + n);
        for (size_t k = i; k < end; k++) *y++ = p->map[p->w[k / 2] >> (k % 2 ? 0 : 4) & 15] * scale;
    }
}

/* ---- both ---- */

size_t hf__unpack_work(const HfPacked *p, size_t n) {
    return p->scheme == HF_BNB ? 0 : 2 * (size_t)p->n_groups * n;
}

void hf__unpack(const HfPacked *p, float *y, const uint32_t *row, size_t n, float *work) {
    size_t cols = (size_t)p->cols;
    if (p->scheme != HF_BNB) {
        unpack_groups(p, y, row, n, work);
        return;
    }
    for (size_t k = 0; k < n; k++) unpack_blocks(p, y + k * cols, row[k] * cols, cols);
}
