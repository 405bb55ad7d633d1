/* SPDX-License-Identifier: Apache-2.0
 * What a signed model says of itself, manifest.json:
 *
 *   {"format": "ingot-manifest-1", "tag": "qwen2.5-v1.0.1", "created": "2026-01-31T12:00:00Z",
 *    "base_model": "...", "licence": "...", "dataset_sha256": "64 hex", "quantization": "...",
 *    "scores": {"humaneval": 0.41},
 *    "files": [{"name": "model.gguf", "size": 123, "sha256": "64 hex"}],
 *    "tags": [{"tag": "qwen2.5-v1.0.0", "fingerprint": "64 hex"}]}
 *
 * format, tag, created and files have to be there; nothing else may. Its bytes are what is signed, so they are
 * written in this order, files by name, and read only when the signature has been found right. A tag says one thing
 * for ever: `tags` are those that were signed here before, each with the digest of the manifest it stood for
 * (without created and tags).
 * Limits: 4 MB, 4,096 files, 256 scores, 1,024 tags, texts of 1,024 bytes. File names are relative, below the
 * manifest's folder, without "." and ".."; each once. */
#ifndef INGOT_TRUST_MANIFEST_H
#define INGOT_TRUST_MANIFEST_H

#include "base/arena.h"
#include "base/sha.h"
#include "base/str.h"

enum {
    TRUST_MAX_BYTES = 4 << 20,
    TRUST_MAX_FILES = 4096,
    TRUST_MAX_SCORES = 256,
    TRUST_MAX_TAGS = 1024,
    TRUST_MAX_TEXT = 1024,
    TRUST_MAX_NAME = 512,
    TRUST_MAX_TAG = 96
};

typedef struct TrustFile {
    Slice name;
    uint64_t size;
    Sha256 digest;
} TrustFile;

typedef struct TrustScore {
    Slice name;
    double value;
} TrustScore;

typedef struct TrustTag {
    Slice tag;
    Sha256 fingerprint;
} TrustTag;

/* Texts are borrowed, from mem or from the caller; empty: absent. */
typedef struct Manifest {
    Slice tag, created, base_model, licence, dataset, quantization;
    TrustScore *score; /* owned by mem, as all arrays */
    TrustFile *file;
    TrustTag *old;
    size_t n_scores, n_files, n_old;
    Arena mem;
} Manifest;

/* From text. ERR_FORMAT names what is wrong. On failure *m is zeroed. */
MUST_CHECK Status trust_manifest_parse(Manifest *m, Slice text, Err *e);
void trust_manifest_deinit(Manifest *m);
/* Append its text. Sticky failure. */
void trust_manifest_format(StrBuf *b, const Manifest *m);
/* Digest of all but created and tags: what a tag stands for. */
MUST_CHECK Status trust_manifest_fingerprint(Sha256 *out, const Manifest *m, Err *e);
/* NAME-vMAJOR.MINOR.PATCH in lower case: qwen2.5-v1.0.1. ERR_ARG says how. */
MUST_CHECK Status trust_check_tag(Slice tag, Err *e);
/* A relative path of plain parts. ERR_FORMAT. */
MUST_CHECK Status trust_check_name(Slice name, Err *e);
/* The entry of a file, or NULL. */
const TrustFile *trust_manifest_find(const Manifest *m, Slice name);

#endif
