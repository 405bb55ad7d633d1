/* SPDX-License-Identifier: Apache-2.0
 * Training with the n-th allocation or the n-th I/O call failing: the pass, checkpoints, and a whole run of
 * three steps with a checkpoint after each. Words each time, no leak; whatever failed, the checkpoint that
 * is there can be loaded, and the run goes on from it to the same end. INGOT_SWEEP=all takes every n of the
 * whole run; without it, those of a stride after the first ones. */
#include "base/fault.h"
#include "unit/train/fixture.h"

/* ---- the sweep ---- */

typedef Status (*Step)(Err *e);

/* True when the n-th fault did not go off any more. */
static bool once(FaultKind kind, uint64_t n, const char *what, Step step, Status *st) {
    Err e = {0};
    size_t live = mem_live_bytes();
    fault_arm(kind, n);
    *st = step(&e);
    bool fired = fault_fired(kind);
    fault_arm(kind, 0);
    if (mem_live_bytes() != live)
        FAIL("%s, n = %llu: %zu bytes held, %zu before (%s)", what, (unsigned long long)n,
             mem_live_bytes(), live, e.msg);
    if (!fired) {
        if (*st != OK) FAIL("%s without a fault: %s", what, e.msg);
        return true;
    }
    if (*st == OK) FAIL("%s, n = %llu: the fault went unnoticed", what, (unsigned long long)n);
    if (!e.msg[0] || strchr(e.msg, '\n'))
        FAIL("%s, n = %llu: words \"%s\"", what, (unsigned long long)n, e.msg);
    return false;
}

static void sweep(FaultKind kind, const char *what, Step step, void (*after)(void),
                  uint64_t at_least) {
    Status st;
    uint64_t n = 1;
    Err first = {0};
    EQ(step(&first), OK); /* what is made once and kept is made here */
    while (!once(kind, n, what, step, &st)) {
        EQ(st, kind == FAULT_ALLOC ? ERR_NOMEM : ERR_IO);
        if (after) after();
        n++;
    }
    TRUE_(n > at_least);
}

/* ---- the pass and the optimizer ---- */

static Device *dev;
static ModelConfig config;

static void small_world(void) {
    Fix f;
    fix_init(&f);
    OK_(train__model_config(&config, &f.c, 40, TERR));
    fix_free(&f);
    OK_(device_cpu_new(&dev, &(DeviceOpts){.n_threads = 1}, TERR));
}

static Status step_pass(Err *e) {
    Model *m = NULL;
    Graph *g = NULL;
    Optim *o = NULL;
    int32_t ids[32] = {0}, pos[32], seg[32];
    double loss, norm;
    graph_segments(ids, 32, -1, seg, pos);
    GraphBatch b = {ids, ids, pos, seg, 0};
    Status st = model_new(&m, dev, &config, e);
    if (st == OK) st = graph_new(&g, m, &(GraphOpts){.n_row = 2, .T = 16}, e);
    if (st == OK) st = adamw_new(&o, m, &(AdamwOpts){0.9, 0.95, 1e-8, 0.1, 1.0}, e);
    if (st == OK) st = graph_step(g, &b, 1.0f, &loss, e);
    if (st == OK) st = adamw_step(o, graph_grads(g), 1e-3, 1, &norm, e);
    adamw_free(o);
    graph_free(g);
    model_free(m);
    return st;
}

TEST(pass_and_optimizer) {
    small_world();
    sweep(FAULT_ALLOC, "pass, alloc", step_pass, NULL, 10);
    device_free(dev);
}

/* The device's scratch grows within the first step: failing there must come out of the step. */
TEST(scratch_within_a_step) {
    Model *m = NULL;
    Graph *g = NULL;
    int32_t ids[2048] = {0}, pos[2048], seg[2048];
    double loss;
    GraphBatch b = {ids, ids, pos, seg, 0};
    small_world();
    config.ctx = 2048;
    graph_segments(ids, 2048, -1, seg, pos);
    OK_(model_new(&m, dev, &config, TERR));
    OK_(graph_new(&g, m, &(GraphOpts){.n_row = 1, .T = 2048}, TERR));
    fault_arm(FAULT_ALLOC, 1);
    Status st = graph_step(g, &b, 1.0f, &loss, TERR);
    bool fired = fault_fired(FAULT_ALLOC);
    fault_arm(FAULT_ALLOC, 0);
    TRUE_(fired);
    EQ(st, ERR_NOMEM);
    TRUE_(strstr(test_err.msg, "scratch"));
    FAILS(ERR_NOMEM, graph_step(g, &b, 1.0f, &loss, TERR)); /* and stays */
    graph_free(g);
    model_free(m);
    device_free(dev);
}

/* ---- checkpoints ---- */

static Model *model;
static Optim *optim;
static Fix fix;
static int64_t n_saved;

static Status step_save(Err *e) {
    RunState s = {.iter = n_saved + 1, .max_iters = 1000000, .best_val = 1.0};
    Status st = ckpt_save(fix_path("c.gguf"), model, optim, &s, fix.o, e);
    if (st == OK) n_saved++;
    return st;
}

/* The last good checkpoint, or (if the very last call failed) the one that was just put in place. */
static void after_save(void) {
    RunState s;
    OK_(ckpt_load(fix_path("c.gguf"), model, optim, &s, fix.o, TERR));
    TRUE_(s.iter == n_saved || s.iter == n_saved + 1);
    FALSE_(io_exists(fix_path("c.gguf.tmp")));
}

static Status step_load(Err *e) {
    RunState s = {.iter = -7};
    ModelConfig c;
    Status st = ckpt_read_config(fix_path("c.gguf"), &c, e);
    if (st == OK) st = ckpt_load(fix_path("c.gguf"), model, optim, &s, fix.o, e);
    if (st != OK) EQ(s.iter, -7);
    return st;
}

TEST(checkpoints) {
    small_world();
    fix_init(&fix);
    n_saved = 0;
    OK_(model_new(&model, dev, &config, TERR));
    OK_(adamw_new(&optim, model, &(AdamwOpts){0.9, 0.95, 1e-8, 0.1, 1.0}, TERR));
    sweep(FAULT_ALLOC, "save, alloc", step_save, after_save, 10);
    sweep(FAULT_IO, "save, io", step_save, after_save, 5);
    sweep(FAULT_ALLOC, "load, alloc", step_load, NULL, 10);
    sweep(FAULT_IO, "load, io", step_load, NULL, 4);
    adamw_free(optim);
    model_free(model);
    device_free(dev);
    fix_free(&fix);
}

/* ---- a whole run ---- */

static Status step_run(Err *e) {
    Heard h = {0};
    TrainResult r;
    return fix_run(&r, &fix, &h, e);
}

/* A checkpoint that is there is a whole one; going on ends in the same bytes. */
static void after_run(const StrBuf *want) {
    Heard h = {0};
    TrainResult r;
    if (!io_exists(fix_path("run/ckpt.gguf"))) return;
    fix_set(&fix, "resume", "true");
    OK_(fix_run(&r, &fix, &h, TERR));
    StrBuf got = fix_read("ckpt.gguf");
    EQ(got.n, want->n);
    EQ_MEM(got.p, want->p, got.n);
    sb_deinit(&got);
}

/* Back to the start: no run at all, or one that was stopped after a step. */
static void rewind_run(bool going_on) {
    char cmd[1200];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", fix_path("run"));
    EQ(system(cmd), 0);
    snprintf(cmd, sizeof cmd, "cp -r '%s' '%s'", fix_path("stopped"), fix_path("run"));
    if (going_on) EQ(system(cmd), 0);
}

static void stop_after_a_step(void) {
    Heard h = {.stop_at = 1};
    TrainResult r;
    char cmd[1200];
    FAILS(ERR_CANCELLED, fix_run(&r, &fix, &h, TERR));
    snprintf(cmd, sizeof cmd, "mv '%s' '%s'", fix_path("run"), fix_path("stopped"));
    EQ(system(cmd), 0);
}

static void run_sweep(FaultKind kind, bool going_on, uint64_t first, uint64_t stride) {
    const char *all = getenv("INGOT_SWEEP"), *what = going_on ? "resumed run" : "run";
    Err e = {0};
    Status st = OK;
    if (all && !strcmp(all, "all")) stride = 1;
    fix_dataset(fix_path("data"), 400, 100);
    fix_init(&fix);
    fix_set(&fix, "max_iters", "3");
    fix_set(&fix, "checkpoint_interval", "1");
    fix_set(&fix, "eval_interval", "1");
    EQ(step_run(&e), OK);
    StrBuf want = fix_read("ckpt.gguf");
    rewind_run(false);
    if (going_on) stop_after_a_step();
    for (uint64_t n = 1;; n += n < first ? 1 : stride) {
        rewind_run(going_on);
        fix_set(&fix, "resume", going_on ? "true" : "false");
        if (once(kind, n, what, step_run, &st)) break;
        TRUE_(!going_on || io_exists(fix_path("run/ckpt.gguf")));
        if (n >= first) after_run(&want);
    }
    sb_deinit(&want);
    fix_free(&fix);
}

TEST(run_allocations) { run_sweep(FAULT_ALLOC, false, 20, 41); }
TEST(run_io_calls) { run_sweep(FAULT_IO, false, 10, 7); }
TEST(resumed_run_allocations) { run_sweep(FAULT_ALLOC, true, 10, 61); }
TEST(resumed_run_io_calls) { run_sweep(FAULT_IO, true, 5, 7); }
