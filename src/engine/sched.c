/* SPDX-License-Identifier: Apache-2.0
 * One step of the engine: drop what was cancelled, admit, build one ragged batch, run the model, sample.
 *
 *   batch = one row for each sequence that is past its prompt
 *         + prompt rows of the others, oldest first, up to prefill_chunk of them in all
 *
 * First come, first served, and a request takes every KV block it will ever need on admission: nobody is
 * preempted, nobody starves, and a step can neither run out of memory nor allocate any. A failure of the
 * model ends all that run (their KV is in doubt) and none that wait; a failure of the sampler ends one. */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "engine/internal.h"

static bool is_cancelled(const Req *r) {
    return atomic_load_explicit(&r->cancelled, memory_order_relaxed);
}

static void add_u64(_Atomic uint64_t *c, uint64_t n) {
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static void count_blocks(Engine *en) {
    int used = kv_n_blocks(en->pool) - kv_n_free(en->pool);
    atomic_store_explicit(&en->count.n_blocks_used, used, memory_order_relaxed);
}

/* ---- ends ---- */

void engine__finish(Req *r, FinishReason why, const Err *why_err) {
    if (r->in.on_done) r->in.on_done(r->in.ctx, why, why == FINISH_ERROR ? why_err : NULL);
    mem_free(r);
}

void engine__finish_run(Engine *en, int i, FinishReason why, const Err *why_err) {
    Req *r = en->run[i];
    pthread_mutex_lock(&en->mu);
    en->n_run--;
    memmove(&en->run[i], &en->run[i + 1], (size_t)(en->n_run - i) * sizeof en->run[0]);
    pthread_mutex_unlock(&en->mu);
    kv_seq_release(en->pool, r->kv);
    count_blocks(en);
    engine__finish(r, why, why_err);
}

static void fail_all(Engine *en, const Err *why) {
    while (en->n_run > 0) engine__finish_run(en, 0, FINISH_ERROR, why);
}

/* ---- cancel, admit ---- */

static void drop_cancelled_running(Engine *en) {
    for (int i = 0; i < en->n_run;)
        if (is_cancelled(en->run[i])) engine__finish_run(en, i, FINISH_CANCELLED, NULL);
        else i++;
}

/* Unlink the cancelled ones, order kept. mu held. */
static Queue take_cancelled_waiting(Engine *en) {
    Queue dead = {0}, alive = {0};
    if (!en->any_cancelled) return dead;
    en->any_cancelled = false;
    for (Req *r; (r = engine__pop(&en->waiting));)
        engine__push(is_cancelled(r) ? &dead : &alive, r);
    en->waiting = alive;
    return dead;
}

/* From the head of the queue, as long as there is a place and KV for all its tokens. The newest token's K
 * and V are never needed. mu held. */
static void admit(Engine *en) {
    Req *r;
    while (en->n_run < en->o.max_seqs && (r = en->waiting.head)) {
        int n_tok = r->in.n_prompt + r->max_new - 1;
        if (kv_seq_take(&r->kv, en->pool, n_tok, NULL) != OK) break;
        engine__pop(&en->waiting);
        en->run[en->n_run++] = r;
    }
    count_blocks(en);
}

/* ---- batch ---- */

/* The next n tokens of request i, the last of which gets logits when it is the newest known. */
static void add_rows(Engine *en, int i, int n) {
    Req *r = en->run[i];
    Batch *b = &en->batch;
    for (int p = r->n_kv; p < r->n_kv + n; p++, b->T++) {
        en->tok[b->T] = p < r->in.n_prompt ? r->prompt[p] : r->last;
        en->pos[b->T] = p;
        en->seq[b->T] = i;
    }
    r->n_rows = n;
    if (r->n_kv + n < r->in.n_prompt) return;
    en->out[b->n_out] = b->T - 1;
    r->out_row = b->n_out++;
}

static void build_batch(Engine *en) {
    Batch *b = &en->batch;
    int room = en->o.prefill_chunk;
    b->T = b->n_out = 0;
    b->n_seq = en->n_run;
    for (int i = 0; i < en->n_run; i++) {
        Req *r = en->run[i];
        int left = r->in.n_prompt - r->n_kv; /* <= 0: past its prompt */
        int n = left > 0 ? MIN(left, room) : 1;
        en->blocks[i] = kv_seq_blocks(en->pool, r->kv);
        r->n_rows = 0;
        r->out_row = -1;
        if (left > 0) {
            room -= n;
            add_u64(&en->count.n_prompt_tok, (uint64_t)n);
        }
        if (n > 0) add_rows(en, i, n);
    }
}

/* ---- results ---- */

/* Give the new token to its request; false when that was its last. */
static bool take_token(Engine *en, Req *r, int32_t id, FinishReason *why) {
    *why = FINISH_STOP;
    if (en->o.tok && !r->in.ignore_end && tok_is_end(en->o.tok, id)) return false;
    r->last = id;
    r->n_new++;
    add_u64(&en->count.n_new_tok, 1);
    if (r->in.on_token) r->in.on_token(r->in.ctx, id);
    *why = FINISH_LENGTH;
    return r->n_new < r->max_new;
}

/* After the model ran: advance request i; false when it is done and gone. */
static bool advance(Engine *en, int i, const float *logits) {
    Req *r = en->run[i];
    FinishReason why = FINISH_CANCELLED;
    Err err = {0};
    int32_t id;
    r->n_kv += r->n_rows;
    if (r->out_row < 0) return true;
    if (!is_cancelled(r)) {
        const float *row = logits + (size_t)r->out_row * (size_t)en->model->cfg.V;
        uint64_t pos = (uint64_t)r->in.n_prompt + (uint64_t)r->n_new;
        if (sample_next(&id, row, en->n_vocab, &r->in.sample, pos, en->scratch, &err) != OK)
            why = FINISH_ERROR;
        else if (take_token(en, r, id, &why)) return true;
    }
    engine__finish_run(en, i, why, &err);
    return false;
}

void engine__step(Engine *en) {
    Err err = {0};
    const float *logits = NULL;
    drop_cancelled_running(en);
    pthread_mutex_lock(&en->mu);
    Queue dead = take_cancelled_waiting(en);
    admit(en);
    pthread_mutex_unlock(&en->mu);
    for (Req *r; (r = engine__pop(&dead));) engine__finish(r, FINISH_CANCELLED, NULL);
    if (en->n_run == 0) return;

    build_batch(en);
    add_u64(&en->count.n_steps, 1);
    if (model_forward(en->model, en->store, &en->batch, &logits, &err) != OK) {
        fail_all(en, &err);
        return;
    }
    for (int i = 0; i < en->n_run;) i += advance(en, i, logits);
    if (en->o.check && kv_check(en->pool, &err) != OK) fail_all(en, &err);
}
