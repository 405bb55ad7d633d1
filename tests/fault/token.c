/* SPDX-License-Identifier: Apache-2.0
 *
 * The n-th allocation fails, for n = 1, 2, ... until none is left to fail: each time there are words, no
 * leak, and nothing half-made.
 */
#include "base/fault.h"
#include "support/vocab_build.h"
#include "test.h"
#include "text/json.h"
#include "text/regex.h"

typedef Status (*Step)(Err *e);

/* With `survives`, a step may do without what it did not get. */
static void sweep(const char *what, Step step, bool survives) {
    size_t live = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = step(&e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (mem_live_bytes() != live)
            FAIL("%s, n = %llu: %zu bytes more", what, (unsigned long long)n,
                 mem_live_bytes() - live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > 1);
            return;
        }
        if (st == OK && survives) continue;
        if (st == OK) FAIL("%s, n = %llu: the fault went unnoticed", what, (unsigned long long)n);
        if (!e.msg[0]) FAIL("%s, n = %llu: no words", what, (unsigned long long)n);
        EQ(st, ERR_NOMEM);
    }
}

static Blob image;
static Tokenizer *tok;

static Status step_load(Err *e) {
    Gguf *g = NULL;
    Tokenizer *t = NULL;
    Status st = gguf_open_bytes(&g, image.p, image.n, e);
    if (st == OK) st = tok_load(&t, g, e);
    gguf_close(g);
    tok_free(t);
    return st;
}

TEST(fault_tok_load) {
    vocab_build(&image, &vocab_small);
    sweep("load", step_load, false);
    blob_free(&image);
}

TEST(fault_tok_load_scores) {
    spm_build(&image, &spm_small);
    sweep("load with scores", step_load, false);
    blob_free(&image);
}

/* The JSON library allocates by itself. */
static Status step_json_vocab(Err *e) {
    static const char json[] =
        "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
        "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a+\"},\"behavior\":"
        "\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false}]},\"added_tokens\":[{"
        "\"id\":3,\"content\":\"  \",\"lstrip\":true}],\"model\":{\"vocab\":{\"a\":0,\"b\":1,"
        "\"ab\":2},\"merges\":[[\"a\",\"b\"]]}}";
    Tokenizer *t = NULL;
    TokBuf ids = {0};
    Status st = tok_load_json(&t, slice_of(json), (Slice){NULL, 0}, e);
    if (st == OK) st = tok_encode(t, slice_of("aba\u0308  b"), true, &ids, e);
    tokbuf_deinit(&ids);
    tok_free(t);
    return st;
}

TEST(fault_tok_json) { sweep("tokenizer.json", step_json_vocab, true); }

static char text[9000];

static Status step_encode(Err *e) {
    TokBuf ids = {0};
    tokbuf_push(&ids, 7);
    Status st = ids.failed ? err_set(e, ERR_NOMEM, "push") : OK;
    if (st == OK) st = tok_encode(tok, (Slice){text, sizeof text}, true, &ids, e);
    if (st == OK) EQ(ids.v[0], 7);
    if (st != OK && ids.n > 1) st = OK; /* reported by the sweep: output changed by a failed call */
    tokbuf_deinit(&ids);
    return st;
}

TEST(fault_tok_encode) {
    OK_(vocab_build_load(&tok, &vocab_small, TERR));
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i < 5000 ? "the cat <|end|>\xff "[i % 17] : 'a';
    sweep("encode", step_encode, false);
    tok_free(tok);
}

/* Special tokens that overlap are cut out of a list. */
TEST(fault_tok_encode_overlapping) {
    SpmSpec s = spm_small;
    s.tokens[15] = "  ";
    s.types[15] = TOK_USER_DEFINED;
    s.tokens[16] = "   ";
    s.types[16] = TOK_USER_DEFINED;
    OK_(spm_build_load(&tok, &s, TERR));
    for (size_t i = 0; i < sizeof text; i++) text[i] = "the     cat  "[i % 13];
    sweep("encode, overlapping", step_encode, false);
    tok_free(tok);
}

static Status step_decode(Err *e) {
    static const int32_t ids[] = {257, 258, 261, 264};
    StrBuf out = {0};
    Status st = tok_decode(tok, ids, COUNT_OF(ids), &out, e);
    sb_deinit(&out);
    return st;
}

TEST(fault_tok_decode) {
    OK_(vocab_build_load(&tok, &vocab_small, TERR));
    sweep("decode", step_decode, false);
    tok_free(tok);
}

static Status train_on(int n_threads, Err *e) {
    TokTrainer *tr = NULL;
    Tokenizer *t = NULL;
    Status st = tok_train_new(&tr, &(TokTrainOpts){.n_vocab = 300, .n_threads = n_threads}, e);
    if (st == OK)
        st =
            tok_train_add(tr, slice_of("the cat sat on the mat with another cat, aaaaaaaaaaaa"), e);
    if (st == OK) st = tok_train_finish(tr, &t, e);
    tok_train_free(tr);
    tok_free(t);
    return st;
}

static Status step_train(Err *e) { return train_on(1, e); }
static Status step_train_parallel(Err *e) { return train_on(2, e); }

TEST(fault_tok_train) { sweep("train", step_train, false); }
TEST(fault_tok_train_parallel) { sweep("train on two threads", step_train_parallel, false); }

static Status step_regex(Err *e) {
    Regex *r = NULL;
    RegexScratch *sc = NULL;
    Status st = regex_new(&r, "[^\\s\\p{Zs}]+|\\p{Zl}", e);
    if (st == OK) st = regex_scratch_new(&sc, r, e);
    regex_scratch_free(sc);
    regex_free(r);
    return st;
}

/* A pattern that the JIT has no memory for is interpreted. */
TEST(fault_regex) { sweep("regex", step_regex, true); }

static Status step_json(Err *e) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_str(&w, "k", (Slice){"a\xff", 2});
    for (int i = 0; i < 100; i++) jw_int(&w, "n", i);
    jw_end_obj(&w);
    Status st = sb_check(&b, e);
    sb_deinit(&b);
    return st;
}

TEST(fault_json_writer) { sweep("json", step_json, false); }
