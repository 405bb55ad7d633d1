/* SPDX-License-Identifier: Apache-2.0
 * Conversions: every bit pattern of the 16-bit types, ties and ends of the f32 side, and blocks against
 * the rules written out once more. */
#include "common.h"
#include "kernel/quant_inputs.h"

static const char *slot_name(const char *what, DType t) {
    static char name[32];
    snprintf(name, sizeof name, "%s %s", what, dtype_name(t));
    return name;
}

/* ---- 16-bit types ---- */

static double f16_value(uint16_t h) {
    int e = (h >> 10) & 31, m = h & 1023;
    double v = e == 0 ? ldexp(m, -24) : ldexp(1024 + m, e - 25);
    return (h & 0x8000) ? -v : v;
}

TEST(f16_and_bf16_to_f32_every_pattern) {
    enum { N = 65536 };
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        uint16_t *h = kt_bytes(N * sizeof *h);
        float *y = kt_floats(N);
        for (int i = 0; i < N; i++) h[i] = (uint16_t)i;
        kt.to_f32[DT_F16](y, h, N);
        for (int i = 0; i < N; i++) {
            EQ(half_f32_bits(y[i]), half_f32_bits(half_f16_to_f32((uint16_t)i)));
            if (((i >> 10) & 31) != 31) TRUE_((double)y[i] == f16_value((uint16_t)i));
        }
        kt.to_f32[DT_BF16](y, h, N);
        for (int i = 0; i < N; i++) EQ(half_f32_bits(y[i]), (uint32_t)i << 16);
        kt_free();
    }
}

/* Bit patterns where rounding and special cases happen: around every f16 and bf16 value, halfway to the
 * next, and NaNs of all kinds. */
static size_t hard_patterns(uint32_t *u) {
    size_t n = 0;
    for (uint32_t i = 0; i < 65536; i++) {
        uint32_t f = half_f32_bits(half_f16_to_f32((uint16_t)i)), b = i << 16;
        uint32_t list[] = {f, f + 0xfff,  f + 0x1000, f + 0x1001, f - 1,
                           b, b + 0x7fff, b + 0x8000, b + 0x8001};
        for (size_t j = 0; j < COUNT_OF(list); j++) u[n++] = list[j];
    }
    for (int i = 0; i < 100000; i++) u[n++] = kt_u32();
    for (uint32_t i = 0; i < 4096; i++)
        u[n++] = 0x33000000u - 2048 + i; /* about half the least f16 */
    return n;
}

TEST(f16_and_bf16_from_f32_hard_patterns) {
    enum { MAX = 65536 * 9 + 100000 + 4096 };
    uint32_t *u = malloc(MAX * sizeof *u);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(5);
        size_t n = hard_patterns(u);
        float *x = kt_floats(n);
        uint16_t *h = kt_bytes(n * sizeof *h), *b = kt_bytes(n * sizeof *b);
        memcpy(x, u, n * sizeof *x);
        kt.from_f32[DT_F16](h, x, n);
        kt.from_f32[DT_BF16](b, x, n);
        for (size_t i = 0; i < n; i++) {
            if (h[i] != half_f32_to_f16(x[i])) FAIL("f16 of %08x: %04x", (unsigned)u[i], h[i]);
            if (b[i] != half_f32_to_bf16(x[i])) FAIL("bf16 of %08x: %04x", (unsigned)u[i], b[i]);
        }
        kt_free();
    }
    free(u);
}

/* The definition itself: the nearest value, and of two the even one. */
TEST(f16_from_f32_is_nearest_even) {
    kt_start(6);
    for (int i = 0; i < 200000; i++) {
        float x = half_f32_from_bits(0x33000000u + kt_u32() % (0x477fe000u - 0x33000000u));
        uint16_t h = half_f32_to_f16(x);
        double here = fabs((double)x - f16_value(h));
        TRUE_(here <= fabs((double)x - f16_value((uint16_t)(h + 1))) || h == 0x7bff);
        TRUE_(h == 0 || here <= fabs((double)x - f16_value((uint16_t)(h - 1))));
        if (h > 0 && here == fabs((double)x - f16_value((uint16_t)(h - 1)))) EQ(h & 1, 0);
    }
}

static void plain_lengths(size_t n) {
    static const DType types[] = {DT_F32, DT_F16, DT_BF16};
    Kern ref = kt_ref();
    float *x = kt_normals(n, 2), *y = kt_floats(n), *yr = kt_floats(n);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        DType t = types[i];
        size_t bytes = dtype_bytes(t, n);
        void *q = kt_bytes(bytes), *qr = kt_bytes(bytes);
        kt.from_f32[t](q, x, n);
        ref.from_f32[t](qr, x, n);
        kt_same(slot_name("from_f32", t), q, qr, bytes);
        kt.to_f32[t](y, q, n);
        ref.to_f32[t](yr, q, n);
        kt_same(slot_name("to_f32", t), y, yr, n * sizeof *y);
        for (size_t j = 0; j < n; j++) NEAR(y[j], x[j], fabs((double)x[j]) / 128 + 1e-7);
    }
}

TEST(plain_types_odd_lengths) { kt_each_size(plain_lengths); }

/* ---- blocks ---- */

/* The rules of the formats, in the words of their definition. */
static void rule_q8_0(BlockQ8_0 *b, const float *x) {
    float amax = 0;
    for (int j = 0; j < QK; j++) {
        if (fabsf(x[j]) > amax) amax = fabsf(x[j]);
    }
    float d = amax / 127, id = d != 0 ? 1 / d : 0;
    b->d = half_f32_to_f16(d);
    for (int j = 0; j < QK; j++) {
        float v = x[j] * id;
        double whole = floor(fabs((double)v) + 0.5); /* exact in f64 */
        b->qs[j] = (int8_t)(isfinite(v) ? (v < 0 ? -whole : whole) : 0);
    }
}

static int rule_nibble(float x, float id) {
    float v = x * id;
    v += 8.5f;
    if (!isfinite(v)) return 0;
    return MIN(15, (int)v);
}

static void rule_q4_0(BlockQ4_0 *b, const float *x) {
    int at = -1;
    for (int j = 0; j < QK; j++) {
        if (x[j] != 0 && (at < 0 || fabsf(x[j]) > fabsf(x[at]))) at = j;
    }
    float d = (at < 0 ? 0.0f : x[at]) / -8, id = d != 0 ? 1 / d : 0;
    b->d = half_f32_to_f16(d);
    for (int j = 0; j < QK / 2; j++) {
        int lo = rule_nibble(x[j], id), hi = rule_nibble(x[j + QK / 2], id);
        b->qs[j] = (uint8_t)(lo | hi << 4);
    }
}

/* Both block types at the level under test against the rules; and back to f32. */
static void check_blocks(const float *x, size_t n_block) {
    size_t n = n_block * QK;
    BlockQ8_0 *q8 = kt_bytes(n_block * sizeof *q8);
    BlockQ4_0 *q4 = kt_bytes(n_block * sizeof *q4);
    float *y8 = kt_floats(n), *y4 = kt_floats(n);
    kt.from_f32[DT_Q8_0](q8, x, n);
    kt.from_f32[DT_Q4_0](q4, x, n);
    kt.to_f32[DT_Q8_0](y8, q8, n);
    kt.to_f32[DT_Q4_0](y4, q4, n);
    for (size_t i = 0; i < n_block; i++) {
        BlockQ8_0 r8;
        BlockQ4_0 r4;
        rule_q8_0(&r8, x + i * QK);
        rule_q4_0(&r4, x + i * QK);
        kt_same("from_f32 q8_0", &q8[i], &r8, sizeof r8);
        kt_same("from_f32 q4_0", &q4[i], &r4, sizeof r4);
        for (size_t j = 0; j < QK; j++) {
            float d8 = half_f16_to_f32(r8.d), d4 = half_f16_to_f32(r4.d);
            float w8 = d8 * (float)r8.qs[j];
            float w4 = d4 * (float)((j < 16 ? r4.qs[j] & 15 : r4.qs[j - 16] >> 4) - 8);
            if (!isnan(w8)) EQ(half_f32_bits(y8[i * QK + j]), half_f32_bits(w8));
            if (!isnan(w4)) EQ(half_f32_bits(y4[i * QK + j]), half_f32_bits(w4));
        }
    }
}

/* kind picks what a block holds. */
static void fill_block(float *x, int kind) {
    static const float scales[] = {1, 1e-3f, 1e4f, 1e-30f, 1e-38f, 3e-39f, 1e-43f, 3e38f, 65504};
    float s = scales[kt_u32() % COUNT_OF(scales)];
    kt_normal(x, QK, 1);
    for (int j = 0; j < QK; j++) {
        x[j] = fmaxf(-1, fminf(1, x[j] / 4)) * s;
        if (kind == 1) x[j] = (float)(kt_int(-254, 254)) * 0.5f;         /* halves of d = 1 */
        if (kind == 2) x[j] = (float)(kt_int(-16, 16)) * 0.5f;           /* halves of d = 1 */
        if (kind == 3) x[j] = half_f32_from_bits(kt_u32() & 0x807fffff); /* denormals */
        if (kind == 4) x[j] = kt_u32() & 1 ? 0.0f : -0.0f;
        if (kind == 5) x[j] = j % 3 ? 0.0f : s;
        if (kind == 6)
            x[j] = kt_u32() & 1 ? 0.75f : -0.75f; /* equal magnitudes: the first decides */
        if (kind == 7) x[j] = half_f32_from_bits((half_f32_bits(0.5f) - 2 + kt_u32() % 5));
    }
    if (kind == 1) x[kt_int(0, 31)] = 127;
    if (kind == 2) x[kt_int(0, 31)] = kt_u32() & 1 ? 8 : -8;
    if (kind == 7) x[kt_int(0, 31)] = 127; /* 1 / d = 1: elements just around one half */
}

TEST(blocks_match_the_rules) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (uint64_t seed = 1; seed <= 40; seed++) {
            kt_start(seed);
            size_t n_block = (size_t)kt_int(1, 19);
            float *x = kt_floats(n_block * QK);
            for (size_t i = 0; i < n_block; i++) fill_block(x + i * QK, (int)(i % 9));
            check_blocks(x, n_block);
            kt_free();
        }
    }
}

TEST(zero_blocks) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        float x[QK] = {0};
        BlockQ4_0 b;
        kt.from_f32[DT_Q4_0](&b, x, QK);
        EQ(b.d, 0x8000); /* 0 / -8 */
        for (int j = 0; j < QK / 2; j++) EQ(b.qs[j], 0x88);
        kt.from_f32[DT_Q4_0](NULL, NULL, 0);
        kt.from_f32[DT_Q8_0](NULL, NULL, 0);
        kt.to_f32[DT_Q4_0](NULL, NULL, 0);
        kt.to_f32[DT_Q8_0](NULL, NULL, 0);
    }
}

/* Every byte and every kind of scale, as a foreign file may hold them. */
TEST(blocks_of_any_bytes_to_f32) {
    enum { N = 64 };
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        kt_start(9);
        Kern ref = kt_ref();
        for (int round = 0; round < 50; round++) {
            BlockQ8_0 *q8 = kt_bytes(N * sizeof *q8);
            BlockQ4_0 *q4 = kt_bytes(N * sizeof *q4);
            for (size_t i = 0; i < N * sizeof *q8; i++) ((uint8_t *)q8)[i] = (uint8_t)kt_u32();
            for (size_t i = 0; i < N * sizeof *q4; i++) ((uint8_t *)q4)[i] = (uint8_t)kt_u32();
            float *y = kt_floats(N * QK), *yr = kt_floats(N * QK);
            kt.to_f32[DT_Q8_0](y, q8, N * QK);
            ref.to_f32[DT_Q8_0](yr, q8, N * QK);
            kt_same("to_f32 q8_0", y, yr, N * QK * sizeof *y);
            kt.to_f32[DT_Q4_0](y, q4, N * QK);
            ref.to_f32[DT_Q4_0](yr, q4, N * QK);
            kt_same("to_f32 q4_0", y, yr, N * QK * sizeof *y);
            kt_free();
        }
    }
}

/* ---- every block type, with and without importance ---- */

/* Of llama.cpp's bytes, folded to 32 bits; kinds of rows x kinds of weights, see quant_inputs.h. Made by
 * tests/peers/quant_rows.sh --hashes. */
static const uint32_t hashes[COUNT_OF(qi_types)][QI_KINDS * QI_WEIGHTS] = {
    {0x0b870c9a, 0x0b870c9a, 0x0b870c9a, 0x0b870c9a, 0xa117bedc, 0xa117bedc,
     0xa117bedc, 0xa117bedc, 0x49395eee, 0x49395eee, 0x49395eee, 0x49395eee,
     0x387740b0, 0x387740b0, 0x387740b0, 0x387740b0, 0xe3bc6547, 0xe3bc6547,
     0xe3bc6547, 0xe3bc6547, 0x3983e046, 0x3983e046, 0x3983e046, 0x3983e046}, /* q8_0 */
    {0xcfc0e45d, 0xe2db1f56, 0xd79b2f88, 0x4eb5555c, 0x13c3f97c, 0x52c7d20e,
     0x615e3b0a, 0x37a5d079, 0x77c0def7, 0xb49831a6, 0x227d32ae, 0xa1cd82a2,
     0x64da1582, 0x192d37c8, 0xe0c81e08, 0xe104e580, 0xa265e61d, 0x4b3ef48f,
     0x8db543b2, 0x95962f60, 0xc96310a8, 0xc3c07832, 0x55aaf26f, 0x79e9141e}, /* q4_0 */
    {0x33827038, 0x7b250fd5, 0x1169ad8d, 0x0a67f45b, 0xbf56e0c9, 0x1a4f9c90,
     0x3276f6be, 0xed4cce29, 0xcf30ddc2, 0x8da8598f, 0x8da8598f, 0x8da8598f,
     0x12e18fdd, 0x84abe1f4, 0xbb6c46f3, 0x75b02c70, 0xf3f41be6, 0x3719cd3a,
     0x76e3560e, 0xc0fb7163, 0xc87cd7e0, 0x2c8d6da6, 0x31987554, 0x6cc64e3f}, /* q4_1 */
    {0x4b435820, 0xeaa83a7f, 0x6ce48991, 0x9ac4f36b, 0xa7175127, 0x5be64227,
     0x799746e3, 0x125c22b8, 0x5593a03a, 0x095dbff7, 0x0ae3fd2f, 0x23905bd7,
     0xb214aab7, 0xa4484db0, 0x80d01e4c, 0x00fdca8f, 0x73a5918d, 0x8c6fe4f1,
     0x11376141, 0x51e71872, 0x058a1dbd, 0xa4ddc07a, 0xc5ac9d7d, 0xfbd82722}, /* q5_0 */
    {0x17115c86, 0x90bc2229, 0x980bd6b7, 0x3c0f023b, 0xc280e905, 0xc3c7f935,
     0xf5dbcc1b, 0x7ce6b930, 0x23497c18, 0x514fe98b, 0xe73df38c, 0x526fc2f8,
     0xcb388aea, 0x01a846de, 0x29c43039, 0x270aa748, 0x389438be, 0x0845ffdb,
     0x653222a1, 0x3035539b, 0x43e49f4b, 0x2ac0e142, 0x61cfeb5e, 0x300432fe}, /* q5_1 */
    {0x8625b6df, 0x0104fe30, 0x52146720, 0xb919da8f, 0x89150a4e, 0x8410d23c,
     0xec9f1d22, 0x796a7267, 0xf8924805, 0x7788f355, 0xe1b0a45c, 0x9b31a92f,
     0xf43edfea, 0x23b58a5b, 0x09ee66b5, 0x1e33d51c, 0xe2667292, 0x1cae5222,
     0x3cd6cdf6, 0xd86c3705, 0x7a4db2f8, 0x16773e29, 0x784fe75d, 0xb3dffb57}, /* q4_K */
    {0xf3287c20, 0xb0e7cb0f, 0xa666567e, 0x6b70226c, 0xfe88ddbc, 0x72f857ef,
     0xa029e73a, 0x70047d75, 0xff12b7bb, 0x87969b77, 0xd9a47671, 0xb3fdfa59,
     0x38b32897, 0x43a194fe, 0x2376df72, 0x33cfeaf3, 0xe26ddc63, 0x638867f0,
     0x701c1990, 0x71fccc95, 0xd2cfd26d, 0xd74e46c2, 0xa1b0a12c, 0xfcb6c455}, /* q5_K */
    {0x6e523243, 0xffda80d1, 0xfdca8536, 0xa08e7521, 0xbb101df7, 0x2e1021d0,
     0x8ba30a82, 0xcd53ce0b, 0xfaaf476e, 0xfaaf476e, 0xc00f32af, 0x3c024f4f,
     0x523f8c03, 0x571ca221, 0xfd889514, 0x930d630b, 0xab83e83b, 0x64057576,
     0xd94c7dae, 0x01b1071f, 0x42b2e5b9, 0xbcd41599, 0x25ea6480, 0x6a93403a}, /* q6_K */
};

TEST(blocks_have_the_published_bytes) {
    static float x[QI_N], w[QI_COLS];
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (int i = 0; i < QI_KINDS * QI_WEIGHTS; i++) {
            const float *pw = i % QI_WEIGHTS ? w : NULL;
            qi_rows(x, i / QI_WEIGHTS);
            qi_weights(w, i % QI_WEIGHTS);
            for (size_t t = 0; t < COUNT_OF(qi_types); t++) {
                size_t bytes = dtype_bytes(qi_types[t], QI_N);
                uint8_t *y = kt_bytes(bytes);
                kt.quant[qi_types[t]](y, x, pw, QI_ROWS, QI_COLS);
                uint64_t h = qi_hash(y, bytes);
                if ((uint32_t)(h ^ h >> 32) != hashes[t][i])
                    FAIL("quant %s, rows %d, weights %d", dtype_name(qi_types[t]), i / QI_WEIGHTS,
                         i % QI_WEIGHTS);
                if (!pw) {
                    kt.from_f32[qi_types[t]](y, x, QI_N);
                    EQ(qi_hash(y, bytes), h);
                }
                kt_free();
            }
        }
    }
}

/* Rows of every number of blocks, as many as leave lanes empty; arrays that end at a page's end. */
TEST(any_number_of_rows_and_blocks_is_refs) {
    Kern ref = kt_ref();
    for (int l = 1; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (uint64_t seed = 1; seed <= 48; seed++) {
            kt_start(seed);
            DType t = qi_types[seed % COUNT_OF(qi_types)];
            size_t cols = (size_t)(dtype_info(t)->block * kt_int(1, 5)),
                   rows = (size_t)kt_int(1, 35);
            float *x = kt_normals(rows * cols, 0.02f), *w = kt_floats(cols);
            for (size_t i = 0; i < cols; i++) w[i] = kt_uniform(0, 4);
            size_t bytes = dtype_bytes(t, rows * cols);
            uint8_t *y = kt_bytes(bytes), *yr = kt_bytes(bytes);
            kt.quant[t](y, x, w, rows, cols);
            ref.quant[t](yr, x, w, rows, cols);
            kt_same("quant", y, yr, bytes);
            kt.from_f32[t](y, x, rows * cols);
            ref.from_f32[t](yr, x, rows * cols);
            kt_same("from_f32", y, yr, bytes);
            kt_free();
        }
    }
}

/* The decoded values are near, whatever the type: what a block costs in bits bounds its error. */
TEST(blocks_decode_to_what_they_were) {
    static const double within[] = {0.007, 0.09, 0.09, 0.045, 0.045, 0.09, 0.045, 0.02};
    static float x[QI_N], y[QI_N];
    static uint8_t b[QI_N * 2];
    qi_rows(x, 0);
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t t = 0; t < COUNT_OF(qi_types); t++) {
            double err = 0, sum = 0;
            kt.from_f32[qi_types[t]](b, x, QI_N);
            kt.to_f32[qi_types[t]](y, b, QI_N);
            for (int i = 0; i < QI_N; i++) {
                err += pow((double)x[i] - (double)y[i], 2);
                sum += pow((double)x[i], 2);
            }
            if (!(sqrt(err / sum) < within[t]))
                FAIL("%s: relative error %g", dtype_name(qi_types[t]), sqrt(err / sum));
        }
    }
}

static void levels_by_definition(double out[6], const float *x, const float *w, int n, float s,
                                 float min, int lo, int hi) {
    memset(out, 0, 6 * sizeof *out);
    for (int i = 0; i < n; i++) {
        double v = s != 0 ? rint(((double)x[i] + (double)min) / (double)s) : 0;
        double l = fmin(hi, fmax(lo, v)), diff = (double)s * l - (double)min - (double)x[i];
        out[0] += (double)w[i] * l;
        out[1] += (double)w[i] * l * l;
        out[2] += (double)w[i] * l * (double)x[i];
        out[3] += (double)w[i] * (double)x[i];
        out[4] += (double)w[i];
        out[5] += (double)w[i] * diff * diff;
    }
}

TEST(levels_for_given_scales) {
    Kern ref = kt_ref();
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (uint64_t seed = 1; seed <= 40; seed++) {
            kt_start(seed);
            int n = seed % 2 ? 16 : 32, lo = seed % 3 ? 0 : -32, hi = 31;
            float *x = kt_normals((size_t)n, 1), *w = kt_floats((size_t)n), got[5], want[5];
            float s = seed % 7 ? 0.0717f : 0.0f, min = lo ? 0 : 1.3f;
            double d[6];
            for (int i = 0; i < n; i++) w[i] = kt_uniform(0, 2);
            kt.level_sums(got, x, w, n, s, min, lo, hi);
            ref.level_sums(want, x, w, n, s, min, lo, hi);
            kt_same("level_sums", got, want, sizeof got);
            float error = kt.level_error(x, w, n, s, min, lo, hi);
            EQ(half_f32_bits(error), half_f32_bits(ref.level_error(x, w, n, s, min, lo, hi)));
            levels_by_definition(d, x, w, n, s, min, lo, hi);
            NEAR(error, d[5], 1e-5 * d[5] + 1e-6);
            for (int i = 0; i < 5; i++) NEAR(got[i], d[i], 2e-2 * fabs(d[1]) + 1e-4);
            kt_free();
        }
    }
}
