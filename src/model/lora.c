/* SPDX-License-Identifier: Apache-2.0
 * Adapters on the device, and what they add to a pass. A pass cuts its rows into runs of neighbours with the same
 * adapter and scale; for each run and matrix, t = A x and then y += B (s t) are two products of the run's rows
 * alone. Rows without an adapter are in no run and cost nothing, and what a row gets does not depend on the runs
 * around it. The engine puts rows of one adapter side by side, so that there are few runs.
 *
 * An adapter's values are copied when it is loaded, checked and hashed in that copy: a file that is written over
 * later changes nothing that runs under the old version. */
#include "model/lora.h"

#include <math.h>

#include "base/mem.h"
#include "model/internal.h"

enum { ALIGN = 64 };

/* A matrix's pair; a.buf == NULL: none. */
typedef struct Pair {
    Weight a, b;
    size_t col;  /* in y, where B's rows begin */
    float scale; /* alpha / rank */
} Pair;

struct Lora {
    const Model *m; /* borrowed */
    Device *dev;    /* borrowed */
    Buf *buf;       /* owned; all values */
    Pair *layer;    /* owned; [n_layer, LORA_SITES] */
    Pair embd, head;
    LoraInfo info;
};

/* Rows of one use. */
typedef struct Run {
    int from, n;
    LoraUse use;
} Run;

typedef struct Runs {
    Run *v; /* borrowed from LoraWork.runs */
    int n;
} Runs;

struct LoraWork {
    int max_rows, max_rank;
    Buf *buf;       /* owned; t [max_rows, max_rank] */
    Run *runs;      /* owned; [2 max_rows] */
    Runs rows, out; /* of the present pass: its rows, and its rows of logits */
};

/* ---- loading ---- */

static Pair *place_of(Lora *l, const Param *p) {
    static const int site[PARAM_ROLES] = {
        [P_QKV] = LORA_Q,     [P_Q] = LORA_Q,          [P_K] = LORA_K,   [P_V] = LORA_V,
        [P_GATE] = LORA_GATE, [P_ATTN_OUT] = LORA_OUT, [P_UP] = LORA_UP, [P_DOWN] = LORA_DOWN};
    if (p->role == P_TOK_EMBD) return &l->embd;
    if (p->role == P_OUTPUT) return &l->head;
    return &l->layer[(size_t)p->layer * LORA_SITES + (size_t)site[p->role]];
}

/* Where in y the rows of this matrix go: q, k, v stand side by side, and so do gate and up. */
static size_t column_of(const ModelConfig *c, ParamRole role) {
    switch (role) {
    case P_K: return (size_t)(c->nh * c->hd);
    case P_V: return (size_t)((c->nh + c->nkv) * c->hd);
    case P_UP: return c->arch->act == ACT_SWIGLU ? (size_t)c->ff : 0;
    default: return 0;
    }
}

/* One matrix: copied, checked, hashed, uploaded; *at moves on. */
static Status load_half(Weight *out, Lora *l, const LoraPair *p, int which, void *tmp, size_t *at,
                        Sha256 *digest, Err *e) {
    size_t n = lora_pair_bytes(p, which);
    memcpy(tmp, which ? p->b : p->a, n);
    TRY(lora_check_values(p, which, tmp, e));
    TRY(sha_256(digest, tmp, n, e));
    int in_a = p->is_embd ? p->rank : p->base->cols,
        out_b = p->is_embd ? p->base->cols : p->base->rows;
    *out = (Weight){.type = p->type[which],
                    .rows = which ? out_b : (p->is_embd ? p->base->rows : p->rank),
                    .cols = which ? p->rank : in_a,
                    .buf = l->buf,
                    .off_bytes = *at};
    l->dev->ops->upload(l->dev, buf_at(l->buf, *at / sizeof(float)), tmp, n);
    *at += ROUND_UP(n, (size_t)ALIGN);
    return OK;
}

/* What the version is the digest of: for each pair, before it the digest of all pairs so far. */
typedef struct Link {
    Sha256 before, half[2];
    char name[64];
    uint32_t rank, type[2];
    float alpha;
} Link;

static Status load_pair(Lora *l, const LoraPair *p, void *tmp, size_t *at, Err *e) {
    Link link = {.before = l->info.version,
                 .rank = (uint32_t)p->rank,
                 .type = {p->type[0], p->type[1]},
                 .alpha = l->info.alpha};
    Pair *q = place_of(l, p->base);
    memcpy(link.name, p->base->name, sizeof link.name);
    TRY(load_half(&q->a, l, p, 0, tmp, at, &link.half[0], e));
    TRY(load_half(&q->b, l, p, 1, tmp, at, &link.half[1], e));
    q->col = column_of(&l->m->cfg, p->base->role);
    q->scale = l->info.alpha != 0.0f ? l->info.alpha / (float)p->rank : 1.0f;
    return sha_256(&l->info.version, &link, sizeof link, e);
}

static Status load_pairs(Lora *l, const LoraPair *pair, int n, Err *e) {
    size_t most = 0, at = 0;
    Status st = OK;
    for (int i = 0; i < 2 * n; i++) most = MAX(most, lora_pair_bytes(&pair[i / 2], i % 2));
    l->buf = l->dev->ops->buf_new(l->dev, l->info.n_bytes);
    l->layer = mem_new_n(Pair, (size_t)l->m->cfg.n_layer * LORA_SITES);
    void *tmp = mem_alloc_n(most, 1);
    if (!l->buf || !l->layer || !tmp)
        st = err_set(e, ERR_NOMEM, "adapter of %zu bytes: out of memory", l->info.n_bytes);
    for (int i = 0; st == OK && i < n; i++) st = load_pair(l, &pair[i], tmp, &at, e);
    mem_free(tmp);
    return st;
}

static Status load_file(Lora *l, const Gguf *g, Err *e) {
    const Model *m = l->m;
    LoraPair *pair = NULL;
    int n = 0;
    float alpha = 0;
    TRY(lora_read_pairs(&pair, &n, &alpha, &m->cfg, m->params, m->n_params, g, e));
    lora__sum_up(&l->info, pair, n, alpha);
    Status st = load_pairs(l, pair, n, e);
    mem_free(pair);
    return st;
}

Status lora_load(Lora **out, const Model *m, const char *path, Err *e) {
    Gguf *g = NULL;
    TRY(gguf_open(&g, path, e));
    Lora *l = mem_new(Lora);
    Status st = l ? OK : err_set(e, ERR_NOMEM, "adapter: out of memory");
    if (l) {
        l->m = m;
        l->dev = m->dev;
        st = load_file(l, g, e);
    }
    gguf_close(g);
    if (st == OK) {
        *out = l;
        return OK;
    }
    err_in(e, path);
    lora_free(l);
    return st;
}

void lora_free(Lora *l) {
    if (!l) return;
    l->dev->ops->buf_free(l->dev, l->buf);
    mem_free(l->layer);
    mem_free(l);
}

const LoraInfo *lora_info(const Lora *l) { return &l->info; }

/* ---- room ---- */

static size_t n_work(int max_rows, int max_rank) { return (size_t)max_rows * (size_t)max_rank; }

size_t lora_work_bytes(int max_rows, int max_rank) {
    return n_work(max_rows, max_rank) * sizeof(float) + 2 * (size_t)max_rows * sizeof(Run);
}

void lora__work_free(Device *dev, LoraWork *w) {
    if (!w) return;
    dev->ops->buf_free(dev, w->buf);
    mem_free(w->runs);
    mem_free(w);
}

Status lora_reserve(Model *m, int max_rows, int max_rank, Err *e) {
    const LoraWork *old = m->lora;
    if (old && old->max_rows >= max_rows && old->max_rank >= max_rank) return OK;
    LoraWork *w = mem_new(LoraWork);
    if (!w) return err_set(e, ERR_NOMEM, "adapters: out of memory");
    w->max_rows = old ? MAX(max_rows, old->max_rows) : max_rows;
    w->max_rank = old ? MAX(max_rank, old->max_rank) : max_rank;
    w->buf = m->dev->ops->buf_new(m->dev, n_work(w->max_rows, w->max_rank) * sizeof(float));
    w->runs = mem_new_n(Run, 2 * (size_t)w->max_rows);
    if (!w->buf || !w->runs) {
        lora__work_free(m->dev, w);
        return err_set(e, ERR_NOMEM, "adapters for passes of %d rows: out of memory", max_rows);
    }
    lora__work_free(m->dev, m->lora);
    m->lora = w;
    return OK;
}

/* ---- a pass ---- */

static bool same_use(const LoraUse *a, const LoraUse *b) {
    return a->lora == b->lora && a->scale == b->scale;
}

static void add_row(Runs *r, int row, const LoraUse *use) {
    Run *last = r->n > 0 ? &r->v[r->n - 1] : NULL;
    if (!use->lora || use->scale == 0.0f) return;
    if (last && last->from + last->n == row && same_use(&last->use, use)) last->n++;
    else r->v[r->n++] = (Run){row, 1, *use};
}

static Status check_uses(const Model *m, const Batch *b, Err *e) {
    const LoraWork *w = m->lora;
    for (int i = 0; i < b->n_seq; i++) {
        const Lora *l = b->lora[i].lora;
        if (!l) continue;
        if (l->m != m)
            return err_set(e, ERR_ARG, "the adapter of sequence %d is another model's", i);
        if (!w || l->info.rank > w->max_rank || b->T > w->max_rows)
            return err_set(e, ERR_ARG, "an adapter of rank %d for %d rows, room for %d and %d",
                           l->info.rank, b->T, w ? w->max_rank : 0, w ? w->max_rows : 0);
        if (!isfinite(b->lora[i].scale))
            return err_set(e, ERR_ARG, "the adapter's scale of sequence %d is not finite", i);
    }
    return OK;
}

Status lora__begin(Model *m, const Batch *b, Err *e) {
    if (b->lora) TRY(check_uses(m, b, e));
    LoraWork *w = m->lora;
    if (!w) return OK;
    w->rows = (Runs){w->runs, 0};
    w->out = (Runs){w->runs + w->max_rows, 0};
    if (!b->lora || b->T > w->max_rows) return OK; /* more rows than that: none uses an adapter */
    for (int i = 0; i < b->T; i++) add_row(&w->rows, i, &b->lora[b->seq[i]]);
    for (int i = 0; i < b->n_out; i++) add_row(&w->out, i, &b->lora[b->seq[b->out[i]]]);
    return OK;
}

void lora__only_out(Model *m) { m->lora->rows = m->lora->out; }

/* y += B (s t), where t = A x stands in the work buffer. */
static void add_product(Model *m, const Run *r, const Pair *p, BufAt y, size_t ldy) {
    const DeviceOps *ops = m->dev->ops;
    BufAt t = buf_at(m->lora->buf, 0);
    size_t rank = (size_t)p->b.cols;
    float s = r->use.scale * p->scale;
    if (s != 1.0f) ops->scale(m->dev, t, s, (size_t)r->n * rank);
    ops->linear(m->dev, &(LinearArgs){.y = buf_add(y, (size_t)r->from * ldy + p->col),
                                      .ldy = ldy,
                                      .x = t,
                                      .ldx = rank,
                                      .w = p->b,
                                      .T = r->n,
                                      .add = true});
}

static void apply(Model *m, const Run *r, const Pair *p, const LoraIo *io) {
    if (!p->a.buf) return;
    m->dev->ops->linear(m->dev, &(LinearArgs){.y = buf_at(m->lora->buf, 0),
                                              .ldy = (size_t)p->a.rows,
                                              .x = buf_add(io->x, (size_t)r->from * io->ldx),
                                              .ldx = io->ldx,
                                              .w = p->a,
                                              .T = r->n});
    add_product(m, r, p, io->y, io->ldy);
}

void lora__embd(Model *m, const Batch *b, BufAt x) {
    const Runs *rows = &m->lora->rows;
    for (int i = 0; i < rows->n; i++) {
        const Run *r = &rows->v[i];
        const Pair *p = &r->use.lora->embd;
        if (!p->a.buf) continue;
        m->dev->ops->rows(m->dev, &(RowsArgs){.y = buf_at(m->lora->buf, 0),
                                              .w = p->a,
                                              .ids = b->tok + r->from,
                                              .pos = b->pos + r->from,
                                              .T = r->n});
        add_product(m, r, p, x, (size_t)m->cfg.C);
    }
}

void lora__layer(Model *m, int layer, LoraSite first, LoraSite last, const LoraIo *io) {
    const Runs *rows = &m->lora->rows;
    for (int i = 0; i < rows->n; i++) {
        const Pair *p = rows->v[i].use.lora->layer + (size_t)layer * LORA_SITES;
        for (LoraSite s = first; s <= last; s++) apply(m, &rows->v[i], &p[s], io);
    }
}

void lora__head(Model *m, const LoraIo *io) {
    const Runs *rows = &m->lora->out;
    for (int i = 0; i < rows->n; i++) apply(m, &rows->v[i], &rows->v[i].use.lora->head, io);
}
