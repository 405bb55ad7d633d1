/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints: everything comes back as it was; files that are cut, damaged or of another run are refused
 * with the name of what is wrong, and nothing has changed then. */
#include "fixture.h"
#include "unit/model/edit.h"

typedef struct Side {
    Device *d;
    Model *m;
    Optim *o;
    Fix f;
} Side;

static void side_init_as(Side *s, float value, int more) {
    ModelConfig c;
    fix_init(&s->f);
    OK_(train__model_config(&c, &s->f.c, 30, TERR));
    c.tied = false;
    c.more = more;
    OK_(device_cpu_new(&s->d, &(DeviceOpts){.n_threads = 1}, TERR));
    OK_(model_new(&s->m, s->d, &c, TERR));
    OK_(adamw_new(&s->o, s->m, &(AdamwOpts){0.9, 0.95, 1e-8, 0.1, 1.0}, TERR));
    float *x = calloc(s->m->n_flat, sizeof *x);
    BufAt parts[] = {buf_at(s->m->flat, 0), adamw_m(s->o), adamw_v(s->o)};
    for (size_t p = 0; p < 3; p++) {
        for (size_t i = 0; i < s->m->n_flat; i++)
            x[i] = value * (float)(p + 1) + (float)i * 1e-3f * value;
        s->d->ops->upload(s->d, parts[p], x, s->m->n_flat * sizeof *x);
    }
    free(x);
}

static void side_init(Side *s, float value) { side_init_as(s, value, 0); }

static void side_free(Side *s) {
    adamw_free(s->o);
    model_free(s->m);
    device_free(s->d);
    fix_free(&s->f);
}

/* Weights and moments, one after the other. */
static float *side_get(const Side *s) {
    size_t n = s->m->n_flat;
    float *x = calloc(3 * n, sizeof *x);
    s->d->ops->download(s->d, x, buf_at(s->m->flat, 0), n * sizeof *x);
    s->d->ops->download(s->d, x + n, adamw_m(s->o), n * sizeof *x);
    s->d->ops->download(s->d, x + 2 * n, adamw_v(s->o), n * sizeof *x);
    return x;
}

static const RunState state = {7, 40, 6, 2, 1.25, 3.5, 5, 1234};

static void same_state(const RunState *a, const RunState *b) {
    EQ(a->iter, b->iter);
    EQ(a->max_iters, b->max_iters);
    EQ(a->best_iter, b->best_iter);
    EQ(a->n_bad_evals, b->n_bad_evals);
    EQ(a->loss_count, b->loss_count);
    EQ(a->metrics_bytes, b->metrics_bytes);
    TRUE_(a->best_val == b->best_val && a->loss_sum == b->loss_sum);
}

TEST(round_trip) {
    for (int with_best = 0; with_best < 2; with_best++) {
        Side a, b;
        RunState s = state, got = {0};
        ModelConfig c;
        if (!with_best) s.best_val = (double)INFINITY;
        side_init(&a, 0.5f);
        side_init(&b, 0.0f);
        OK_(ckpt_save(fix_path("c.gguf"), a.m, a.o, &s, a.f.o, TERR));
        FALSE_(io_exists(fix_path("c.gguf.tmp")));
        OK_(ckpt_read_config(fix_path("c.gguf"), &c, TERR));
        EQ(c.V, 30);
        EQ(c.n_layer, a.m->cfg.n_layer);
        EQ(c.hd, a.m->cfg.hd);
        FALSE_(c.tied);
        OK_(ckpt_load(fix_path("c.gguf"), b.m, b.o, &got, b.f.o, TERR));
        same_state(&got, &s);
        float *x = side_get(&a), *y = side_get(&b);
        EQ_MEM(x, y, 3 * a.m->n_flat * sizeof *x);
        OK_(ckpt_save(fix_path("d.gguf"), b.m, b.o, &got, b.f.o, TERR));
        StrBuf p = {0}, q = {0};
        OK_(io_read_file(&p, fix_path("c.gguf"), 1 << 20, TERR));
        OK_(io_read_file(&q, fix_path("d.gguf"), 1 << 20, TERR));
        EQ(p.n, q.n);
        EQ_MEM(p.p, q.p, p.n);
        sb_deinit(&p);
        sb_deinit(&q);
        free(x);
        free(y);
        side_free(&a);
        side_free(&b);
    }
}

/* Biases that the architecture does not ask for are remembered; those it cannot have are not believed. */
TEST(parts_beyond_the_architecture) {
    Side a, b;
    RunState got = {0};
    ModelConfig c;
    side_init_as(&a, 0.5f, PART_QKV_BIAS | PART_OUT_BIAS);
    side_init_as(&b, 0.0f, PART_QKV_BIAS | PART_OUT_BIAS);
    OK_(ckpt_save(fix_path("c.gguf"), a.m, a.o, &state, a.f.o, TERR));
    OK_(ckpt_read_config(fix_path("c.gguf"), &c, TERR));
    EQ(c.more, PART_QKV_BIAS | PART_OUT_BIAS);
    OK_(ckpt_load(fix_path("c.gguf"), b.m, b.o, &got, b.f.o, TERR));
    float *x = side_get(&a), *y = side_get(&b);
    EQ_MEM(x, y, 3 * a.m->n_flat * sizeof *x);
    free(x);
    free(y);
    edit_file(fix_path("d.gguf"), fix_path("c.gguf"),
              &(Edit){.key = "ingot.parts", .kind = SET_DROP});
    edit_file(fix_path("e.gguf"), fix_path("d.gguf"),
              &(Edit){.key = "ingot.parts", .kind = SET_U32, .num = PART_ALL});
    OK_(ckpt_read_config(fix_path("e.gguf"), &c, TERR));
    EQ(c.more, PART_QKV_BIAS | PART_OUT_BIAS | PART_MLP_BIAS);
    edit_file(fix_path("e.gguf"), fix_path("d.gguf"),
              &(Edit){.key = "ingot.parts", .kind = SET_U32, .num = 1e6});
    FAILS(ERR_FORMAT, ckpt_read_config(fix_path("e.gguf"), &c, TERR));
    side_free(&a);
    side_free(&b);
}

/* ---- refusals ---- */

/* Loading fails with these words; state, weights and moments are as before. */
static void refused(Side *b, const char *path, const char *const words[3]) {
    RunState s = state;
    Err e = {0};
    size_t live = mem_live_bytes();
    float *before = side_get(b);
    Status st = ckpt_load(path, b->m, b->o, &s, b->f.o, &e);
    if (st == OK) FAIL("accepted, wanted \"%s\"", words[0]);
    EQ(mem_live_bytes(), live);
    same_state(&s, &state);
    float *after = side_get(b);
    EQ_MEM(before, after, 3 * b->m->n_flat * sizeof *before);
    free(before);
    free(after);
    if (strncmp(e.msg, path, strlen(path)) != 0 || strchr(e.msg, '\n'))
        FAIL("message \"%s\"", e.msg);
    for (int i = 0; i < 3 && words[i]; i++)
        if (!strstr(e.msg, words[i])) FAIL("\"%s\" lacks \"%s\"", e.msg, words[i]);
}

TEST(another_configuration_is_named) {
    static const char *const differ[][3] = {
        {"learning_rate", "2e-2", "0.02"},
        {"batch_size", "3", "3"},
        {"seed", "5", "5"},
        {"max_iters", "9", "9"},
        {"dropout", "0.5", "0.5"},
        {"arch", "gpt2", "gpt2"},
        {"dtype", "bf16", "bf16"},
        {"doc_mask", "false", "false"},
        {"dataset", "/else/where", "/else/where"},
        {"always_save_checkpoint", "true", "true"},
    };
    static const char *const fine[][2] = {{"threads", "7"},       {"resume", "true"},
                                          {"name", "other"},      {"out_dir", "o"},
                                          {"overwrite", "true"},  {"cpu", "ref"},
                                          {"train_seconds", "5"}, {"compile", "true"}};
    Side a;
    side_init(&a, 0.5f);
    OK_(ckpt_save(fix_path("c.gguf"), a.m, a.o, &state, a.f.o, TERR));
    for (size_t i = 0; i < COUNT_OF(differ); i++) {
        Side b;
        side_init(&b, 0.0f);
        fix_set(&b.f, differ[i][0], differ[i][1]);
        refused(&b, fix_path("c.gguf"),
                (const char *const[]){differ[i][0], differ[i][2], "checkpoint was made with"});
        side_free(&b);
    }
    for (size_t i = 0; i < COUNT_OF(fine); i++) {
        RunState s;
        fix_set(&a.f, fine[i][0], fine[i][1]);
        OK_(ckpt_load(fix_path("c.gguf"), a.m, a.o, &s, a.f.o, TERR));
    }
    side_free(&a);
}

typedef struct Bad {
    Edit e;
    const char *words[3];
} Bad;

#define KEY(k, how, v) \
    { .key = "ingot.run." k, .kind = how, .num = v }

TEST(damaged_checkpoints) {
    static const Bad bad[] = {
        {{.drop = "ingot.weights"}, {"ingot.weights", "missing"}},
        {{.drop = "ingot.adam.m"}, {"ingot.adam.m", "missing"}},
        {{.drop = "ingot.adam.v"}, {"ingot.adam.v", "missing"}},
        {{.alter = "ingot.adam.v", .n_dims = 1, .ne = {5}}, {"ingot.adam.v", "5 elements"}},
        {{.alter = "ingot.weights", .n_dims = 1, .ne = {100000}},
         {"ingot.weights", "100000 elements"}},
        {{.alter = "ingot.adam.m", .type = DT_F16, .n_dims = 1, .ne = {64}},
         {"ingot.adam.m", "f16", "f32"}},
        {KEY("iter", SET_DROP, 0), {"ingot.run.iter", "missing"}},
        {KEY("iter", SET_I32, -1), {"ingot.run.iter", "-1", "limit"}},
        {KEY("iter", SET_U32, 41), {"ingot.run.iter", "41", "40"}},
        {KEY("iter", SET_STR, 0), {"ingot.run.iter", "str"}},
        {KEY("max_iters", SET_DROP, 0), {"ingot.run.max_iters", "missing"}},
        {KEY("best_iter", SET_U32, 8), {"ingot.run.best_iter", "8", "7"}},
        {KEY("n_bad_evals", SET_U32, 8), {"ingot.run.n_bad_evals", "8", "7"}},
        {KEY("loss_count", SET_U32, 4294967295.0), {"ingot.run.loss_count", "4294967295", "7"}},
        {KEY("metrics_bytes", SET_I32, -5), {"ingot.run.metrics_bytes", "-5", "limit"}},
        {KEY("best_val", SET_F64, (double)NAN), {"ingot.run.best_val", "nan", "finite"}},
        {KEY("loss_sum", SET_F64, (double)INFINITY), {"ingot.run.loss_sum", "inf", "finite"}},
        {KEY("has_best", SET_U32, 1), {"ingot.run.has_best", "bool"}},
        {{.key = "ingot.key.seed", .kind = SET_DROP}, {"ingot.key.seed", "missing"}},
        {{.key = "ingot.key.seed", .kind = SET_U32, .num = 1337}, {"ingot.key.seed", "u32", "str"}},
        {{.key = "ingot.key.seed", .kind = SET_STR, .str = "12345"}, {"seed", "1337", "12345"}},
    };
    Side a, b;
    side_init(&a, 0.5f);
    side_init(&b, 0.0f);
    OK_(ckpt_save(fix_path("c.gguf"), a.m, a.o, &state, a.f.o, TERR));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Edit e = bad[i].e;
        if (e.kind == SET_STR && !e.str) e.str = "seven";
        edit_file(fix_path("bad.gguf"), fix_path("c.gguf"), &e);
        refused(&b, fix_path("bad.gguf"), bad[i].words);
    }
    side_free(&a);
    side_free(&b);
}

/* A huge number of steps would overflow what is computed from it. */
TEST(a_checkpoint_of_too_many_steps) {
    Side a;
    RunState s = state;
    side_init(&a, 0.5f);
    s.iter = s.max_iters = INT64_MAX;
    OK_(ckpt_save(fix_path("c.gguf"), a.m, a.o, &s, a.f.o, TERR));
    refused(&a, fix_path("c.gguf"),
            (const char *const[]){"ingot.run.max_iters", "9223372036854775807", "1000000000000"});
    side_free(&a);
}

TEST(cut_checkpoints) {
    Side a, b;
    StrBuf whole = {0};
    side_init(&a, 0.5f);
    side_init(&b, 0.0f);
    OK_(ckpt_save(fix_path("c.gguf"), a.m, a.o, &state, a.f.o, TERR));
    OK_(io_read_file(&whole, fix_path("c.gguf"), 1 << 20, TERR));
    for (size_t n = 0; n < whole.n; n += n < 200 ? 7 : 997) {
        const char *none[3] = {NULL};
        ModelConfig c;
        fix_put(fix_path("cut.gguf"), whole.p, n);
        refused(&b, fix_path("cut.gguf"), none);
        Err e = {0};
        NE(ckpt_read_config(fix_path("cut.gguf"), &c, &e), OK);
        TRUE_(e.msg[0] != 0);
    }
    sb_deinit(&whole);
    side_free(&a);
    side_free(&b);
}

TEST(not_a_checkpoint) {
    Side b;
    ModelConfig c;
    side_init(&b, 0.0f);
    refused(&b, LLAMA, (const char *const[]){"ingot.run.", "missing", NULL});
    refused(&b, "/nowhere/c.gguf", (const char *const[]){NULL, NULL, NULL});
    FAILS(ERR_NOT_FOUND, ckpt_read_config("/nowhere/c.gguf", &c, TERR));
    Err e = {0};
    EQ(ckpt_read_config(LLAMA, &c, &e), ERR_NOT_FOUND);
    TRUE_(strstr(e.msg, "ingot.tied") != NULL);
    side_free(&b);
}
