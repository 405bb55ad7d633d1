/* SPDX-License-Identifier: Apache-2.0
 * Packed folders that cannot be read, and with which words they are refused; layouts by hand. Folders are the
 * fixtures of tests/golden/packed with another config.json, or with bytes of their weights changed. */
#include "format/hf_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "test.h"

#define GOLDEN "tests/golden/packed/"

static char *slurp(const char *path, size_t *n) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    *n = b.n;
    return sb_take(&b);
}

static void put(const char *name, const char *p, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    FILE *f = fopen(path, "wb");
    TRUE_(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

/* The first `old` of the file becomes `new`. */
static void copy_file(const char *name, const char *file, const char *old, const char *new) {
    char path[512];
    size_t n;
    StrBuf b = {0};
    snprintf(path, sizeof path, GOLDEN "%s/%s", name, file);
    char *p = slurp(path, &n), *at = old ? memmem(p, n, old, strlen(old)) : p;
    TRUE_(at != NULL);
    sb_put(&b, p, (size_t)(at - p));
    if (old) sb_puts(&b, new);
    size_t rest = (size_t)(at - p) + (old ? strlen(old) : 0);
    sb_put(&b, p + rest, n - rest);
    put(file, sb_str(&b), b.n);
    sb_deinit(&b);
    mem_free(p);
}

static Status open_it(HfModel **m) {
    static const HfOpts o = {.type = HF_AS_STORED};
    return hf_open(m, test_tmpdir(), &o, TERR);
}

static void refused_as_it_is(Status want, const char *words) {
    HfModel *m = NULL;
    size_t live = mem_live_bytes();
    FAILS(want, open_it(&m));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    EQ(mem_live_bytes(), live);
}

static void refused(Status want, const char *name, const char *old, const char *new,
                    const char *words) {
    copy_file(name, "model.safetensors", NULL, NULL);
    copy_file(name, "config.json", old, new);
    refused_as_it_is(want, words);
}

/* In the JSON of the weights; of one length. */
static void renamed(Status want, const char *name, const char *old, const char *new,
                    const char *words) {
    EQ(strlen(old), strlen(new));
    copy_file(name, "model.safetensors", old, new);
    copy_file(name, "config.json", NULL, NULL);
    refused_as_it_is(want, words);
}

/* Four bytes at the beginning of a tensor. */
static void damaged(Status want, const char *name, const char *tensor, uint32_t value,
                    const char *words) {
    char path[512];
    size_t n;
    St *s = NULL;
    snprintf(path, sizeof path, GOLDEN "%s/model.safetensors", name);
    char *p = slurp(path, &n);
    OK_(st_open_bytes(&s, p, n, TERR));
    const StTensor *t = st_find(s, slice_of(tensor));
    TRUE_(t != NULL);
    memcpy(p + ((const char *)t->data - p), &value, sizeof value);
    st_close(s);
    put("model.safetensors", p, n);
    mem_free(p);
    copy_file(name, "config.json", NULL, NULL);
    if (want == OK) {
        HfModel *m = NULL;
        OK_(open_it(&m));
        hf_close(m);
    } else refused_as_it_is(want, words);
}

TEST(versions_that_are_not_read_are_named) {
    const Status u = ERR_UNSUPPORTED, f = ERR_FORMAT;
    refused(u, "awq", "\"gemm\"", "\"gemv\"", "version \"gemv\" is not read, only gemm");
    refused(u, "awq", "\"gemm\"", "\"exllama\"", "version \"exllama\"");
    refused(u, "awq", "\"bits\": 4", "\"bits\": 8", "awq of 8 bits is not read, only 4");
    refused(u, "awq", "\"quant_method\": \"awq\"", "\"quant_method\": \"fp8\"",
            "quant_method \"fp8\" is not read, only awq, gptq, bitsandbytes");
    refused(u, "awq", "\"quant_method\": \"awq\",", "", "quant_method");
    refused(u, "awq", "\"bits\": 4", "\"bits\": 4, \"backend\": \"llm-awq\"",
            "backend \"llm-awq\"");
    refused(f, "awq", "\"bits\": 4", "\"bits\": \"4\"", "bits");
    refused(f, "awq", "\"group_size\": 32", "\"group_size\": 0", "group_size 0");
    refused(f, "awq", "\"group_size\": 32", "\"group_size\": -2", "group_size");
    refused(u, "gptq", "\"bits\": 4", "\"bits\": 5",
            "gptq of 5 bits is not read, only 2, 3, 4 and 8");
    refused(u, "gptq", "\"checkpoint_format\": \"gptq\"", "\"checkpoint_format\": \"marlin\"",
            "checkpoint_format \"marlin\" is not read, only gptq, gptq_v2");
    refused(u, "gptq", "\"pack_dtype\": \"int32\"", "\"pack_dtype\": \"int16\"",
            "pack_dtype \"int16\"");
    refused(u, "gptq", "\"bits\": 4", "\"bits\": 4, \"is_marlin_format\": true",
            "is_marlin_format");
    refused(u, "gptq", "\"bits\": 4", "\"bits\": 4, \"dynamic\": {\"-:.*\": {}}", "dynamic is set");
    refused(u, "nf4", "\"load_in_8bit\": false", "\"load_in_8bit\": true", "load_in_8bit is set");
    refused(u, "nf4", "\"load_in_4bit\": true", "\"load_in_4bit\": false", "without load_in_4bit");
}

TEST(shapes_are_held_to_bits_and_groups) {
    const Status f = ERR_FORMAT;
    refused(f, "awq", "\"group_size\": 32", "\"group_size\": 16",
            "q_proj.scales\": 1 x 32, its bits and groups want 2 x 32");
    refused(f, "awq", "\"group_size\": 32", "\"group_size\": 24", "are no whole groups of 24");
    refused(f, "gptq", "\"group_size\": 16", "\"group_size\": 32", "q_proj.scales\": 2 x 32");
    refused(f, "gptq", "\"bits\": 4", "\"bits\": 8", "q_proj.qweight\": 4 x 32");
    refused(f, "gptq", "\"bits\": 4", "\"bits\": 3",
            "q_proj.qweight\": 4 x 32, its bits and groups want 3 x 32");
    refused(f, "nf4", "\"intermediate_size\": 64", "\"intermediate_size\": 72",
            "packed from 64 x 32, config.json wants 72 x 32");
    refused(f, "awq", "\"quantization_config\": {", "\"quantization_config\": [], \"_x\": {",
            "is missing");
}

TEST(parts_that_lie_or_lack_are_named) {
    const Status f = ERR_FORMAT, u = ERR_UNSUPPORTED;
    const char *index = "model.layers.0.self_attn.q_proj.g_idx";
    damaged(f, "gptq", index, 2, "g_idx\": input 0 is in group 2 of 2");
    damaged(f, "gptq", index, UINT32_MAX, "g_idx\": input 0 is in group -1 of 2");
    damaged(OK, "gptq", index, 1, NULL);
    renamed(f, "gptq", "q_proj.qzeros", "q_proj.qzeroz", "q_proj.qzeros\" is missing");
    renamed(f, "awq", "q_proj.scales", "q_proj.scalez", "q_proj.scales\" is missing");
    renamed(u, "gptq", "q_proj.g_idx", "q_proj.g_idy", "has no place");
    renamed(f, "nf4", "weight.absmax", "weight.absmay", ".weight.absmax\" is missing");
    renamed(u, "nf4", "bitsandbytes__nf4", "bitsandbytes__fp4", "quant_type \"nf4\"");
    damaged(u, "nf4", "model.layers.0.self_attn.q_proj.weight.quant_map", 0x3f800000,
            "code 0 means 1, in nf4 it is -1");
    damaged(f, "nf4", "model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4",
            0x7b7b7b7b, "q_proj.weight: ");
}

static Status write_it(void) {
    HfModel *m = NULL;
    HfWrite w = {.file_type = -1};
    char path[512];
    snprintf(path, sizeof path, "%s/out.gguf", test_tmpdir());
    OK_(open_it(&m));
    Status st = hf_write(m, path, &w, TERR);
    EQ(io_exists(path), st == OK);
    hf_close(m);
    return st;
}

/* A scale of f16 infinity: no number comes of it. */
TEST(scales_that_are_no_numbers_are_refused) {
    damaged(OK, "awq", "model.layers.0.mlp.up_proj.scales", 0x7c007c00, NULL);
    FAILS(ERR_FORMAT, write_it());
    TRUE_(strstr(test_err.msg, "tensor blk.0.ffn_up.weight: element 0 is ") != NULL);
    damaged(OK, "nf4", "model.layers.0.mlp.up_proj.weight.nested_absmax", 0x7fc00000, NULL);
    FAILS(ERR_FORMAT, write_it());
    TRUE_(strstr(test_err.msg, "tensor blk.0.ffn_up.weight: element ") != NULL);
}

/* ---- layouts by hand ---- */

/* Each output has its own nibble; word 0x76543210 holds outputs 0 2 4 6 1 3 5 7. */
TEST(awq_order_of_outputs) {
    static const uint32_t w[1] = {0x76543210}, zeros[1] = {0};
    static const uint16_t scale[8] = {0x3c00, 0x3c00, 0x3c00, 0x3c00,
                                      0x3c00, 0x3c00, 0x3c00, 0x3c00};
    HfPacked p = {.scheme = HF_AWQ,
                  .bits = 4,
                  .rows = 8,
                  .cols = 1,
                  .w = (const uint8_t *)w,
                  .group = 1,
                  .n_groups = 1,
                  .zeros = (const uint8_t *)zeros,
                  .scale = (const uint8_t *)scale,
                  .scale_type = DT_F16};
    static const uint32_t rows[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    static const float want[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    float y[8], work[16];
    EQ(hf__unpack_work(&p, 8), 16);
    hf__unpack(&p, y, rows, 8, work);
    for (int i = 0; i < 8; i++) NEAR(y[i], want[i], 0);
}

/* 3 bits: number 10 crosses from word 0 into 1, number 21 from 1 into 2. Zeros are stored less one. */
TEST(gptq_numbers_that_cross_words) {
    uint32_t w[3] = {0}, zero = 6; /* 7 */
    float scale = 0.5f, y[32], work[2];
    for (int i = 0; i < 32; i++) {
        uint64_t v = (uint64_t)(i % 8) << (3 * i % 32);
        w[3 * i / 32] |= (uint32_t)v;
        if (v >> 32) w[3 * i / 32 + 1] |= (uint32_t)(v >> 32);
    }
    HfPacked p = {.scheme = HF_GPTQ,
                  .bits = 3,
                  .rows = 1,
                  .cols = 32,
                  .w = (const uint8_t *)w,
                  .group = 32,
                  .n_groups = 1,
                  .zeros = (const uint8_t *)&zero,
                  .zero_add = 1,
                  .scale = (const uint8_t *)&scale,
                  .scale_type = DT_F32};
    hf__unpack(&p, y, (const uint32_t[]){0}, 1, work);
    for (int i = 0; i < 32; i++) NEAR(y[i], ((float)(i % 8) - 7.0f) * 0.5f, 0);
}

/* First number in the high half; the block of 4 has its own scale, of 8 codes' worth of bytes. */
TEST(blocks_of_codes) {
    static const uint8_t w[4] = {0x01, 0x23, 0xf0, 0x10}, absmax[2] = {1, 2};
    float map2[256] = {0, 0.5f, 1}, nested[1] = {2}, y[8];
    HfPacked p = {.scheme = HF_BNB,
                  .bits = 4,
                  .rows = 2,
                  .cols = 4,
                  .w = w,
                  .block = 4,
                  .nested_block = 16,
                  .absmax = absmax,
                  .nested = (const uint8_t *)nested,
                  .nested_map = (const uint8_t *)map2,
                  .offset = 0.25f};
    for (int i = 0; i < 16; i++) p.map[i] = (float)i;
    hf__unpack(&p, y, (const uint32_t[]){1, 0}, 2, NULL);
    static const float want[8] = {15 * 2.25f, 0, 2.25f, 0, 0, 1.25f, 2.5f, 3.75f};
    for (int i = 0; i < 8; i++) NEAR(y[i], want[i], 0);
}
