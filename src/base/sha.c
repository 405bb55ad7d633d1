/* SPDX-License-Identifier: Apache-2.0
 * SHA-256 is OpenSSL's. The table hash takes eight bytes at a time with the multiply-rotate step
 * and the final mix of XXH64 (one lane); it is seeded but not made against an attacker who knows
 * the seed. */
#include "base/sha.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#define HASH_P1 0x9E3779B185EBCA87u
#define HASH_P2 0xC2B2AE3D27D4EB4Fu
#define HASH_P3 0x165667B19E3779F9u
#define HASH_P4 0x85EBCA77C2B2AE63u
#define HASH_P5 0x27D4EB2F165667C5u

Status sha_256(Sha256 *out, const void *p, size_t n, Err *e) {
    Sha256 s;
    unsigned len = 0;
    if (EVP_Digest(n > 0 ? p : "", n, s.b, &len, EVP_sha256(), NULL) != 1 || len != sizeof s.b)
        return err_set(e, ERR_INTERNAL, "sha-256 of %zu bytes failed in openssl", n);
    *out = s;
    return OK;
}

const char *sha_hex(char buf[65], const Sha256 *s) {
    for (int i = 0; i < 32; i++) {
        buf[2 * i] = "0123456789abcdef"[s->b[i] >> 4];
        buf[2 * i + 1] = "0123456789abcdef"[s->b[i] & 15];
    }
    buf[64] = 0;
    return buf;
}

bool sha_parse(Sha256 *out, const char *p, size_t n) {
    static const char digits[] = "0123456789abcdef";
    if (n != 64) return false;
    for (size_t i = 0; i < 64; i++) {
        const char *d = p[i] ? strchr(digits, p[i]) : NULL;
        if (!d) return false;
        uint8_t v = (uint8_t)(d - digits);
        out->b[i / 2] = i % 2 ? out->b[i / 2] | v : (uint8_t)(v << 4);
    }
    return true;
}

bool sha_equal(const Sha256 *a, const Sha256 *b) {
    return CRYPTO_memcmp(a->b, b->b, sizeof a->b) == 0;
}

static uint64_t rotl(uint64_t x, int n) { return x << n | x >> (64 - n); }

static uint64_t hash_word(uint64_t h, uint64_t w) {
    h ^= rotl(w * HASH_P2, 31) * HASH_P1;
    return rotl(h, 27) * HASH_P1 + HASH_P4;
}

uint64_t sha_hash64(const void *p, size_t n, uint64_t seed) {
    const uint8_t *b = p;
    uint64_t h = seed + HASH_P5 + n, w;
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        memcpy(&w, b + i, 8);
        h = hash_word(h, w);
    }
    if (i < n) {
        w = 0;
        memcpy(&w, b + i, n - i);
        h = hash_word(h, w);
    }
    h = (h ^ h >> 33) * HASH_P2;
    h = (h ^ h >> 29) * HASH_P3;
    return h ^ h >> 32;
}
