/* SPDX-License-Identifier: Apache-2.0
 * Data: from folders of source files to token shards.
 *
 *   docs.jsonl   one JSON object a line: {"path": "pkg/mod.py", "text": "..."}
 *   data/NAME/   train.bin, val.bin   token ids, little endian, uint16 (uint32 when the vocabulary
 *                                     is larger than 65,536), an end-of-text token after each
 *                                     document
 *                meta.json            counts, dtype, vocabulary size, end-of-text id
 *                tokenizer.gguf       the tokenizer that made the ids */
#ifndef INGOT_DATA_DATA_H
#define INGOT_DATA_DATA_H

#include <stdatomic.h>

#include "base/io.h"
#include "base/opt.h"
#include "token/token.h"

/* Called now and then with work done of a total (0: unknown), on the calling thread. NULL:
 * silent. */
typedef struct DataProgress {
    void (*fn)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    const atomic_int
        *stop; /* becomes nonzero: end with ERR_CANCELLED, nothing left behind; NULL: never */
} DataProgress;

/* ---- collect: folders -> docs.jsonl ---- */
typedef enum CollectSkip {
    SKIP_FOLDER,     /* .venv, __pycache__, node_modules, .git */
    SKIP_SUFFIX,     /* another file ending */
    SKIP_SHORT,      /* min_chars characters or fewer */
    SKIP_LARGE,      /* larger than max_bytes */
    SKIP_NOT_UTF8,   /* or with NUL bytes: not text */
    SKIP_UNREADABLE, /* a file or folder that cannot be opened or read, or that vanished */
    SKIP_SPECIAL,    /* not a regular file, or a symbolic link */
    SKIP_EXACT,      /* same bytes as an earlier file */
    SKIP_NEAR,       /* near duplicate of an earlier file */
    SKIP_REASONS
} CollectSkip;

typedef struct CollectOpts {
    OptList dirs;
    OptList exts;      /* endings with dot; none: ".py" */
    int64_t min_chars; /* default 100: kept when longer */
    int64_t max_bytes; /* default 1 MiB: kept when not larger */
    /* estimated Jaccard similarity of 5-token shingles from which a file is dropped; 0: off */
    double near_dup;
    DataProgress progress;
    /* told of each skipped file (not of other suffixes); NULL: silent */
    void (*on_skip)(void *ctx, const char *path, CollectSkip why);
    void *on_skip_ctx;
} CollectOpts;

typedef struct CollectStats {
    uint64_t n_seen;                   /* files with a wanted ending */
    uint64_t n_kept, n_chars, n_bytes; /* of the kept ones; characters are code points */
    uint64_t n_skip[SKIP_REASONS];
} CollectStats;

/* Walk the folders in sorted order (the result does not depend on the disk's order) and write
 * path atomically; a document's path begins with its folder's name. No text is held in memory
 * longer than its turn. ERR_NOT_FOUND for an absent folder or if nothing was kept; *st is
 * filled then too. */
MUST_CHECK Status data_collect(CollectStats *st, const CollectOpts *o, const char *path, Err *e);
/* Words for a reason: "near duplicate". */
const char *data_skip_name(CollectSkip why);

/* ---- documents ---- */
typedef struct DocReader DocReader;
MUST_CHECK Status data_docs_open(DocReader **out, const char *path, Err *e);
/* The same over bytes the caller keeps alive; `name` (borrowed) stands in messages. */
MUST_CHECK Status data_docs_open_bytes(DocReader **out, Slice bytes, const char *name, Err *e);
void data_docs_close(DocReader *r);
/* Next document: its path (may be empty) and text, borrowed until the next call; *more false at
 * the end. Blank lines are passed over. A bad line is ERR_FORMAT naming the file and line. */
MUST_CHECK Status data_docs_next(DocReader *r, bool *more, Slice *path, Slice *text, Err *e);
/* Bytes read so far and in all, for progress. */
void data_docs_progress(const DocReader *r, uint64_t *done, uint64_t *total);
/* Code points of well-formed UTF-8. */
uint64_t data_count_chars(Slice text);

/* ---- prepare: docs.jsonl -> shards ---- */
typedef struct PrepareOpts {
    double val_share; /* of files, in [0, 1); at least one document lands in each part */
    uint64_t seed;    /* files are split and ordered by a seeded hash of their path */
    int n_threads;    /* the output does not depend on it; 0: 1 */
    DataProgress progress;
} PrepareOpts;

typedef struct PrepareStats {
    uint64_t n_docs[2], n_chars[2], n_bytes[2], n_tok[2]; /* [0] train, [1] val */
} PrepareStats;

/* Tokenize docs_path into out_dir (made if absent). meta.json goes last: a folder without it is
 * not a data set. ERR_FORMAT for a bad line or fewer than two documents, ERR_ARG for a
 * tokenizer without end of text. */
MUST_CHECK Status data_prepare(PrepareStats *st, const PrepareOpts *o, const Tokenizer *t,
                               const char *docs_path, const char *out_dir, Err *e);

/* ---- tokenizer files ---- */
/* The tokenizer of any GGUF file that has one (a model too). */
MUST_CHECK Status data_tokenizer_load(Tokenizer **out, const char *path, Err *e);
/* A GGUF file with nothing but the tokenizer, written atomically. */
MUST_CHECK Status data_tokenizer_save(const Tokenizer *t, const char *path, Err *e);

/* ---- shards: memory-mapped token ids ---- */
typedef struct Shard {
    IoMap map;
    int id_bytes; /* 2 or 4 */
    uint64_t n_tok;
    int32_t n_vocab, eot;
} Shard;

/* which: "train" or "val". Checks meta.json against the file's size. ERR_FORMAT, ERR_NOT_FOUND. */
MUST_CHECK Status data_shard_open(Shard *out, const char *dir, const char *which, Err *e);
void data_shard_close(Shard *s);
/* ids[n] = tokens [from, from + n). ERR_FORMAT if an id is outside the vocabulary (position
 * named), ERR_ARG if the range is outside the shard. Any thread. */
MUST_CHECK Status data_shard_read(const Shard *s, uint64_t from, int32_t *ids, size_t n, Err *e);

#endif
