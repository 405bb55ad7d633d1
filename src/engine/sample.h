/* SPDX-License-Identifier: Apache-2.0
 * Choosing the next token from a row of logits.
 *
 * Order of operations:
 *   1  mask and bans     what is not allowed becomes -inf
 *   2  logit bias        added
 *   3  penalties         repetition (divides a positive logit, multiplies another), then frequency and
 *                        presence (subtracted)
 *   -  temperature 0 ends here with the best token
 *   4  top-k             the k best
 *   5  temperature       probability = softmax(logit / temperature) of what is left
 *   6  typical           those whose -log p is nearest to the entropy, until they hold the share `typical`
 *   7  top-p             the fewest best that hold the share `top_p` of what is left
 *   8  min-p             those with at least `min_p` times the probability of the best that is left
 *   9  the draw          what is kept stands in id order, and the uniform number of (seed, position) falls
 *                        on one of them
 * The cuts come in llama.cpp's order. Temperature comes before the cuts that look at probabilities, as the
 * OpenAI interface, vLLM and Transformers have it (llama.cpp puts it last): a request that was tuned for
 * those means the same here. Top-k is not touched by temperature, so its place next to it is free.
 * Log-probabilities are of the row as the model gave it, before step 1.
 *
 * Equal logits go to the lower id in every choice. The result is a function of the row, the options, the
 * history and (seed, position) alone: sums have a fixed order or are sums of integers, so neither the batch
 * nor the width of vector instructions changes a bit.
 *
 * Nothing here allocates or keeps state between calls; memory is the caller's. Any thread, one Sampler per
 * thread. */
#ifndef INGOT_ENGINE_SAMPLE_H
#define INGOT_ENGINE_SAMPLE_H

#include "base/err.h"
#include "kernel/kernel.h"

enum {
    SAMPLE_MAX_TEMP = 100,
    SAMPLE_MAX_REPETITION = 100,
    SAMPLE_MAX_BIAS = 300,     /* pairs */
    SAMPLE_MAX_STOP_IDS = 128, /* stop tokens of one request */
    SAMPLE_MAX_TOP = 20        /* log-probabilities beside the chosen token's */
};

typedef struct SampleBias {
    int32_t id;
    float bias; /* -100 .. 100 */
} SampleBias;

/* Zero is off in every field but top_p, whose off is 1. */
typedef struct SampleOpts {
    double temp;   /* 0: greedy; 0 .. 100 */
    int64_t top_k; /* 0: off */
    double top_p;  /* (0, 1]; 1: off */
    uint64_t seed;
    double min_p;           /* 0 .. 1; 0: off */
    double typical;         /* 0 .. 1; 0 and 1: off */
    double repetition;      /* 0.01 .. 100; 0 and 1: off. Looks at prompt and output */
    int64_t repeat_last_n;  /* repetition looks at so many newest tokens; 0: at all of them */
    double presence;        /* -2 .. 2; once for a token that is in the output */
    double frequency;       /* -2 .. 2; for each time that a token is in the output */
    const SampleBias *bias; /* borrowed, n_bias of them, no id twice */
    int n_bias;
    const int32_t
        *stop_ids; /* borrowed; tokens that end the request. Here only: banned before min_tokens */
    int n_stop_ids;
    int64_t min_tokens;   /* stop and end tokens are banned until the output has so many */
    int64_t top_logprobs; /* 0 .. 20; needs logprobs */
    bool logprobs;        /* of the chosen token */
} SampleOpts;

/* ERR_ARG naming the field, its value and the limit: NaN, negative and absurd values are refused.
 * n_vocab > 0: ids of bias and stop_ids are checked against it; 0: the vocabulary is not known yet. */
MUST_CHECK Status sample_check_vocab(const SampleOpts *o, int n_vocab, Err *e);
/* The same without a vocabulary. */
MUST_CHECK Status sample_check(const SampleOpts *o, Err *e);

/* What everything here works in, for one thread at a time. */
typedef struct Sampler Sampler;
size_t sample_bytes(int n_vocab);
/* In mem[sample_bytes(n_vocab)], aligned like an allocator's; kern is borrowed. Nothing to release. */
Sampler *sample_init(void *mem, int n_vocab, const Kern *kern);

/* ---- history: how often each token came so far, for penalties ---- */

/* Lies in memory of the caller. Push and pop take constant time, penalties that of the distinct tokens. */
typedef struct SampleHist SampleHist;
/* Whether the options look at a history at all. */
bool sample_needs_hist(const SampleOpts *o);
/* Bytes for up to max_tok tokens of prompt and output, max_tok <= 2^28. */
size_t sample_hist_bytes(int max_tok);
/* An empty history in mem[sample_hist_bytes(max_tok)], aligned like an allocator's. repeat_last_n as in the
 * options. Nothing to release. */
SampleHist *sample_hist_init(void *mem, int max_tok, int64_t repeat_last_n);
/* Append a token; the first one that is of the output makes all that follow so. Beyond max_tok, and for ids
 * below 0: nothing happens. */
void sample_hist_push(SampleHist *h, int32_t id, bool is_output);
/* Take back the newest tokens until n are left (a draft that was not accepted). */
void sample_hist_truncate(SampleHist *h, int n);
/* Tokens in it; those of the output. */
int sample_hist_n(const SampleHist *h);
int sample_hist_n_output(const SampleHist *h);

/* ---- one token ---- */

/* What a choice is made from; all pointers are borrowed for the call. Ids outside the vocabulary in the
 * history and the lists are passed over. */
typedef struct SampleIn {
    const float *logits; /* [n_vocab], stay as they are */
    int n_vocab;
    const SampleOpts *o; /* checked */
    uint64_t pos;        /* tokens before this one: with the seed, the key of the random number */
    int64_t n_out;       /* tokens of the output so far, for min_tokens */
    const SampleHist *hist; /* NULL: no penalties */
    const uint32_t
        *mask; /* bit id % 32 of word id / 32: allowed; bits beyond are ignored. NULL: all */
    const int32_t *ban; /* not this time, whatever the options say */
    int n_ban;
    const int32_t *end_ids; /* end tokens of the model: banned before min_tokens */
    int n_end_ids;
} SampleIn;

typedef struct SampleTop {
    int32_t id;
    double logprob; /* natural logarithm; -inf where the logit is */
} SampleTop;

typedef struct SampleOut {
    int32_t id;
    int rank;       /* 1: the best; logprobs only */
    double logprob; /* logprobs only */
    int n_top;      /* min(top_logprobs, n_vocab) */
    SampleTop top[SAMPLE_MAX_TOP];
} SampleOut;

/* ERR_INTERNAL: the row holds NaN or +inf, or -inf only. ERR_ARG: the mask allows no token, or mask, bans
 * and logits of -inf together leave none. After a failure *out is as it was. */
MUST_CHECK Status sample_pick(SampleOut *out, const SampleIn *in, Sampler *s, Err *e);
/* The token alone, with no history, mask or bans. */
MUST_CHECK Status sample_next(int32_t *id, const float *logits, int n_vocab, const SampleOpts *o,
                              uint64_t pos, Sampler *s, Err *e);

/* ---- log-probabilities of a row without a choice: scores of given tokens, prompts ---- */

/* log softmax of logits[n_vocab] at id (below 0: of no token) with its rank, and the n_top best, best first.
 * out->id is id. ERR_INTERNAL as for sample_pick. */
MUST_CHECK Status sample_score(SampleOut *out, const float *logits, int n_vocab, int32_t id,
                               int n_top, Sampler *s, Err *e);

#endif
