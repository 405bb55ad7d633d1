/* SPDX-License-Identifier: Apache-2.0
 * ingot train: configuration from YAML and flags, the plan before the first step, progress, the result.
 * The run itself is train/run.c. */
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "text/json.h"
#include "train/train.h"

/* The configuration comes first, so that train_options' offsets hold for this struct too. */
typedef struct TrainCmd {
    TrainConfig c;
    bool json, quiet;
    CliBar bar;
    bool plain; /* standard error is no terminal: lines instead of a bar */
    double t_line;
} TrainCmd;

static const OptSpec own_opts[] = {
    {"quiet", 'q', OPT_BOOL, offsetof(TrainCmd, quiet), NULL, 0, 0, NULL, NULL,
     "no plan and no progress"},
    {"json", 0, OPT_BOOL, offsetof(TrainCmd, json), NULL, 0, 0, NULL, NULL,
     "print the result as one JSON object"},
};

enum { MAX_OPTS = 96 };
static OptSpec all_opts[MAX_OPTS];

static CliSpec spec = {
    .usage = "ingot train [CONFIG.yaml] [--key value ...] [--resume]",
    .about = "Trains a model on token shards. Keys come from the YAML file (which may\n"
             "include: another) and from flags; flags win. Before the first step it\n"
             "prints parameters, peak memory and the estimated time. Ctrl-C makes a\n"
             "checkpoint; --resume goes on from the last one, to the same bits as if\n"
             "nothing had happened.\n"
             "\n"
             "examples:\n"
             "  ingot train --dataset code --arch llama --n_layer 6 --n_embd 320 --n_head 10\n"
             "  ingot train config/code.yaml --max_iters 2000 --learning_rate 1e-3\n"
             "  ingot train config/code.yaml --resume\n"
             "next:\n"
             "  ingot run runs/NAME/model.gguf -p 'def '",
    .max_pos = 1,
};

static void on_note(void *ctx, const char *line) {
    const TrainCmd *t = ctx;
    if (!t->quiet) fprintf(stderr, "note: %s\n", line);
}

static void on_plan(void *ctx, const TrainPlan *p) {
    TrainCmd *t = ctx;
    char a[32], b[32], c[32], d[32], limit[32], span[24];
    t->bar.t_start = clock_now_s();
    if (t->quiet) return;
    const ModelConfig *m = &p->model;
    fprintf(stderr,
            "model    %s, %d layers, %d wide, %d heads (%d kv), ff %d, vocabulary %d, context %d\n",
            m->arch->name, m->n_layer, m->C, m->nh, m->nkv, m->ff, m->V, m->ctx);
    fprintf(stderr, "         %s parameters (%.2f M)\n", cli_commas(a, p->n_params),
            (double)p->n_params / 1e6);
    fprintf(stderr, "data     %s tokens to train on, %s to validate on\n",
            cli_commas(a, p->n_train_tok), cli_commas(b, p->n_val_tok));
    fprintf(stderr, "device   %s, %.0f GFLOP/s at most\n", p->device, p->peak_flops / 1e9);
    fprintf(
        stderr,
        "memory   %s at the peak (weights %s, moments %s, activations and gradients %s), of %s\n",
        cli_bytes(a, (double)p->peak_bytes), cli_bytes(b, (double)p->weight_bytes),
        cli_bytes(c, (double)p->moment_bytes), cli_bytes(d, (double)p->act_bytes),
        cli_bytes(limit, (double)p->limit_bytes));
    fprintf(stderr, "plan     steps %lld to %lld of %s tokens, about %.0f tok/s, about %s\n",
            (long long)p->start_iter + 1, (long long)p->max_iters, cli_commas(a, p->tok_per_step),
            p->tok_s, clock_format_span(span, p->seconds));
}

static void on_step(void *ctx, const TrainStep *s) {
    TrainCmd *t = ctx;
    char tail[160];
    if (t->quiet) return;
    if (t->plain) {
        double now = clock_now_s();
        if (s->iter > 1 && s->iter < s->max_iters && now - t->t_line < 5.0) return;
        t->t_line = now;
        double left = (double)(s->max_iters - s->iter) * s->step_ms * 1e-3;
        char span[24];
        fprintf(stderr,
                "iter %lld: loss %.4f, time %.2fms, lr %.3g, %.0f tok/s, mfu %.1f%%, ETA %s\n",
                (long long)s->iter, s->loss, s->step_ms, s->lr, s->tok_s, 100.0 * s->mfu,
                clock_format_span(span, left));
        return;
    }
    snprintf(tail, sizeof tail, "loss %.4f  %.0f tok/s  mfu %.1f%%", s->loss, s->tok_s,
             100.0 * s->mfu);
    cli_bar_update(&t->bar, (double)s->iter, (double)s->max_iters, tail);
}

static void on_eval(void *ctx, const TrainEval *v) {
    TrainCmd *t = ctx;
    if (t->quiet) return;
    cli_bar_finish(&t->bar);
    fprintf(stderr, "step %lld: train loss %.4f, val loss %.4f%s\n", (long long)v->iter,
            v->train_loss, v->val_loss, v->is_best ? ", best so far: saved" : "");
}

static int print_json(const TrainResult *r) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "model", r->model_path);
    jw_cstr(&w, "report", r->report_path);
    jw_int(&w, "iters", r->iters);
    jw_num(&w, "loss", r->last_loss);
    jw_num(&w, "best_val_loss", r->best_val);
    jw_int(&w, "best_iter", r->best_iter);
    jw_num(&w, "seconds", r->seconds);
    jw_num(&w, "tok_s", r->tok_s);
    jw_int(&w, "peak_rss_bytes", (int64_t)mem_peak_rss_bytes());
    jw_bool(&w, "stopped_early", r->stopped_early);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_result(const TrainResult *r) {
    char span[24], mem[32];
    printf("%lld steps in %s, %.0f tok/s at the end, peak memory %s\n", (long long)r->iters,
           clock_format_span(span, r->seconds), r->tok_s,
           cli_bytes(mem, (double)mem_peak_rss_bytes()));
    if (r->best_iter > 0)
        printf("best validation loss %.4f at step %lld%s\n", r->best_val, (long long)r->best_iter,
               r->stopped_early ? ", stopped early" : "");
    printf("model:  %s\nreport: %s\n", r->model_path, r->report_path);
    return cli_flush_stdout();
}

static int train(TrainCmd *t, const OptSet *set) {
    Err e = {0};
    TrainResult r = {0};
    TrainEvents ev = {.note = on_note,
                      .plan = on_plan,
                      .step = on_step,
                      .eval = on_eval,
                      .ctx = t,
                      .stop = cli_stop_flag()};
    cli_bar_init(&t->bar, "train", "steps", 1.0, t->quiet);
    t->plain = !t->bar.tty;
    if (!t->c.cpu) t->c.cpu = cli_env.cpu;
    t->c.threads = cli_threads(t->c.threads);
    Status st = train_run(&r, &t->c, set, &ev, &e);
    cli_bar_finish(&t->bar);
    if (st != OK) return cli_fail(&e);
    return t->json ? print_json(&r) : print_result(&r);
}

/* Flags are read twice: first for the name of the YAML file, then again over its values. */
static int parse(CliArgs *a, TrainCmd *t, int argc, char **argv) {
    Err e = {0};
    int rc = cli_parse(a, &spec, t, argc, argv);
    if (rc >= 0 || a->pos.n == 0) return rc;
    if (opt_load_yaml(a->set, a->pos.v[0], &e) != OK ||
        opt_parse_args(a->set, argc, argv, &a->pos, &e) != OK) {
        cli_fail(&e);
        return CLI_USAGE;
    }
    return -1;
}

int cmd_train(int argc, char **argv) {
    TrainCmd t = {0};
    CliArgs a;
    int n;
    const OptSpec *keys = train_options(&n);
    memcpy(all_opts, keys, (size_t)n * sizeof *keys);
    memcpy(all_opts + n, own_opts, sizeof own_opts);
    spec.opts = all_opts;
    spec.n_opts = n + (int)COUNT_OF(own_opts);
    int rc = parse(&a, &t, argc, argv);
    if (rc < 0) rc = train(&t, a.set);
    cli_args_deinit(&a);
    return rc;
}
