/* SPDX-License-Identifier: Apache-2.0 */
#include "support/gguf_build.h"

#include <stdio.h>
#include <stdlib.h>

void blob_free(Blob *b) {
    free(b->p);
    *b = (Blob){0};
}

void blob_put(Blob *b, const void *p, size_t n) {
    if (n > b->cap - b->n) {
        b->cap = 2 * b->cap + n + 1024;
        b->p = realloc(b->p, b->cap);
        if (!b->p) abort();
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void field(Blob *b, int width) {
    if (b->n_fields == BLOB_MAX_FIELDS) return;
    b->field[b->n_fields].at = b->n;
    b->field[b->n_fields++].width = width;
}

void blob_u8(Blob *b, uint8_t v) { blob_put(b, &v, sizeof v); }
void blob_u16(Blob *b, uint16_t v) { blob_put(b, &v, sizeof v); }
void blob_f32(Blob *b, float v) { blob_put(b, &v, sizeof v); }
void blob_f64(Blob *b, double v) { blob_put(b, &v, sizeof v); }

void blob_u32(Blob *b, uint32_t v) {
    field(b, 4);
    blob_put(b, &v, sizeof v);
}

void blob_u64(Blob *b, uint64_t v) {
    field(b, 8);
    blob_put(b, &v, sizeof v);
}

void blob_str_n(Blob *b, const void *p, size_t n) {
    blob_u64(b, n);
    blob_put(b, p, n);
}

void blob_str(Blob *b, const char *s) { blob_str_n(b, s, strlen(s)); }

void blob_pad(Blob *b, size_t to) {
    while (b->n % to) blob_u8(b, 0);
}

void blob_head(Blob *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv) {
    blob_put(b, "GGUF", 4);
    blob_u32(b, version);
    blob_u64(b, n_tensors);
    blob_u64(b, n_kv);
}

void blob_key(Blob *b, const char *key, uint32_t type) {
    blob_str(b, key);
    blob_u32(b, type);
}

void blob_kv_u32(Blob *b, const char *key, uint32_t v) {
    blob_key(b, key, GGUF_U32);
    blob_u32(b, v);
}

void blob_kv_str(Blob *b, const char *key, const char *v) {
    blob_key(b, key, GGUF_STR);
    blob_str(b, v);
}

void blob_arr(Blob *b, uint32_t type, uint64_t n) {
    blob_u32(b, type);
    blob_u64(b, n);
}

void blob_tensor(Blob *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
                 uint64_t offset) {
    blob_str(b, name);
    blob_u32(b, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) blob_u64(b, ne[d]);
    blob_u32(b, type);
    blob_u64(b, offset);
}

void blob_tensor_1d(Blob *b, const char *name, uint64_t ne, uint32_t type, uint64_t offset) {
    blob_tensor(b, name, 1, &ne, type, offset);
}

void blob_data(Blob *b, size_t alignment, size_t n) {
    blob_pad(b, alignment);
    for (size_t i = 0; i < n; i++) blob_u8(b, (uint8_t)i);
}

/* ---- seeds ---- */

/* Every scalar type, and an array of each. */
static void put_scalar(Blob *b, uint32_t type, int i) {
    static const double reals[] = {-0.5, 1e-5, 3.0};
    switch (type) {
    case GGUF_U8:
    case GGUF_I8: blob_u8(b, (uint8_t)(-1 - i)); break;
    case GGUF_U16:
    case GGUF_I16: blob_u16(b, (uint16_t)(-2 - i)); break;
    case GGUF_U32:
    case GGUF_I32: blob_u32(b, (uint32_t)(-3 - i)); break;
    case GGUF_U64:
    case GGUF_I64: blob_u64(b, (uint64_t)(-4 - i)); break;
    case GGUF_F32: blob_f32(b, (float)reals[i % 3]); break;
    case GGUF_F64: blob_f64(b, reals[i % 3]); break;
    case GGUF_BOOL: blob_u8(b, (uint8_t)(i & 1)); break;
    default: blob_str(b, i & 1 ? "" : "a string"); break;
    }
}

static void put_nested(Blob *b) {
    blob_key(b, "test.nested", GGUF_ARR);
    blob_arr(b, GGUF_ARR, 3);
    blob_arr(b, GGUF_U16, 2);
    put_scalar(b, GGUF_U16, 0);
    put_scalar(b, GGUF_U16, 1);
    blob_arr(b, GGUF_STR, 2);
    blob_str(b, "inner");
    blob_str(b, "");
    blob_arr(b, GGUF_F64, 0);
}

static void seed_types(Blob *b) {
    char key[32];
    blob_head(b, 3, 3, 12 + 12 + 1);
    for (uint32_t t = 0; t < GGUF_TYPE_COUNT; t++) {
        if (t == GGUF_ARR) continue;
        snprintf(key, sizeof key, "test.scalar.%u", t);
        blob_key(b, key, t);
        put_scalar(b, t, (int)t);
        snprintf(key, sizeof key, "test.array.%u", t);
        blob_key(b, key, GGUF_ARR);
        blob_arr(b, t, 3);
        for (int i = 0; i < 3; i++) put_scalar(b, t, i);
    }
    put_nested(b);
    blob_tensor(b, "blk.0.attn_q.weight", 2, (uint64_t[]){32, 4}, DT_F32, 0);
    blob_tensor(b, "blk.0.attn_k.weight", 3, (uint64_t[]){64, 2, 2}, DT_Q8_0, 512);
    blob_tensor_1d(b, "output_norm.weight", 7, DT_F16, 512 + 288);
    blob_data(b, 32, 512 + 288 + 14);
}

static void seed_model(Blob *b) {
    char token[16];
    blob_head(b, 2, 2, 7);
    blob_kv_str(b, "general.architecture", "llama");
    blob_kv_u32(b, "general.alignment", 64);
    blob_kv_u32(b, "llama.block_count", 1);
    blob_key(b, "llama.rope.freq_base", GGUF_F32);
    blob_f32(b, 10000.0f);
    blob_key(b, "tokenizer.ggml.tokens", GGUF_ARR);
    blob_arr(b, GGUF_STR, 40);
    for (int i = 0; i < 40; i++) {
        snprintf(token, sizeof token, "tok%d", i * i);
        blob_str(b, token);
    }
    blob_key(b, "tokenizer.ggml.scores", GGUF_ARR);
    blob_arr(b, GGUF_F32, 40);
    for (int i = 0; i < 40; i++) blob_f32(b, (float)-i);
    blob_kv_str(b, "tokenizer.chat_template",
                "{% for m in messages %}\n{{ m.content }}{% endfor %}");
    blob_tensor(b, "token_embd.weight", 2, (uint64_t[]){32, 40}, DT_Q4_0, 0);
    blob_tensor(b, "output.weight", 4, (uint64_t[]){16, 2, 2, 3}, DT_BF16, 768);
    blob_data(b, 64, 768 + 384);
}

/* Data in another order than the entries, with a gap. */
static void seed_shuffled(Blob *b) {
    char name[16];
    static const uint64_t slot[] = {5, 0, 9, 2, 7, 3, 1, 8};
    blob_head(b, 3, 8, 1);
    blob_kv_u32(b, "general.alignment", 8);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "t%d", i);
        blob_tensor_1d(b, name, 4, DT_F32, slot[i] * 16);
    }
    blob_data(b, 8, 160);
}

static void seed_vocab_only(Blob *b) {
    blob_head(b, 3, 0, 2);
    blob_kv_str(b, "general.architecture", "gpt2");
    blob_key(b, "tokenizer.ggml.merges", GGUF_ARR);
    blob_arr(b, GGUF_STR, 3);
    for (int i = 0; i < 3; i++) blob_str(b, "a b");
}

static void seed_bare(Blob *b) { blob_head(b, 3, 0, 0); }

static const struct {
    const char *name;
    void (*make)(Blob *b);
} seeds[BLOB_SEEDS] = {
    {"types", seed_types},           {"model_v2", seed_model}, {"shuffled", seed_shuffled},
    {"vocab_only", seed_vocab_only}, {"bare", seed_bare},
};

const char *blob_seed_name(int i) { return seeds[i].name; }

void blob_seed(Blob *b, int i) {
    blob_free(b);
    seeds[i].make(b);
}
