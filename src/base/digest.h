/* SPDX-License-Identifier: Apache-2.0
 * Digests of bytes that come in parts, and HMAC, through OpenSSL. One thread per object. */
#ifndef INGOT_BASE_DIGEST_H
#define INGOT_BASE_DIGEST_H

#include "base/sha.h"
#include "base/str.h"

/* SHA-1 is here because git names its objects by it: it finds accidents, not attackers. */
typedef enum DigestKind { DIGEST_SHA256, DIGEST_SHA1 } DigestKind;
enum { DIGEST_HEX = 65 }; /* room for any of them as text, with the NUL */

typedef struct Digest Digest;

/* ERR_NOMEM, ERR_INTERNAL. */
MUST_CHECK Status digest_new(Digest **out, DigestKind kind, Err *e);
void digest_free(Digest *d);
/* Add n bytes. A failure inside OpenSSL is told by digest_finish. */
void digest_add(Digest *d, const void *p, size_t n);
/* The digest as lower-case hexadecimal; d can only be freed then. */
MUST_CHECK Status digest_finish(char hex[DIGEST_HEX], Digest *d, Err *e);

/* HMAC-SHA256 of n bytes. ERR_INTERNAL if OpenSSL fails. */
MUST_CHECK Status digest_hmac(Sha256 *out, const void *key, size_t n_key, const void *p, size_t n,
                              Err *e);
/* True if text is n hexadecimal digits; they come out in lower case, with a NUL. */
bool digest_parse_hex(char *out, Slice text, size_t n);

#endif
