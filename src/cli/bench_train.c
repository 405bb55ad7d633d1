/* SPDX-License-Identifier: Apache-2.0
 * ingot bench --train: tokens a second of whole optimizer steps (forward, backward, clipping, AdamW) on
 * random tokens. By default the 12.3 M GPT of bench/peers/torch_gpt.py, in each precision the processor has. */
#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/rng.h"
#include "cli/bench.h"
#include "train/graph.h"
#include "train/optim.h"

enum { WARM_UP = 2 };

typedef struct Trainer {
    const BenchCmd *c;
    bool bf16;
    Device *dev;
    Model *m;
    Graph *g;
    Optim *opt;
    Arena mem;
    int32_t *ids, *targets, *pos, *seg; /* in mem */
    int n_row, T;
    double mfu, peak; /* peak: operations a second */
    Spread rate;
} Trainer;

static ModelConfig shape(const BenchCmd *c) {
    const ArchRow *arch = model_arch_find(slice_of(c->arch ? c->arch : "gpt2"));
    int C = (int)c->n_embd, nh = (int)c->n_head, hd = C / nh;
    return (ModelConfig){.arch = arch,
                         .n_layer = (int)c->n_layer,
                         .C = C,
                         .nh = nh,
                         .nkv = nh,
                         .hd = hd,
                         .n_rot = hd / 2,
                         .ff = arch->act == ACT_SWIGLU ? (int)ROUND_UP(C * 8 / 3, 32) : 4 * C,
                         .V = (int)c->vocab,
                         .ctx = (int)c->ctx,
                         .norm_eps = 1e-5f,
                         .rope_base = 10000.0f,
                         .rope_scale = 1.0f,
                         .tied = true};
}

static Status set_up(Trainer *t, Err *e) {
    const BenchCmd *c = t->c;
    ModelConfig mc = shape(c);
    AdamwOpts ao = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.0};
    GraphOpts go = {.n_row = t->n_row, .T = t->T};
    size_t n = (size_t)t->n_row * (size_t)t->T;
    if (c->n_embd % c->n_head != 0)
        return err_set(e, ERR_ARG, "--n-embd %lld is not a multiple of --n-head %lld",
                       (long long)c->n_embd, (long long)c->n_head);
    TRY(model_config_check(&mc, e));
    TRY(model_new(&t->m, t->dev, &mc, e));
    TRY(model_init(t->m, 1, e));
    TRY(graph_new(&t->g, t->m, &go, e));
    TRY(adamw_new(&t->opt, t->m, &ao, e));
    t->ids = arena_new_n(&t->mem, int32_t, n);
    t->targets = arena_new_n(&t->mem, int32_t, n);
    t->pos = arena_new_n(&t->mem, int32_t, n);
    t->seg = arena_new_n(&t->mem, int32_t, n);
    if (!arena_ok(&t->mem)) return err_set(e, ERR_NOMEM, "bench: out of memory");
    for (size_t i = 0; i < n; i++) t->pos[i] = (int32_t)(i % (size_t)t->T);
    t->peak = device_peak_flops(t->dev);
    return OK;
}

static void tear_down(Trainer *t) {
    adamw_free(t->opt);
    graph_free(t->g);
    model_free(t->m);
    device_free(t->dev);
    arena_deinit(&t->mem);
}

static void draw_tokens(Trainer *t, int step) {
    int n = t->n_row * t->T;
    for (int i = 0; i < n; i++) {
        uint32_t u[4];
        rng_philox(u, rng_key(1, "bench"), (uint64_t)step, (uint64_t)i);
        t->ids[i] = (int32_t)(u[0] % (uint32_t)t->m->cfg.V);
        t->targets[i] = (int32_t)(u[1] % (uint32_t)t->m->cfg.V);
    }
}

static Status one_step(Trainer *t, int step, Err *e) {
    GraphBatch b = {t->ids, t->targets, t->pos, t->seg, (uint64_t)step};
    double loss, norm;
    graph_zero_grads(t->g);
    TRY(graph_step(t->g, &b, 1.0f / (float)(t->n_row * t->T), &loss, e));
    TRY(adamw_step(t->opt, graph_grads(t->g), 1e-3, step + 1, &norm, e));
    if (isfinite(loss)) return OK;
    return err_set(e, ERR_INTERNAL, "loss is %g at step %d", loss, step);
}

static Status measure(Trainer *t, Err *e) {
    double rate[BENCH_MAX_REPS + WARM_UP];
    int n = (int)t->c->reps;
    for (int i = 0; i < n + WARM_UP; i++) {
        draw_tokens(t, i);
        double t0 = clock_now_s();
        TRY(one_step(t, i, e));
        rate[i] = (double)t->n_row * t->T / (clock_now_s() - t0);
    }
    t->rate = cli_bench_spread(rate + WARM_UP, n);
    t->mfu = t->rate.median * model_train_flops(&t->m->cfg, t->T) / t->peak;
    return OK;
}

/* Fields as bench/peers/torch_gpt.py prints them. */
static int print_json(const Trainer *t) {
    char line[96];
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "train");
    jw_cstr(&w, "device", device_describe(t->dev, line));
    jw_cstr(&w, "arch", t->m->cfg.arch->name);
    jw_cstr(&w, "dtype", t->bf16 ? "bf16" : "f32");
    jw_int(&w, "params", (int64_t)model_n_params(&t->m->cfg));
    jw_int(&w, "batch", t->n_row);
    jw_int(&w, "ctx", t->T);
    jw_int(&w, "threads", cli_threads(t->c->threads));
    jw_num(&w, "tok_s_min", cli_bench_round(t->rate.min));
    jw_num(&w, "tok_s_median", cli_bench_round(t->rate.median));
    jw_num(&w, "tok_s_max", cli_bench_round(t->rate.max));
    jw_num(&w, "mfu", cli_bench_round(t->mfu));
    jw_int(&w, "reps", t->c->reps);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const Trainer *t) {
    char line[96], a[32];
    printf("%s, %s parameters, %d x %d tokens a step, %s\n", t->m->cfg.arch->name,
           cli_commas(a, model_n_params(&t->m->cfg)), t->n_row, t->T,
           device_describe(t->dev, line));
    printf("  %.0f tokens/s (least %.0f, most %.0f of %lld steps), %.1f%% of the %.0f GFLOP/s peak "
           "of its products\n",
           t->rate.median, t->rate.min, t->rate.max, (long long)t->c->reps, 100 * t->mfu,
           t->peak / 1e9);
    return cli_flush_stdout();
}

static int bench_one(Trainer *t) {
    Err e = {0};
    Status st = set_up(t, &e);
    if (st == OK) st = measure(t, &e);
    if (st != OK) return cli_fail(&e);
    return t->c->json ? print_json(t) : print_text(t);
}

/* In one precision; one the processor lacks is passed over unless it was asked for. */
static int bench_dtype(const BenchCmd *c, bool bf16) {
    Err e = {0};
    Trainer t = {.c = c, .bf16 = bf16, .n_row = (int)c->batch, .T = (int)c->ctx};
    DeviceOpts o = {.cpu = c->cpu, .n_threads = cli_threads(c->threads), .bf16 = bf16};
    int rc = CLI_OK;
    arena_init(&t.mem, 64 << 10);
    if (device_cpu_new(&t.dev, &o, &e) != OK) rc = cli_fail(&e);
    else if (!bf16 || device_has_bf16(t.dev)) rc = bench_one(&t);
    else if (c->dtype) {
        err_set(&e, ERR_UNSUPPORTED, "this processor has no bf16 products at the level in use");
        rc = cli_fail(&e);
    }
    tear_down(&t);
    return rc;
}

int cli_bench_train(const BenchCmd *c) {
    int rc = CLI_OK;
    if (!c->dtype || !strcmp(c->dtype, "f32")) rc = bench_dtype(c, false);
    if (rc == CLI_OK && (!c->dtype || !strcmp(c->dtype, "bf16"))) rc = bench_dtype(c, true);
    return rc;
}
