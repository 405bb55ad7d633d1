/* SPDX-License-Identifier: Apache-2.0
 * Perplexity of a text: exp of the mean negative log-probability of its tokens. The definition is
 * llama.cpp's, so that numbers compare: the text is cut into windows of ctx tokens, each window stands
 * alone, and tokens ctx/2 + 1 .. ctx - 1 of it are scored, each after all before it in its window. Where
 * the model wants a begin-of-text token, it takes the place of a window's first. */
#ifndef INGOT_EVAL_PERPLEXITY_H
#define INGOT_EVAL_PERPLEXITY_H

#include <stdatomic.h>

#include "model/lora.h"

typedef struct EvalPpl {
    double perplexity, nll; /* nll: sum over tokens, in nats */
    uint64_t n_tok;         /* scored */
    int n_chunks, ctx;      /* windows, tokens in one */
} EvalPpl;

/* Zero is the default of every field. */
typedef struct EvalPplOpts {
    int ctx;        /* tokens of a window; default 512 */
    int max_chunks; /* 0: as many as the text fills */
    bool all;       /* score every token of a window but its first */
    LoraUse lora;   /* an adapter laid over the model; default none */
    KvType kv_type; /* of the KV cache */
    int n_threads;  /* for the log-probabilities; 0: 1. The result does not depend on it */
    bool has_bos;   /* bos stands in place of each window's first token */
    int32_t bos;
    /* After each group of windows: the result so far, windows in all. NULL: silent */
    void (*progress)(void *ctx, const EvalPpl *so_far, int n_chunks);
    /* Every scored token in order. NULL: not wanted */
    void (*on_token)(void *ctx, int32_t id, double logprob);
    void *cb_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED; NULL: never */
} EvalPplOpts;

/* Windows that n tokens fill, at most max_chunks (0: no limit). */
int eval_n_chunks(size_t n, int ctx, int max_chunks);
/* ids[n] are the text's tokens. The model is used by nobody else meanwhile. ERR_ARG: ctx out of range, a
 * text shorter than a window; ERR_NOMEM, ERR_INTERNAL (NaN logits), ERR_CANCELLED. */
MUST_CHECK Status eval_perplexity(EvalPpl *out, Model *m, const int32_t *ids, size_t n,
                                  const EvalPplOpts *o, Err *e);
/* log softmax(logits[n])[id] in double precision; NaN if a logit is. */
double eval_log_prob(const float *logits, int n, int32_t id);

#endif
