/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quant.h"

#include "test.h"

enum { Q6_K = 14 };

static GgufTensor tensor(const char *name, uint64_t cols, uint64_t rows) {
    return (
        GgufTensor){.name = slice_of(name), .type = DT_F32, .n_dims = 2, .ne = {cols, rows, 1, 1}};
}

static DType rule(QuantRules r, const char *name, uint64_t cols, uint64_t rows) {
    GgufTensor t = tensor(name, cols, rows);
    return quant_type_for(&r, &t);
}

TEST(what_is_left_as_it_is) {
    static const char *const names[] = {"blk.0.attn_norm.weight", "blk.3.ffn_gate_inp.weight",
                                        "position_embd.weight",   "token_types.weight",
                                        "blk.1.attn_qkv.bias",    "rope_freqs.factors",
                                        "blk.1.ssm_conv1d.weight"};
    QuantRules r = {.type = DT_Q8_0, .pure = true, .has_output = true};
    for (size_t i = 0; i < COUNT_OF(names); i++) EQ(rule(r, names[i], 256, 4), DT_F32);
    EQ(rule(r, "blk.0.attn_q.weight", 256, 1), DT_F32); /* a vector with a second dimension of 1 */
    EQ(rule(r, "blk.0.attn_q.weight", 256, 2), DT_Q8_0);
    EQ(rule(r, "position_embd.weight.weight", 256, 2), DT_Q8_0);
}

TEST(the_head_under_q4_0) {
    QuantRules r = {.type = DT_Q4_0, .has_output = true, .has_q6_k = false};
    EQ(rule(r, "output.weight", 256, 10), DT_Q8_0);
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q4_0);
    r.has_output = false;
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q8_0);
    r.pure = true;
    EQ(rule(r, "token_embd.weight", 256, 10), DT_Q4_0);
}

TEST(q6_k_wants_rows_of_256) {
    QuantRules r = {.type = DT_Q4_0, .has_output = true, .has_q6_k = true};
    if (dtype_info(Q6_K)) EQ(rule(r, "output.weight", 512, 10), Q6_K);
    EQ(rule(r, "output.weight", 288, 10), DT_Q8_0);
}

TEST(one_type_for_all_but_q4_0) {
    static const DType types[] = {DT_F16, DT_BF16, DT_Q8_0};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        QuantRules r = {.type = types[i], .has_output = true, .has_q6_k = true};
        EQ(rule(r, "output.weight", 256, 10), types[i]);
        EQ(rule(r, "blk.0.ffn_down.weight", 256, 10), types[i]);
    }
}

TEST(rows_that_are_no_whole_blocks) {
    QuantRules r = {.type = DT_Q4_0, .has_output = true};
    EQ(rule(r, "blk.0.ffn_down.weight", 48, 10), DT_F16);
    EQ(rule(r, "output.weight", 48, 10), DT_F16);
    r.type = DT_Q8_0;
    EQ(rule(r, "blk.0.ffn_down.weight", 33, 10), DT_F16);
    r.type = DT_BF16;
    EQ(rule(r, "blk.0.ffn_down.weight", 33, 10), DT_BF16);
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

TEST(file_types) {
    EQ(quant_file_type(DT_F16), 1);
    EQ(quant_file_type(DT_Q4_0), 2);
    EQ(quant_file_type(DT_Q8_0), 7);
    EQ(quant_file_type(DT_BF16), 32);
    EQ(quant_file_type((DType)5), -1);
}
