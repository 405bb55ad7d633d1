/* SPDX-License-Identifier: Apache-2.0
 * Inside token/ only: what the three parts of the trainer hand to each other. */
#ifndef INGOT_TOKEN_TRAIN_INTERNAL_H
#define INGOT_TOKEN_TRAIN_INTERNAL_H

#include "token/internal.h"

/* ---- train_count.c: texts -> distinct chunks with counts ---- */

typedef struct Word {
    size_t at; /* of its bytes in WordCounts.bytes */
    uint64_t count;
    uint32_t n;
} Word;

typedef struct WordSlot {
    uint32_t
        hash; /* upper half of the hash: most other words are told apart without looking at them */
    uint32_t word; /* index + 1; 0 is empty */
} WordSlot;

/* Zeroed is ready. Words are in the order of their first appearance. */
typedef struct WordCounts {
    char *bytes; /* owned */
    size_t n_bytes, cap_bytes;
    Word *word; /* owned */
    size_t n, cap;
    WordSlot *slot; /* owned [mask + 1] */
    size_t mask;
    uint64_t seed;
} WordCounts;

void tok__words_deinit(WordCounts *w);
/* Count a chunk of up to TOK_MAX_CHUNK bytes once. ERR_NOMEM, ERR_FULL past 2^32 distinct ones. */
MUST_CHECK Status tok__words_add(WordCounts *w, Slice chunk, Err *e);
/* Add all counts of `more`. */
MUST_CHECK Status tok__words_join(WordCounts *w, const WordCounts *more, Err *e);

/* ---- train.c ---- */

/* Bytes of the first part of a document that is to be counted in parts: all of it, or up to a newline
 * between two visible ASCII characters. There a chunk begins whatever stands around it. */
size_t tok__train_part(Slice doc);

/* ---- train_learn.c: counts -> merges ---- */

typedef struct Learned {
    uint64_t *merge; /* owned [n_merges] tok__pair; ids below 256 are bytes */
    size_t n_merges;
    Slice *token; /* owned [n_tokens]; the bytes lie in mem */
    int32_t n_tokens;
    Arena mem;
} Learned;

void tok__learned_deinit(Learned *l);
/* n_tokens >= 256. Learn until there are n_tokens tokens, bytes included, or no pair is left. */
MUST_CHECK Status tok__learn(Learned *out, const WordCounts *w, const TokTrainOpts *o,
                             int32_t n_tokens, Err *e);

/* ---- train_vocab.c: merges -> tokenizer ---- */

MUST_CHECK Status tok__learned_load(Tokenizer **out, const Learned *l, Err *e);

#endif
