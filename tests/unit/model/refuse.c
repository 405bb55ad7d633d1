/* SPDX-License-Identifier: Apache-2.0
 * A model file with one thing wrong is refused with one line that names the thing, its value and the
 * limit; nothing is leaked. */
#include "edit.h"

#include "base/io.h"
#include "base/mem.h"

typedef struct Case {
    const char *from;
    Edit e;
    Status want;
    const char *words[3]; /* all in the message */
} Case;

static void check(Device *d, const Case *c) {
    Model *m = NULL;
    Err e = {0};
    const char *path = edit_path("bad.gguf");
    edit_file(path, c->from, &c->e);
    size_t live = mem_live_bytes();
    Status st = model_load(&m, d, path, &e);
    if (st == OK) FAIL("%s %s was accepted", c->e.key ? c->e.key : "", c->words[0]);
    EQ(mem_live_bytes(), live);
    TRUE_(m == NULL);
    if (strncmp(e.msg, path, strlen(path)) != 0) FAIL("no path in \"%s\"", e.msg);
    if (strchr(e.msg, '\n')) FAIL("two lines: \"%s\"", e.msg);
    for (size_t i = 0; i < COUNT_OF(c->words) && c->words[i]; i++)
        if (!strstr(e.msg, c->words[i])) FAIL("\"%s\" lacks \"%s\"", e.msg, c->words[i]);
    if (st != c->want) FAIL("status %d, want %d: \"%s\"", (int)st, (int)c->want, e.msg);
}

static void check_all(const Case *c, size_t n) {
    Device *d = edit_device();
    for (size_t i = 0; i < n; i++) check(d, &c[i]);
    device_free(d);
}

#define KEY(k, how, v) \
    { .key = k, .kind = how, .num = v }

TEST(sizes_out_of_range) {
    static const char *const tails[] = {"block_count", "embedding_length", "context_length",
                                        "feed_forward_length", "attention.head_count"};
    static const struct {
        EditKind kind;
        double v;
        const char *text;
    } bad[] = {
        {SET_U32, 0, "0"},        {SET_U32, 4294967295.0, "4294967295"},
        {SET_I32, -1, "-1"},      {SET_I32, -2147483648.0, "-2147483648"},
        {SET_F32, 2, "f32"},      {SET_STR, 0, "str"},
        {SET_DROP, 0, "missing"},
    };
    Device *d = edit_device();
    for (size_t i = 0; i < COUNT_OF(tails); i++)
        for (size_t j = 0; j < COUNT_OF(bad); j++) {
            char key[64];
            snprintf(key, sizeof key, "llama.%s", tails[i]);
            Case c = {LLAMA,
                      {.key = key, .kind = bad[j].kind, .num = bad[j].v, .str = "two"},
                      bad[j].kind == SET_DROP ? ERR_NOT_FOUND : ERR_FORMAT,
                      {key, bad[j].text}};
            if (bad[j].kind != SET_F32 && bad[j].kind != SET_STR && bad[j].kind != SET_DROP)
                c.words[2] = "limit";
            check(d, &c);
        }
    device_free(d);
}

TEST(sizes_that_do_not_fit) {
    static const Case cases[] = {
        {LLAMA,
         KEY("llama.attention.head_count", SET_U32, 5),
         ERR_FORMAT,
         {"head_count", "5", "32"}},
        {GPT2,
         KEY("gpt2.attention.head_count", SET_U32, 8),
         ERR_FORMAT,
         {"key_length", "4", "8..256"}},
        {LLAMA,
         KEY("llama.attention.head_count_kv", SET_U32, 0),
         ERR_FORMAT,
         {"head_count_kv", "0", "1 to 4"}},
        {LLAMA,
         KEY("llama.attention.head_count_kv", SET_U32, 3),
         ERR_FORMAT,
         {"head_count_kv 3", "4"}},
        {LLAMA,
         KEY("llama.attention.head_count_kv", SET_U32, 5),
         ERR_FORMAT,
         {"head_count_kv", "5", "1 to 4"}},
        {LLAMA,
         KEY("llama.attention.key_length", SET_U32, 0),
         ERR_FORMAT,
         {"key_length", "0", "256"}},
        {LLAMA,
         KEY("llama.attention.key_length", SET_U32, 12),
         ERR_FORMAT,
         {"key_length 12", "multiple of 8"}},
        {LLAMA,
         KEY("llama.attention.key_length", SET_U32, 264),
         ERR_FORMAT,
         {"key_length", "264", "256"}},
        {LLAMA,
         KEY("llama.attention.key_length", SET_U32, 16),
         ERR_FORMAT,
         {"attn_q.weight", "[32, 32]", "[32, 64]"}},
        {LLAMA,
         KEY("llama.block_count", SET_U32, 3),
         ERR_FORMAT,
         {"blk.2.attn_norm.weight", "missing"}},
        {LLAMA, KEY("llama.block_count", SET_U32, 1), ERR_UNSUPPORTED, {"blk.1.", "llama"}},
        {LLAMA,
         KEY("llama.feed_forward_length", SET_U32, 97),
         ERR_FORMAT,
         {"ffn_gate.weight", "[32, 96]", "[32, 97]"}},
        {LLAMA,
         KEY("llama.embedding_length", SET_U32, 64),
         ERR_FORMAT,
         {"token_embd.weight", "[32, 128]", "[64, 128]"}},
        {GPT2,
         KEY("gpt2.context_length", SET_U32, 33),
         ERR_FORMAT,
         {"position_embd.weight", "[32, 32]", "[32, 33]"}},
    };
    check_all(cases, COUNT_OF(cases));
}

TEST(reals_out_of_range) {
    static const char *const keys[] = {"llama.attention.layer_norm_rms_epsilon",
                                       "llama.rope.freq_base", "llama.rope.scaling.factor",
                                       "llama.rope.scale_linear"};
    static const double bad[] = {
        0.0, -1.0, 1e30, -1e300, (double)INFINITY, -(double)INFINITY, (double)NAN};
    Device *d = edit_device();
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        for (size_t j = 0; j < COUNT_OF(bad); j++) {
            Case c = {LLAMA,
                      {.key = keys[i], .kind = SET_F64, .num = bad[j]},
                      ERR_FORMAT,
                      {keys[i], "limit"}};
            check(d, &c);
        }
    Case text = {LLAMA,
                 {.key = keys[1], .kind = SET_STR, .str = "big"},
                 ERR_FORMAT,
                 {keys[1], "str", "float"}};
    check(d, &text);
    Case gpt2 = {GPT2,
                 KEY("gpt2.attention.layer_norm_epsilon", SET_F32, 0.5),
                 ERR_FORMAT,
                 {"layer_norm_epsilon", "0.5", "0.1"}};
    check(d, &gpt2);
    device_free(d);
}

TEST(rope_that_is_not_known) {
    static const Case cases[] = {
        {LLAMA,
         {.key = "llama.rope.scaling.type", .kind = SET_STR, .str = "longrope"},
         ERR_UNSUPPORTED,
         {"rope.scaling.type", "longrope", "none, linear"}},
        {LLAMA,
         {.key = "llama.rope.scaling.type", .kind = SET_STR, .str = ""},
         ERR_UNSUPPORTED,
         {"rope.scaling.type", "none, linear"}},
        {LLAMA,
         KEY("llama.rope.scaling.type", SET_U32, 1),
         ERR_FORMAT,
         {"rope.scaling.type", "u32"}},
        {LLAMA,
         KEY("llama.rope.dimension_count", SET_U32, 7),
         ERR_FORMAT,
         {"rope.dimension_count", "7", "odd"}},
        {LLAMA,
         KEY("llama.rope.dimension_count", SET_U32, 0),
         ERR_FORMAT,
         {"rope.dimension_count", "0", "1 to 8"}},
        {LLAMA,
         KEY("llama.rope.dimension_count", SET_U32, 10),
         ERR_FORMAT,
         {"rope.dimension_count", "10", "1 to 8"}},
    };
    check_all(cases, COUNT_OF(cases));
}

TEST(rope_factors) {
    static const Case cases[] = {
        {LLAMA,
         {.add = "rope_freqs.weight", .n_dims = 1, .ne = {4}},
         ERR_FORMAT,
         {"rope_freqs.weight[0]", "0", "1e-6..1e6"}},
        {LLAMA,
         {.add = "rope_freqs.weight", .n_dims = 1, .ne = {5}},
         ERR_FORMAT,
         {"rope_freqs.weight", "5", "4"}},
        {LLAMA,
         {.add = "rope_freqs.weight", .n_dims = 1, .ne = {3}},
         ERR_FORMAT,
         {"rope_freqs.weight", "3", "4"}},
        {LLAMA,
         {.add = "rope_freqs.weight", .type = DT_F16, .n_dims = 1, .ne = {4}},
         ERR_FORMAT,
         {"rope_freqs.weight", "f16", "f32"}},
    };
    check_all(cases, COUNT_OF(cases));
}

TEST(architectures) {
    static const Case cases[] = {
        {LLAMA,
         {.key = "general.architecture", .kind = SET_STR, .str = "mamba"},
         ERR_UNSUPPORTED,
         {"general.architecture", "mamba", "gpt2, llama"}},
        {LLAMA,
         {.key = "general.architecture", .kind = SET_STR, .str = ""},
         ERR_UNSUPPORTED,
         {"general.architecture", "gpt2, llama"}},
        {LLAMA,
         {.key = "general.architecture", .kind = SET_STR, .str = "gpt2"},
         ERR_NOT_FOUND,
         {"gpt2.block_count", "missing"}},
        {LLAMA,
         KEY("general.architecture", SET_U32, 3),
         ERR_FORMAT,
         {"general.architecture", "u32", "str"}},
        {LLAMA,
         {.key = "general.architecture", .kind = SET_DROP},
         ERR_NOT_FOUND,
         {"general.architecture", "missing"}},
    };
    check_all(cases, COUNT_OF(cases));
}

/* A name from the file is cut before it stands in the message. */
TEST(a_long_architecture_is_cut) {
    char name[4000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    Case c = {LLAMA,
              {.key = "general.architecture", .kind = SET_STR, .str = name},
              ERR_UNSUPPORTED,
              {"general.architecture", "gpt2, llama"}};
    check_all(&c, 1);
}

TEST(each_tensor_is_needed) {
    static const char *const from[] = {LLAMA, UNTIED, GPT2, QWEN2, QWEN3};
    Device *d = edit_device();
    for (size_t f = 0; f < COUNT_OF(from); f++) {
        Gguf *g = NULL;
        OK_(gguf_open(&g, from[f], TERR));
        for (size_t i = 0; i < gguf_n_tensors(g); i++) {
            char name[GGUF_MAX_NAME + 1];
            Slice s = gguf_tensor_at(g, i)->name;
            snprintf(name, sizeof name, "%.*s", (int)s.n, s.p);
            /* these two may be absent */
            if (!strcmp(name, "output.weight") || !strcmp(name, "rope_freqs.weight")) continue;
            Case c = {from[f], {.drop = name}, ERR_FORMAT, {name, "missing"}};
            check(d, &c);
        }
        gguf_close(g);
    }
    device_free(d);
}

TEST(tensors_of_wrong_shape_or_type) {
    static const Case cases[] = {
        {LLAMA, /* one bias promises all */
         {.add = "blk.0.attn_q.bias", .n_dims = 1, .ne = {32}},
         ERR_FORMAT,
         {"blk.0.attn_k.bias", "missing"}},
        {LLAMA,
         {.add = "blk.1.attn_q.bias", .n_dims = 1, .ne = {32}},
         ERR_UNSUPPORTED,
         {"blk.1.attn_q.bias", "llama"}},
        {QWEN2,
         {.add = "blk.0.attn_output.bias", .n_dims = 1, .ne = {32}},
         ERR_UNSUPPORTED,
         {"blk.0.attn_output.bias", "qwen2"}},
        {QWEN2,
         {.add = "blk.0.attn_q_norm.weight", .n_dims = 1, .ne = {8}},
         ERR_UNSUPPORTED,
         {"blk.0.attn_q_norm.weight", "qwen2"}},
        {QWEN2,
         {.alter = "blk.1.attn_q.bias", .n_dims = 1, .ne = {31}},
         ERR_FORMAT,
         {"blk.1.attn_q.bias", "[31, 1]", "[32, 1]"}},
        {QWEN2,
         {.alter = "blk.0.attn_k.bias", .n_dims = 1, .ne = {32}},
         ERR_FORMAT,
         {"blk.0.attn_k.bias", "[32, 1]", "[16, 1]"}},
        {QWEN2,
         {.alter = "blk.0.attn_v.bias", .n_dims = 2, .ne = {16, 2}},
         ERR_FORMAT,
         {"blk.0.attn_v.bias", "[16, 2]", "[16, 1]"}},
        {QWEN2,
         {.alter = "blk.0.attn_v.bias", .type = DT_Q8_0, .n_dims = 1, .ne = {32}},
         ERR_FORMAT,
         {"blk.0.attn_v.bias", "[32, 1]", "[16, 1]"}},
        {QWEN3,
         {.alter = "blk.0.attn_q_norm.weight", .n_dims = 1, .ne = {64}},
         ERR_FORMAT,
         {"blk.0.attn_q_norm.weight", "[64, 1]", "[16, 1]"}},
        {QWEN3,
         {.alter = "blk.1.attn_k_norm.weight", .n_dims = 2, .ne = {16, 2}},
         ERR_FORMAT,
         {"blk.1.attn_k_norm.weight", "[16, 2]", "[16, 1]"}},
        {QWEN3,
         KEY("qwen3.attention.key_length", SET_U32, 24),
         ERR_FORMAT,
         {"blk.0.attn_q.weight", "[32, 64]", "[32, 96]"}},
        {LLAMA,
         {.add = "blk.9.attn_q.weight", .n_dims = 2, .ne = {32, 32}},
         ERR_UNSUPPORTED,
         {"blk.9.attn_q.weight", "llama"}},
        {LLAMA,
         {.alter = "blk.0.attn_q.weight", .n_dims = 2, .ne = {32, 31}},
         ERR_FORMAT,
         {"blk.0.attn_q.weight", "[32, 31]", "[32, 32]"}},
        {LLAMA,
         {.alter = "blk.1.ffn_down.weight", .n_dims = 2, .ne = {32, 96}},
         ERR_FORMAT,
         {"blk.1.ffn_down.weight", "[32, 96]", "[96, 32]"}},
        {LLAMA,
         {.alter = "blk.1.ffn_up.weight", .n_dims = 3, .ne = {32, 96, 2}},
         ERR_FORMAT,
         {"blk.1.ffn_up.weight", "..."}},
        {LLAMA,
         {.alter = "blk.0.attn_norm.weight", .n_dims = 1, .ne = {31}},
         ERR_FORMAT,
         {"blk.0.attn_norm.weight", "[31, 1]", "[32, 1]"}},
        {LLAMA,
         {.alter = "blk.0.attn_norm.weight", .n_dims = 2, .ne = {32, 2}},
         ERR_FORMAT,
         {"blk.0.attn_norm.weight", "[32, 2]", "[32, 1]"}},
        {LLAMA,
         {.alter = "blk.0.attn_norm.weight", .type = DT_Q8_0, .n_dims = 1, .ne = {32}},
         ERR_UNSUPPORTED,
         {"blk.0.attn_norm.weight", "q8_0", "f32, f16 or bf16"}},
        {LLAMA,
         {.alter = "token_embd.weight", .n_dims = 1, .ne = {32}},
         ERR_FORMAT,
         {"vocab_size", "1", "2..4000000"}},
        {UNTIED,
         {.alter = "output.weight", .n_dims = 2, .ne = {64, 95}},
         ERR_FORMAT,
         {"output.weight", "[64, 95]", "[64, 96]"}},
        {GPT2,
         {.alter = "blk.0.attn_qkv.bias", .n_dims = 1, .ne = {95}},
         ERR_FORMAT,
         {"blk.0.attn_qkv.bias", "[95, 1]", "[96, 1]"}},
    };
    check_all(cases, COUNT_OF(cases));
}

/* Divisors of the frequencies that are no numbers, or none to divide by. */
TEST(rope_factors_out_of_range) {
    static const float bad[] = {NAN, INFINITY, -1.0f, 0.0f, 1e7f, 1e-7f};
    Device *d = edit_device();
    Gguf *g = NULL;
    StrBuf b = {0};
    OK_(gguf_open(&g, UNTIED, TERR));
    const GgufTensor *t = gguf_find_tensor(g, "rope_freqs.weight");
    size_t at = (size_t)((const uint8_t *)t->data - gguf_map(g).p) + 3 * sizeof(float);
    gguf_close(g);
    OK_(io_read_file(&b, UNTIED, 1 << 20, TERR));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Model *m = NULL;
        char words[64];
        const char *path = edit_path("factors.gguf");
        memcpy(b.p + at, &bad[i], sizeof(float));
        FILE *f = fopen(path, "wb");
        EQ(fwrite(b.p, 1, b.n, f), b.n);
        fclose(f);
        snprintf(words, sizeof words, "rope_freqs.weight[3] is %g", (double)bad[i]);
        FAILS(ERR_FORMAT, model_load(&m, d, path, TERR));
        if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    }
    sb_deinit(&b);
    device_free(d);
}

TEST(scaling_out_of_range) {
#define SCALING(tail, how, v) KEY("qwen3.rope.scaling." tail, how, v)
    static const Case cases[] = {
        {QWEN3, SCALING("factor", SET_F32, 0), ERR_FORMAT, {"scaling.factor", "0", "0.001"}},
        {QWEN3, SCALING("factor", SET_F32, -4), ERR_FORMAT, {"scaling.factor", "-4"}},
        {QWEN3, SCALING("factor", SET_F32, 1e9), ERR_FORMAT, {"scaling.factor", "1e+09", "1e+06"}},
        {QWEN3, SCALING("factor", SET_F32, (double)NAN), ERR_FORMAT, {"scaling.factor", "nan"}},
        {QWEN3, SCALING("attn_factor", SET_F32, 0), ERR_FORMAT, {"attn_factor", "0", "0.001"}},
        {QWEN3,
         SCALING("attn_factor", SET_F32, (double)INFINITY),
         ERR_FORMAT,
         {"attn_factor", "inf"}},
        {QWEN3,
         SCALING("original_context_length", SET_U32, 0),
         ERR_FORMAT,
         {"original_context_length", "0", "1 to 16777216"}},
        {QWEN3,
         SCALING("original_context_length", SET_U32, 4294967295.0),
         ERR_FORMAT,
         {"original_context_length", "4294967295", "16777216"}},
        {QWEN3,
         KEY("qwen3.attention.temperature_scale", SET_F32, 0.1),
         ERR_UNSUPPORTED,
         {"attention.temperature_scale", "0.1", "want 0"}},
        {QWEN3, KEY("qwen3.rope.freq_base", SET_F32, 1), ERR_FORMAT, {"freq_base 1", "below 2"}},
        {QWEN3,
         {.key = "qwen3.rope.scaling.type", .kind = SET_STR, .str = "longrope"},
         ERR_UNSUPPORTED,
         {"longrope", "none, linear, yarn"}},
    };
    check_all(cases, COUNT_OF(cases));
}

/* A file without an embedding says its vocabulary by key only: limits hold there too. */
TEST(vocabulary_out_of_range) {
    static const Case cases[] = {
        {LLAMA,
         {.key = "llama.vocab_size", .kind = SET_U32, .num = 4000001, .drop = "token_embd.weight"},
         ERR_FORMAT,
         {"vocab_size", "4000001", "4000000"}},
        {LLAMA,
         {.key = "llama.vocab_size", .kind = SET_U32, .num = 1, .drop = "token_embd.weight"},
         ERR_FORMAT,
         {"vocab_size", "1", "2..4000000"}},
        {LLAMA,
         {.key = "llama.vocab_size", .kind = SET_DROP, .drop = "token_embd.weight"},
         ERR_NOT_FOUND,
         {"vocab_size", "missing"}},
    };
    check_all(cases, COUNT_OF(cases));
}

TEST(no_file) {
    Device *d = edit_device();
    Model *m = NULL;
    FAILS(ERR_NOT_FOUND, model_load(&m, d, "/nowhere/m.gguf", TERR));
    TRUE_(strstr(test_err.msg, "/nowhere/m.gguf"));
    Err e = {0};
    EQ(model_load(&m, d, "tests/test.h", &e), ERR_FORMAT);
    TRUE_(strstr(e.msg, "tests/test.h"));
    device_free(d);
}
