/* SPDX-License-Identifier: Apache-2.0
 *
 * A vocabulary that comes from elsewhere (learned, tokenizer.json) is written down as the metadata of a
 * GGUF file in memory (format/gguf.h has the layout) and loaded like any other, so all tokenizers are
 * checked and saved alike.
 */
#include "token/internal.h"

static void put_u32(StrBuf *b, uint32_t v) { sb_put(b, &v, sizeof v); }
static void put_u64(StrBuf *b, uint64_t v) { sb_put(b, &v, sizeof v); }

void tok__meta_begin(Meta *m) {
    enum { VERSION = 3, N_TENSORS = 0 };
    *m = (Meta){0};
    sb_puts(&m->b, "GGUF");
    put_u32(&m->b, VERSION);
    put_u64(&m->b, N_TENSORS);
    put_u64(&m->b, 0); /* entries: known at the end */
}

void tok__meta_deinit(Meta *m) { sb_deinit(&m->b); }

void tok__meta_put_str(Meta *m, Slice s) {
    put_u64(&m->b, s.n);
    sb_put(&m->b, s.p, s.n);
}

void tok__meta_put_i32(Meta *m, int32_t v) { put_u32(&m->b, (uint32_t)v); }

void tok__meta_put_f32(Meta *m, float v) { sb_put(&m->b, &v, sizeof v); }

static void put_key(Meta *m, const char *key, GgufType type) {
    tok__meta_put_str(m, slice_of(key));
    put_u32(&m->b, type);
    m->n_kv++;
}

void tok__meta_str(Meta *m, const char *key, Slice v) {
    put_key(m, key, GGUF_STR);
    tok__meta_put_str(m, v);
}

void tok__meta_u32(Meta *m, const char *key, uint32_t v) {
    put_key(m, key, GGUF_U32);
    put_u32(&m->b, v);
}

void tok__meta_bool(Meta *m, const char *key, bool v) {
    put_key(m, key, GGUF_BOOL);
    sb_putc(&m->b, v);
}

void tok__meta_arr(Meta *m, const char *key, GgufType type, size_t n) {
    put_key(m, key, GGUF_ARR);
    put_u32(&m->b, type);
    put_u64(&m->b, n);
}

Status tok__meta_load(Tokenizer **out, Meta *m, Err *e) {
    enum { N_KV_AT = 16 };
    Gguf *g = NULL;
    while (m->b.n % GGUF_DEFAULT_ALIGNMENT != 0 && !m->b.failed) sb_putc(&m->b, 0);
    TRY(sb_check(&m->b, e));
    memcpy(m->b.p + N_KV_AT, &m->n_kv, sizeof m->n_kv);
    Status st = gguf_open_bytes(&g, m->b.p, m->b.n, e);
    if (st == OK) st = tok_load(out, g, e);
    gguf_close(g);
    return st;
}
