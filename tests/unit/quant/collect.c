/* SPDX-License-Identifier: Apache-2.0
 * What goes into the first layer's attn_q is the normalised embedding: its sums are computed here once more. */
#include "quant/collect.h"

#include <math.h>
#include <stdio.h>

#include "base/io.h"
#include "quant/imatrix.h"
#include "test.h"

enum { CTX = 24, N_IDS = 2 * CTX + 5 };

static char path[512];
static int32_t ids[N_IDS];

static Model *open_model(Device **dev) {
    Model *m = NULL;
    DeviceOpts o = {.n_threads = 2};
    snprintf(path, sizeof path, "%s/imatrix.gguf", test_tmpdir());
    for (int i = 0; i < N_IDS; i++) ids[i] = (i * 29 + 3) % 96;
    OK_(device_cpu_new(dev, &o, TERR));
    OK_(model_load(&m, *dev, "tests/golden/data/llama_untied.gguf", TERR));
    return m;
}

static void first_layer(double *sum, const Model *m, int n_chunks) {
    const float *embd = gguf_find_tensor(m->file, "token_embd.weight")->data;
    const float *norm = gguf_find_tensor(m->file, "blk.0.attn_norm.weight")->data;
    int C = m->cfg.C;
    for (int i = 0; i < n_chunks * CTX; i++) {
        const float *x = embd + (size_t)ids[i] * (size_t)C;
        double square = 0;
        for (int c = 0; c < C; c++) square += (double)x[c] * (double)x[c];
        double rstd = 1 / sqrt(square / C + (double)m->cfg.norm_eps);
        for (int c = 0; c < C; c++) sum[c] += pow((double)x[c] * rstd * (double)norm[c], 2);
    }
}

TEST(sums_of_squares) {
    Device *dev = NULL;
    Model *m = open_model(&dev);
    ImatStats st;
    Gguf *g = NULL;
    double sum[64] = {0};
    ImatOpts o = {.ctx = CTX, .n_threads = 2, .process_output = true, .dataset = "made up"};
    OK_(imat_collect(&st, path, m, ids, N_IDS, &o, TERR));
    EQ(st.n_chunks, 2);
    EQ(st.n_entries, 2 * 7 + 1);
    first_layer(sum, m, 2);
    OK_(gguf_open(&g, path, TERR));
    EQ(gguf_n_tensors(g), 2 * st.n_entries);
    static const char *const names[] = {"attn_q", "attn_k", "attn_v"};
    for (size_t k = 0; k < COUNT_OF(names); k++) {
        char name[64];
        snprintf(name, sizeof name, "blk.0.%s.weight.in_sum2", names[k]);
        const float *got = gguf_find_tensor(g, name)->data;
        for (int c = 0; c < m->cfg.C; c++) NEAR(got[c], sum[c], 1e-5 * sum[c] + 1e-9);
        snprintf(name, sizeof name, "blk.0.%s.weight.counts", names[k]);
        TRUE_(*(const float *)gguf_find_tensor(g, name)->data == 2 * CTX);
    }
    TRUE_(gguf_find_tensor(g, "output.weight.in_sum2") != NULL);
    for (size_t i = 2; i < gguf_n_tensors(g); i += 2) { /* in order of names */
        Slice a = gguf_tensor_at(g, i - 2)->name, b = gguf_tensor_at(g, i)->name;
        TRUE_(memcmp(a.p, b.p, MIN(a.n, b.n)) < 0);
    }
    gguf_close(g);
    model_free(m);
    device_free(dev);
}

TEST(refusals) {
    Device *dev = NULL;
    Model *m = open_model(&dev);
    ImatStats st;
    ImatOpts o = {.ctx = 33}, small = {.ctx = 4}, text = {.ctx = CTX};
    atomic_int stop = 1;
    FAILS(ERR_ARG, imat_collect(&st, path, m, ids, N_IDS, &o, TERR));
    FAILS(ERR_ARG, imat_collect(&st, path, m, ids, N_IDS, &small, TERR));
    FAILS(ERR_ARG, imat_collect(&st, path, m, ids, CTX - 1, &text, TERR));
    text.stop = &stop;
    FAILS(ERR_CANCELLED, imat_collect(&st, path, m, ids, N_IDS, &text, TERR));
    FALSE_(io_exists(path));
    model_free(m);
    device_free(dev);
}
