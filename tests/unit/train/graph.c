/* SPDX-License-Identifier: Apache-2.0
 * The training pass: memory as planned, no allocation after the first step, gradients that add up whatever
 * the cut into micro-batches, dropout as a function of the step. Its numbers are held to the reference in
 * tests/golden/train.c. */
#include "train/graph.h"

#include <malloc.h>
#include <math.h>

#include "base/rng.h"
#include "fixture.h"

enum { ROWS = 4, T = 24, V = 61 };

typedef struct Pass {
    Device *d;
    Model *m;
    Graph *g;
    int32_t ids[ROWS * T], targets[ROWS * T], pos[ROWS * T], seg[ROWS * T];
} Pass;

static ModelConfig config_of(const char *arch) {
    ModelConfig c = {.arch = model_arch_find(slice_of(arch)),
                     .n_layer = 2,
                     .C = 32,
                     .nh = 4,
                     .nkv = 2,
                     .hd = 8,
                     .ff = 48,
                     .V = V,
                     .ctx = T,
                     .norm_eps = 1e-5f,
                     .rope_base = 1e4f,
                     .rope_scale = 1,
                     .n_rot = 4,
                     .tied = true};
    if (c.arch->fused_qkv) c.nkv = c.nh;
    if (model_has(&c, PART_QK_NORM)) c.hd = 16; /* heads wider together than the model */
    c.more = c.arch->may;
    if (c.arch->pos == POS_ROPE) {
        c.n_rot = c.hd / 2;
        c.rope_scale = 3;
        c.rope_attn = 0.9f;
        c.yarn = (YarnSpec){T, 4, 0.5f, 0};
    }
    return c;
}

/* Weights far from symmetric, so that every path matters. */
static void random_weights(Model *m) {
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        size_t n = param_n(p);
        float *x = malloc(n * sizeof *x),
              std = p->n_dims == 1 ? 0.2f : 0.7f / sqrtf((float)p->cols);
        bool norm = strstr(p->name, "norm.weight") != NULL;
        rng_normal_fill(x, n, std, 11, (uint64_t)i);
        for (size_t k = 0; k < n && norm; k++) x[k] += 1.0f;
        m->dev->ops->upload(m->dev, buf_at(m->flat, p->off), x, n * sizeof *x);
        free(x);
    }
}

static void pass_init(Pass *x, const char *arch, GraphOpts o) {
    ModelConfig c = config_of(arch);
    OK_(device_cpu_new(&x->d, &(DeviceOpts){.n_threads = 2}, TERR));
    OK_(model_new(&x->m, x->d, &c, TERR));
    OK_(model_init(x->m, 3, TERR));
    OK_(graph_new(&x->g, x->m, &o, TERR));
    for (int i = 0; i < ROWS * T; i++) {
        x->ids[i] = (i * 7 + i / 5) % V;
        x->targets[i] = i % 11 == 4 ? -1 : (i * 13 + 5) % V;
    }
    for (int r = 0; r < ROWS; r++)
        graph_segments(x->ids + r * T, T, 3, x->seg + r * T, x->pos + r * T);
}

static void pass_free(Pass *x) {
    graph_free(x->g);
    model_free(x->m);
    device_free(x->d);
}

static GraphBatch rows_from(const Pass *x, int row, uint64_t index) {
    size_t at = (size_t)row * T;
    return (GraphBatch){x->ids + at, x->targets + at, x->pos + at, x->seg + at, index};
}

static float *grads(const Pass *x) {
    float *g = calloc(x->m->n_flat, sizeof *g);
    x->d->ops->download(x->d, g, graph_grads(x->g), x->m->n_flat * sizeof *g);
    return g;
}

/* All four rows in micro-batches of n_row; the loss. */
static double in_pieces(Pass *x, int n_row) {
    double sum = 0.0, loss;
    graph_zero_grads(x->g);
    for (int r = 0; r < ROWS; r += n_row) {
        GraphBatch b = rows_from(x, r, (uint64_t)r);
        OK_(graph_step(x->g, &b, 1.0f / (ROWS * T), &loss, TERR));
        sum += loss;
    }
    return sum;
}

TEST(gradients_do_not_depend_on_the_micro_batch) {
    for (int a = 0; model_arch_at(a); a++) {
        float *want = NULL;
        double loss = 0.0;
        for (int n_row = ROWS; n_row >= 1; n_row /= 2) {
            Pass x;
            pass_init(&x, model_arch_at(a)->name, (GraphOpts){.n_row = n_row, .T = T});
            double got = in_pieces(&x, n_row), norm = 0.0;
            float *g = grads(&x);
            if (!want) {
                want = g;
                loss = got;
            }
            for (size_t i = 0; i < x.m->n_flat; i++) norm += (double)want[i] * (double)want[i];
            for (size_t i = 0; i < x.m->n_flat; i++) NEAR(g[i], want[i], 1e-6 * sqrt(norm));
            NEAR(got, loss, 1e-6 * loss);
            if (g != want) free(g);
            pass_free(&x);
        }
        free(want);
    }
}

/* Each architecture with all it may have: the paged pass of inference gives the logits of the training pass. */
TEST(both_passes_agree) {
    static float want[ROWS * T * V];
    for (int a = 0; model_arch_at(a); a++) {
        Pass x;
        int32_t seq[T] = {0}, pos[T], out[T], block = 0;
        const int32_t *table = &block;
        const float *logits;
        pass_init(&x, model_arch_at(a)->name, (GraphOpts){.n_row = ROWS, .T = T});
        random_weights(x.m);
        for (int r = 0; r < ROWS; r++)
            graph_segments(x.ids + r * T, T, -1, x.seg + r * T, x.pos + r * T);
        GraphBatch b = rows_from(&x, 0, 0);
        OK_(graph_logits(x.g, &b, want, TERR));
        for (int t = 0; t < T; t++) pos[t] = out[t] = t;
        KvStore *kv = x.d->ops->kv_new(x.d, DT_F32, x.m->cfg.n_layer, 1, x.m->cfg.nkv, x.m->cfg.hd);
        OK_(model_reserve(x.m, T, T, TERR));
        OK_(model_forward(x.m, kv,
                          &(Batch){.T = T,
                                   .tok = x.ids,
                                   .pos = pos,
                                   .seq = seq,
                                   .n_seq = 1,
                                   .blocks = &table,
                                   .n_out = T,
                                   .out = out},
                          &logits, TERR));
        for (int i = 0; i < T * V; i++) NEAR(logits[i], want[i], 1e-4);
        x.d->ops->kv_free(x.d, kv);
        pass_free(&x);
    }
}

/* Loss after a step of length eps along the gradient of one parameter, from the weights w. */
static double loss_moved(Pass *x, const Param *p, const float *w, const float *g, double eps) {
    size_t n = param_n(p);
    float *moved = malloc(n * sizeof *moved);
    double loss;
    for (size_t i = 0; i < n; i++) moved[i] = w[i] + (float)eps * g[i];
    x->d->ops->upload(x->d, buf_at(x->m->flat, p->off), moved, n * sizeof *moved);
    GraphBatch b = rows_from(x, 0, 0);
    OK_(graph_eval(x->g, &b, &loss, TERR));
    free(moved);
    return loss;
}

/* Along each parameter's gradient the loss grows as fast as the gradient says. A bias of k may have none: it adds
 * the same to all scores of a query where nothing is rotated. */
TEST(gradients_match_finite_differences) {
    for (int a = 0; model_arch_at(a); a++) {
        Pass x;
        double loss;
        pass_init(&x, model_arch_at(a)->name,
                  (GraphOpts){.n_row = ROWS, .T = T, .checkpoint = a % 2 == 1});
        random_weights(x.m);
        GraphBatch b = rows_from(&x, 0, 0);
        OK_(graph_step(x.g, &b, 1.0f, &loss, TERR));
        float *g = grads(&x), *w = calloc(x.m->n_flat, sizeof *w);
        x.d->ops->download(x.d, w, buf_at(x.m->flat, 0), x.m->n_flat * sizeof *w);
        for (int i = 0; i < x.m->n_params; i++) {
            const Param *p = &x.m->params[i];
            double norm = 0.0;
            for (size_t k = 0; k < param_n(p); k++)
                norm += (double)g[p->off + k] * (double)g[p->off + k];
            norm = sqrt(norm);
            double step = 3e-3, up = loss_moved(&x, p, w + p->off, g + p->off, step / norm),
                   down = loss_moved(&x, p, w + p->off, g + p->off, -step / norm);
            loss_moved(&x, p, w + p->off, g + p->off, 0.0);
            if (fabs((up - down) / (2 * step) - norm) > 2e-3 * norm + 3e-2)
                FAIL("%s %s: gradient %g, slope %g", x.m->cfg.arch->name, p->name, norm,
                     (up - down) / (2 * step));
        }
        free(g);
        free(w);
        pass_free(&x);
    }
}

TEST(memory_is_what_was_planned) {
    size_t whole = 0;
    for (int i = 0; model_arch_at(i / 4); i++) {
        GraphOpts o = {.n_row = 3, .T = T, .checkpoint = i & 1, .dropout = i & 2 ? 0.1f : 0.0f};
        Pass x = {0};
        ModelConfig c = config_of(model_arch_at(i / 4)->name);
        c.n_layer = 6;
        OK_(device_cpu_new(&x.d, &(DeviceOpts){.n_threads = 1}, TERR));
        OK_(model_new(&x.m, x.d, &c, TERR));
        size_t live = mem_live_bytes(), plan = graph_bytes(&c, &o);
        OK_(graph_new(&x.g, x.m, &o, TERR));
        size_t took = mem_live_bytes() - live;
        TRUE_(took >= plan && took - plan < (8 << 10)); /* and the list of places */
        if (!o.checkpoint) whole = plan;
        else TRUE_(plan < whole * 2 / 3);
        pass_free(&x);
    }
}

TEST(a_step_allocates_nothing) {
    Pass x;
    Optim *o = NULL;
    double norm, loss;
    uint64_t n = 0;
    size_t used = 0;
    pass_init(&x, "llama", (GraphOpts){.n_row = ROWS, .T = T, .dropout = 0.1f, .drop_key = 1});
    OK_(adamw_new(&o, x.m, &(AdamwOpts){0.9, 0.95, 1e-8, 0.1, 1.0}, TERR));
    for (int t = 1; t <= 6; t++) {
        GraphBatch b = rows_from(&x, 0, (uint64_t)t);
        graph_zero_grads(x.g);
        OK_(graph_step(x.g, &b, 1.0f / (ROWS * T), &loss, TERR));
        OK_(adamw_step(o, graph_grads(x.g), 1e-3, t, &norm, TERR));
        OK_(graph_eval(x.g, &b, &loss, TERR));
        if (t == 1) {
            n = mem_n_alloc();
            used = mallinfo2().uordblks; /* libraries count too */
        }
        EQ(mem_n_alloc(), n);
        EQ(mallinfo2().uordblks, used);
    }
    adamw_free(o);
    pass_free(&x);
}

/* The masks follow the number of the micro-batch and the key; validation has none. */
TEST(dropout_is_a_function_of_key_and_step) {
    double loss[4];
    static const struct { uint64_t key, index; } runs[] = {{1, 0}, {1, 0}, {1, 1}, {2, 0}};
    float *g[4];
    for (int i = 0; i < 4; i++) {
        Pass x;
        pass_init(&x, "gpt2",
                  (GraphOpts){.n_row = ROWS, .T = T, .dropout = 0.2f, .drop_key = runs[i].key});
        GraphBatch b = rows_from(&x, 0, runs[i].index);
        OK_(graph_step(x.g, &b, 1.0f, &loss[i], TERR));
        g[i] = grads(&x);
        if (i > 0) {
            double plain, plain2;
            OK_(graph_eval(x.g, &b, &plain, TERR));
            b.index = 77;
            OK_(graph_eval(x.g, &b, &plain2, TERR));
            TRUE_(plain == plain2 && plain != loss[i]);
            EQ(memcmp(g[i], g[0], x.m->n_flat * sizeof(float)) == 0, i == 1);
        }
        pass_free(&x);
    }
    TRUE_(loss[0] == loss[1] && loss[0] != loss[2] && loss[0] != loss[3]);
    for (int i = 0; i < 4; i++) free(g[i]);
}

/* Gradients add to what stands there; a scale of zero adds nothing; no live target, no gradient. */
TEST(gradients_accumulate) {
    Pass x;
    double loss;
    pass_init(&x, "llama", (GraphOpts){.n_row = ROWS, .T = T});
    GraphBatch b = rows_from(&x, 0, 0);
    OK_(graph_step(x.g, &b, 1.0f, &loss, TERR));
    float *one = grads(&x);
    OK_(graph_step(x.g, &b, 1.0f, &loss, TERR));
    float *two = grads(&x);
    for (size_t i = 0; i < x.m->n_flat; i++)
        NEAR(two[i], 2.0 * (double)one[i], 1e-5 + 1e-5 * fabs((double)one[i]));
    graph_zero_grads(x.g);
    OK_(graph_step(x.g, &b, 0.0f, &loss, TERR));
    free(one);
    one = grads(&x);
    for (size_t i = 0; i < x.m->n_flat; i++) TRUE_(one[i] == 0.0f);
    for (int i = 0; i < ROWS * T; i++) x.targets[i] = -1;
    OK_(graph_step(x.g, &b, 1.0f, &loss, TERR));
    TRUE_(loss == 0.0);
    free(one);
    one = grads(&x);
    for (size_t i = 0; i < x.m->n_flat; i++) TRUE_(one[i] == 0.0f);
    free(one);
    free(two);
    pass_free(&x);
}
