/* SPDX-License-Identifier: Apache-2.0
 * A training run: open everything, plan, loop, close. The order in which files are written is what makes an
 * interrupted run repeat itself exactly: metrics line, then model.gguf, then ckpt.gguf; whatever a crash
 * leaves of the first two is made again from the last of the third. */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/rng.h"
#include "text/json.h"
#include "train/internal.h"
#include "train/report.h"

typedef struct Run {
    const TrainConfig *c;
    const OptSet *opts;
    const TrainEvents *ev;
    char dir[400], name[128];
    Device *dev;
    Model *m;
    Graph *g;
    Optim *opt;
    Tokenizer *tok;
    Shard train, val;
    Loader batches, checks;
    IoWriter metrics, speed;
    LrSchedule lr;
    RunState s;
    TrainPlan plan;
    StrBuf line;
    double t_start, tok_s;
    double last_loss;
    bool stopped_early;
    int lock; /* of the run's folder; -1: not held */
} Run;

static void note(const Run *r, const char *line) {
    if (r->ev->note) r->ev->note(r->ev->ctx, line);
}

static const char *run_path(const Run *r, char buf[512], const char *file) {
    snprintf(buf, 512, "%s/%s", r->dir, file);
    return buf;
}

/* ---- opening ---- */

static void say_substitutes(const Run *r) {
    const TrainConfig *c = r->c;
    bool wants_f32 = strcmp(c->dtype, "f32") == 0 || strcmp(c->dtype, "float32") == 0;
    if (strcmp(c->device, "cuda") == 0)
        note(r, "device cuda: this build has no GPU code, training on the cpu");
    if (c->compile) note(r, "compile: accepted, there is nothing to compile");
    if (strcmp(c->dtype, "float16") == 0 || strcmp(c->dtype, "f16") == 0)
        note(r, device_has_bf16(r->dev)
                    ? "dtype float16: a cpu trains in bf16 instead"
                    : "dtype float16: this cpu has no 16-bit products, using f32");
    else if (!wants_f32 && !device_has_bf16(r->dev))
        note(r, "dtype bf16: this cpu (or the level asked for) has no bf16 products, using f32");
}

static Status open_data(Run *r, Err *e) {
    const TrainConfig *c = r->c;
    char dir[400], path[512];
    if (strlen(c->dataset) + sizeof "data/" > sizeof dir)
        return err_set(e, ERR_ARG, "dataset has %zu bytes, at most %zu", strlen(c->dataset),
                       sizeof dir - sizeof "data/");
    snprintf(dir, sizeof dir, "%s", c->dataset);
    if (!io_exists(dir) && !strchr(dir, '/')) snprintf(dir, sizeof dir, "data/%s", c->dataset);
    TRY(data_shard_open(&r->train, dir, "train", e));
    TRY(data_shard_open(&r->val, dir, "val", e));
    int T = (int)c->block_size, B = (int)c->batch_size;
    uint64_t seed = (uint64_t)c->seed;
    const char *part = "train.bin";
    Status st = loader_init(&r->batches, &r->train, B, T, rng_key(seed, "batches"), c->doc_mask, e);
    if (st == OK && c->eval_iters > 0) {
        part = "val.bin";
        st = loader_init(&r->checks, &r->val, B, T, 0, c->doc_mask, e);
    }
    if (st != OK) {
        snprintf(path, sizeof path, "%s/%s", dir, part);
        err_in(e, path);
        return st;
    }
    snprintf(path, sizeof path, "%s/tokenizer.gguf", dir);
    Gguf *g;
    TRY(gguf_open(&g, path, e));
    st = tok_load(&r->tok, g, e);
    if (st != OK) err_in(e, path);
    gguf_close(g);
    return st;
}

/* The run's name: as given, or the last part of the dataset's path. */
static Status name_run(Run *r, Err *e) {
    const char *from = r->c->name ? r->c->name : r->c->dataset, *end = from + strlen(from);
    if (!r->c->name) {
        while (end > from && end[-1] == '/') end--;
        for (const char *p = from; p < end; p++)
            if (*p == '/') from = p + 1;
    }
    int n = snprintf(r->name, sizeof r->name, "%.*s", (int)(end - from), from);
    if (n < 1 || (size_t)n >= sizeof r->name || strchr(r->name, '/') || r->name[0] == '.')
        return err_set(e, ERR_ARG,
                       "name \"%.40s\" is empty, over %zu bytes, begins with a dot or contains a "
                       "slash: set name, or out_dir",
                       r->name, sizeof r->name - 1);
    return OK;
}

/* Where the run's files go. */
static Status open_dir(Run *r, Err *e) {
    const char *out = r->c->out_dir;
    char path[512];
    TRY(name_run(r, e));
    int n = out ? snprintf(r->dir, sizeof r->dir, "%s", out)
                : snprintf(r->dir, sizeof r->dir, "runs/%s", r->name);
    if (n < 1 || (size_t)n >= sizeof r->dir)
        return err_set(e, ERR_ARG, "out_dir has %d bytes, must have 1..%zu", n, sizeof r->dir - 1);
    TRY(io_mkdirs(r->dir, e));
    return io_lock(&r->lock, run_path(r, path, ".lock"), e);
}

static bool from_scratch(const TrainConfig *c) {
    return strcmp(c->init_from, "scratch") == 0 || strcmp(c->init_from, "resume") == 0;
}

/* The model's description: its checkpoint's, its file's or the configuration's. Token ids and positions of
 * the dataset must fit it, whoever wrote it. */
static Status describe_model(ModelConfig *mc, const Run *r, const char *ckpt, Err *e) {
    const TrainConfig *c = r->c;
    const char *from = ckpt ? ckpt : c->init_from;
    Gguf *g;
    if (!ckpt && from_scratch(c)) return train__model_config(mc, c, r->train.n_vocab, e);
    if (ckpt) {
        TRY(ckpt_read_config(ckpt, mc, e));
    } else {
        TRY(gguf_open(&g, from, e));
        Status st = model_read_config(mc, g, e);
        gguf_close(g);
        if (st != OK) err_in(e, from);
        if (st != OK) return st;
    }
    Status st = OK;
    if (mc->V < r->train.n_vocab || mc->V < r->val.n_vocab)
        st = err_set(e, ERR_ARG, "vocabulary of %d, the dataset's is %d", mc->V,
                     MAX(r->train.n_vocab, r->val.n_vocab));
    else if (mc->ctx < c->block_size)
        st = err_set(e, ERR_ARG, "context of %d is below block_size %lld", mc->ctx,
                     (long long)c->block_size);
    if (st != OK) err_in(e, from);
    return st;
}

/* Weights to begin with; those of a checkpoint come with the optimizer's. */
static Status fill_model(Run *r, Err *e) {
    Gguf *g;
    if (from_scratch(r->c)) return model_init(r->m, (uint64_t)r->c->seed, e);
    TRY(gguf_open(&g, r->c->init_from, e));
    Status st = model_copy_from(r->m, g, e);
    if (st != OK) err_in(e, r->c->init_from);
    gguf_close(g);
    return st;
}

/* ---- the plan ---- */

static GraphOpts graph_opts(const Run *r) {
    return (GraphOpts){.n_row = (int)r->c->batch_size,
                       .T = (int)r->c->block_size,
                       .checkpoint = r->c->gradient_checkpointing,
                       .dropout = (float)r->c->dropout,
                       .drop_key = rng_key((uint64_t)r->c->seed, "dropout")};
}

static Status plan_memory(Run *r, const ModelConfig *mc, Err *e) {
    TrainPlan *p = &r->plan;
    GraphOpts go = graph_opts(r);
    size_t n = (size_t)model_n_params(mc), maps = r->train.map.n + r->val.map.n,
           largest = (size_t)mc->C * (size_t)MAX(mc->V, mc->ff);
    p->model = *mc;
    p->n_params = n;
    p->n_train_tok = r->train.n_tok;
    p->n_val_tok = r->val.n_tok;
    p->tok_per_step =
        (uint64_t)(r->c->batch_size * r->c->block_size * r->c->gradient_accumulation_steps);
    p->weight_bytes = n * sizeof(float);
    p->moment_bytes = 2 * n * sizeof(float);
    p->act_bytes = graph_bytes(mc, &go);
    /* scratch, the largest tensor while saving, the mapped shards, the program as it is now */
    p->other_bytes = device_scratch_bytes(r->dev, go.T, mc->hd) + largest * sizeof(float) + maps +
                     mem_peak_rss_bytes();
    p->peak_bytes = p->weight_bytes + p->moment_bytes + p->act_bytes + p->other_bytes;
    p->limit_bytes = mem_limit_bytes();
    if (p->peak_bytes - maps > p->limit_bytes) /* the kernel drops pages of a map when it must */
        return err_set(
            e, ERR_NOMEM,
            "this run needs %.2f GB, the machine has %.2f: lower batch_size %lld or turn on "
            "gradient_checkpointing",
            (double)p->peak_bytes / 1e9, (double)p->limit_bytes / 1e9, (long long)r->c->batch_size);
    return OK;
}

/* Seconds of one micro-batch, forward and backward, measured twice (the first warms up); no state changes. */
static Status time_micro(Run *r, double *train_s, double *eval_s, Err *e) {
    GraphBatch b;
    double loss;
    TRY(loader_get(&r->batches, 0, false, &b, e));
    for (int i = 0; i < 2; i++) {
        double t = clock_now_s();
        TRY(graph_step(r->g, &b, 0.0f, &loss, e));
        *train_s = clock_now_s() - t;
        if (*train_s > 5.0) break;
    }
    double t = clock_now_s();
    TRY(graph_eval(r->g, &b, &loss, e));
    *eval_s = clock_now_s() - t;
    return OK;
}

static Status plan_time(Run *r, bool resuming, Err *e) {
    const TrainConfig *c = r->c;
    double micro = 0.0, eval = 0.0;
    TRY(time_micro(r, &micro, &eval, e));
    double step = micro * (double)c->gradient_accumulation_steps;
    double per_iter = step + eval * (double)c->eval_iters / (double)c->eval_interval;
    if (!resuming) r->s.max_iters = c->max_iters;
    if (!resuming && c->train_seconds > 0)
        r->s.max_iters = (int64_t)fmax(1.0, fmin(1e12, (double)c->train_seconds / per_iter));
    r->plan.max_iters = r->s.max_iters;
    r->plan.start_iter = r->s.iter;
    r->plan.tok_s = (double)r->plan.tok_per_step / step;
    r->plan.seconds = per_iter * (double)(r->s.max_iters - r->s.iter);
    r->plan.peak_flops = device_peak_flops(r->dev);
    device_describe(r->dev, r->plan.device);
    r->lr = train__schedule(c, r->s.max_iters);
    return OK;
}

/* ---- files ---- */

static Status write_config(Run *r, Err *e) {
    char path[512];
    int n;
    const OptSpec *o = train_options(&n);
    StrBuf b = {0};
    for (int i = 0; i < n; i++) {
        sb_printf(&b, "%s: ", o[i].key);
        opt_format(r->opts, o[i].key, &b);
        sb_putc(&b, '\n');
    }
    IoWriter w = {0};
    Status st = sb_check(&b, e);
    if (st == OK) st = io_writer_open(&w, run_path(r, path, "config.yaml"), true, e);
    if (st == OK) st = io_write(&w, sb_str(&b), b.n, e);
    if (st == OK) st = io_writer_close(&w, e);
    io_writer_abort(&w);
    sb_deinit(&b);
    return st;
}

/* A log cut back to `keep` bytes, or a fresh one. */
static Status open_log(IoWriter *w, const char *path, uint64_t keep, Err *e) {
    return keep > 0 ? io_writer_open_at(w, path, keep, e) : io_writer_open(w, path, false, e);
}

/* Bytes of a log's whole lines: a run that was killed may have left half of one behind them. */
static Status whole_lines(uint64_t *out, const char *path, Err *e) {
    IoMap map = {0};
    TRY(io_map(&map, path, e));
    const uint8_t *last = map.n ? memrchr(map.p, '\n', map.n) : NULL;
    *out = last ? (uint64_t)(last - map.p) + 1 : 0;
    io_unmap(&map);
    return OK;
}

static Status open_logs(Run *r, bool resuming, Err *e) {
    char path[512];
    uint64_t keep = 0;
    TRY(open_log(&r->metrics, run_path(r, path, "metrics.jsonl"), r->s.metrics_bytes, e));
    run_path(r, path, "speed.jsonl");
    if (resuming && io_exists(path)) TRY(whole_lines(&keep, path, e));
    return open_log(&r->speed, path, keep, e);
}

/* Append the collected line to a log and hand it to the kernel. */
static Status put_line(Run *r, IoWriter *w, Err *e) {
    sb_putc(&r->line, '\n');
    TRY(sb_check(&r->line, e));
    TRY(io_write(w, sb_str(&r->line), r->line.n, e));
    return io_writer_flush(w, false, e);
}

static Status log_step(Run *r, const TrainStep *s, Err *e) {
    JsonW w;
    sb_clear(&r->line);
    jw_init(&w, &r->line);
    jw_obj(&w, NULL);
    jw_int(&w, "iter", s->iter);
    jw_num(&w, "loss", s->loss);
    jw_num(&w, "lr", s->lr);
    jw_num(&w, "grad_norm", s->grad_norm);
    jw_int(&w, "tokens", (int64_t)((uint64_t)s->iter * r->plan.tok_per_step));
    jw_end_obj(&w);
    TRY(put_line(r, &r->metrics, e));
    sb_clear(&r->line);
    jw_init(&w, &r->line);
    jw_obj(&w, NULL);
    jw_int(&w, "iter", s->iter);
    jw_num(&w, "tok_s", s->tok_s);
    jw_num(&w, "mfu", s->mfu);
    jw_num(&w, "elapsed_s", clock_now_s() - r->t_start);
    jw_end_obj(&w);
    return put_line(r, &r->speed, e);
}

static Status log_eval(Run *r, const TrainEval *v, Err *e) {
    JsonW w;
    sb_clear(&r->line);
    jw_init(&w, &r->line);
    jw_obj(&w, NULL);
    jw_int(&w, "iter", v->iter);
    jw_num(&w, "train_loss", v->train_loss);
    jw_num(&w, "val_loss", v->val_loss);
    jw_bool(&w, "best", v->is_best);
    jw_end_obj(&w);
    return put_line(r, &r->metrics, e);
}

static void model_extra(void *ctx, GgufW *w) {
    const Run *r = ctx;
    gguf_w_str(w, "general.name", slice_of(r->name));
    gguf_w_u64(w, "ingot.train.iter", (uint64_t)r->s.iter);
    if (isfinite(r->s.best_val)) gguf_w_f64(w, "ingot.train.val_loss", r->s.best_val);
    tok_save(r->tok, w);
}

static Status save_model(Run *r, Err *e) {
    char path[512];
    return model_save(r->m, run_path(r, path, "model.gguf"), model_extra, r, e);
}

static Status save_checkpoint(Run *r, Err *e) {
    char path[512];
    TRY(io_writer_flush(&r->metrics, true, e));
    r->s.metrics_bytes = r->metrics.offset;
    return ckpt_save(run_path(r, path, "ckpt.gguf"), r->m, r->opt, &r->s, r->opts, e);
}

/* ---- the loop ---- */

static Status one_step(Run *r, TrainStep *out, Err *e) {
    const TrainConfig *c = r->c;
    double t = clock_now_s(), sum = 0.0;
    int64_t accum = c->gradient_accumulation_steps;
    float scale = 1.0f / (float)r->plan.tok_per_step;
    graph_zero_grads(r->g);
    for (int64_t i = 0; i < accum; i++) {
        GraphBatch b;
        double loss;
        TRY(loader_get(&r->batches, (uint64_t)(r->s.iter * accum + i), false, &b, e));
        TRY(graph_step(r->g, &b, scale, &loss, e));
        sum += loss;
    }
    double lr = lr_at(&r->lr, r->s.iter), norm;
    TRY(adamw_step(r->opt, graph_grads(r->g), lr, r->s.iter + 1, &norm, e));
    r->s.iter++;
    double loss = sum / (double)r->plan.tok_per_step, dt = clock_now_s() - t;
    double tok_s = (double)r->plan.tok_per_step / dt;
    r->tok_s = r->tok_s > 0.0 ? 0.9 * r->tok_s + 0.1 * tok_s : tok_s;
    double flops = model_train_flops(&r->m->cfg, (int)c->block_size);
    r->s.loss_sum += loss;
    r->s.loss_count++;
    r->last_loss = loss;
    *out =
        (TrainStep){.iter = r->s.iter,
                    .max_iters = r->s.max_iters,
                    .loss = loss,
                    .lr = lr,
                    .grad_norm = norm,
                    .tok_s = r->tok_s,
                    .step_ms = dt * 1e3,
                    .mfu = r->plan.peak_flops > 0.0 ? flops * r->tok_s / r->plan.peak_flops : 0.0};
    return OK;
}

/* Mean loss over micro-batches spread evenly over the validation shard. */
static Status validation_loss(Run *r, double *out, Err *e) {
    uint64_t n = MAX((uint64_t)1, loader_n_rows(&r->checks) / (uint64_t)r->checks.n_row);
    uint64_t k = MIN(n, (uint64_t)r->c->eval_iters);
    double sum = 0.0;
    for (uint64_t i = 0; i < k; i++) {
        GraphBatch b;
        double loss;
        TRY(loader_get(&r->checks, i * n / k, true, &b, e));
        TRY(graph_eval(r->g, &b, &loss, e));
        sum += loss;
    }
    *out = sum / (double)k / ((double)r->c->batch_size * (double)r->c->block_size);
    return OK;
}

static Status validate(Run *r, Err *e) {
    TrainEval v = {.iter = r->s.iter,
                   .train_loss = r->s.loss_sum / (double)MAX((int64_t)1, r->s.loss_count)};
    TRY(validation_loss(r, &v.val_loss, e));
    if (!isfinite(v.val_loss))
        return err_set(e, ERR_INTERNAL, "validation loss is %g at step %lld", v.val_loss,
                       (long long)v.iter);
    v.is_best = v.val_loss < r->s.best_val;
    r->s.n_bad_evals = v.is_best ? 0 : r->s.n_bad_evals + 1;
    if (v.is_best) {
        r->s.best_val = v.val_loss;
        r->s.best_iter = r->s.iter;
    }
    v.best_val = r->s.best_val;
    v.best_iter = r->s.best_iter;
    r->s.loss_sum = 0.0;
    r->s.loss_count = 0;
    TRY(log_eval(r, &v, e));
    if (v.is_best || r->c->always_save_checkpoint) TRY(save_model(r, e));
    r->stopped_early = r->c->early_stop > 0 && r->s.n_bad_evals >= r->c->early_stop;
    if (r->ev->eval) r->ev->eval(r->ev->ctx, &v);
    return OK;
}

/* What is due after a step: log line, validation, checkpoint. */
static Status after_step(Run *r, const TrainStep *s, Err *e) {
    const TrainConfig *c = r->c;
    bool last = r->s.iter >= r->s.max_iters, evals = c->eval_iters > 0;
    bool eval_due = evals && (last || r->s.iter % c->eval_interval == 0);
    int64_t every = c->checkpoint_interval > 0 ? c->checkpoint_interval : c->eval_interval;
    if (last || r->s.iter == 1 || r->s.iter % c->log_interval == 0) TRY(log_step(r, s, e));
    if (r->ev->step) r->ev->step(r->ev->ctx, s);
    if (eval_due) TRY(validate(r, e));
    if (last && !evals) TRY(save_model(r, e));
    bool stop = r->ev->stop && atomic_load_explicit(r->ev->stop, memory_order_relaxed);
    if (last || stop || r->stopped_early || r->s.iter % every == 0) TRY(save_checkpoint(r, e));
    if (stop && !last)
        return err_set(e, ERR_CANCELLED, "stopped at step %lld: go on with --resume",
                       (long long)r->s.iter);
    return OK;
}

static Status loop(Run *r, Err *e) {
    r->t_start = clock_now_s();
    while (r->s.iter < r->s.max_iters && !r->stopped_early) {
        TrainStep s;
        TRY(one_step(r, &s, e));
        TRY(after_step(r, &s, e));
    }
    return OK;
}

/* ---- all of it ---- */

static Status prepare(Run *r, Err *e) {
    const TrainConfig *c = r->c;
    char ckpt[512];
    TRY(train__check(c, e));
    TRY(open_data(r, e));
    TRY(open_dir(r, e));
    bool wants_f32 = strcmp(c->dtype, "f32") == 0 || strcmp(c->dtype, "float32") == 0;
    TRY(device_cpu_new(
        &r->dev, &(DeviceOpts){.cpu = c->cpu, .n_threads = (int)c->threads, .bf16 = !wants_f32},
        e));
    say_substitutes(r);
    run_path(r, ckpt, "ckpt.gguf");
    bool there = io_exists(ckpt), asked = c->resume || strcmp(c->init_from, "resume") == 0;
    if (there && !asked && !c->overwrite)
        return err_set(e, ERR_ARG, "%s already holds a run: add --resume to go on, or --overwrite",
                       r->dir);
    if (asked && !there) note(r, "no checkpoint yet: starting from the beginning");
    bool resuming = asked && there;
    ModelConfig mc;
    TRY(describe_model(&mc, r, resuming ? ckpt : NULL, e));
    TRY(plan_memory(r, &mc, e));
    TRY(model_new(&r->m, r->dev, &mc, e));
    if (!resuming) TRY(fill_model(r, e));
    GraphOpts go = graph_opts(r);
    TRY(graph_new(&r->g, r->m, &go, e));
    TRY(adamw_new(&r->opt, r->m,
                  &(AdamwOpts){c->beta1, c->beta2, c->eps, c->weight_decay, c->grad_clip}, e));
    r->s = (RunState){.best_val = (double)INFINITY};
    if (resuming) TRY(ckpt_load(ckpt, r->m, r->opt, &r->s, r->opts, e));
    r->stopped_early = c->early_stop > 0 && r->s.n_bad_evals >= c->early_stop;
    if (there && !resuming) TRY(io_remove(ckpt, e)); /* it is not of the run that begins here */
    if (!resuming) TRY(write_config(r, e));
    TRY(open_logs(r, resuming, e));
    TRY(plan_time(r, resuming, e));
    if (r->ev->plan) r->ev->plan(r->ev->ctx, &r->plan);
    return OK;
}

static void close_run(Run *r) {
    io_writer_abort(&r->metrics);
    io_writer_abort(&r->speed);
    sb_deinit(&r->line);
    loader_deinit(&r->batches);
    loader_deinit(&r->checks);
    adamw_free(r->opt);
    graph_free(r->g);
    model_free(r->m);
    device_free(r->dev);
    tok_free(r->tok);
    data_shard_close(&r->train);
    data_shard_close(&r->val);
    io_unlock(r->lock);
}

Status train_run(TrainResult *out, const TrainConfig *c, const OptSet *opts, const TrainEvents *ev,
                 Err *e) {
    Run r = {.c = c, .opts = opts, .ev = ev, .lock = -1, .last_loss = (double)NAN};
    char path[512];
    Status st = prepare(&r, e);
    if (st == OK) st = loop(&r, e);
    if (st == OK) st = io_writer_close(&r.metrics, e);
    if (st == OK) st = io_writer_close(&r.speed, e);
    if (st == OK) st = train_report_write(r.dir, e);
    if (st == OK) {
        *out = (TrainResult){.iters = r.s.iter,
                             .best_iter = r.s.best_iter,
                             .best_val = r.s.best_val,
                             .last_loss = r.last_loss,
                             .seconds = clock_now_s() - r.t_start,
                             .tok_s = r.tok_s,
                             .stopped_early = r.stopped_early};
        snprintf(out->model_path, sizeof out->model_path, "%s", run_path(&r, path, "model.gguf"));
        snprintf(out->report_path, sizeof out->report_path, "%s",
                 run_path(&r, path, "report.html"));
    }
    close_run(&r);
    return st;
}
