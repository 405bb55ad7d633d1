/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha.h"

#include "base/mem.h"
#include "test.h"

static const char *hex(const Sha256 *s) {
    static char text[65];
    for (int i = 0; i < 32; i++) {
        text[2 * i] = "0123456789abcdef"[s->b[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[s->b[i] & 15];
    }
    return text;
}

/* FIPS 180-2, appendix B, and the empty message. */
TEST(known_answers) {
    Sha256 s;
    OK_(sha_256(&s, "abc", 3, TERR));
    EQ_STR(hex(&s), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    OK_(sha_256(&s, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, TERR));
    EQ_STR(hex(&s), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    OK_(sha_256(&s, NULL, 0, TERR));
    EQ_STR(hex(&s), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* Every single-bit change of the input changes about half of the bits of the hash. */
TEST(hash_avalanche) {
    uint8_t in[24] = "ingot hashes 24 bytes..";
    for (size_t n = 1; n <= 24; n++) {
        uint64_t h = sha_hash64(in, n, 1);
        int flips = 0;
        for (size_t bit = 0; bit < n * 8; bit++) {
            in[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int one = __builtin_popcountll(h ^ sha_hash64(in, n, 1));
            TRUE_(one >= 8 && one <= 56);
            flips += one;
            in[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        NEAR((double)flips / (double)(n * 8), 32, 6);
    }
}

TEST(hash_depends_on_length_and_seed) {
    static const uint8_t ZEROS[32];
    for (size_t n = 0; n < 32; n++)
        for (size_t m = 0; m < n; m++) TRUE_(sha_hash64(ZEROS, n, 3) != sha_hash64(ZEROS, m, 3));
    TRUE_(sha_hash64("abc", 3, 1) != sha_hash64("abc", 3, 2));
    TRUE_(sha_hash64(NULL, 0, 1) == sha_hash64("", 0, 1));
}

/* Counters in the keys are the usual case of a table: their low bits must spread over the slots. */
TEST(hash_fills_a_table_evenly) {
    enum { SLOTS = 1024, N = SLOTS * 64 };
    int *count = mem_new_n(int, SLOTS);
    for (uint64_t i = 0; i < N; i++) count[sha_hash64(&i, sizeof i, 0) % SLOTS]++;
    double chi = 0;
    for (int i = 0; i < SLOTS; i++) chi += (count[i] - 64.0) * (count[i] - 64.0) / 64.0;
    NEAR(chi, SLOTS - 1, 270); /* six standard deviations of sqrt(2 * 1023) */
    mem_free(count);
}

TEST(equal_digests) {
    Sha256 a, b;
    OK_(sha_256(&a, "a", 1, TERR));
    b = a;
    TRUE_(sha_equal(&a, &b));
    for (size_t i = 0; i < sizeof b.b; i++) {
        b.b[i] ^= 1;
        FALSE_(sha_equal(&a, &b));
        b.b[i] ^= 1;
    }
}
