/* SPDX-License-Identifier: Apache-2.0 */
#include "format/hf_out.h"

#include <math.h>
#include <stdio.h>

#include "format/hf_out_internal.h"
#include "test.h"

/* ---- divisors ---- */

static HfConfig config_of(int hd, double base, double factor, double low, double high,
                          int64_t ctx) {
    HfConfig c = {.hd = hd};
    c.rope = (HfRope){.kind = HF_ROPE_LLAMA3,
                      .base = base,
                      .factor = factor,
                      .attn = 1,
                      .low = low,
                      .high = high,
                      .ctx = ctx};
    return c;
}

static void divisors(float *d, const HfConfig *c) {
    for (int i = 0; i < c->hd / 2; i++) d[i] = hf__llama3_divisor(c, i);
}

static int deduce(HfConfig *out, const float *d, int hd, double base) {
    *out = (HfConfig){.hd = hd};
    out->rope = (HfRope){.base = base, .factor = 1, .attn = 1};
    return hf__deduce_llama3(out, d, hd / 2);
}

TEST(llama3_parameters_are_found_again) {
    static const struct {
        int hd;
        double base, factor, high;
        int64_t ctx;
    } rows[] = {{128, 500000, 8, 4, 8192},  {64, 500000, 32, 4, 8192}, {128, 500000, 16, 4, 8192},
                {64, 10000, 4, 4, 4096},    {128, 1e6, 8, 8, 8192},    {8, 500, 8, 4, 32},
                {96, 500000, 2.5, 3, 6000}, {256, 10000, 8, 2.5, 8192}};
    float d[128];
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        HfConfig c = config_of(rows[i].hd, rows[i].base, rows[i].factor, 1, rows[i].high,
                               rows[i].ctx),
                 got;
        divisors(d, &c);
        EQ(deduce(&got, d, rows[i].hd, rows[i].base), 2);
        EQ(got.rope.kind, HF_ROPE_LLAMA3);
        float again[128];
        divisors(again, &got);
        EQ_MEM(again, d, (size_t)rows[i].hd / 2 * sizeof *d);
        if (rows[i].hd < 64) continue; /* too few to tell all parameters from others */
        EQ(got.rope.ctx, rows[i].ctx);
        NEAR(got.rope.high, rows[i].high, 1e-6);
        NEAR(got.rope.factor, rows[i].factor, 1e-6);
    }
}

/* low_freq_factor 2 is the same line with all three doubled. */
TEST(llama3_is_found_up_to_a_common_factor) {
    float d[64];
    HfConfig c = config_of(128, 500000, 8, 2, 8, 16384), got;
    divisors(d, &c);
    TRUE_(deduce(&got, d, 128, 500000) > 0);
    EQ(got.rope.ctx, 8192);
    NEAR(got.rope.high, 4, 1e-9);
}

/* Other programs compute the divisors in single precision. */
TEST(llama3_is_found_behind_rounding) {
    float d[64];
    HfConfig c = config_of(128, 500000, 8, 1, 4, 8192), got;
    divisors(d, &c);
    for (int i = 0; i < 64; i++)
        if (d[i] > 1.0f && d[i] < 8.0f) d[i] *= i % 2 ? 1.000001f : 0.999999f;
    EQ(deduce(&got, d, 128, 500000), 1);
    EQ(got.rope.ctx, 8192);
}

TEST(other_divisors_are_not_llama3) {
    float d[64];
    HfConfig c = config_of(128, 500000, 8, 1, 4, 8192), got;
    divisors(d, &c);
    d[40] *= 1.01f;
    EQ(deduce(&got, d, 128, 500000), 0);
    for (int i = 0; i < 64; i++) d[i] = 1.0f + (float)i; /* longrope's look like that */
    EQ(deduce(&got, d, 128, 500000), 0);
    d[3] = NAN;
    EQ(deduce(&got, d, 128, 500000), 0);
    d[3] = 0.5f;
    EQ(deduce(&got, d, 128, 500000), 0);
    for (int i = 0; i < 64; i++) d[i] = 1.0f;
    EQ(deduce(&got, d, 128, 500000), 2);
}

/* ---- text ---- */

static void pretty(const char *in, const char *want) {
    StrBuf b = {0};
    hf_out_put_pretty(&b, slice_of(in));
    EQ_STR(sb_str(&b), want);
    sb_deinit(&b);
}

TEST(pretty_text_is_the_same_value) {
    pretty("{}", "{}\n");
    pretty("{\"a\":[],\"b\":{}}", "{\n  \"a\": [],\n  \"b\": {}\n}\n");
    pretty("[1,{\"x\":\"a,b:{\\\"[\"}]", "[\n  1,\n  {\n    \"x\": \"a,b:{\\\"[\"\n  }\n]\n");
    pretty("\"\\\\\"", "\"\\\\\"\n");
}

/* ---- what has no place ---- */

static const HfSpec small = {.arch = "llama",
                             .n_layer = 1,
                             .C = 32,
                             .nh = 4,
                             .nkv = 2,
                             .hd = 8,
                             .ff = 40,
                             .V = 50,
                             .ctx = 64,
                             .n_rot = 4,
                             .eps = 1e-5f,
                             .rope_base = 10000,
                             .rope_scale = 1,
                             .tied = true};

static void refused(const HfSpec *s, const char *words) {
    GgufW *w = NULL;
    Gguf *g = NULL;
    HfOut *o = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s/empty.gguf", test_tmpdir());
    OK_(gguf_w_new(&w, path, 32, false, TERR));
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    OK_(gguf_open(&g, path, TERR));
    TRUE_(hf_out_new(&o, s, g, TERR) != OK);
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    gguf_close(g);
}

TEST(what_a_folder_cannot_say_is_refused) {
    HfSpec s = small;
    refused(&s, "tensor token_embd.weight of LlamaForCausalLM is missing");
    s.qkv_bias = true;
    refused(&s, "attn_q.bias without attn_output.bias has no place in LlamaForCausalLM");
    s = small, s.arch = "starcoder2";
    refused(&s, "architecture starcoder2 has no class here: gpt2, llama");
    s = small, s.class_name = "Qwen2ForCausalLM";
    refused(&s, "class Qwen2ForCausalLM is not one of llama");
    s = small, s.n_rot = 2;
    refused(&s, "rope.dimension_count 4 has no word");
    s = small, s.rope_scale = 0.5f;
    refused(&s, "rope.scaling.factor 0.5 has no word");
    s = small, s.rope_attn = 2;
    refused(&s, "rope.scaling.attn_factor 2 has no word");
    s = small, s.yarn_ctx = 32, s.yarn_odd = true;
    refused(&s, "yarn with other betas");
    s = small, s.arch = "qwen2", s.out_bias = true;
    refused(&s, "attn_output.bias has no place in Qwen2ForCausalLM");
    s = small, s.arch = "qwen3", s.mlp_bias = true;
    refused(&s, "ffn_down.bias has no place in Qwen3ForCausalLM");
    s = small, s.arch = "mistral3", s.qkv_bias = true;
    refused(&s, "attn_q.bias has no place in MistralForCausalLM");
    s = small, s.arch = "gpt2";
    refused(&s, "2 key/value heads of 4 has no place in GPT2LMHeadModel");
}
