/* SPDX-License-Identifier: Apache-2.0
 * Training attention, forward and backward, in blocks of queries through the packed matrix product. The
 * probabilities are never kept: the backward makes them again from the saved logsumexp (Dao et al.,
 * "FlashAttention", 2022, without its online softmax: a block of query rows sees all its keys at once).
 *
 * A task is one row of the batch and one head (forward) or one key/value head with the query heads that
 * share it (backward), so that no two tasks write the same place and sums have a fixed order. */
#include "device/internal.h"

typedef struct AttnJob {
    CpuDevice *d;
    const AttnTrainArgs *a;
    const GemmCore *c;
    int qb;    /* query rows of a block */
    int align; /* key ranges begin at a multiple of this */
    int Tp;    /* T rounded up to whole panels */
    size_t ld; /* floats between rows of qkv */
} AttnJob;

/* Keys [k0, k1) that the queries [q0, q1) of a block may see between them. */
typedef struct Span {
    int q0, q1, k0, k1;
} Span;

static int block_rows(const GemmCore *c) { return ROUND_UP(48, c->mr); }
static int align_of(const GemmCore *c) { return MAX(MAX(c->nr, c->kr), 32); }

/* Bytes of a packed operand of `lanes` x k, whole panels of P. */
static size_t packed(const GemmCore *c, int P, int lanes, int k) {
    return ROUND_UP(ROUND_UP((size_t)lanes, (size_t)P) * ROUND_UP((size_t)k, (size_t)c->kr) *
                        c->elem,
                    (size_t)64);
}

size_t cpu__attn_scratch(const GemmCore *c, int T, int hd) {
    int Tp = ROUND_UP(T, align_of(c)), qb = block_rows(c);
    size_t n =
        3 * MAX(packed(c, c->nr, Tp, hd), packed(c, c->nr, hd, Tp)); /* K, V, K again as operands */
    n += 2 * ROUND_UP((size_t)Tp * (size_t)hd * sizeof(float), (size_t)64); /* dK, dV */
    n += 3 * (size_t)qb * (size_t)Tp * sizeof(float);                       /* S, dP, dropped P */
    n += MAX(packed(c, c->mr, qb, Tp), packed(c, c->mr, Tp, qb));
    n += packed(c, c->mr, qb, hd) + packed(c, c->nr, hd, qb);
    return n + 4096;
}

static AttnJob job_of(Device *d, const AttnTrainArgs *a) {
    CpuDevice *c = cpu_of(d);
    return (AttnJob){.d = c,
                     .a = a,
                     .c = c->core,
                     .qb = block_rows(c->core),
                     .align = align_of(c->core),
                     .Tp = ROUND_UP(a->T, align_of(c->core)),
                     .ld = (size_t)(a->nh + 2 * a->nkv) * (size_t)a->hd};
}

static size_t panel(const AttnJob *j, int P, int k) {
    return (size_t)P * ROUND_UP((size_t)k, (size_t)j->c->kr) * j->c->elem;
}

/* dst = all panels of B [k, n], element (i, l) at src[i rs + l cs]. */
static void pack_b(const AttnJob *j, char *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k,
                   int n) {
    int P = j->c->nr;
    for (int l = 0; l < n; l += P)
        j->c->pack_b(dst + (size_t)(l / P) * panel(j, P, k), src + l * cs, rs, cs, k,
                     MIN(P, n - l));
}

static void pack_a(const AttnJob *j, char *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m,
                   int k) {
    int P = j->c->mr;
    for (int i = 0; i < m; i += P)
        j->c->pack_a(dst + (size_t)(i / P) * panel(j, P, k), src + i * rs, rs, cs, MIN(P, m - i),
                     k);
}

/* c[m, n] (+)= packed a times packed b over k steps; panels of b are b_pitch apart. */
static void product(const AttnJob *j, float *c, size_t ldc, const char *a, const char *b,
                    size_t b_pitch, int m, int n, int k, bool accumulate) {
    const GemmCore *g = j->c;
    int kp = ROUND_UP(k, g->kr);
    for (int l = 0; l < n; l += g->nr)
        for (int i = 0; i < m; i += g->mr)
            g->tile(c + (size_t)i * ldc + (size_t)l, ldc,
                    a + (size_t)(i / g->mr) * panel(j, g->mr, k), b + (size_t)(l / g->nr) * b_pitch,
                    kp, MIN(g->mr, m - i), MIN(g->nr, n - l), accumulate);
}

static Span span_of(const AttnJob *j, const int32_t *seg, int q0) {
    Span s = {q0, MIN(q0 + j->qb, j->a->T), 0, 0};
    int first = seg[q0];
    for (int t = q0; t < s.q1; t++) first = MIN(first, seg[t]);
    s.k0 = first / j->align * j->align;
    s.k1 = s.q1;
    return s;
}

/* x[0..n) is zero outside [lo, hi). */
static void zero_outside(float *x, int n, int lo, int hi) {
    memset(x, 0, (size_t)lo * sizeof *x);
    memset(x + hi, 0, (size_t)(n - hi) * sizeof *x);
}

/* Drop probabilities of query t of head h in row r: the same numbers in both directions. */
static void drop_row(const AttnJob *j, float *p, int n, int r, int h, int t, int key0) {
    const AttnTrainArgs *a = j->a;
    if (a->drop.p <= 0.0f) return;
    uint64_t first =
        (((uint64_t)r * (uint64_t)a->nh + (uint64_t)h) * (uint64_t)a->T + (uint64_t)t) *
        (uint64_t)a->T;
    j->d->kern.dropout(p, (size_t)n, (uint32_t)((double)a->drop.p * 4294967296.0),
                       1.0f / (1.0f - a->drop.p), a->drop.key, a->drop.site,
                       first + (uint64_t)key0);
}

/* ---- forward ---- */

typedef struct Fwd {
    char *K, *V, *Q, *P;
    float *S;
} Fwd;

/* S = softmax(scale Q K^T) of the block, rows ldS apart, dropped; lse[t] kept. */
static void fwd_probs(const AttnJob *j, const Fwd *f, const Span *s, const int32_t *seg, float *lse,
                      int r, int h) {
    const AttnTrainArgs *a = j->a;
    int n = s->k1 - s->k0;
    product(j, f->S, (size_t)j->Tp, f->Q,
            f->K + (size_t)(s->k0 / j->c->nr) * panel(j, j->c->nr, a->hd),
            panel(j, j->c->nr, a->hd), s->q1 - s->q0, n, a->hd, false);
    for (int t = s->q0; t < s->q1; t++) {
        float *row = f->S + (size_t)(t - s->q0) * (size_t)j->Tp;
        int lo = seg[t] - s->k0, hi = t + 1 - s->k0;
        lse[t] = j->d->kern.softmax(row + lo, hi - lo, a->scale);
        zero_outside(row, n, lo, hi);
        drop_row(j, row + lo, hi - lo, r, h, t, seg[t]);
    }
}

static void fwd_task(void *ctx, int64_t tile, int worker) {
    AttnJob *j = ctx;
    const AttnTrainArgs *a = j->a;
    const GemmCore *c = j->c;
    int r = (int)(tile / a->nh), h = (int)(tile % a->nh), g = h / (a->nh / a->nkv), hd = a->hd;
    const float *q = cpu_ptr(a->qkv) + (size_t)r * (size_t)a->T * j->ld + (size_t)(h * hd);
    const float *k =
        cpu_ptr(a->qkv) + (size_t)r * (size_t)a->T * j->ld + (size_t)((a->nh + g) * hd);
    const float *v = k + (size_t)(a->nkv * hd);
    float *o = cpu_ptr(a->o) + (size_t)r * (size_t)a->T * (size_t)(a->nh * hd) + (size_t)(h * hd);
    float *lse = cpu_ptr(a->lse) + ((size_t)r * (size_t)a->nh + (size_t)h) * (size_t)a->T;
    const int32_t *seg = a->seg + (size_t)r * (size_t)a->T;
    char *at = j->d->scratch[worker].p;
    Fwd f = {.K = cpu_take(&at, packed(c, c->nr, j->Tp, hd)),
             .V = cpu_take(&at, packed(c, c->nr, hd, j->Tp)),
             .Q = cpu_take(&at, packed(c, c->mr, j->qb, hd)),
             .P = cpu_take(&at, packed(c, c->mr, j->qb, j->Tp)),
             .S = cpu_take(&at, (size_t)j->qb * (size_t)j->Tp * sizeof(float))};
    if (c->enter) c->enter();
    pack_b(j, f.K, k, 1, (ptrdiff_t)j->ld, hd, a->T);
    pack_b(j, f.V, v, (ptrdiff_t)j->ld, 1, a->T, hd);
    for (int q0 = 0; q0 < a->T; q0 += j->qb) {
        Span s = span_of(j, seg, q0);
        int m = s.q1 - s.q0, n = s.k1 - s.k0;
        pack_a(j, f.Q, q + (size_t)q0 * j->ld, (ptrdiff_t)j->ld, 1, m, hd);
        fwd_probs(j, &f, &s, seg, lse, r, h);
        pack_a(j, f.P, f.S, j->Tp, 1, m, n);
        product(j, o + (size_t)q0 * (size_t)(a->nh * hd), (size_t)(a->nh * hd), f.P,
                f.V + panel(j, c->nr, s.k0), panel(j, c->nr, a->T), m, hd, n, false);
    }
    if (c->leave) c->leave();
}

void cpu__attn_train(Device *d, const AttnTrainArgs *a) {
    AttnJob j = job_of(d, a);
    if (!cpu__reserve(j.d, cpu__attn_scratch(j.c, a->T, a->hd))) return;
    cpu__for(j.d, (size_t)a->n_row * (size_t)a->nh, 1, fwd_task, &j);
}

/* ---- backward ---- */

typedef struct Bwd {
    char *K, *V, *Kn;     /* K and V against the width, K against the keys, as right operands */
    char *A, *Q, *B;      /* left operand over keys, left over width, right over queries */
    float *S, *dP, *drop; /* [qb, Tp] */
    float *dK, *dV;       /* [Tp, hd] */
} Bwd;

/* S = P again, dP = gradient of P, drop = P as the forward used it (dropped). */
static void bwd_probs(const AttnJob *j, const Bwd *b, const Span *s, const int32_t *seg,
                      const float *lse, const float *d_o, size_t ldo, int r, int h) {
    const AttnTrainArgs *a = j->a;
    int m = s->q1 - s->q0, n = s->k1 - s->k0;
    size_t pitch = panel(j, j->c->nr, a->hd), k_at = (size_t)(s->k0 / j->c->nr) * pitch;
    product(j, b->S, (size_t)j->Tp, b->Q, b->K + k_at, pitch, m, n, a->hd, false);
    pack_a(j, b->Q, d_o, (ptrdiff_t)ldo, 1, m, a->hd);
    product(j, b->dP, (size_t)j->Tp, b->Q, b->V + k_at, pitch, m, n, a->hd, false);
    for (int t = s->q0; t < s->q1; t++) {
        size_t at = (size_t)(t - s->q0) * (size_t)j->Tp;
        int lo = seg[t] - s->k0, len = t + 1 - seg[t];
        j->d->kern.exp_shift(b->S + at + lo, len, a->scale, lse[t]);
        zero_outside(b->S + at, n, lo, lo + len);
        zero_outside(b->dP + at, n, lo, lo + len);
        drop_row(j, b->dP + at + lo, len, r, h, t, seg[t]);
        if (a->drop.p <= 0.0f) continue;
        memcpy(b->drop + at, b->S + at, (size_t)n * sizeof(float));
        drop_row(j, b->drop + at + lo, len, r, h, t, seg[t]);
    }
}

/* dP becomes the gradient of the scores: P (dP - rowsum(dO O)) scale. */
static void bwd_scores(const AttnJob *j, const Bwd *b, const Span *s, const int32_t *seg,
                       const float *o, const float *d_o, size_t ldo) {
    for (int t = s->q0; t < s->q1; t++) {
        size_t at = (size_t)(t - s->q0) * (size_t)j->Tp, row = (size_t)(t - s->q0) * ldo;
        int lo = seg[t] - s->k0;
        float sum = j->d->kern.dot(o + row, d_o + row, (size_t)j->a->hd);
        j->d->kern.softmax_bwd(b->dP + at + lo, b->S + at + lo, sum, j->a->scale, t + 1 - seg[t]);
    }
}

/* dst[keys, hd] += X^T Y, X [m, n keys] at ld Tp, Y [m, hd]. */
static void add_over_queries(const AttnJob *j, const Bwd *b, float *dst, const float *x,
                             const float *y, size_t ldy, const Span *s) {
    int m = s->q1 - s->q0, n = s->k1 - s->k0, hd = j->a->hd;
    pack_a(j, b->A, x, 1, j->Tp, n, m);
    pack_b(j, b->B, y, (ptrdiff_t)ldy, 1, m, hd);
    product(j, dst + (size_t)s->k0 * (size_t)hd, (size_t)hd, b->A, b->B, panel(j, j->c->nr, m), n,
            hd, m, true);
}

static void bwd_head(const AttnJob *j, const Bwd *b, int r, int h) {
    const AttnTrainArgs *a = j->a;
    int hd = a->hd;
    size_t row0 = (size_t)r * (size_t)a->T, ldo = (size_t)(a->nh * hd), ocol = (size_t)(h * hd);
    const float *q = cpu_ptr(a->qkv) + row0 * j->ld + ocol;
    const float *o = cpu_ptr(a->o) + row0 * ldo + ocol, *d_o = cpu_ptr(a->d_o) + row0 * ldo + ocol;
    float *dq = cpu_ptr(a->dqkv) + row0 * j->ld + ocol;
    const float *lse = cpu_ptr(a->lse) + ((size_t)r * (size_t)a->nh + (size_t)h) * (size_t)a->T;
    const int32_t *seg = a->seg + row0;
    for (int q0 = 0; q0 < a->T; q0 += j->qb) {
        Span s = span_of(j, seg, q0);
        int m = s.q1 - s.q0, n = s.k1 - s.k0;
        size_t q_at = (size_t)q0 * j->ld, o_at = (size_t)q0 * ldo;
        pack_a(j, b->Q, q + q_at, (ptrdiff_t)j->ld, 1, m, hd);
        bwd_probs(j, b, &s, seg, lse, d_o + o_at, ldo, r, h);
        add_over_queries(j, b, b->dV, a->drop.p > 0.0f ? b->drop : b->S, d_o + o_at, ldo, &s);
        bwd_scores(j, b, &s, seg, o + o_at, d_o + o_at, ldo);
        add_over_queries(j, b, b->dK, b->dP, q + q_at, j->ld, &s);
        pack_a(j, b->A, b->dP, j->Tp, 1, m, n);
        product(j, dq + q_at, j->ld, b->A, b->Kn + panel(j, j->c->nr, s.k0),
                panel(j, j->c->nr, a->T), m, hd, n, false);
    }
}

static void bwd_task(void *ctx, int64_t tile, int worker) {
    AttnJob *j = ctx;
    const AttnTrainArgs *a = j->a;
    const GemmCore *c = j->c;
    int r = (int)(tile / a->nkv), g = (int)(tile % a->nkv), group = a->nh / a->nkv, hd = a->hd;
    size_t at_k = (size_t)r * (size_t)a->T * j->ld + (size_t)((a->nh + g) * hd),
           v_off = (size_t)(a->nkv * hd);
    const float *k = cpu_ptr(a->qkv) + at_k;
    float *dk = cpu_ptr(a->dqkv) + at_k;
    size_t block = (size_t)j->qb * (size_t)j->Tp * sizeof(float),
           sums = (size_t)j->Tp * (size_t)hd * sizeof(float);
    char *at = j->d->scratch[worker].p;
    Bwd b = {.K = cpu_take(&at, packed(c, c->nr, j->Tp, hd)),
             .V = cpu_take(&at, packed(c, c->nr, j->Tp, hd)),
             .Kn = cpu_take(&at, packed(c, c->nr, hd, j->Tp)),
             .A =
                 cpu_take(&at, MAX(packed(c, c->mr, j->qb, j->Tp), packed(c, c->mr, j->Tp, j->qb))),
             .Q = cpu_take(&at, packed(c, c->mr, j->qb, hd)),
             .B = cpu_take(&at, packed(c, c->nr, hd, j->qb)),
             .S = cpu_take(&at, block),
             .dP = cpu_take(&at, block),
             .drop = cpu_take(&at, block),
             .dK = cpu_take(&at, sums),
             .dV = cpu_take(&at, sums)};
    memset(b.dK, 0, sums);
    memset(b.dV, 0, sums);
    if (c->enter) c->enter();
    pack_b(j, b.K, k, 1, (ptrdiff_t)j->ld, hd, a->T);
    pack_b(j, b.V, k + v_off, 1, (ptrdiff_t)j->ld, hd, a->T);
    pack_b(j, b.Kn, k, (ptrdiff_t)j->ld, 1, a->T, hd);
    for (int h = g * group; h < (g + 1) * group; h++) bwd_head(j, &b, r, h);
    if (c->leave) c->leave();
    for (int t = 0; t < a->T; t++) {
        memcpy(dk + (size_t)t * j->ld, b.dK + (size_t)t * (size_t)hd, (size_t)hd * sizeof(float));
        memcpy(dk + v_off + (size_t)t * j->ld, b.dV + (size_t)t * (size_t)hd,
               (size_t)hd * sizeof(float));
    }
}

void cpu__attn_bwd(Device *d, const AttnTrainArgs *a) {
    AttnJob j = job_of(d, a);
    if (!cpu__reserve(j.d, cpu__attn_scratch(j.c, a->T, a->hd))) return;
    cpu__for(j.d, (size_t)a->n_row * (size_t)a->nkv, 1, bwd_task, &j);
}
