/* SPDX-License-Identifier: Apache-2.0
 * Digests in parts: OpenSSL's EVP interface behind a handle. */
#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

struct Digest {
    EVP_MD_CTX *ctx; /* owned */
    bool failed;     /* sticky */
};

Status digest_new(Digest **out, DigestKind kind, Err *e) {
    Digest *d = mem_new(Digest);
    if (!d) return err_set(e, ERR_NOMEM, "out of memory for a digest");
    d->ctx = EVP_MD_CTX_new();
    const EVP_MD *md = kind == DIGEST_SHA1 ? EVP_sha1() : EVP_sha256();
    if (!d->ctx || EVP_DigestInit_ex(d->ctx, md, NULL) != 1) {
        digest_free(d);
        return err_set(e, ERR_INTERNAL, "openssl has no such digest");
    }
    *out = d;
    return OK;
}

void digest_free(Digest *d) {
    if (!d) return;
    EVP_MD_CTX_free(d->ctx);
    mem_free(d);
}

void digest_add(Digest *d, const void *p, size_t n) {
    if (n > 0 && EVP_DigestUpdate(d->ctx, p, n) != 1) d->failed = true;
}

static void put_hex(char *hex, const uint8_t *b, size_t n) {
    static const char DIGITS[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = DIGITS[b[i] >> 4];
        hex[2 * i + 1] = DIGITS[b[i] & 15];
    }
    hex[2 * n] = '\0';
}

Status digest_finish(char hex[DIGEST_HEX], Digest *d, Err *e) {
    uint8_t b[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (d->failed || EVP_DigestFinal_ex(d->ctx, b, &n) != 1 || n > (DIGEST_HEX - 1) / 2)
        return err_set(e, ERR_INTERNAL, "a digest failed in openssl");
    put_hex(hex, b, n);
    return OK;
}

Status digest_hmac(Sha256 *out, const void *key, size_t n_key, const void *p, size_t n, Err *e) {
    unsigned len = 0;
    if (n_key > INT32_MAX || !HMAC(EVP_sha256(), key, (int)n_key, p, n, out->b, &len) ||
        len != sizeof out->b)
        return err_set(e, ERR_INTERNAL, "hmac of %zu bytes failed in openssl", n);
    return OK;
}

bool digest_parse_hex(char *out, Slice text, size_t n) {
    if (text.n != n) return false;
    for (size_t i = 0; i < n; i++) {
        char c = text.p[i];
        if (c >= 'A' && c <= 'F') c = (char)(c | 32);
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
        out[i] = c;
    }
    out[n] = '\0';
    return true;
}
