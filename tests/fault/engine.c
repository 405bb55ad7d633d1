/* SPDX-License-Identifier: Apache-2.0
 * Starting an engine and submitting to it with the n-th allocation failing. */
#include "engine/engine.h"

#include "base/fault.h"
#include "base/mem.h"
#include "test.h"
#include "support/tiny_model.h"

/* At least so many allocations. */
static void new_with(TinyModel t, EngineOpts o, int least) {
    Engine *en = NULL;
    OK_(engine_new(&en, t.m, &o, TERR)); /* the model's own room, which it keeps, is made here */
    engine_free(en);
    int n_failed = 0;
    for (uint64_t n = 1;; n++) {
        size_t live = mem_live_bytes();
        fault_arm(FAULT_ALLOC, n);
        Status st = engine_new(&en, t.m, &o, TERR);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        if (st == OK) engine_free(en);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            break;
        }
        EQ(st, ERR_NOMEM);
        TRUE_(test_err.msg[0] != 0);
        n_failed++;
    }
    TRUE_(n_failed >= least);
}

TEST(engine_new_allocations) {
    TinyModel t = tiny_model_new("llama", 50, 64, NULL, 1);
    TinyModel d = tiny_model_new("llama", 50, 64, NULL, 2);
    new_with(t, (EngineOpts){.max_seqs = 2, .prefill_chunk = 8}, 8);
    new_with(t, (EngineOpts){.max_seqs = 2, .prefill_chunk = 8, .draft = d.m}, 10);
    tiny_model_free(&d);
    tiny_model_free(&t);
}

TEST(submit_allocations) {
    TinyModel t = tiny_model_new("llama", 50, 64, NULL, 1);
    EngineOpts o = {.max_seqs = 2, .prefill_chunk = 8};
    Engine *en = NULL;
    int32_t ids[3] = {1, 2, 3};
    EngineReq r = {.prompt = ids, .n_prompt = 3, .max_new = 4, .sample = {.top_p = 1}};
    OK_(engine_new(&en, t.m, &o, TERR));
    fault_arm(FAULT_ALLOC, 1);
    Status st = engine_submit(en, &r, NULL, TERR);
    fault_arm(FAULT_ALLOC, 0);
    EQ(st, ERR_NOMEM);
    EQ(engine_stats(en).n_waiting, 0);
    OK_(engine_submit(en, &r, NULL, TERR));
    engine_free(en);
    tiny_model_free(&t);
}
