/* SPDX-License-Identifier: Apache-2.0
 * Training attention, forward and backward, against the definition in float64: any number of tokens,
 * documents, shared key heads, dropout; and the same bits for any number of threads. */
#include "dev.h"

#include "base/rng.h"

typedef struct Case {
    int n_row, T, nh, nkv, hd;
    float p;  /* of dropout */
    int docs; /* 0: one document a row; else a new one begins about every `docs` tokens */
} Case;

/* Inputs and results of one case in float64. */
typedef struct Naive {
    Case c;
    double scale;
    int32_t *seg;
    double *qkv, *d_o, *o, *lse, *dqkv;
    double *p, *dp; /* [T] of one query */
    float *keep;    /* [T] of one query: 0 or 1 / (1 - p) */
} Naive;

enum { KEY = 77, SITE = 12 };

static size_t width(const Case *c) { return (size_t)((c->nh + 2 * c->nkv) * c->hd); }
static size_t n_rows(const Case *c) { return (size_t)c->n_row * (size_t)c->T; }

static void documents(const Case *c, int32_t *seg) {
    for (int r = 0; r < c->n_row; r++) {
        int start = 0;
        for (int t = 0; t < c->T; t++) {
            if (c->docs && t > 0 && dev_int(1, c->docs) == 1) start = t;
            seg[r * c->T + t] = start;
        }
    }
}

/* What the contract of dropout says: word i of the stream (key, site), counted over [row, head, t, key]. */
static void keep_of(Naive *x, int r, int h, int t) {
    const Case *c = &x->c;
    uint32_t limit = (uint32_t)((double)c->p * 4294967296.0);
    for (int s = 0; s <= t; s++) {
        uint32_t w[4];
        uint64_t i = ((uint64_t)(r * c->nh + h) * (uint64_t)c->T + (uint64_t)t) * (uint64_t)c->T +
                     (uint64_t)s;
        rng_philox(w, KEY, SITE, i / 4);
        x->keep[s] = c->p <= 0.0f ? 1.0f : w[i % 4] >= limit ? 1.0f / (1.0f - c->p) : 0.0f;
    }
}

static double dot(const double *a, const double *b, int n) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Probabilities of query t into p; its logsumexp. */
static double probs(Naive *x, const double *q, const double *k, size_t ld, int lo, int t) {
    double most = -1e300, sum = 0.0;
    for (int s = lo; s <= t; s++) {
        x->p[s] = x->scale * dot(q, k + (size_t)s * ld, x->c.hd);
        most = fmax(most, x->p[s]);
    }
    for (int s = lo; s <= t; s++) sum += exp(x->p[s] - most);
    for (int s = lo; s <= t; s++) x->p[s] = exp(x->p[s] - most) / sum;
    return most + log(sum);
}

static void query(Naive *x, int r, int h, int t) {
    const Case *c = &x->c;
    int hd = c->hd, g = h / (c->nh / c->nkv), lo = x->seg[r * c->T + t];
    size_t ld = width(c), row = (size_t)(r * c->T), at = row + (size_t)t;
    size_t k_at = (size_t)((c->nh + g) * hd), v_at = k_at + (size_t)(c->nkv * hd);
    const double *q = x->qkv + at * ld + (size_t)(h * hd), *k = x->qkv + row * ld + k_at,
                 *v = x->qkv + row * ld + v_at,
                 *d_o = x->d_o + (at * (size_t)c->nh + (size_t)h) * (size_t)hd;
    double *o = x->o + (at * (size_t)c->nh + (size_t)h) * (size_t)hd,
           *dq = x->dqkv + at * ld + (size_t)(h * hd), *dk = x->dqkv + row * ld + k_at,
           *dv = x->dqkv + row * ld + v_at, sum = 0.0;
    x->lse[(size_t)(r * c->nh + h) * (size_t)c->T + (size_t)t] = probs(x, q, k, ld, lo, t);
    keep_of(x, r, h, t);
    for (int s = lo; s <= t; s++) {
        double kept = x->p[s] * (double)x->keep[s];
        x->dp[s] = dot(d_o, v + (size_t)s * ld, hd) * (double)x->keep[s];
        sum += x->dp[s] * x->p[s];
        for (int i = 0; i < hd; i++) {
            o[i] += kept * v[(size_t)s * ld + (size_t)i];
            dv[(size_t)s * ld + (size_t)i] += kept * d_o[i];
        }
    }
    for (int s = lo; s <= t; s++) {
        double ds = x->p[s] * (x->dp[s] - sum) * x->scale;
        for (int i = 0; i < hd; i++) {
            dq[i] += ds * k[(size_t)s * ld + (size_t)i];
            dk[(size_t)s * ld + (size_t)i] += ds * q[i];
        }
    }
}

static Naive naive_of(const Case *c, const float *qkv, const float *d_o, int32_t *seg,
                      float scale) {
    size_t R = n_rows(c), no = R * (size_t)(c->nh * c->hd), nq = R * width(c);
    Naive x = {*c,
               (double)scale,
               seg,
               dev_widen(qkv, nq),
               dev_widen(d_o, no),
               dev_doubles(no),
               dev_doubles(R * (size_t)c->nh),
               dev_doubles(nq),
               dev_doubles((size_t)c->T),
               dev_doubles((size_t)c->T),
               dev_floats((size_t)c->T)};
    for (int r = 0; r < c->n_row; r++)
        for (int h = 0; h < c->nh; h++)
            for (int t = 0; t < c->T; t++) query(&x, r, h, t);
    return x;
}

static void naive_free(Naive *x) {
    double *all[] = {x->qkv, x->d_o, x->o, x->lse, x->dqkv, x->p, x->dp};
    for (size_t i = 0; i < COUNT_OF(all); i++) free(all[i]);
    free(x->keep);
    free(x->seg);
}

/* ---- the device ---- */

typedef struct Got {
    float *o, *lse, *dqkv;
} Got;

static Got run(const char *level, int threads, const Case *c, const float *qkv, const float *d_o,
               const int32_t *seg, float scale) {
    Device *d = dev_new(level, threads);
    size_t R = n_rows(c), no = R * (size_t)(c->nh * c->hd), nq = R * width(c),
           nl = R * (size_t)c->nh;
    float *junk = dev_random(nq); /* dqkv is assigned, whatever stands there */
    Buf *bq = dev_put(d, qkv, nq), *bd = dev_put(d, d_o, no), *bo = dev_put(d, junk, no),
        *bl = dev_buf(d, nl), *bdq = dev_put(d, junk, nq);
    AttnTrainArgs a = {.o = buf_at(bo, 0),
                       .lse = buf_at(bl, 0),
                       .qkv = buf_at(bq, 0),
                       .dqkv = buf_at(bdq, 0),
                       .d_o = buf_at(bd, 0),
                       .seg = seg,
                       .n_row = c->n_row,
                       .T = c->T,
                       .nh = c->nh,
                       .nkv = c->nkv,
                       .hd = c->hd,
                       .scale = scale,
                       .drop = {c->p, KEY, SITE}};
    d->ops->attn_train(d, &a);
    d->ops->attn_bwd(d, &a);
    Got g = {dev_get(d, bo, no), dev_get(d, bl, nl), dev_get(d, bdq, nq)};
    Buf *all[] = {bq, bd, bo, bl, bdq};
    for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
    dev_free(d);
    free(junk);
    return g;
}

static void got_free(Got *g) {
    free(g->o);
    free(g->lse);
    free(g->dqkv);
}

static void check(const char *level, const Case *c) {
    size_t R = n_rows(c), no = R * (size_t)(c->nh * c->hd), nq = R * width(c);
    float *qkv = dev_random(nq), *d_o = dev_random(no), scale = 2.0f / sqrtf((float)c->hd);
    int32_t *seg = dev_alloc(R, sizeof *seg);
    char what[96];
    documents(c, seg);
    Naive want = naive_of(c, qkv, d_o, seg, scale);
    Got g = run(level, 2, c, qkv, d_o, seg, scale);
    snprintf(what, sizeof what, "attention T %d, heads %d/%d of %d, drop %g", c->T, c->nh, c->nkv,
             c->hd, (double)c->p);
    dev_all_near(what, g.o, want.o, no, 1e-5);
    dev_all_near(what, g.lse, want.lse, R * (size_t)c->nh, 1e-5);
    /* dK and dV gather terms over all queries */
    dev_all_near(what, g.dqkv, want.dqkv, nq, 3e-5 * (1.0 + sqrt((double)c->T)));
    got_free(&g);
    naive_free(&want);
    free(qkv);
    free(d_o);
}

static const Case cases[] = {
    {1, 1, 1, 1, 8, 0, 0},     {3, 1, 4, 2, 16, 0, 0},    {1, 2, 2, 2, 8, 0, 0},
    {2, 7, 4, 1, 24, 0, 3},    {1, 31, 2, 1, 32, 0, 0},   {2, 32, 2, 2, 8, 0, 5},
    {1, 33, 3, 3, 40, 0, 9},   {1, 47, 2, 1, 64, 0, 0},   {1, 48, 4, 4, 8, 0, 1},
    {2, 49, 4, 2, 16, 0, 20},  {1, 65, 1, 1, 104, 0, 30}, {1, 97, 6, 2, 8, 0, 40},
    {1, 131, 2, 1, 48, 0, 60}, {1, 200, 2, 2, 256, 0, 7}, {2, 50, 4, 2, 16, 0.3f, 20},
    {1, 67, 2, 1, 8, 0.9f, 0}, {1, 1, 2, 1, 8, 0.5f, 0},
};

TEST(forward_and_backward_match_the_definition) {
    for (size_t l = 0; l < DEV_LEVELS; l++)
        for (size_t i = 0; i < COUNT_OF(cases) && dev_has(l); i++) check(dev_levels[l], &cases[i]);
}

TEST(thread_count_changes_no_bit) {
    static const Case c = {3, 77, 4, 2, 24, 0.2f, 25};
    size_t R = n_rows(&c), no = R * (size_t)(c.nh * c.hd), nq = R * width(&c);
    float *qkv = dev_random(nq), *d_o = dev_random(no);
    int32_t *seg = dev_alloc(R, sizeof *seg);
    documents(&c, seg);
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Got one = run(dev_levels[l], 1, &c, qkv, d_o, seg, 0.2f);
        for (int threads = 2; threads <= 3; threads++) {
            Got g = run(dev_levels[l], threads, &c, qkv, d_o, seg, 0.2f);
            EQ_MEM(g.o, one.o, no * sizeof(float));
            EQ_MEM(g.lse, one.lse, R * (size_t)c.nh * sizeof(float));
            EQ_MEM(g.dqkv, one.dqkv, nq * sizeof(float));
            got_free(&g);
        }
        got_free(&one);
    }
    free(seg);
    free(qkv);
    free(d_o);
}

/* A query sees nothing of other documents and later tokens: other values there change no bit of its own. */
TEST(nothing_leaks_between_documents) {
    static const Case c = {1, 90, 2, 1, 16, 0, 0};
    size_t R = n_rows(&c), no = R * (size_t)(c.nh * c.hd), nq = R * width(&c);
    float *qkv = dev_random(nq), *d_o = dev_random(no);
    int32_t seg[90];
    for (int t = 0; t < 90; t++) seg[t] = t < 37 ? 0 : t < 53 ? 37 : 53;
    Got a = run(NULL, 2, &c, qkv, d_o, seg, 0.3f);
    for (size_t t = 37; t < 53; t++)
        for (size_t i = 0; i < width(&c); i++) qkv[t * width(&c) + i] = 1e6f * dev_rnd();
    Got b = run(NULL, 2, &c, qkv, d_o, seg, 0.3f);
    size_t wo = (size_t)(c.nh * c.hd), w = width(&c);
    EQ_MEM(a.o, b.o, 37 * wo * sizeof(float));
    EQ_MEM(a.o + 53 * wo, b.o + 53 * wo, 37 * wo * sizeof(float));
    EQ_MEM(a.dqkv, b.dqkv, 37 * w * sizeof(float));
    EQ_MEM(a.dqkv + 53 * w, b.dqkv + 53 * w, 37 * w * sizeof(float));
    got_free(&a);
    got_free(&b);
    free(qkv);
    free(d_o);
}
