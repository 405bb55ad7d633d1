/* SPDX-License-Identifier: Apache-2.0
 * Fuzz target: open any bytes as GGUF, walk everything that was accepted, and hold the contract:
 * a refusal speaks in one line and leaves nothing behind, and no more is allocated than the size
 * of the file plus 64 MB. tests/unit/format/gguf_mutate.c runs the same walk over mutated files. */
#include <stdlib.h>

#include "format/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sum of bytes that were read, so that reads are not optimised away. */
static volatile unsigned fuzz_sink;

static void touch(const void *p, size_t n) {
    const uint8_t *b = p;
    if (n) fuzz_sink = fuzz_sink + b[0] + b[n - 1];
}

static const char *walk_array(const GgufKv *kv) {
    uint64_t n_str = 0;
    size_t pos = 0;
    Slice s;
    touch(kv->v.arr.bytes.p, kv->v.arr.bytes.n);
    while (gguf_arr_next_str(kv, &pos, &s)) {
        touch(s.p, s.n);
        n_str++;
    }
    if (kv->v.arr.type == GGUF_STR && n_str != kv->v.arr.n)
        return "string array has another length";
    for (uint64_t i = 0; i < 3; i++) {
        fuzz_sink = fuzz_sink + (gguf_arr_num(kv, i) > 0);
        fuzz_sink = fuzz_sink + (gguf_arr_num(kv, kv->v.arr.n - 1 - i) > 0);
    }
    return NULL;
}

/* Every typed read of the key: OK in range, or a message. */
static const char *typed_reads(const Gguf *g, const char *key) {
    const GgufKv *arr;
    Slice s;
    int64_t i = 5;
    double f = 5;
    bool b;
    Err e = {0};
    Status st = gguf_get_int(&i, g, key, 2, 100, &e);
    if (i < 2 || i > 100 || (st != OK && (!e.msg[0] || i != 5))) return "integer out of range";
    e = (Err){0};
    st = gguf_get_float(&f, g, key, 2, 100, &e);
    if (!(f >= 2 && f <= 100) || (st != OK && (!e.msg[0] || f < 5 || f > 5)))
        return "float out of range";
    e = (Err){0};
    if (gguf_get_bool(&b, g, key, &e) != OK && !e.msg[0]) return "bool without a message";
    e = (Err){0};
    if (gguf_opt_str(&s, g, key, &e) != OK && !e.msg[0]) return "string without a message";
    e = (Err){0};
    if (gguf_get_arr(&arr, g, key, GGUF_STR, &e) != OK && !e.msg[0])
        return "array without a message";
    return NULL;
}

static const char *walk_kv(const Gguf *g, const GgufKv *kv) {
    StrBuf text = {0};
    const char *bad = NULL;
    gguf_format_value(kv, &text);
    if (strchr(sb_str(&text), '\n')) bad = "a value's text has two lines";
    sb_deinit(&text);
    if (kv->type == GGUF_STR) touch(kv->v.s.p, kv->v.s.n);
    if (!bad && kv->type == GGUF_ARR) bad = walk_array(kv);
    char *key = mem_dup(kv->key.p, kv->key.n);
    if (!bad && gguf_find(g, key) != kv) bad = "a key is not found by its name";
    if (!bad) bad = typed_reads(g, key);
    mem_free(key);
    return bad;
}

static const char *walk_tensor(const Gguf *g, const GgufTensor *t) {
    char *name = mem_dup(t->name.p, t->name.n);
    const char *bad = gguf_find_tensor(g, name) == t ? NULL : "a tensor is not found by its name";
    mem_free(name);
    touch(t->data, t->n_bytes);
    if (t->n_bytes != dtype_bytes(t->type, t->n_elem) || !t->n_elem)
        bad = "a tensor has another size";
    if (t->offset % gguf_alignment(g)) bad = "a tensor is not aligned";
    return bad;
}

/* NULL if the bytes were handled as the contract says, else what was wrong. */
static const char *gguf_fuzz_check(const uint8_t *p, size_t n) {
    static size_t max_n;
    size_t live = mem_live_bytes();
    Gguf *g = NULL;
    Err e = {0};
    const char *bad = NULL;
    max_n = MAX(max_n, n);
    Status st = gguf_open_bytes(&g, p, n, &e);
    if (st != OK) {
        if (g || st != ERR_FORMAT || !e.msg[0] || strchr(e.msg, '\n'))
            bad = "a refusal without a line";
    } else {
        for (size_t i = 0; !bad && i < gguf_n_kv(g); i++) bad = walk_kv(g, gguf_kv_at(g, i));
        for (size_t i = 0; !bad && i < gguf_n_tensors(g); i++) {
            bad = walk_tensor(g, gguf_tensor_at(g, i));
        }
        gguf_close(g);
    }
    if (!bad && mem_live_bytes() != live) bad = "memory is left behind";
    if (!bad && mem_peak_bytes() > live + max_n + ((size_t)64 << 20))
        bad = "over file size + 64 MB";
    return bad;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (gguf_fuzz_check(data, size)) abort();
    return 0;
}
