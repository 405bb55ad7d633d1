/* SPDX-License-Identifier: Apache-2.0
 * Schedules at their edges; clipping, decay of matrices only, gradients that are not finite. */
#include "train/optim.h"

#include "fixture.h"

TEST(schedule_edges) {
    LrSchedule s = {LR_COSINE, 1.0, 0.1, 10, 100};
    NEAR(lr_at(&s, 0), 1.0 / 11, 1e-15);
    NEAR(lr_at(&s, 9), 10.0 / 11, 1e-15);
    NEAR(lr_at(&s, 10), 1.0, 1e-15);
    NEAR(lr_at(&s, 55), 0.55, 1e-12);
    NEAR(lr_at(&s, 100), 0.1, 1e-12);
    NEAR(lr_at(&s, 101), 0.1, 0);
    NEAR(lr_at(&s, INT64_MAX), 0.1, 0);
    s.kind = LR_LINEAR;
    NEAR(lr_at(&s, 10), 1.0, 1e-15);
    NEAR(lr_at(&s, 55), 0.55, 1e-12);
    NEAR(lr_at(&s, 100), 0.1, 1e-12);
    s.kind = LR_CONSTANT;
    NEAR(lr_at(&s, 3), 4.0 / 11, 1e-15);
    NEAR(lr_at(&s, 10), 1.0, 0);
    NEAR(lr_at(&s, 1000), 1.0, 0);
}

TEST(schedules_without_a_middle) {
    static const LrKind kinds[] = {LR_COSINE, LR_LINEAR};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        LrSchedule no_warmup = {kinds[i], 2.0, 0.5, 0, 10};
        NEAR(lr_at(&no_warmup, 0), 2.0, 1e-12);
        LrSchedule only_warmup = {kinds[i], 2.0, 0.5, 10, 10}; /* decays within no step */
        NEAR(lr_at(&only_warmup, 9), 20.0 / 11, 1e-12);
        NEAR(lr_at(&only_warmup, 10), 0.5, 1e-12);
        LrSchedule late = {kinds[i], 2.0, 0.5, 50,
                           10}; /* the warm-up comes first, then it is too late */
        NEAR(lr_at(&late, 30), 2.0 * 31 / 51, 1e-12);
        NEAR(lr_at(&late, 50), 0.5, 1e-12);
        LrSchedule zero = {kinds[i], 0.0, 0.0, 0, 1};
        for (int t = 0; t < 4; t++) NEAR(lr_at(&zero, t), 0.0, 0);
    }
}

/* Never above the highest rate, never below the lowest after the warm-up, and falling. */
TEST(schedules_fall) {
    for (int warmup = 0; warmup < 40; warmup += 13)
        for (int decay = 1; decay < 90; decay += 11) {
            LrSchedule s = {decay % 2 ? LR_COSINE : LR_LINEAR, 3e-4, 3e-5, warmup, decay};
            for (int t = 0; t < 120; t++) {
                double lr = lr_at(&s, t);
                TRUE_(lr > 0.0 && lr <= 3e-4 * (1 + 1e-12));
                if (t >= warmup)
                    TRUE_(lr >= 3e-5 * (1 - 1e-12) && lr_at(&s, t + 1) <= lr * (1 + 1e-12));
                else TRUE_(t == 0 || lr > lr_at(&s, t - 1));
            }
        }
}

TEST(config_makes_the_schedule) {
    Fix f;
    fix_init(&f);
    fix_set(&f, "max_iters", "77");
    EQ(train__schedule(&f.c, 77).decay, 77);
    EQ((int)train__schedule(&f.c, 77).kind, LR_COSINE);
    fix_set(&f, "lr_decay_iters", "50");
    EQ(train__schedule(&f.c, 77).decay, 50);
    fix_set(&f, "schedule", "linear");
    EQ((int)train__schedule(&f.c, 77).kind, LR_LINEAR);
    fix_set(&f, "decay_lr", "false");
    EQ((int)train__schedule(&f.c, 77).kind, LR_CONSTANT);
    fix_free(&f);
}

/* ---- one update ---- */

typedef struct Opt {
    Device *d;
    Model *m;
    Optim *o;
    Buf *g;
    float *w;
} Opt;

static void opt_init(Opt *x, AdamwOpts o, float g) {
    ModelConfig c = {.arch = model_arch_find(slice_of("llama")),
                     .n_layer = 1,
                     .C = 16,
                     .nh = 2,
                     .nkv = 1,
                     .hd = 8,
                     .ff = 16,
                     .V = 20,
                     .ctx = 8,
                     .norm_eps = 1e-5f,
                     .rope_base = 1e4f,
                     .rope_scale = 1,
                     .n_rot = 4,
                     .tied = true};
    OK_(device_cpu_new(&x->d, &(DeviceOpts){.n_threads = 2}, TERR));
    OK_(model_new(&x->m, x->d, &c, TERR));
    OK_(adamw_new(&x->o, x->m, &o, TERR));
    size_t n = x->m->n_flat;
    x->g = x->d->ops->buf_new(x->d, n * sizeof(float));
    x->w = calloc(n, sizeof(float));
    for (size_t i = 0; i < n; i++) x->w[i] = 2.0f;
    x->d->ops->upload(x->d, buf_at(x->m->flat, 0), x->w, n * sizeof(float));
    x->d->ops->fill(x->d, buf_at(x->g, 0), g, n);
}

static void opt_get(Opt *x) {
    x->d->ops->download(x->d, x->w, buf_at(x->m->flat, 0), x->m->n_flat * sizeof(float));
}

static void opt_free_all(Opt *x) {
    adamw_free(x->o);
    x->d->ops->buf_free(x->d, x->g);
    model_free(x->m);
    device_free(x->d);
    free(x->w);
}

/* The first step of Adam is lr in the direction of the gradient's sign; decay pulls matrices only. */
TEST(matrices_decay_and_norms_do_not) {
    Opt x;
    double norm;
    opt_init(&x, (AdamwOpts){0.9, 0.95, 1e-8, 0.5, 0.0}, -0.01f);
    OK_(adamw_step(x.o, buf_at(x.g, 0), 0.1, 1, &norm, TERR));
    NEAR(norm, 0.01 * sqrt((double)x.m->n_flat), 1e-6);
    opt_get(&x);
    for (int i = 0; i < x.m->n_params; i++) {
        const Param *p = &x.m->params[i];
        for (size_t k = 0; k < param_n(p); k++)
            NEAR(x.w[p->off + k], 2.0 + 0.1 - (p->n_dims == 2 ? 0.1 * 0.5 * 2.0 : 0.0), 1e-5);
    }
    opt_free_all(&x);
}

/* The moments tell the gradient that was used: clipped to a norm of 1. */
TEST(gradients_are_clipped_to_the_norm) {
    for (int clip = 0; clip < 2; clip++) {
        Opt x;
        double norm;
        opt_init(&x, (AdamwOpts){0.9, 0.95, 1e-8, 0.0, clip ? 1.0 : 0.0}, 3.0f);
        OK_(adamw_step(x.o, buf_at(x.g, 0), 0.1, 1, &norm, TERR));
        x.d->ops->download(x.d, x.w, adamw_m(x.o), x.m->n_flat * sizeof(float));
        double used = clip ? 3.0 / (norm + 1e-6) : 3.0;
        for (size_t i = 0; i < x.m->n_flat; i++) NEAR(x.w[i], 0.1 * used, 1e-6);
        x.d->ops->download(x.d, x.w, adamw_v(x.o), x.m->n_flat * sizeof(float));
        for (size_t i = 0; i < x.m->n_flat; i++) NEAR(x.w[i], 0.05 * used * used, 1e-6);
        opt_free_all(&x);
    }
}

TEST(a_gradient_that_is_not_finite_changes_nothing) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Opt x;
        double norm = 5.0;
        opt_init(&x, (AdamwOpts){0.9, 0.95, 1e-8, 0.1, 1.0}, 0.1f);
        x.d->ops->upload(x.d, buf_at(x.g, 100), &bad[i], sizeof(float));
        FAILS(ERR_INTERNAL, adamw_step(x.o, buf_at(x.g, 0), 0.1, 1, &norm, TERR));
        TRUE_(strstr(test_err.msg, "gradient norm") && strstr(test_err.msg, "learning_rate"));
        opt_get(&x);
        for (size_t k = 0; k < x.m->n_flat; k++) TRUE_(x.w[k] == 2.0f);
        opt_free_all(&x);
    }
}
