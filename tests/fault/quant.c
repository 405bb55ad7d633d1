/* SPDX-License-Identifier: Apache-2.0
 * Quantizing with the n-th allocation or the n-th I/O call failing. */
#include <stdio.h>

#include "base/fault.h"
#include "base/io.h"
#include "quant/quant.h"
#include "test.h"

static char in[512], out[512], tmp[512], imatrix[512];

static void make_input(void) {
    static const uint64_t ne[] = {64, 8}, ne1[] = {64};
    static float x[64 * 8];
    GgufW *w = NULL;
    snprintf(in, sizeof in, "%s/in.gguf", test_tmpdir());
    snprintf(out, sizeof out, "%s/out.gguf", test_tmpdir());
    snprintf(tmp, sizeof tmp, "%s/out.gguf.tmp", test_tmpdir());
    OK_(gguf_w_new(&w, in, 32, false, TERR));
    gguf_w_str(w, "general.architecture", slice_of("llama"));
    gguf_w_tensor(w, slice_of("token_embd.weight"), DT_F32, 2, ne);
    gguf_w_tensor(w, slice_of("output_norm.weight"), DT_F32, 1, ne1);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_data(w, x, sizeof x, TERR));
    OK_(gguf_w_data(w, x, sizeof x[0] * 64, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

/* Importance for the one matrix. */
static void make_importance(void) {
    static const uint64_t ne[] = {64, 1}, ne1[] = {1, 1};
    float v[65];
    Slice set = slice_of("text");
    GgufW *w = NULL;
    snprintf(imatrix, sizeof imatrix, "%s/imatrix.gguf", test_tmpdir());
    for (int i = 0; i < 65; i++) v[i] = (float)i;
    OK_(gguf_w_new(&w, imatrix, 32, false, TERR));
    gguf_w_arr_str(w, "imatrix.datasets", &set, 1);
    gguf_w_u32(w, "imatrix.chunk_count", 1);
    gguf_w_tensor(w, slice_of("token_embd.weight.in_sum2"), DT_F32, 2, ne);
    gguf_w_tensor(w, slice_of("token_embd.weight.counts"), DT_F32, 2, ne1);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_data(w, v, 64 * sizeof *v, TERR));
    OK_(gguf_w_data(w, v + 64, sizeof *v, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

static Status plain(QuantStats *st, Err *e) {
    QuantOpts o = {.mix = quant_mix_find("q8_0"), .n_threads = 2};
    return quant_file(st, in, out, &o, e);
}

static Status with_everything(QuantStats *st, Err *e) {
    Imat *m = NULL;
    QuantOverride over = {"token", DT_Q5_1};
    TRY(imat_load(&m, imatrix, e));
    QuantOpts o = {.mix = quant_mix_find("q4_0"),
                   .n_threads = 2,
                   .best = true,
                   .imat = m,
                   .overrides = &over,
                   .n_overrides = 1};
    Status s = quant_file(st, in, out, &o, e);
    imat_free(m);
    return s;
}

static void sweep(FaultKind kind, Status (*run)(QuantStats *st, Err *e)) {
    QuantStats st;
    int n_failed = 0;
    make_input();
    make_importance();
    OK_(run(&st, TERR)); /* what is made once and kept is made here */
    for (uint64_t n = 1;; n++) {
        if (io_exists(out)) OK_(io_remove(out, TERR));
        size_t live = mem_live_bytes();
        fault_arm(kind, n);
        Status s = run(&st, TERR);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), live);
        FALSE_(io_exists(tmp));
        if (!fired) {
            EQ(s, OK);
            break;
        }
        n_failed += s != OK;
        if (s != OK) TRUE_(test_err.msg[0] != 0);
    }
    TRUE_(n_failed > 3);
}

TEST(allocations) { sweep(FAULT_ALLOC, plain); }
TEST(io_calls) { sweep(FAULT_IO, plain); }
TEST(allocations_with_everything) { sweep(FAULT_ALLOC, with_everything); }
TEST(io_calls_with_everything) { sweep(FAULT_IO, with_everything); }
