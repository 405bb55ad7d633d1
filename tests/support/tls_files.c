/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_files.h"

#include <stdio.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

static bool add_names(X509 *x) {
    X509_EXTENSION *ext =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    bool ok = ext && X509_add_ext(x, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

static bool fill(X509 *x, EVP_PKEY *k, const char *name, int days) {
    static long serial;
    X509_NAME *n = X509_get_subject_name(x);
    long end = (long)days * 86400, begin = end < 0 ? end - 86400 : -86400;
    return X509_set_version(x, 2) == 1 &&
           ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(x), begin) &&
           X509_gmtime_adj(X509_getm_notAfter(x), end) && X509_set_pubkey(x, k) == 1 &&
           X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                      0) == 1 &&
           X509_set_issuer_name(x, n) == 1 && add_names(x) && X509_sign(x, k, EVP_sha256()) > 0;
}

bool tls_files_make(const char *cert, const char *key, const char *name, int days) {
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    FILE *fc = fopen(cert, "wb"), *fk = fopen(key, "wb");
    bool ok = k && x && fc && fk && fill(x, k, name, days) && PEM_write_X509(fc, x) == 1 &&
              PEM_write_PrivateKey(fk, k, NULL, NULL, 0, NULL, NULL) == 1;
    if (fc) ok = fclose(fc) == 0 && ok;
    if (fk) ok = fclose(fk) == 0 && ok;
    X509_free(x);
    EVP_PKEY_free(k);
    return ok;
}
