/* SPDX-License-Identifier: Apache-2.0
 * The n-th allocation and the n-th call to the system fail, for n = 1, 2, ... until none is
 * left to fail: each time there are words and no leak. */
#include "base/fault.h"
#include "data/internal.h"
#include "test.h"

#include <stdio.h>

static char dir[128], docs[160], out[160], out_dir[160];

static void put(const char *name, const char *text) {
    char path[200];
    IoWriter w;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
}

static void fixture(void) {
    snprintf(dir, sizeof dir, "%s/src", test_tmpdir());
    snprintf(docs, sizeof docs, "%s/docs.jsonl", dir);
    snprintf(out, sizeof out, "%s/out.jsonl", test_tmpdir());
    snprintf(out_dir, sizeof out_dir, "%s/set", test_tmpdir());
    OK_(io_mkdirs(dir, TERR));
    put("a.py", "def first(): return 'a text of its own'\n");
    put("b.py", "class Second: pass # and another text, quite different\n");
    put("c.py", "class Second: pass # and another text, quite different\n");
    put("docs.jsonl",
        "{\"path\": \"a\", \"text\": \"one text\"}\n{\"path\": \"b\", \"text\": \"another text\"}\n"
        "{\"path\": \"c\", \"text\": \"the third\"}\n");
}

static void nothing(void) {}

static void expect_clean(Status st, const Err *e, size_t live, uint64_t n, const char *what) {
    if (st != OK && !e->msg[0]) FAIL("%s, n = %llu: no words", what, (unsigned long long)n);
    if (mem_live_bytes() != live) {
        FAIL("%s, n = %llu: %zu bytes held, %zu before", what, (unsigned long long)n,
             mem_live_bytes(), live);
    }
}

/* Calls step with the n-th fault armed until it does not go off. A fault that was survived must
 * show. */
static void sweep(FaultKind kind, const char *what, Status (*step)(Err *e, bool *shows),
                  void (*after)(void)) {
    size_t live = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        bool shows = false;
        fault_arm(kind, n);
        Status st = step(&e, &shows);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        expect_clean(st, &e, live, n, what);
        after();
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > 3);
            return;
        }
        if (st == OK && !shows)
            FAIL("%s, n = %llu: the fault went unnoticed", what, (unsigned long long)n);
        if (n > 20000) FAIL("%s: no end", what);
    }
}

/* A file that cannot be read is counted, not fatal. */
static Status step_collect(Err *e, bool *shows) {
    const char *dirs[] = {dir};
    CollectStats st;
    CollectOpts o = {.dirs = {dirs, 1}, .min_chars = 10, .max_bytes = 1000, .near_dup = 0.8};
    Status s = data_collect(&st, &o, out, e);
    *shows = st.n_skip[SKIP_UNREADABLE] > 0;
    return s;
}

TEST(collect_survives_every_fault) {
    fixture();
    sweep(FAULT_ALLOC, "collect, alloc", step_collect, nothing);
    sweep(FAULT_IO, "collect, io", step_collect, nothing);
}

static Status step_docs(Err *e, bool *shows) {
    DocReader *r = NULL;
    Slice path, text;
    bool more = true;
    (void)shows;
    Status st = data_docs_open(&r, docs, e);
    while (st == OK && more) st = data_docs_next(r, &more, &path, &text, e);
    data_docs_close(r);
    return st;
}

TEST(docs_survive_every_fault) {
    fixture();
    sweep(FAULT_IO, "docs, io", step_docs, nothing);
}

static Tokenizer *tokenizer;

static void train(void) {
    TokTrainer *tr = NULL;
    TokTrainOpts o = {.n_vocab = 260};
    OK_(tok_train_new(&tr, &o, TERR));
    OK_(tok_train_add(tr, slice_of("another text for the third text"), TERR));
    OK_(tok_train_finish(tr, &tokenizer, TERR));
    tok_train_free(tr);
}

static Status step_prepare(Err *e, bool *shows) {
    PrepareStats st;
    PrepareOpts o = {.val_share = 0.1, .n_threads = 1};
    (void)shows;
    return data_prepare(&st, &o, tokenizer, docs, out_dir, e);
}

/* Whatever failed: the folder is either a whole data set or none. */
static void after_prepare(void) {
    Shard s;
    for (int p = 0; p < 2; p++) {
        Status st = data_shard_open(&s, out_dir, data__part_name[p], TERR);
        if (st == OK) data_shard_close(&s);
        else EQ(st, ERR_NOT_FOUND);
    }
}

TEST(prepare_survives_every_fault) {
    fixture();
    train();
    sweep(FAULT_ALLOC, "prepare, alloc", step_prepare, after_prepare);
    sweep(FAULT_IO, "prepare, io", step_prepare, after_prepare);
    tok_free(tokenizer);
}

static Status step_shard(Err *e, bool *shows) {
    Shard s = {0};
    int32_t id;
    (void)shows;
    Status st = data_shard_open(&s, out_dir, "train", e);
    if (st == OK) st = data_shard_read(&s, 0, &id, 1, e);
    data_shard_close(&s);
    return st;
}

TEST(shard_survives_every_fault) {
    Err e = {0};
    bool shows;
    fixture();
    train();
    EQ(step_prepare(&e, &shows), OK);
    sweep(FAULT_ALLOC, "shard, alloc", step_shard, nothing);
    sweep(FAULT_IO, "shard, io", step_shard, nothing);
    tok_free(tokenizer);
}
