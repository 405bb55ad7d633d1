/* SPDX-License-Identifier: Apache-2.0
 * Inside token/ only. Reading order: idmap.c, vocab.c, pretok.c, bpe_encode.c, encode.c. */
#ifndef INGOT_TOKEN_INTERNAL_H
#define INGOT_TOKEN_INTERNAL_H

#include "base/arena.h"
#include "text/regex.h"
#include "token/token.h"

enum {
    TOK_MAX_VOCAB = 1 << 22,
    TOK_MAX_MERGES = 1 << 23,
    TOK_MAX_SPECIAL = 1024,  /* bytes of a special token */
    TOK_MAX_CHUNK = 1 << 30, /* longer ones are cut: positions are 32 bits */
    TOK_TYPE_COUNT = 7
};

/* ---- idmap.c: hash tables, keyed so that nobody can make a file whose names collide ---- */

/* Bytes -> id, over an array of keys that somebody else owns. Immutable once filled. */
typedef struct IdMap {
    const Slice *keys; /* borrowed, indexed by id */
    int32_t *slots;    /* owned; -1 is empty */
    size_t mask;
    uint64_t seed;
} IdMap;

MUST_CHECK bool tok__idmap_init(IdMap *m, const Slice *keys, size_t n_max);
void tok__idmap_deinit(IdMap *m);
/* False if an equal key is in already; *other is its id. At most n_max additions. */
MUST_CHECK bool tok__idmap_add(IdMap *m, int32_t id, int32_t *other);
/* The id of key, or -1. */
int32_t tok__idmap_find(const IdMap *m, Slice key);

/* What a pair of neighbours becomes. */
typedef struct Merge {
    uint64_t pair; /* tok__pair; UINT64_MAX is an empty slot */
    uint32_t rank; /* the lower, the earlier */
    int32_t id;
} Merge;

#define TOK_NO_RANK UINT32_MAX

typedef struct MergeMap {
    Merge *slots; /* owned */
    size_t mask;
    uint64_t odd; /* random odd multiplier */
    int shift;
} MergeMap;

MUST_CHECK bool tok__merges_init(MergeMap *m, size_t n_max);
void tok__merges_deinit(MergeMap *m);
/* False if the pair is in already; *rank is that one's. At most n_max additions. */
MUST_CHECK bool tok__merges_add(MergeMap *m, Merge x, uint32_t *rank);

/* A number that differs from process to process, for hashing only. */
uint64_t tok__seed(const void *p);

static inline uint64_t tok__pair(int32_t l, int32_t r) {
    return (uint64_t)(uint32_t)l << 32 | (uint32_t)r;
}

/* The merge of l and r; rank TOK_NO_RANK if there is none. */
static inline Merge tok__merges_find(const MergeMap *m, int32_t l, int32_t r) {
    uint64_t pair = tok__pair(l, r);
    for (size_t i = (size_t)(pair * m->odd >> m->shift);; i = (i + 1) & m->mask) {
        if (m->slots[i].pair == pair) return m->slots[i];
        if (m->slots[i].pair == UINT64_MAX) return (Merge){UINT64_MAX, TOK_NO_RANK, -1};
    }
}

static inline uint64_t tok__mix(uint64_t h, uint64_t w, uint64_t seed) {
    h = (h ^ seed) + w;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    h = (h ^ h >> 29) * 0xe7037ed1a0b428dbu;
    return h ^ h >> 32;
}

/* The up to eight bytes at p as one word; with n these tell any two texts apart. */
static inline uint64_t tok__word(const char *p, size_t n) {
    uint64_t w = 0;
    uint32_t lo, hi;
    if (n >= 8) {
        memcpy(&w, p, 8);
    } else if (n >= 4) {
        memcpy(&lo, p, 4);
        memcpy(&hi, p + n - 4, 4);
        w = (uint64_t)hi << 32 | lo;
    } else if (n > 0) {
        w = (uint64_t)(uint8_t)p[0] << 16 | (uint64_t)(uint8_t)p[n / 2] << 8 | (uint8_t)p[n - 1];
    }
    return w;
}

/* Hash of a chunk, quick on the few bytes a word has. */
static inline uint64_t tok__hash(Slice s, uint64_t seed) {
    uint64_t h = s.n;
    const char *p = s.p;
    size_t n = s.n;
    for (; n > 8; p += 8, n -= 8) h = tok__mix(h, tok__word(p, 8), seed);
    return tok__mix(h, tok__word(p, n), seed);
}

/* Equal bytes; quick on the few bytes a word has. */
static inline bool tok__same(Slice a, Slice b) {
    if (a.n != b.n) return false;
    return a.n <= 8 ? tok__word(a.p, a.n) == tok__word(b.p, b.n) : memcmp(a.p, b.p, a.n) == 0;
}

/* ---- alphabet.c: the GPT-2 byte alphabet ---- */

/* Code point that stands for byte b: itself if it is a visible character of Latin-1, else 256 and up. */
uint32_t tok__byte_char(uint8_t b);
/* The byte that cp stands for, or -1. */
int tok__char_byte(uint32_t cp);

/* ---- pretok.c, scan.c: text -> chunks ---- */

/* End of the chunk that starts at p, 1..n. p is well-formed UTF-8, n > 0. */
typedef size_t (*TokScanFn)(const char *p, size_t n);

/* One row per value of tokenizer.ggml.pre. */
typedef struct PreTok {
    const char *name;
    const char *pattern;
    TokScanFn scan;   /* the same as the pattern, only faster; NULL: the pattern is run */
    bool whole_words; /* a chunk that is a token is that token, whatever the merges say */
    bool add_bos;     /* where the file does not say */
} PreTok;

size_t tok__scan_gpt2(const char *p, size_t n);
size_t tok__scan_llama3(const char *p, size_t n); /* up to three digits together */
size_t tok__scan_qwen2(const char *p, size_t n);  /* every digit alone */

/* NULL if there is no such row. */
const PreTok *tok__pretok_find(Slice name);

/* Walks a text chunk by chunk. Start with {.pre, .re, .sc, .text}. */
typedef struct Chunks {
    const PreTok *pre;
    const Regex *re;  /* NULL where pre->scan is used */
    RegexScratch *sc; /* with re */
    Slice text;
    size_t pos;              /* all before is given */
    size_t valid_b, valid_e; /* the well-formed stretch around pos */
    size_t match_b, match_e; /* last match, behind pos if a gap came first */
} Chunks;

typedef enum ChunkKind {
    CHUNK_END,
    CHUNK_TEXT,
    CHUNK_BYTES /* ill-formed: byte by byte */
} ChunkKind;
ChunkKind tok__chunk_next(Chunks *c, Slice *out);

/* ---- special.c ---- */

typedef struct TrieNode {
    int32_t id;     /* token that ends here, or -1 */
    uint32_t child; /* 0: none */
    uint32_t sibling;
    uint8_t byte;
} TrieNode;

/* Special tokens as a trie: the longest one that starts at a position. */
typedef struct Specials {
    TrieNode *node; /* owned; 0 is the root */
    size_t n, cap;
    bool starts[256];
} Specials;

MUST_CHECK bool tok__specials_add(Specials *s, Slice text, int32_t id);
void tok__specials_deinit(Specials *s);
/* First special token in text at or after `from`; with control, control tokens too. False if there is none. */
bool tok__specials_find(const Tokenizer *t, Slice text, size_t from, bool control, size_t *at,
                        int32_t *id);

/* ---- vocab.c: the tokenizer itself ---- */

struct Tokenizer {
    int32_t n_vocab, bos, eot;
    Slice *text;   /* owned [n_vocab], the bytes lie in mem */
    Slice *piece;  /* owned [n_vocab] */
    uint8_t *type; /* owned [n_vocab] TokType */
    bool *is_end;  /* owned [n_vocab] */
    bool *whole;   /* owned [n_vocab]: a chunk of exactly these bytes encodes to this token */
    IdMap by_text, by_piece; /* by_piece: normal tokens only */
    MergeMap merges;
    int32_t byte_id[256];
    Specials specials;
    const PreTok *pre;
    Regex *re;  /* owned; NULL where pre->scan is used */
    GgufKv *kv; /* owned [n_kv]: all tokenizer.* entries, their bytes in mem */
    size_t n_kv;
    Arena mem;
};

/* ---- bpe_encode.c: one chunk -> ids ---- */

/* Working memory for long chunks. Zeroed is ready. */
typedef struct BpeSym BpeSym;
typedef struct BpeScratch {
    BpeSym *sym;    /* owned [cap] */
    uint64_t *heap; /* owned [2 * cap] */
    size_t cap;
} BpeScratch;

void tok__bpe_deinit(BpeScratch *s);
/* Append the ids of one chunk (n > 0) by merges alone. False when memory is out. */
MUST_CHECK bool tok__bpe(const Tokenizer *t, BpeScratch *s, Slice chunk, TokBuf *out);

/* Up to 63 bytes of s for a message: control bytes and everything above ASCII become '?'. */
const char *tok__show(char buf[64], Slice s);

#endif
