/* SPDX-License-Identifier: Apache-2.0
 * Adapters over a model: what they add is what merging them into the weights would give, row by row, whatever rows
 * stand beside; and what is refused. */
#include "model/lora.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "edit.h"
#include "support/lora_build.h"

enum { V = 61, CTX = 64, T = 23 };

/* ---- models ---- */

static ModelConfig config(const ArchRow *arch, bool tied) {
    ModelConfig c = {.arch = arch,
                     .more = arch->may & PART_QK_NORM,
                     .n_layer = 2,
                     .C = 32,
                     .nh = 4,
                     .nkv = arch->fused_qkv ? 4 : 2,
                     .hd = 8,
                     .ff = 48,
                     .V = V,
                     .ctx = CTX,
                     .norm_eps = 1e-5f,
                     .rope_base = 1e4f,
                     .rope_scale = 1,
                     .n_rot = 4,
                     .tied = tied};
    return c;
}

static Model *random_model(Device *d, const ModelConfig *c, uint64_t seed) {
    Model *m = NULL;
    OK_(model_new(&m, d, c, TERR));
    float *x = mem_new_n(float, m->n_flat);
    TRUE_(x != NULL);
    rng_normal_fill(x, m->n_flat, 0.25f, seed, 1);
    d->ops->upload(d, buf_at(m->flat, 0), x, m->n_flat * sizeof *x);
    mem_free(x);
    return m;
}

static Device *device(bool invariant) {
    Device *d = NULL;
    OK_(device_cpu_new(&d, &(DeviceOpts){.n_threads = 2, .batch_invariant = invariant}, TERR));
    return d;
}

/* ---- passes: n_seq sequences of T tokens, each with its use ---- */

enum { MOST_SEQ = 6, BLOCKS = 2 };

static void tokens(int32_t *tok, int seq, int n) {
    for (int i = 0; i < n; i++) tok[i] = (int32_t)(rng_uniform(9, (uint64_t)seq, (uint64_t)i) * V);
}

static double norm_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* |a - b| / |b| */
static double distance(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sqrt(sum) / norm_of(b, n);
}

/* ---- what is added ---- */

/* Logits of all rows of the sequences in seqs[n] into out[n][T][V], in one pass. order: rows of all sequences by
 * turns instead of one after the other. */
static Status forward(Model *m, const int *seqs, const LoraUse *use, int n, bool by_turns,
                      float *out, Err *e) {
    int32_t tok[MOST_SEQ * T], pos[MOST_SEQ * T], seq[MOST_SEQ * T], rows[MOST_SEQ * T];
    int32_t table[MOST_SEQ][BLOCKS], ids[MOST_SEQ][T];
    const int32_t *blocks[MOST_SEQ];
    const float *logits = NULL;
    for (int s = 0; s < n; s++) {
        tokens(ids[s], seqs[s], T);
        for (int k = 0; k < BLOCKS; k++) table[s][k] = s * BLOCKS + k;
        blocks[s] = table[s];
    }
    for (int i = 0; i < n * T; i++) {
        int s = by_turns ? i % n : i / T, p = by_turns ? i / n : i % T;
        tok[i] = ids[s][p];
        pos[i] = p;
        seq[i] = s;
        rows[s * T + p] = i;
    }
    KvStore *kv =
        m->dev->ops->kv_new(m->dev, DT_F32, m->cfg.n_layer, n * BLOCKS, m->cfg.nkv, m->cfg.hd);
    TRUE_(kv != NULL);
    OK_(model_reserve(m, n * T, n * T, TERR));
    Batch b = {.T = n * T,
               .tok = tok,
               .pos = pos,
               .seq = seq,
               .n_seq = n,
               .blocks = blocks,
               .n_out = n * T,
               .out = rows,
               .lora = use};
    Status st = model_forward(m, kv, &b, &logits, e);
    if (st == OK) memcpy(out, logits, (size_t)(n * T) * V * sizeof *out);
    b.out = rows + (n - 1) * T; /* those of the last sequence once more, from what the pass left */
    b.n_out = T;
    if (st == OK) OK_(model_logits(m, &b, &logits, TERR));
    if (st == OK) FALSE_(distance(logits, out + (size_t)(n - 1) * T * V, (size_t)T * V) > 1e-5);
    b.out += T / 2; /* and as the only rows that go to the end */
    b.n_out = T - T / 2;
    b.only_out = true;
    if (st == OK) OK_(model_forward(m, kv, &b, &logits, TERR));
    if (st == OK)
        FALSE_(distance(logits, out + ((size_t)(n - 1) * T + T / 2) * V, (size_t)(T - T / 2) * V) >
               1e-5);
    m->dev->ops->kv_free(m->dev, kv);
    return st;
}

static void logits_of(Model *m, int seq, LoraUse use, float *out) {
    OK_(forward(m, &seq, &use, 1, false, out, TERR));
}

static float got[MOST_SEQ * T * V], want[MOST_SEQ * T * V], base[MOST_SEQ * T * V];

static void hold_to_merged(Device *d, const ModelConfig *c, const LoraSpec *s, float scale) {
    const char *path = edit_path("a.gguf");
    Lora *l = NULL;
    Model *m = random_model(d, c, 3), *merged = random_model(d, c, 3);
    lora_build_file(path, m, s);
    OK_(lora_load(&l, m, path, TERR));
    OK_(lora_reserve(m, T, lora_info(l)->rank, TERR));
    lora_build_merge(merged, path, scale);
    logits_of(merged, 1, (LoraUse){0}, want);
    logits_of(m, 1, (LoraUse){l, scale}, got);
    logits_of(m, 1, (LoraUse){0}, base);
    double off = distance(got, want, T * V), moved = distance(base, want, T * V);
    if (!(off < 1e-5 && moved > 0.05))
        FAIL("%s, %s adapter, scale %g: %g from the merged model, the base %g", c->arch->name,
             dtype_name(s->type), (double)scale, off, moved);
    lora_free(l);
    model_free(m);
    model_free(merged);
}

TEST(overlay_is_the_merged_model_in_every_architecture) {
    Device *d = device(false);
    for (int i = 0; model_arch_at(i); i++) {
        ModelConfig c = config(model_arch_at(i), false);
        hold_to_merged(d, &c, &(LoraSpec){.seed = 5, .rank = 3, .alpha = 2}, 0.7f);
        c.tied = true; /* an adapted embedding would change the head of the merged model, too */
        hold_to_merged(d, &c, &(LoraSpec){.seed = 6, .rank = 1, .alpha = 3, .no_embd = true}, 1);
    }
    device_free(d);
}

TEST(overlay_in_every_type_and_sign) {
    static const DType types[] = {DT_F32, DT_F16, DT_BF16, DT_Q8_0};
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        LoraSpec s = {.seed = i, .rank = 31, .alpha = 8, .type = types[i]}; /* 31, 32, 33 */
        hold_to_merged(d, &c, &s, -1.5f);
    }
    LoraSpec none = {.seed = 1, .rank = 2, .alpha = 0, .size = 0.1f}; /* the scale alone */
    hold_to_merged(d, &c, &none, 0.5f);
    device_free(d);
}

TEST(one_pair_alone_reaches_its_columns) {
    Device *d = device(false);
    for (int a = 0; a < 2; a++) {
        ModelConfig c = config(model_arch_find(slice_of(a ? "gpt2" : "qwen3")), false);
        Model *m = random_model(d, &c, 3);
        int n = 0;
        for (int i = 0; i < m->n_params; i++)
            n += m->params[i].n_dims == 2 && m->params[i].role != P_POS_EMBD;
        model_free(m);
        EQ(n, a ? 2 + 2 * 4 : 2 + 2 * 7);
        for (int skip = 2; skip <= n; skip++) /* the first of each pass, alone at the last */
            hold_to_merged(d, &c, &(LoraSpec){.seed = 7, .rank = 2, .alpha = 9, .every = skip}, 1);
    }
    device_free(d);
}

/* Three adapters, one of them at two scales, and rows without: each row is what it is alone. */
static void mixed(Device *d, const char *arch, bool by_turns, bool bits) {
    ModelConfig c = config(model_arch_find(slice_of(arch)), false);
    Model *m = random_model(d, &c, 4);
    Lora *l[3] = {0};
    static const int seqs[MOST_SEQ] = {0, 1, 2, 3, 4, 5};
    for (int i = 0; i < 3; i++) {
        LoraSpec s = {.seed = 20 + (uint64_t)i, .rank = 1 + 4 * i, .alpha = 4, .every = i};
        lora_build_file(edit_path("a.gguf"), m, &s);
        OK_(lora_load(&l[i], m, edit_path("a.gguf"), TERR));
    }
    OK_(lora_reserve(m, MOST_SEQ * T, lora_info(l[2])->rank, TERR));
    LoraUse use[MOST_SEQ] = {{l[0], 1}, {NULL, 0}, {l[1], 2}, {l[2], 1}, {l[0], -0.5f}, {l[1], 0}};
    OK_(forward(m, seqs, use, MOST_SEQ, by_turns, got, TERR));
    for (int s = 0; s < MOST_SEQ; s++) {
        logits_of(m, s, use[s], want);
        logits_of(m, s, (LoraUse){0}, base);
        bool adapted = use[s].lora && use[s].scale != 0.0f;
        double off = distance(got + (size_t)s * T * V, want, T * V);
        EQ(distance(base, want, T * V) > 0.05, adapted);
        if (bits) EQ_MEM(got + (size_t)s * T * V, want, T * V * sizeof *want);
        if (off > 1e-5) FAIL("%s: sequence %d is %g from itself alone", arch, s, off);
    }
    for (int i = 0; i < 3; i++) lora_free(l[i]);
    model_free(m);
}

TEST(adapters_and_base_rows_in_one_batch) {
    for (int inv = 0; inv < 2; inv++) {
        Device *d = device(inv);
        for (int turns = 0; turns < 2; turns++) {
            mixed(d, "llama", turns, inv);
            mixed(d, "gpt2", turns, inv);
        }
        device_free(d);
    }
}

/* ---- versions ---- */

static Sha256 version_of(const Model *m, const LoraSpec *s) {
    Lora *l = NULL;
    lora_build_file(edit_path("v.gguf"), m, s);
    OK_(lora_load(&l, m, edit_path("v.gguf"), TERR));
    Sha256 v = lora_info(l)->version;
    TRUE_(lora_info(l)->alpha == s->alpha);
    lora_free(l);
    return v;
}

TEST(versions_tell_contents_apart) {
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3);
    const LoraSpec specs[] = {{.seed = 1, .rank = 2, .alpha = 2},
                              {.seed = 2, .rank = 2, .alpha = 2},
                              {.seed = 1, .rank = 2, .alpha = 3},
                              {.seed = 1, .rank = 4, .alpha = 2},
                              {.seed = 1, .rank = 2, .alpha = 2, .every = 2},
                              {.seed = 1, .rank = 2, .alpha = 2, .type = DT_F16}};
    Sha256 v[COUNT_OF(specs)];
    for (size_t i = 0; i < COUNT_OF(specs); i++) {
        v[i] = version_of(m, &specs[i]);
        Sha256 again = version_of(m, &specs[i]);
        EQ_MEM(&v[i], &again, sizeof again);
        for (size_t k = 0; k < i; k++) TRUE_(memcmp(&v[i], &v[k], sizeof v[i]) != 0);
    }
    model_free(m);
    device_free(d);
}

/* A file that is written over while it is in use must not change what its version stands for. */
TEST(a_loaded_adapter_does_not_follow_its_file) {
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3);
    const char *path = edit_path("a.gguf");
    Lora *l = NULL;
    lora_build_file(path, m, &(LoraSpec){.seed = 1, .rank = 2, .alpha = 2});
    OK_(lora_load(&l, m, path, TERR));
    OK_(lora_reserve(m, T, lora_info(l)->rank, TERR));
    logits_of(m, 1, (LoraUse){l, 1}, want);
    FILE *f = fopen(path, "r+b");
    TRUE_(f && fseek(f, -4096, SEEK_END) == 0);
    for (int i = 0; i < 4096; i++) fputc(0x42, f);
    EQ(fclose(f), 0);
    logits_of(m, 1, (LoraUse){l, 1}, got);
    EQ_MEM(got, want, T * V * sizeof *got);
    lora_free(l);
    model_free(m);
    device_free(d);
}

/* ---- what is refused ---- */

typedef struct Wrong {
    const char *words;
    Edit edit;
} Wrong;

#define A "blk.0.attn_q.weight.lora_a"
#define B "blk.0.attn_q.weight.lora_b"

static const Wrong wrongs[] = {
    {"general.type is \"model\", want \"adapter\"",
     {.key = "general.type", .kind = SET_STR, .str = "model"}},
    {"general.type", {.key = "general.type", .kind = SET_DROP}},
    {"adapter.type is \"control\", want \"lora\"",
     {.key = "adapter.type", .kind = SET_STR, .str = "control"}},
    {"the adapter is for architecture \"qwen2\", the model's is llama",
     {.key = "general.architecture", .kind = SET_STR, .str = "qwen2"}},
    {"general.architecture", {.key = "general.architecture", .kind = SET_DROP}},
    {"adapter.lora.alpha", {.key = "adapter.lora.alpha", .kind = SET_F32, .num = -1}},
    {"adapter.lora.alpha", {.key = "adapter.lora.alpha", .kind = SET_F64, .num = 1e300}},
    {"adapter.lora.alpha", {.key = "adapter.lora.alpha", .kind = SET_STR, .str = "16"}},
    {"adapter.alora.invocation_tokens: adapters that wait",
     {.key = "adapter.alora.invocation_tokens", .kind = SET_U32, .num = 1}},
    {"tensor \"" A "\" is missing", {.drop = A}},
    {"tensor \"" B "\" is missing", {.drop = B}},
    {"tensor \"" A "\" has shape [31, 3], want [32, 3]", {.alter = A, .n_dims = 2, .ne = {31, 3}}},
    {"tensor \"" B "\" has shape [4, 32], want [3, 32]", {.alter = B, .n_dims = 2, .ne = {4, 32}}},
    {"tensor \"" B "\" has shape [3, 16], want [3, 32]", {.alter = B, .n_dims = 2, .ne = {3, 16}}},
    {"tensor \"" A "\" has shape [32, 3, ...]", {.alter = A, .n_dims = 3, .ne = {32, 3, 2}}},
    {"has rank 4097, out of range: 1 to 4096", {.alter = A, .n_dims = 2, .ne = {32, 4097}}},
    {"tensor \"" A "\" is q4_0, want f32, f16, bf16 or q8_0",
     {.alter = A, .type = DT_Q4_0, .n_dims = 2, .ne = {32, 3}}},
    {"tensor \"blk.2.attn_q.weight\" is not in the model (llama, 2 layers)",
     {.add = "blk.2.attn_q.weight.lora_a", .n_dims = 2, .ne = {32, 3}}},
    {"tensor \"blk.0.attn_qkv.weight\" is not in the model",
     {.add = "blk.0.attn_qkv.weight.lora_b", .n_dims = 2, .ne = {3, 64}}},
    {"tensor \"blk.0.attn_norm.weight\" cannot be adapted",
     {.add = "blk.0.attn_norm.weight.lora_a", .n_dims = 2, .ne = {32, 1}}},
    {"tensor \"blk.0.attn_norm.weight\" is neither a .lora_a nor a .lora_b",
     {.add = "blk.0.attn_norm.weight", .n_dims = 1, .ne = {32}}},
    {"tensor \".lora_a\" is neither", {.add = ".lora_a", .n_dims = 1, .ne = {32}}},
};

TEST(refusals_name_what_does_not_fit) {
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3);
    const char *good = edit_path("good.gguf"), *bad = edit_path("bad.gguf");
    lora_build_file(good, m, &(LoraSpec){.seed = 1, .rank = 2, .alpha = 2, .no_embd = true});
    for (size_t i = 0; i < COUNT_OF(wrongs); i++) {
        Lora *l = NULL;
        Err e = {0};
        size_t live = mem_live_bytes();
        edit_file(bad, good, &wrongs[i].edit);
        Status st = lora_load(&l, m, bad, &e);
        if (st == OK || !strstr(e.msg, wrongs[i].words) || !strstr(e.msg, bad))
            FAIL("want \"%s\", got \"%s\"", wrongs[i].words, e.msg);
        EQ(mem_live_bytes(), live);
    }
    model_free(m);
    device_free(d);
}

TEST(values_that_are_no_numbers_are_refused) {
    static const struct {
        DType type;
        uint8_t bytes[4];
        int n;
    } bad[] = {{DT_F32, {0, 0, 0xc0, 0x7f}, 4},
               {DT_F32, {0, 0, 0x80, 0xff}, 4},
               {DT_F16, {0, 0x7c}, 2},
               {DT_BF16, {0x80, 0x7f}, 2},
               {DT_Q8_0, {1, 0x7c}, 2}};
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3);
    const char *path = edit_path("nan.gguf");
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Gguf *g = NULL;
        Lora *l = NULL;
        Err e = {0};
        lora_build_file(path, m, &(LoraSpec){.seed = 1, .rank = 30, .type = bad[i].type});
        OK_(gguf_open(&g, path, TERR));
        const GgufTensor *t = gguf_find_tensor(g, "blk.1.ffn_up.weight.lora_a");
        EQ(t->type, bad[i].type);
        size_t per = (size_t)dtype_info(t->type)->block_bytes, last = (size_t)t->n_bytes - per;
        size_t at = (size_t)((const uint8_t *)t->data - gguf_map(g).p) + last;
        gguf_close(g);
        FILE *f = fopen(path, "r+b");
        TRUE_(f && fseek(f, (long)at, SEEK_SET) == 0);
        TRUE_(fwrite(bad[i].bytes, 1, (size_t)bad[i].n, f) == (size_t)bad[i].n && !fclose(f));
        FAILS(ERR_FORMAT, lora_load(&l, m, path, &e));
        TRUE_(strstr(e.msg, "blk.1.ffn_up.weight.lora_a\": element ") != NULL);
    }
    model_free(m);
    device_free(d);
}

TEST(passes_refuse_what_has_no_room) {
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3), *other = random_model(d, &c, 4);
    const char *path = edit_path("a.gguf");
    static const int seq = 0;
    Lora *l = NULL;
    Err e = {0};
    lora_build_file(path, m, &(LoraSpec){.seed = 1, .rank = 3, .alpha = 2});
    OK_(lora_load(&l, m, path, TERR));
    LoraUse use = {l, 1};
    EQ(forward(m, &seq, &use, 1, false, got, &e), ERR_ARG);
    TRUE_(strstr(e.msg, "rank 5 for 23 rows, room for 0 and 0") != NULL);
    OK_(lora_reserve(m, T, 4, TERR));
    EQ(forward(m, &seq, &use, 1, false, got, TERR), ERR_ARG);
    OK_(lora_reserve(m, T - 1, 5, TERR)); /* grows only: T rows of 5 now */
    EQ(forward(m, &seq, &use, 1, false, got, TERR), OK);
    use.scale = NAN;
    EQ(forward(m, &seq, &use, 1, false, got, TERR), ERR_ARG);
    use.scale = 1;
    OK_(lora_reserve(other, T, 5, TERR));
    EQ(forward(other, &seq, &use, 1, false, got, TERR), ERR_ARG);
    lora_free(l);
    model_free(m);
    model_free(other);
    device_free(d);
}

TEST(plans_say_what_loading_takes) {
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3);
    const char *path = edit_path("a.gguf");
    LoraInfo plan;
    Gguf *g = NULL;
    Lora *l = NULL;
    lora_build_file(
        path, m, &(LoraSpec){.seed = 1, .rank = 3, .alpha = 2, .no_embd = true, .no_output = true});
    OK_(gguf_open(&g, path, TERR));
    TRUE_(lora_is_adapter(g));
    OK_(lora_read_info(&plan, &c, g, TERR));
    OK_(lora_load(&l, m, path, TERR));
    const LoraInfo *i = lora_info(l);
    EQ(plan.n_bytes, i->n_bytes);
    EQ(plan.rank, 5);
    EQ(plan.n_pairs, 14);
    EQ(plan.n_params, i->n_params);
    TRUE_(plan.n_bytes <= lora_bytes(&c, 5) + 14 * 2 * 64);
    TRUE_(plan.n_bytes >= lora_bytes(&c, 3));
    gguf_close(g);
    OK_(gguf_open(&g, LLAMA, TERR));
    FALSE_(lora_is_adapter(g));
    gguf_close(g);
    lora_free(l);
    model_free(m);
    device_free(d);
}

/* ---- damaged files ---- */

static uint64_t next(uint64_t *s) {
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Bytes of the head or of the values set to edge values, words added to, the end cut. */
static size_t damage(uint8_t *p, size_t n, size_t n_head, uint64_t i) {
    static const uint8_t edges[] = {0, 1, 2, 7, 8, 0x1f, 0x20, 0x7f, 0x80, 0xff};
    uint64_t s = i;
    for (uint64_t k = 1 + next(&s) % 3; k > 0; k--) {
        size_t at = (size_t)(next(&s) % (next(&s) % 4 ? n_head : n));
        if (next(&s) % 2) p[at] = edges[next(&s) % sizeof edges];
        else p[at] = (uint8_t)(p[at] + 1 + next(&s) % 3);
    }
    return next(&s) % 8 == 0 ? (size_t)(next(&s) % n) : n;
}

static void load_damaged(Model *m, const uint8_t *p, size_t n, int *n_loaded, uint64_t i) {
    const char *path = edit_path("d.gguf");
    Lora *l = NULL;
    Err e = {0};
    FILE *f = fopen(path, "wb");
    TRUE_(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
    size_t live = mem_live_bytes();
    if (lora_load(&l, m, path, &e) == OK) {
        static const int seq = 1;
        LoraUse use = {l, 1};
        OK_(lora_reserve(m, T, LORA_MAX_RANK, TERR));
        OK_(forward(m, &seq, &use, 1, false, got, TERR));
        lora_free(l);
        *n_loaded += 1;
        return;
    }
    if (!e.msg[0] || strchr(e.msg, '\n') || !strstr(e.msg, path))
        FAIL("file %llu refused with \"%s\"", (unsigned long long)i, e.msg);
    EQ(mem_live_bytes(), live);
}

TEST(damaged_adapters) {
    Device *d = device(false);
    ModelConfig c = config(model_arch_find(slice_of("llama")), false);
    Model *m = random_model(d, &c, 3);
    const char *path = edit_path("a.gguf"), *text = getenv("INGOT_MUTATIONS");
    uint64_t n = 300;
    StrBuf good = {0};
    Gguf *g = NULL;
    int n_loaded = 0;
    if (text && !str_to_u64(&n, text)) FAIL("INGOT_MUTATIONS \"%s\" is not a number", text);
    lora_build_file(path, m, &(LoraSpec){.seed = 1, .rank = 2, .alpha = 2});
    OK_(io_read_file(&good, path, 1 << 20, TERR));
    OK_(gguf_open(&g, path, TERR));
    const void *first = gguf_tensor_at(g, 0)->data;
    size_t n_head = (size_t)((const char *)first - (const char *)gguf_map(g).p);
    gguf_close(g);
    uint8_t *p = malloc(good.n);
    TRUE_(p != NULL);
    for (uint64_t i = 0; i < n; i++) {
        memcpy(p, good.p, good.n);
        load_damaged(m, p, damage(p, good.n, n_head, i), &n_loaded, i);
    }
    TRUE_(n < 100 || (n_loaded > (int)(n / 50) && n_loaded < (int)(n * 3 / 4)));
    free(p);
    sb_deinit(&good);
    model_free(m);
    device_free(d);
}
