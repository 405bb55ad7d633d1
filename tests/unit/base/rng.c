/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"

#include <math.h>

#include "base/mem.h"
#include "test.h"

/* Known answers of the Random123 distribution (kat_vectors, philox4x32 10). */
TEST(known_answers) {
    static const struct {
        uint64_t key, hi, lo;
        uint32_t out[4];
    } ROWS[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x0370734413198a2e,
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        uint32_t w[4];
        rng_philox(w, ROWS[i].key, ROWS[i].hi, ROWS[i].lo);
        EQ_MEM(w, ROWS[i].out, sizeof w);
    }
}

TEST(unit_interval) {
    NEAR(rng_u32_to_unit(0), 0, 0);
    TRUE_(rng_u32_to_unit(UINT32_MAX) < 1.0f);
    double sum = 0, square = 0;
    int n = 100000;
    for (int i = 0; i < n; i++) {
        double u = rng_uniform(1, 2, (uint64_t)i);
        TRUE_(u >= 0 && u < 1);
        sum += u;
        square += u * u;
    }
    NEAR(sum / n, 0.5, 0.004); /* four standard errors */
    NEAR(square / n, 1.0 / 3, 0.004);
}

TEST(normals_have_the_right_moments) {
    enum { N = 200001 }; /* not a multiple of four */
    float *x = mem_new_n(float, N + 1);
    x[N] = 77;
    rng_normal_fill(x, N, 2.0f, 123, 4);
    NEAR(x[N], 77, 0);
    double m = 0, v = 0, k = 0;
    int beyond = 0;
    for (int i = 0; i < N; i++) {
        double z = (double)x[i] / 2;
        TRUE_(isfinite(z));
        m += z;
        v += z * z;
        k += z * z * z * z;
        beyond += fabs(z) > 1.959964;
    }
    NEAR(m / N, 0, 0.01);
    NEAR(v / N, 1, 0.015);
    NEAR(k / N, 3, 0.1);
    NEAR((double)beyond / N, 0.05, 0.002);
    mem_free(x);
}

TEST(a_fill_is_the_start_of_a_longer_one) {
    float a[10], b[7], c[10];
    rng_normal_fill(a, 10, 1, 5, 6);
    rng_normal_fill(b, 7, 1, 5, 6);
    rng_normal_fill(c, 10, 1, 5, 7);
    EQ_MEM(a, b, sizeof b);
    TRUE_(memcmp(a, c, sizeof a) != 0);
    rng_normal_fill(a, 0, 1, 5, 6);
}

TEST(permute_is_a_permutation) {
    static const uint64_t SIZES[] = {1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 1000, 65537};
    uint8_t *seen = mem_new_n(uint8_t, 65537);
    for (size_t s = 0; s < COUNT_OF(SIZES); s++)
        for (uint64_t key = 0; key < 3; key++) {
            uint64_t n = SIZES[s], fixed = 0;
            memset(seen, 0, n);
            for (uint64_t i = 0; i < n; i++) {
                uint64_t j = rng_permute(i, n, key);
                TRUE_(j < n);
                EQ(seen[j], 0);
                seen[j] = 1;
                fixed += i == j;
            }
            if (n >= 1000) TRUE_(fixed < 10); /* one is expected */
        }
    mem_free(seen);
}

TEST(permute_large_domains) {
    static const uint64_t SIZES[] = {(uint64_t)1 << 40, ((uint64_t)1 << 63) + 5, UINT64_MAX};
    for (size_t s = 0; s < COUNT_OF(SIZES); s++) {
        double mean = 0;
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t j = rng_permute(i, SIZES[s], 9);
            TRUE_(j < SIZES[s]);
            mean += (double)j / (double)SIZES[s] / 1000;
        }
        NEAR(mean, 0.5, 0.05);
    }
}

/* Chi-square of "which place does element 0 and 1 get", over keys: 29 degrees of freedom, p < 1e-5. */
TEST(permute_is_even_over_keys) {
    enum { N = 6, KEYS = 30000 };
    int count[N][N] = {{0}};
    for (uint64_t key = 0; key < KEYS; key++)
        count[rng_permute(0, N, key)][rng_permute(1, N, key)]++;
    double chi = 0, want = (double)KEYS / (N * (N - 1));
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            if (a != b) chi += (count[a][b] - want) * (count[a][b] - want) / want;
    TRUE_(chi < 80);
}

/* Neighbours must land apart: a shuffle that keeps documents of one file together is none. */
TEST(permute_breaks_up_neighbours) {
    uint64_t n = 100000;
    int near = 0;
    for (uint64_t i = 0; i + 1 < n; i++) {
        uint64_t a = rng_permute(i, n, 77), b = rng_permute(i + 1, n, 77);
        near += (a > b ? a - b : b - a) < 10;
    }
    TRUE_(near < 60); /* about 18 by chance */
}

TEST(keys_differ_by_seed_and_purpose) {
    TRUE_(rng_key(1, "dropout") == rng_key(1, "dropout"));
    TRUE_(rng_key(1, "dropout") != rng_key(2, "dropout"));
    TRUE_(rng_key(1, "dropout") != rng_key(1, "shuffle"));
    TRUE_(rng_key(1, "") != rng_key(1, "a"));
}

TEST(secrets_differ_and_fill_what_was_asked_for) {
    uint8_t a[300] = {0}, b[300] = {0};
    OK_(rng_secret(a, sizeof a, TERR));
    OK_(rng_secret(b, sizeof b, TERR));
    TRUE_(memcmp(a, b, sizeof a) != 0);
    int zeros = 0;
    for (size_t i = 0; i < sizeof a; i++) zeros += a[i] == 0;
    TRUE_(zeros < 20); /* of 300 about one */
    OK_(rng_secret(a, 0, TERR));
}
