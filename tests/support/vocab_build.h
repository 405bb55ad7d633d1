/* SPDX-License-Identifier: Apache-2.0
 * Small vocabularies made by hand, good and bad ones, and the naive encoder they are held to. */
#ifndef INGOT_TEST_VOCAB_BUILD_H
#define INGOT_TEST_VOCAB_BUILD_H

#include "support/gguf_build.h"
#include "token/token.h"

/* The 256 bytes are always tokens 0..255; zero fields are the ordinary case. */
typedef struct VocabSpec {
    const char *model, *pre;  /* NULL: "gpt2", "gpt-2"; "": the key is left out */
    int without_byte;         /* byte + 1 whose token is named otherwise */
    const char *tokens[16];   /* 256 and up, up to a NULL */
    int32_t types[16];        /* of these; 0: normal */
    const char *merges[32];   /* up to a NULL */
    bool no_merges, no_types; /* leave the key out */
    int n_types_more;         /* entries of token_type beyond the tokens */
    const char *id_key[3];    /* u32 keys ... */
    uint32_t id[3];           /* ... and their values */
    int add_bos;              /* 1: false, 2: true, 0: no key */
    const char *chat;         /* chat template; NULL: no key */
} VocabSpec;

void vocab_build(Blob *b, const VocabSpec *s);
/* Build, open, load, close. */
MUST_CHECK Status vocab_build_load(Tokenizer **out, const VocabSpec *s, Err *e);

/* A vocabulary with merges over "the cat" words and emoji bytes, two control tokens and a user-defined one. */
extern const VocabSpec vocab_small;

/* A vocabulary with scores: <unk>, <s>, </s>, then the 256 byte tokens (3..258), then these. */
typedef struct SpmSpec {
    const char *tokens[32]; /* 259 and up, up to a NULL */
    float scores[32];
    int32_t types[32]; /* 0: normal */
    bool no_bytes;     /* the byte tokens are called otherwise */
    bool no_prefix;    /* add_space_prefix is false */
    const char *name;  /* general.name; NULL: none */
} SpmSpec;

void spm_build(Blob *b, const SpmSpec *s);
MUST_CHECK Status spm_build_load(Tokenizer **out, const SpmSpec *s, Err *e);
/* "the cat" and its neighbours; <0x..> for everything else. */
extern const SpmSpec spm_small;

/* The merges of t as "left right", in order, by way of a saved file at path. Free with vocab_free_list. */
char **vocab_merges(const Tokenizer *t, const char *path, size_t *n);
void vocab_free_list(char **list, size_t n);
/* Ids of one chunk by the definition: as long as one of the merges fits, the first of the list, leftmost. */
void vocab_naive_encode(const Tokenizer *t, char **merges, size_t n_merges, Slice chunk,
                        TokBuf *out);

#endif
