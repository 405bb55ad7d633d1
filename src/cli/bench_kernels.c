/* SPDX-License-Identifier: Apache-2.0
 * ingot bench --kernels: which level's code each slot of the kernel table runs. */
#include <stdio.h>

#include "cli/bench.h"
#include "kernel/kernel.h"

int cli_bench_kernels(const BenchCmd *c) {
    Err e = {0};
    Kern kern;
    int n;
    const KernSlot *slots = kern_slots(&n);
    if (kern_init(&kern, c->cpu, &e) != OK) return cli_fail(&e);
    for (int i = 0; i < n; i++)
        printf("%-16s %s\n", slots[i].name, kern_level_name(kern_slot_level(&kern, &slots[i])));
    return cli_flush_stdout();
}
