/* SPDX-License-Identifier: Apache-2.0
 * Every allocation of the kernel bench fails once. */
#include "base/fault.h"
#include "base/mem.h"
#include "device/kernel_bench.h"
#include "test.h"

static void on_row(void *ctx, const KernelBenchRow *row) {
    (void)row;
    ++*(int *)ctx;
}

/* Four allocations, then rows begin; the whole run is tests/unit/device/kernel_bench.c's. */
TEST(kernel_bench_every_allocation_fails) {
    enum { N_ALLOC = 4 };
    size_t live = mem_live_bytes();
    for (uint64_t n = 1; n <= N_ALLOC; n++) {
        int rows = 0;
        fault_arm(FAULT_ALLOC, n);
        Status st = kernel_bench_run(NULL, true, on_row, &rows, TERR);
        fault_arm(FAULT_ALLOC, 0);
        TRUE_(fault_fired(FAULT_ALLOC));
        EQ(st, ERR_NOMEM);
        TRUE_(test_err.msg[0] != 0);
        EQ(rows, 0);
        EQ(mem_live_bytes(), live);
    }
}
