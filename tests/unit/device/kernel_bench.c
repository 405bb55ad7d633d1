/* SPDX-License-Identifier: Apache-2.0
 * The kernel bench: every slot gets a row with sane numbers, and nothing stays allocated. */
#include <math.h>

#include "base/mem.h"
#include "device/kernel_bench.h"
#include "test.h"

typedef struct Seen {
    int n_row, n_slot;
    bool slot[192];
} Seen;

static void on_row(void *ctx, const KernelBenchRow *row) {
    Seen *seen = ctx;
    const KernSlot *s = kern_slots(&seen->n_slot);
    seen->n_row++;
    for (int i = 0; i < seen->n_slot && i < 192; i++) {
        if (strcmp(s[i].name, row->slot) == 0) seen->slot[i] = true;
    }
    if (!(row->value > 0) || !(row->roof > 0) || !isfinite(row->share) || !row->shape[0]) {
        seen->n_row = -1000;
    }
}

TEST(bench_refuses_what_it_cannot_do) {
    FAILS(ERR_ARG, kernel_bench_run("quantum", true, on_row, NULL, TERR));
}

TEST(bench_has_a_row_for_every_slot) {
    Seen seen = {0};
    Kern k;
    size_t live = mem_live_bytes();
    OK_(kernel_bench_run(NULL, true, on_row, &seen, TERR));
    OK_(kern_init(&k, NULL, TERR));
    const KernSlot *s = kern_slots(&seen.n_slot);
    for (int i = 0; i < seen.n_slot; i++) {
        if (strcmp(s[i].name, "gemm_bf16") == 0 && !k.gemm_bf16.tile) continue;
        if (!seen.slot[i]) FAIL("no row for %s", s[i].name);
    }
    TRUE_(seen.n_row >= seen.n_slot - 1);
    EQ(mem_live_bytes(), live);
}
