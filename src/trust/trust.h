/* SPDX-License-Identifier: Apache-2.0
 * Signing models and finding out whether they are what was signed. A target is
 *
 *   a folder    DIR/manifest.json             DIR/manifest.sig             all files below DIR
 *   a file      FILE.gguf.manifest.json       FILE.gguf.manifest.sig       it, and the other parts of the model
 *
 * where the .sig holds the 64 bytes of an Ed25519 signature over the manifest's bytes: openssl pkeyutl -verify
 * -rawin checks it. The signature is found right before the manifest is read, the manifest before any file.
 * One thread; digests are made on a team, one file at a time each. */
#ifndef INGOT_TRUST_TRUST_H
#define INGOT_TRUST_TRUST_H

#include <stdatomic.h>

#include "base/sign.h"
#include "format/gguf.h"
#include "trust/manifest.h"

typedef struct TrustOpts {
    int n_threads;                                              /* 0: 1 */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes; NULL: silent */
    void *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED; NULL: never */
} TrustOpts;

/* Write manifest and signature. m: what is to be said, its files filled in here (m->mem is set up by the caller).
 * A tag that was signed here before has to say the same again: ERR_ARG names it; then the manifest stays as it is
 * and only the signature is made anew. */
MUST_CHECK Status trust_sign(Manifest *m, const char *target, const SignKey *private_key,
                             const TrustOpts *o, Err *e);
/* Check signature and every file. ERR_FORMAT names the file that is another, is missing, or (in a folder) is not in
 * the manifest; ERR_NOT_FOUND where nothing is signed. m (NULL: not asked for) is then the caller's. */
MUST_CHECK Status trust_verify(Manifest *m, const char *target, const SignKey *public_key,
                               const TrustOpts *o, Err *e);
/* Read a manifest without any check of what it says; key NULL: not even whose it is. */
MUST_CHECK Status trust_read(Manifest *m, const char *target, const SignKey *public_key, Err *e);
/* Hold the bytes of an opened model (not what its name leads to by now) to the manifest beside it, or else to the one
 * of its folder. Errors as of trust_verify. */
MUST_CHECK Status trust_check_model(const Gguf *g, const char *path, const SignKey *public_key,
                                    const TrustOpts *o, Err *e);
/* The same for one file, mapped for that. */
MUST_CHECK Status trust_check_file(const char *path, const SignKey *public_key, const TrustOpts *o,
                                   Err *e);

#endif
