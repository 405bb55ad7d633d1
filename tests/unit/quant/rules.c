/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quant.h"

#include <stdio.h>

#include "test.h"

static GgufTensor tensor(const char *name, uint64_t cols, uint64_t rows) {
    return (
        GgufTensor){.name = slice_of(name), .type = DT_F32, .n_dims = 2, .ne = {cols, rows, 1, 1}};
}

static DType rule_in(QuantRules *r, const char *name, uint64_t cols, uint64_t rows) {
    GgufTensor t = tensor(name, cols, rows);
    bool fallback;
    return quant_type_for(r, &t, QUANT_NOT_FORCED, &fallback);
}

/* One tensor by itself. */
static DType rule(QuantRules r, const char *name, uint64_t cols, uint64_t rows) {
    return rule_in(&r, name, cols, rows);
}

static QuantRules rules(const char *mix) {
    return (QuantRules){.mix = quant_mix_find(mix), .n_layer = 8, .n_attn_v = 8};
}

/* Types of attn_v and ffn_down layer by layer, a digit each: 4, 5, 6, 8. */
static const char *layers(QuantRules r, const char *what, int n) {
    static char out[128];
    for (int i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, what);
        DType t = rule_in(&r, name, 256, 4);
        out[i] = dtype_name(t)[1];
    }
    out[n] = 0;
    return out;
}

TEST(what_is_left_as_it_is) {
    static const char *const names[] = {"blk.0.attn_norm.weight",  "blk.3.ffn_gate_inp.weight",
                                        "position_embd.weight",    "token_types.weight",
                                        "blk.1.attn_qkv.bias",     "rope_freqs.factors",
                                        "blk.1.ssm_conv1d.weight", "v.patch_embd.weight"};
    QuantRules r = rules("q8_0");
    r.pure = true;
    for (size_t i = 0; i < COUNT_OF(names); i++) EQ(rule(r, names[i], 256, 4), DT_F32);
    EQ(rule(r, "blk.0.attn_q.weight", 256, 1), DT_F32); /* a vector with a second dimension of 1 */
    EQ(rule(r, "blk.0.attn_q.weight", 256, 2), DT_Q8_0);
    EQ(rule(r, "output.weight", 256, 2), DT_Q8_0);
    r.leave_output = true;
    EQ(rule(r, "output.weight", 256, 2), DT_F32);
}

TEST(the_head) {
    QuantRules r = rules("q4_0");
    EQ(rule(r, "output.weight", 256, 10), DT_Q6_K);
    EQ(rule(r, "output.weight", 288, 10), DT_Q8_0);
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q4_0);
    r.tied = true;
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q6_K);
    r.pure = true;
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q4_0);
    r.embedding_type = DT_Q5_1;
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q5_1);
    r.output_type = DT_Q8_0;
    EQ(rule(r, "output.weight", 256, 10), DT_Q8_0);
    EQ(rule(rules("q8_0"), "output.weight", 256, 10), DT_Q8_0);
}

TEST(more_bits_by_layer) {
    QuantRules m = rules("q4_K_M"), s = rules("q4_K_S"), m5 = rules("q5_K_M"),
               big = rules("q4_K_M");
    EQ_STR(layers(m, "attn_v", 8), "64464466");
    EQ_STR(layers(m, "ffn_down", 8), "64464466");
    EQ_STR(layers(m5, "ffn_down", 8), "65565566");
    EQ_STR(layers(s, "attn_v", 8), "55554444");
    EQ_STR(layers(s, "ffn_down", 8), "54444444");
    EQ_STR(layers(m, "attn_q", 8), "44444444");
    big.n_layer = big.n_attn_v = 32;
    EQ_STR(layers(big, "ffn_down", 32), "66664464464464464464464464466666");
    EQ_STR(layers(rules("q6_K"), "attn_v", 8), "66666666");
    EQ_STR(layers(m, "attn_qkv", 8), "64464466"); /* counts as attn_v */
}

TEST(large_models_and_experts) {
    QuantRules r = rules("q4_K_M");
    r.is_70b = true;
    EQ_STR(layers(r, "attn_v", 8), "65565566");
    r = rules("q4_K_S");
    r.n_expert = 8;
    EQ(rule(r, "blk.5.attn_v.weight", 256, 4), DT_Q8_0);
    EQ(rule(r, "blk.5.attn_k.weight", 256, 4), DT_Q8_0);
    EQ(rule(r, "blk.5.attn_output.weight", 256, 4), DT_Q5_K);
    EQ(rule(r, "blk.0.ffn_down_exps.weight", 256, 4), DT_Q5_K); /* by the number in its name */
    EQ(rule(r, "blk.1.ffn_down_exps.weight", 256, 4), DT_Q4_K);
}

TEST(importance_moves_the_first_ffn_down) {
    QuantRules r = rules("q4_0");
    EQ(rule(r, "blk.0.ffn_down.weight", 256, 4), DT_Q4_0);
    r.weighted = true;
    EQ(rule(r, "blk.0.ffn_down.weight", 256, 4), DT_Q4_1);
    r.mix = quant_mix_find("q5_0");
    EQ(rule(r, "blk.0.ffn_down.weight", 256, 4), DT_Q5_1);
}

TEST(one_type_for_all) {
    static const char *const names[] = {"f16", "bf16", "q8_0"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        QuantRules r = rules(names[i]);
        EQ(rule(r, "output.weight", 256, 10), r.mix->type);
        EQ(rule(r, "blk.0.ffn_down.weight", 256, 10), r.mix->type);
    }
}

TEST(rows_that_are_no_whole_blocks) {
    static const struct {
        const char *mix;
        DType at_32, at_48;
    } rows[] = {{"q4_K_S", DT_Q5_0, DT_F16}, {"q5_K_S", DT_Q5_1, DT_F16},
                {"q6_K", DT_Q8_0, DT_F16},   {"q4_0", DT_Q4_0, DT_F16},
                {"q8_0", DT_Q8_0, DT_F16},   {"bf16", DT_BF16, DT_BF16}};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        QuantRules r = rules(rows[i].mix);
        EQ(rule(r, "blk.7.attn_q.weight", 96, 10), rows[i].at_32);
        EQ(rule(r, "blk.7.attn_q.weight", 48, 10), rows[i].at_48);
    }
}

TEST(forced_types) {
    QuantRules r = rules("q4_K_M");
    GgufTensor t = tensor("blk.0.attn_v.weight", 256, 4),
               odd = tensor("blk.0.attn_q.weight", 96, 4);
    bool fallback;
    EQ(quant_type_for(&r, &t, DT_Q8_0, &fallback), DT_Q8_0);
    FALSE_(fallback);
    EQ(r.i_attn_v, 0); /* does not count as a layer seen */
    EQ(quant_type_for(&r, &odd, DT_Q6_K, &fallback), DT_Q8_0);
    TRUE_(fallback);
    r.mix = quant_mix_find("f16");
    EQ(quant_type_for(&r, &t, DT_Q8_0, &fallback), DT_F16);
}

TEST(order_of_tensors) {
    static const char *const sorted[] = {"output.weight",       "output_norm.weight",
                                         "token_embd.weight",   "blk.0.attn_k.weight",
                                         "blk.0.attn_q.weight", "blk.0.attn_q.weight.x",
                                         "blk.1.attn_k.weight", "blk.2.attn_k.weight",
                                         "blk.10.attn_k.weight"};
    for (size_t i = 0; i < COUNT_OF(sorted); i++) {
        for (size_t j = 0; j < COUNT_OF(sorted); j++) {
            int c = quant_compare_names(slice_of(sorted[i]), slice_of(sorted[j]));
            EQ(c < 0, i < j);
            EQ(c > 0, i > j);
        }
    }
}

TEST(names_of_mixtures) {
    EQ(quant_mix_find("f16")->file_type, 1);
    EQ(quant_mix_find("int4")->file_type, 2);
    EQ(quant_mix_find("Q8_0")->file_type, 7);
    EQ(quant_mix_find("q4_k")->file_type, 15);
    EQ(quant_mix_find("Q5_K_S")->file_type, 16);
    EQ(quant_mix_find("q5_K_M")->file_type, 17);
    EQ(quant_mix_find("q6_k")->file_type, 18);
    EQ(quant_mix_find("BF16")->file_type, 32);
    TRUE_(quant_mix_find("q9") == NULL && quant_mix_find("f32") == NULL);
    size_t n;
    const QuantMix *m = quant_mixes(&n);
    for (size_t i = 0; i < n; i++) TRUE_(strstr(quant_mix_names(), m[i].name) != NULL);
}
