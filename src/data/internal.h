/* SPDX-License-Identifier: Apache-2.0
 * What the files of data/ share: the folder walk, the duplicate index, one line of docs.jsonl,
 * meta.json. */
#ifndef INGOT_DATA_INTERNAL_H
#define INGOT_DATA_INTERNAL_H

#include "base/sha.h"
#include "data/data.h"
#include "text/json.h"

/* ---- walk.c ---- */
typedef enum WalkKind {
    WALK_FILE,        /* regular */
    WALK_SPECIAL,     /* symbolic link, socket, device ... */
    WALK_SKIP_FOLDER, /* a folder whose name is on the list */
    WALK_BAD_FOLDER   /* a folder that cannot be read; also a name whose kind cannot be told */
} WalkKind;

/* One entry: its full path and where the part below the root begins. Not OK stops the walk. */
typedef Status (*WalkFn)(void *ctx, const char *path, const char *below, WalkKind kind, Err *e);

/* Every entry below dir in the byte order of names, folders entered where they stand. Symbolic
 * links are not followed (dir itself may be one). ERR_NOT_FOUND, ERR_IO for dir; trouble below
 * goes to fn. */
MUST_CHECK Status data__walk(const char *dir, WalkFn fn, void *ctx, Err *e);

/* ---- dedup.c ---- */
enum { SIG_HASHES = 128 };

/* MinHash signature: per hash function the least value over the text's shingles. */
typedef struct Sig {
    int32_t h[SIG_HASHES];
} Sig;

void data__sig(Sig *out, Slice text);
/* Share of equal places: an unbiased estimate of the Jaccard similarity, standard deviation <=
 * 0.045. */
double data__sig_similarity(const Sig *a, const Sig *b);

/* Digests already seen. Zeroed is ready. */
typedef struct ExactSet {
    Sha256 *slot; /* owned; open addressing, all zero is empty */
    size_t n, cap;
} ExactSet;

/* *was_there tells; otherwise it is there from now on. ERR_NOMEM: nothing changed. */
MUST_CHECK Status data__exact_add(ExactSet *s, const Sha256 *d, bool *was_there, Err *e);
void data__exact_deinit(ExactSet *s);

/* Signatures of kept documents behind a locality-sensitive hash: SIG_HASHES split into bands;
 * two documents that agree on all rows of one band are compared. */
typedef struct NearSet {
    double threshold;
    int rows, bands; /* rows * bands == SIG_HASHES */
    Sig *sig;        /* owned, [cap] */
    uint32_t *next;  /* owned, [cap * bands]: node of document d and band b is d * bands + b */
    uint32_t *stamp; /* owned, [cap]: the last search that compared this document */
    uint32_t *head;  /* owned, [n_head]: first node of a chain, + 1; 0 is empty */
    size_t n, cap, n_head;
    uint32_t search;
} NearSet;

/* threshold in (0, 1]. */
void data__near_init(NearSet *s, double threshold);
void data__near_deinit(NearSet *s);
/* Is some document of the set at least `threshold` similar? */
bool data__near_find(NearSet *s, const Sig *sig);
/* ERR_NOMEM, ERR_FULL (2^32 chain nodes): nothing changed. */
MUST_CHECK Status data__near_add(NearSet *s, const Sig *sig, Err *e);

/* ---- docs.c ---- */
/* The next line of text that is not blank: *line without its end, *line_no (1-based) counted
 * on. False at the end. */
bool data__next_line(Slice text, size_t *pos, uint64_t *line_no, Slice *line);
/* One line: *root is owned by the caller, path and text are borrowed from it. */
MUST_CHECK Status data__doc_parse(Json **root, Slice *path, Slice *text, Slice line,
                                  const char *name, uint64_t line_no, Err *e);

/* ---- shard.c ---- */
typedef struct Meta {
    int id_bytes; /* 2 or 4 */
    int32_t n_vocab, eot;
    double val_share;
    uint64_t seed;
    PrepareStats count;
} Meta;

extern const char *const data__part_name[2]; /* "train", "val" */

void data__meta_format(const Meta *m, StrBuf *b);
/* ERR_FORMAT. */
MUST_CHECK Status data__meta_parse(Meta *m, Slice text, Err *e);

/* ---- output ---- */
/* False for something that exists and is no regular file: a device, a pipe, a link
 * (/dev/stdout). It is written through, not replaced, and so not atomically. */
bool data__can_replace(const char *path);
bool data__stopped(const DataProgress *p);

#endif
