/* SPDX-License-Identifier: Apache-2.0
 * config.json with the keys that well-known models are published with, their sizes those of the fixtures of
 * tests/golden/hf, whose weights are beside them: every one opens and is written, and what it says is in the
 * file. */
#include "format/hf.h"

#include <stdio.h>
#include <unistd.h>

#include "base/mem.h"
#include "format/gguf.h"
#include "test.h"

#define SIZES                                                                                      \
    "\"hidden_size\":32,\"intermediate_size\":40,\"num_attention_heads\":4,\"num_hidden_layers\":" \
    "2,"                                                                                           \
    "\"num_key_value_heads\":2,\"vocab_size\":56,"
#define LLAMA                                                                                     \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"attention_bias\":false,\"attention_dropout\":0." \
    "0,"                                                                                          \
    "\"hidden_act\":\"silu\",\"initializer_range\":0.02,\"mlp_bias\":false,\"model_type\":"       \
    "\"llama\","                                                                                  \
    "\"pretraining_tp\":1,\"rms_norm_eps\":1e-05,\"torch_dtype\":\"bfloat16\",\"use_cache\":"     \
    "true," SIZES
#define QWEN2                                                                                      \
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"attention_dropout\":0.0,\"hidden_act\":\"silu\"," \
    "\"initializer_range\":0.02,\"max_window_layers\":21,\"model_type\":\"qwen2\",\"rms_norm_"     \
    "eps\":1e-06,"                                                                                 \
    "\"torch_dtype\":\"bfloat16\",\"use_cache\":true,\"use_sliding_window\":false," SIZES
#define ROPE3(factor)                                                                           \
    "\"rope_scaling\":{\"factor\":" factor ",\"high_freq_factor\":4.0,\"low_freq_factor\":1.0," \
    "\"original_max_position_embeddings\":8192,\"rope_type\":\"llama3\"},"

typedef struct Published {
    const char *name, *weights, *config, *generation;
    int ctx, n_end;
    double theta;
    int freqs; /* rope_freqs.weight is there */
} Published;

static const Published models[] = {
    {"Llama-3.2-3B-Instruct", "llama",
     LLAMA "\"bos_token_id\":53,\"eos_token_id\":[52,54,55],\"head_dim\":8,"
           "\"max_position_embeddings\":131072," ROPE3(
               "32.0") "\"rope_theta\":500000.0,"
                       "\"tie_word_embeddings\":true,\"transformers_version\":\"4.45.0.dev0\"}",
     "{\"bos_token_id\":53,\"do_sample\":true,\"eos_token_id\":[52,54,55],\"temperature\":0.6,"
     "\"top_p\":0.9,\"transformers_version\":\"4.45.0.dev0\"}",
     131072, 3, 5e5, 1},
    {"DeepSeek-R1-Distill-Llama-8B", "llama",
     LLAMA "\"bos_token_id\":53,\"eos_token_id\":52,\"max_position_embeddings\":131072," ROPE3(
         "8.0") "\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"transformers_version\":"
                "\"4.43.0.dev0\"}",
     "{\"_from_model_config\":true,\"bos_token_id\":53,\"eos_token_id\":52,\"do_sample\":true,"
     "\"temperature\":0.6,\"top_p\":0.95,\"transformers_version\":\"4.39.3\"}",
     131072, 1, 5e5, 1},
    {"unsloth/DeepSeek-R1-Distill-Llama-8B", "llama",
     LLAMA
     "\"_name_or_path\":\"x\",\"bos_token_id\":53,\"eos_token_id\":52,\"head_dim\":8,"
     "\"max_position_embeddings\":131072,\"pad_token_id\":55," ROPE3(
         "8.0") "\"rope_theta\":500000.0,\"tie_word_embeddings\":false,\"unsloth_fixed\":true,"
                "\"transformers_version\":\"4.48.2\"}",
     "{\"max_length\":131072,\"pad_token_id\":55}", 131072, 1, 5e5, 1},
    {"TinyLlama (older keys)", "llama",
     LLAMA
     "\"bos_token_id\":1,\"eos_token_id\":2,\"max_position_embeddings\":2048,\"rope_scaling\":null,"
     "\"tie_word_embeddings\":false,\"transformers_version\":\"4.35.0\"}",
     NULL, 2048, 1, 1e4, 0},
    {"dynamic scaling", "llama",
     LLAMA "\"bos_token_id\":1,\"eos_token_id\":2,\"max_position_embeddings\":4096,"
           "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0},\"tie_word_embeddings\":false}",
     NULL, 4096, 1, 1e4, 0},
    {"linear scaling, newer keys", "llama",
     LLAMA "\"bos_token_id\":1,\"eos_token_id\":2,\"max_position_embeddings\":16384,\"dtype\":"
           "\"bfloat16\","
           "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4.0,\"rope_theta\":10000.0},"
           "\"tie_word_embeddings\":false,\"transformers_version\":\"5.0.0\"}",
     NULL, 16384, 1, 1e4, 0},
    {"DeepSeek-R1-Distill-Qwen-1.5B", "qwen2",
     QWEN2 "\"bos_token_id\":52,\"eos_token_id\":52,\"max_position_embeddings\":131072,"
           "\"rope_theta\":10000,\"sliding_window\":4096,\"tie_word_embeddings\":true,"
           "\"transformers_version\":\"4.44.0\",\"use_mrope\":false}",
     "{\"_from_model_config\":true,\"bos_token_id\":52,\"eos_token_id\":52}", 131072, 1, 1e4, 0},
    {"Qwen2.5-1.5B-Instruct", "qwen2",
     QWEN2 "\"bos_token_id\":52,\"eos_token_id\":53,\"max_position_embeddings\":32768,"
           "\"rope_theta\":1000000.0,\"sliding_window\":32768,\"tie_word_embeddings\":true,"
           "\"transformers_version\":\"4.43.1\"}",
     "{\"bos_token_id\":52,\"pad_token_id\":52,\"do_sample\":true,\"eos_token_id\":[53,52],"
     "\"repetition_penalty\":1.1,\"temperature\":0.7,\"top_p\":0.8,\"top_k\":20}",
     32768, 2, 1e6, 0},
    {"Qwen2.5 with yarn", "qwen2",
     QWEN2 "\"bos_token_id\":52,\"eos_token_id\":53,\"max_position_embeddings\":32768,"
           "\"rope_scaling\":{\"factor\":4.0,\"original_max_position_embeddings\":32768,\"type\":"
           "\"yarn\"},"
           "\"rope_theta\":1000000.0,\"sliding_window\":null,\"tie_word_embeddings\":true}",
     NULL, 32768, 1, 1e6, 0},
    {"gpt2", "gpt2",
     "{\"activation_function\":\"gelu_new\",\"architectures\":[\"GPT2LMHeadModel\"],\"attn_pdrop\":"
     "0.1,"
     "\"bos_token_id\":50,\"embd_pdrop\":0.1,\"eos_token_id\":50,\"initializer_range\":0.02,"
     "\"layer_norm_epsilon\":1e-05,\"model_type\":\"gpt2\",\"n_ctx\":64,\"n_embd\":32,\"n_head\":4,"
     "\"n_layer\":2,\"n_positions\":64,\"resid_pdrop\":0.1,\"summary_activation\":null,"
     "\"summary_first_dropout\":0.1,\"summary_proj_to_labels\":true,\"summary_type\":\"cls_index\","
     "\"summary_use_proj\":true,\"task_specific_params\":{\"text-generation\":{\"do_sample\":true,"
     "\"max_length\":50}},\"vocab_size\":56}",
     "{\"_from_model_config\":true,\"bos_token_id\":50,\"eos_token_id\":50,"
     "\"transformers_version\":\"4.26.0.dev0\"}",
     64, 1, 0, 0},
};

static void put(const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    unlink(path);
    if (!text) return;
    FILE *f = fopen(path, "wb");
    TRUE_(f && fputs(text, f) >= 0);
    fclose(f);
}

static void link_weights(const char *name) {
    static const char *const files[] = {"model.safetensors", "model.safetensors.index.json",
                                        "model-00001-of-00003.safetensors",
                                        "model-00002-of-00003.safetensors",
                                        "model-00003-of-00003.safetensors"};
    char path[1024], to[600], here[256];
    TRUE_(getcwd(here, sizeof here) != NULL);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof path, "%s/tests/golden/hf/%s/%s", here, name, files[i]);
        snprintf(to, sizeof to, "%s/%s", test_tmpdir(), files[i]);
        unlink(to);
        if (io_exists(path)) EQ(symlink(path, to), 0);
    }
}

static void look(const Published *p, const char *path, const char *arch) {
    Gguf *g = NULL;
    char key[64];
    int64_t ctx = 0;
    double theta = 0;
    OK_(gguf_open(&g, path, TERR));
    snprintf(key, sizeof key, "%s.context_length", arch);
    OK_(gguf_get_int(&ctx, g, key, 1, 1 << 24, TERR));
    EQ(ctx, p->ctx);
    snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    OK_(gguf_opt_float(&theta, g, key, 0, 1e12, TERR));
    NEAR(theta, p->theta, 0.5);
    EQ(gguf_find_tensor(g, "rope_freqs.weight") != NULL, p->freqs);
    gguf_close(g);
}

TEST(published_configurations_are_understood) {
    char out[512];
    snprintf(out, sizeof out, "%s/out.gguf", test_tmpdir());
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        const Published *p = &models[i];
        HfModel *m = NULL;
        HfOpts o = {.type = DT_F16};
        HfWrite w = {.file_type = -1};
        const int32_t *ids;
        link_weights(p->weights);
        put("config.json", p->config);
        put("generation_config.json", p->generation);
        Status st = hf_open(&m, test_tmpdir(), &o, TERR);
        if (st != OK) FAIL("%s: %s", p->name, test_err.msg);
        EQ(hf_end_ids(m, &ids), p->n_end);
        EQ(hf_type(m), DT_F16);
        OK_(hf_write(m, out, &w, TERR));
        look(p, out, hf_arch(m));
        hf_close(m);
    }
}
