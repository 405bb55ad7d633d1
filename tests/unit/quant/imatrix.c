/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/imatrix.h"

#include <math.h>
#include <stdio.h>

#include "base/io.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "quant/quant.h"
#include "test.h"

enum { COLS = 256, ROWS = 40, N = COLS * ROWS };

static char path[512], model[512], out[512];
static float values[2 * COLS], x[2 * N];

static void set_paths(void) {
    snprintf(path, sizeof path, "%s/imatrix", test_tmpdir());
    snprintf(model, sizeof model, "%s/model.gguf", test_tmpdir());
    snprintf(out, sizeof out, "%s/out.gguf", test_tmpdir());
    rng_normal_fill(x, 2 * N, 0.02f, 5, 1);
    for (int i = 0; i < 2 * COLS; i++) values[i] = (float)((i * 37) % 101);
}

/* One entry of two matrices; the second has seen nothing when `empty`. */
static void make_gguf(const char *name, size_t cols, int mats, bool empty, bool counts) {
    GgufW *w = NULL;
    char key[128];
    Slice set = slice_of("some text.txt");
    uint64_t ne[2] = {cols, (uint64_t)mats}, ne1[2] = {1, (uint64_t)mats};
    float count[2] = {4, empty ? 0.0f : 2.0f};
    OK_(gguf_w_new(&w, path, 32, false, TERR));
    gguf_w_str(w, "general.type", slice_of("imatrix"));
    gguf_w_arr_str(w, "imatrix.datasets", &set, 1);
    gguf_w_u32(w, "imatrix.chunk_count", 9);
    gguf_w_u32(w, "imatrix.chunk_size", 512);
    snprintf(key, sizeof key, "%s.in_sum2", name);
    gguf_w_tensor(w, slice_of(key), DT_F32, 2, ne);
    snprintf(key, sizeof key, "%s.counts", name);
    if (counts) gguf_w_tensor(w, slice_of(key), DT_F32, 2, ne1);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_data(w, values, cols * (size_t)mats * sizeof *values, TERR));
    if (counts) OK_(gguf_w_data(w, count, (size_t)mats * sizeof *count, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

TEST(gguf_file) {
    set_paths();
    make_gguf("blk.0.ffn_up.weight", COLS, 2, true, true);
    Imat *m = NULL;
    size_t n = 0;
    OK_(imat_load(&m, path, TERR));
    EQ(imat_n_entries(m), 1);
    EQ(imat_n_chunks(m), 9);
    TRUE_(slice_eq_str(imat_dataset(m), "some text.txt"));
    EQ_STR(imat_path(m), path);
    const float *v = imat_find(m, slice_of("blk.0.ffn_up.weight"), &n);
    EQ(n, 2 * COLS);
    for (size_t i = 0; i < COLS; i++) TRUE_(v[i] == values[i] / 4 && v[COLS + i] == 1);
    TRUE_(imat_find(m, slice_of("blk.0.ffn_u"), &n) == NULL);
    TRUE_(imat_find(m, slice_of("blk.0.ffn_up.weightx"), &n) == NULL);
    imat_free(m);
}

static void put_i32(StrBuf *b, int32_t v) { sb_put(b, &v, sizeof v); }

static void write_bytes(const StrBuf *b, size_t n) {
    IoWriter w;
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, b->p, n, TERR));
    OK_(io_writer_close(&w, TERR));
}

static void make_dat(StrBuf *b) {
    static const char *const names[] = {"z.weight", "a.weight"};
    put_i32(b, 2);
    for (int i = 0; i < 2; i++) {
        put_i32(b, (int32_t)strlen(names[i]));
        sb_puts(b, names[i]);
        put_i32(b, i ? 0 : 3); /* calls */
        put_i32(b, 5);
        sb_put(b, values + 10 * i, 5 * sizeof *values);
    }
    put_i32(b, 77);
    put_i32(b, 4);
    sb_puts(b, "text");
}

TEST(older_file) {
    StrBuf b = {0};
    Imat *m = NULL;
    size_t n = 0;
    set_paths();
    make_dat(&b);
    write_bytes(&b, b.n);
    OK_(imat_load(&m, path, TERR));
    EQ(imat_n_chunks(m), 77);
    TRUE_(slice_eq_str(imat_dataset(m), "text"));
    const float *z = imat_find(m, slice_of("z.weight"), &n);
    EQ(n, 5);
    for (int i = 0; i < 5; i++) TRUE_(z[i] == values[i] / 3.0f);
    const float *a = imat_find(m, slice_of("a.weight"), &n);
    for (int i = 0; i < 5; i++) TRUE_(a[i] == values[10 + i]);
    imat_free(m);
    size_t whole = b.n - 12; /* without chunks and name: still a file of the oldest kind */
    write_bytes(&b, whole);
    OK_(imat_load(&m, path, TERR));
    EQ(imat_n_chunks(m), 0);
    imat_free(m);
    for (size_t cut = 0; cut < whole; cut += 3) {
        write_bytes(&b, cut);
        Imat *none = NULL;
        test_err = (Err){0};
        TRUE_(imat_load(&none, path, TERR) != OK && none == NULL);
        TRUE_(strstr(test_err.msg, path) != NULL);
    }
    sb_deinit(&b);
}

TEST(values_that_are_no_squares) {
    static const float bad[] = {NAN, INFINITY, -1};
    Imat *m = NULL;
    set_paths();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        values[3] = bad[i];
        make_gguf("blk.1.attn_q.weight", COLS, 1, false, true);
        FAILS(ERR_FORMAT, imat_load(&m, path, TERR));
        TRUE_(strstr(test_err.msg, "blk.1.attn_q.weight: value 3 is") != NULL);
    }
    set_paths();
    make_gguf("blk.1.attn_q.weight", COLS, 1, false, false);
    FAILS(ERR_FORMAT, imat_load(&m, path, TERR));
    FAILS(ERR_NOT_FOUND, imat_load(&m, "/no/such/file", TERR));
}

/* Two experts, each with importance of its own. */
static void make_model(void) {
    static const uint64_t ne[] = {COLS, ROWS, 2}, ne2[] = {COLS, ROWS};
    GgufW *w = NULL;
    OK_(gguf_w_new(&w, model, 32, false, TERR));
    gguf_w_str(w, "general.architecture", slice_of("llama"));
    gguf_w_tensor(w, slice_of("blk.0.ffn_up_exps.weight"), DT_F32, 3, ne);
    gguf_w_tensor(w, slice_of("blk.0.attn_q.weight"), DT_F32, 2, ne2);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_data(w, x, sizeof x, TERR));
    OK_(gguf_w_data(w, x, sizeof x / 2, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

static void count_warning(void *ctx, const char *line) {
    int *n = ctx;
    TRUE_(strstr(line, "blk.0.attn_q.weight") != NULL);
    ++*n;
}

TEST(quantizing_honours_it) {
    static const char *const types[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q4_K_S", "q5_K_S", "q6_K"};
    static uint8_t want[N * 2];
    Imat *m = NULL;
    Kern ref;
    OK_(kern_init(&ref, "ref", TERR));
    set_paths();
    make_model();
    make_gguf("blk.0.ffn_up_exps.weight", COLS, 2, false, true);
    OK_(imat_load(&m, path, TERR));
    const float *w = imat_find(m, slice_of("blk.0.ffn_up_exps.weight"), &(size_t){0});
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        QuantStats st;
        Gguf *g = NULL;
        int64_t v = 0;
        int warned = 0;
        QuantOpts o = {.mix = quant_mix_find(types[i]),
                       .pure = true,
                       .imat = m,
                       .n_threads = 2,
                       .warn = count_warning,
                       .warn_ctx = &warned};
        DType t = o.mix->type;
        OK_(quant_file(&st, model, out, &o, TERR));
        EQ(st.n_weighted, 1);
        EQ(warned, 1);
        OK_(gguf_open(&g, out, TERR));
        const uint8_t *got = gguf_find_tensor(g, "blk.0.ffn_up_exps.weight")->data;
        for (int k = 0; k < 2; k++) {
            ref.quant[t](want, x + k * N, w + k * COLS, ROWS, COLS);
            EQ_MEM(got + (size_t)k * dtype_bytes(t, N), want, dtype_bytes(t, N));
        }
        OK_(gguf_get_int(&v, g, "quantize.imatrix.chunks_count", 0, 99, TERR));
        EQ(v, 9);
        gguf_close(g);
    }
    imat_free(m);
}

TEST(importance_of_another_size) {
    Imat *m = NULL;
    QuantStats st;
    set_paths();
    make_model();
    make_gguf("blk.0.attn_q.weight", COLS / 2, 1, false, true);
    OK_(imat_load(&m, path, TERR));
    QuantOpts o = {.mix = quant_mix_find("q4_0"), .imat = m};
    FAILS(ERR_FORMAT, quant_file(&st, model, out, &o, TERR));
    TRUE_(strstr(test_err.msg, "blk.0.attn_q.weight has 128 values, the tensor wants 256") != NULL);
    imat_free(m);
}
