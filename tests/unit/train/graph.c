/* SPDX-License-Identifier: Apache-2.0
 * The training pass: memory as planned, no allocation after the first step, gradients that add up whatever
 * the cut into micro-batches, dropout as a function of the step. Its numbers are held to the reference in
 * tests/golden/train.c. */
#include "train/graph.h"

#include <malloc.h>

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
    return c;
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
    static const char *const archs[] = {"gpt2", "llama"};
    for (size_t a = 0; a < COUNT_OF(archs); a++) {
        float *want = NULL;
        double loss = 0.0;
        for (int n_row = ROWS; n_row >= 1; n_row /= 2) {
            Pass x;
            pass_init(&x, archs[a], (GraphOpts){.n_row = n_row, .T = T});
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

TEST(memory_is_what_was_planned) {
    static const char *const archs[] = {"gpt2", "llama"};
    size_t whole = 0;
    for (int i = 0; i < 8; i++) {
        GraphOpts o = {.n_row = 3, .T = T, .checkpoint = i & 1, .dropout = i & 2 ? 0.1f : 0.0f};
        Pass x = {0};
        ModelConfig c = config_of(archs[i / 4]);
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
