/* SPDX-License-Identifier: Apache-2.0
 * PEFT folders that become no adapter, and with which words they are refused. Folders are the fixture
 * tests/golden/packed/adapter with another configuration, or tensors of their own; the base is
 * tests/golden/hf/llama. */
#include "test.h"

#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "format/gguf.h"
#include "format/safetensors.h"
#include "quant/convert.h"

#define SEED "tests/golden/packed/adapter/"
#define BASE "tests/golden/hf/llama"

static void put(const char *name, const char *p, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    FILE *f = fopen(path, "wb");
    TRUE_(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

/* The first `old` of the file becomes `new`. */
static void copy_file(const char *file, const char *old, const char *new) {
    char path[512];
    StrBuf all = {0}, b = {0};
    snprintf(path, sizeof path, SEED "%s", file);
    OK_(io_read_file(&all, path, 1 << 20, TERR));
    char *at = memmem(all.p, all.n, old, strlen(old));
    TRUE_(at != NULL);
    sb_put(&b, all.p, (size_t)(at - all.p));
    sb_puts(&b, new);
    at += strlen(old);
    sb_put(&b, at, (size_t)(all.p + all.n - at));
    put(file, sb_str(&b), b.n);
    sb_deinit(&b);
    sb_deinit(&all);
}

static Status convert(QuantAdapter *st, const char *type, const char *base) {
    char out[512];
    QuantConvertOpts o = {.type = type};
    snprintf(out, sizeof out, "%s/out.gguf", test_tmpdir());
    if (io_exists(out)) OK_(io_remove(out, TERR));
    size_t live = mem_live_bytes();
    Status s = quant_convert_adapter(st, test_tmpdir(), base, out, &o, TERR);
    EQ(io_exists(out), s == OK);
    EQ(mem_live_bytes(), live);
    return s;
}

static void refused(Status want, const char *file, const char *old, const char *new,
                    const char *words) {
    QuantAdapter st;
    copy_file("adapter_config.json", "{", "{");
    copy_file("adapter_model.safetensors", "{", "{");
    copy_file(file, old, new);
    FAILS(want, convert(&st, "auto", BASE));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
}

TEST(keys_that_change_an_adapter_are_named) {
    const Status u = ERR_UNSUPPORTED, f = ERR_FORMAT;
    const char *file = "adapter_config.json";
    refused(u, file, "\"LORA\"", "\"LOHA\"", "adapter_config.json: key \"peft_type\"");
    refused(u, file, "\"use_dora\": false", "\"use_dora\": true", "key \"use_dora\"");
    refused(u, file, "\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 4}",
            "alpha_pattern");
    refused(u, file, "\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa_niter_4\"",
            "init_lora_weights");
    refused(u, file, "{", "{\"new_thing\": 1,", "key \"new_thing\": not known here");
    refused(u, file, "{", "{\"layer_replication\": [[0, 1]],", "layer_replication");
    refused(f, file, "\"lora_alpha\": 8", "\"lora_alpha\": \"8\"", "lora_alpha");
    refused(f, file, "\"lora_alpha\": 8", "\"lora_alpha\": 1e300", "lora_alpha");
    refused(f, file, "\"lora_alpha\": 8", "\"x\": null", "lora_alpha is missing");
    refused(f, file, "\"peft_type\": \"LORA\",", "", "peft_type is missing");
    refused(f, file, "{", "{\"r\": 1, \"r\": 1,", "adapter_config.json");
    refused(f, file, "{", "[", "adapter_config.json");
}

TEST(tensors_that_are_no_pairs_are_named) {
    const Status u = ERR_UNSUPPORTED, f = ERR_FORMAT;
    const char *file = "adapter_model.safetensors";
    refused(u, file, "q_proj.lora_A", "q_proj.lora_X",
            "q_proj.lora_X.weight\" is no half of a pair");
    refused(u, file, "layers.1.", "layers.7.", "layers.7.");
    refused(u, file, "base_model.model.", "face_model.model.", "face_model");
    refused(u, file, "layers.0.self_attn.q_proj", "layers.0.self_attn.q_poem", "q_poem");
    refused(u, file, "\"F32\"", "\"I32\"", "I32 is not read, only F32, F16 and BF16");
    refused(f, file, "[2, 32]", "[4, 16]", "4 x 16 of 2 dims, the base wants 4 x 32");
    refused(f, file, "[32, 2]", "[2, 32]", "2 x 32 of 2 dims, the base wants 32 x 2");
}

static void tiny(const char *a, const char *b, float value) {
    char path[512];
    StW *w = NULL;
    float x[64];
    const uint64_t A[] = {2, 32}, B[] = {32, 2};
    for (int i = 0; i < 64; i++) x[i] = value;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", test_tmpdir());
    OK_(st_w_new(&w, path, TERR));
    st_w_tensor(w, slice_of(a), ST_F32, 2, A);
    if (b) st_w_tensor(w, slice_of(b), ST_F32, 2, B);
    OK_(st_w_begin(w, TERR));
    OK_(st_w_data(w, x, sizeof x, TERR));
    if (b) OK_(st_w_data(w, x, sizeof x, TERR));
    OK_(st_w_end(w, TERR));
    st_w_free(w);
    copy_file("adapter_config.json", "{", "{");
}

#define Q(half) "base_model.model.model.layers.0.self_attn.q_proj." half

TEST(halves_and_values_are_checked) {
    QuantAdapter st;
    tiny(Q("lora_A.weight"), NULL, 1);
    FAILS(ERR_FORMAT, convert(&st, "auto", BASE));
    TRUE_(strstr(test_err.msg, "blk.0.attn_q.weight has a lora_A without its other half") != NULL);
    tiny(Q("lora_A.weight"), Q("lora_B.weight"), 70000);
    OK_(convert(&st, "auto", BASE));
    EQ(st.n_params, 128);
    FAILS(ERR_FORMAT, convert(&st, "f16", BASE));
    TRUE_(strstr(test_err.msg, "70000 is no number that f16 holds") != NULL);
    tiny(Q("lora_A.weight"), Q("lora_B.weight"), -1.0f / 0.0f);
    FAILS(ERR_FORMAT, convert(&st, "auto", BASE));
    tiny("base_model.model.model.norm.lora_A.weight", NULL, 1);
    FAILS(ERR_UNSUPPORTED, convert(&st, "auto", BASE));
}

TEST(bases_and_places) {
    QuantAdapter st;
    char path[512];
    tiny(Q("lora_A.weight"), Q("lora_B.weight"), 1);
    TRUE_(quant_is_adapter(test_tmpdir()));
    FALSE_(quant_is_adapter(BASE));
    FAILS(ERR_ARG, convert(&st, "auto", NULL));
    FAILS(ERR_ARG, convert(&st, "q8_0", BASE));
    FAILS(ERR_NOT_FOUND, convert(&st, "auto", "/nowhere"));
    FAILS(ERR_NOT_FOUND, convert(&st, "auto", "/nowhere.gguf"));
    FAILS(ERR_UNSUPPORTED, convert(&st, "auto", "tests/golden/hf/gpt2"));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", test_tmpdir());
    OK_(io_remove(path, TERR));
    FAILS(ERR_NOT_FOUND, convert(&st, "auto", BASE));
    put("adapter_model.bin", "x", 1);
    FAILS(ERR_UNSUPPORTED, convert(&st, "auto", BASE));
    TRUE_(strstr(test_err.msg, "pickled weights") != NULL);
}
