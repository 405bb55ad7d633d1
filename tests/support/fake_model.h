/* SPDX-License-Identifier: Apache-2.0
 * A stand-in for a model. Its "K and V" of a token are one number made of the token, its position and the number of
 * the token before it, read through the block table, and logits and hidden states are made of that number. So a wrong
 * block, a block shared too early or reused too soon, a copy not made: each changes what comes out, which is known
 * beforehand. And requests whose ends a test waits for. */
#ifndef INGOT_TEST_FAKE_MODEL_H
#define INGOT_TEST_FAKE_MODEL_H

#include "engine/internal.h"

enum { FAKE_V = 50, FAKE_C = 8, FAKE_BLOCKS = 64, FAKE_OUT = 512, FAKE_ROWS = 4096 };

typedef struct FakeModel {
    /* Logits after token `tok` with number `at`; NULL: fake_two. */
    void (*row)(const struct FakeModel *f, float *row, uint64_t at, int32_t tok);
    unsigned lies;              /* for the test's row */
    uint64_t fail_at, n_calls;  /* this forward pass fails; 0: none */
    uint64_t fail_late, n_late; /* this asking for other rows; 0: none */
    int us, fixed_us;           /* a row takes so long, and a step; microseconds */
    int n_wide;                 /* rows of logits seen beyond one for each sequence */
    uint64_t kv[FAKE_BLOCKS * KV_BLOCK_TOK];
    float out[FAKE_OUT * FAKE_V];
    int order[FAKE_ROWS];
} FakeModel;

/* The number of a token behind one with number `before` (0: the first). */
uint64_t fake_mix(uint64_t before, int32_t tok, int pos);
/* Two tokens may follow, at equal odds. */
void fake_two(const FakeModel *f, float *row, uint64_t at, int32_t tok);
bool fake_may_follow(uint64_t at, int32_t id);
/* Element i of the hidden state of a token. */
float fake_hidden(uint64_t at, int i);

/* What engine__new_over takes; forward and kv_copy may be wrapped: their ctx is the FakeModel. */
EngineBack fake_back(FakeModel *f);
ModelConfig fake_config(int ctx);
Status fake_forward(void *ctx, const Batch *b, const float **logits, Err *e);
void fake_kv_copy(void *ctx, int32_t dst, int32_t src);

/* ---- ends of requests ---- */

/* The beginning of what a request's ctx points at. */
typedef struct FakeEnd {
    int n_done;
    FinishReason why;
    Err err;
} FakeEnd;

/* on_done of such requests. */
void fake_on_done(void *ctx, FinishReason why, const Err *e);
/* From here on ends are counted, from 0. */
void fake_reset(void);
/* Until n have ended. */
void fake_wait(int n);

#endif
