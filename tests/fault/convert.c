/* SPDX-License-Identifier: Apache-2.0
 * Every allocation and every I/O call of a conversion fails once: the failure comes back with a message,
 * nothing stays allocated, and no file is half there. */
#include "test.h"

#include <stdio.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "quant/convert.h"

typedef struct Case {
    const char *dir, *type;
    char out[300], plain[320];
} Case;

static Status convert(const Case *c, Err *e) {
    QuantConverted st;
    QuantConvertOpts o = {.type = c->type};
    Status s = quant_convert(&st, c->dir, c->out, &o, e);
    if (s == OK) quant_converted_deinit(&st);
    return s;
}

/* A whole file, or none. What was between stays only where removing it is what failed. */
static int look(const Case *c, bool ok) {
    Gguf *g = NULL;
    int left = io_exists(c->plain);
    if (left) OK_(io_remove(c->plain, TERR));
    if (ok) EQ(left, 0);
    if (!io_exists(c->out)) return left;
    OK_(gguf_open(&g, c->out, TERR));
    gguf_close(g);
    OK_(io_remove(c->out, TERR));
    return left;
}

static void sweep(FaultKind kind, const Case *c, uint64_t at_least) {
    int left = 0;
    for (uint64_t n = 1; n < 5000; n++) {
        Err e = {0};
        size_t live = mem_live_bytes();
        fault_arm(kind, n);
        Status st = convert(c, &e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > at_least);
            look(c, true);
            TRUE_(left <= 1);
            return;
        }
        bool may_succeed =
            !strcmp(c->type, "q8_0"); /* threads that do not start are done without */
        if (st == OK ? !may_succeed : !e.msg[0])
            FAIL("fault %d: status %d, message \"%s\"", (int)n, (int)st, e.msg);
        left += look(c, false);
    }
    FAIL("no run without a fault in 5000");
}

static void sweep_both(const char *dir, const char *type) {
    Case c = {.dir = dir, .type = type};
    snprintf(c.out, sizeof c.out, "%s/out.gguf", test_tmpdir());
    snprintf(c.plain, sizeof c.plain, "%s.plain", c.out);
    sweep(FAULT_ALLOC, &c, 100);
    sweep(FAULT_IO, &c, 10);
}

static Status convert_adapter(const char *out, Err *e) {
    QuantAdapter st;
    QuantConvertOpts o = {.type = "f16"};
    return quant_convert_adapter(&st, "tests/golden/packed/adapter", "tests/golden/hf/llama", out,
                                 &o, e);
}

TEST(adapter_with_faults) {
    char out[300];
    snprintf(out, sizeof out, "%s/a.gguf", test_tmpdir());
    for (int kind = FAULT_ALLOC; kind <= FAULT_IO; kind++) {
        uint64_t n = 1;
        for (bool fired = true; fired; n++) {
            Err e = {0};
            size_t live = mem_live_bytes();
            fault_arm((FaultKind)kind, n);
            Status st = convert_adapter(out, &e);
            fired = fault_fired((FaultKind)kind);
            fault_arm((FaultKind)kind, 0);
            EQ(mem_live_bytes(), live);
            if (fired ? st == OK || !e.msg[0] : st != OK)
                FAIL("fault %d: status %d, message \"%s\"", (int)n, (int)st, e.msg);
            TRUE_(n < 5000);
        }
        TRUE_(n > 10);
    }
}

TEST(packed_by_awq_with_faults) { sweep_both("tests/golden/packed/awq", "q8_0"); }
TEST(packed_by_gptq_with_faults) { sweep_both("tests/golden/packed/gptq", "f16"); }
TEST(packed_by_bitsandbytes_with_faults) { sweep_both("tests/golden/packed/nf4", "f32"); }
TEST(several_files_with_faults) { sweep_both("tests/golden/hf/llama", "auto"); }
TEST(one_file_to_another_type_with_faults) { sweep_both("tests/golden/hf/gpt2", "f32"); }
TEST(blocks_with_faults) { sweep_both("tests/golden/hf/qwen3", "q8_0"); }
