/* SPDX-License-Identifier: Apache-2.0
 * What the files of trust share. Not for other folders. */
#ifndef INGOT_TRUST_INTERNAL_H
#define INGOT_TRUST_INTERNAL_H

#include "base/io.h"
#include "trust/trust.h"

/* A file of the target. */
typedef struct TrustPart {
    char *path;       /* owned */
    const char *name; /* within path: below the manifest's folder */
    IoMap map;        /* borrowed; p NULL: the path is mapped for hashing */
    bool is_mapped;
    uint64_t size;
    Sha256 digest;
} TrustPart;

typedef struct TrustParts {
    TrustPart *v; /* owned */
    size_t n, cap;
} TrustParts;

void trust__parts_deinit(TrustParts *p);
/* Append a file; name: bytes of path before its name. ERR_NOMEM, ERR_FULL over TRUST_MAX_FILES. */
MUST_CHECK Status trust__parts_add(TrustParts *p, const char *path, size_t name_at, Err *e);
bool trust__is_folder(const char *path);
/* All files below a folder, sorted by name, without the manifest and its signature. */
MUST_CHECK Status trust__list(TrustParts *p, const char *folder, Err *e);
/* Sizes and digests of all parts. */
MUST_CHECK Status trust__digest(TrustParts *p, const TrustOpts *o, Err *e);

#endif
