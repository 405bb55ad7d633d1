/* SPDX-License-Identifier: Apache-2.0
 * Hugging Face folders that cannot be converted as they are: what is refused, and with which words; and what
 * is accepted though it is written another way. Folders are the fixtures of tests/golden/hf with another
 * config.json, or with tensors of their own. */
#include "format/hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/safetensors.h"
#include "test.h"

#define GOLDEN "tests/golden/hf/"

static char *slurp(const char *path) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    return sb_take(&b);
}

static void put(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    FILE *f = fopen(path, "wb");
    TRUE_(f && fputs(text, f) >= 0);
    fclose(f);
}

/* The fixture's weights beside its config.json, in which `old` became `new`. */
static void folder(const char *name, const char *old, const char *new) {
    char path[512], to[600];
    const char *files[] = {"model.safetensors",
                           "model.safetensors.index.json",
                           "model-00001-of-00003.safetensors",
                           "model-00002-of-00003.safetensors",
                           "model-00003-of-00003.safetensors",
                           "model-00001-of-00002.safetensors",
                           "model-00002-of-00002.safetensors"};
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/" GOLDEN "%s/%s", getcwd(to, sizeof to), name, files[i]);
        snprintf(to, sizeof to, "%s/%s", test_tmpdir(), files[i]);
        unlink(to);
        if (io_exists(path)) EQ(symlink(path, to), 0);
    }
    snprintf(path, sizeof path, GOLDEN "%s/config.json", name);
    char *text = slurp(path), *at = strstr(text, old);
    StrBuf b = {0};
    TRUE_(at != NULL);
    sb_put(&b, text, (size_t)(at - text));
    sb_puts(&b, new);
    sb_puts(&b, at + strlen(old));
    put("config.json", sb_str(&b));
    sb_deinit(&b);
    mem_free(text);
}

static Status open_it(HfModel **m, const HfOpts *o) { return hf_open(m, test_tmpdir(), o, TERR); }

static void refused(Status want, const char *name, const char *old, const char *new,
                    const char *words) {
    HfModel *m = NULL;
    HfOpts o = {.type = HF_AS_STORED};
    folder(name, old, new);
    size_t live = mem_live_bytes();
    FAILS(want, open_it(&m, &o));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    EQ(mem_live_bytes(), live);
}

static void accepted(const char *name, const char *old, const char *new, const char *note) {
    HfModel *m = NULL;
    HfOpts o = {.type = HF_AS_STORED};
    folder(name, old, new);
    OK_(open_it(&m, &o));
    EQ(hf_n_notes(m), note ? 1 : 0);
    if (note && !strstr(hf_note_at(m, 0), note))
        FAIL("\"%s\" lacks \"%s\"", hf_note_at(m, 0), note);
    hf_close(m);
}

#define HEAD "{"
#define WITH(member) "{" member ","

TEST(keys_that_are_not_known_are_named) {
    const Status u = ERR_UNSUPPORTED;
    refused(u, "llama", HEAD, WITH("\"logit_scale\":0.5"), "config.json: key \"logit_scale\"");
    refused(u, "llama", HEAD, WITH("\"norm_type\":\"ln\""), "key \"norm_type\"");
    refused(u, "llama", HEAD, WITH("\"n_embd\":32"), "key \"n_embd\"");
    refused(u, "qwen2", HEAD, WITH("\"use_mrope\":true"), "key \"use_mrope\"");
    refused(u, "gpt2", HEAD, WITH("\"scale_attn_by_inverse_layer_idx\":true"), "inverse_layer");
    refused(u, "gpt2", HEAD, WITH("\"scale_attn_weights\":false"), "key \"scale_attn_weights\"");
    refused(u, "llama", HEAD, WITH("\"partial_rotary_factor\":0.5"), "partial_rotary_factor");
    refused(u, "llama", HEAD, WITH("\"quantization_config\":{\"quant_method\":\"hqq\"}"),
            "quant_method \"hqq\"");
    refused(u, "llama", HEAD, WITH("\"compression_config\":{\"x\":1}"), "compression_config");
    refused(u, "llama", "\"silu\"", "\"gelu\"", "key \"hidden_act\"");
    refused(u, "gpt2", "\"gelu_new\"", "\"gelu\"", "key \"activation_function\"");
    refused(u, "qwen3", HEAD, WITH("\"attention_bias\":true"), "key \"attention_bias\"");
    refused(u, "qwen2", HEAD, WITH("\"layer_types\":[\"linear_attention\"]"), "layer_types");
    refused(u, "llama", "LlamaForCausalLM", "FalconForCausalLM", "\"FalconForCausalLM\"");
    refused(u, "llama", "\"LlamaForCausalLM\"", "\"LlamaForCausalLM\", \"X\"", "architectures");
}

TEST(keys_that_mean_nothing_are_accepted) {
    accepted("llama", HEAD, WITH("\"logit_scale\":null,\"residual\":false,\"_x\":[1]"), NULL);
    accepted("llama", HEAD, WITH("\"pretraining_tp\":2,\"unsloth_fixed\":true"), NULL);
    accepted("llama", HEAD, WITH("\"partial_rotary_factor\":1.0"), NULL);
    accepted("gpt2", HEAD, WITH("\"n_inner\":null,\"reorder_and_upcast_attn\":true"), NULL);
    accepted("qwen2", HEAD, WITH("\"layer_types\":[\"full_attention\",\"full_attention\"]"), NULL);
    HfModel *m = NULL;
    const char *ignore[] = {"x", "logit_scale"};
    HfOpts o = {.type = HF_AS_STORED, .ignore = ignore, .n_ignore = 2};
    folder("llama", HEAD, WITH("\"logit_scale\":0.5"));
    OK_(open_it(&m, &o));
    EQ_STR(hf_class(m), "LlamaForCausalLM");
    EQ_STR(hf_arch(m), "llama");
    EQ(hf_n_vocab(m), 56);
    EQ(hf_type(m), DT_BF16);
    hf_close(m);
}

/* Past the window the model would see less than it computes here. */
TEST(a_window_cuts_the_context) {
    refused(ERR_FORMAT, "qwen2", "\"sliding_window\": 8", "\"sliding_window\": -8",
            "sliding_window");
    accepted("qwen2", "\"use_sliding_window\": false", "\"use_sliding_window\": true",
             "the context is cut from 64 to it");
    accepted("llama", HEAD, WITH("\"sliding_window\":16"), "sliding_window 16");
    accepted("llama", HEAD, WITH("\"sliding_window\":64"), NULL);
}

TEST(sizes_that_lie_are_refused) {
    const Status f = ERR_FORMAT;
    refused(f, "llama", "\"hidden_size\": 32", "\"hidden_size\": 64", "config.json wants 56 x 64");
    refused(f, "llama", "\"hidden_size\": 32", "\"hidden_size\": \"32\"", "hidden_size");
    refused(f, "llama", "\"hidden_size\": 32", "\"hidden_size\": 1e30", "hidden_size");
    refused(f, "llama", "\"hidden_size\": 32", "\"hidden_size\": -1", "out of range");
    refused(f, "llama", "\"vocab_size\": 56", "\"vocab_size\": 60",
            "56 x 32, config.json wants 60");
    refused(f, "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
            "\"model.layers.2.input_layernorm.weight\" of LlamaForCausalLM is missing");
    refused(ERR_UNSUPPORTED, "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
            "has no place in LlamaForCausalLM with 1 layers");
    refused(f, "llama", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000", "512");
    refused(f, "llama", "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
            "does not divide");
    refused(f, "llama", "\"num_attention_heads\": 4", "\"num_attention_heads\": 6",
            "do not divide the width");
    refused(ERR_UNSUPPORTED, "llama", "\"num_attention_heads\": 4", "\"num_attention_heads\": 8",
            "heads of 4");
    refused(f, "mistral/fp16", "\"num_key_value_heads\": 2,", "", "num_key_value_heads is missing");
    refused(f, "gpt2", "\"n_positions\": 64", "\"n_positions\": 65", "config.json wants 65 x 32");
    refused(f, "llama", "\"vocab_size\": 56", "\"vocab_size\": 56, \"vocab_size\": 56", "json");
    refused(f, "llama", HEAD, WITH("\"attention_bias\":true"), "q_proj.bias\" of");
    refused(f, "qwen2", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false",
            "\"lm_head.weight\" of Qwen2ForCausalLM is missing");
}

#define SCALING "\"rope_type\": \"llama3\""

TEST(rope_scaling_that_is_not_known_is_refused) {
    const Status u = ERR_UNSUPPORTED, f = ERR_FORMAT;
    refused(u, "llama", SCALING, "\"rope_type\": \"longrope\"", "rope_type \"longrope\"");
    refused(u, "llama", SCALING, "\"rope_type\": \"dynamic\"", "key \"low_freq_factor\"");
    refused(u, "llama", SCALING, "\"rope_type\": \"linear\"", "key \"low_freq_factor\"");
    refused(u, "llama", SCALING, SCALING ",\"short_factor\":[1]", "key \"short_factor\"");
    refused(f, "llama", SCALING, "\"x\":null", "rope_type is missing");
    refused(f, "llama", "\"factor\": 8.0", "\"factor\": 0.5", "factor");
    refused(f, "llama", "\"high_freq_factor\": 4.0", "\"high_freq_factor\": 1.0", "is not over");
    refused(f, "llama", "\"low_freq_factor\": 1.0,", "", "low_freq_factor is missing");
    refused(u, "qwen2", "\"factor\": 4.0", "\"factor\": 4.0,\"beta_fast\":16", "beta_fast 16");
    refused(u, "qwen2", "\"factor\": 4.0", "\"factor\": 4.0,\"mscale\":1", "key \"mscale\"");
    refused(f, "llama", HEAD, WITH("\"rope_parameters\":[1]"), "rope_parameters is no object");
}

TEST(ids_outside_the_vocabulary_are_left_out) {
    accepted("gpt2", HEAD, WITH("\"pad_token_id\":0"), NULL);
    HfModel *m = NULL;
    HfOpts o = {.type = HF_AS_STORED};
    const int32_t *ids;
    folder("llama", HEAD, WITH("\"pad_token_id\":0"));
    put("generation_config.json", "{\"eos_token_id\":[3,50256,3,4]}");
    OK_(open_it(&m, &o));
    EQ(hf_end_ids(m, &ids), 2);
    EQ(ids[0], 3);
    EQ(ids[1], 4);
    EQ(hf_n_notes(m), 1);
    hf_close(m);
    put("generation_config.json", "{");
    FAILS(ERR_FORMAT, open_it(&m, &o));
    TRUE_(strstr(test_err.msg, "generation_config.json") != NULL);
}

/* ---- tensors ---- */

static void tiny_weights(StType type, float value) {
    char path[512];
    StW *w = NULL;
    float x[64];
    uint16_t y[64];
    snprintf(path, sizeof path, "%s/model.safetensors", test_tmpdir());
    for (int i = 0; i < 64; i++) x[i] = value;
    for (int i = 0; i < 64; i++) y[i] = 0x4000;
    OK_(st_w_new(&w, path, TERR));
    const uint64_t mat[] = {8, 8}, vec[] = {8};
    static const char *const mats[] = {
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
    };
    static const char *const vecs[] = {"model.norm.weight", "model.layers.0.input_layernorm.weight",
                                       "model.layers.0.post_attention_layernorm.weight"};
    st_w_tensor(w, slice_of("model.layers.0.self_attn.rotary_emb.inv_freq"), ST_F32, 1, vec);
    for (size_t i = 0; i < COUNT_OF(mats); i++) st_w_tensor(w, slice_of(mats[i]), type, 2, mat);
    for (size_t i = 0; i < COUNT_OF(vecs); i++) st_w_tensor(w, slice_of(vecs[i]), ST_BF16, 1, vec);
    OK_(st_w_begin(w, TERR));
    OK_(st_w_data(w, x, 32, TERR));
    for (size_t i = 0; i < COUNT_OF(mats); i++)
        OK_(st_w_data(w, st_type_bytes(type) == 4 ? (void *)x : (void *)y, 64 * st_type_bytes(type),
                      TERR));
    for (size_t i = 0; i < COUNT_OF(vecs); i++) OK_(st_w_data(w, y, 16, TERR));
    OK_(st_w_end(w, TERR));
    st_w_free(w);
    put("config.json",
        "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":8,\"hidden_size\":8,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"intermediate_size\":8,"
        "\"max_position_embeddings\":16}");
}

static Status write_as(int type) {
    HfModel *m = NULL;
    HfOpts o = {.type = type};
    HfWrite w = {.file_type = -1};
    char path[512];
    snprintf(path, sizeof path, "%s/out.gguf", test_tmpdir());
    OK_(open_it(&m, &o));
    Status st = hf_write(m, path, &w, TERR);
    EQ(io_exists(path), st == OK);
    if (st == OK) OK_(io_remove(path, NULL));
    hf_close(m);
    return st;
}

TEST(values_over_the_limit_of_f16_are_refused) {
    tiny_weights(ST_F32, 65504);
    OK_(write_as(DT_F16));
    tiny_weights(ST_F32, 70000);
    FAILS(ERR_FORMAT, write_as(DT_F16));
    EQ_STR(test_err.msg,
           "tensor token_embd.weight: 70000, the limit of f16 is 65504: take bf16 or f32");
    OK_(write_as(DT_BF16));
    OK_(write_as(HF_AS_STORED));
}

TEST(other_types_of_numbers_are_refused) {
    HfModel *m = NULL;
    HfOpts o = {.type = HF_AS_STORED};
    tiny_weights(ST_I32, 0);
    FAILS(ERR_UNSUPPORTED, open_it(&m, &o));
    TRUE_(strstr(test_err.msg, "I32 is not supported, only F32, F16 and BF16") != NULL);
}

/* Without the key a head of its own is what tells. */
TEST(a_head_of_its_own_is_seen) {
    tiny_weights(ST_F16, 0);
    HfModel *m = NULL;
    HfOpts o = {.type = HF_AS_STORED};
    OK_(open_it(&m, &o));
    EQ(hf_n_tensors(m), 11);
    EQ(hf_n_params(m), 8 * 64 + 3 * 8);
    hf_close(m);
}
