/* SPDX-License-Identifier: Apache-2.0
 * What is asked. Made texts are plain words in random order, different for every request, so that no cache of
 * prefixes or answers can help where none is meant to; a shared prefix is the same words for all requests that have
 * it. How many words make a token is the server's business and is measured (probe.h); until then one word is one
 * token. Texts of a file are taken in turn. [const] while requests are made: any thread. */
#ifndef INGOT_LOAD_PROMPT_H
#define INGOT_LOAD_PROMPT_H

#include "base/arena.h"
#include "load/mix.h"
#include "load/wire.h"

/* One line of a file: {"prompt"}, {"messages"} or {"conversations"} (its first turn), with "max_tokens" if it
 * likes. */
typedef struct LoadLine {
    Slice prompt, messages; /* borrowed from the arena */
    int max_tokens;         /* 0: not said */
} LoadLine;

typedef struct LoadPrompts {
    LoadMix tokens;            /* of a whole prompt, prefix included */
    int64_t n_prefix, n_kinds; /* tokens of a shared prefix, 0: none; how many there are */
    double per_word, overhead; /* tokens = overhead + per_word * words; [1, 0] */
    uint64_t seed;
    LoadLine *line; /* owned; NULL: texts are made */
    size_t n_line;
    Arena arena;
    bool filled; /* the arena is in use */
} LoadPrompts;

/* Read a file of prompts, one JSON object a line, at most 256 MB. ERR_FORMAT names the line. Free with
 * load_prompts_deinit in every case. */
MUST_CHECK Status load_prompts_open(LoadPrompts *p, const char *path, Err *e);
void load_prompts_deinit(LoadPrompts *p);
/* Set prompt, messages and, if the line has one, max_tokens of request i; a made text is put into b. */
void load_prompt_fill(LoadAsk *a, StrBuf *b, const LoadPrompts *p, uint64_t i);
/* n words, by which a server's tokens are measured. */
void load_put_words(StrBuf *b, uint64_t seed, uint64_t stream, int64_t n);

#endif
