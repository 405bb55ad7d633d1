/* SPDX-License-Identifier: Apache-2.0
 * Conversions: every bit pattern of the 16-bit types, ties and ends of the f32 side, and blocks against
 * the rules written out once more. */
#include "common.h"

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
