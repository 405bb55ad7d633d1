/* SPDX-License-Identifier: Apache-2.0
 * ingot bench --kernels: each slot of the kernel table on one thread, and how near it comes to what the
 * processor can do (device/kernel_bench.h measures). */
#include <stdio.h>

#include "cli/bench.h"
#include "device/kernel_bench.h"

static void print_row(void *ctx, const KernelBenchRow *r) {
    (void)ctx;
    printf("  %-16s %-7s %-24s %9.2f %-8s %5.1f%% of %.4g (%s)\n", r->slot, r->level, r->shape,
           r->value, r->unit, 100 * r->share, r->roof, r->roof_name);
    fflush(stdout);
}

static void put_json(void *ctx, const KernelBenchRow *r) {
    StrBuf b = {0};
    JsonW w;
    int *rc = ctx;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "kernel");
    jw_cstr(&w, "slot", r->slot);
    jw_cstr(&w, "level", r->level);
    jw_cstr(&w, "shape", r->shape);
    jw_int(&w, "threads", 1);
    jw_num(&w, "value", cli_bench_round(r->value));
    jw_cstr(&w, "unit", r->unit);
    jw_cstr(&w, "roof_name", r->roof_name);
    jw_num(&w, "roof", cli_bench_round(r->roof));
    jw_num(&w, "roof_share", cli_bench_round(100 * r->share));
    jw_end_obj(&w);
    if (*rc == CLI_OK) *rc = cli_print_json(&b);
    sb_deinit(&b);
}

int cli_bench_kernels(const BenchCmd *c) {
    Err e = {0};
    int rc = CLI_OK;
    if (!c->json)
        printf("  %-16s %-7s %-24s %9s %-8s %s\n", "kernel", "level", "size", "best", "",
               "share of the roof, one thread");
    if (kernel_bench_run(c->cpu, false, c->json ? put_json : print_row, &rc, &e) != OK)
        return cli_fail(&e);
    return rc == CLI_OK ? cli_flush_stdout() : rc;
}
