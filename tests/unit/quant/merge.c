/* SPDX-License-Identifier: Apache-2.0
 * Adapters merged into files, held to the same sums in double precision. */
#include "quant/merge.h"

#include <math.h>
#include <stdio.h>

#include "base/io.h"
#include "quant/quant.h"
#include "support/lora_build.h"
#include "support/tiny_model.h"
#include "tensor/half.h"
#include "test.h"

typedef struct Files {
    char base[400], lora[400], out[400];
} Files;

static Files files;

static const Files *begin(const char *arch, const LoraSpec *s, TinyModel *t) {
    snprintf(files.base, sizeof files.base, "%s/base.gguf", test_tmpdir());
    snprintf(files.lora, sizeof files.lora, "%s/lora.gguf", test_tmpdir());
    snprintf(files.out, sizeof files.out, "%s/out.gguf", test_tmpdir());
    *t = tiny_model_new(arch, 70, 64, NULL, 3);
    OK_(model_save(t->m, files.base, NULL, NULL, TERR));
    lora_build_file(files.lora, t->m, s);
    return &files;
}

static QuantMerged merge(const Files *f, QuantMergeOpts o) {
    QuantMerged st = {0};
    OK_(quant_merge(&st, f->base, f->lora, f->out, &o, TERR));
    return st;
}

/* Largest difference of a merged weight from the one in double precision, and the largest that merging made. */
static double compare(const Files *f, const TinyModel *t, double scale, double *moved) {
    Gguf *g = NULL;
    double worst = 0;
    static float before[70 * 256], after[70 * 256];
    *moved = 0;
    OK_(gguf_open(&g, f->out, TERR));
    EQ(gguf_n_tensors(g), t->m->n_params);
    for (int k = 0; k < 2; k++) {
        if (k == 1) lora_build_merge(t->m, f->lora, (float)scale);
        for (int i = 0; i < t->m->n_params; i++) {
            const Param *p = &t->m->params[i];
            const GgufTensor *x = gguf_find_tensor(g, p->name);
            size_t n = param_n(p);
            TRUE_(x && n <= COUNT_OF(before));
            t->dev->ops->download(t->dev, after, buf_at(t->m->flat, p->off), n * sizeof *after);
            if (x->type == DT_F32) memcpy(before, x->data, n * sizeof *before);
            else TRUE_(dtype_widen(before, x->type, x->data, n));
            for (size_t j = 0; j < n; j++) {
                double d = fabs((double)before[j] - (double)after[j]);
                if (k == 0) *moved = MAX(*moved, d);
                else worst = MAX(worst, d);
            }
        }
    }
    gguf_close(g);
    return worst;
}

TEST(sums_are_those_in_double_precision) {
    static const char *const archs[] = {"llama", "gpt2"};
    static const DType types[] = {DT_F32, DT_F16, DT_BF16};
    for (size_t i = 0; i < COUNT_OF(archs) * COUNT_OF(types); i++) {
        TinyModel t;
        LoraSpec s = {.seed = i,
                      .rank = 3,
                      .alpha = 5,
                      .type = types[i / 2],
                      .no_embd = true,
                      .no_output = true};
        const Files *f = begin(archs[i % 2], &s, &t);
        QuantMerged st =
            merge(f, (QuantMergeOpts){.type = QUANT_AS_STORED, .scale = 0.7, .n_threads = 2});
        double moved, worst = compare(f, &t, 0.7, &moved);
        TRUE_(st.n_pairs > 3 && st.rank >= 3 && st.n_blocks == 0);
        TRUE_(moved > 0.01);
        if (!(worst < 1e-6 * (1 + moved))) FAIL("%s: off by %g of %g", archs[i % 2], worst, moved);
        tiny_model_free(&t);
    }
}

TEST(an_embedding_of_its_own_is_merged_and_a_tied_one_refused) {
    TinyModel t;
    double moved, worst;
    LoraSpec s = {.seed = 1, .rank = 4, .alpha = 8, .type = DT_F32};
    QuantMerged st;
    const Files *f = begin("llama", &s, &t);
    if (t.m->cfg.tied) {
        QuantMergeOpts o = {.type = QUANT_AS_STORED, .scale = 1};
        FAILS(ERR_UNSUPPORTED, quant_merge(&st, f->base, f->lora, f->out, &o, TERR));
        TRUE_(strstr(test_err.msg, "is the head, too") != NULL);
    } else {
        merge(f, (QuantMergeOpts){.type = QUANT_AS_STORED, .scale = 1});
        worst = compare(f, &t, 1, &moved);
        TRUE_(moved > 0.01 && worst < 1e-5);
    }
    tiny_model_free(&t);
    f = begin("gpt2", &s, &t);
    if (t.m->cfg.tied) {
        QuantMergeOpts o = {.type = QUANT_AS_STORED, .scale = 1};
        FAILS(ERR_UNSUPPORTED, quant_merge(&st, f->base, f->lora, f->out, &o, TERR));
    } else {
        merge(f, (QuantMergeOpts){.type = QUANT_AS_STORED, .scale = 1});
        worst = compare(f, &t, 1, &moved);
        TRUE_(moved > 0.01 && worst < 1e-5);
    }
    tiny_model_free(&t);
}

static void same_file(const char *a, const char *b) {
    IoMap x, y;
    OK_(io_map(&x, a, TERR));
    OK_(io_map(&y, b, TERR));
    EQ(x.n, y.n);
    EQ_MEM(x.p, y.p, x.n);
    io_unmap(&x);
    io_unmap(&y);
}

TEST(the_same_bytes_with_any_number_of_threads) {
    TinyModel t;
    char one[400];
    LoraSpec s = {.rank = 4, .alpha = 8, .no_embd = true, .no_output = true};
    const Files *f = begin("llama", &s, &t);
    snprintf(one, sizeof one, "%s/one.gguf", test_tmpdir());
    merge(f, (QuantMergeOpts){.type = DT_BF16, .scale = 1, .n_threads = 1});
    rename(f->out, one);
    merge(f, (QuantMergeOpts){.type = DT_BF16, .scale = 1, .n_threads = 5});
    same_file(one, f->out);
    tiny_model_free(&t);
}

/* Scale 0 adds nothing: the blocks are made of what blocks say, and so are the same. */
TEST(quantized_weights_stay_in_their_type) {
    TinyModel t;
    QuantStats qs;
    Gguf *a = NULL, *b = NULL;
    char q8[400];
    LoraSpec s = {.rank = 4, .alpha = 8, .no_embd = true, .no_output = true};
    Files f = *begin("llama", &s, &t);
    snprintf(q8, sizeof q8, "%s/q8.gguf", test_tmpdir());
    OK_(quant_file(&qs, f.base, q8, &(QuantOpts){.mix = quant_mix_find("q8_0")}, TERR));
    snprintf(f.base, sizeof f.base, "%s", q8);
    QuantMerged st = merge(&f, (QuantMergeOpts){.type = QUANT_AS_STORED, .scale = 0});
    TRUE_(st.n_blocks > 0);
    OK_(gguf_open(&a, f.base, TERR));
    OK_(gguf_open(&b, f.out, TERR));
    for (size_t i = 0; i < gguf_n_tensors(a); i++) {
        const GgufTensor *x = gguf_tensor_at(a, i), *y = gguf_tensor_at(b, i);
        EQ(x->type, y->type);
        EQ_MEM(x->data, y->data, x->n_bytes);
    }
    Slice name;
    OK_(gguf_get_str(&name, b, "ingot.lora.merged", TERR));
    TRUE_(slice_eq_str(name, "lora.gguf"));
    EQ(gguf_n_kv(b), gguf_n_kv(a) + 1);
    gguf_close(a);
    gguf_close(b);
    tiny_model_free(&t);
}

TEST(refusals) {
    TinyModel t, u;
    QuantMerged st;
    LoraSpec s = {.rank = 4, .alpha = 8, .no_embd = true, .no_output = true, .size = 1e6f};
    const Files *f = begin("llama", &s, &t);
    QuantMergeOpts o = {.type = DT_F16, .scale = 1};
    FAILS(ERR_FORMAT, quant_merge(&st, f->base, f->lora, f->out, &o, TERR));
    TRUE_(strstr(test_err.msg, "f16 cannot hold it") != NULL);
    FALSE_(io_exists(f->out));
    FAILS(ERR_ARG, quant_merge(&st, f->base, f->lora, f->base, &o, TERR));
    FAILS(ERR_ARG, quant_merge(&st, f->base, f->lora, f->lora, &o, TERR));
    o.scale = (double)NAN;
    FAILS(ERR_ARG, quant_merge(&st, f->base, f->lora, f->out, &o, TERR));
    o.scale = 1;
    FAILS(ERR_FORMAT, quant_merge(&st, f->base, f->base, f->out, &o, TERR)); /* no adapter */
    tiny_model_free(&t);
    f = begin("gpt2", &s, &u); /* another architecture's adapter */
    char other[400];
    snprintf(other, sizeof other, "%s/other.gguf", test_tmpdir());
    rename(f->lora, other);
    f = begin("llama", &s, &t);
    FAILS(ERR_FORMAT, quant_merge(&st, f->base, other, f->out, &o, TERR));
    tiny_model_free(&t);
    tiny_model_free(&u);
}
