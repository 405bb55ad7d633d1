/* SPDX-License-Identifier: Apache-2.0
 * Quantized blocks to f32: against the layouts of tensor/blocks.h written out once more, one element at a time;
 * blocks spelled out byte by byte; and the same bits at every level, whatever the bytes are. */
#include "common.h"

static const DType types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                              DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

static const char *slot_name(DType t) {
    static char name[32];
    snprintf(name, sizeof name, "to_f32 %s", dtype_name(t));
    return name;
}

/* ---- one element by the definition ---- */

static unsigned bits(const uint8_t *b, size_t first_bit, int n) {
    unsigned v = 0;
    for (int i = 0; i < n; i++) {
        size_t at = first_bit + (size_t)i;
        v |= (unsigned)(b[at / 8] >> at % 8 & 1) << i;
    }
    return v;
}

/* Nibble e of 32: bytes' low halves, then their high ones. */
static int nibble(const uint8_t *qs, int e) {
    return (int)bits(qs, (size_t)(e % 16 * 8 + e / 16 * 4), 4);
}

static double half(const uint8_t *b) {
    uint16_t h;
    memcpy(&h, b, sizeof h);
    return (double)half_f16_to_f32(h);
}

static double rule_small(DType t, const uint8_t *b, int e) {
    double d = half(b);
    switch ((int)t) {
    case DT_Q8_0: return d * (int8_t)b[2 + e];
    case DT_Q4_0: return d * (nibble(b + 2, e) - 8);
    case DT_Q4_1: return d * nibble(b + 4, e) + half(b + 2);
    case DT_Q5_0: return d * (nibble(b + 6, e) + 16 * (int)bits(b + 2, (size_t)e, 1) - 16);
    default: return d * (nibble(b + 8, e) + 16 * (int)bits(b + 4, (size_t)e, 1)) + half(b + 2);
    }
}

/* Six bits of scale (or min) g of twelve bytes. */
static int packed6(const uint8_t *s, int g, bool min) {
    size_t byte = (size_t)(g % 4) + (min ? 4 : 0), last = 8 + (size_t)(g % 4);
    if (g < 4) return (int)bits(s, byte * 8, 6);
    return (int)(bits(s, last * 8 + (min ? 4 : 0), 4) | bits(s, byte * 8 + 6, 2) << 4);
}

static double rule_large(DType t, const uint8_t *b, int e) {
    if (t == DT_Q6_K) {
        int in = e % 128, lo_byte = e / 128 * 64 + in % 64, hi_byte = 128 + e / 128 * 32 + in % 32;
        unsigned q = bits(b, (size_t)(lo_byte * 8 + in / 64 * 4), 4);
        q |= bits(b, (size_t)(hi_byte * 8 + in / 32 * 2), 2) << 4;
        return half(b + 208) * (int8_t)b[192 + e / 16] * ((int)q - 32);
    }
    const uint8_t *qs = b + (t == DT_Q4_K ? 16 : 48);
    int g = e / 32, q = (int)bits(qs, (size_t)((g / 2 * 32 + e % 32) * 8 + g % 2 * 4), 4);
    if (t == DT_Q5_K) q += 16 * (int)bits(b + 16, (size_t)(e % 32 * 8 + g), 1);
    return half(b) * packed6(b + 4, g, false) * q - half(b + 2) * packed6(b + 4, g, true);
}

static double rule(DType t, const uint8_t *b, int e) {
    return dtype_info((uint32_t)t)->block == QK ? rule_small(t, b, e) : rule_large(t, b, e);
}

/* The exact value rounded once, which is what two roundings give where the products are exact. */
static void check_rule(DType t, size_t n_block) {
    const DTypeInfo *info = dtype_info((uint32_t)t);
    size_t block = (size_t)info->block, n = n_block * block;
    uint8_t *b = kt_bytes(dtype_bytes(t, n));
    float *y = kt_floats(n);
    kt_blocks(b, t, n, false, 0.03f);
    kt.to_f32[t](y, b, n);
    for (size_t i = 0; i < n; i++) {
        double want = rule(t, b + i / block * (size_t)info->block_bytes, (int)(i % block));
        if (y[i] != (float)want)
            FAIL("%s at level %s, seed %llu, element %zu: got %.9g, want %.9g", slot_name(t),
                 kern_level_name(kt.level), (unsigned long long)kt_seed, i, (double)y[i], want);
    }
}

TEST(blocks_to_f32_by_the_definition) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t t = 0; t < COUNT_OF(types); t++) {
            for (uint64_t seed = 1; seed <= 20; seed++) {
                kt_start(seed);
                check_rule(types[t], (size_t)kt_int(1, 9));
                kt_free();
            }
        }
    }
}

/* ---- blocks spelled out ---- */

/* d = 0.5; m or dmin = 0.25; everything else 0 but the bytes named. */
static void spelled(DType t, int byte, int value, int element, float want, float others) {
    uint8_t b[256] = {0};
    float y[QK_K];
    size_t n = (size_t)dtype_info((uint32_t)t)->block;
    int at[2];
    uint16_t half_and_quarter[2] = {0x3800, 0x3400};
    kt_halves(t, at);
    for (int i = 0; i < 2; i++) {
        if (at[i] >= 0) memcpy(b + at[i], &half_and_quarter[i], 2);
    }
    b[byte] = (uint8_t)value;
    if (t == DT_Q4_K || t == DT_Q5_K) b[4] |= 2, b[8] |= 3; /* group 0: scale 2, min 3 */
    if (t == DT_Q6_K) memset(b + 192, 1, 16);
    kt.to_f32[t](y, b, n);
    EQ(half_f32_bits(y[element]), half_f32_bits(want));
    for (int i = 0; i < (int)n && i < 32; i++) {
        if (i != element) EQ(half_f32_bits(y[i]), half_f32_bits(others));
    }
}

TEST(blocks_spelled_out) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        spelled(DT_Q8_0, 2 + 5, 0xff, 5, -0.5f, 0);
        spelled(DT_Q4_0, 2 + 5, 0x90, 21, 0.5f, -4);
        spelled(DT_Q4_1, 4 + 5, 0x0f, 5, 7.75f, 0.25f);
        spelled(DT_Q4_1, 4 + 15, 0x10, 31, 0.75f, 0.25f);
        spelled(DT_Q5_0, 2 + 2, 0x20, 21, 0, -8);
        spelled(DT_Q5_0, 6 + 3, 0x05, 3, -5.5f, -8);
        spelled(DT_Q5_1, 4 + 3, 0x80, 31, 8.25f, 0.25f);
        spelled(DT_Q5_1, 8, 0x0e, 0, 7.25f, 0.25f);
        spelled(DT_Q4_K, 16 + 7, 0x05, 7, 4.25f, -0.75f);
        spelled(DT_Q4_K, 16 + 7, 0x50, 39, 0, -0.75f); /* group 1: scale and min 0 */
        spelled(DT_Q5_K, 16 + 31, 0x01, 31, 15.25f, -0.75f);
        spelled(DT_Q5_K, 48 + 2, 0x03, 2, 2.25f, -0.75f);
        spelled(DT_Q6_K, 1, 0x0f, 1, -8.5f, -16);
        spelled(DT_Q6_K, 128 + 4, 0x02, 4, 0, -16);
        spelled(DT_Q6_K, 128 + 4, 0xc0, 100, 8, -16);
    }
}

/* Scales of a group above 3 have their bits in two places. */
TEST(packed_scales) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        uint8_t b[sizeof(BlockQ4_K)] = {0, 0x3c, 0, 0x3c}; /* d = dmin = 1 */
        float y[QK_K];
        b[4 + 1] = 0x80;       /* scale 5: 32 .. */
        b[4 + 9] = 0x97;       /* .. + 7; min 5: 9 .. */
        b[4 + 5] = 0x40;       /* .. + 16 */
        b[16 + 64] = 0x30;     /* element 160: 3 */
        b[4 + 3] = 63;         /* scale 3 */
        b[16 + 32 + 1] = 0x20; /* element 97: 2 */
        kt.to_f32[DT_Q4_K](y, b, QK_K);
        TRUE_(y[160] == 3 * 39 - 25);
        TRUE_(y[161] == -25);
        TRUE_(y[97] == 2 * 63);
        TRUE_(y[96] == 0);
    }
}

/* ---- any bytes, as a foreign file may hold them ---- */

/* The same bits as ref; where a NaN is added to a NaN, which of the two stays is the compiler's choice. */
static void check_same(DType t, const float *got, const float *want, size_t n) {
    int at[2];
    if (memcmp(got, want, n * sizeof *got) == 0) return;
    kt_halves(t, at);
    for (size_t i = 0; i < n; i++) {
        if (at[1] >= 0 && isnan(got[i]) && isnan(want[i])) continue;
        kt_same(slot_name(t), &got[i], &want[i], sizeof got[i]);
    }
}

TEST(blocks_of_any_bytes_to_f32) {
    enum { N = 64 * QK_K };
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        Kern ref = kt_ref();
        for (size_t i = 0; i < COUNT_OF(types) * 10; i++) {
            DType t = types[i / 10];
            kt_start(i);
            uint8_t *b = kt_bytes(dtype_bytes(t, N));
            float *y = kt_floats(N), *yr = kt_floats(N);
            kt_blocks(b, t, N, true, 0);
            kt.to_f32[t](y, b, N);
            ref.to_f32[t](yr, b, N);
            check_same(t, y, yr, N);
            kt_free();
        }
    }
}

/* f16 of all kinds as a scale and as a minimum: every exponent with its smallest mantissas, a fifth of the rest. */
TEST(blocks_of_every_scale_to_f32) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        Kern ref = kt_ref();
        kt_start(3);
        for (size_t i = 0; i < COUNT_OF(types); i++) {
            DType t = types[i];
            size_t n = (size_t)dtype_info((uint32_t)t)->block;
            uint8_t *b = kt_bytes(dtype_bytes(t, n));
            float *y = kt_floats(n), *yr = kt_floats(n);
            int at[2];
            kt_halves(t, at);
            kt_blocks(b, t, n, false, 1);
            for (uint32_t h = 0; h < 65536; h += h % 1024 < 8 ? 1 : 5) {
                memcpy(b + at[at[1] >= 0 && h % 3 == 0], &(uint16_t){(uint16_t)h}, 2);
                kt.to_f32[t](y, b, n);
                ref.to_f32[t](yr, b, n);
                check_same(t, y, yr, n);
            }
            kt_free();
        }
    }
}

TEST(no_blocks) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        for (size_t t = 0; t < COUNT_OF(types); t++) kt.to_f32[types[t]](NULL, NULL, 0);
    }
}

/* No conversion or product of a level is left to the plain definition. */
TEST(weights_have_code_of_their_own) {
    for (int l = CPU_AVX2; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        int n;
        const KernSlot *s = kern_slots(&n);
        for (int i = 0; i < n; i++) {
            bool to = strncmp(s[i].name, "to_f32 ", 7) == 0 && strcmp(s[i].name, "to_f32 f32") != 0;
            if (!to && strncmp(s[i].name, "gemv ", 5) != 0) continue;
            CpuLevel has = kern_slot_level(&kt, &s[i]);
            if ((int)has < MIN(l, (int)CPU_AVX512))
                FAIL("%s at level %s is that of %s", s[i].name, kern_level_name((CpuLevel)l),
                     kern_level_name(has));
        }
    }
}
