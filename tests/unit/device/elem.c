/* SPDX-License-Identifier: Apache-2.0
 * Element-wise and row-wise operations over more than one tile: sums, AdamW, dropout, norms, embeddings,
 * activations, cross-entropy, against loops in float64. */
#include "dev.h"

#include "base/rng.h"
#include "tensor/half.h"

/* Sizes around a tile of 16,384 elements. */
static const size_t sizes[] = {1, 7, 1000, 16383, 16384, 16385, 50001};

TEST(fill_add_copy) {
    Device *d = dev_new(NULL, 3);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        size_t n = sizes[i];
        float *x = dev_random(n), *y = dev_random(n + 1);
        Buf *bx = dev_put(d, x, n), *by = dev_put(d, y, n + 1);
        d->ops->add(d, buf_at(by, 0), buf_at(bx, 0), n);
        float *got = dev_get(d, by, n + 1);
        for (size_t k = 0; k < n; k++) TRUE_(got[k] == y[k] + x[k]);
        TRUE_(got[n] == y[n]);
        free(got);
        d->ops->copy(d, buf_at(by, 0), buf_at(bx, 0), n);
        got = dev_get(d, by, n + 1);
        EQ_MEM(got, x, n * sizeof *x);
        free(got);
        for (int k = 0; k < 2; k++) {
            d->ops->fill(d, buf_at(by, 0), k ? 2.5f : 0.0f, n);
            got = dev_get(d, by, n + 1);
            for (size_t j = 0; j < n; j++) TRUE_(got[j] == (k ? 2.5f : 0.0f));
            TRUE_(got[n] == y[n]);
            free(got);
        }
        d->ops->buf_free(d, bx);
        d->ops->buf_free(d, by);
        free(x);
        free(y);
    }
    dev_free(d);
}

TEST(sum_sq) {
    for (size_t l = 0; l < DEV_LEVELS; l++)
        for (size_t i = 0; i < COUNT_OF(sizes) && dev_has(l); i++) {
            size_t n = sizes[i];
            float *x = dev_random(n);
            double want = 0.0, first = -1.0;
            for (size_t k = 0; k < n; k++) want += (double)x[k] * (double)x[k];
            for (int threads = 1; threads <= 3; threads++) {
                Device *d = dev_new(dev_levels[l], threads);
                Buf *b = dev_put(d, x, n);
                double got = d->ops->sum_sq(d, buf_at(b, 0), n);
                NEAR(got, want, 1e-6 * want);
                if (first < 0.0) first = got;
                EQ_MEM(&got, &first, sizeof got);
                d->ops->buf_free(d, b);
                dev_free(d);
            }
            free(x);
        }
}

/* ---- AdamW ---- */

typedef struct Adam {
    double p, m, v;
} Adam;

static void adam_step(Adam *a, double g, const AdamwStep *s) {
    g *= (double)s->grad_scale;
    a->m = (double)s->beta1 * a->m + (1.0 - (double)s->beta1) * g;
    a->v = (double)s->beta2 * a->v + (1.0 - (double)s->beta2) * g * g;
    double m = a->m / (1.0 - pow((double)s->beta1, (double)s->t)),
           v = a->v / (1.0 - pow((double)s->beta2, (double)s->t));
    a->p -= (double)s->lr * (m / (sqrt(v) + (double)s->eps) + (double)s->weight_decay * a->p);
}

static void adamw_case(const char *level, float beta1, float beta2, float decay) {
    enum { N = 33000, STEPS = 8 };
    Device *d = dev_new(level, 2);
    float *p = dev_random(N), *g = NULL;
    Adam *want = dev_alloc(N, sizeof *want);
    Buf *bp = dev_put(d, p, N), *bm = dev_buf(d, N), *bv = dev_buf(d, N), *bg = dev_buf(d, N);
    for (int i = 0; i < N; i++) want[i].p = (double)p[i];
    for (int t = 1; t <= STEPS; t++) {
        g = dev_random(N);
        g[5] = 0.0f;
        d->ops->upload(d, buf_at(bg, 0), g, N * sizeof *g);
        AdamwStep s = {.p = buf_at(bp, 0),
                       .m = buf_at(bm, 0),
                       .v = buf_at(bv, 0),
                       .g = buf_at(bg, 0),
                       .n = N,
                       .lr = 0.01f,
                       .beta1 = beta1,
                       .beta2 = beta2,
                       .eps = 1e-8f,
                       .weight_decay = decay,
                       .grad_scale = 0.5f,
                       .t = t};
        d->ops->adamw(d, &s);
        for (int i = 0; i < N; i++) adam_step(&want[i], (double)g[i], &s);
        free(g);
    }
    float *got = dev_get(d, bp, N), *m = dev_get(d, bm, N), *v = dev_get(d, bv, N);
    for (size_t i = 0; i < N; i++) {
        dev_near("adamw p", i, got[i], want[i].p, 2e-6);
        dev_near("adamw m", i, m[i], want[i].m, 1e-6);
        dev_near("adamw v", i, v[i], want[i].v, 1e-6);
    }
    Buf *all[] = {bp, bm, bv, bg};
    for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
    float *host[] = {p, got, m, v};
    for (size_t i = 0; i < COUNT_OF(host); i++) free(host[i]);
    free(want);
    dev_free(d);
}

TEST(adamw_matches_the_definition) {
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        adamw_case(dev_levels[l], 0.9f, 0.95f, 0.1f);
        adamw_case(dev_levels[l], 0.0f, 0.999f, 0.0f);
    }
}

/* ---- dropout ---- */

enum { N_DROP = 100000 };

static float *dropped(const float *x, int threads, const char *level, DropSpec s) {
    Device *d = dev_new(level, threads);
    Buf *b = dev_put(d, x, N_DROP);
    d->ops->dropout(d, buf_at(b, 0), N_DROP, &s);
    float *y = dev_get(d, b, N_DROP);
    d->ops->buf_free(d, b);
    dev_free(d);
    return y;
}

/* Each element is dropped or scaled, about p of them dropped, neighbours not together. */
static void dropout_statistics(float p) {
    float *x = dev_random(N_DROP), scale = 1.0f / (1.0f - p);
    for (size_t i = 0; i < N_DROP; i++) x[i] += x[i] < 0.0f ? -0.5f : 0.5f;
    float *y = dropped(x, 2, NULL, (DropSpec){p, 3, 4});
    double n_kept = 0.0, n_pairs = 0.0, keep = 1.0 - (double)p;
    for (size_t i = 0; i < N_DROP; i++) {
        if (y[i] != 0.0f) TRUE_(y[i] == x[i] * scale);
        n_kept += y[i] != 0.0f;
        n_pairs += i > 0 && y[i] != 0.0f && y[i - 1] != 0.0f;
    }
    NEAR(n_kept, keep * N_DROP, 4.5 * sqrt(N_DROP * keep * (double)p));
    NEAR(n_pairs, keep * keep * N_DROP, 7.0 * sqrt(N_DROP * keep * (double)p));
    free(x);
    free(y);
}

TEST(dropout_drops_a_share_of_p) {
    static const float p[] = {0.01f, 0.1f, 0.5f, 0.9f};
    for (size_t i = 0; i < COUNT_OF(p); i++) dropout_statistics(p[i]);
}

TEST(dropout_is_a_function_of_its_keys) {
    float *x = dev_random(N_DROP), *same;
    float *y = dropped(x, 1, "ref", (DropSpec){0.25f, 7, 11});
    for (int threads = 1; threads <= 3; threads++)
        for (size_t l = 0; l < DEV_LEVELS; l++) {
            if (!dev_has(l)) continue;
            same = dropped(x, threads, dev_levels[l], (DropSpec){0.25f, 7, 11});
            EQ_MEM(same, y, N_DROP * sizeof *y);
            free(same);
        }
    for (uint64_t i = 0; i < 2; i++) { /* another key, another site: about p(1-p)2 differ */
        float *z = dropped(x, 2, NULL, (DropSpec){0.25f, 7 + i, 12 - i});
        size_t differ = 0;
        for (size_t k = 0; k < N_DROP; k++) differ += (y[k] != 0.0f) != (z[k] != 0.0f);
        NEAR(differ, 0.375 * N_DROP, 900);
        free(z);
    }
    float *off = dropped(x, 2, NULL, (DropSpec){0.0f, 7, 11});
    EQ_MEM(off, x, N_DROP * sizeof *x);
    free(off);
    free(y);
    free(x);
}

/* ---- norms ---- */

typedef struct NormOut {
    double *dx, *dw, *db;
} NormOut;

static void norm_naive(NormOut *o, NormKind kind, const float *x, const float *w, const float *dy,
                       int T, int C) {
    for (int t = 0; t < T; t++) {
        const float *r = x + (size_t)t * (size_t)C, *g = dy + (size_t)t * (size_t)C;
        double mean = 0.0, sq = 0.0, a = 0.0, b = 0.0;
        for (int c = 0; c < C && kind == NORM_LAYER; c++) mean += (double)r[c] / C;
        for (int c = 0; c < C; c++) sq += ((double)r[c] - mean) * ((double)r[c] - mean) / C;
        double rstd = 1.0 / sqrt(sq + 1e-5);
        for (int c = 0; c < C; c++) {
            double h = ((double)r[c] - mean) * rstd, dh = (double)g[c] * (double)w[c];
            a += kind == NORM_LAYER ? dh / C : 0.0;
            b += dh * h / C;
            o->dw[c] += (double)g[c] * h;
            o->db[c] += (double)g[c];
        }
        for (int c = 0; c < C; c++) {
            double h = ((double)r[c] - mean) * rstd, dh = (double)g[c] * (double)w[c];
            o->dx[(size_t)t * (size_t)C + (size_t)c] += rstd * (dh - a - h * b);
        }
    }
}

/* 5,000 rows: tiles of 20 rows, joined in order; and the same bits for any number of threads. */
static void norm_case(NormKind kind, int T, int C) {
    size_t n = (size_t)T * (size_t)C, c = (size_t)C;
    float *x = dev_random(n), *w = dev_random(c), *dy = dev_random(n), *dx0 = dev_random(n),
          *one[3] = {NULL, NULL, NULL};
    NormOut want = {dev_widen(dx0, n), dev_doubles(c), dev_doubles(c)};
    norm_naive(&want, kind, x, w, dy, T, C);
    for (int threads = 1; threads <= 3; threads++) {
        Device *d = dev_new(NULL, threads);
        Buf *b[] = {dev_put(d, x, n),   dev_put(d, w, c),  dev_put(d, dy, n),
                    dev_put(d, dx0, n), dev_buf(d, 2 * c), dev_buf(d, 2 * (size_t)T),
                    dev_buf(d, n)};
        BufAt stat = buf_at(b[5], 0), dw = buf_at(b[4], 0);
        d->ops->norm(
            d,
            &(NormArgs){
                kind, buf_at(b[6], 0), buf_at(b[0], 0), buf_at(b[1], 0), {0}, stat, T, C, 1e-5f});
        d->ops->norm_bwd(d, &(NormBwdArgs){kind, buf_at(b[3], 0), dw,
                                           kind == NORM_LAYER ? buf_add(dw, c) : (BufAt){0},
                                           buf_at(b[2], 0), buf_at(b[0], 0), buf_at(b[1], 0), stat,
                                           T, C});
        float *got[] = {dev_get(d, b[3], n), dev_get(d, b[4], 2 * c)};
        dev_all_near("norm dx", got[0], want.dx, n, 2e-5);
        dev_all_near("norm dw", got[1], want.dw, c, 1e-4 * sqrt((double)T));
        if (kind == NORM_LAYER)
            dev_all_near("norm db", got[1] + c, want.db, c, 1e-4 * sqrt((double)T));
        for (int i = 0; i < 2; i++) {
            if (one[i]) EQ_MEM(got[i], one[i], (i ? 2 * c : n) * sizeof(float));
            if (one[i]) free(got[i]);
            else one[i] = got[i];
        }
        for (size_t i = 0; i < COUNT_OF(b); i++) d->ops->buf_free(d, b[i]);
        dev_free(d);
    }
    float *host[] = {x, w, dy, dx0, one[0], one[1]};
    for (size_t i = 0; i < COUNT_OF(host); i++) free(host[i]);
    free(want.dx);
    free(want.dw);
    free(want.db);
}

TEST(norm_bwd_of_many_rows) {
    static const int T[] = {1, 16, 17, 255, 5000};
    for (size_t i = 0; i < COUNT_OF(T); i++) {
        norm_case(NORM_RMS, T[i], 48);
        norm_case(NORM_LAYER, T[i], 33);
    }
    norm_case(NORM_LAYER, 40, 5000); /* few tiles of wide partial sums */
}

/* ---- embeddings ---- */

/* Every type of table; one id many times: its gradients add up. */
TEST(rows_of_every_type) {
    enum { V = 9, CTX = 5, T = 50, C = 96 };
    static const DType types[] = {DT_F32, DT_F16, DT_BF16, DT_Q8_0, DT_Q4_0};
    Kern k;
    OK_(kern_init(&k, "ref", TERR));
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        Device *d = dev_new(NULL, 3);
        float *x = dev_random((V + CTX) * C);
        size_t bytes = dtype_bytes(types[i], (V + CTX) * C), at = dtype_bytes(types[i], V * C);
        char *raw = dev_alloc(bytes, 1);
        int32_t ids[T], pos[T];
        k.from_f32[types[i]](raw, x, (V + CTX) * C);
        k.to_f32[types[i]](x, raw, (V + CTX) * C);
        Buf *map = d->ops->buf_wrap(d, raw, bytes), *by = dev_buf(d, T * C);
        for (int t = 0; t < T; t++) {
            ids[t] = dev_int(0, V - 1);
            pos[t] = dev_int(0, CTX - 1);
        }
        Weight w = {.type = types[i], .rows = V, .cols = C, .buf = map};
        Weight p = {.type = types[i], .rows = CTX, .cols = C, .buf = map, .off_bytes = at};
        for (int with = 0; with < 2; with++) {
            d->ops->rows(d, &(RowsArgs){buf_at(by, 0), w, with ? p : (Weight){0}, ids, pos, T});
            float *y = dev_get(d, by, T * C);
            for (int t = 0; t < T; t++)
                for (int c = 0; c < C; c++)
                    TRUE_(y[t * C + c] ==
                          x[ids[t] * C + c] + (with ? x[(V + pos[t]) * C + c] : 0.0f));
            free(y);
        }
        d->ops->buf_free(d, map);
        d->ops->buf_free(d, by);
        dev_free(d);
        free(raw);
        free(x);
    }
}

/* ---- activations and loss ---- */

TEST(activations_match_the_definition) {
    enum { T = 21, FF = 50 };
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Device *d = dev_new(dev_levels[l], 2);
        float *x = dev_random(T * 2 * FF);
        for (int i = 0; i < T * 2 * FF; i++) x[i] *= 6.0f;
        Buf *bx = dev_put(d, x, T * 2 * FF), *by = dev_buf(d, T * FF);
        for (int kind = 0; kind < 2; kind++) {
            d->ops->act(d, &(ActArgs){.kind = kind ? ACT_SWIGLU : ACT_GELU,
                                      .y = buf_at(by, 0),
                                      .x = buf_at(bx, 0),
                                      .T = T,
                                      .ff = FF});
            float *y = dev_get(d, by, T * FF);
            for (int i = 0; i < T * FF; i++) {
                double v = (double)x[kind ? i / FF * 2 * FF + i % FF : i], want;
                if (kind) want = v / (1 + exp(-v)) * (double)x[i / FF * 2 * FF + FF + i % FF];
                else
                    want =
                        0.5 * v * (1 + tanh(0.79788456080286535588 * (v + 0.044715 * v * v * v)));
                dev_near("activation", (size_t)i, y[i], want, 5e-6 * (1 + fabs(v) + fabs(want)));
            }
            free(y);
        }
        d->ops->buf_free(d, bx);
        d->ops->buf_free(d, by);
        free(x);
        dev_free(d);
    }
}

/* Logits far from zero, a target that is not counted. */
TEST(cross_entropy_of_extremes) {
    enum { T = 5, V = 1000 };
    static const int32_t target[T] = {0, 999, -1, 500, 3};
    Device *d = dev_new(NULL, 2);
    float *x = dev_random(T * V), loss[T];
    for (int i = 0; i < V; i++) x[i] = 30000.0f + x[i]; /* exp of it is infinite */
    for (int i = 0; i < V; i++) x[V + i] = -30000.0f;   /* all alike: log V */
    for (int i = 0; i < V; i++) x[3 * V + i] = i == 500 ? 200.0f : -200.0f; /* certain: 0 */
    Buf *b = dev_put(d, x, T * V);
    d->ops->xent(d, &(XentArgs){.logits = buf_at(b, 0),
                                .target = target,
                                .loss = loss,
                                .T = T,
                                .V = V,
                                .scale = 2.0f});
    float *g = dev_get(d, b, T * V);
    for (int t = 0; t < T; t++) {
        double sum = 0.0;
        for (int i = 0; i < V; i++) {
            TRUE_(isfinite(g[t * V + i]));
            sum += (double)g[t * V + i];
        }
        NEAR(sum, 0, 1e-4);
        TRUE_(isfinite(loss[t]) && loss[t] >= 0.0f);
    }
    NEAR(loss[1], log(V), 1e-4);
    NEAR(loss[3], 0, 1e-6);
    TRUE_(loss[2] == 0.0f);
    for (int i = 0; i < V; i++) TRUE_(g[2 * V + i] == 0.0f);
    NEAR(g[V + 999], 2.0 * (1.0 / V - 1.0), 1e-5);
    d->ops->buf_free(d, b);
    free(x);
    free(g);
    dev_free(d);
}
