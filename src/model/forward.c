/* SPDX-License-Identifier: Apache-2.0
 * The forward pass: one decoder on a ragged batch. Prefill chunks and decoding rows are rows of the same
 * batch; attention reads the paged cache that rope_kv has just written.
 *
 *   x = embd[tok] (+ pos)
 *   each layer:  h = norm(x);  qkv = W_qkv h;  (norm of q and k;)  rotate, store;
 *                x += W_o attention(q, cache)
 *                h = norm(x);  x += W_down act(W_up h)
 *   logits = W_out norm(x), for the rows asked for
 *
 * Rows that nobody asks about end with the K and V of the last layer, if the batch says so.
 *
 * Adapters add to each product for the rows that use one (lora.c). */
#include <math.h>

#include "model/internal.h"

void model__work_free(Device *dev, ModelWork *w) {
    if (!w) return;
    dev->ops->buf_free(dev, w->buf);
    mem_free(w->pos);
    mem_free(w);
}

static size_t up_width(const ModelConfig *c) {
    return (size_t)c->ff * (c->arch->act == ACT_SWIGLU ? 2 : 1);
}
static size_t qkv_width(const ModelConfig *c) {
    return (size_t)(c->nh + 2 * c->nkv) * (size_t)c->hd;
}

/* Lay the work buffer out; returns its floats. */
static size_t work_layout(ModelWork *w, const ModelConfig *c) {
    size_t T = (size_t)w->max_rows, n_out = (size_t)w->max_out, at = 0, C = (size_t)c->C;
    const struct {
        BufAt *place;
        size_t n;
    } parts[] = {
        {&w->x, T * C},
        {&w->h, T * C},
        {&w->qkv, T * qkv_width(c)},
        {&w->att, T * (size_t)(c->nh * c->hd)},
        {&w->up, T * up_width(c)},
        {&w->act, T * (size_t)c->ff},
        {&w->out, n_out * C},
        {&w->logits, n_out * (size_t)c->V},
    };
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        *parts[i].place = buf_at(w->buf, at);
        at += ROUND_UP(parts[i].n, (size_t)16);
    }
    return at;
}

size_t model_work_bytes(const ModelConfig *c, int max_rows, int max_out) {
    ModelWork w = {.max_rows = max_rows, .max_out = max_out};
    return work_layout(&w, c) * sizeof(float) + 2 * (size_t)max_out * sizeof(int32_t);
}

Status model_reserve(Model *m, int max_rows, int max_out, Err *e) {
    if (m->work && m->work->max_rows >= max_rows && m->work->max_out >= max_out) return OK;
    ModelWork *w = mem_new(ModelWork);
    if (!w) return err_set(e, ERR_NOMEM, "forward pass: out of memory");
    w->max_rows = m->work ? MAX(max_rows, m->work->max_rows) : max_rows;
    w->max_out = m->work ? MAX(max_out, m->work->max_out) : max_out;
    size_t n = work_layout(w, &m->cfg);
    w->buf = m->dev->ops->buf_new(m->dev, n * sizeof(float));
    w->pos = mem_new_n(int32_t, 2 * (size_t)w->max_out);
    if (!w->buf || !w->pos) {
        model__work_free(m->dev, w);
        return err_set(e, ERR_NOMEM, "forward pass of %d rows: %zu bytes: out of memory", max_rows,
                       n * sizeof(float));
    }
    w->seq = w->pos + w->max_out;
    work_layout(w, &m->cfg);
    model__work_free(m->dev, m->work);
    m->work = w;
    return OK;
}

size_t model_kv_bytes(const ModelConfig *c, DType type, int n_blocks) {
    size_t per_block = device_kv_head_bytes(type, c->hd) * 2 * (size_t)c->nkv * (size_t)c->n_layer;
    return per_block * (size_t)n_blocks;
}

/* ---- one step ---- */

typedef struct Pass {
    Model *m;
    Device *dev;
    const DeviceOps *ops;
    const ModelConfig *c;
    const ModelWork *w;
    KvStore *kv;
    const Batch *b;
    Batch rest; /* b from narrow on: the rows of the caller's b->out alone */
} Pass;

static void observe(const Pass *p, const Weight *w, BufAt x, size_t ldx, int T) {
    if (p->m->observer) p->m->observer(p->m->observer_ctx, w, x, ldx, T);
}

/* x, y and what becomes of y are in a. */
static void run_linear(const Pass *p, const Linear *l, LinearArgs a) {
    a.w = l->w;
    a.bias = l->bias;
    a.T = p->b->T;
    observe(p, &a.w, a.x, a.ldx, a.T);
    p->ops->linear(p->dev, &a);
}

static void run_group(const Pass *p, const LinearGroup *g, BufAt x, BufAt y, size_t ldy) {
    for (int i = 0; i < g->n; i++) {
        run_linear(
            p, &g->part[i],
            (LinearArgs){.x = x, .ldx = (size_t)p->c->C, .y = y, .ldy = ldy, .same_x = i > 0});
        y = buf_add(y, (size_t)g->part[i].w.rows);
    }
}

static void run_lora(const Pass *p, int layer, LoraSite first, LoraSite last, LoraIo io) {
    if (p->m->lora) lora__layer(p->m, layer, first, last, &io);
}

static void run_norm(const Pass *p, BufAt y, BufAt x, BufAt w, BufAt b, int T) {
    p->ops->norm(p->dev, &(NormArgs){.kind = p->c->arch->norm,
                                     .y = y,
                                     .x = x,
                                     .w = w,
                                     .b = b,
                                     .T = T,
                                     .C = p->c->C,
                                     .eps = p->c->norm_eps});
}

/* q of all rows, and K and V where the cache has them. */
static void run_qkv(const Pass *p, const LayerWeights *l, int layer) {
    const ModelConfig *c = p->c;
    const ModelWork *w = p->w;
    run_norm(p, w->h, w->x, l->attn_norm, l->attn_norm_b, p->b->T);
    run_group(p, &l->qkv, w->h, w->qkv, qkv_width(c));
    run_lora(p, layer, LORA_Q, LORA_V, (LoraIo){w->h, w->qkv, (size_t)c->C, qkv_width(c)});
    if (model_has(c, PART_QK_NORM))
        p->ops->qk_norm(p->dev, &(QkNormArgs){.qkv = w->qkv,
                                              .wq = l->q_norm,
                                              .wk = l->k_norm,
                                              .T = p->b->T,
                                              .nh = c->nh,
                                              .nkv = c->nkv,
                                              .hd = c->hd,
                                              .eps = c->norm_eps});
    p->ops->rope_kv(p->dev, &(RopeKvArgs){.qkv = w->qkv,
                                          .pos = p->b->pos,
                                          .rope = {.n_rot = c->arch->pos == POS_ROPE ? c->n_rot : 0,
                                                   .halves = c->arch->rope_halves,
                                                   .gain = p->m->rope_gain,
                                                   .freq = p->m->rope_freq},
                                          .T = p->b->T,
                                          .nh = c->nh,
                                          .nkv = c->nkv,
                                          .hd = c->hd,
                                          .kv = p->kv,
                                          .layer = layer,
                                          .batch = p->b});
}

static void run_attention(const Pass *p, const LayerWeights *l, int layer) {
    const ModelConfig *c = p->c;
    const ModelWork *w = p->w;
    p->ops->attn(p->dev, &(AttnArgsDev){.o = w->att,
                                        .qkv = w->qkv,
                                        .nh = c->nh,
                                        .nkv = c->nkv,
                                        .hd = c->hd,
                                        .layer = layer,
                                        .scale = 1.0f / sqrtf((float)c->hd),
                                        .kv = p->kv,
                                        .batch = p->b});
    size_t ldx = (size_t)(c->nh * c->hd);
    run_linear(p, &l->attn_out,
               (LinearArgs){.x = w->att, .ldx = ldx, .y = w->x, .ldy = (size_t)c->C, .add = true});
    run_lora(p, layer, LORA_OUT, LORA_OUT, (LoraIo){w->att, w->x, ldx, (size_t)c->C});
}

/* act = act(W_up h), made where the products are. */
static void run_up_act(const Pass *p, const LayerWeights *l) {
    const ModelConfig *c = p->c;
    const ModelWork *w = p->w;
    size_t C = (size_t)c->C, ff = (size_t)c->ff;
    if (c->arch->act == ACT_SWIGLU)
        run_linear(p, &l->up.part[0],
                   (LinearArgs){.x = w->h, .ldx = C, .y = w->up, .ldy = up_width(c)});
    run_linear(p, &l->up.part[l->up.n - 1],
               (LinearArgs){.x = w->h,
                            .ldx = C,
                            .y = w->act,
                            .ldy = ff,
                            .same_x = c->arch->act == ACT_SWIGLU,
                            .act = c->arch->act,
                            .gate = w->up,
                            .ldg = up_width(c)});
}

/* The same in two steps: where gate and up are one matrix, and for adapters, which add to the products first. */
static void run_up_then_act(const Pass *p, const LayerWeights *l, int layer) {
    const ModelConfig *c = p->c;
    const ModelWork *w = p->w;
    run_group(p, &l->up, w->h, w->up, up_width(c));
    run_lora(p, layer, LORA_GATE, LORA_UP, (LoraIo){w->h, w->up, (size_t)c->C, up_width(c)});
    p->ops->act(
        p->dev,
        &(ActArgs){.kind = c->arch->act, .y = w->act, .x = w->up, .T = p->b->T, .ff = c->ff});
}

static void run_mlp(const Pass *p, const LayerWeights *l, int layer) {
    const ModelConfig *c = p->c;
    const ModelWork *w = p->w;
    size_t C = (size_t)c->C, ff = (size_t)c->ff;
    run_norm(p, w->h, w->x, l->ffn_norm, l->ffn_norm_b, p->b->T);
    if (p->m->lora || (c->arch->act == ACT_SWIGLU && l->up.n == 1)) run_up_then_act(p, l, layer);
    else run_up_act(p, l);
    run_linear(p, &l->down, (LinearArgs){.x = w->act, .ldx = ff, .y = w->x, .ldy = C, .add = true});
    run_lora(p, layer, LORA_DOWN, LORA_DOWN, (LoraIo){w->act, w->x, ff, C});
}

/* Whether the last layer may leave out rows. Those that stay move up, so they have to stand in order. */
static bool is_narrow(const Pass *p) {
    const Batch *b = p->b;
    if (!b->only_out || p->m->observer || b->n_out == b->T) return false;
    for (int i = 1; i < b->n_out; i++)
        if (b->out[i] <= b->out[i - 1]) return false;
    return true;
}

/* From now on the batch is the rows whose logits are wanted: their x and q stand side by side. */
static void narrow(Pass *p) {
    const ModelWork *w = p->w;
    const Batch *b = p->b;
    size_t C = (size_t)p->c->C, ld = qkv_width(p->c), q = (size_t)(p->c->nh * p->c->hd);
    for (int i = 0; i < b->n_out; i++) {
        size_t to = (size_t)i, from = (size_t)b->out[i];
        w->pos[i] = b->pos[from];
        w->seq[i] = b->seq[from];
        if (from == to) continue;
        p->ops->copy(p->dev, buf_add(w->x, to * C), buf_add(w->x, from * C), C);
        p->ops->copy(p->dev, buf_add(w->qkv, to * ld), buf_add(w->qkv, from * ld), q);
    }
    p->rest = *b;
    p->rest.T = b->n_out;
    p->rest.tok = NULL; /* nobody needs them any more */
    p->rest.pos = w->pos;
    p->rest.seq = w->seq;
    p->rest.out = NULL; /* all of them */
    p->b = &p->rest;
    if (p->m->lora) lora__only_out(p->m);
}

/* The wanted rows gathered and normalised. x stays as it is: others may be wanted later. */
static void run_out_norm(const Pass *p) {
    const ModelWork *w = p->w;
    size_t C = (size_t)p->c->C;
    for (int i = 0; p->b->out && i < p->b->n_out; i++)
        p->ops->copy(p->dev, buf_add(w->h, (size_t)i * C), buf_add(w->x, (size_t)p->b->out[i] * C),
                     C);
    run_norm(p, w->out, p->b->out ? w->h : w->x, p->m->out_norm, p->m->out_norm_b, p->b->n_out);
}

/* Logits of the wanted rows, for the host. */
static const float *run_head(const Pass *p) {
    const ModelWork *w = p->w;
    size_t C = (size_t)p->c->C, V = (size_t)p->c->V;
    run_out_norm(p);
    observe(p, &p->m->output, w->out, C, p->b->n_out);
    p->ops->linear(p->dev, &(LinearArgs){.y = w->logits,
                                         .ldy = V,
                                         .x = w->out,
                                         .ldx = C,
                                         .w = p->m->output,
                                         .T = p->b->n_out});
    if (p->m->lora) lora__head(p->m, &(LoraIo){w->out, w->logits, C, V});
    return p->ops->view(p->dev, w->logits, (size_t)p->b->n_out * V * sizeof(float));
}

static Status check_batch(const Model *m, const Batch *b, Err *e) {
    int rows = m->work ? m->work->max_rows : 0, outs = m->work ? m->work->max_out : 0;
    if (b->T < 1 || b->T > rows)
        return err_set(e, ERR_ARG, "batch of %d rows, room for 1..%d", b->T, rows);
    if (b->n_out < 0 || b->n_out > MIN(outs, b->T))
        return err_set(e, ERR_ARG, "%d rows of logits, room for %d", b->n_out, MIN(outs, b->T));
    for (int i = 0; i < b->T; i++) {
        if (b->tok[i] < 0 || b->tok[i] >= m->cfg.V)
            return err_set(e, ERR_ARG, "token %d is outside the vocabulary of %d", b->tok[i],
                           m->cfg.V);
        if (b->pos[i] < 0 || b->pos[i] >= m->cfg.ctx)
            return err_set(e, ERR_ARG, "position %d is outside the context of %d", b->pos[i],
                           m->cfg.ctx);
    }
    return OK;
}

static Pass pass_of(Model *m, KvStore *kv, const Batch *b) {
    return (Pass){
        .m = m, .dev = m->dev, .ops = m->dev->ops, .c = &m->cfg, .w = m->work, .kv = kv, .b = b};
}

Status model_forward(Model *m, KvStore *kv, const Batch *b, const float **logits, Err *e) {
    TRY(check_batch(m, b, e));
    TRY(lora__begin(m, b, e));
    Pass p = pass_of(m, kv, b);
    p.ops->rows(m->dev, &(RowsArgs){.y = p.w->x,
                                    .w = m->tok_embd,
                                    .pos_w = m->pos_embd,
                                    .ids = b->tok,
                                    .pos = b->pos,
                                    .T = b->T});
    if (m->lora) lora__embd(m, b, p.w->x);
    bool leave_out = is_narrow(&p);
    m->work->only_out = leave_out;
    for (int i = 0; i < m->cfg.n_layer; i++) {
        run_qkv(&p, &m->layer[i], i);
        if (leave_out && i == m->cfg.n_layer - 1) narrow(&p);
        if (p.b->T == 0) break;
        run_attention(&p, &m->layer[i], i);
        run_mlp(&p, &m->layer[i], i);
    }
    *logits = b->n_out > 0 ? run_head(&p) : NULL;
    return p.ops->sync(m->dev, e);
}

/* b is about other rows of the last batch. */
static Status check_others(const Model *m, const Batch *b, Err *e) {
    TRY(check_batch(m, b, e));
    if (!m->work->only_out) return OK;
    return err_set(e, ERR_ARG, "the last batch was only_out: nothing is left of its other rows");
}

Status model_logits(Model *m, const Batch *b, const float **logits, Err *e) {
    TRY(check_others(m, b, e));
    TRY(lora__begin(m, b, e));
    Pass p = pass_of(m, NULL, b);
    *logits = run_head(&p);
    return p.ops->sync(m->dev, e);
}

Status model_hidden(Model *m, const Batch *b, const float **hidden, Err *e) {
    TRY(check_others(m, b, e));
    Pass p = pass_of(m, NULL, b);
    run_out_norm(&p);
    *hidden = p.ops->view(p.dev, p.w->out, (size_t)b->n_out * (size_t)p.c->C * sizeof(float));
    return p.ops->sync(m->dev, e);
}
