/* SPDX-License-Identifier: Apache-2.0
 * Inside token/ only. Reading order: idmap.c, vocab.c, pretok.c, bpe_encode.c, encode.c. */
#ifndef INGOT_TOKEN_INTERNAL_H
#define INGOT_TOKEN_INTERNAL_H

#include "base/arena.h"
#include "text/regex.h"
#include "text/ucd.h"
#include "token/token.h"

enum {
    TOK_MAX_VOCAB = 1 << 22,
    TOK_MAX_MERGES = 1 << 23,
    TOK_MAX_SPECIAL = 1024,  /* bytes of a special token */
    TOK_MAX_CHUNK = 1 << 30, /* longer ones are cut: positions are 32 bits */
    TOK_MAX_TEXT = 1024,     /* bytes of a token whose merges come from scores */
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
/* The id that is found for this id's key from now on: the first that was added. At most n_max additions. */
int32_t tok__idmap_add(IdMap *m, int32_t id);
/* The id of key, or -1. */
int32_t tok__idmap_find(const IdMap *m, Slice key);

/* What merging works on: symbols below n_vocab are tokens, those above are texts that only occur inside
 * of tokens or merges. */
typedef struct Syms {
    Slice *text; /* owned [cap], the bytes are borrowed */
    size_t n, cap;
    IdMap map;
} Syms;

MUST_CHECK bool tok__syms_init(Syms *s, size_t n_max);
void tok__syms_deinit(Syms *s);
/* Number one more text, equal or not; returns the first symbol of this text, -1 when memory is out. */
int32_t tok__syms_add(Syms *s, Slice text);
/* The symbol of text, a new one if there is none; -1 when memory is out. */
int32_t tok__syms_intern(Syms *s, Slice text);

/* What a pair of neighbours becomes. */
typedef struct Merge {
    uint64_t pair; /* tok__pair; UINT64_MAX is an empty slot */
    uint32_t rank; /* the lower, the earlier */
    int32_t id;
} Merge;

#define TOK_NO_RANK UINT32_MAX

typedef struct MergeMap {
    Merge *slots; /* owned */
    size_t n, mask;
    uint64_t odd; /* random odd multiplier */
    int shift;
} MergeMap;

MUST_CHECK bool tok__merges_init(MergeMap *m, size_t n_max);
void tok__merges_deinit(MergeMap *m);
/* The first merge of a pair stays. False when memory is out. */
MUST_CHECK bool tok__merges_add(MergeMap *m, Merge x);

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

/* ---- pretok.c, scan.c, chunks.c: text -> chunks ---- */

enum { TOK_MAX_PASSES = 8 };

/* End of the piece that starts at i < n of p[0..n), well-formed UTF-8 that pieces before i tile. */
typedef size_t (*TokScanFn)(const char *p, size_t n, size_t i);

/* One way to cut. */
typedef struct Pass {
    const char *pattern; /* NULL: there is only scan */
    TokScanFn scan;      /* the same as the pattern, only faster; NULL: the pattern is run */
} Pass;

/* A value of tokenizer.ggml.pre. */
typedef struct PreTok {
    Pass pass[TOK_MAX_PASSES];
    int n;
    bool whole_words; /* a chunk that is a token is that token, whatever the merges say */
    bool add_bos;     /* where the file does not say */
    bool chars;       /* its vocabularies are written in characters, not in bytes */
} PreTok;

/* False if there is no such row. */
bool tok__pretok_find(PreTok *out, Slice name);
/* Append a pattern with code points beyond ASCII as themselves, which every program reads the same. */
void tok__put_pattern(StrBuf *b, const char *pattern);
/* The pattern of a pass that a scan function runs, by that function; NULL: it has none. */
const char *tok__pass_pattern(TokScanFn scan);
/* The scan function of a pattern; NULL: there is none. */
TokScanFn tok__pass_scan(Slice pattern);

size_t tok__scan_gpt2(const char *p, size_t n, size_t i);
size_t tok__scan_llama3(const char *p, size_t n, size_t i);
size_t tok__scan_qwen2(const char *p, size_t n, size_t i);
size_t tok__scan_qwen35(const char *p, size_t n, size_t i);
size_t tok__scan_gpt4o(const char *p, size_t n, size_t i);
size_t tok__scan_tekken(const char *p, size_t n, size_t i);
size_t tok__scan_granite(const char *p, size_t n, size_t i);
size_t tok__scan_digit(const char *p, size_t n, size_t i);
size_t tok__scan_digits_3(const char *p, size_t n, size_t i);
size_t tok__scan_groups(const char *p, size_t n, size_t i);
size_t tok__scan_super(const char *p, size_t n, size_t i);
size_t tok__scan_lines(const char *p, size_t n, size_t i);
/* The length of a space as vocabularies written in characters know it (' ' or U+2581), else 0. */
size_t tok__scan_space_len(const char *p, size_t n);
/* Before each run of spaces; before each space. */
size_t tok__scan_spaces(const char *p, size_t n, size_t i);
size_t tok__scan_space_each(const char *p, size_t n, size_t i);

/* A scan function by name, for passes that are written down; NULL if there is none. */
TokScanFn tok__scan_find(const char *name);
const char *tok__scan_name(TokScanFn fn);

/* What becomes of a match. */
typedef enum SplitMode {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_WITH_PREVIOUS, /* it ends the piece before it */
    SPLIT_WITH_NEXT,     /* it begins the piece behind it */
    SPLIT_CONTIGUOUS,    /* neighbouring ones are one piece */
    SPLIT_MODE_COUNT
} SplitMode;

/* A pass, ready to run. Zeroed is not: it needs scan or re. */
typedef struct Splitter {
    TokScanFn scan;
    Regex *re;      /* owned; NULL where scan is used */
    SplitMode mode; /* with re */
    bool invert;    /* gaps are matches, matches are gaps */
} Splitter;

MUST_CHECK Status tok__splitter_init(Splitter *s, const Pass *p, Err *e);

typedef struct Stage {
    RegexScratch *sc; /* borrowed; with a pattern */
    Slice text;       /* the piece it cuts */
    size_t pos;       /* all before is given */
    size_t match_b, match_e;
} Stage;

/* Walks a text chunk by chunk. */
typedef struct Chunks {
    const Splitter *pass; /* borrowed [n_pass] */
    int n_pass;
    Slice text;
    size_t pos;
    Stage stage[TOK_MAX_PASSES];
} Chunks;

typedef enum ChunkKind {
    CHUNK_END,
    CHUNK_TEXT,
    CHUNK_BYTES /* ill-formed: byte by byte */
} ChunkKind;
/* sc: [n_pass] for the passes with a pattern, or NULL if there are none. All is borrowed. */
void tok__chunks_init(Chunks *c, const Splitter *pass, int n_pass, RegexScratch *const *sc,
                      Slice text);
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
    int only_start; /* the byte that all of them start with, or -1 */
    bool overlap;   /* one may begin inside of another */
} Specials;

MUST_CHECK bool tok__specials_add(Specials *s, Slice text, int32_t id);
void tok__specials_deinit(Specials *s);
/* Sets only_start and overlap, once all are in. */
void tok__specials_close(Specials *s, const Tokenizer *t);

/* A piece of a text: a special token, or (id < 0) what lies between two. */
typedef struct Fragment {
    Slice text;
    int32_t id;
} Fragment;

/* Walks a text from fragment to fragment. */
typedef struct Fragments {
    const Tokenizer *t; /* borrowed */
    Slice text;
    bool control; /* control tokens too */
    size_t pos;
    int32_t next;      /* the token that starts at pos, or -1 */
    Fragment *ordered; /* owned; NULL: leftmost first is right and nothing is stored */
    size_t n, i;
} Fragments;

/* Start {.t, .text, .control}. False when memory is out. */
MUST_CHECK bool tok__fragments_init(Fragments *f);
void tok__fragments_deinit(Fragments *f);
/* False at the end. Texts may be empty. */
bool tok__fragments_next(Fragments *f, Fragment *out);

/* ---- vocab.c: the tokenizer itself ---- */

/* TOK_NAMED: special in what is written out, whatever its type; it stays text to merges. */
enum { TOK_LSTRIP = 1, TOK_RSTRIP = 2, TOK_NAMED = 4 };

/* What is put in front of a text before it is cut. */
typedef enum Prefix { PREFIX_NONE, PREFIX_SPACE, PREFIX_SPACE_IF_NONE } Prefix;

struct Tokenizer {
    int32_t n_vocab, bos, eos, eot, unk; /* -1: none */
    bool chars;        /* symbols begin as characters, a space as U+2581; else as bytes */
    bool scores;       /* merges come from the tokens' scores */
    bool whole_words;  /* a chunk that is a token is that token, whatever the merges say */
    bool leftmost;     /* special tokens: the leftmost first; else the longest first */
    bool odd;          /* symbols may be left over that are no tokens of text */
    bool prefix_first; /* only at the very beginning */
    Prefix prefix;
    UtfForm form;   /* of the text before it is cut */
    Syms sym;       /* sym.text[0..n_vocab) are the tokens' texts */
    Slice *piece;   /* owned [n_vocab] */
    uint8_t *type;  /* owned [n_vocab] TokType */
    uint8_t *flags; /* owned [n_vocab] of TOK_LSTRIP, TOK_RSTRIP (white space it eats), TOK_NAMED */
    bool *is_end;   /* owned [n_vocab] */
    bool *whole;    /* owned [n_vocab]: a chunk of exactly these bytes encodes to this token */
    IdMap by_piece; /* tokens of text only */
    MergeMap merges;
    int32_t start[256];   /* the symbol that a byte or an ASCII character begins as */
    int32_t byte_id[256]; /* the token for a byte that is left over, or -1 */
    int32_t single[256];  /* the token for a chunk of one byte, or -1: ask */
    Specials specials;
    Splitter pass[TOK_MAX_PASSES];
    int n_pass;
    GgufKv *kv; /* owned [n_kv]: all tokenizer.* entries, their bytes in mem */
    size_t n_kv;
    Arena mem;
};

/* True for tokens that text may become: normal and user-defined ones, and bytes written in the alphabet. */
static inline bool tok__is_text(const Tokenizer *t, int32_t id) {
    return t->type[id] == TOK_NORMAL || t->type[id] == TOK_USER_DEFINED ||
           (t->type[id] == TOK_BYTE && !t->chars);
}

/* True for tokens that are cut out of a text before the rest is encoded. */
static inline bool tok__is_special(const Tokenizer *t, int32_t id) {
    return t->type[id] == TOK_CONTROL || t->type[id] == TOK_UNKNOWN ||
           t->type[id] == TOK_USER_DEFINED || t->flags[id] & TOK_NAMED;
}

#define TOK_KEY(x) "tokenizer.ggml." x
#define TOK_OWN(x) "tokenizer.ingot." x

Status tok__no_memory(Err *e);
/* This tokenizer's copy of a metadata entry, or NULL. */
const GgufKv *tok__own_kv(const Tokenizer *t, const char *key);

/* ---- merges.c ---- */

/* From texts and types to pieces, symbols, merges, whole[] and single[]. */
MUST_CHECK Status tok__read_pieces(Tokenizer *t, Err *e);
MUST_CHECK Status tok__read_merges(Tokenizer *t, const Gguf *g, Err *e);

/* ---- roles.c ---- */

/* Begin, end, unknown; types of well-known tokens; what eats white space; the special tokens. */
MUST_CHECK Status tok__read_roles(Tokenizer *t, const Gguf *g, bool add_bos, Err *e);

/* ---- meta.c: metadata in memory ---- */

/* Sticky failure. */
typedef struct Meta {
    StrBuf b;
    uint64_t n_kv;
} Meta;
void tok__meta_begin(Meta *m);
void tok__meta_deinit(Meta *m);
void tok__meta_str(Meta *m, const char *key, Slice v);
void tok__meta_u32(Meta *m, const char *key, uint32_t v);
void tok__meta_bool(Meta *m, const char *key, bool v);
/* Exactly n elements have to follow. */
void tok__meta_arr(Meta *m, const char *key, GgufType type, size_t n);
void tok__meta_put_str(Meta *m, Slice s);
void tok__meta_put_i32(Meta *m, int32_t v);
void tok__meta_put_f32(Meta *m, float v);
/* Close it and load a tokenizer from it. */
MUST_CHECK Status tok__meta_load(Tokenizer **out, Meta *m, Err *e);

/* ---- hf_split.c: how a tokenizer.json cuts ---- */

typedef struct Json Json;

/* The passes as read_split (vocab.c) reads them, and what stands around them. */
typedef struct HfCut {
    StrBuf split[TOK_MAX_PASSES]; /* owned */
    int n_split;
    bool bytes;        /* ByteLevel is among them */
    bool chars;        /* a space is written as U+2581 */
    bool prefix_first; /* with prefix */
    const char *form;  /* a normal form, or NULL */
    Prefix prefix;
} HfCut;

MUST_CHECK Status tok__hf_cut_read(HfCut *c, const Json *root, Err *e);
void tok__hf_cut_deinit(HfCut *c);
/* The passes of a row of pretok.c, written down in c, which is empty; false: no such row, or one of its passes has
 * no pattern. Sticky failure of the buffers. */
bool tok__pretok_splits(HfCut *c, Slice name);
/* The other way: a row's first name; NULL if no row has these passes, or for want of memory. */
const char *tok__pretok_name(const HfCut *c, bool whole_words);
/* The regular expression of a scan function's name; NULL if there is none. */
const char *tok__hf_regex_of(const char *scan);
/* The name under which other programs know these passes; NULL if there is none. */
const char *tok__hf_cut_name(const HfCut *c, bool whole_words);

/* ---- bpe_encode.c: one chunk -> ids ---- */

/* Working memory for long chunks. Zeroed is ready. */
typedef struct BpeSym BpeSym;
typedef struct BpeScratch {
    BpeSym *sym;    /* owned [cap] */
    uint64_t *heap; /* owned [2 * cap] */
    size_t cap;
} BpeScratch;

void tok__bpe_deinit(BpeScratch *s);
/* Append the ids of one chunk (n > 0, well-formed where the vocabulary is written in characters) by merges
 * alone. False when memory is out. */
MUST_CHECK bool tok__bpe(const Tokenizer *t, BpeScratch *s, Slice chunk, TokBuf *out);
/* Append the ids of bytes that nothing merges. */
void tok__put_bytes(const Tokenizer *t, Slice s, TokBuf *out);

/* Up to 63 bytes of s for a message: control bytes and everything above ASCII become '?'. */
const char *tok__show(char buf[64], Slice s);

#endif
