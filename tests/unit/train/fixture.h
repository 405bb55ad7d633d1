/* SPDX-License-Identifier: Apache-2.0
 * A data set of made-up tokens in a folder, a configuration by keys, and a run of it that writes down what
 * it was told. */
#ifndef INGOT_TESTS_TRAIN_FIXTURE_H
#define INGOT_TESTS_TRAIN_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "data/data.h"
#include "support/vocab_build.h"
#include "test.h"
#include "train/internal.h"

/* ---- a data set ---- */

static UNUSED const char *fix_path(const char *name) {
    static char buf[4][512];
    static int at;
    char *p = buf[at++ % 4];
    snprintf(p, sizeof buf[0], "%s/%s", test_tmpdir(), name);
    return p;
}

static UNUSED void fix_put(const char *path, const void *p, size_t n) {
    IoWriter w = {0};
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, p, n, TERR));
    OK_(io_writer_close(&w, TERR));
}

/* Token i of the stream: words that repeat, so that there is something to learn, and now and then an end of
 * text. */
static UNUSED uint16_t fix_token(size_t i, int n_vocab, int eot) {
    uint32_t h = (uint32_t)(i / 6) * 2654435761u;
    if (i % 29 == 28) return (uint16_t)eot;
    return (uint16_t)(((h >> 20) % 8 * 6 + (uint32_t)(i % 6)) % (uint32_t)n_vocab);
}

static UNUSED void fix_shard(const char *dir, const char *name, size_t n, int n_vocab, int eot) {
    char path[600];
    uint16_t *ids = calloc(n, sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = fix_token(i, n_vocab, eot);
    snprintf(path, sizeof path, "%s/%s.bin", dir, name);
    fix_put(path, ids, n * sizeof *ids);
    free(ids);
}

/* dir: a folder with train.bin, val.bin, meta.json, tokenizer.gguf. */
static UNUSED void fix_dataset(const char *dir, size_t n_train, size_t n_val) {
    Tokenizer *t = NULL;
    char path[600], meta[400];
    OK_(io_mkdirs(dir, TERR));
    OK_(vocab_build_load(&t, &vocab_small, TERR));
    int V = tok_n_vocab(t), eot = 255;
    snprintf(path, sizeof path, "%s/tokenizer.gguf", dir);
    OK_(data_tokenizer_save(t, path, TERR));
    tok_free(t);
    fix_shard(dir, "train", n_train, V, eot);
    fix_shard(dir, "val", n_val, V, eot);
    int n = snprintf(meta, sizeof meta,
                     "{\"format\":1,\"dtype\":\"uint16\",\"n_vocab\":%d,\"eot\":%d,"
                     "\"train\":{\"tokens\":%zu},\"val\":{\"tokens\":%zu}}",
                     V, eot, n_train, n_val);
    snprintf(path, sizeof path, "%s/meta.json", dir);
    fix_put(path, meta, (size_t)n);
}

/* ---- a configuration ---- */

typedef struct Fix {
    TrainConfig c;
    OptSet *o; /* owned */
} Fix;

static UNUSED void fix_set(Fix *f, const char *key, const char *value) {
    OK_(opt_set(f->o, key, value, TERR));
}

/* A run of some milliseconds: one layer of 16, 4 steps of 2 x 2 rows of 16 tokens, in the case's folder. */
static UNUSED void fix_init(Fix *f) {
    int n;
    const OptSpec *specs = train_options(&n);
    static const char *const keys[][2] = {
        {"arch", "llama"},      {"n_layer", "1"},
        {"n_head", "2"},        {"n_embd", "16"},
        {"n_ff", "24"},         {"block_size", "16"},
        {"batch_size", "2"},    {"gradient_accumulation_steps", "2"},
        {"dropout", "0"},       {"max_iters", "4"},
        {"warmup_iters", "1"},  {"learning_rate", "1e-2"},
        {"min_lr", "1e-3"},     {"eval_iters", "2"},
        {"eval_interval", "2"}, {"log_interval", "1"},
        {"threads", "1"},       {"dtype", "f32"},
    };
    memset(f, 0, sizeof *f);
    OK_(opt_new(&f->o, specs, n, &f->c, TERR));
    for (size_t i = 0; i < COUNT_OF(keys); i++) fix_set(f, keys[i][0], keys[i][1]);
    fix_set(f, "dataset", fix_path("data"));
    fix_set(f, "out_dir", fix_path("run"));
}

static UNUSED void fix_free(Fix *f) { opt_free(f->o); }

/* ---- a run ---- */

enum { FIX_MOST = 64 };

/* What the events said. */
typedef struct Heard {
    TrainPlan plan;
    TrainStep step[FIX_MOST];
    TrainEval eval[FIX_MOST];
    int n_plans, n_steps, n_evals, n_notes;
    char notes[1000];
    atomic_int stop;
    int stop_at;                /* raise stop after this step; 0: never; -1: with the plan */
    uint64_t n_alloc[FIX_MOST]; /* mem_n_alloc() after each step */
} Heard;

static UNUSED void fix_note(void *ctx, const char *line) {
    Heard *h = ctx;
    size_t n = strlen(h->notes);
    snprintf(h->notes + n, sizeof h->notes - n, "%s\n", line);
    h->n_notes++;
}

static UNUSED void fix_plan(void *ctx, const TrainPlan *p) {
    Heard *h = ctx;
    h->plan = *p;
    h->n_plans++;
    if (h->stop_at < 0) h->stop = 1;
}

static UNUSED void fix_step(void *ctx, const TrainStep *s) {
    Heard *h = ctx;
    if (h->n_steps < FIX_MOST) {
        h->step[h->n_steps] = *s;
        h->n_alloc[h->n_steps++] = mem_n_alloc();
    }
    if (h->stop_at > 0 && s->iter >= h->stop_at) h->stop = 1;
}

static UNUSED void fix_eval(void *ctx, const TrainEval *v) {
    Heard *h = ctx;
    if (h->n_evals < FIX_MOST) h->eval[h->n_evals++] = *v;
}

/* h keeps its stop_at; everything else is heard anew. */
static UNUSED Status fix_run(TrainResult *r, const Fix *f, Heard *h, Err *e) {
    TrainEvents ev = {.note = fix_note,
                      .plan = fix_plan,
                      .step = fix_step,
                      .eval = fix_eval,
                      .ctx = h,
                      .stop = &h->stop};
    int stop_at = h->stop_at;
    memset(h, 0, sizeof *h);
    h->stop_at = stop_at;
    memset(r, 0, sizeof *r);
    return train_run(r, &f->c, f->o, &ev, e);
}

/* A file of the run; the caller frees. */
static UNUSED StrBuf fix_read(const char *name) {
    StrBuf b = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/%s", fix_path("run"), name);
    OK_(io_read_file(&b, path, 64 << 20, TERR));
    return b;
}

#endif
