/* SPDX-License-Identifier: Apache-2.0
 * Folders of tests/golden/hf, made by tests/peers/make_hf.py, converted: logits against the float64 pass over
 * the folder's own layout, bytes against the folder's bytes, and what the tokenizer files said. Never skips. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "model/model.h"
#include "quant/convert.h"
#include "token/token.h"

enum { N = 12, V = 56 };

static const char *const names[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3"};

typedef struct Want {
    int32_t ids[N];
    float logits[N * V];
} Want;

static void read_want(Want *w, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "tests/golden/hf/%s.expected.txt", name);
    FILE *f = fopen(path, "r");
    TRUE_(f != NULL);
    for (int i = 0; i < N; i++) EQ(fscanf(f, "%d", &w->ids[i]), 1);
    for (int i = 0; i < N * V; i++) EQ(fscanf(f, "%f", &w->logits[i]), 1);
    fclose(f);
}

static const char *convert(const char *name, const char *type) {
    static char out[512];
    char dir[256];
    QuantConverted st;
    QuantConvertOpts o = {.type = type};
    snprintf(dir, sizeof dir, "tests/golden/hf/%s", name);
    snprintf(out, sizeof out, "%s/%s-%s.gguf", test_tmpdir(), name, type);
    OK_(quant_convert(&st, dir, out, &o, TERR));
    quant_converted_deinit(&st);
    return out;
}

static double worst_logit(const char *path, const Want *w) {
    Device *dev = NULL;
    Model *m = NULL;
    int32_t seq[N] = {0}, pos[N], out[N], blocks[] = {1};
    const int32_t *table[] = {blocks};
    const float *logits;
    double worst = 0;
    OK_(device_cpu_new(&dev, &(DeviceOpts){.n_threads = 1}, TERR));
    OK_(model_load(&m, dev, path, TERR));
    EQ(m->cfg.V, V);
    KvStore *kv = dev->ops->kv_new(dev, DT_F32, m->cfg.n_layer, 2, m->cfg.nkv, m->cfg.hd);
    OK_(model_reserve(m, N, N, TERR));
    for (int i = 0; i < N; i++) out[i] = pos[i] = i;
    Batch b = {.T = N,
               .tok = w->ids,
               .pos = pos,
               .seq = seq,
               .n_seq = 1,
               .blocks = table,
               .n_out = N,
               .out = out};
    OK_(model_forward(m, kv, &b, &logits, TERR));
    for (int i = 0; i < N * V; i++) {
        double d = (double)logits[i] - (double)w->logits[i];
        if (d < 0) d = -d;
        if (!(d <= worst)) worst = d;
    }
    dev->ops->kv_free(dev, kv);
    model_free(m);
    dev->ops->free(dev);
    return worst;
}

TEST(logits_match_the_folders_own_pass) {
    Want w;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        read_want(&w, names[i]);
        double full = worst_logit(convert(names[i], "f32"), &w);
        double stored = worst_logit(convert(names[i], "auto"), &w);
        double q8 = worst_logit(convert(names[i], "q8_0"), &w);
        printf("%s: f32 %.1e, as stored %.1e, q8_0 %.1e\n", names[i], full, stored, q8);
        TRUE_(full < 1e-4);
        TRUE_(stored < 1e-4);
        TRUE_(q8 < 1.0);
    }
}

/* ---- bytes ---- */

static const GgufTensor *tensor(const Gguf *g, const char *name, DType type) {
    const GgufTensor *t = gguf_find_tensor(g, name);
    TRUE_(t != NULL);
    EQ(t->type, type);
    return t;
}

TEST(matrices_are_carried_bit_for_bit) {
    static const struct {
        const char *dir, *from, *model, *to;
        DType type;
    } rows[] = {
        {"gpt2", "wte.weight", "gpt2", "token_embd.weight", DT_F16},
        {"llama", "model.layers.1.self_attn.v_proj.weight", "llama", "blk.1.attn_v.weight",
         DT_BF16},
        {"llama", "lm_head.weight", "llama", "output.weight", DT_BF16},
        {"mistral/fp16", "model.layers.0.mlp.down_proj.weight", "mistral", "blk.0.ffn_down.weight",
         DT_F16},
        {"qwen2", "model.layers.1.self_attn.q_proj.weight", "qwen2", "blk.1.attn_q.weight",
         DT_BF16},
        {"qwen3", "model.layers.0.self_attn.k_proj.weight", "qwen3", "blk.0.attn_k.weight", DT_F32},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        St *s = NULL;
        Gguf *g = NULL;
        char dir[256];
        snprintf(dir, sizeof dir, "tests/golden/hf/%s", rows[i].dir);
        OK_(st_open_dir(&s, dir, TERR));
        OK_(gguf_open(&g, convert(rows[i].model, "auto"), TERR));
        const StTensor *a = st_find(s, slice_of(rows[i].from));
        const GgufTensor *b = tensor(g, rows[i].to, rows[i].type);
        EQ(a->n_bytes, b->n_bytes);
        EQ_MEM(a->data, b->data, a->n_bytes);
        gguf_close(g);
        st_close(s);
    }
}

/* Row by row: neighbours in the file were hd/2 apart in the folder; gpt2's rows were columns. */
TEST(reordered_rows_are_the_folders_rows) {
    enum { HD = 8, C = 32 };
    St *s = NULL;
    Gguf *g = NULL;
    OK_(st_open_dir(&s, "tests/golden/hf/llama", TERR));
    OK_(gguf_open(&g, convert("llama", "auto"), TERR));
    const uint8_t *a = st_find(s, slice_of("model.layers.0.self_attn.q_proj.weight"))->data;
    const uint8_t *b = tensor(g, "blk.0.attn_q.weight", DT_BF16)->data;
    for (int h = 0; h < 4; h++)
        for (int k = 0; k < HD; k++) {
            int from = h * HD + (k % 2) * HD / 2 + k / 2;
            EQ_MEM(b + (h * HD + k) * C * 2, a + from * C * 2, C * 2);
        }
    gguf_close(g);
    st_close(s);
    OK_(st_open_dir(&s, "tests/golden/hf/gpt2", TERR));
    OK_(gguf_open(&g, convert("gpt2", "auto"), TERR));
    a = st_find(s, slice_of("h.1.mlp.c_fc.weight"))->data; /* [C][4C] */
    b = tensor(g, "blk.1.ffn_up.weight", DT_F16)->data;    /* [4C][C] */
    for (int r = 0; r < 4 * C; r++)
        for (int c = 0; c < C; c++) EQ_MEM(b + (r * C + c) * 2, a + (c * 4 * C + r) * 2, 2);
    gguf_close(g);
    st_close(s);
}

/* A file of one type, written in another and back, is the same file. */
TEST(wider_types_lose_nothing) {
    Gguf *a = NULL, *b = NULL;
    OK_(gguf_open(&a, convert("llama", "auto"), TERR));
    OK_(gguf_open(&b, convert("llama", "f32"), TERR));
    for (size_t i = 0; i < gguf_n_tensors(a); i++) {
        const GgufTensor *x = gguf_tensor_at(a, i), *y = gguf_tensor_at(b, i);
        EQ(y->type, DT_F32);
        if (x->type == DT_F32) EQ_MEM(x->data, y->data, x->n_bytes);
        for (size_t k = 0; x->type == DT_BF16 && k < x->n_elem; k++) {
            uint32_t wide = (uint32_t)((const uint16_t *)x->data)[k] << 16;
            EQ_MEM(&wide, (const float *)y->data + k, 4);
        }
    }
    gguf_close(a);
    gguf_close(b);
}

/* ---- what comes along ---- */

TEST(ends_template_and_padding_come_along) {
    Gguf *g = NULL;
    Tokenizer *t = NULL;
    int64_t id = -1;
    Slice s = {0};
    OK_(gguf_open(&g, convert("llama", "auto"), TERR));
    OK_(tok_load(&t, g, TERR));
    EQ(tok_n_vocab(t), V);
    EQ(tok_bos(t), tok_find(t, slice_of("<s>")));
    EQ(tok_eot(t), tok_find(t, slice_of("</s>")));
    TRUE_(tok_is_end(t, tok_find(t, slice_of("<|turn|>"))));
    TRUE_(tok_is_end(t, tok_find(t, slice_of("<|stop|>"))));
    FALSE_(tok_is_end(t, tok_find(t, slice_of("<s>"))));
    EQ(tok_type(t, V - 1), TOK_UNUSED);
    OK_(gguf_get_int(&id, g, "tokenizer.ggml.eot_token_id", 0, V, TERR));
    EQ(id, tok_find(t, slice_of("<|turn|>")));
    OK_(gguf_get_str(&s, g, "tokenizer.chat_template", TERR));
    TRUE_(s.n > 20 && memcmp(s.p, "{% for m in", 11) == 0);
    tok_free(t);
    gguf_close(g);
}
