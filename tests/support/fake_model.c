/* SPDX-License-Identifier: Apache-2.0 */
#include "support/fake_model.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

uint64_t fake_mix(uint64_t before, int32_t tok, int pos) {
    uint64_t z = before ^ ((uint64_t)(uint32_t)tok << 32 | (uint32_t)pos);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

bool fake_may_follow(uint64_t at, int32_t id) {
    return id == (int32_t)(at % FAKE_V) || id == (int32_t)(at / FAKE_V % FAKE_V);
}

void fake_two(const FakeModel *f, float *row, uint64_t at, int32_t tok) {
    (void)f, (void)tok;
    for (int v = 0; v < FAKE_V; v++) row[v] = fake_may_follow(at, v) ? 1.0f : -1e30f;
}

float fake_hidden(uint64_t at, int i) { return (float)(at >> 8 * i & 255) / 256.0f - 0.5f; }

/* ---- the model ---- */

static uint64_t *cell(FakeModel *f, const Batch *b, int row, int pos) {
    return &f->kv[b->blocks[b->seq[row]][pos / KV_BLOCK_TOK] * KV_BLOCK_TOK + pos % KV_BLOCK_TOK];
}

static int by_pos(const void *x, const void *y, void *batch) {
    const Batch *b = batch;
    return b->pos[*(const int *)x] - b->pos[*(const int *)y];
}

static const float *rows_of(FakeModel *f, const Batch *b, bool is_hidden) {
    size_t width = is_hidden ? FAKE_C : FAKE_V;
    for (int i = 0; i < b->n_out; i++) {
        int r = b->out[i];
        uint64_t at = *cell(f, b, r, b->pos[r]);
        float *y = &f->out[(size_t)i * width];
        for (int c = 0; is_hidden && c < FAKE_C; c++) y[c] = fake_hidden(at, c);
        if (!is_hidden) (f->row ? f->row : fake_two)(f, y, at, b->tok[r]);
    }
    return f->out;
}

/* Rows by position: as in a real pass, what a row reads of this batch is there, wherever its writer stands. */
Status fake_forward(void *ctx, const Batch *b, const float **logits, Err *e) {
    FakeModel *f = ctx;
    if (++f->n_calls == f->fail_at) return err_set(e, ERR_IO, "the device is lost");
    for (int i = 0; i < b->T; i++) f->order[i] = i;
    qsort_r(f->order, (size_t)b->T, sizeof f->order[0], by_pos, (void *)(uintptr_t)b);
    for (int i = 0; i < b->T; i++) {
        int r = f->order[i], pos = b->pos[r];
        *cell(f, b, r, pos) = fake_mix(pos ? *cell(f, b, r, pos - 1) : 0, b->tok[r], pos);
    }
    if (f->us) nanosleep(&(struct timespec){.tv_nsec = 1000L * (f->fixed_us + f->us * b->T)}, NULL);
    f->n_wide += MAX(b->n_out - b->n_seq, 0);
    *logits = rows_of(f, b, false);
    return OK;
}

static Status late(FakeModel *f, const Batch *b, const float **out, bool is_hidden, Err *e) {
    if (++f->n_late == f->fail_late) return err_set(e, ERR_IO, "the device is lost");
    if (b->n_out < 1 || b->n_out > FAKE_OUT) return err_set(e, ERR_ARG, "%d rows", b->n_out);
    *out = rows_of(f, b, is_hidden);
    return OK;
}

static Status late_logits(void *ctx, const Batch *b, const float **out, Err *e) {
    return late(ctx, b, out, false, e);
}

static Status late_hidden(void *ctx, const Batch *b, const float **out, Err *e) {
    return late(ctx, b, out, true, e);
}

void fake_kv_copy(void *ctx, int32_t dst, int32_t src) {
    FakeModel *f = ctx;
    memcpy(&f->kv[dst * KV_BLOCK_TOK], &f->kv[src * KV_BLOCK_TOK], KV_BLOCK_TOK * sizeof f->kv[0]);
}

EngineBack fake_back(FakeModel *f) {
    return (EngineBack){.forward = fake_forward,
                        .kv_copy = fake_kv_copy,
                        .ctx = f,
                        .logits = late_logits,
                        .hidden = late_hidden};
}

ModelConfig fake_config(int ctx) {
    return (ModelConfig){.arch = model_arch_find(slice_of("llama")),
                         .n_layer = 1,
                         .C = FAKE_C,
                         .nh = 1,
                         .nkv = 1,
                         .hd = 8,
                         .ff = 8,
                         .V = FAKE_V,
                         .ctx = ctx};
}

/* ---- ends ---- */

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int n_over; /* [mu] */

void fake_on_done(void *ctx, FinishReason why, const Err *e) {
    FakeEnd *end = ctx;
    pthread_mutex_lock(&mu);
    end->n_done++;
    end->why = why;
    if (e) end->err = *e;
    n_over++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mu);
}

void fake_reset(void) {
    pthread_mutex_lock(&mu);
    n_over = 0;
    pthread_mutex_unlock(&mu);
}

void fake_wait(int n) {
    pthread_mutex_lock(&mu);
    while (n_over < n) pthread_cond_wait(&changed, &mu);
    pthread_mutex_unlock(&mu);
}
