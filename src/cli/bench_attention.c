/* SPDX-License-Identifier: Apache-2.0
 * ingot bench --attention: attention over the paged cache alone, on heads of real models: decoding beside the
 * memory's read bandwidth, prompts beside the processor's multiply-adds (device/attn_bench.h measures). */
#include <stdio.h>

#include "cli/bench.h"
#include "device/attn_bench.h"

static const struct {
    const char *name;
    int nh, nkv, hd;
} models[] = {{"qwen2.5-1.5b", 12, 2, 128}, {"llama-3.2-1b", 32, 8, 64}, {"gpt2", 12, 12, 64}};

static const struct {
    int ctx, n_seq, n_rows;
} loads[] = {{512, 1, 1},  {1024, 1, 1},  {4096, 1, 1},  {4096, 16, 1},
             {512, 1, 16}, {4096, 1, 16}, {256, 1, 256}, {4096, 1, 256}};

/* Many rows share what they read: multiply-adds are their limit; one row's is memory. */
static bool is_prefill(const AttnBenchCase *c) { return c->n_rows > 1; }

static void print_row(void *ctx, const AttnBenchRow *r) {
    const AttnBenchCase *c = r->c;
    double gb = r->kv_bytes / r->seconds * 1e-9, gf = r->flops / r->seconds * 1e-9;
    (void)ctx;
    printf("  %-13s %-5s %6d %5d %5d %10.3f ms %7.2f GB/s %5.1f%% of %.1f %8.1f GFLOP/s %5.1f%% of "
           "%.0f\n",
           c->name, dtype_name(c->kv), c->ctx, c->n_seq, c->n_rows, r->seconds * 1e3, gb,
           100e9 * gb / r->read_bytes, r->read_bytes * 1e-9, gf, 100e9 * gf / r->peak_flops,
           r->peak_flops * 1e-9);
    fflush(stdout);
}

static void put_json(void *ctx, const AttnBenchRow *r) {
    const AttnBenchCase *c = r->c;
    StrBuf b = {0};
    JsonW w;
    int *rc = ctx;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "bench", "attention");
    jw_cstr(&w, "heads_of", c->name);
    jw_int(&w, "nh", c->nh);
    jw_int(&w, "nkv", c->nkv);
    jw_int(&w, "hd", c->hd);
    jw_cstr(&w, "kv", dtype_name(c->kv));
    jw_int(&w, "ctx", c->ctx);
    jw_int(&w, "streams", c->n_seq);
    jw_int(&w, "rows", c->n_rows);
    jw_num(&w, "ms", cli_bench_round(r->seconds * 1e3));
    jw_num(&w, "gb_s", cli_bench_round(r->kv_bytes / r->seconds * 1e-9));
    jw_num(&w, "read_gb_s", cli_bench_round(r->read_bytes * 1e-9));
    jw_num(&w, "gflop_s", cli_bench_round(r->flops / r->seconds * 1e-9));
    jw_num(&w, "peak_gflop_s", cli_bench_round(r->peak_flops * 1e-9));
    jw_cstr(&w, "limit", is_prefill(c) ? "fma peak" : "memory read");
    jw_num(&w, "share",
           cli_bench_round(
               100 * (is_prefill(c) ? r->flops / r->peak_flops : r->kv_bytes / r->read_bytes) /
               r->seconds));
    jw_end_obj(&w);
    if (*rc == CLI_OK) *rc = cli_print_json(&b);
    sb_deinit(&b);
}

int cli_bench_attention(const BenchCmd *c) {
    AttnBenchCase cases[COUNT_OF(models) * COUNT_OF(loads)];
    DeviceOpts o = {.cpu = c->cpu, .n_threads = cli_threads(c->threads)};
    Err e = {0};
    int rc = CLI_OK, n = 0;
    for (size_t m = 0; m < COUNT_OF(models); m++)
        for (size_t l = 0; l < COUNT_OF(loads); l++)
            cases[n++] = (AttnBenchCase){models[m].name,  models[m].nh,
                                         models[m].nkv,   models[m].hd,
                                         loads[l].ctx,    loads[l].n_seq,
                                         loads[l].n_rows, kv_dtype(cli_kv_type(c->kv))};
    if (!c->json)
        printf("  %-13s %-5s %6s %5s %5s\n", "heads of", "cache", "tokens", "seqs", "rows");
    if (device_attn_bench(&o, cases, n, (int)c->reps, c->json ? put_json : print_row, &rc, &e) !=
        OK)
        return cli_fail(&e);
    return rc == CLI_OK ? cli_flush_stdout() : rc;
}
