/* SPDX-License-Identifier: Apache-2.0
 * Constrained output: a grammar says which tokens may come next.
 *
 * A JSON Schema, a GBNF grammar, a regular expression or a list of choices is compiled to one form, a
 * pushdown automaton over bytes. A GrammarVocab is a model's vocabulary as a trie of bytes. A GrammarState is
 * one sequence's place in a grammar; grammar_mask gives the tokens that keep the text a beginning of
 * something the grammar accepts.
 *
 * Compiling may run on any thread and is bounded by GrammarLimits. A compiled grammar, its states and the
 * caches inside belong to one thread at a time (the engine's). A GrammarVocab is immutable: any thread.
 * What is understood, and what is refused: docs/grammar.md. */
#ifndef INGOT_ENGINE_GRAMMAR_GRAMMAR_H
#define INGOT_ENGINE_GRAMMAR_GRAMMAR_H

#include "base/str.h"

typedef struct Tokenizer Tokenizer;

/* ---- vocabulary ---- */
typedef struct GrammarVocab GrammarVocab;

/* From a tokenizer, which may go afterwards. Control, unknown and unused tokens are never allowed, end
 * tokens exactly where the grammar can end. ERR_NOMEM, ERR_ARG (a piece over 65535 bytes). */
MUST_CHECK Status grammar_vocab_new(GrammarVocab **out, const Tokenizer *t, Err *e);
/* The same from pieces[n], copied; an empty piece is never allowed; is_end[n] marks end tokens. */
MUST_CHECK Status grammar_vocab_from_pieces(GrammarVocab **out, const Slice *pieces,
                                            const bool *is_end, int32_t n, Err *e);
void grammar_vocab_free(GrammarVocab *v);
/* Words of a mask: one bit per token, token i in bit i % 32 of word i / 32. */
size_t grammar_vocab_words(const GrammarVocab *v);
int32_t grammar_vocab_size(const GrammarVocab *v);
/* Bytes it holds. */
size_t grammar_vocab_bytes(const GrammarVocab *v);

/* ---- compiling ---- */
typedef struct Grammar Grammar;

/* 0 is the default. A source over a limit is refused with ERR_FULL, or ERR_TIMEOUT for compile_ms. */
typedef struct GrammarLimits {
    size_t source_bytes; /* of the text given (256 KiB) */
    uint32_t n_nodes;    /* of its syntax tree (200,000) */
    uint32_t n_states;   /* of the automaton (500,000) */
    int depth;           /* nested groups, schemas, rules written in place (128, at most 256) */
    int compile_ms;      /* (2,000) */
    int stack_depth;     /* calls open at once in the text, such as nested arrays (256) */
    size_t state_bytes;  /* of states met while generating; the coldest go (16 MiB) */
    size_t mask_bytes;   /* of masks kept (16 MiB) */
    uint64_t mask_work;  /* steps one mask or one token may take (4 million) */
} GrammarLimits;

/* All: *out is owned by the caller, limits may be NULL. A refusal is one line that begins with the place: a
 * JSON pointer, or line:column. ERR_FORMAT (not of the language), ERR_UNSUPPORTED (of the language, but cannot be
 * held to), ERR_FULL, ERR_TIMEOUT, ERR_NOMEM. Any thread. */
MUST_CHECK Status grammar_from_schema(Grammar **out, Slice json, const GrammarLimits *limits,
                                      Err *e);
MUST_CHECK Status grammar_from_gbnf(Grammar **out, Slice text, const GrammarLimits *limits, Err *e);
MUST_CHECK Status grammar_from_regex(Grammar **out, Slice pattern, const GrammarLimits *limits,
                                     Err *e);
MUST_CHECK Status grammar_from_choices(Grammar **out, const Slice *choices, size_t n,
                                       const GrammarLimits *limits, Err *e);
/* Any JSON object. */
MUST_CHECK Status grammar_json_object(Grammar **out, const GrammarLimits *limits, Err *e);
/* NULL is fine. No state of it may be left. */
void grammar_free(Grammar *g);
/* Compute the masks that take longest, for at most this long, so that generation meets fewer for the first
 * time. For the compiling thread, before the first state. ERR_NOMEM. */
MUST_CHECK Status grammar_warm(Grammar *g, const GrammarVocab *v, int max_ms, Err *e);
/* Bytes it holds now, caches included; they stay under the limits' state_bytes, mask_bytes and what the
 * automaton takes. */
size_t grammar_bytes(const Grammar *g);
/* Verify the invariants of the automaton and its caches. ERR_INTERNAL. For tests. */
MUST_CHECK Status grammar_check(const Grammar *g, Err *e);

/* ---- one sequence ---- */
/* Zeroed is legal for deinit. The fields are the module's own. */
typedef struct GrammarState {
    Grammar *g;            /* borrowed */
    const GrammarVocab *v; /* borrowed */
    uint32_t pin;          /* this state's entry among the grammar's pins */
    bool ended;            /* an end token was taken */
} GrammarState;

/* At the beginning of the grammar. ERR_NOMEM, ERR_FULL. On failure *s is zeroed. */
MUST_CHECK Status grammar_state_init(GrammarState *s, Grammar *g, const GrammarVocab *v, Err *e);
/* dst, zeroed or initialised, goes where src is. Going back is copying first and copying back. ERR_NOMEM for a
 * zeroed dst only. */
MUST_CHECK Status grammar_state_copy(GrammarState *dst, const GrammarState *src, Err *e);
void grammar_state_deinit(GrammarState *s);
/* mask[grammar_vocab_words] = the tokens allowed now. ERR_FULL: the grammar is too ambiguous or nested too deep
 * here; ERR_NOT_FOUND: no token of the vocabulary goes on. Only this sequence is to fail then. ERR_NOMEM. */
MUST_CHECK Status grammar_mask(const GrammarState *s, uint32_t *mask, Err *e);
/* Go on by a token. ERR_ARG: it was not allowed, the state is as before. ERR_FULL, ERR_NOMEM as above. */
MUST_CHECK Status grammar_accept(GrammarState *s, int32_t token, Err *e);
/* Go on by bytes, all or none, such as text that was forced. Errors as above. */
MUST_CHECK Status grammar_accept_bytes(GrammarState *s, Slice bytes, Err *e);
/* Whether the text so far is complete: end tokens are allowed. */
bool grammar_can_end(const GrammarState *s);
/* Whether nothing may follow: an end token was taken, or the text is complete and every byte would be wrong. */
bool grammar_is_done(const GrammarState *s);

#endif
