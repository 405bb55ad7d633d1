/* SPDX-License-Identifier: Apache-2.0
 * Folders of tests/golden/packed, made and packed by tests/peers/make_quantized.py (AWQ; GPTQ with its inputs
 * out of order; GPTQ of 3 bits, second version; nf4 with nested scales), converted: every unpacked tensor has
 * the digest that was taken of it before it was packed, bit for bit, whatever the number of threads. And the
 * LoRA adapter of tests/peers/adapters.py. Never skips. */
#include "test.h"

#include <stdio.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/sha.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/lora.h"
#include "quant/convert.h"
#include "tensor/half.h"

static const char *const names[] = {"awq", "gptq", "gptq3", "nf4"};

static const char *convert(const char *name, const char *type, int n_threads, QuantConverted *st) {
    static char out[512];
    char dir[256];
    QuantConvertOpts o = {.type = type, .n_threads = n_threads};
    snprintf(dir, sizeof dir, "tests/golden/packed/%s", name);
    snprintf(out, sizeof out, "%s/%s-%s-%d.gguf", test_tmpdir(), name, type, n_threads);
    OK_(quant_convert(st, dir, out, &o, TERR));
    return out;
}

static int compare_digests(const Gguf *g, const char *name) {
    char path[256], tensor[64], want[65], got[65] = "";
    int n = 0;
    snprintf(path, sizeof path, "tests/golden/packed/%s.sha256.txt", name);
    FILE *f = fopen(path, "r");
    TRUE_(f != NULL);
    while (fscanf(f, "%63s %64s", tensor, want) == 2) {
        Sha256 s;
        const GgufTensor *t = gguf_find_tensor(g, tensor);
        TRUE_(t != NULL);
        EQ(t->type, DT_F32);
        OK_(sha_256(&s, t->data, t->n_bytes, TERR));
        for (int i = 0; i < 32; i++) snprintf(got + 2 * i, 3, "%02x", s.b[i]);
        if (strcmp(got, want) != 0) FAIL("%s: %s is not what was packed", name, tensor);
        n++;
    }
    fclose(f);
    return n;
}

TEST(packed_values_come_back_bit_by_bit) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        QuantConverted st;
        Gguf *g = NULL;
        OK_(gguf_open(&g, convert(names[i], "f32", 1, &st), TERR));
        EQ(compare_digests(g, names[i]), 7);
        NEAR(st.relative, 0, 0);
        quant_converted_deinit(&st);
        gguf_close(g);
    }
}

static char *slurp(const char *path, size_t *n) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 22, TERR));
    *n = b.n;
    return sb_take(&b);
}

TEST(files_do_not_depend_on_threads) {
    static const char *const types[] = {"auto", "f32", "q8_0", "q4_0"};
    for (size_t i = 0; i < COUNT_OF(names) * COUNT_OF(types); i++) {
        QuantConverted one, three;
        size_t n1, n3;
        const char *name = names[i / COUNT_OF(types)], *type = types[i % COUNT_OF(types)];
        char *a = slurp(convert(name, type, 1, &one), &n1);
        char *b = slurp(convert(name, type, 3, &three), &n3);
        EQ(n1, n3);
        EQ_MEM(a, b, n1);
        EQ_MEM(&one.relative, &three.relative, sizeof one.relative);
        EQ(one.worst, three.worst);
        mem_free(a);
        mem_free(b);
        quant_converted_deinit(&one);
        quant_converted_deinit(&three);
    }
}

/* Against the f32 file, tensor by tensor. */
TEST(what_is_reported_as_lost_is_lost) {
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        QuantConverted full, half;
        Gguf *a = NULL, *b = NULL;
        double error = 0, square = 0;
        OK_(gguf_open(&a, convert(names[i], "f32", 1, &full), TERR));
        OK_(gguf_open(&b, convert(names[i], "f16", 2, &half), TERR));
        for (size_t k = 0; k < half.n_loss; k++) {
            const GgufTensor *x = gguf_find_tensor(a, half.loss[k].name);
            const GgufTensor *y = gguf_find_tensor(b, half.loss[k].name);
            double e = 0, s = 0;
            for (size_t n = 0; y->type == DT_F16 && n < x->n_elem; n++) {
                double v = (double)((const float *)x->data)[n];
                double d = (double)half_f16_to_f32(((const uint16_t *)y->data)[n]) - v;
                e += d * d;
                s += v * v;
            }
            NEAR(half.loss[k].relative, e > 0 ? e / s : 0, e > 0 ? 1e-5 * e / s : 0);
            TRUE_(half.loss[k].relative <= half.loss[half.worst].relative);
            error += e;
            square += s;
        }
        /* Tensors that keep their type are not in the sum of squares. */
        TRUE_(half.relative >= 0 && half.relative < 1e-6);
        if (error > 0) TRUE_(half.relative > 0);
        TRUE_(square > 0);
        quant_converted_deinit(&full);
        quant_converted_deinit(&half);
        gguf_close(a);
        gguf_close(b);
    }
}

/* ---- an adapter ---- */

static float bf16_or_f32(const StTensor *t, size_t i) {
    float x;
    EQ(t->type, ST_F32);
    memcpy(&x, (const uint8_t *)t->data + 4 * i, sizeof x);
    return x;
}

/* B's rows of q and k stand in pairs in the file, and nothing else moves. */
TEST(adapter_rows_are_ordered_as_the_models) {
    enum { RANK = 2, HD = 8, C = 32 };
    char out[300];
    QuantAdapter st;
    QuantConvertOpts o = {.type = "auto"};
    Gguf *g = NULL;
    St *s = NULL;
    snprintf(out, sizeof out, "%s/adapter.gguf", test_tmpdir());
    OK_(quant_convert_adapter(&st, "tests/golden/packed/adapter", "tests/golden/hf/llama", out, &o,
                              TERR));
    EQ(st.n_pairs, 14);
    EQ(st.rank, RANK);
    NEAR(st.alpha, 8, 0);
    OK_(gguf_open(&g, out, TERR));
    TRUE_(lora_is_adapter(g));
    OK_(st_open(&s, "tests/golden/packed/adapter/adapter_model.safetensors", TERR));
    const char *from = "base_model.model.model.layers.1.self_attn.%s.lora_%c.weight";
    static const struct {
        const char *module, *tensor;
        bool pairs;
    } rows[] = {{"q_proj", "blk.1.attn_q.weight", true},
                {"k_proj", "blk.1.attn_k.weight", true},
                {"v_proj", "blk.1.attn_v.weight", false},
                {"o_proj", "blk.1.attn_output.weight", false}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char name[128];
        snprintf(name, sizeof name, from, rows[i].module, 'A');
        const StTensor *a = st_find(s, slice_of(name));
        snprintf(name, sizeof name, from, rows[i].module, 'B');
        const StTensor *b = st_find(s, slice_of(name));
        snprintf(name, sizeof name, "%s.lora_a", rows[i].tensor);
        const GgufTensor *x = gguf_find_tensor(g, name);
        snprintf(name, sizeof name, "%s.lora_b", rows[i].tensor);
        const GgufTensor *y = gguf_find_tensor(g, name);
        TRUE_(a && b && x && y);
        EQ(x->ne[0], C);
        EQ(x->ne[1], RANK);
        EQ_MEM(x->data, a->data, a->n_bytes);
        for (size_t r = 0; r < y->ne[1]; r++) {
            size_t k = r % HD, src = rows[i].pairs ? r - k + k % 2 * (HD / 2) + k / 2 : r;
            for (size_t c = 0; c < RANK; c++)
                NEAR(((const float *)y->data)[r * RANK + c], bf16_or_f32(b, src * RANK + c), 0);
        }
    }
    gguf_close(g);
    st_close(s);
}
