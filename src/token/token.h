/* SPDX-License-Identifier: Apache-2.0
 * Tokenizer: byte-level BPE. Text is cut into special tokens and the rest, the rest into chunks by the
 * pre-tokenizer's pattern, each chunk's bytes are mapped to the GPT-2 alphabet and merged by rank, leftmost
 * first on ties (Sennrich et al. 2016; Radford et al. 2019). Lives in a GGUF file as tokenizer.ggml.*.
 * A Tokenizer is immutable after loading: any thread may use it. */
#ifndef INGOT_TOKEN_TOKEN_H
#define INGOT_TOKEN_TOKEN_H

#include "format/gguf.h"

typedef struct Tokenizer Tokenizer;

typedef enum TokType {
    TOK_NORMAL = 1,
    TOK_UNKNOWN,
    TOK_CONTROL,
    TOK_USER_DEFINED,
    TOK_UNUSED,
    TOK_BYTE
} TokType;

/* A growing array of token ids. Zeroed is ready; sticky failure. */
typedef struct TokBuf {
    int32_t *v; /* owned */
    size_t n, cap;
    bool failed;
} TokBuf;

/* Nothing happens after the first failed allocation. */
void tokbuf_push(TokBuf *b, int32_t id);
/* Leaves b zeroed. */
void tokbuf_deinit(TokBuf *b);

/* From the metadata of a GGUF file. ERR_NOT_FOUND and ERR_FORMAT name the key,
 * ERR_UNSUPPORTED the model or pre-tokenizer. */
MUST_CHECK Status tok_load(Tokenizer **out, const Gguf *g, Err *e);
/* From the bytes of a Hugging Face tokenizer.json with a BPE model, and of its tokenizer_config.json (or
 * nothing). ERR_FORMAT, ERR_ARG; ERR_UNSUPPORTED names the step that is not known here. */
MUST_CHECK Status tok_load_json(Tokenizer **out, Slice text, Slice config, Err *e);
/* The same for a model of n_vocab rows: ids that no token has get unused ones. ERR_FORMAT for more tokens. */
MUST_CHECK Status tok_load_json_for(Tokenizer **out, Slice text, Slice config, int32_t n_vocab,
                                    Err *e);
/* From a file: GGUF, or NAME.json as above with the tokenizer_config.json beside it if there is one. */
MUST_CHECK Status tok_open(Tokenizer **out, const char *path, Err *e);
void tok_free(Tokenizer *t);
int32_t tok_n_vocab(const Tokenizer *t);
/* Id of the end-of-text token, or -1. */
int32_t tok_eot(const Tokenizer *t);
/* Id of the begin-of-text token if the file wants one in front of a prompt, else -1. */
int32_t tok_bos(const Tokenizer *t);
/* Id of the end-of-text token if the file wants one behind a prompt, else -1. */
int32_t tok_eos(const Tokenizer *t);
/* True for tokens that end generation: end of text, end of turn. */
bool tok_is_end(const Tokenizer *t, int32_t id);
TokType tok_type(const Tokenizer *t, int32_t id);
/* Id of exactly this token text (special tokens), or -1. */
int32_t tok_find(const Tokenizer *t, Slice text);
/* Bytes of a token as decoded text: borrowed, may split a code point. Empty for control tokens. */
Slice tok_piece(const Tokenizer *t, int32_t id);
/* The token as its vocabulary writes it (for display): borrowed. */
Slice tok_text(const Tokenizer *t, int32_t id);

/* Append the ids of text. Any bytes are legal (ill-formed UTF-8 is encoded byte by byte). With
 * parse_special, special tokens written out in the text become their ids. No begin-of-text is added.
 * ERR_NOMEM. */
MUST_CHECK Status tok_encode(const Tokenizer *t, Slice text, bool parse_special, TokBuf *out,
                             Err *e);
/* Append the bytes of ids; ids outside the vocabulary are ERR_ARG. */
MUST_CHECK Status tok_decode(const Tokenizer *t, const int32_t *ids, size_t n, StrBuf *out, Err *e);

/* Streaming decode: gives only whole code points, holds back the start of one. */
typedef struct Detok {
    const Tokenizer *t; /* borrowed */
    char held[8];
    int n_held;
} Detok;
void detok_init(Detok *d, const Tokenizer *t);
/* Append what may be shown after this token. */
void detok_push(Detok *d, int32_t id, StrBuf *out);
/* Append what is still held, ill-formed bytes as U+FFFD. */
void detok_finish(Detok *d, StrBuf *out);

/* The value of a string among the tokenizer's metadata, borrowed; empty if there is none. */
Slice tok_meta_str(const Tokenizer *t, const char *key);
/* Copy all tokenizer.* metadata of t into a file being written (a model takes its tokenizer along). */
void tok_save(const Tokenizer *t, GgufW *w);
/* Append the text of a tokenizer.json that makes the same ids of texts. ERR_UNSUPPORTED names what it has no word
 * for; b is then incomplete. */
MUST_CHECK Status tok_format_json(StrBuf *b, const Tokenizer *t, Err *e);
/* Append the text of the tokenizer_config.json beside it, on one line: special tokens, chat templates; max_len: the
 * model's context. ERR_NOMEM. */
MUST_CHECK Status tok_format_json_config(StrBuf *b, const Tokenizer *t, int max_len, Err *e);

/* ---- training ---- */
enum { TOK_TRAIN_MIN_VOCAB = 257, TOK_TRAIN_MAX_VOCAB = 1000000 };
typedef struct TokTrainOpts {
    int32_t n_vocab; /* TOK_TRAIN_MIN_VOCAB .. MAX, the end-of-text token and 256 bytes included */
    int n_threads;   /* counting runs on so many, up to 256; 0: 1. No influence on the result */
    void (*progress)(void *ctx, int32_t n_done, int32_t n_total); /* NULL: silent */
    void *progress_ctx;
} TokTrainOpts;

typedef struct TokTrainer TokTrainer; /* one thread; starts its own team */
/* ERR_ARG names the option that is out of range, ERR_NOMEM. */
MUST_CHECK Status tok_train_new(TokTrainer **out, const TokTrainOpts *o, Err *e);
/* NULL is fine. */
void tok_train_free(TokTrainer *t);
/* Count the chunks of one document, which is not kept. After a failure the trainer can only be freed.
 * ERR_NOMEM, ERR_FULL. */
MUST_CHECK Status tok_train_add(TokTrainer *t, Slice doc, Err *e);
/* Learn the merges (fewer than asked for when the text runs out of pairs) and give a tokenizer with the gpt-2
 * pattern and the control token <|endoftext|> as its last id. Deterministic: ties go to the smaller pair. */
MUST_CHECK Status tok_train_finish(TokTrainer *t, Tokenizer **out, Err *e);

#endif
