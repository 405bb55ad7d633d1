/* SPDX-License-Identifier: Apache-2.0
 * Every allocation and every I/O call of reading and writing GGUF fails once: the failure comes
 * back with a message, nothing stays allocated, and a file that was to be replaced is the old
 * one. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/io.h"
#include "format/gguf.h"
#include "support/gguf_build.h"

/* One run of the thing under test. ctx is its own. */
typedef Status (*Step)(void *ctx, Err *e);
/* Look at the state after a failed run. */
typedef void (*After)(void *ctx);

/* Fail call n = 1, 2, ... of this kind until a run gets through without reaching it. */
static void sweep(FaultKind kind, Step step, After after, void *ctx, uint64_t at_least) {
    for (uint64_t n = 1; n < 1000; n++) {
        Err e = {0};
        size_t live = mem_live_bytes();
        fault_arm(kind, n);
        Status st = step(ctx, &e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > at_least);
            return;
        }
        if (st == OK || !e.msg[0])
            FAIL("fault %d: status %d, message \"%s\"", (int)n, (int)st, e.msg);
        if (after) after(ctx);
    }
    FAIL("no run without a fault in 1000");
}

/* ---- reading ---- */

static Status open_bytes(void *ctx, Err *e) {
    const Blob *b = ctx;
    Gguf *g = NULL;
    Status st = gguf_open_bytes(&g, b->p, b->n, e);
    if (st != OK) TRUE_(g == NULL);
    gguf_close(g);
    return st;
}

TEST(open_bytes_without_memory) {
    for (int i = 0; i < BLOB_SEEDS; i++) {
        Blob b = {0};
        blob_seed(&b, i);
        sweep(FAULT_ALLOC, open_bytes, NULL, &b, 4);
        blob_free(&b);
    }
}

static Status open_file(void *ctx, Err *e) {
    Gguf *g = NULL;
    Status st = gguf_open(&g, ctx, e);
    gguf_close(g);
    return st;
}

TEST(open_file_with_faults) {
    char path[256];
    Blob b = {0};
    blob_seed(&b, 2);
    snprintf(path, sizeof path, "%s/a.gguf", test_tmpdir());
    FILE *f = fopen(path, "wb");
    fwrite(b.p, 1, b.n, f);
    fclose(f);
    sweep(FAULT_ALLOC, open_file, NULL, path, 5);
    sweep(FAULT_IO, open_file, NULL, path, 2);
    blob_free(&b);
}

/* A refusal without memory for its words still is the refusal. */
static Status refuse(void *ctx, Err *e) {
    Status st = open_bytes(ctx, e);
    if (st == ERR_NOMEM) return st;
    EQ(st, ERR_FORMAT);
    TRUE_(strstr(e->msg, "overlap"));
    return fault_fired(FAULT_ALLOC) ? st : OK;
}

TEST(refusal_without_memory) {
    Blob b = {0};
    blob_head(&b, 3, 2, 0);
    blob_tensor_1d(&b, "a", 9, DT_F32, 0);
    blob_tensor_1d(&b, "b", 8, DT_F32, 32);
    blob_data(&b, 32, 64);
    sweep(FAULT_ALLOC, refuse, NULL, &b, 6);
    blob_free(&b);
}

/* A typed read that fails, and the text of a value. */
static Status read_wrong(void *ctx, Err *e) {
    StrBuf text = {0};
    int64_t i = 0;
    Status st = gguf_get_int(&i, ctx, "general.alignment", 1, 2, e);
    EQ(st, ERR_FORMAT);
    TRUE_(strstr(e->msg, "out of range, limit 1 to 2"));
    gguf_format_value(gguf_kv_at(ctx, 0), &text);
    sb_deinit(&text);
    return fault_fired(FAULT_ALLOC) ? st : OK;
}

TEST(typed_read_without_memory) {
    Blob b = {0};
    Gguf *g = NULL;
    blob_seed(&b, 1);
    OK_(gguf_open_bytes(&g, b.p, b.n, TERR));
    sweep(FAULT_ALLOC, read_wrong, NULL, g, 3);
    gguf_close(g);
    blob_free(&b);
}

/* ---- writing ---- */

typedef struct WriteCase {
    char path[256];
    bool atomic;
} WriteCase;

/* 40 keys and tensors, so that every table grows. */
static void declare(GgufW *w) {
    char name[16];
    const Slice strs[] = {{"one", 3}, {"two", 3}};
    gguf_w_arr_str(w, "strs", strs, 2);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "n%d", i);
        gguf_w_i32(w, name, i);
        gguf_w_tensor(w, slice_of(name), DT_F32, 1, (const uint64_t[]){1});
    }
    gguf_w_str(w, "n7",
               slice_of("a longer value in the place of a number, so that it must grow, too"));
}

static Status write_file(void *ctx, Err *e) {
    const WriteCase *c = ctx;
    GgufW *w = NULL;
    float x = 1;
    Status st = gguf_w_new(&w, c->path, 64, c->atomic, e);
    if (st != OK) return st;
    declare(w);
    st = gguf_w_begin(w, e);
    for (int i = 0; st == OK && i < 40; i++) st = gguf_w_data(w, &x, sizeof x, e);
    if (st == OK) st = gguf_w_end(w, e);
    gguf_w_free(w);
    return st;
}

/* The old file or, where only the folder could not be synced, the whole new one; no temporary
 * file. */
static void old_or_new(void *ctx) {
    const WriteCase *c = ctx;
    StrBuf b = {0};
    char tmp[300];
    snprintf(tmp, sizeof tmp, "%s.tmp", c->path);
    FALSE_(io_exists(tmp));
    OK_(io_read_file(&b, c->path, 1 << 20, TERR));
    if (b.n != 3) {
        Gguf *g = NULL;
        OK_(gguf_open(&g, c->path, TERR));
        EQ(gguf_n_tensors(g), 40);
        gguf_close(g);
    }
    sb_deinit(&b);
    FILE *f = fopen(c->path, "wb");
    fputs("old", f);
    fclose(f);
}

TEST(write_with_faults) {
    for (int atomic = 0; atomic < 2; atomic++) {
        WriteCase c = {.atomic = atomic};
        snprintf(c.path, sizeof c.path, "%s/w.gguf", test_tmpdir());
        FILE *f = fopen(c.path, "wb");
        fputs("old", f);
        fclose(f);
        sweep(FAULT_ALLOC, write_file, atomic ? old_or_new : NULL, &c, 120);
        sweep(FAULT_IO, write_file, atomic ? old_or_new : NULL, &c, 3);
    }
}

/* A disk that is full in the middle of a large tensor. */
static Status write_large(void *ctx, Err *e) {
    const WriteCase *c = ctx;
    static float x[1 << 18];
    GgufW *w = NULL;
    Status st = gguf_w_new(&w, c->path, 32, true, e);
    if (st != OK) return st;
    gguf_w_tensor(w, slice_of("large"), DT_F32, 2, (const uint64_t[]){COUNT_OF(x), 8});
    st = gguf_w_begin(w, e);
    for (int i = 0; st == OK && i < 8; i++) st = gguf_w_data(w, x, sizeof x, e);
    if (st == OK) st = gguf_w_end(w, e);
    gguf_w_free(w);
    return st;
}

static void no_file(void *ctx) {
    const WriteCase *c = ctx;
    Gguf *g = NULL;
    if (!io_exists(c->path)) return;
    OK_(gguf_open(&g, c->path,
                  TERR)); /* it was put in place whole before the folder failed to sync */
    gguf_close(g);
    OK_(io_remove(c->path, TERR));
}

TEST(write_large_with_faults) {
    WriteCase c = {.atomic = true};
    snprintf(c.path, sizeof c.path, "%s/large.gguf", test_tmpdir());
    sweep(FAULT_IO, write_large, no_file, &c, 10);
}
