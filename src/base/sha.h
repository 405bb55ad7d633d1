/* SPDX-License-Identifier: Apache-2.0
 * SHA-256 through OpenSSL, and a fast 64-bit hash for tables. Any thread. */
#ifndef INGOT_BASE_SHA_H
#define INGOT_BASE_SHA_H

#include "base/err.h"

typedef struct Sha256 {
    uint8_t b[32];
} Sha256;

/* Digest of n bytes (of bytes in parts: digest.h). ERR_INTERNAL if OpenSSL fails. */
MUST_CHECK Status sha_256(Sha256 *out, const void *p, size_t n, Err *e);
/* 64 hexadecimal digits, lower case. */
const char *sha_hex(char buf[65], const Sha256 *s);
/* From 64 such digits; false for anything else. */
MUST_CHECK bool sha_parse(Sha256 *out, const char *p, size_t n);
/* Same digest? Takes the same time wherever they differ. */
bool sha_equal(const Sha256 *a, const Sha256 *b);
/* 64-bit hash with good avalanche, for in-memory tables only (never written to a file). */
uint64_t sha_hash64(const void *p, size_t n, uint64_t seed);

#endif
