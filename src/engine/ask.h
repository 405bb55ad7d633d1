/* SPDX-License-Identifier: Apache-2.0
 * What a request may want besides new tokens. All of it comes from rows of the prompt that the engine computes
 * anyway; with max_new 0 nothing else is done, and the request ends as FINISH_LENGTH when all was told.
 *
 *   prompt log-probabilities   of every prompt token but the first, given those before it; raw, as the model has
 *                              them, with the best few others
 *   pooled hidden state        of the prompt, from the final norm's output: an embedding
 *   choices                    continuations of the prompt to compare, such as a classifier's labels: the
 *                              log-probability of each. The prompt is computed once, and its KV serves all
 *
 * Rows whose logits or hidden states are wanted are computed, also where the prefix cache has their KV; the cache
 * serves the others. Whatever happens to the request meanwhile (chunks, preemption), each result is told once. */
#ifndef INGOT_ENGINE_ASK_H
#define INGOT_ENGINE_ASK_H

#include "engine/sample.h"

enum { ASK_MAX_CHOICES = 1024 };

typedef enum AskPool {
    ASK_POOL_NONE,
    ASK_POOL_LAST, /* of the last token: what decoders are trained for as embedders */
    ASK_POOL_MEAN, /* of all tokens */
    ASK_POOL_FIRST /* of the first token */
} AskPool;

typedef struct AskChoice {
    const int32_t *tok;
    int n; /* >= 1 */
} AskChoice;

/* A choice's result; borrowed for the call. */
typedef struct AskScore {
    double logprob; /* of the whole continuation: the sum of its tokens' */
    double prob;    /* its share among the choices: softmax of the sums */
    int n;
    const double *tok_logprob; /* [n] natural logarithms */
} AskScore;

/* Zero is off in every field. */
typedef struct EngineAsk {
    bool prompt_logprobs;
    int prompt_top; /* best tokens of each place beside the prompt's own: 0 .. SAMPLE_MAX_TOP */
    AskPool pool;
    bool normalize;           /* the pooled state gets length 1 */
    const AskChoice *choices; /* n_choices of them; need max_new 0 */
    int n_choices;
    /* Engine thread; the rules of on_token hold. Before the first on_token, and before on_done.
     * at: place of the token in the prompt, 1 .. n_prompt - 1, rising. t: id, logprob, rank, top. */
    void (*on_prompt)(void *ctx, int at, const SampleOut *t);
    void (*on_pooled)(void *ctx, const float *x, int n); /* n: the model's width */
    void (*on_choices)(void *ctx, const AskScore *s, int n);
} EngineAsk;

#endif
