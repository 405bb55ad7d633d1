/* SPDX-License-Identifier: Apache-2.0
 * A model's life: weights of every type, saving and loading, what model_forward refuses, the
 * configuration's limits, initial weights. */
#include "model/model.h"

#include "base/mem.h"
#include "edit.h"

enum { N = 24, V_MOST = 128 };
static float logits_a[N * V_MOST], logits_b[N * V_MOST];
static int32_t ids[N];

static void load_and_run(Device *d, const char *path, float *out) {
    Model *m = NULL;
    OK_(model_load(&m, d, path, TERR));
    for (int i = 0; i < N; i++) ids[i] = (i * 37 + 11) % m->cfg.V;
    OK_(edit_forward(m, ids, N, out, TERR));
    model_free(m);
}

static double largest(const float *x, size_t n) {
    double most = 0.0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

/* ---- what is accepted ---- */

TEST(weights_of_every_type) {
    static const struct {
        DType type;
        double tol; /* of the largest logit */
    } types[] = {{DT_F16, 2e-3}, {DT_BF16, 2e-2}, {DT_Q8_0, 3e-2}, {DT_Q4_0, 0.5}};
    static const char *const from[] = {LLAMA, UNTIED, GPT2, QWEN2, QWEN3};
    static const int V[] = {128, 96, 96, 64, 64};
    size_t live = mem_live_bytes();
    Device *d = edit_device();
    for (size_t f = 0; f < COUNT_OF(from); f++) {
        load_and_run(d, from[f], logits_a);
        double top = largest(logits_a, (size_t)(N * V[f])), same = 0.0;
        for (size_t i = 0; i < COUNT_OF(types); i++) {
            const char *path = edit_path("typed.gguf");
            edit_file(path, from[f], &(Edit){.matrices = types[i].type});
            load_and_run(d, path, logits_b);
            for (int k = 0; k < N * V[f]; k++) {
                NEAR(logits_b[k], logits_a[k], types[i].tol * top);
                same += logits_b[k] == logits_a[k];
            }
        }
        TRUE_(same < 0.1 * N * V[f]); /* the types did matter */
    }
    device_free(d);
    EQ(mem_live_bytes(), live);
}

/* Norms in f16 become f32 when loaded. */
TEST(half_precision_norms) {
    Device *d = edit_device();
    Model *m = NULL;
    edit_file(edit_path("norm.gguf"), LLAMA,
              &(Edit){.alter = "output_norm.weight", .type = DT_F16, .n_dims = 1, .ne = {32}});
    load_and_run(d, edit_path("norm.gguf"), logits_a);
    EQ((int)largest(logits_a, N * 128), 0); /* its norm is all zeros */
    OK_(model_load(&m, d, edit_path("norm.gguf"), TERR));
    model_free(m);
    device_free(d);
}

/* q, k and v that lie side by side are one product only if they are of one type. */
TEST(types_may_differ_within_a_layer) {
    static const char *const one[] = {"blk.0.attn_k.weight", "blk.1.attn_v.weight"};
    Device *d = edit_device();
    for (size_t i = 0; i < COUNT_OF(one); i++) {
        Edit e = {.alter = one[i], .type = DT_F32, .n_dims = 2, .ne = {32, 16}};
        edit_file(edit_path("one.gguf"), LLAMA, &e);
        load_and_run(d, edit_path("one.gguf"), logits_a);
        e.type = DT_Q8_0;
        edit_file(edit_path("one.gguf"), LLAMA, &e);
        load_and_run(d, edit_path("one.gguf"), logits_b);
        for (int k = 0; k < N * 128; k++) NEAR(logits_a[k], logits_b[k], 1e-5);
    }
    device_free(d);
}

TEST(alignment_of_the_file_does_not_matter) {
    static const uint32_t to[] = {8, 16, 64, 4096};
    static const char *const from[] = {LLAMA, QWEN2, QWEN3};
    static const int V[] = {128, 64, 64};
    Device *d = edit_device();
    for (size_t f = 0; f < COUNT_OF(from); f++) {
        load_and_run(d, from[f], logits_a);
        for (size_t i = 0; i < COUNT_OF(to); i++) {
            edit_file(edit_path("aligned.gguf"), from[f], &(Edit){.alignment = to[i]});
            load_and_run(d, edit_path("aligned.gguf"), logits_b);
            EQ_MEM(logits_a, logits_b, (size_t)N * (size_t)V[f] * sizeof(float));
        }
    }
    device_free(d);
}

/* A factor alone, the older key, and an explicit "linear" mean the same; "none" switches it off. */
TEST(linear_rope_scaling_by_any_key) {
    Device *d = edit_device();
    float *ways[3] = {0};
    const Edit edits[] = {{.key = "llama.rope.scaling.factor", .kind = SET_F32, .num = 4},
                          {.key = "llama.rope.scale_linear", .kind = SET_F32, .num = 4},
                          {.key = "llama.rope.scaling.type", .kind = SET_STR, .str = "none"}};
    edit_file(edit_path("linear.gguf"), LLAMA,
              &(Edit){.key = "llama.rope.scaling.type", .kind = SET_STR, .str = "linear"});
    for (size_t i = 0; i < COUNT_OF(edits); i++) {
        ways[i] = calloc(N * V_MOST, sizeof(float));
        const char *from = i == 0 ? edit_path("linear.gguf") : LLAMA;
        if (i == 2) {
            edit_file(edit_path("factor.gguf"), LLAMA, &edits[0]);
            from = edit_path("factor.gguf");
        }
        edit_file(edit_path("rope.gguf"), from, &edits[i]);
        load_and_run(d, edit_path("rope.gguf"), ways[i]);
    }
    load_and_run(d, LLAMA, logits_a);
    EQ_MEM(ways[0], ways[1], (size_t)N * 128 * sizeof(float));
    EQ_MEM(ways[2], logits_a, (size_t)N * 128 * sizeof(float));
    TRUE_(memcmp(ways[0], logits_a, (size_t)N * 128 * sizeof(float)) != 0);
    for (size_t i = 0; i < COUNT_OF(ways); i++) free(ways[i]);
    device_free(d);
}

/* ---- saving ---- */

static void extra(void *ctx, GgufW *w) { gguf_w_str(w, "general.name", slice_of(ctx)); }

/* From a file into a trainable model, saved, loaded: the same logits; also its rope factors. */
TEST(saved_models_load_again) {
    static const char *const from[] = {LLAMA, UNTIED, GPT2, QWEN2, QWEN3};
    size_t live = mem_live_bytes();
    Device *d = edit_device();
    for (size_t f = 0; f < COUNT_OF(from); f++) {
        Gguf *g = NULL;
        ModelConfig c;
        Model *m = NULL, *again = NULL;
        char name[] = "tiny";
        OK_(gguf_open(&g, from[f], TERR));
        OK_(model_read_config(&c, g, TERR));
        OK_(model_new(&m, d, &c, TERR));
        OK_(model_copy_from(m, g, TERR));
        gguf_close(g);
        OK_(model_save(m, edit_path("saved.gguf"), extra, name, TERR));
        OK_(model_load(&again, d, edit_path("saved.gguf"), TERR));
        for (int i = 0; i < N; i++) ids[i] = (i * 5 + 3) % c.V;
        OK_(edit_forward(m, ids, N, logits_a, TERR));
        OK_(edit_forward(again, ids, N, logits_b, TERR));
        size_t n = (size_t)N * (size_t)c.V;
        for (size_t i = 0; i < n; i++) NEAR(logits_a[i], logits_b[i], 1e-6);
        load_and_run(d, edit_path("saved.gguf"), logits_a);
        load_and_run(d, from[f], logits_b);
        for (size_t i = 0; i < n; i++) NEAR(logits_a[i], logits_b[i], 1e-6);
        EQ(again->cfg.tied, c.tied);
        EQ(model_n_params(&again->cfg), m->n_flat);
        model_free(m);
        model_free(again);
    }
    device_free(d);
    EQ(mem_live_bytes(), live);
}

TEST(weights_of_another_configuration_are_refused) {
    Device *d = edit_device();
    Gguf *llama = NULL, *gpt2 = NULL, *bad = NULL;
    ModelConfig c;
    Model *m = NULL;
    OK_(gguf_open(&llama, LLAMA, TERR));
    OK_(gguf_open(&gpt2, GPT2, TERR));
    OK_(model_read_config(&c, llama, TERR));
    OK_(model_new(&m, d, &c, TERR));
    FAILS(ERR_FORMAT, model_copy_from(m, gpt2, TERR)); /* as many rows, other tensors */
    edit_file(edit_path("q.gguf"), LLAMA, &(Edit){.matrices = DT_Q8_0});
    OK_(gguf_open(&bad, edit_path("q.gguf"), TERR));
    FAILS(ERR_UNSUPPORTED, model_copy_from(m, bad, TERR));
    TRUE_(strstr(test_err.msg, "q8_0") && strstr(test_err.msg, "f32, f16 or bf16"));
    gguf_close(bad);
    /* a bias that would be left out silently, and training would go on with another model */
    edit_file(edit_path("more.gguf"), LLAMA,
              &(Edit){.add = "blk.0.attn_q_norm.weight", .n_dims = 1, .ne = {8}});
    OK_(gguf_open(&bad, edit_path("more.gguf"), TERR));
    FAILS(ERR_UNSUPPORTED, model_copy_from(m, bad, TERR));
    TRUE_(strstr(test_err.msg, "blk.0.attn_q_norm.weight"));
    gguf_close(llama);
    gguf_close(gpt2);
    gguf_close(bad);
    model_free(m);
    device_free(d);
}

/* ---- the forward pass ---- */

TEST(forward_refuses_what_does_not_fit) {
    Device *d = edit_device();
    Model *m = NULL;
    int32_t tok[4] = {1, 2, 3, 4}, pos[4] = {0, 1, 2, 3}, seq[4] = {0}, out[4] = {0, 1, 2, 3},
            block = 0;
    const int32_t *blocks = &block;
    const float *logits;
    OK_(model_load(&m, d, LLAMA, TERR));
    KvStore *kv = d->ops->kv_new(d, DT_F32, m->cfg.n_layer, 1, m->cfg.nkv, m->cfg.hd);
    Batch b = {.T = 3,
               .tok = tok,
               .pos = pos,
               .seq = seq,
               .n_seq = 1,
               .blocks = &blocks,
               .n_out = 2,
               .out = out};
    FAILS(ERR_ARG, model_forward(m, kv, &b, &logits, TERR)); /* no room at all yet */
    OK_(model_reserve(m, 3, 2, TERR));
    OK_(model_forward(m, kv, &b, &logits, TERR));
    const struct {
        int T, n_out;
        int32_t tok, pos;
        const char *words;
    } bad[] = {{4, 2, 1, 0, "batch of 4 rows, room for 1..3"},
               {0, 0, 1, 0, "batch of 0 rows"},
               {3, 3, 1, 0, "3 rows of logits, room for 2"},
               {1, 2, 1, 0, "2 rows of logits, room for 1"},
               {3, -1, 1, 0, "-1 rows"},
               {3, 2, 128, 0, "token 128 is outside the vocabulary of 128"},
               {3, 2, -1, 0, "token -1"},
               {3, 2, 1, 32, "position 32 is outside the context of 32"},
               {3, 2, 1, -1, "position -1"},
               {3, 2, INT32_MAX, 0, "token 2147483647"},
               {3, 2, 1, INT32_MIN, "position -2147483648"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        b.T = bad[i].T;
        b.n_out = bad[i].n_out;
        tok[2] = tok[0] = bad[i].tok;
        pos[2] = bad[i].pos;
        FAILS(ERR_ARG, model_forward(m, kv, &b, &logits, TERR));
        if (!strstr(test_err.msg, bad[i].words))
            FAIL("\"%s\" lacks \"%s\"", test_err.msg, bad[i].words);
        tok[0] = tok[2] = 1;
        pos[2] = 2;
    }
    b = (Batch){.T = 3, .tok = tok, .pos = pos, .seq = seq, .n_seq = 1, .blocks = &blocks};
    OK_(model_forward(m, kv, &b, &logits, TERR)); /* no logits wanted */
    d->ops->kv_free(d, kv);
    model_free(m);
    device_free(d);
}

/* Rows that attention was asked for, in all layers. */
static int attn_rows;
static const DeviceOps *true_ops;

static void count_attn(Device *d, const AttnArgsDev *a) {
    attn_rows += a->batch->T;
    true_ops->attn(d, a);
}

/* Three rows of one sequence and two of another, then one more of each: the logits of both passes, and the rows of the
 * first one that attention had. */
static int two_passes(Model *m, const int32_t *out, int n_out, bool only_out, float *first,
                      float *second) {
    const int32_t tok[] = {3, 9, 4, 7, 1}, pos[] = {0, 1, 2, 0, 1}, seq[] = {0, 0, 0, 1, 1};
    const int32_t tok2[] = {8, 2}, pos2[] = {3, 2}, seq2[] = {0, 1}, out2[] = {0, 1};
    const int32_t table[] = {0, 1}, *blocks[] = {&table[0], &table[1]};
    const float *logits = NULL;
    size_t V = (size_t)m->cfg.V;
    KvStore *kv = m->dev->ops->kv_new(m->dev, DT_F32, m->cfg.n_layer, 2, m->cfg.nkv, m->cfg.hd);
    OK_(model_reserve(m, 5, 5, TERR));
    Batch b = {5, tok, pos, seq, 2, blocks, n_out, out, only_out, NULL};
    attn_rows = 0;
    OK_(model_forward(m, kv, &b, &logits, TERR));
    EQ(logits == NULL, n_out == 0);
    int rows = attn_rows;
    if (only_out && n_out == 1) { /* the others are gone */
        const int32_t other = 4;
        Batch c = b;
        c.out = &other;
        FAILS(ERR_ARG, model_logits(m, &c, &logits, TERR));
        FAILS(ERR_ARG, model_hidden(m, &c, &logits, TERR));
        OK_(model_forward(m, kv, &b, &logits, TERR));
    }
    if (logits) memcpy(first, logits, (size_t)n_out * V * sizeof *first);
    b = (Batch){2, tok2, pos2, seq2, 2, blocks, 2, out2, only_out, NULL};
    OK_(model_forward(m, kv, &b, &logits, TERR));
    memcpy(second, logits, 2 * V * sizeof *second);
    m->dev->ops->kv_free(m->dev, kv);
    return rows;
}

/* What is left out of the last layer changes neither the logits of the others nor what the cache has. */
TEST(rows_nobody_asks_about) {
    const char *files[] = {LLAMA, GPT2, QWEN3};
    const struct {
        int last, n; /* rows of the last layer, rows wanted */
        int32_t out[5];
    } wanted[] = {{0, 0, {0}},
                  {1, 1, {2}},
                  {1, 1, {0}},
                  {2, 2, {2, 4}},
                  {3, 3, {1, 2, 4}},
                  {4, 4, {0, 1, 2, 3}},
                  {5, 2, {3, 0}}, /* not in order */
                  {5, 5, {0, 1, 2, 3, 4}}};
    static float want[5 * 512], got[5 * 512], want2[2 * 512], got2[2 * 512];
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        Device *d = edit_device();
        Model *m = NULL;
        OK_(model_load(&m, d, files[f], TERR));
        size_t V = (size_t)m->cfg.V;
        DeviceOps counting = *d->ops;
        counting.attn = count_attn;
        true_ops = d->ops;
        d->ops = &counting;
        TRUE_(V <= 512);
        for (size_t i = 0; i < COUNT_OF(wanted); i++) {
            int n = wanted[i].n, others = 5 * (m->cfg.n_layer - 1);
            EQ(two_passes(m, wanted[i].out, n, false, want, want2), others + 5);
            EQ(two_passes(m, wanted[i].out, n, true, got, got2), others + wanted[i].last);
            for (size_t k = 0; k < (size_t)n * V; k++) NEAR((double)got[k], (double)want[k], 1e-5);
            for (size_t k = 0; k < 2 * V; k++) NEAR((double)got2[k], (double)want2[k], 1e-5);
        }
        d->ops = true_ops;
        model_free(m);
        device_free(d);
    }
}

/* Room grows, is kept, and what was planned is what is taken. */
TEST(room_is_what_was_planned) {
    Device *d = edit_device();
    Model *m = NULL;
    OK_(model_load(&m, d, GPT2, TERR));
    size_t live = mem_live_bytes();
    OK_(model_reserve(m, 20, 7, TERR));
    NEAR((double)(mem_live_bytes() - live), (double)model_work_bytes(&m->cfg, 20, 7), 1024);
    uint64_t n = mem_n_alloc();
    OK_(model_reserve(m, 10, 3, TERR));
    EQ(mem_n_alloc(), n);
    OK_(model_reserve(m, 5, 9, TERR)); /* more logits: the rows stay */
    live = mem_live_bytes();
    OK_(model_reserve(m, 20, 9, TERR));
    EQ(mem_live_bytes(), live);
    KvStore *kv = d->ops->kv_new(d, DT_F16, m->cfg.n_layer, 5, m->cfg.nkv, m->cfg.hd);
    NEAR((double)(mem_live_bytes() - live), (double)model_kv_bytes(&m->cfg, DT_F16, 5), 256);
    d->ops->kv_free(d, kv);
    model_free(m);
    device_free(d);
}

/* ---- configurations ---- */

static ModelConfig small(void) {
    return (ModelConfig){.arch = model_arch_find(slice_of("llama")),
                         .n_layer = 3,
                         .C = 64,
                         .nh = 4,
                         .nkv = 2,
                         .hd = 16,
                         .ff = 40,
                         .V = 50,
                         .ctx = 20,
                         .norm_eps = 1e-5f,
                         .rope_base = 1e4f,
                         .rope_scale = 1,
                         .n_rot = 8,
                         .tied = true};
}

TEST(config_limits) {
    ModelConfig c = small();
    OK_(model_config_check(&c, TERR));
    const struct {
        size_t at;
        int bad;
        const char *words;
    } ints[] = {
        {offsetof(ModelConfig, n_layer), 0, "block_count 0 is outside 1..512"},
        {offsetof(ModelConfig, n_layer), 513, "block_count 513"},
        {offsetof(ModelConfig, C), 7, "embedding_length 7 is outside 8..65536"},
        {offsetof(ModelConfig, C), INT32_MAX, "embedding_length"},
        {offsetof(ModelConfig, nh), 0, "attention.head_count 0"},
        {offsetof(ModelConfig, nkv), 3, "head_count 4 is not a multiple of head_count_kv 3"},
        {offsetof(ModelConfig, nkv), -1, "head_count_kv -1"},
        {offsetof(ModelConfig, hd), 264, "key_length 264 is outside 8..256"},
        {offsetof(ModelConfig, hd), 20, "key_length 20 is not a multiple of 8"},
        {offsetof(ModelConfig, ff), 0, "feed_forward_length 0"},
        {offsetof(ModelConfig, V), 1, "vocab_size 1 is outside 2..4000000"},
        {offsetof(ModelConfig, ctx), 0, "context_length 0"},
        {offsetof(ModelConfig, n_rot), 0, "rope.dimension_count 0"},
        {offsetof(ModelConfig, n_rot), 9, "rope.dimension_count 18 is outside 2..16"},
        {offsetof(ModelConfig, more), PART_QK_NORM, "architecture llama does not have parts 16"},
        {offsetof(ModelConfig, yarn.ctx), -1, "original_context_length -1 is outside 1..16777216"},
        {offsetof(ModelConfig, yarn.ctx), 8, "yarn_beta_slow 0 and yarn_beta_fast 0"},
    };
    for (size_t i = 0; i < COUNT_OF(ints); i++) {
        c = small();
        memcpy((char *)&c + ints[i].at, &ints[i].bad, sizeof(int));
        FAILS(ERR_ARG, model_config_check(&c, TERR));
        if (!strstr(test_err.msg, ints[i].words))
            FAIL("\"%s\" lacks \"%s\"", test_err.msg, ints[i].words);
    }
    const struct {
        size_t at;
        float bad;
    } reals[] = {
        {offsetof(ModelConfig, norm_eps), 0},     {offsetof(ModelConfig, norm_eps), 1},
        {offsetof(ModelConfig, norm_eps), NAN},   {offsetof(ModelConfig, rope_base), 0.5f},
        {offsetof(ModelConfig, rope_base), NAN},  {offsetof(ModelConfig, rope_base), INFINITY},
        {offsetof(ModelConfig, rope_scale), 0},   {offsetof(ModelConfig, rope_scale), -1},
        {offsetof(ModelConfig, rope_scale), NAN}, {offsetof(ModelConfig, rope_attn), NAN},
        {offsetof(ModelConfig, rope_attn), -1},   {offsetof(ModelConfig, rope_attn), 2e3f}};
    for (size_t i = 0; i < COUNT_OF(reals); i++) {
        c = small();
        memcpy((char *)&c + reals[i].at, &reals[i].bad, sizeof(float));
        FAILS(ERR_ARG, model_config_check(&c, TERR));
    }
}

TEST(yarn_limits) {
    ModelConfig good = small();
    good.yarn = (YarnSpec){20, 32, 1, 0};
    OK_(model_config_check(&good, TERR));
    const struct {
        float base;
        YarnSpec y;
        const char *words;
    } bad[] = {{1.5f, {20, 32, 1, 0}, "rope.freq_base 1.5 is below 2"},
               {1e4f, {20, 1, 32, 0}, "yarn_beta_slow 32 and yarn_beta_fast 1"},
               {1e4f, {20, INFINITY, 1, 0}, "yarn_beta_fast inf"},
               {1e4f, {20, 32, NAN, 0}, "yarn_beta_slow nan"},
               {1e4f, {20, 32, 0, 0}, "yarn_beta_slow 0"},
               {1e4f, {20, 32, 1, -1}, "yarn_log_multiplier -1 is outside 0..100"},
               {1e4f, {20, 32, 1, NAN}, "yarn_log_multiplier nan"},
               {1e4f, {MODEL_MAX_CTX + 1, 32, 1, 0}, "original_context_length 16777217"}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        ModelConfig c = good;
        c.rope_base = bad[i].base;
        c.yarn = bad[i].y;
        FAILS(ERR_ARG, model_config_check(&c, TERR));
        if (!strstr(test_err.msg, bad[i].words))
            FAIL("\"%s\" lacks \"%s\"", test_err.msg, bad[i].words);
    }
}

/* Every architecture with everything it may have: what is saved loads to the same configuration and logits. */
TEST(every_architecture_saves_and_loads) {
    size_t live = mem_live_bytes();
    Device *d = edit_device();
    for (int i = 0; model_arch_at(i); i++) {
        ModelConfig c = small();
        Model *m = NULL, *again = NULL;
        c.arch = model_arch_at(i);
        c.hd = c.arch->parts & PART_QK_NORM ? 24 : 16; /* wider than C / nh */
        if (c.arch->fused_qkv) c.nkv = c.nh;
        c.ctx = 32;
        c.more = c.arch->may;
        c.rope_attn = c.arch->pos == POS_ROPE ? 1.25f : 0.0f;
        c.rope_scale = 4.0f;
        if (c.arch->pos == POS_ROPE) c.yarn = (YarnSpec){9, 32, 1, 0};
        if (c.arch->yarn_keys) c.yarn = (YarnSpec){9, 3, 0.5f, 0.75f};
        OK_(model_new(&m, d, &c, TERR));
        OK_(model_init(m, 4, TERR));
        float *x = calloc(m->n_flat, sizeof *x);
        for (size_t k = 0; k < m->n_flat; k++) x[k] = (float)(k * 7919 % 1009) / 1009 - 0.5f;
        d->ops->upload(d, buf_at(m->flat, 0), x, m->n_flat * sizeof *x);
        free(x);
        EQ(m->layer[2].qkv.n, 1); /* biases are joined along with their matrices */
        EQ(m->layer[2].up.n, 1);
        OK_(model_save(m, edit_path("all.gguf"), NULL, NULL, TERR));
        OK_(model_load(&again, d, edit_path("all.gguf"), TERR));
        EQ(again->cfg.more, c.more);
        if (c.arch->pos == POS_ROPE) {
            EQ_MEM(&again->cfg.yarn, &c.yarn, sizeof c.yarn);
            EQ_MEM(again->rope_freq, m->rope_freq, (size_t)c.n_rot * sizeof(float));
            TRUE_(again->rope_gain == m->rope_gain && m->rope_gain > 1.2f);
        }
        for (int k = 0; k < N; k++) ids[k] = (k * 5 + 3) % c.V;
        OK_(edit_forward(m, ids, N, logits_a, TERR));
        OK_(edit_forward(again, ids, N, logits_b, TERR));
        for (int k = 0; k < N * c.V; k++)
            NEAR(logits_a[k], logits_b[k], 1e-5 * (1 + fabs((double)logits_a[k])));
        model_free(m);
        model_free(again);
    }
    device_free(d);
    EQ(mem_live_bytes(), live);
}

/* YaRN by hand: pairs 0.. of 8, base 100, original context 60, factor 4. The pair that turns 32 times lies below 0,
 * the one that turns once at 16 ln(60 / 2 pi) / (2 ln 100) = 3.92, so the ramp ends at 4. */
TEST(yarn_angles) {
    Device *d = edit_device();
    ModelConfig c = small();
    Model *m = NULL;
    c.rope_base = 100.0f;
    c.rope_scale = 4.0f;
    c.yarn = (YarnSpec){60, 32, 1, 0};
    OK_(model_new(&m, d, &c, TERR));
    for (int i = 0; i < 8; i++) {
        double own = pow(100.0, -i / 8.0), share = i >= 4 ? 0.0 : 1.0 - i / 4.0;
        NEAR(m->rope_freq[i], own * share + own / 4 * (1 - share), 1e-6);
    }
    NEAR(m->rope_gain, 1.0 + 0.1 * log(4.0), 1e-6);
    model_free(m);
    c.rope_attn = 0.5f;
    c.yarn.log_mul = 0.7f;
    OK_(model_new(&m, d, &c, TERR));
    NEAR(m->rope_gain, 0.5 * (1.0 + 0.1 * log(4.0)) / (1.0 + 0.07 * log(4.0)), 1e-6);
    model_free(m);
    device_free(d);
}

/* The list of parameters, its total and the places in the flat buffer agree. */
TEST(parameters_add_up) {
    for (int i = 0; model_arch_at(i / 2); i++) {
        ModelConfig c = small();
        Param *p = NULL;
        int n = 0;
        size_t at = 0;
        c.arch = model_arch_at(i / 2);
        if (c.arch->fused_qkv) c.nkv = c.nh;
        c.tied = i % 2;
        c.more = c.tied ? 0 : c.arch->may;
        OK_(model_params(&p, &n, &c, TERR));
        for (int k = 0; k < n; k++) {
            EQ(p[k].off, at);
            at += param_n(&p[k]);
            for (int j = 0; j < k; j++) TRUE_(strcmp(p[j].name, p[k].name) != 0);
        }
        EQ(at, model_n_params(&c));
        EQ_STR(p[0].name, "token_embd.weight");
        EQ_STR(p[n - 1].name, !c.tied                         ? "output.weight"
                              : model_has(&c, PART_NORM_BIAS) ? "output_norm.bias"
                                                              : "output_norm.weight");
        mem_free(p);
    }
    /* gpt2 of 124 M */
    ModelConfig gpt2 = {.arch = model_arch_find(slice_of("gpt2")),
                        .n_layer = 12,
                        .C = 768,
                        .nh = 12,
                        .nkv = 12,
                        .hd = 64,
                        .ff = 3072,
                        .V = 50257,
                        .ctx = 1024,
                        .norm_eps = 1e-5f,
                        .tied = true};
    EQ(model_n_params(&gpt2), 124439808);
    NEAR(model_train_flops(&gpt2, 1024), 6.0 * (124439808 - 1024 * 768) + 12.0 * 12 * 768 * 1024,
         1);
    TRUE_(model_arch_find(slice_of("gpt")) == NULL);
    char names[MODEL_ARCH_NAMES];
    EQ_STR(model_arch_names(names), "gpt2, llama, mistral3, qwen2, qwen3, starcoder2");
    for (int i = 0; model_arch_at(i); i++)
        TRUE_(model_arch_find(slice_of(model_arch_at(i)->name)) == model_arch_at(i));
    TRUE_(model_arch_at(-1) == NULL);
}

TEST(initial_weights) {
    Device *d = edit_device();
    ModelConfig c = small();
    Model *m = NULL, *same = NULL;
    c.C = c.ff = 128;
    c.hd = 32;
    OK_(model_new(&m, d, &c, TERR));
    OK_(model_new(&same, d, &c, TERR));
    OK_(model_init(m, 7, TERR));
    OK_(model_init(same, 7, TERR));
    float *a = calloc(m->n_flat, sizeof *a), *b = calloc(m->n_flat, sizeof *b);
    d->ops->download(d, a, buf_at(m->flat, 0), m->n_flat * sizeof *a);
    d->ops->download(d, b, buf_at(same->flat, 0), m->n_flat * sizeof *b);
    EQ_MEM(a, b, m->n_flat * sizeof *a);
    for (int i = 0; i < m->n_params; i++) {
        const Param *p = &m->params[i];
        double sum = 0.0, sq = 0.0, n = (double)param_n(p),
               std = p->role == P_ATTN_OUT || p->role == P_DOWN ? 0.02 / sqrt(6.0) : 0.02;
        for (size_t k = 0; k < param_n(p); k++) {
            sum += (double)a[p->off + k];
            sq += (double)a[p->off + k] * (double)a[p->off + k];
        }
        if (p->n_dims == 1) NEAR(sum, n, 0); /* norms: 1 */
        if (p->n_dims == 1) continue;
        NEAR(sum / n, 0, 5 * std / sqrt(n));
        NEAR(sqrt(sq / n), std, 5 * std / sqrt(2 * n));
    }
    OK_(model_init(same, 8, TERR));
    d->ops->download(d, b, buf_at(same->flat, 0), m->n_flat * sizeof *b);
    TRUE_(memcmp(a, b, m->n_flat * sizeof *a) != 0);
    free(a);
    free(b);
    model_free(m);
    model_free(same);
    device_free(d);
}
