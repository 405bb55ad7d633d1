/* SPDX-License-Identifier: Apache-2.0
 * The attention bench: a row for each case with sane numbers, caches of the size that is planned, and nothing
 * stays allocated. */
#include "device/attn_bench.h"

#include <math.h>

#include "base/mem.h"
#include "model/model.h"
#include "test.h"

static int n_rows;

static void on_row(void *ctx, const AttnBenchRow *r) {
    const AttnBenchCase *c = r->c;
    TRUE_(c == (const AttnBenchCase *)ctx + n_rows);
    TRUE_(r->seconds > 0 && isfinite(r->seconds) && r->read_bytes > 0 && r->peak_flops > 0);
    n_rows++;
    if (c->kv == DT_F16) NEAR(r->kv_bytes, 64.0 * 2 * 2 * 16 * 2, 0);
    /* 40 values: 40 bytes and two scales */
    if (c->kv == DT_Q8_0) NEAR(r->kv_bytes, 3 * 33.0 * 2 * 1 * 44, 0.01);
    if (c->kv == DT_Q8_0) NEAR(r->flops, 4.0 * 40 * 3 * (3 * (33 + 32)), 0);
}

TEST(attention_bench_measures_each_case) {
    static const AttnBenchCase cases[] = {{"a", 4, 2, 16, 64, 1, 1, DT_F16},
                                          {"b", 3, 1, 40, 33, 3, 2, DT_Q8_0}};
    size_t live = mem_live_bytes();
    n_rows = 0;
    OK_(device_attn_bench(&(DeviceOpts){.n_threads = 2}, cases, 2, 1, on_row,
                          (void *)(uintptr_t)cases, TERR));
    EQ(n_rows, 2);
    FAILS(ERR_ARG, device_attn_bench(&(DeviceOpts){.cpu = "quantum"}, cases, 1, 1, on_row,
                                     (void *)(uintptr_t)cases, TERR));
    EQ(mem_live_bytes(), live);
}

TEST(kv_cache_takes_what_is_planned) {
    static const DType types[] = {DT_F32, DT_F16, DT_Q8_0};
    static const int hds[] = {8, 40, 64, 128};
    Device *d = NULL;
    OK_(device_cpu_new(&d, &(DeviceOpts){.n_threads = 1}, TERR));
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        for (size_t h = 0; h < COUNT_OF(hds); h++) {
            ModelConfig c = {.nkv = 2, .hd = hds[h], .n_layer = 3};
            size_t live = mem_live_bytes();
            KvStore *kv = d->ops->kv_new(d, types[t], 3, 5, 2, hds[h]);
            TRUE_(kv != NULL);
            NEAR((double)(mem_live_bytes() - live), (double)model_kv_bytes(&c, types[t], 5), 256);
            d->ops->kv_free(d, kv);
        }
    }
    EQ(device_kv_head_bytes(DT_Q8_0, 64), (size_t)(2 * 32 * 34));
    EQ(device_kv_head_bytes(DT_Q8_0, 40), (size_t)(32 * 40 + 2 * 64));
    device_free(d);
}
