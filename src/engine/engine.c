/* SPDX-License-Identifier: Apache-2.0
 * The engine's life and its two doors, submit and cancel. A request is one allocation, made by the thread
 * that submits and freed by the engine thread after on_done; in between it is linked in `waiting` or stands
 * in `run`, never both. What a step does is in sched.c. */
#include "engine/engine.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/internal.h"

enum {
    ENGINE_MAX_SEQS = 4096,
    ENGINE_MAX_CHUNK = 65536,
    ENGINE_MAX_QUEUE = 1 << 20,
    ENGINE_MAX_ITL_MS = 3600000,
    ENGINE_MAX_BLOCKS = 1 << 26,
    ENGINE_MAX_LORAS = 4096
};

_Static_assert((int)METRICS_FINISH == (int)FINISH_ERROR + 1, "one counter a reason");
_Static_assert((int)METRICS_SPEC_POS >= (int)ENGINE_MAX_DRAFT, "one counter a place of a draft");

/* ---- options ---- */

static Status check_range(const char *name, int v, int max, Err *e) {
    if (v >= 1 && v <= max) return OK;
    return err_set(e, ERR_ARG, "%s %d is out of range: 1 to %d", name, v, max);
}

static Status fill_adapters(EngineOpts *r, const ModelConfig *c, Err *e) {
    if (r->max_loras == 0) return OK;
    if (r->max_lora_rank == 0) r->max_lora_rank = 64;
    TRY(check_range("max_loras", r->max_loras, ENGINE_MAX_LORAS, e));
    TRY(check_range("max_lora_rank", r->max_lora_rank, LORA_MAX_RANK, e));
    if (r->lora_bytes == 0) r->lora_bytes = (size_t)r->max_loras * lora_bytes(c, r->max_lora_rank);
    return OK;
}

size_t engine_block_bytes(const ModelConfig *c, const EngineOpts *o) {
    size_t n = model_kv_bytes(c, kv_dtype(o->kv_type), 1);
    return n + (o->draft ? model_kv_bytes(&o->draft->cfg, kv_dtype(o->kv_type), 1) : 0);
}

/* All 0 without speculation. */
static Status fill_spec(EngineOpts *r, Err *e) {
    if (r->draft && r->spec_ngram != 0)
        return err_set(e, ERR_ARG, "spec_ngram and draft are two ways to guess: one may be set");
    if (!r->draft && r->spec_ngram == 0) {
        if (r->spec_k == 0 && r->spec_ngram_min == 0) return OK;
        return err_set(e, ERR_ARG, "spec_k or spec_ngram_min without spec_ngram and draft");
    }
    if (r->spec_k == 0) r->spec_k = 8;
    TRY(check_range("spec_k", r->spec_k, ENGINE_MAX_DRAFT, e));
    if (r->draft) return OK;
    TRY(check_range("spec_ngram", r->spec_ngram, ENGINE_MAX_NGRAM, e));
    if (r->spec_ngram_min == 0) r->spec_ngram_min = MIN(2, r->spec_ngram);
    return check_range("spec_ngram_min", r->spec_ngram_min, r->spec_ngram, e);
}

static Status fill_defaults(EngineOpts *out, const ModelConfig *c, const EngineOpts *o, Err *e) {
    EngineOpts r = *o;
    if (r.max_seqs == 0) r.max_seqs = 8;
    if (r.max_ctx == 0) r.max_ctx = c->ctx;
    if (r.prefill_chunk == 0) r.prefill_chunk = 256;
    if (r.max_queue == 0) r.max_queue = 256;
    if (r.max_queue_tok == 0) r.max_queue_tok = 1 << 20;
    if (r.itl_target_ms == 0) r.itl_target_ms = 100;
    TRY(check_range("max_seqs", r.max_seqs, ENGINE_MAX_SEQS, e));
    TRY(check_range("prefill_chunk", r.prefill_chunk, ENGINE_MAX_CHUNK, e));
    TRY(check_range("max_queue", r.max_queue, ENGINE_MAX_QUEUE, e));
    TRY(check_range("itl_target_ms", r.itl_target_ms, ENGINE_MAX_ITL_MS, e));
    if (r.max_queue_tok < 1)
        return err_set(e, ERR_ARG, "max_queue_tok %lld is below 1", (long long)r.max_queue_tok);
    if (r.max_ctx < 2 || r.max_ctx > c->ctx)
        return err_set(e, ERR_ARG,
                       "max_ctx %d is out of range: 2 to %d, the model's context length", r.max_ctx,
                       c->ctx);
    int64_t full = (int64_t)r.max_seqs * kv_blocks_for(r.max_ctx);
    size_t block_bytes = engine_block_bytes(c, &r);
    TRY(fill_spec(&r, e));
    if (r.n_blocks == 0 && r.kv_bytes > 0)
        r.n_blocks = (int)MIN(r.kv_bytes / block_bytes, (size_t)ENGINE_MAX_BLOCKS);
    else if (r.n_blocks == 0) r.n_blocks = (int)MIN(full, ENGINE_MAX_BLOCKS);
    if (r.n_blocks == 0)
        return err_set(e, ERR_ARG, "a KV cache of %zu bytes: one block takes %zu", r.kv_bytes,
                       block_bytes);
    TRY(check_range("n_blocks", r.n_blocks, ENGINE_MAX_BLOCKS, e));
    TRY(fill_adapters(&r, c, e));
    if (r.max_ctx > (int64_t)r.n_blocks * KV_BLOCK_TOK) r.max_ctx = r.n_blocks * KV_BLOCK_TOK;
    *out = r;
    return OK;
}

static size_t n_ints(const EngineOpts *o) {
    return 3 * (size_t)engine__max_rows(o) + (size_t)engine__max_out(o);
}

static size_t n_pickers(const EngineOpts *o) { return (size_t)MIN(o->max_seqs, ENGINE_PICKERS); }

Status engine_plan_bytes(size_t *out, const ModelConfig *c, const EngineOpts *o, Err *e) {
    EngineOpts r;
    TRY(fill_defaults(&r, c, o, e));
    *out = model_kv_bytes(c, kv_dtype(r.kv_type), r.n_blocks) +
           model_work_bytes(c, engine__max_rows(&r), engine__max_out(&r)) +
           kv_pool_bytes(r.n_blocks, engine__max_tables(&r), r.max_ctx) +
           n_pickers(&r) * sample_bytes(c->V) + n_ints(&r) * sizeof(int32_t) +
           (size_t)(r.max_seqs + engine__max_tables(&r)) * sizeof(void *) +
           (size_t)engine__max_branches(&r) * sizeof(Branch) + engine__adapters_bytes(&r);
    if (r.draft) *out += spec__model_bytes(&r, kv_dtype(r.kv_type));
    return OK;
}

/* ---- life ---- */

/* Asleep while there is nothing to do; false when it is time to end. */
static bool wait_for_work(Engine *en) {
    pthread_mutex_lock(&en->mu);
    while (!en->stopping && en->n_run == 0 && en->waiting.n == 0)
        pthread_cond_wait(&en->wake, &en->mu);
    bool go_on = !en->stopping;
    pthread_mutex_unlock(&en->mu);
    return go_on;
}

static void cancel_all(Engine *en) {
    while (en->n_run > 0) engine__finish_run(en, 0, FINISH_CANCELLED, NULL);
    for (;;) {
        pthread_mutex_lock(&en->mu);
        Req *r = engine__pop(&en->waiting);
        engine__count_queue(en);
        pthread_mutex_unlock(&en->mu);
        if (!r) return;
        engine__finish(en, r, FINISH_CANCELLED, NULL);
    }
}

static void *engine_main(void *arg) {
    Engine *en = arg;
    while (wait_for_work(en)) engine__step(en);
    cancel_all(en);
    return NULL;
}

static Status alloc_tables(Engine *en, Err *e) {
    const EngineOpts *o = &en->o;
    size_t rows = (size_t)engine__max_rows(o), seqs = (size_t)o->max_seqs;
    en->run = mem_new_n(Req *, seqs);
    en->blocks = mem_new_n(const int32_t *, (size_t)engine__max_tables(o));
    en->branch = mem_new_n(Branch, (size_t)engine__max_branches(o));
    en->ints = mem_new_n(int32_t, n_ints(o));
    if (o->vocab) en->mask = mem_new_n(uint32_t, grammar_vocab_words(o->vocab));
    if (!en->run || !en->blocks || !en->branch || !en->ints || (o->vocab && !en->mask))
        return err_set(e, ERR_NOMEM, "engine tables for %d rows", engine__max_rows(o));
    en->tok = en->ints;
    en->pos = en->tok + rows;
    en->seq = en->pos + rows;
    en->out = en->seq + rows;
    en->batch = (Batch){
        .tok = en->tok, .pos = en->pos, .seq = en->seq, .out = en->out, .blocks = en->blocks};
    return OK;
}

static Status alloc_samplers(Engine *en, Err *e) {
    size_t size = (sample_bytes(en->V) + 63) / 64 * 64; /* no two in one cache line */
    en->n_picker = (int)n_pickers(&en->o);
    char *mem = mem_alloc_n((size_t)en->n_picker, size);
    if (!mem) return err_set(e, ERR_NOMEM, "engine: choosing among %d tokens", en->V);
    for (int i = 0; i < en->n_picker; i++)
        en->sampler[i] = sample_init(mem + (size_t)i * size, en->V, en->back.host.kern);
    return OK;
}

static void free_parts(Engine *en) {
    if (en->spec.store) en->o.draft->dev->ops->kv_free(en->o.draft->dev, en->spec.store);
    mem_free(en->spec.ints);
    if (en->store) en->model->dev->ops->kv_free(en->model->dev, en->store);
    kv_pool_free(en->pool);
    mem_free(en->run);
    mem_free(en->blocks);
    mem_free(en->branch);
    mem_free(en->ints);
    mem_free(en->sampler[0]);
    mem_free(en->mask);
    mem_free(en->end_ids);
    engine__adapters_deinit(en);
    mem_free(en);
}

static Status start_thread(Engine *en, Err *e) {
    int rc = pthread_mutex_init(&en->mu, NULL);
    if (rc != 0) return err_set(e, ERR_IO, "engine lock: %s", strerror(rc));
    rc = pthread_cond_init(&en->wake, NULL);
    if (rc == 0) {
        rc = pthread_create(&en->thread, NULL, engine_main, en);
        if (rc == 0) return OK;
        pthread_cond_destroy(&en->wake);
    }
    pthread_mutex_destroy(&en->mu);
    return err_set(e, ERR_IO, "engine thread: %s", strerror(rc));
}

/* ---- over a model ---- */

static Status forward_model(void *ctx, const Batch *b, const float **logits, Err *e) {
    Engine *en = ctx;
    return model_forward(en->model, en->store, b, logits, e);
}

static Status logits_of_model(void *ctx, const Batch *b, const float **logits, Err *e) {
    return model_logits(((Engine *)ctx)->model, b, logits, e);
}

static Status hidden_of_model(void *ctx, const Batch *b, const float **hidden, Err *e) {
    return model_hidden(((Engine *)ctx)->model, b, hidden, e);
}

static void copy_block(void *ctx, int32_t dst, int32_t src) {
    Engine *en = ctx;
    en->model->dev->ops->kv_copy(en->model->dev, en->store, dst, src);
}

static Status list_end_tokens(Engine *en, Err *e) {
    const Tokenizer *t = en->o.tok;
    for (int32_t id = 0; t && id < en->n_vocab; id++) en->n_end_ids += tok_is_end(t, id);
    if (en->n_end_ids == 0) return OK;
    en->end_ids = mem_new_n(int32_t, (size_t)en->n_end_ids);
    if (!en->end_ids) return err_set(e, ERR_NOMEM, "engine");
    int n = 0;
    for (int32_t id = 0; n < en->n_end_ids; id++)
        if (tok_is_end(t, id)) en->end_ids[n++] = id;
    return OK;
}

/* Everything but the thread. o is complete. */
static Status prepare(Engine *en, const ModelConfig *c, const EngineOpts *o, Err *e) {
    en->o = *o;
    en->V = c->V;
    en->C = c->C;
    en->head_work = (double)c->V * (double)c->C / (double)model_n_params(c);
    en->n_vocab = o->tok ? MIN(c->V, tok_n_vocab(o->tok)) : c->V;
    pace_init(&en->pace, 2.0 * (double)model_n_params(c),
              4.0 * (double)c->n_layer * (double)(c->nh * c->hd));
    if (o->vocab && grammar_vocab_size(o->vocab) < en->n_vocab)
        return err_set(e, ERR_ARG, "a grammar's vocabulary of %d tokens, the model has %d",
                       grammar_vocab_size(o->vocab), en->n_vocab);
    metrics_init(&en->m, o->n_blocks, KV_BLOCK_TOK, o->max_ctx);
    TRY(list_end_tokens(en, e));
    TRY(kv_pool_new(&en->pool, o->n_blocks, engine__max_tables(o), o->max_ctx, e));
    en->spec = (Spec){.k = o->spec_k,
                      .max_draft = engine__max_draft(o),
                      .lo = o->spec_ngram_min,
                      .hi = o->spec_ngram};
    return alloc_tables(en, e);
}

static Status attach_model(Engine *en, Model *m, Err *e) {
    const ModelConfig *c = &m->cfg;
    const EngineOpts *o = &en->o;
    TRY(model_reserve(m, engine__max_rows(o), engine__max_out(o), e));
    en->model = m;
    en->back = (EngineBack){.forward = forward_model,
                            .kv_copy = copy_block,
                            .ctx = en,
                            .logits = logits_of_model,
                            .hidden = hidden_of_model,
                            .host = m->dev->ops->host(m->dev)};
    en->store =
        m->dev->ops->kv_new(m->dev, kv_dtype(o->kv_type), c->n_layer, o->n_blocks, c->nkv, c->hd);
    if (!en->store)
        return err_set(e, ERR_NOMEM, "KV cache of %lld tokens, %zu MB",
                       (long long)o->n_blocks * KV_BLOCK_TOK,
                       model_kv_bytes(c, kv_dtype(o->kv_type), o->n_blocks) >> 20);
    if (o->warm_bytes > 0 && m->dev->ops->kv_warm)
        m->dev->ops->kv_warm(m->dev, en->store, o->warm_bytes);
    return OK;
}

/* m or back; draft may stand in for a draft model. */
static Status start(Engine **out, Model *m, const EngineBack *back, const EngineBack *draft,
                    const ModelConfig *c, const EngineOpts *o, Err *e) {
    EngineOpts full;
    TRY(fill_defaults(&full, c, o, e));
    Engine *en = mem_new(Engine);
    if (!en) return err_set(e, ERR_NOMEM, "engine");
    Status st = prepare(en, c, &full, e);
    if (st == OK && m) st = attach_model(en, m, e);
    if (st == OK && back) en->back = *back;
    if (st == OK && !en->back.host.kern) {
        en->back.host.kern = &en->kern;
        st = kern_init(&en->kern, NULL, e);
    }
    if (st == OK) st = alloc_samplers(en, e);
    if (st == OK) st = engine__adapters_init(en, e);
    if (st == OK && (full.draft || draft)) st = spec__model_open(en, c, e);
    if (st == OK && draft) en->spec.back = *draft;
    if (st == OK) st = start_thread(en, e);
    if (st != OK) {
        free_parts(en);
        return st;
    }
    *out = en;
    return OK;
}

Status engine_new(Engine **out, Model *m, const EngineOpts *o, Err *e) {
    return start(out, m, NULL, NULL, &m->cfg, o, e);
}

Status engine__new_over(Engine **out, const ModelConfig *c, const EngineBack *back,
                        const EngineOpts *o, Err *e) {
    return start(out, NULL, back, NULL, c, o, e);
}

Status engine__new_over_two(Engine **out, const ModelConfig *c, const EngineBack *back,
                            const EngineBack *draft, const EngineOpts *o, Err *e) {
    return start(out, NULL, back, draft, c, o, e);
}

void engine_free(Engine *en) {
    if (!en) return;
    pthread_mutex_lock(&en->mu);
    en->stopping = true;
    pthread_cond_signal(&en->wake);
    pthread_mutex_unlock(&en->mu);
    pthread_join(en->thread, NULL);
    pthread_cond_destroy(&en->wake);
    pthread_mutex_destroy(&en->mu);
    free_parts(en);
}

/* ---- submit, cancel ---- */

double engine__now(const Engine *en) {
    return en->back.now ? en->back.now(en->back.ctx) : clock_now_s();
}

void engine__count_queue(Engine *en) {
    metrics_set(&en->m.running, en->n_run);
    metrics_set(&en->m.waiting, en->waiting.n);
    atomic_store_explicit(&en->m.waiting_tok, en->waiting.n_tok, memory_order_relaxed);
    if (metrics_gauge(&en->m.waiting_deferred) > en->waiting.n)
        metrics_set(&en->m.waiting_deferred, en->waiting.n);
}

/* About when one more request will have left the queue. */
static double retry_after(const Metrics *m) {
    double left = (double)atomic_load_explicit(&m->left_tok, memory_order_relaxed) +
                  (double)atomic_load_explicit(&m->waiting_tok, memory_order_relaxed);
    double speed = (double)metrics_get(&m->tok_s);
    if (speed <= 0.0) return 1.0;
    return MAX(left / speed / (metrics_gauge(&m->running) + metrics_gauge(&m->waiting) + 1), 1.0);
}

/* Of the queue and of those that run, what a request of this priority may have to wait for: idle ones are in nobody's
 * way but each other's. mu held. */
static int n_ahead(const Engine *en, const EngineReq *r, int64_t *n_tok) {
    int n = en->n_run + en->waiting.n;
    *n_tok = en->waiting.n_tok;
    if (r->priority >= ENGINE_IDLE || !en->waiting.tail ||
        en->waiting.tail->in.priority < ENGINE_IDLE)
        return n;
    n = 0;
    *n_tok = 0;
    for (int i = 0; i < en->n_run; i++) n += en->run[i]->in.priority < ENGINE_IDLE;
    for (const Req *q = en->waiting.head; q && q->in.priority < ENGINE_IDLE; q = q->next) {
        n++;
        *n_tok += q->in.n_prompt;
    }
    return n;
}

/* mu held. */
static Status check_queue(const Engine *en, const EngineReq *r, Err *e) {
    const EngineOpts *o = &en->o;
    int64_t n_tok;
    int n = n_ahead(en, r, &n_tok);
    if (en->stopping) return err_set(e, ERR_CANCELLED, "the engine is stopping");
    if (n >= o->max_seqs + o->max_queue)
        return err_set(e, ERR_FULL,
                       "%d requests run and %d wait: the queue is full, try again in %.0f s",
                       en->n_run, en->waiting.n, retry_after(&en->m));
    if (n_tok > 0 && n_tok + r->n_prompt > o->max_queue_tok)
        return err_set(
            e, ERR_FULL,
            "%lld prompt tokens wait, the limit is %lld: the queue is full, try again in "
            "%.0f s",
            (long long)n_tok, (long long)o->max_queue_tok, retry_after(&en->m));
    return OK;
}

Status engine_submit(Engine *en, const EngineReq *r, uint64_t *id, Err *e) {
    TRY(engine__req_check(en, r, e));
    Req *q = NULL;
    TRY(engine__req_new(&q, en, r, e));
    q->t.arrival = engine__now(en);
    pthread_mutex_lock(&en->mu);
    Status st = check_queue(en, r, e);
    if (st == ERR_FULL) metrics_add(&en->m.refused, 1);
    if (st == OK) {
        q->id = ++en->next_id;
        engine__req_own(q);
        if (id) *id = q->id;
        engine__put(&en->waiting, q);
        engine__count_queue(en);
        pthread_cond_signal(&en->wake);
        q = NULL;
    }
    pthread_mutex_unlock(&en->mu);
    engine__req_free(q);
    return st;
}

void engine_cancel(Engine *en, uint64_t id) {
    pthread_mutex_lock(&en->mu);
    for (int i = 0; i < en->n_run; i++)
        if (en->run[i]->id == id)
            atomic_store_explicit(&en->run[i]->cancelled, true, memory_order_relaxed);
    for (Req *r = en->waiting.head; r; r = r->next)
        if (r->id == id) atomic_store_explicit(&r->cancelled, true, memory_order_relaxed);
    pthread_mutex_unlock(&en->mu);
}

int engine_max_ctx(const Engine *en) { return en->o.max_ctx; }

int engine_max_requests(const Engine *en) { return en->o.max_seqs + en->o.max_queue; }

const Metrics *engine_metrics(const Engine *en) { return &en->m; }

EngineStats engine_stats(const Engine *en) {
    const Metrics *m = &en->m;
    EngineStats s = {.n_running = metrics_gauge(&m->running),
                     .n_waiting = metrics_gauge(&m->waiting),
                     .n_blocks = m->blocks,
                     .n_blocks_used = metrics_gauge(&m->blocks_used),
                     .n_blocks_cached = metrics_gauge(&m->blocks_cached),
                     .n_waiting_tok = atomic_load_explicit(&m->waiting_tok, memory_order_relaxed),
                     .n_prompt_tok = metrics_get(&m->prompt_rows),
                     .n_new_tok = metrics_get(&m->new_tok),
                     .n_steps = metrics_get(&m->steps),
                     .n_hit_tok = metrics_get(&m->prefix_hits) + metrics_get(&m->resumed_hits),
                     .n_preempted = metrics_get(&m->preemptions),
                     .n_drafts = metrics_get(&m->spec_drafts),
                     .n_draft_tok = metrics_get(&m->spec_draft_tok),
                     .n_draft_ok = metrics_get(&m->spec_accepted_tok),
                     .retry_after_s = retry_after(m)};
    for (int i = 0; i < ENGINE_MAX_DRAFT; i++)
        s.n_draft_ok_at[i] = metrics_get(&m->spec_accepted_at[i]);
    return s;
}
