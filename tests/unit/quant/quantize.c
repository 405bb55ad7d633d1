/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quant.h"

#include <math.h>
#include <stdio.h>

#include "base/io.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "tensor/half.h"
#include "test.h"

enum {
    COLS = 256,
    ROWS = 4200,
    N_BIG = COLS * ROWS
}; /* more than a slab, and that is many tiles */

static char path_a[512], path_b[512], path_c[512];
static float big[N_BIG], odd[48 * 4], norm[COLS];

static void set_paths(void) {
    snprintf(path_a, sizeof path_a, "%s/a.gguf", test_tmpdir());
    snprintf(path_b, sizeof path_b, "%s/b.gguf", test_tmpdir());
    snprintf(path_c, sizeof path_c, "%s/c.gguf", test_tmpdir());
    rng_normal_fill(big, N_BIG, 0.02f, 1, 1);
    rng_normal_fill(odd, 48 * 4, 1.0f, 1, 2);
    for (int i = 0; i < COLS; i++) norm[i] = 1.0f + (float)i;
}

static void put(GgufW *w, DType type, const float *x, size_t n) {
    static uint16_t half[N_BIG];
    if (type == DT_F32) {
        OK_(gguf_w_data(w, x, n * sizeof *x, TERR));
        return;
    }
    for (size_t i = 0; i < n; i++)
        half[i] = type == DT_F16 ? half_f32_to_f16(x[i]) : half_f32_to_bf16(x[i]);
    OK_(gguf_w_data(w, half, n * sizeof *half, TERR));
}

/* A file with everything the quantizer tells apart, matrices in `type`. */
static void make_file(const char *path, DType type) {
    static const uint64_t ne_big[] = {COLS, ROWS}, ne_odd[] = {48, 4}, ne_norm[] = {COLS};
    GgufW *w = NULL;
    OK_(gguf_w_new(&w, path, 32, false, TERR));
    gguf_w_str(w, "general.architecture", slice_of("llama"));
    gguf_w_u32(w, "general.file_type", 0);
    gguf_w_str(w, "general.name", slice_of("small"));
    gguf_w_tensor(w, slice_of("token_embd.weight"), type, 2, ne_big);
    gguf_w_tensor(w, slice_of("blk.10.ffn_up.weight"), type, 2, ne_big);
    gguf_w_tensor(w, slice_of("blk.2.ffn_up.weight"), type, 2, ne_odd);
    gguf_w_tensor(w, slice_of("blk.2.attn_norm.weight"), DT_F32, 1, ne_norm);
    OK_(gguf_w_begin(w, TERR));
    put(w, type, big, N_BIG);
    put(w, type, big, N_BIG);
    put(w, type, odd, 48 * 4);
    put(w, DT_F32, norm, COLS);
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

static Gguf *open_file(const char *path) {
    Gguf *g = NULL;
    OK_(gguf_open(&g, path, TERR));
    return g;
}

static bool tmp_left(const char *path) {
    char tmp[600];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    return io_exists(tmp);
}

static void expect_type(const Gguf *g, const char *name, DType type) {
    const GgufTensor *t = gguf_find_tensor(g, name);
    TRUE_(t != NULL);
    EQ(t->type, type);
}

TEST(q8_0_file) {
    set_paths();
    make_file(path_a, DT_F32);
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q8_0")};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    FALSE_(tmp_left(path_b));
    Gguf *g = open_file(path_b);
    static const char *const order[] = {"token_embd.weight", "blk.2.attn_norm.weight",
                                        "blk.2.ffn_up.weight", "blk.10.ffn_up.weight"};
    for (size_t i = 0; i < 4; i++) TRUE_(slice_eq_str(gguf_tensor_at(g, i)->name, order[i]));
    expect_type(g, "token_embd.weight", DT_Q8_0);
    expect_type(g, "blk.10.ffn_up.weight", DT_Q8_0);
    expect_type(g, "blk.2.ffn_up.weight", DT_F16);
    expect_type(g, "blk.2.attn_norm.weight", DT_F32);
    EQ_MEM(gguf_find_tensor(g, "blk.2.attn_norm.weight")->data, norm, sizeof norm);
    EQ(st.n_params, 2 * N_BIG + 48 * 4 + COLS);
    EQ(st.bytes_in, 4 * st.n_params);
    EQ(st.bytes_out, 2 * (N_BIG / 32 * 34) + 48 * 4 * 2 + COLS * 4);
    EQ(st.n_of_type[DT_Q8_0], 2);
    gguf_close(g);
}

TEST(metadata_comes_along) {
    set_paths();
    make_file(path_a, DT_F32);
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q4_0")};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    Gguf *g = open_file(path_b);
    int64_t v = 0;
    Slice name;
    EQ(gguf_n_kv(g), 4);
    TRUE_(slice_eq_str(gguf_kv_at(g, 0)->key, "general.architecture"));
    OK_(gguf_get_int(&v, g, "general.file_type", 0, 99, TERR));
    EQ(v, 2);
    OK_(gguf_get_int(&v, g, "general.quantization_version", 0, 99, TERR));
    EQ(v, 2);
    OK_(gguf_get_str(&name, g, "general.name", TERR));
    TRUE_(slice_eq_str(name, "small"));
    gguf_close(g);
}

/* Every tensor has the bytes that the plain-C kernel makes of it in one go. */
TEST(bytes_are_the_reference_kernels) {
    static const char *const types[] = {"q8_0",   "q4_0", "q4_1",   "q5_0", "q5_1",
                                        "q4_K_S", "q6_K", "q5_K_M", "f16",  "bf16"};
    static uint8_t want[N_BIG * 2];
    Kern ref;
    OK_(kern_init(&ref, "ref", TERR));
    set_paths();
    make_file(path_a, DT_F32);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        QuantStats st;
        const QuantMix *mix = quant_mix_find(types[i]);
        QuantOpts o = {.mix = mix, .pure = true, .n_threads = 2};
        OK_(quant_file(&st, path_a, path_b, &o, TERR));
        Gguf *g = open_file(path_b);
        const GgufTensor *t = gguf_find_tensor(g, "blk.10.ffn_up.weight");
        EQ(t->type, mix->type);
        ref.from_f32[mix->type](want, big, N_BIG);
        EQ_MEM(t->data, want, t->n_bytes);
        gguf_close(g);
    }
}

static void expect_same_file(const char *a, const char *b) {
    StrBuf x = {0}, y = {0};
    OK_(io_read_file(&x, a, 1 << 30, TERR));
    OK_(io_read_file(&y, b, 1 << 30, TERR));
    EQ(x.n, y.n);
    EQ_MEM(x.p, y.p, x.n);
    sb_deinit(&x);
    sb_deinit(&y);
}

TEST(threads_do_not_matter) {
    set_paths();
    make_file(path_a, DT_BF16);
    QuantStats st;
    QuantOpts one = {.mix = quant_mix_find("q4_0"), .n_threads = 1},
              five = {.mix = quant_mix_find("q4_0"), .n_threads = 5};
    OK_(quant_file(&st, path_a, path_b, &one, TERR));
    OK_(quant_file(&st, path_a, path_c, &five, TERR));
    expect_same_file(path_b, path_c);
}

TEST(half_sources_pass_through_f32) {
    static uint8_t want[N_BIG * 2];
    static float rounded[N_BIG];
    Kern ref;
    OK_(kern_init(&ref, "ref", TERR));
    set_paths();
    make_file(path_a, DT_F16);
    for (int i = 0; i < N_BIG; i++) rounded[i] = half_f16_to_f32(half_f32_to_f16(big[i]));
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("bf16")};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    Gguf *g = open_file(path_b);
    ref.from_f32[DT_BF16](want, rounded, N_BIG);
    EQ_MEM(gguf_find_tensor(g, "token_embd.weight")->data, want, N_BIG * 2);
    gguf_close(g);
}

TEST(same_type_is_copied) {
    set_paths();
    make_file(path_a, DT_F16);
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("f16")};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    OK_(quant_file(&st, path_b, path_c, &o, TERR));
    expect_same_file(path_b, path_c);
    EQ(st.bytes_in, st.bytes_out);
}

TEST(quantized_input_is_refused) {
    set_paths();
    make_file(path_a, DT_F32);
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q8_0")}, again = {.mix = quant_mix_find("q4_0")};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    FAILS(ERR_UNSUPPORTED, quant_file(&st, path_b, path_c, &again, TERR));
    TRUE_(strstr(test_err.msg, ".weight is q8_0") != NULL);
    FALSE_(io_exists(path_c));
}

TEST(values_that_are_none_are_named) {
    enum { BAD = 1070001 };
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e20f};
    static const char *const types[] = {"q8_0", "q4_0", "q4_K_M", "q6_K", "q5_1", "f16"};
    set_paths();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        big[BAD] = bad[i];
        big[BAD + 1] = NAN;
        make_file(path_a, DT_F32);
        for (size_t k = 0; k < COUNT_OF(types); k++) {
            QuantStats st = {.n_params = 5};
            QuantOpts o = {.mix = quant_mix_find(types[k]), .n_threads = 2};
            FAILS(ERR_FORMAT, quant_file(&st, path_a, path_b, &o, TERR));
            TRUE_(strstr(test_err.msg, "token_embd.weight: element 1070001 ") != NULL);
            EQ(st.n_params, 5);
            FALSE_(io_exists(path_b) || tmp_left(path_b));
        }
    }
}

TEST(largest_values_that_fit) {
    set_paths();
    big[5] = 65519.0f;
    make_file(path_a, DT_F32);
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("f16")};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    Gguf *g = open_file(path_b);
    EQ(((const uint16_t *)gguf_find_tensor(g, "token_embd.weight")->data)[5], 0x7bff);
    gguf_close(g);
    big[5] = 65520.0f;
    make_file(path_a, DT_F32);
    FAILS(ERR_FORMAT, quant_file(&st, path_a, path_b, &o, TERR));
}

static void count_progress(void *ctx, uint64_t done, uint64_t total) {
    uint64_t *v = ctx;
    TRUE_(done >= v[0] && done <= total);
    v[0] = done;
    v[1] = total;
}

TEST(progress_and_stop) {
    set_paths();
    make_file(path_a, DT_F32);
    QuantStats st;
    uint64_t seen[2] = {0};
    atomic_int stop = 0;
    QuantOpts o = {.mix = quant_mix_find("q8_0"),
                   .progress = count_progress,
                   .progress_ctx = seen,
                   .stop = &stop};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    EQ(seen[0], seen[1]);
    EQ(seen[1], st.bytes_in);
    seen[0] = 0;
    stop = 1;
    FAILS(ERR_CANCELLED, quant_file(&st, path_a, path_c, &o, TERR));
    FALSE_(io_exists(path_c) || tmp_left(path_c));
}

TEST(files_that_are_not_there) {
    set_paths();
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q8_0")}, none = {0};
    FAILS(ERR_NOT_FOUND, quant_file(&st, "/no/such.gguf", path_b, &o, TERR));
    make_file(path_a, DT_F32);
    FAILS(ERR_ARG, quant_file(&st, path_a, path_b, &none, TERR));
    TRUE_(quant_file(&st, path_a, "/no/such/folder/x.gguf", &o, TERR) != OK);
    TRUE_(test_err.msg[0] != 0);
}

/* ---- patterns, plans ---- */

static void collect_types(void *ctx, const QuantItem *it) {
    char *out = ctx;
    strcat(out, dtype_name(it->type));
    strcat(out, it->is_fallback ? "! " : " ");
}

TEST(dry_run_tells_the_plan_and_writes_nothing) {
    set_paths();
    make_file(path_a, DT_F32);
    char seen[128] = "";
    QuantStats st;
    QuantOverride over[] = {{"ffn_(up|down)\\.w", DT_Q5_K}, {"token", DT_Q8_0}};
    QuantOpts o = {.mix = quant_mix_find("q4_K_M"),
                   .dry_run = true,
                   .plan = collect_types,
                   .plan_ctx = seen,
                   .overrides = over,
                   .n_overrides = 2};
    OK_(quant_file(&st, path_a, NULL, &o, TERR));
    EQ_STR(seen, "q8_0 f32 f16! q5_K ");
    EQ(st.n_fallback, 1);
    EQ(st.bytes_out, N_BIG / 32 * 34 + COLS * 4 + 48 * 4 * 2 + N_BIG / 256 * 176);
    over[0].pattern = "ffn_(up";
    FAILS(ERR_ARG, quant_file(&st, path_a, NULL, &o, TERR));
}

TEST(quantized_input_when_allowed) {
    set_paths();
    make_file(path_a, DT_F32);
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q8_0")};
    QuantOpts again = {.mix = quant_mix_find("q4_K_M"), .allow_requantize = true};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    OK_(quant_file(&st, path_b, path_c, &again, TERR));
    Gguf *g = open_file(path_c);
    expect_type(g, "blk.10.ffn_up.weight", DT_Q4_K);
    gguf_close(g);
}

/* ---- the harder search ---- */

enum { FEW_ROWS = 130, N_FEW = COLS * FEW_ROWS };

static void make_small_file(void) {
    static const uint64_t ne[] = {COLS, FEW_ROWS};
    GgufW *w = NULL;
    OK_(gguf_w_new(&w, path_a, 32, false, TERR));
    gguf_w_str(w, "general.architecture", slice_of("llama"));
    gguf_w_tensor(w, slice_of("token_embd.weight"), DT_F32, 2, ne);
    OK_(gguf_w_begin(w, TERR));
    put(w, DT_F32, big, N_FEW);
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

TEST(best_is_never_worse_and_the_same_everywhere) {
    static const char *const types[] = {"q4_0", "q4_1",   "q5_0",   "q5_1",
                                        "q8_0", "q4_K_S", "q5_K_S", "q6_K"};
    static const char *const cpus[] = {"ref", NULL};
    set_paths();
    make_small_file();
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (size_t k = 0; k < 2; k++) {
            QuantStats st;
            QuantOpts o = {.mix = quant_mix_find(types[i]),
                           .pure = true,
                           .best = true,
                           .n_threads = k ? 3 : 1,
                           .cpu = cpus[k]};
            DType t = o.mix->type;
            OK_(quant_file(&st, path_a, k ? path_c : path_b, &o, TERR));
            EQ(st.n_elem[t], N_FEW);
            TRUE_(st.error_best[t] > 0.5 * st.error_ref[t]);
            if (!(st.error_best[t] < 0.97 * st.error_ref[t]))
                FAIL("%s: %g of %g is left", types[i], st.error_best[t], st.error_ref[t]);
        }
        expect_same_file(path_b, path_c);
    }
}

/* What is reported is what the file decodes to. */
TEST(best_reports_the_error_of_the_file) {
    static float y[N_FEW];
    set_paths();
    make_small_file();
    QuantStats st;
    QuantOpts o = {.mix = quant_mix_find("q4_K_S"), .pure = true, .best = true, .n_threads = 2};
    OK_(quant_file(&st, path_a, path_b, &o, TERR));
    Kern ref;
    OK_(kern_init(&ref, "ref", TERR));
    Gguf *g = open_file(path_b);
    ref.to_f32[DT_Q4_K](y, gguf_find_tensor(g, "token_embd.weight")->data, N_FEW);
    double error = 0;
    for (int i = 0; i < N_FEW; i++) error += pow((double)y[i] - (double)big[i], 2);
    NEAR(error, st.error_best[DT_Q4_K], 1e-6 * error);
    gguf_close(g);
}
