/* SPDX-License-Identifier: Apache-2.0
 * The training pass. Shapes: R = n_row * T rows; see tensor/dims.h for the letters. */
#include "train/graph.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"

/* What a layer's backward needs. With checkpointing all layers but their inputs share one set. */
typedef struct LayerActs {
    BufAt x;       /* [R, C] input, the residual stream */
    BufAt h1;      /* [R, C] normalised input */
    BufAt stat1;   /* [R, 2] */
    BufAt qkv;     /* [R, (nh + 2 nkv) hd], rotated */
    BufAt qk;      /* [R, (nh + nkv) hd] before its norm, if there is one */
    BufAt stat_qk; /* [R, nh + nkv] */
    BufAt att;     /* [R, nh hd] */
    BufAt lse;     /* [n_row, nh, T] */
    BufAt xm;      /* [R, C] residual stream between attention and MLP */
    BufAt h2;      /* [R, C] */
    BufAt stat2;   /* [R, 2] */
    BufAt up;      /* [R, ff or 2 ff] before the activation */
    BufAt act;     /* [R, ff] */
} LayerActs;

struct Graph {
    Model *m; /* borrowed */
    Device *dev;
    const DeviceOps *ops;
    GraphOpts o;
    int R, chunk;
    Buf *acts, *grads; /* owned */
    LayerActs *layer;  /* owned, [n_layer] */
    BufAt x_out;       /* [R, C] output of the last layer */
    BufAt h_out, stat_out;
    BufAt dx, dh, dqkv, dup, dact, tmp; /* gradients, and a place for dropped branches */
    BufAt logits;                       /* [chunk, V] */
    float *loss;                        /* owned, [chunk] host */
    const GraphBatch *b;                /* of the running call */
    bool training;                      /* dropout on */
};

static size_t up_width(const ModelConfig *c) {
    return (size_t)c->ff * (c->arch->act == ACT_SWIGLU ? 2 : 1);
}
static size_t qkv_width(const ModelConfig *c) {
    return (size_t)(c->nh + 2 * c->nkv) * (size_t)c->hd;
}

/* Rows of logits at a time: about 16 MB of them. */
static int chunk_rows(const ModelConfig *c, int R) {
    int rows = (int)((4u << 20) / (unsigned)c->V) / 32 * 32;
    return MIN(R, MAX(rows, 32));
}

/* ---- memory ---- */

static BufAt take(Graph *g, size_t *at, size_t n) {
    BufAt p = buf_at(g->acts, *at);
    *at += ROUND_UP(n, (size_t)16);
    return p;
}

static void layout_layer(Graph *g, LayerActs *a, size_t *at) {
    const ModelConfig *c = &g->m->cfg;
    size_t R = (size_t)g->R, C = (size_t)c->C;
    a->h1 = take(g, at, R * C);
    a->stat1 = take(g, at, R * 2);
    a->qkv = take(g, at, R * qkv_width(c));
    size_t n_qk = model_has(c, PART_QK_NORM) ? R * (size_t)(c->nh + c->nkv) : 0;
    a->qk = take(g, at, n_qk * (size_t)c->hd);
    a->stat_qk = take(g, at, n_qk);
    a->att = take(g, at, R * (size_t)(c->nh * c->hd));
    a->lse = take(g, at, R * (size_t)c->nh);
    a->xm = take(g, at, R * C);
    a->h2 = take(g, at, R * C);
    a->stat2 = take(g, at, R * 2);
    a->up = take(g, at, R * up_width(c));
    a->act = take(g, at, R * (size_t)c->ff);
}

/* Place everything; returns the floats in all. */
static size_t layout(Graph *g) {
    const ModelConfig *c = &g->m->cfg;
    size_t at = 0, R = (size_t)g->R, C = (size_t)c->C;
    LayerActs shared = {0};
    if (g->o.checkpoint) layout_layer(g, &shared, &at);
    for (int i = 0; i < c->n_layer; i++) {
        LayerActs a = shared;
        if (!g->o.checkpoint) layout_layer(g, &a, &at);
        a.x = take(g, &at, R * C);
        if (g->layer) g->layer[i] = a;
    }
    g->x_out = take(g, &at, R * C);
    g->h_out = take(g, &at, R * C);
    g->stat_out = take(g, &at, R * 2);
    g->dx = take(g, &at, R * C);
    g->dh = take(g, &at, R * MAX(C, (size_t)(c->nh * c->hd)));
    g->dqkv = take(g, &at, R * qkv_width(c));
    g->dup = take(g, &at, R * up_width(c));
    g->dact = take(g, &at, R * (size_t)c->ff);
    g->tmp = g->o.dropout > 0.0f ? take(g, &at, R * C) : (BufAt){0};
    g->logits = take(g, &at, (size_t)g->chunk * (size_t)c->V);
    return at;
}

size_t graph_bytes(const ModelConfig *c, const GraphOpts *o) {
    Model m = {.cfg = *c};
    Graph g = {.m = &m, .o = *o, .R = o->n_row * o->T};
    g.chunk = chunk_rows(c, g.R);
    return (layout(&g) + (size_t)model_n_params(c)) * sizeof(float);
}

void graph_free(Graph *g) {
    if (!g) return;
    g->ops->buf_free(g->dev, g->acts);
    g->ops->buf_free(g->dev, g->grads);
    mem_free(g->layer);
    mem_free(g->loss);
    mem_free(g);
}

Status graph_new(Graph **out, Model *m, const GraphOpts *o, Err *e) {
    for (int i = 0; i < m->cfg.n_layer;
         i++) /* the pass knows one matrix for q, k, v and one for gate, up */
        if (m->layer[i].qkv.n != 1 || m->layer[i].up.n != 1)
            return err_set(e, ERR_UNSUPPORTED,
                           "architecture %s: layer %d keeps q, k, v or gate, up apart, which "
                           "cannot be trained",
                           m->cfg.arch->name, i);
    Graph *g = mem_new(Graph);
    if (!g) return err_set(e, ERR_NOMEM, "training pass: out of memory");
    *g = (Graph){.m = m, .dev = m->dev, .ops = m->dev->ops, .o = *o, .R = o->n_row * o->T};
    g->chunk = chunk_rows(&m->cfg, g->R);
    size_t n = layout(g);
    g->acts = g->ops->buf_new(g->dev, n * sizeof(float));
    g->grads = g->ops->buf_new(g->dev, m->n_flat * sizeof(float));
    g->layer = mem_new_n(LayerActs, (size_t)m->cfg.n_layer);
    g->loss = mem_new_n(float, (size_t)g->chunk);
    if (!g->acts || !g->grads || !g->layer || !g->loss) {
        graph_free(g);
        return err_set(e, ERR_NOMEM, "activations and gradients of %zu bytes: out of memory",
                       (n + m->n_flat) * sizeof(float));
    }
    layout(g);
    *out = g;
    return OK;
}

BufAt graph_grads(const Graph *g) { return buf_at(g->grads, 0); }
void graph_zero_grads(Graph *g) { g->ops->fill(g->dev, buf_at(g->grads, 0), 0.0f, g->m->n_flat); }

void graph_segments(const int32_t *ids, int T, int32_t eot, int32_t *seg, int32_t *pos) {
    int start = 0;
    for (int t = 0; t < T; t++) {
        seg[t] = start;
        pos[t] = t - start;
        if (ids[t] == eot) start = t + 1;
    }
}

/* ---- pieces ---- */

/* Gradient of a weight or bias: same offset, other buffer. */
static BufAt grad_of(const Graph *g, const Weight *w) {
    return buf_at(g->grads, w->off_bytes / sizeof(float));
}
static BufAt grad_at(const Graph *g, BufAt p) {
    return p.buf ? buf_at(g->grads, p.off) : (BufAt){0};
}

static void linear(const Graph *g, const Linear *l, BufAt y, BufAt x, bool add) {
    g->ops->linear(g->dev, &(LinearArgs){.y = y,
                                         .ldy = (size_t)l->w.rows,
                                         .x = x,
                                         .ldx = (size_t)l->w.cols,
                                         .w = l->w,
                                         .bias = l->bias,
                                         .T = g->R,
                                         .add = add});
}

/* dx = dy W, dW += dy^T x, dbias += sum dy. */
static void linear_bwd(const Graph *g, const Linear *l, BufAt dx, BufAt dy, BufAt x) {
    size_t rows = (size_t)l->w.rows, cols = (size_t)l->w.cols;
    g->ops->linear_t(
        g->dev, &(LinearTArgs){.dx = dx, .ldx = cols, .dy = dy, .ldy = rows, .w = l->w, .T = g->R});
    g->ops->linear_dw(g->dev, &(LinearDwArgs){.dw = grad_of(g, &l->w),
                                              .dbias = grad_at(g, l->bias),
                                              .dy = dy,
                                              .ldy = rows,
                                              .x = x,
                                              .ldx = cols,
                                              .rows = l->w.rows,
                                              .cols = l->w.cols,
                                              .T = g->R});
}

static void norm(const Graph *g, BufAt y, BufAt x, BufAt w, BufAt b, BufAt stat) {
    g->ops->norm(g->dev, &(NormArgs){.kind = g->m->cfg.arch->norm,
                                     .y = y,
                                     .x = x,
                                     .w = w,
                                     .b = b,
                                     .stat = stat,
                                     .T = g->R,
                                     .C = g->m->cfg.C,
                                     .eps = g->m->cfg.norm_eps});
}

/* dx += gradient through a norm whose input was x. */
static void norm_bwd(const Graph *g, BufAt dx, BufAt dy, BufAt x, BufAt w, BufAt b, BufAt stat) {
    g->ops->norm_bwd(g->dev, &(NormBwdArgs){.kind = g->m->cfg.arch->norm,
                                            .dx = dx,
                                            .dw = grad_at(g, w),
                                            .db = grad_at(g, b),
                                            .dy = dy,
                                            .x = x,
                                            .w = w,
                                            .stat = stat,
                                            .T = g->R,
                                            .C = g->m->cfg.C});
}

static DropSpec drop_spec(const Graph *g, int layer, int site) {
    uint64_t L = (uint64_t)g->m->cfg.n_layer + 1;
    return (DropSpec){g->training ? g->o.dropout : 0.0f, g->o.drop_key,
                      (g->b->index * L + (uint64_t)(layer + 1)) * 4 + (uint64_t)site};
}

enum { SITE_EMBD, SITE_ATT, SITE_ATT_OUT, SITE_MLP_OUT };

/* y += dropout(branch): with dropout the branch is made on the side. */
static void add_branch(const Graph *g, const Linear *l, BufAt y, BufAt x, int layer, int site) {
    DropSpec d = drop_spec(g, layer, site);
    if (d.p <= 0.0f) {
        linear(g, l, y, x, true);
        return;
    }
    size_t n = (size_t)g->R * (size_t)l->w.rows;
    linear(g, l, g->tmp, x, false);
    g->ops->dropout(g->dev, g->tmp, n, &d);
    g->ops->add(g->dev, y, g->tmp, n);
}

/* Gradient that enters a branch: dx itself, or a dropped copy. */
static BufAt branch_grad(const Graph *g, int layer, int site) {
    DropSpec d = drop_spec(g, layer, site);
    if (d.p <= 0.0f) return g->dx;
    size_t n = (size_t)g->R * (size_t)g->m->cfg.C;
    g->ops->copy(g->dev, g->tmp, g->dx, n);
    g->ops->dropout(g->dev, g->tmp, n, &d);
    return g->tmp;
}

static QkNormArgs qk_args(const Graph *g, const LayerActs *a, const LayerWeights *w) {
    const ModelConfig *c = &g->m->cfg;
    return (QkNormArgs){.qkv = a->qkv,
                        .wq = w->q_norm,
                        .wk = w->k_norm,
                        .raw = a->qk,
                        .stat = a->stat_qk,
                        .dqkv = g->dqkv,
                        .dwq = grad_at(g, w->q_norm),
                        .dwk = grad_at(g, w->k_norm),
                        .T = g->R,
                        .nh = c->nh,
                        .nkv = c->nkv,
                        .hd = c->hd,
                        .eps = c->norm_eps};
}

static void rope(const Graph *g, BufAt qkv, bool inverse) {
    const ModelConfig *c = &g->m->cfg;
    if (c->arch->pos != POS_ROPE) return;
    g->ops->rope_kv(g->dev, &(RopeKvArgs){.qkv = qkv,
                                          .pos = g->b->pos,
                                          .rope = {.n_rot = c->n_rot,
                                                   .halves = c->arch->rope_halves,
                                                   .gain = g->m->rope_gain,
                                                   .freq = g->m->rope_freq},
                                          .T = g->R,
                                          .nh = c->nh,
                                          .nkv = c->nkv,
                                          .hd = c->hd,
                                          .inverse = inverse});
}

static AttnTrainArgs attn_args(const Graph *g, const LayerActs *a, int layer) {
    const ModelConfig *c = &g->m->cfg;
    return (AttnTrainArgs){.o = a->att,
                           .lse = a->lse,
                           .qkv = a->qkv,
                           .dqkv = g->dqkv,
                           .d_o = g->dh,
                           .seg = g->b->seg,
                           .n_row = g->o.n_row,
                           .T = g->o.T,
                           .nh = c->nh,
                           .nkv = c->nkv,
                           .hd = c->hd,
                           .scale = 1.0f / sqrtf((float)c->hd),
                           .drop = drop_spec(g, layer, SITE_ATT)};
}

/* ---- layers ---- */

static void layer_fwd(const Graph *g, int i, BufAt next) {
    const LayerWeights *w = &g->m->layer[i];
    const LayerActs *a = &g->layer[i];
    const ModelConfig *c = &g->m->cfg;
    size_t n = (size_t)g->R * (size_t)c->C;
    norm(g, a->h1, a->x, w->attn_norm, w->attn_norm_b, a->stat1);
    linear(g, &w->qkv.part[0], a->qkv, a->h1, false);
    QkNormArgs qk = qk_args(g, a, w);
    if (model_has(c, PART_QK_NORM)) g->ops->qk_norm(g->dev, &qk);
    rope(g, a->qkv, false);
    AttnTrainArgs at = attn_args(g, a, i);
    g->ops->attn_train(g->dev, &at);
    g->ops->copy(g->dev, a->xm, a->x, n);
    add_branch(g, &w->attn_out, a->xm, a->att, i, SITE_ATT_OUT);
    norm(g, a->h2, a->xm, w->ffn_norm, w->ffn_norm_b, a->stat2);
    linear(g, &w->up.part[0], a->up, a->h2, false);
    g->ops->act(g->dev,
                &(ActArgs){.kind = c->arch->act, .y = a->act, .x = a->up, .T = g->R, .ff = c->ff});
    if (!next.buf) return; /* recomputed for the backward: the output is not needed */
    g->ops->copy(g->dev, next, a->xm, n);
    add_branch(g, &w->down, next, a->act, i, SITE_MLP_OUT);
}

/* dx: gradient of the layer's output on entry, of its input on return. */
static void layer_bwd(const Graph *g, int i) {
    const LayerWeights *w = &g->m->layer[i];
    const LayerActs *a = &g->layer[i];
    const ModelConfig *c = &g->m->cfg;
    if (g->o.checkpoint) layer_fwd(g, i, (BufAt){0});
    linear_bwd(g, &w->down, g->dact, branch_grad(g, i, SITE_MLP_OUT), a->act);
    g->ops->act_bwd(g->dev, &(ActArgs){.kind = c->arch->act,
                                       .x = a->up,
                                       .dx = g->dup,
                                       .dy = g->dact,
                                       .T = g->R,
                                       .ff = c->ff});
    linear_bwd(g, &w->up.part[0], g->dh, g->dup, a->h2);
    norm_bwd(g, g->dx, g->dh, a->xm, w->ffn_norm, w->ffn_norm_b, a->stat2);
    linear_bwd(g, &w->attn_out, g->dh, branch_grad(g, i, SITE_ATT_OUT), a->att);
    AttnTrainArgs at = attn_args(g, a, i);
    g->ops->attn_bwd(g->dev, &at);
    rope(g, g->dqkv, true);
    QkNormArgs qk = qk_args(g, a, w);
    if (model_has(c, PART_QK_NORM)) g->ops->qk_norm_bwd(g->dev, &qk);
    linear_bwd(g, &w->qkv.part[0], g->dh, g->dqkv, a->h1);
    norm_bwd(g, g->dx, g->dh, a->x, w->attn_norm, w->attn_norm_b, a->stat1);
}

static BufAt layer_input(const Graph *g, int i) {
    return i < g->m->cfg.n_layer ? g->layer[i].x : g->x_out;
}

static void forward(const Graph *g) {
    const ModelConfig *c = &g->m->cfg;
    BufAt x = layer_input(g, 0);
    g->ops->rows(g->dev, &(RowsArgs){.y = x,
                                     .w = g->m->tok_embd,
                                     .pos_w = g->m->pos_embd,
                                     .ids = g->b->ids,
                                     .pos = g->b->pos,
                                     .T = g->R});
    DropSpec d = drop_spec(g, -1, SITE_EMBD);
    g->ops->dropout(g->dev, x, (size_t)g->R * (size_t)c->C, &d);
    for (int i = 0; i < c->n_layer; i++) layer_fwd(g, i, layer_input(g, i + 1));
    norm(g, g->h_out, g->x_out, g->m->out_norm, g->m->out_norm_b, g->stat_out);
}

/* ---- the head, a chunk of rows at a time ---- */

static void head_logits(const Graph *g, int r0, int n) {
    const ModelConfig *c = &g->m->cfg;
    g->ops->linear(g->dev, &(LinearArgs){.y = g->logits,
                                         .ldy = (size_t)c->V,
                                         .x = buf_add(g->h_out, (size_t)r0 * (size_t)c->C),
                                         .ldx = (size_t)c->C,
                                         .w = g->m->output,
                                         .T = n});
}

/* Loss of rows [r0, r0 + n); logits become their gradient times scale. */
static double head_loss(const Graph *g, int r0, int n, float scale) {
    double sum = 0.0;
    g->ops->xent(g->dev, &(XentArgs){.logits = g->logits,
                                     .target = g->b->targets + r0,
                                     .loss = g->loss,
                                     .T = n,
                                     .V = g->m->cfg.V,
                                     .scale = scale});
    for (int i = 0; i < n; i++) sum += (double)g->loss[i];
    return sum;
}

static void head_bwd(const Graph *g, int r0, int n) {
    const ModelConfig *c = &g->m->cfg;
    const Weight *w = &g->m->output;
    size_t C = (size_t)c->C, V = (size_t)c->V, at = (size_t)r0 * C;
    g->ops->linear_t(g->dev, &(LinearTArgs){.dx = buf_add(g->dh, at),
                                            .ldx = C,
                                            .dy = g->logits,
                                            .ldy = V,
                                            .w = *w,
                                            .T = n});
    g->ops->linear_dw(g->dev, &(LinearDwArgs){.dw = grad_of(g, w),
                                              .dy = g->logits,
                                              .ldy = V,
                                              .x = buf_add(g->h_out, at),
                                              .ldx = C,
                                              .rows = c->V,
                                              .cols = c->C,
                                              .T = n});
}

/* ---- calls ---- */

static void begin(Graph *g, const GraphBatch *b, bool training) {
    g->b = b;
    g->training = training;
    forward(g);
}

Status graph_step(Graph *g, const GraphBatch *b, float scale, double *loss_sum, Err *e) {
    const ModelConfig *c = &g->m->cfg;
    size_t n = (size_t)g->R * (size_t)c->C;
    double sum = 0.0;
    begin(g, b, true);
    for (int r = 0; r < g->R; r += g->chunk) {
        int rows = MIN(g->chunk, g->R - r);
        head_logits(g, r, rows);
        sum += head_loss(g, r, rows, scale);
        head_bwd(g, r, rows);
    }
    g->ops->fill(g->dev, g->dx, 0.0f, n);
    norm_bwd(g, g->dx, g->dh, g->x_out, g->m->out_norm, g->m->out_norm_b, g->stat_out);
    for (int i = c->n_layer - 1; i >= 0; i--) layer_bwd(g, i);
    DropSpec d = drop_spec(g, -1, SITE_EMBD);
    g->ops->dropout(g->dev, g->dx, n, &d);
    g->ops->rows_bwd(g->dev, &(RowsBwdArgs){.dw = grad_of(g, &g->m->tok_embd),
                                            .dpos = g->m->pos_embd.buf ? grad_of(g, &g->m->pos_embd)
                                                                       : (BufAt){0},
                                            .dy = g->dx,
                                            .ids = b->ids,
                                            .pos = b->pos,
                                            .T = g->R,
                                            .C = c->C});
    *loss_sum = sum;
    return g->ops->sync(g->dev, e);
}

Status graph_eval(Graph *g, const GraphBatch *b, double *loss_sum, Err *e) {
    double sum = 0.0;
    begin(g, b, false);
    for (int r = 0; r < g->R; r += g->chunk) {
        head_logits(g, r, MIN(g->chunk, g->R - r));
        sum += head_loss(g, r, MIN(g->chunk, g->R - r), 1.0f);
    }
    *loss_sum = sum;
    return g->ops->sync(g->dev, e);
}

Status graph_logits(Graph *g, const GraphBatch *b, float *logits, Err *e) {
    size_t V = (size_t)g->m->cfg.V;
    begin(g, b, false);
    for (int r = 0; r < g->R; r += g->chunk) {
        int rows = MIN(g->chunk, g->R - r);
        head_logits(g, r, rows);
        g->ops->download(g->dev, logits + (size_t)r * V, g->logits,
                         (size_t)rows * V * sizeof(float));
    }
    return g->ops->sync(g->dev, e);
}
