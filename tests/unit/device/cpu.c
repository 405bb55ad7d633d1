/* SPDX-License-Identifier: Apache-2.0
 * The device's life: levels, descriptions, memory given back, and failures that stick. */
#include "dev.h"

#include "base/fault.h"

TEST(describes_itself) {
    char buf[96];
    Device *d = dev_new("ref", 1);
    EQ_STR(device_describe(d, buf), "cpu ref, 1 thread, f32 products");
    FALSE_(device_has_bf16(d));
    TRUE_(device_peak_flops(d) > 1e6);
    TRUE_(device_scratch_bytes(d, 512, 64) > device_scratch_bytes(d, 64, 64) / 2);
    dev_free(d);
    OK_(device_cpu_new(&d, &(DeviceOpts){.cpu = "ref", .n_threads = 3, .bf16 = true}, TERR));
    FALSE_(device_has_bf16(d)); /* ref has none: f32 instead, and it says so */
    EQ_STR(device_describe(d, buf), "cpu ref, 3 threads, f32 products");
    dev_free(d);
}

TEST(unknown_level_is_refused) {
    Device *d = NULL;
    FAILS(ERR_ARG, device_cpu_new(&d, &(DeviceOpts){.cpu = "avx3"}, TERR));
    TRUE_(strstr(test_err.msg, "avx3"));
    TRUE_(d == NULL);
}

TEST(memory_is_given_back) {
    size_t live = mem_live_bytes();
    Device *d = dev_new(NULL, 3);
    Buf *b = dev_buf(d, 3 << 20), *w = d->ops->buf_wrap(d, "abcd", 4);
    KvStore *kv = d->ops->kv_new(d, DT_F16, 3, 5, 2, 64);
    float *zero = dev_get(d, b, 1000);
    for (int i = 0; i < 1000; i++) TRUE_(zero[i] == 0.0f);
    free(zero);
    d->ops->buf_free(d, b);
    d->ops->buf_free(d, w);
    d->ops->buf_free(d, NULL);
    d->ops->kv_free(d, kv);
    d->ops->kv_free(d, NULL);
    dev_free(d);
    device_free(NULL);
    EQ(mem_live_bytes(), live);
}

TEST(sizes_that_cannot_be_are_refused) {
    Device *d = dev_new(NULL, 1);
    size_t live = mem_live_bytes();
    TRUE_(d->ops->buf_new(d, SIZE_MAX) == NULL);
    TRUE_(d->ops->buf_new(d, SIZE_MAX / 2) == NULL);
    TRUE_(d->ops->kv_new(d, DT_F32, 512, INT32_MAX, 1024, 256) == NULL);
    EQ(mem_live_bytes(), live);
    dev_free(d);
}

/* Attention's scratch cannot be had: nothing is written, all later work is left undone, sync says so. */
TEST(a_failure_inside_sticks) {
    enum { T = 200, HD = 256, W = 3 * HD };
    Device *d = dev_new(NULL, 2);
    int32_t seg[T] = {0};
    Buf *qkv = dev_buf(d, T * W), *o = dev_buf(d, T * HD), *lse = dev_buf(d, T);
    AttnTrainArgs a = {.o = buf_at(o, 0),
                       .lse = buf_at(lse, 0),
                       .qkv = buf_at(qkv, 0),
                       .seg = seg,
                       .n_row = 1,
                       .T = T,
                       .nh = 1,
                       .nkv = 1,
                       .hd = HD,
                       .scale = 1};
    d->ops->fill(d, buf_at(o, 0), 3.0f, T * HD);
    fault_arm(FAULT_ALLOC, 1);
    d->ops->attn_train(d, &a);
    bool fired = fault_fired(FAULT_ALLOC);
    fault_arm(FAULT_ALLOC, 0);
    FAILS(ERR_NOMEM, d->ops->sync(d, TERR));
    TRUE_(fired && strstr(test_err.msg, "scratch"));
    d->ops->fill(d, buf_at(o, 0), 5.0f, T * HD);
    float *x = dev_get(d, o, T * HD);
    for (int i = 0; i < T * HD; i++) TRUE_(x[i] == 3.0f);
    FAILS(ERR_NOMEM, d->ops->sync(d, TERR));
    free(x);
    Buf *all[] = {qkv, o, lse};
    for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
    device_free(d);
}

/* What a run plans for is what the operations take. */
TEST(scratch_is_what_was_said) {
    enum { T = 300, HD = 64, NH = 2, W = 3 * NH * HD };
    for (size_t l = 0; l < DEV_LEVELS; l++) {
        if (!dev_has(l)) continue;
        Device *d = dev_new(dev_levels[l], 2);
        int32_t seg[T] = {0};
        Buf *qkv = dev_buf(d, T * W), *o = dev_buf(d, T * NH * HD), *lse = dev_buf(d, T * NH),
            *dq = dev_buf(d, T * W);
        size_t live = mem_live_bytes();
        AttnTrainArgs a = {.o = buf_at(o, 0),
                           .lse = buf_at(lse, 0),
                           .qkv = buf_at(qkv, 0),
                           .dqkv = buf_at(dq, 0),
                           .d_o = buf_at(o, 0),
                           .seg = seg,
                           .n_row = 1,
                           .T = T,
                           .nh = NH,
                           .nkv = NH,
                           .hd = HD,
                           .scale = 1};
        d->ops->attn_train(d, &a);
        d->ops->attn_bwd(d, &a);
        size_t after = mem_live_bytes();
        uint64_t n = mem_n_alloc();
        d->ops->attn_train(d, &a);
        d->ops->attn_bwd(d, &a);
        EQ(mem_n_alloc(), n); /* grown once, kept */
        TRUE_(after >= live);
        TRUE_(after - live < device_scratch_bytes(d, T, HD));
        Buf *all[] = {qkv, o, lse, dq};
        for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
        NEAR((double)mem_live_bytes(), (double)device_scratch_bytes(d, T, HD), 64 << 10);
        dev_free(d);
    }
}
