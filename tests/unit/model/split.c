/* SPDX-License-Identifier: Apache-2.0
 * A model in several files computes what it computes in one. */
#include "edit.h"
#include "quant/quant.h"

enum { N = 24, FILES = 3 };

/* Tensor i goes to file i % FILES; the first file has the metadata. */
static void split(const char *from) {
    Gguf *g = NULL;
    OK_(gguf_open(&g, from, TERR));
    for (uint32_t f = 0; f < FILES; f++) {
        char name[64];
        GgufW *w = NULL;
        snprintf(name, sizeof name, "s-%05u-of-%05d.gguf", f + 1, FILES);
        OK_(gguf_w_new(&w, edit_path(name), 32, false, TERR));
        for (size_t i = 0; f == 0 && i < gguf_n_kv(g); i++) gguf_w_kv(w, gguf_kv_at(g, i));
        gguf_w_u32(w, "split.no", f);
        gguf_w_u32(w, "split.count", FILES);
        gguf_w_i32(w, "split.tensors.count", (int32_t)gguf_n_tensors(g));
        for (size_t i = f; i < gguf_n_tensors(g); i += FILES) {
            const GgufTensor *t = gguf_tensor_at(g, i);
            gguf_w_tensor(w, t->name, t->type, t->n_dims, t->ne);
        }
        OK_(gguf_w_begin(w, TERR));
        for (size_t i = f; i < gguf_n_tensors(g); i += FILES)
            OK_(gguf_w_data(w, gguf_tensor_at(g, i)->data, gguf_tensor_at(g, i)->n_bytes, TERR));
        OK_(gguf_w_end(w, TERR));
        gguf_w_free(w);
    }
    gguf_close(g);
}

static void run(Device *d, const char *path, float *out) {
    Model *m = NULL;
    int32_t ids[N];
    OK_(model_load(&m, d, path, TERR));
    for (int i = 0; i < N; i++) ids[i] = (i * 37 + 11) % m->cfg.V;
    OK_(edit_forward(m, ids, N, out, TERR));
    model_free(m);
}

TEST(split_models_give_the_same_logits) {
    static const char *const from[] = {LLAMA, UNTIED, GPT2};
    static const size_t V[] = {128, 96, 96};
    static float one[N * 128], many[N * 128];
    Device *d = edit_device();
    for (size_t i = 0; i < COUNT_OF(from); i++) {
        split(from[i]);
        run(d, from[i], one);
        run(d, edit_path("s-00002-of-00003.gguf"), many);
        EQ_MEM(one, many, N * V[i] * sizeof(float));
    }
    device_free(d);
}

/* A copy under the name of a part would end the model. */
TEST(a_part_is_not_written_over) {
    char one[512], two[512];
    QuantOpts o = {.mix = quant_mix_find("q8_0")};
    QuantStats st;
    uint64_t before = 0, after = 0;
    split(LLAMA);
    snprintf(one, sizeof one, "%s", edit_path("s-00001-of-00003.gguf"));
    snprintf(two, sizeof two, "%s", edit_path("s-00002-of-00003.gguf"));
    OK_(io_file_size(&before, two, TERR));
    FAILS(ERR_ARG, quant_file(&st, one, two, &o, TERR));
    TRUE_(strstr(test_err.msg, "is input and output"));
    OK_(io_file_size(&after, two, TERR));
    EQ(before, after);
    OK_(quant_file(&st, two, edit_path("whole.gguf"), &o, TERR));
    Gguf *g = NULL;
    OK_(gguf_open(&g, edit_path("whole.gguf"), TERR));
    EQ(gguf_n_files(g), 1);
    TRUE_(!gguf_find(g, "split.count"));
    gguf_close(g);
}
