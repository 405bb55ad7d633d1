/* SPDX-License-Identifier: Apache-2.0
 * Windows go through the model in groups, as sequences of one ragged batch, STEP_ROWS rows at a time (fewer
 * for a large vocabulary: every scored row has V logits). Sequence s of a group owns the KV blocks from
 * s * blocks on for good; the next group writes over them. Log-probabilities land in a table [group][ctx]
 * and are added up in the text's order when the group is done, so that the sum does not depend on how
 * the windows were grouped or cut. One thread, which borrows a team for the log-softmax. */
#include "eval/perplexity.h"

#include <math.h>

#include "base/mem.h"
#include "base/team.h"

enum { STEP_ROWS = 512, MIN_ROWS = 16, LOGIT_BYTES = 64 << 20, BLOCK = 32, MIN_CTX = 4 };

typedef struct Run {
    Model *m;
    const EvalPplOpts *o;
    const int32_t *ids;
    int ctx, first;      /* first: position in a window from which tokens are scored */
    int n_chunks, group; /* windows in all, windows side by side */
    int max_rows;
    Team *team;
    KvStore *kv;
    int32_t *ints; /* owned: tok, pos, seq, out, tables */
    int32_t *tok, *pos, *seq, *out, *tables;
    const int32_t **blocks; /* owned */
    LoraUse *uses;          /* owned; [group] */
    double *logp;           /* owned; [group][ctx]; of the token at that position */
    const float *logits;    /* of the step that ran last */
    int w0;                 /* first window of the group */
    int n_out;
} Run;

double eval_log_prob(const float *logits, int n, int32_t id) {
    float max = -INFINITY;
    double sum = 0;
    for (int i = 0; i < n; i++) max = fmaxf(max, logits[i]);
    for (int i = 0; i < n; i++) sum += exp((double)logits[i] - (double)max);
    return (double)logits[id] - (double)max - log(sum);
}

int eval_n_chunks(size_t n, int ctx, int max_chunks) {
    size_t fit = n / (size_t)ctx;
    size_t limit = max_chunks > 0 ? (size_t)max_chunks : INT32_MAX;
    return (int)MIN(fit, limit);
}

/* ---- sizes ---- */

static int blocks_per_seq(const Run *r) { return (r->ctx + BLOCK - 1) / BLOCK; }

static Status plan(Run *r, size_t n, Err *e) {
    const ModelConfig *c = &r->m->cfg;
    r->ctx = r->o->ctx ? r->o->ctx : MIN(512, c->ctx);
    if (r->ctx < MIN_CTX || r->ctx > c->ctx)
        return err_set(e, ERR_ARG,
                       "window of %d tokens is out of range: %d to %d, the model's context length",
                       r->ctx, MIN_CTX, c->ctx);
    r->n_chunks = eval_n_chunks(n, r->ctx, r->o->max_chunks);
    if (r->n_chunks == 0)
        return err_set(
            e, ERR_ARG,
            "the text has %zu tokens, a window takes %d: give more text or a smaller window", n,
            r->ctx);
    r->first = r->o->all ? 1 : r->ctx / 2 + 1;
    r->max_rows = MAX(MIN_ROWS, MIN(STEP_ROWS, LOGIT_BYTES / 4 / c->V));
    r->group = MIN(r->n_chunks, MAX(1, r->max_rows / r->ctx));
    for (size_t i = 0; i < (size_t)r->n_chunks * (size_t)r->ctx; i++)
        if (r->ids[i] < 0 || r->ids[i] >= c->V)
            return err_set(e, ERR_ARG, "token %zu is %d, the model's vocabulary has %d", i,
                           r->ids[i], c->V);
    return OK;
}

static Status alloc_arrays(Run *r, Err *e) {
    size_t rows = (size_t)r->max_rows, group = (size_t)r->group, per = (size_t)blocks_per_seq(r);
    r->ints = mem_new_n(int32_t, 4 * rows + group * per);
    r->blocks = mem_new_n(const int32_t *, group);
    r->logp = mem_new_n(double, group *(size_t)r->ctx);
    r->uses = mem_new_n(LoraUse, group);
    if (!r->uses || !r->ints || !r->blocks || !r->logp)
        return err_set(e, ERR_NOMEM, "tables for windows of %d tokens", r->ctx);
    r->tok = r->ints;
    r->pos = r->tok + rows;
    r->seq = r->pos + rows;
    r->out = r->seq + rows;
    r->tables = r->out + rows;
    for (size_t i = 0; i < group * per; i++) r->tables[i] = (int32_t)i;
    for (size_t s = 0; s < group; s++) r->uses[s] = r->o->lora;
    for (size_t s = 0; s < group; s++) r->blocks[s] = r->tables + s * per;
    return OK;
}

static Status prepare(Run *r, Err *e) {
    const ModelConfig *c = &r->m->cfg;
    int n_blocks = r->group * blocks_per_seq(r);
    TRY(alloc_arrays(r, e));
    TRY(team_new(&r->team, MAX(r->o->n_threads, 1), e));
    TRY(model_reserve(r->m, r->max_rows, r->max_rows, e));
    const Lora *l = r->o->lora.lora;
    if (l) TRY(lora_reserve(r->m, r->max_rows, lora_info(l)->rank, e));
    r->kv = r->m->dev->ops->kv_new(r->m->dev, kv_dtype(r->o->kv_type), c->n_layer, n_blocks, c->nkv,
                                   c->hd);
    if (!r->kv) return err_set(e, ERR_NOMEM, "KV cache of %d tokens", n_blocks * BLOCK);
    return OK;
}

static void cleanup(Run *r) {
    if (r->kv) r->m->dev->ops->kv_free(r->m->dev, r->kv);
    team_free(r->team);
    mem_free(r->ints);
    mem_free(r->blocks);
    mem_free(r->uses);
    mem_free(r->logp);
}

/* ---- one step: positions p .. p + n - 1 of each of n_win windows ---- */

/* Token at position p of window s of the group, as the model reads it. */
static int32_t token_at(const Run *r, int s, int p) {
    if (p == 0 && r->o->has_bos) return r->o->bos;
    return r->ids[(size_t)(r->w0 + s) * (size_t)r->ctx + (size_t)p];
}

static Batch build(Run *r, int n_win, int p, int n) {
    int T = 0;
    r->n_out = 0;
    for (int s = 0; s < n_win; s++) {
        for (int k = 0; k < n; k++, T++) {
            r->tok[T] = token_at(r, s, p + k);
            r->pos[T] = p + k;
            r->seq[T] = s;
            if (p + k + 1 >= r->first) r->out[r->n_out++] = T;
        }
    }
    return (Batch){.T = T,
                   .tok = r->tok,
                   .pos = r->pos,
                   .seq = r->seq,
                   .n_seq = n_win,
                   .blocks = r->blocks,
                   .n_out = r->n_out,
                   .out = r->out,
                   .lora = r->uses};
}

static void score_row(void *ctx, int64_t i, int worker) {
    Run *r = ctx;
    int row = r->out[i], s = r->seq[row], next = r->pos[row] + 1, V = r->m->cfg.V;
    (void)worker;
    r->logp[(size_t)s * (size_t)r->ctx + (size_t)next] =
        eval_log_prob(r->logits + (size_t)i * (size_t)V, V, token_at(r, s, next));
}

static Status step(Run *r, int n_win, int p, int n, Err *e) {
    Batch b = build(r, n_win, p, n);
    TRY(model_forward(r->m, r->kv, &b, &r->logits, e));
    team_run(r->team, b.n_out, score_row, r);
    if (r->o->stop && atomic_load_explicit(r->o->stop, memory_order_relaxed))
        return err_set(e, ERR_CANCELLED, "stopped");
    return OK;
}

/* ---- groups of windows ---- */

static Status add_up(EvalPpl *sum, const Run *r, int n_win, Err *e) {
    for (int s = 0; s < n_win; s++) {
        for (int p = r->first; p < r->ctx; p++) {
            double lp = r->logp[(size_t)s * (size_t)r->ctx + (size_t)p];
            if (isnan(lp))
                return err_set(e, ERR_INTERNAL,
                               "window %d, token %d: the model's logits are not finite", r->w0 + s,
                               p);
            sum->nll -= lp;
            sum->n_tok++;
            if (r->o->on_token) r->o->on_token(r->o->cb_ctx, token_at(r, s, p), lp);
        }
    }
    sum->n_chunks += n_win;
    sum->perplexity = exp(sum->nll / (double)sum->n_tok);
    return OK;
}

/* The last token of a window is scored but never read. */
static Status run_group(EvalPpl *sum, Run *r, int n_win, Err *e) {
    int per = r->max_rows / n_win, end = r->ctx - 1;
    for (int p = 0; p < end; p += per) TRY(step(r, n_win, p, MIN(per, end - p), e));
    TRY(add_up(sum, r, n_win, e));
    if (r->o->progress) r->o->progress(r->o->cb_ctx, sum, r->n_chunks);
    return OK;
}

Status eval_perplexity(EvalPpl *out, Model *m, const int32_t *ids, size_t n, const EvalPplOpts *o,
                       Err *e) {
    Run r = {.m = m, .o = o, .ids = ids};
    TRY(plan(&r, n, e));
    EvalPpl sum = {.ctx = r.ctx};
    Status st = prepare(&r, e);
    for (r.w0 = 0; st == OK && r.w0 < r.n_chunks; r.w0 += r.group)
        st = run_group(&sum, &r, MIN(r.group, r.n_chunks - r.w0), e);
    cleanup(&r);
    if (st == OK) *out = sum;
    return st;
}
