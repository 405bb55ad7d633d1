/* SPDX-License-Identifier: Apache-2.0
 * The AMX product core, its instructions emulated: see emulated.h. */
#ifdef __clang__
#include "test.h"
TEST(core_emulated) { SKIP("clang cannot change the target inside a file"); }
#else
#include "emulated.h"

#define kern_amx_gemm emulated_amx_gemm /* the library has the real one */
void kern_amx_gemm(Kern *k);
#include "../../src/kernel/amx/gemm.c"
#include "device/internal.h"
#include "tensor/blocks.h"

TEST(core_emulated) {
    if (!machine_can_run_this()) SKIP("no AVX-512 to emulate it on");
    check_core(kern_amx_gemm);
}

/* Strides that are neither: every third element. */
TEST(amx_core_takes_any_strides) {
    if (!machine_can_run_this()) SKIP("no AVX-512 to emulate it on");
    Kern k;
    kern_amx_gemm(&k);
    const GemmCore *c = &k.gemm_bf16;
    float src[3 * 40 * 40], *out = malloc(32 * 32 * 4);
    for (size_t i = 0; i < COUNT_OF(src); i++) src[i] = rnd();
    void *pa = packed(32 * 64 * 2), *pb = packed(32 * 64 * 2);
    c->pack_a(pa, src, 120, 3, 20, 40);
    c->pack_b(pb, src, 3, 120, 40, 25);
    c->enter();
    c->tile(out, 32, pa, pb, 64, 20, 25, false);
    c->leave();
    for (int i = 0; i < 20; i++)
        for (int j = 0; j < 25; j++) {
            double want = 0.0;
            for (int x = 0; x < 40; x++)
                want +=
                    (double)rounded(src[i * 120 + 3 * x]) * (double)rounded(src[j * 120 + 3 * x]);
            NEAR(out[i * 32 + j], want, 1e-4);
        }
    free(pa);
    free(pb);
    free(out);
}

/* ---- the device's products and attention on this core, against its own f32 ---- */

static Device *device_with(const GemmCore *core) {
    Device *d;
    OK_(device_cpu_new(&d, &(DeviceOpts){.n_threads = 1}, TERR));
    if (core) ((CpuDevice *)d)->core = core;
    return d;
}

static Buf *random_buf(Device *d, size_t n) {
    Buf *b = d->ops->buf_new(d, n * sizeof(float));
    float *tmp = malloc(n * sizeof(float));
    for (size_t i = 0; i < n; i++) tmp[i] = rounded(rnd());
    d->ops->upload(d, buf_at(b, 0), tmp, n * sizeof(float));
    free(tmp);
    return b;
}

/* One training layer's worth of operations; everything that came out, in `out`. */
static void run_ops(const GemmCore *core, int T, int rows, int cols, float *out, size_t n_out) {
    Device *d = device_with(core);
    seed = 77;
    size_t t = (size_t)T, r = (size_t)rows, c = (size_t)cols;
    Buf *x = random_buf(d, t * c), *w = random_buf(d, r * c), *dy = random_buf(d, t * r);
    Buf *y = d->ops->buf_new(d, n_out * sizeof(float));
    Weight wt = {.type = DT_F32, .rows = rows, .cols = cols, .buf = w};
    d->ops->linear(
        d,
        &(LinearArgs){.y = buf_at(y, 0), .ldy = r, .x = buf_at(x, 0), .ldx = c, .w = wt, .T = T});
    d->ops->linear_t(d, &(LinearTArgs){.dx = buf_at(y, t * r),
                                       .ldx = c,
                                       .dy = buf_at(dy, 0),
                                       .ldy = r,
                                       .w = wt,
                                       .T = T});
    d->ops->linear_dw(d, &(LinearDwArgs){.dw = buf_at(y, t * r + t * c),
                                         .dy = buf_at(dy, 0),
                                         .ldy = r,
                                         .x = buf_at(x, 0),
                                         .ldx = c,
                                         .rows = rows,
                                         .cols = cols,
                                         .T = T});
    d->ops->download(d, out, buf_at(y, 0), n_out * sizeof(float));
    OK_(d->ops->sync(d, TERR));
    Buf *all[] = {x, w, dy, y};
    for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
    device_free(d);
}

TEST(device_products_on_this_core) {
    static const int shapes[][3] = {{40, 33, 70}, {400, 96, 64}, {1030, 65, 97}, {9, 300, 1100}};
    if (!machine_can_run_this()) SKIP("no AVX-512 to emulate it on");
    Kern k;
    kern_amx_gemm(&k);
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        int T = shapes[i][0], rows = shapes[i][1], cols = shapes[i][2];
        size_t n = (size_t)T * (size_t)(rows + cols) + (size_t)rows * (size_t)cols;
        float *want = malloc(n * sizeof(float)), *got = malloc(n * sizeof(float));
        run_ops(NULL, T, rows, cols, want, n);
        run_ops(&k.gemm_bf16, T, rows, cols, got, n);
        for (size_t j = 0; j < n; j++) NEAR(got[j], want[j], 1e-3);
        free(want);
        free(got);
    }
}

/* Blocks of 256 whose weights bf16 holds exactly: small integers over 32. */
static Buf *random_blocks(Device *d, DType t, size_t n) {
    size_t bytes = dtype_bytes(t, n), step = (size_t)dtype_info((uint32_t)t)->block_bytes;
    static const uint8_t head[16] = {0, 0x28, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1};
    uint8_t *b = malloc(bytes);
    for (size_t i = 0; i < bytes; i++) b[i] = (uint8_t)(int)(rnd() * 127);
    for (size_t i = 0; i < bytes; i += step) {
        if (t != DT_Q6_K) memcpy(b + i, head, sizeof head); /* d, dmin, scales 1 and minimums 0 */
        else memset(b + i + offsetof(BlockQ6_K, scales), 1, 16), memcpy(b + i + step - 2, head, 2);
    }
    Buf *w = d->ops->buf_new(d, bytes);
    d->ops->upload(d, buf_at(w, 0), b, bytes);
    free(b);
    return w;
}

static void run_quantized(const GemmCore *core, DType t, int T, float *out) {
    enum { ROWS = 300, COLS = 1280 };
    Device *d = device_with(core);
    seed = 78;
    size_t n = (size_t)T;
    Buf *x = random_buf(d, n * COLS), *dy = random_buf(d, n * ROWS);
    Buf *w = random_blocks(d, t, (size_t)ROWS * COLS),
        *y = d->ops->buf_new(d, n * (ROWS + COLS) * sizeof(float));
    Weight wt = {.type = t, .rows = ROWS, .cols = COLS, .buf = w};
    LinearArgs fwd = {
        .y = buf_at(y, 0), .ldy = ROWS, .x = buf_at(x, 0), .ldx = COLS, .w = wt, .T = T};
    LinearTArgs bwd = {
        .dx = buf_at(y, n * ROWS), .ldx = COLS, .dy = buf_at(dy, 0), .ldy = ROWS, .w = wt, .T = T};
    d->ops->linear(d, &fwd);
    d->ops->linear_t(d, &bwd);
    d->ops->download(d, out, buf_at(y, 0), n * (ROWS + COLS) * sizeof(float));
    OK_(d->ops->sync(d, TERR));
    Buf *all[] = {x, dy, w, y};
    for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
    device_free(d);
}

TEST(device_products_of_blocks_on_this_core) {
    static const DType types[] = {DT_Q4_K, DT_Q5_K, DT_Q6_K};
    if (!machine_can_run_this()) SKIP("no AVX-512 to emulate it on");
    Kern k;
    kern_amx_gemm(&k);
    for (size_t i = 0; i < COUNT_OF(types) * 2; i++) {
        int T = i % 2 ? 390 : 40;
        size_t n = (size_t)T * (300 + 1280);
        float *want = malloc(n * sizeof(float)), *got = malloc(n * sizeof(float));
        run_quantized(NULL, types[i / 2], T, want);
        run_quantized(&k.gemm_bf16, types[i / 2], T, got);
        for (size_t j = 0; j < n; j++) NEAR(got[j], want[j], 1e-3);
        free(want);
        free(got);
    }
}

/* dqkv and o of an attention over rows with documents, dropout included. */
static void run_attention(const GemmCore *core, float *out) {
    enum { T = 83, ROWS = 2, NH = 4, NKV = 2, HD = 24, W = (NH + 2 * NKV) * HD };
    Device *d = device_with(core);
    seed = 5;
    int32_t seg[ROWS * T];
    for (int i = 0; i < ROWS * T; i++) seg[i] = i % T < 50 ? 0 : 50;
    Buf *qkv = random_buf(d, ROWS * T * W), *d_o = random_buf(d, ROWS * T * NH * HD);
    Buf *o = d->ops->buf_new(d, ROWS * T * (NH * HD + W) * sizeof(float));
    Buf *lse = d->ops->buf_new(d, ROWS * T * NH * sizeof(float));
    AttnTrainArgs a = {.o = buf_at(o, 0),
                       .lse = buf_at(lse, 0),
                       .qkv = buf_at(qkv, 0),
                       .d_o = buf_at(d_o, 0),
                       .dqkv = buf_at(o, ROWS * T * NH * HD),
                       .seg = seg,
                       .n_row = ROWS,
                       .T = T,
                       .nh = NH,
                       .nkv = NKV,
                       .hd = HD,
                       .scale = 0.2f,
                       .drop = {0.1f, 3, 4}};
    d->ops->attn_train(d, &a);
    d->ops->attn_bwd(d, &a);
    d->ops->download(d, out, buf_at(o, 0), ROWS * T * (NH * HD + W) * sizeof(float));
    OK_(d->ops->sync(d, TERR));
    Buf *all[] = {qkv, d_o, o, lse};
    for (size_t i = 0; i < COUNT_OF(all); i++) d->ops->buf_free(d, all[i]);
    device_free(d);
}

TEST(device_attention_on_this_core) {
    enum { N = 2 * 83 * (4 * 24 + 8 * 24) };
    if (!machine_can_run_this()) SKIP("no AVX-512 to emulate it on");
    Kern k;
    kern_amx_gemm(&k);
    float *want = malloc(N * sizeof(float)), *got = malloc(N * sizeof(float));
    run_attention(NULL, want);
    run_attention(&k.gemm_bf16, got);
    double diff = 0.0, size = 0.0;
    for (int i = 0; i < N; i++) {
        NEAR(got[i], want[i], 0.05);
        diff += fabs((double)got[i] - (double)want[i]);
        size += fabs((double)want[i]);
    }
    TRUE_(diff < 0.01 * size);
    free(want);
    free(got);
}
#endif
