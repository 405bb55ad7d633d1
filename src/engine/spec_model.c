/* SPDX-License-Identifier: Apache-2.0
 * The draft model: a small one with the target's vocabulary that runs ahead, a token at a time for all requests
 * together.
 *
 * Its K and V lie in a store of its own under the block numbers of the one pool. What the pool knows of a block,
 * who holds it, what it is a copy of, which tokens it begins with, is so of both stores, and sharing, preemption
 * and the prefix cache need nothing here. Only how far a sequence has come differs: the last guess of a draft is
 * not computed by who made it, and a request that does not draft is left behind until it has a whole block to catch
 * up with, or wants a draft again (spec.n_kv). A block of the prefix cache may lack some tokens' K and V here, after
 * a step without room or a failure: such guesses are worse, never the text.
 *
 * A guess is drawn as the target's token will be: same options, grammar, penalties and random number. So where the
 * two models agree in their probabilities they mostly agree in the draw, too. */
#include "base/log.h"
#include "base/mem.h"
#include "engine/internal.h"

/* ---- opening ---- */

static Status check_tokenizers(const Tokenizer *a, const Tokenizer *b, Err *e) {
    int32_t n = tok_n_vocab(a);
    if (tok_n_vocab(b) != n)
        return err_set(e, ERR_ARG, "the draft model has %d tokens, the model %d: not the same",
                       tok_n_vocab(b), n);
    for (int32_t i = 0; i < n; i++)
        if (!slice_eq(tok_text(a, i), tok_text(b, i)))
            return err_set(e, ERR_ARG,
                           "token %d of the draft model is \"%.*s\", the model has \"%.*s\"", i,
                           (int)MIN(tok_text(b, i).n, (size_t)40), tok_text(b, i).p,
                           (int)MIN(tok_text(a, i).n, (size_t)40), tok_text(a, i).p);
    return OK;
}

/* Rows of logits may be padded; a token that can be sampled must be known to both. */
static Status check_vocab(const Engine *en, const ModelConfig *c, Err *e) {
    const EngineOpts *o = &en->o;
    const ModelConfig *d = &o->draft->cfg;
    if (o->tok && o->draft_tok) {
        TRY(check_tokenizers(o->tok, o->draft_tok, e));
        if (d->V >= en->n_vocab) return OK;
    } else if (d->V == c->V) return OK;
    return err_set(e, ERR_ARG, "the draft model has %d rows of logits, the model %d: not the same",
                   d->V, c->V);
}

static Status draft_forward(void *ctx, const Batch *b, const float **logits, Err *e) {
    Engine *en = ctx;
    return model_forward(en->o.draft, en->spec.store, b, logits, e);
}

static void draft_copy(void *ctx, int32_t dst, int32_t src) {
    Engine *en = ctx;
    Device *d = en->o.draft->dev;
    d->ops->kv_copy(d, en->spec.store, dst, src);
}

/* Beside the rows of a step: the last guess of each sequence, which was not computed, and a block of one that has
 * not drafted for a while. */
static int max_rows(const EngineOpts *o) {
    return engine__max_rows(o) + o->max_seqs + KV_BLOCK_TOK;
}

static size_t n_ints(const EngineOpts *o) { return 3 * (size_t)max_rows(o) + (size_t)o->max_seqs; }

size_t spec__model_bytes(const EngineOpts *o, DType type) {
    const ModelConfig *c = &o->draft->cfg;
    return model_kv_bytes(c, type, o->n_blocks) + model_work_bytes(c, max_rows(o), o->max_seqs) +
           n_ints(o) * sizeof(int32_t);
}

static Status open_store(Engine *en, Err *e) {
    const EngineOpts *o = &en->o;
    const ModelConfig *c = &o->draft->cfg;
    Device *d = o->draft->dev;
    TRY(model_reserve(o->draft, max_rows(o), o->max_seqs, e));
    en->spec.store =
        d->ops->kv_new(d, kv_dtype(o->kv_type), c->n_layer, o->n_blocks, c->nkv, c->hd);
    if (en->spec.store) return OK;
    return err_set(e, ERR_NOMEM, "KV cache of the draft model, %zu MB",
                   model_kv_bytes(c, kv_dtype(o->kv_type), o->n_blocks) >> 20);
}

Status spec__model_open(Engine *en, const ModelConfig *c, Err *e) {
    Spec *s = &en->spec;
    const Model *m = en->o.draft;
    size_t rows = (size_t)max_rows(&en->o);
    s->V = m ? m->cfg.V : c->V;
    s->ctx = m ? m->cfg.ctx : c->ctx;
    if (m) {
        TRY(check_vocab(en, c, e));
        TRY(open_store(en, e));
        s->back = (EngineBack){.forward = draft_forward, .kv_copy = draft_copy, .ctx = en};
    }
    s->ints = mem_new_n(int32_t, n_ints(&en->o));
    if (!s->ints) return err_set(e, ERR_NOMEM, "tables of the draft model");
    s->tok = s->ints;
    s->pos = s->tok + rows;
    s->seq = s->pos + rows;
    s->out = s->seq + rows;
    s->batch =
        (Batch){.tok = s->tok, .pos = s->pos, .seq = s->seq, .out = s->out, .blocks = en->blocks};
    return OK;
}

/* ---- running ahead ---- */

static void add_row(Spec *s, int i, int32_t tok, int pos) {
    s->tok[s->batch.T] = tok;
    s->pos[s->batch.T] = pos;
    s->seq[s->batch.T++] = i;
}

/* What the target will know of request i after this step, as far as it is due and fits. */
static void catch_up(Engine *en, int i) {
    Spec *s = &en->spec;
    Req *r = en->run[i];
    SpecReq *q = &r->spec;
    int end = r->n_kv + r->n_rows;
    q->n_kv = MIN(q->n_kv, r->n_kv); /* behind it were wrong guesses */
    if (q->off || end > s->ctx) return;
    bool is_due = q->want > 0 || r->n_rows > 1 || end / KV_BLOCK_TOK > q->n_kv / KV_BLOCK_TOK;
    if (!is_due) return;
    int to = MIN(end, q->n_kv + max_rows(&en->o) - s->batch.T);
    for (; q->n_kv < to; q->n_kv++) add_row(s, i, r->tok[q->n_kv], q->n_kv);
    if (to < end) q->want = 0;
    else if (q->want > 0) s->out[s->batch.n_out++] = s->batch.T - 1;
}

static void first_rows(Engine *en) {
    Spec *s = &en->spec;
    s->batch.T = s->batch.n_out = 0;
    s->batch.n_seq = en->n_run;
    for (int i = 0; i < en->n_run; i++) {
        en->blocks[i] = kv_seq_blocks(en->pool, en->run[i]->kv);
        catch_up(en, i);
    }
}

/* The next guess of r from its row; false when that was the last. */
static bool guess(Engine *en, Req *r, const float *row) {
    SpecReq *q = &r->spec;
    SampleOpts o = r->in.sample;
    SampleOut out;
    int pos = r->n_tok + q->n_draft;
    SampleIn in = {.logits = row,
                   .n_vocab = MIN(en->n_vocab, en->spec.V),
                   .o = &o,
                   .pos = (uint64_t)pos,
                   .n_out = pos - r->in.n_prompt,
                   .hist = r->hist,
                   .mask = r->grammar ? en->mask : NULL,
                   .end_ids = en->end_ids,
                   .n_end_ids = r->in.ignore_end ? 0 : en->n_end_ids};
    o.logprobs = false;
    o.top_logprobs = 0;
    if (r->grammar && grammar_mask(&q->ahead, en->mask, NULL) != OK) return false;
    if (sample_pick(&out, &in, en->sampler[0], NULL) != OK || !spec__push(en, r, out.id))
        return false;
    if (r->hist) sample_hist_push(r->hist, out.id, true);
    return q->n_draft < q->want;
}

/* From the logits of one pass to the rows of the next: a row for each request that goes on, in the same order, so
 * that row n of the new ones is written after row out[n] >= n of the old ones was read. */
static void next_rows(Engine *en, const float *logits) {
    Spec *s = &en->spec;
    int n_out = s->batch.n_out;
    s->batch.T = s->batch.n_out = 0;
    for (int o = 0; o < n_out; o++) {
        int i = s->seq[s->out[o]];
        Req *r = en->run[i];
        if (!guess(en, r, logits + (size_t)o * (size_t)s->V)) continue;
        r->spec.n_kv++;
        s->out[s->batch.n_out++] = s->batch.T;
        add_row(s, i, r->tok[r->n_tok + r->spec.n_draft - 1], r->n_tok + r->spec.n_draft - 1);
    }
}

static void give_up(Engine *en, const Err *why) {
    log_warn("the draft model failed and is asked no more: %s", why->msg);
    en->spec.broken = true;
    for (int i = 0; i < en->n_run; i++) en->run[i]->spec.n_draft = 0;
}

void spec__model_draft(Engine *en) {
    Spec *s = &en->spec;
    const float *logits = NULL;
    Err e = {0};
    first_rows(en);
    while (s->batch.T > 0) {
        if (s->back.forward(s->back.ctx, &s->batch, &logits, &e) != OK) {
            give_up(en, &e);
            break;
        }
        next_rows(en, logits);
    }
    for (int i = 0; i < en->n_run; i++) {
        Req *r = en->run[i];
        if (r->hist) sample_hist_truncate(r->hist, r->n_tok);
    }
}
