/* SPDX-License-Identifier: Apache-2.0
 * Training and inference against the float64 reference in tests/golden/ref: twenty steps of loss, gradient
 * norms, the first gradients, logits, schedules; and the laws that need no reference: the inference pass
 * equals the training pass, thread counts change no bit, one batch can be learned by heart. */
#include "test.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "kernel/kernel.h"
#include "train/graph.h"
#include "train/optim.h"

enum { STEPS = 20, MICRO = 2, ROWS = 2, T = 32, R = ROWS * T };

typedef struct Golden {
    json_t *j;
    int32_t *batches; /* [STEPS][MICRO][2][R] */
    Gguf *file;
    Device *dev;
    Model *m;
    Graph *g;
    Optim *opt;
    int32_t eot;
    int32_t seg[R], pos[R];
} Golden;

static const char *const names[] = {"gpt2_tied", "llama_tied", "llama_untied", "qwen2_tied",
                                    "qwen3_untied"};
static const char *const levels[] = {"ref", "avx2", "avx512"};

static char *path_of(const char *name, const char *tail) {
    static char buf[512];
    snprintf(buf, sizeof buf, "tests/golden/data/%s%s", name, tail);
    return buf;
}

static json_t *at(const Golden *x, const char *a, const char *b) {
    json_t *v = json_object_get(json_object_get(x->j, a), b);
    TRUE_(v != NULL);
    return v;
}

static double num(const Golden *x, const char *a, const char *b) {
    return json_number_value(at(x, a, b));
}
static double num_i(const Golden *x, const char *a, const char *b, size_t i) {
    return json_number_value(json_array_get(at(x, a, b), i));
}

static bool level_there(const char *level) {
    CpuLevel l;
    return kern_level_from_name(&l, level) && l <= kern_best_level(kern_caps());
}

static void golden_open(Golden *x, const char *name, const char *level, int n_threads,
                        bool checkpoint) {
    json_error_t je;
    memset(x, 0, sizeof *x);
    x->j = json_load_file(path_of(name, ".expected.json"), 0, &je);
    TRUE_(x->j != NULL);
    size_t n = (size_t)STEPS * MICRO * 2 * R;
    x->batches = malloc(n * sizeof(int32_t));
    FILE *f = fopen(path_of(name, ".batches.bin"), "rb");
    TRUE_(f && fread(x->batches, sizeof(int32_t), n, f) == n);
    fclose(f);
    OK_(gguf_open(&x->file, path_of(name, ".gguf"), TERR));
    printf("%s at %s\n", name, level ? level : "the best level");
    OK_(device_cpu_new(&x->dev, &(DeviceOpts){.cpu = level, .n_threads = n_threads}, TERR));
    ModelConfig c;
    OK_(model_read_config(&c, x->file, TERR));
    OK_(model_new(&x->m, x->dev, &c, TERR));
    OK_(model_copy_from(x->m, x->file, TERR));
    OK_(graph_new(&x->g, x->m, &(GraphOpts){.n_row = ROWS, .T = T, .checkpoint = checkpoint},
                  TERR));
    OK_(adamw_new(&x->opt, x->m,
                  &(AdamwOpts){.beta1 = num(x, "optimizer", "beta1"),
                               .beta2 = num(x, "optimizer", "beta2"),
                               .eps = num(x, "optimizer", "eps"),
                               .weight_decay = num(x, "optimizer", "weight_decay"),
                               .clip = num(x, "optimizer", "clip")},
                  TERR));
    x->eot = (int32_t)json_integer_value(json_object_get(x->j, "eot_id"));
}

static void golden_close(Golden *x) {
    adamw_free(x->opt);
    graph_free(x->g);
    model_free(x->m);
    device_free(x->dev);
    gguf_close(x->file);
    free(x->batches);
    json_decref(x->j);
}

static GraphBatch micro(Golden *x, int step, int i) {
    int32_t *p = x->batches + ((size_t)step * MICRO + (size_t)i) * 2 * R;
    for (int r = 0; r < ROWS; r++)
        graph_segments(p + r * T, T, x->eot, x->seg + r * T, x->pos + r * T);
    return (GraphBatch){.ids = p,
                        .targets = p + R,
                        .pos = x->pos,
                        .seg = x->seg,
                        .index = (uint64_t)(step * MICRO + i)};
}

static int live_targets(Golden *x, int step) {
    int n = 0;
    for (int i = 0; i < MICRO; i++) {
        GraphBatch b = micro(x, step, i);
        for (int t = 0; t < R; t++) n += b.targets[t] >= 0;
    }
    return n;
}

/* Forward and backward of a whole step; the mean loss. */
static double run_step(Golden *x, int step) {
    int live = live_targets(x, step);
    double sum = 0.0;
    graph_zero_grads(x->g);
    for (int i = 0; i < MICRO; i++) {
        GraphBatch b = micro(x, step, i);
        double loss;
        OK_(graph_step(x->g, &b, 1.0f / (float)live, &loss, TERR));
        sum += loss;
    }
    return sum / live;
}

static void check_training(const char *name, const char *level, int n_threads, bool checkpoint) {
    Golden x;
    golden_open(&x, name, level, n_threads, checkpoint);
    LrSchedule s = {LR_COSINE, num(&x, "schedule", "lr"), num(&x, "schedule", "min_lr"),
                    (int64_t)num(&x, "schedule", "warmup"), (int64_t)num(&x, "schedule", "decay")};
    for (int i = 0; i < STEPS; i++) {
        double norm, want = num_i(&x, "train", "loss", (size_t)i);
        EQ(live_targets(&x, i), (int)num_i(&x, "train", "targets", (size_t)i));
        NEAR(run_step(&x, i), want, 2e-6 * want);
        NEAR(lr_at(&s, i), num_i(&x, "train", "lr", (size_t)i), 1e-12);
        OK_(adamw_step(x.opt, graph_grads(x.g), lr_at(&s, i), i + 1, &norm, TERR));
        want = num_i(&x, "train", "grad_norm", (size_t)i);
        NEAR(norm, want, 2e-5 * want);
    }
    golden_close(&x);
}

TEST(twenty_steps_match_the_reference) {
    for (size_t l = 0; l < COUNT_OF(levels); l++)
        for (size_t i = 0; i < COUNT_OF(names) && level_there(levels[l]); i++)
            check_training(names[i], levels[l], 2, false);
}

TEST(checkpointing_changes_nothing) {
    for (size_t i = 0; i < COUNT_OF(names); i++) check_training(names[i], NULL, 1, true);
}

TEST(first_gradients_match_the_reference) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Golden x;
        golden_open(&x, names[i], NULL, 2, false);
        run_step(&x, 0);
        for (int p = 0; p < x.m->n_params; p++) {
            const Param *q = &x.m->params[p];
            json_t *want = at(&x, "initial_grad", q->name);
            size_t n = param_n(q);
            float *v = malloc(n * sizeof(float));
            x.dev->ops->download(x.dev, v, buf_add(graph_grads(x.g), q->off), n * sizeof(float));
            double sum = 0.0, norm = json_number_value(json_object_get(want, "norm"));
            for (size_t k = 0; k < n; k++) sum += (double)v[k] * (double)v[k];
            NEAR(sqrt(sum), norm, 2e-5 * norm + 1e-9);
            json_t *index = json_object_get(want, "index"), *value = json_object_get(want, "value");
            for (size_t k = 0; k < json_array_size(index); k++)
                NEAR(v[json_integer_value(json_array_get(index, k))],
                     json_number_value(json_array_get(value, k)), 2e-5 * norm);
            free(v);
        }
        golden_close(&x);
    }
}

/* Logits of one document, by the training pass (padded to its rows) and by the paged inference pass in
 * chunks, against the reference. */
static void check_logits(const char *name, const char *level) {
    Golden x;
    golden_open(&x, name, level, 2, false);
    int V = x.m->cfg.V, n = 24;
    int32_t ids[R] = {0}, targets[R], seq[T] = {0}, pos[T], blocks[] = {2}, out[T];
    const int32_t *table[] = {blocks};
    json_t *toks = at(&x, "logits", "tokens");
    for (int t = 0; t < n; t++)
        ids[t] = (int32_t)json_integer_value(json_array_get(toks, (size_t)t));
    for (int t = 0; t < R; t++) targets[t] = -1;
    for (int r = 0; r < ROWS; r++) graph_segments(ids + r * T, T, -1, x.seg + r * T, x.pos + r * T);
    float *train = malloc((size_t)R * (size_t)V * sizeof(float)),
          *want = malloc((size_t)n * (size_t)V * sizeof(float));
    OK_(graph_logits(x.g, &(GraphBatch){ids, targets, x.pos, x.seg, 0}, train, TERR));
    FILE *f = fopen(path_of(name, ".logits.txt"), "r");
    for (int i = 0; i < n * V; i++) EQ(fscanf(f, "%f", &want[i]), 1);
    fclose(f);
    for (int i = 0; i < n * V; i++) NEAR(train[i], want[i], 1e-5);

    KvStore *kv = x.dev->ops->kv_new(x.dev, DT_F32, x.m->cfg.n_layer, 3, x.m->cfg.nkv, x.m->cfg.hd);
    OK_(model_reserve(x.m, T, T, TERR));
    const int cuts[] = {0, 1, 2, 15, 24};
    for (size_t c = 0; c + 1 < COUNT_OF(cuts); c++) {
        int from = cuts[c], rows = cuts[c + 1] - from;
        for (int i = 0; i < rows; i++) {
            pos[i] = from + i;
            out[i] = i;
        }
        const float *logits;
        Batch b = {.T = rows,
                   .tok = ids + from,
                   .pos = pos,
                   .seq = seq,
                   .n_seq = 1,
                   .blocks = table,
                   .n_out = rows,
                   .out = out};
        OK_(model_forward(x.m, kv, &b, &logits, TERR));
        for (int i = 0; i < rows * V; i++) NEAR(logits[i], want[from * V + i], 1e-5);
    }
    x.dev->ops->kv_free(x.dev, kv);
    free(train);
    free(want);
    golden_close(&x);
}

TEST(logits_of_both_passes_match_the_reference) {
    for (size_t l = 0; l < COUNT_OF(levels); l++)
        for (size_t i = 0; i < COUNT_OF(names) && level_there(levels[l]); i++)
            check_logits(names[i], levels[l]);
}

/* The same step with dropout on 1, 2 and 3 threads: weights must not differ in a bit. */
TEST(thread_count_changes_no_bit) {
    static const char *const of[] = {"llama_tied", "qwen3_untied"};
    float *first = NULL;
    for (int i = 0; i < 6; i++) {
        Golden x;
        golden_open(&x, of[i / 3], NULL, i % 3 + 1, false);
        graph_free(x.g);
        OK_(graph_new(&x.g, x.m,
                      &(GraphOpts){.n_row = ROWS, .T = T, .dropout = 0.2f, .drop_key = 5}, TERR));
        double norm;
        for (int k = 0; k < 3; k++) {
            run_step(&x, k);
            OK_(adamw_step(x.opt, graph_grads(x.g), 1e-3, k + 1, &norm, TERR));
        }
        float *w = malloc(x.m->n_flat * sizeof(float));
        x.dev->ops->download(x.dev, w, buf_at(x.m->flat, 0), x.m->n_flat * sizeof(float));
        if (i % 3 > 0) EQ_MEM(w, first, x.m->n_flat * sizeof(float));
        if (i % 3 > 0) {
            free(w);
        } else {
            free(first);
            first = w;
        }
        golden_close(&x);
    }
    free(first);
}

/* With dropout the loss is a fixed function of the weights (the masks are keyed), so its directional
 * derivative must agree with the gradient. */
TEST(dropout_gradient_matches_finite_differences) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Golden x;
        golden_open(&x, names[i], NULL, 2, i == 1);
        graph_free(x.g);
        OK_(graph_new(&x.g, x.m,
                      &(GraphOpts){.n_row = ROWS,
                                   .T = T,
                                   .dropout = 0.3f,
                                   .drop_key = 9,
                                   .checkpoint = i == 1},
                      TERR));
        size_t n = x.m->n_flat;
        float *w = malloc(n * sizeof(float)), *g = malloc(n * sizeof(float)),
              *moved = malloc(n * sizeof(float));
        run_step(&x, 0);
        x.dev->ops->download(x.dev, w, buf_at(x.m->flat, 0), n * sizeof(float));
        x.dev->ops->download(x.dev, g, graph_grads(x.g), n * sizeof(float));
        double slope = 0.0, loss[2], eps = 2e-3;
        for (size_t k = 0; k < n; k++) slope += (double)g[k] * (double)g[k];
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < n; k++)
                moved[k] = w[k] + (float)((side ? eps : -eps) / sqrt(slope)) * g[k];
            x.dev->ops->upload(x.dev, buf_at(x.m->flat, 0), moved, n * sizeof(float));
            loss[side] = run_step(&x, 0);
        }
        NEAR((loss[1] - loss[0]) / (2 * eps), sqrt(slope), 2e-3 * sqrt(slope));
        free(w);
        free(g);
        free(moved);
        golden_close(&x);
    }
}

TEST(one_batch_is_learned_by_heart) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        Golden x;
        golden_open(&x, names[i], NULL, 2, false);
        double loss = 9.0, norm;
        for (int k = 0; k < 400 && loss > 0.05; k++) {
            loss = run_step(&x, 0);
            OK_(adamw_step(x.opt, graph_grads(x.g), 5e-3, k + 1, &norm, TERR));
        }
        TRUE_(loss < 0.05);
        golden_close(&x);
    }
}

TEST(schedules_match_the_table) {
    FILE *f = fopen("tests/golden/data/schedule.txt", "r");
    char line[256], kind[16];
    int n = 0;
    while (fgets(line, sizeof line, f)) {
        double lr, min_lr, want;
        long warmup, decay, step;
        if (line[0] == '#') continue;
        EQ(sscanf(line, "%15s %lf %lf %ld %ld %ld %lf", kind, &lr, &min_lr, &warmup, &decay, &step,
                  &want),
           7);
        LrKind k = kind[0] == 'l'                     ? LR_LINEAR
                   : kind[1] == 'o' && kind[2] == 's' ? LR_COSINE
                                                      : LR_CONSTANT;
        LrSchedule s = {k, lr, min_lr, warmup, decay};
        NEAR(lr_at(&s, step), want, 1e-12);
        n++;
    }
    TRUE_(n > 50);
    fclose(f);
}
