/* SPDX-License-Identifier: Apache-2.0
 * The n-th allocation and the n-th call to the system fail while a report is written: there are words, no
 * leak, and the page from before is whole. */
#include "train/report.h"

#include <stdio.h>

#include "base/fault.h"
#include "base/io.h"
#include "test.h"

static char path[300];

static void put(const char *name, const char *text) {
    IoWriter w;
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
}

static void fixture(void) {
    put("metrics.jsonl", "{\"iter\":0,\"loss\":3,\"lr\":0.1,\"grad_norm\":1,\"tokens\":10}\n"
                         "{\"iter\":1,\"train_loss\":2.5,\"val_loss\":2.75,\"best\":true}\n");
    put("speed.jsonl", "{\"iter\":0,\"tok_s\":5,\"mfu\":0.1,\"elapsed_s\":1}\n");
    put("config.yaml", "name: x\n");
    put("report.html", "before");
}

static void sweep(FaultKind kind) {
    size_t live = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        put("report.html", "before");
        fault_arm(kind, n);
        Status st = train_report_write(test_tmpdir(), &e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > 4);
            return;
        }
        if (st == OK) FAIL("fault %llu went off and nobody said so", (unsigned long long)n);
        TRUE_(e.msg[0] != 0);
        StrBuf b = {0};
        OK_(io_read_file(&b, path, 1 << 20, TERR));
        TRUE_(!strcmp(b.p, "before") || strstr(b.p, "</html>"));
        sb_deinit(&b);
    }
}

TEST(allocations) {
    fixture();
    sweep(FAULT_ALLOC);
}

TEST(system_calls) {
    fixture();
    sweep(FAULT_IO);
}
