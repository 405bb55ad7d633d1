/* SPDX-License-Identifier: Apache-2.0
 * Whole runs of some milliseconds: files, events, early ends, going on, starting over, refusals. */
#include "fixture.h"

#include "text/json.h"

static void setup(Fix *f) {
    fix_dataset(fix_path("data"), 3000, 700);
    fix_init(f);
}

static int lines_with(const StrBuf *b, const char *word) {
    int n = 0;
    for (const char *p = b->p; p && (p = strstr(p, word)); p++) n++;
    return n;
}

static int64_t saved_iter(const char *name) {
    char path[600];
    int64_t iter = -1;
    Gguf *g = NULL;
    snprintf(path, sizeof path, "%s/%s", fix_path("run"), name);
    OK_(gguf_open(&g, path, TERR));
    OK_(gguf_get_int(&iter, g, strcmp(name, "ckpt.gguf") ? "ingot.train.iter" : "ingot.run.iter", 0,
                     1000, TERR));
    gguf_close(g);
    return iter;
}

/* ---- a run from start to end ---- */

static void check_files(void) {
    static const char *const files[] = {"config.yaml", "metrics.jsonl", "speed.jsonl",
                                        "model.gguf",  "ckpt.gguf",     "report.html"};
    char path[600];
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/%s", fix_path("run"), files[i]);
        if (!io_exists(path)) FAIL("no %s", files[i]);
        strcat(path, ".tmp");
        if (io_exists(path)) FAIL("%s is left", path);
    }
}

/* Each line of a log is a JSON object. */
static void check_lines(const char *name, int n) {
    StrBuf b = fix_read(name);
    int k = 0;
    for (char *p = b.p, *end; p && (end = strchr(p, '\n')); p = end + 1, k++) {
        Json *j = NULL;
        OK_(json_parse(&j, (Slice){p, (size_t)(end - p)}, TERR));
        TRUE_(json_is_object(j) && json_get(j, "iter"));
        json_free(j);
    }
    EQ(k, n);
    sb_deinit(&b);
}

TEST(a_run_leaves_its_files) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    size_t live = mem_live_bytes();
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(mem_live_bytes(), live);
    check_files();
    check_lines("metrics.jsonl", 4 + 2);
    check_lines("speed.jsonl", 4);
    EQ(h.n_plans, 1);
    EQ(h.n_steps, 4);
    EQ(h.n_evals, 2);
    EQ(r.iters, 4);
    TRUE_(r.best_iter == 2 || r.best_iter == 4);
    TRUE_(r.best_val == h.eval[1].best_val && r.last_loss == h.step[3].loss);
    FALSE_(r.stopped_early);
    TRUE_(strstr(r.model_path, "/run/model.gguf") && strstr(r.report_path, "/run/report.html"));
    EQ(h.plan.tok_per_step, 2 * 2 * 16);
    EQ(h.plan.max_iters, 4);
    EQ(h.plan.n_train_tok, 3000);
    EQ(h.plan.n_val_tok, 700);
    TRUE_(h.plan.tok_s > 0 && h.plan.peak_flops > 0 && h.plan.peak_bytes > h.plan.act_bytes);
    for (int i = 0; i < 4; i++) {
        EQ(h.step[i].iter, i + 1);
        TRUE_(h.step[i].loss > 0 && h.step[i].loss < 10 && h.step[i].grad_norm > 0);
        TRUE_(h.step[i].tok_s > 0 && h.step[i].step_ms > 0 && h.step[i].mfu >= 0);
    }
    NEAR(h.step[0].lr, 0.5e-2, 1e-12); /* warm-up of one step */
    NEAR(h.step[1].lr, 1e-2, 1e-12);
    fix_free(&f);
}

/* What a run wrote of its configuration configures the same run again. */
TEST(config_yaml_reads_back) {
    Fix f, g;
    Heard h = {0};
    TrainResult r;
    int n;
    const OptSpec *specs = train_options(&n);
    setup(&f);
    fix_set(&f, "name", "it's \"a: run\" # of mine");
    OK_(fix_run(&r, &f, &h, TERR));
    memset(&g, 0, sizeof g);
    OK_(opt_new(&g.o, specs, n, &g.c, TERR));
    char path[600];
    snprintf(path, sizeof path, "%s/config.yaml", fix_path("run"));
    OK_(opt_load_yaml(g.o, path, TERR));
    for (int i = 0; i < n; i++) {
        StrBuf a = {0}, b = {0};
        opt_format(f.o, specs[i].key, &a);
        opt_format(g.o, specs[i].key, &b);
        EQ_STR(sb_str(&a), sb_str(&b));
        sb_deinit(&a);
        sb_deinit(&b);
    }
    TRUE_(g.c.cpu == NULL);
    EQ_STR(g.c.name, f.c.name);
    fix_free(&f);
    fix_free(&g);
}

TEST(the_model_carries_its_tokenizer_and_runs) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    Device *d = NULL;
    Model *m = NULL;
    Tokenizer *t = NULL;
    setup(&f);
    fix_set(&f, "max_iters", "60");
    fix_set(&f, "eval_interval", "20");
    OK_(fix_run(&r, &f, &h, TERR));
    TRUE_(h.step[59].loss < 0.7 * h.step[0].loss); /* it learns */
    TRUE_(h.eval[2].val_loss < h.eval[0].val_loss);
    OK_(device_cpu_new(&d, &(DeviceOpts){.n_threads = 1}, TERR));
    OK_(model_load(&m, d, r.model_path, TERR));
    OK_(tok_load(&t, m->file, TERR));
    EQ(tok_n_vocab(t), m->cfg.V);
    tok_free(t);
    model_free(m);
    device_free(d);
    fix_free(&f);
}

TEST(steps_allocate_nothing) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "max_iters", "12");
    fix_set(&f, "eval_interval", "100");
    fix_set(&f, "dropout", "0.1");
    OK_(fix_run(&r, &f, &h, TERR));
    for (int i = 3; i < 11; i++) EQ(h.n_alloc[i], h.n_alloc[2]);
    fix_free(&f);
}

/* The same rows in other micro-batches: the same losses, and lines with the same bytes for the same run. */
TEST(micro_batches_do_not_matter) {
    Fix f;
    Heard a = {0}, b = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "batch_size", "4");
    fix_set(&f, "gradient_accumulation_steps", "1");
    OK_(fix_run(&r, &f, &a, TERR));
    StrBuf one = fix_read("metrics.jsonl");
    fix_set(&f, "overwrite", "true");
    OK_(fix_run(&r, &f, &b, TERR));
    StrBuf two = fix_read("metrics.jsonl");
    EQ_STR(one.p, two.p);
    fix_set(&f, "batch_size", "1");
    fix_set(&f, "gradient_accumulation_steps", "4");
    OK_(fix_run(&r, &f, &b, TERR));
    for (int i = 0; i < 4; i++) NEAR(a.step[i].loss, b.step[i].loss, 1e-5);
    sb_deinit(&one);
    sb_deinit(&two);
    fix_free(&f);
}

/* ---- validation and ends ---- */

TEST(without_validation_the_last_model_is_saved) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "eval_iters", "0");
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(h.n_evals, 0);
    EQ(r.best_iter, 0);
    TRUE_(isinf(r.best_val));
    EQ(saved_iter("model.gguf"), 4);
    check_files();
    fix_free(&f);
}

/* With a learning rate of zero no validation is better than the first. */
TEST(early_stop_counts_validations_without_a_best) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "min_lr", "0");
    fix_set(&f, "learning_rate", "0");
    fix_set(&f, "max_iters", "50");
    fix_set(&f, "early_stop", "3");
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(r.iters, 8); /* validations at 2 (best), 4, 6, 8 */
    EQ(r.best_iter, 2);
    TRUE_(r.stopped_early);
    EQ(saved_iter("model.gguf"), 2);
    EQ(saved_iter("ckpt.gguf"), 8);
    check_files();
    /* going on with it: it has ended, and stays as it is */
    StrBuf before = fix_read("metrics.jsonl");
    fix_set(&f, "resume", "true");
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(h.n_steps, 0);
    EQ(r.iters, 8);
    TRUE_(r.stopped_early);
    StrBuf after = fix_read("metrics.jsonl");
    EQ_STR(before.p, after.p);
    sb_deinit(&before);
    sb_deinit(&after);
    fix_free(&f);
}

TEST(always_save_checkpoint_keeps_the_last_model) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "min_lr", "0");
    fix_set(&f, "learning_rate", "0");
    fix_set(&f, "always_save_checkpoint", "true");
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(r.best_iter, 2);
    EQ(saved_iter("model.gguf"), 4);
    fix_free(&f);
}

TEST(train_seconds_chooses_the_steps) {
    Fix f;
    Heard h = {.stop_at = -1};
    TrainResult r;
    setup(&f);
    fix_set(&f, "train_seconds", "20");
    FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
    TRUE_(h.plan.max_iters > 20); /* far more than max_iters: 4 */
    NEAR(h.plan.seconds, 20.0, 1.0);
    EQ(h.step[0].max_iters, h.plan.max_iters);
    int64_t chosen = h.plan.max_iters;
    /* going on does not choose again */
    fix_set(&f, "resume", "true");
    h.stop_at = -1;
    FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
    EQ(h.plan.max_iters, chosen);
    EQ(h.plan.start_iter, 1);
    EQ(h.step[0].iter, 2);
    fix_free(&f);
}

/* ---- stopping, going on, starting over ---- */

TEST(stopped_runs_go_on_to_the_same_end) {
    static const char *const files[] = {"metrics.jsonl", "model.gguf", "ckpt.gguf"};
    Fix f;
    Heard h = {0};
    TrainResult r;
    StrBuf want[3];
    setup(&f);
    fix_set(&f, "max_iters", "6");
    fix_set(&f, "dropout", "0.2");
    OK_(fix_run(&r, &f, &h, TERR));
    for (int i = 0; i < 3; i++) want[i] = fix_read(files[i]);
    for (int stop = 1; stop < 6; stop++) {
        fix_set(&f, "overwrite", "true");
        fix_set(&f, "resume", "false");
        h.stop_at = stop;
        FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
        TRUE_(strstr(test_err.msg, "--resume"));
        EQ(saved_iter("ckpt.gguf"), stop);
        fix_set(&f, "resume", "true");
        h.stop_at = 0;
        OK_(fix_run(&r, &f, &h, TERR));
        EQ(h.plan.start_iter, stop);
        EQ(h.n_steps, 6 - stop);
        for (int i = 0; i < 3; i++) {
            StrBuf got = fix_read(files[i]);
            EQ(got.n, want[i].n);
            EQ_MEM(got.p, want[i].p, got.n);
            sb_deinit(&got);
        }
    }
    for (int i = 0; i < 3; i++) sb_deinit(&want[i]);
    fix_free(&f);
}

TEST(a_run_that_exists_is_left_alone) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    OK_(fix_run(&r, &f, &h, TERR));
    FAILS(ERR_ARG, fix_run(&r, &f, &h, TERR));
    TRUE_(strstr(test_err.msg, "--resume") && strstr(test_err.msg, "--overwrite"));
    fix_free(&f);
}

/* Starting over forgets the old run: its checkpoint must not be gone on with after a crash. */
TEST(overwriting_forgets_the_old_checkpoint) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(saved_iter("ckpt.gguf"), 4);
    fix_set(&f, "overwrite", "true");
    fix_set(&f, "checkpoint_interval", "1");
    h.stop_at = 1;
    FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
    EQ(h.step[0].iter, 1);
    EQ(saved_iter("ckpt.gguf"), 1);
    StrBuf b = fix_read("metrics.jsonl");
    EQ(lines_with(&b, "\"iter\""), 1);
    sb_deinit(&b);
    fix_free(&f);
}

TEST(resume_without_a_checkpoint_begins) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "init_from", "resume");
    OK_(fix_run(&r, &f, &h, TERR));
    TRUE_(strstr(h.notes, "no checkpoint yet"));
    EQ(h.n_steps, 4);
    OK_(fix_run(&r, &f, &h, TERR)); /* and now there is one */
    EQ(h.n_steps, 0);
    fix_free(&f);
}

TEST(init_from_a_file_goes_on_with_its_weights) {
    Fix f;
    Heard first = {0}, second = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "max_iters", "60");
    OK_(fix_run(&r, &f, &first, TERR));
    fix_set(&f, "init_from", r.model_path);
    fix_set(&f, "out_dir", fix_path("second"));
    fix_set(&f, "n_layer", "7"); /* the file says how the model is made */
    fix_set(&f, "max_iters", "2");
    OK_(fix_run(&r, &f, &second, TERR));
    EQ(second.plan.model.n_layer, 1);
    NEAR(second.step[0].loss, first.step[59].loss, 0.6);
    TRUE_(second.step[0].loss < 0.8 * first.step[0].loss);
    fix_free(&f);
}

/* ---- what is used instead ---- */

TEST(notes_say_what_is_used_instead) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    fix_set(&f, "device", "cuda");
    fix_set(&f, "compile", "true");
    fix_set(&f, "dtype", "float16");
    fix_set(&f, "max_iters", "1");
    OK_(fix_run(&r, &f, &h, TERR));
    EQ(h.n_notes, 3);
    TRUE_(strstr(h.notes, "device cuda") && strstr(h.notes, "compile") &&
          strstr(h.notes, "dtype float16"));
    fix_free(&f);
}

/* ---- refusals ---- */

static void refused(Fix *f, Status want, const char *a, const char *b) {
    Heard h = {0};
    TrainResult r;
    Err e = {0};
    size_t live = mem_live_bytes();
    Status st = fix_run(&r, f, &h, &e);
    if (st != want || !strstr(e.msg, a) || !strstr(e.msg, b))
        FAIL("status %d, message \"%s\", want %d, \"%s\", \"%s\"", (int)st, e.msg, (int)want, a, b);
    EQ(h.n_steps, 0);
    EQ(mem_live_bytes(), live);
}

TEST(data_that_is_not_there) {
    Fix f;
    setup(&f);
    fix_set(&f, "dataset", "/nowhere/at/all");
    refused(&f, ERR_NOT_FOUND, "/nowhere/at/all", "meta.json");
    FALSE_(io_exists(fix_path("run"))); /* nothing was begun */
    fix_set(&f, "dataset", fix_path("data"));
    OK_(io_remove(fix_path("data/tokenizer.gguf"), TERR));
    refused(&f, ERR_NOT_FOUND, "tokenizer.gguf", "");
    fix_free(&f);
}

TEST(data_that_is_too_short) {
    Fix f;
    setup(&f);
    fix_set(&f, "block_size", "700"); /* the validation shard has 700: 701 are needed */
    refused(&f, ERR_ARG, "val.bin: shard has 700 tokens", "701");
    fix_set(&f, "block_size", "3000");
    refused(&f, ERR_ARG, "train.bin: shard has 3000 tokens", "3001");
    fix_set(&f, "block_size", "700");
    fix_set(&f, "eval_iters", "0"); /* nobody needs it then */
    fix_set(&f, "batch_size", "1");
    fix_set(&f, "max_iters", "1");
    Heard h = {0};
    TrainResult r;
    OK_(fix_run(&r, &f, &h, TERR));
    fix_free(&f);
}

/* A kill in the middle of a line of speed.jsonl: the half line goes, the lines before it stay. */
TEST(half_a_line_of_the_speed_log) {
    Fix f;
    Heard h = {.stop_at = 2};
    TrainResult r;
    setup(&f);
    FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
    StrBuf log = fix_read("speed.jsonl");
    size_t whole = log.n;
    sb_puts(&log, "{\"iter\":3,\"tok");
    fix_put(fix_path("run/speed.jsonl"), log.p, log.n);
    fix_set(&f, "resume", "true");
    h.stop_at = 0;
    OK_(fix_run(&r, &f, &h, TERR));
    StrBuf now = fix_read("speed.jsonl");
    TRUE_(now.n > whole);
    EQ_MEM(now.p, log.p, whole);
    TRUE_(!strstr(now.p, "tok{") && strncmp(now.p + whole, "{\"iter\":", 8) == 0);
    sb_deinit(&log);
    sb_deinit(&now);
    fix_free(&f);
}

/* The same folder, prepared again with more tokens, would index past the embedding. */
TEST(a_vocabulary_that_grew) {
    Fix f;
    Heard h = {.stop_at = 2};
    TrainResult r;
    setup(&f);
    FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
    StrBuf meta = {0};
    OK_(io_read_file(&meta, fix_path("data/meta.json"), 1000, TERR));
    char *at = strstr(meta.p, "\"n_vocab\":");
    memcpy(at + 10, "999", 3);
    fix_put(fix_path("data/meta.json"), meta.p, meta.n);
    sb_deinit(&meta);
    fix_set(&f, "resume", "true");
    refused(&f, ERR_ARG, "vocabulary of", "999");
    fix_set(&f, "resume", "false");
    fix_set(&f, "init_from", r.model_path[0] ? r.model_path : fix_path("run/model.gguf"));
    fix_set(&f, "out_dir", fix_path("other"));
    refused(&f, ERR_ARG, "model.gguf", "999");
    fix_free(&f);
}

TEST(a_context_that_is_too_short) {
    Fix f;
    Heard h = {0};
    TrainResult r;
    setup(&f);
    OK_(fix_run(&r, &f, &h, TERR));
    fix_set(&f, "init_from", r.model_path);
    fix_set(&f, "out_dir", fix_path("other"));
    fix_set(&f, "block_size", "32");
    refused(&f, ERR_ARG, "context of 16", "block_size 32");
    fix_free(&f);
}

TEST(names_and_folders) {
    Fix f;
    char deep[600];
    setup(&f);
    f.c.out_dir = NULL;
    fix_set(&f, "name", "a/b");
    refused(&f, ERR_ARG, "a/b", "slash");
    fix_set(&f, "name", "..");
    refused(&f, ERR_ARG, "..", "dot");
    fix_set(&f, "name", "");
    refused(&f, ERR_ARG, "name", "empty");
    memset(deep, 'd', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    fix_set(&f, "name", deep);
    refused(&f, ERR_ARG, "dddd", "127 bytes");
    fix_set(&f, "name", "fine");
    fix_set(&f, "out_dir", deep);
    refused(&f, ERR_ARG, "out_dir has 599 bytes", "399");
    fix_set(&f, "out_dir", fix_path("run"));
    fix_set(&f, "dataset", deep);
    refused(&f, ERR_ARG, "dataset has 599 bytes", "at most");
    /* a slash at the end, as the shell completes it */
    snprintf(deep, sizeof deep, "%s///", fix_path("data"));
    f.c.name = NULL;
    fix_set(&f, "dataset", deep);
    Heard h = {0};
    TrainResult r;
    OK_(fix_run(&r, &f, &h, TERR));
    fix_free(&f);
}

/* Weights of 100 GB, and activations of as much, are refused before anything of that size is touched. */
TEST(memory_that_is_not_there) {
    Fix f;
    setup(&f);
    fix_set(&f, "n_layer", "512");
    fix_set(&f, "n_embd", "65536");
    fix_set(&f, "n_head", "1024");
    refused(&f, ERR_NOMEM, "this run needs", "the machine has");
    fix_set(&f, "n_layer", "40");
    fix_set(&f, "n_embd", "64");
    fix_set(&f, "n_head", "1");
    fix_set(&f, "batch_size", "65536");
    refused(&f, ERR_NOMEM, "lower batch_size 65536", "gradient_checkpointing");
    TRUE_(mem_peak_rss_bytes() < (size_t)600 << 20);
    fix_free(&f);
}

/* A checkpoint whose log is shorter than it says: something else has written there. */
TEST(a_log_that_was_cut) {
    Fix f;
    Heard h = {.stop_at = 2};
    TrainResult r;
    setup(&f);
    FAILS(ERR_CANCELLED, fix_run(&r, &f, &h, TERR));
    fix_put(fix_path("run/metrics.jsonl"), "{}\n", 3);
    fix_set(&f, "resume", "true");
    refused(&f, ERR_FORMAT, "metrics.jsonl", "");
    fix_free(&f);
}
