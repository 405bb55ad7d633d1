/* SPDX-License-Identifier: Apache-2.0
 * Ed25519 signatures (RFC 8032) through OpenSSL, with keys in PEM files as its command line makes and reads them:
 * PKCS #8 for private ones, SubjectPublicKeyInfo for public ones. A private key is written for its owner alone, and
 * one that others may read is refused. Keys are immutable: any thread. */
#ifndef INGOT_BASE_SIGN_H
#define INGOT_BASE_SIGN_H

#include "base/str.h"

enum { SIGN_BYTES = 64, SIGN_ID = 16 };

typedef struct SignKey SignKey;

/* Make a pair. Neither file may be there already: ERR_IO. After a failure neither is left. */
MUST_CHECK Status sign_keygen(const char *private_path, const char *public_path, Err *e);
/* ERR_FORMAT for no Ed25519 key in PEM (encrypted ones included), ERR_IO for a private key that others may read. */
MUST_CHECK Status sign_load_private(SignKey **out, const char *path, Err *e);
MUST_CHECK Status sign_load_public(SignKey **out, const char *path, Err *e);
void sign_key_free(SignKey *k); /* NULL is fine */
/* First digits of the SHA-256 of the public key's 32 bytes. */
const char *sign_key_id(char buf[SIGN_ID + 1], const SignKey *k);
/* With a private key. ERR_INTERNAL if OpenSSL fails. */
MUST_CHECK Status sign_make(uint8_t sig[SIGN_BYTES], const SignKey *k, Slice data, Err *e);
/* True if sig is the key's over exactly these bytes. */
bool sign_check(const SignKey *k, Slice data, const uint8_t sig[SIGN_BYTES]);

#endif
