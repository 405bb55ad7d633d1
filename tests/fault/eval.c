/* SPDX-License-Identifier: Apache-2.0
 * Perplexity with the n-th allocation failing. */
#include "base/fault.h"
#include "base/mem.h"
#include "eval/perplexity.h"
#include "support/tiny_model.h"
#include "test.h"

TEST(allocations) {
    TinyModel t = tiny_model_new("llama", 50, 64, NULL, 1);
    EvalPplOpts o = {.ctx = 32, .n_threads = 2};
    EvalPpl r;
    int32_t ids[100] = {0};
    int n_failed = 0;
    OK_(eval_perplexity(&r, t.m, ids, 100, &o,
                        TERR)); /* the model's room, which it keeps, is made here */
    for (uint64_t n = 1;; n++) {
        size_t live = mem_live_bytes();
        fault_arm(FAULT_ALLOC, n);
        Status st = eval_perplexity(&r, t.m, ids, 100, &o, TERR);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            break;
        }
        EQ(st, ERR_NOMEM);
        TRUE_(test_err.msg[0] != 0);
        n_failed++;
    }
    TRUE_(n_failed >= 5);
    tiny_model_free(&t);
}
