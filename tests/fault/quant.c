/* SPDX-License-Identifier: Apache-2.0
 * Quantizing with the n-th allocation or the n-th I/O call failing. */
#include <stdio.h>

#include "base/fault.h"
#include "base/io.h"
#include "quant/quant.h"
#include "test.h"

static char in[512], out[512], tmp[512];

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

static void sweep(FaultKind kind) {
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q8_0"), .n_threads = 2};
    int n_failed = 0;
    make_input();
    OK_(quant_file(&st, in, out, &o, TERR)); /* what is made once and kept is made here */
    for (uint64_t n = 1;; n++) {
        if (io_exists(out)) OK_(io_remove(out, TERR));
        size_t live = mem_live_bytes();
        fault_arm(kind, n);
        Status s = quant_file(&st, in, out, &o, TERR);
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

TEST(allocations) { sweep(FAULT_ALLOC); }
TEST(io_calls) { sweep(FAULT_IO); }
