/* SPDX-License-Identifier: Apache-2.0
 * Damaged model files: small gpt2 and llama models with a tokenizer, in which bytes were flipped, numbers
 * replaced by edge values where the reader expects sizes, types, offsets and hyper-parameters, blocks cut,
 * swapped, repeated and removed. Each is loaded with its tokenizer and, where that works, run: no crash, one
 * line of words for each refusal, memory bounded. INGOT_MUTATIONS says how many (default 300); number i is
 * the same file in every run. */
#include "edit.h"

#include "base/mem.h"
#include "base/rng.h"
#include "support/vocab_build.h"
#include "token/token.h"

enum { MAX_FIELDS = 1024, PAGE_LIMIT = 64 << 20 };

/* A good file, and where its numbers stand. */
typedef struct Seed {
    uint8_t *p; /* owned */
    size_t n, n_head;
    int n_fields;
    struct {
        size_t at;
        int width;
    } field[MAX_FIELDS];
} Seed;

/* splitmix64 */
static uint64_t next(uint64_t *s) {
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static size_t below(uint64_t *s, size_t n) { return n ? (size_t)(next(s) % n) : 0; }

/* ---- seeds ---- */

static Tokenizer *tokenizer;

static void with_tokenizer(void *ctx, GgufW *w) {
    (void)ctx;
    tok_save(tokenizer, w);
}

static void random_weights(Model *m) {
    float *x = mem_new_n(float, m->n_flat);
    TRUE_(x != NULL);
    rng_normal_fill(x, m->n_flat, 0.3f, 5, 5);
    m->dev->ops->upload(m->dev, buf_at(m->flat, 0), x, m->n_flat * sizeof *x);
    mem_free(x);
}

static void write_seed(const char *path, Device *d, const ArchRow *arch, bool tied) {
    Model *m = NULL;
    ModelConfig c = {.arch = arch,
                     .more = arch->may,
                     .n_layer = 1,
                     .C = 16,
                     .nh = 2,
                     .nkv = 1,
                     .hd = 8,
                     .ff = 16,
                     .ctx = 8,
                     .norm_eps = 1e-5f,
                     .rope_base = 1e4f,
                     .rope_scale = 2,
                     .n_rot = 4,
                     .tied = tied};
    if (c.arch->fused_qkv) c.nkv = c.nh;
    if (c.arch->rope_halves) c.yarn = (YarnSpec){4, 32, 1, 0};
    if (c.arch->yarn_keys) c.yarn = (YarnSpec){4, 8, 0.5f, 0.5f};
    c.V = tok_n_vocab(tokenizer);
    OK_(model_new(&m, d, &c, TERR));
    random_weights(m);
    OK_(model_save(m, path, with_tokenizer, NULL, TERR));
    model_free(m);
}

static void field(Seed *s, size_t at, int width) {
    if (s->n_fields == MAX_FIELDS) return;
    s->field[s->n_fields].at = at;
    s->field[s->n_fields++].width = width;
}

/* Numbers of an entry whose name ends before `at`. */
static void kv_fields(Seed *s, size_t at, const GgufKv *kv) {
    field(s, at, 4); /* type */
    switch (kv->type) {
    case GGUF_STR: field(s, at + 4, 8); break;
    case GGUF_ARR:
        field(s, at + 4, 4);
        field(s, at + 8, 8);
        break;
    case GGUF_U64:
    case GGUF_F64: field(s, at + 4, 8); break;
    default: field(s, at + 4, 4); break;
    }
}

static size_t after(const Seed *s, Slice name) {
    return (size_t)((const uint8_t *)name.p - s->p) + name.n;
}

static void find_fields(Seed *s) {
    Gguf *g = NULL;
    OK_(gguf_open_bytes(&g, s->p, s->n, TERR));
    field(s, 4, 4); /* version, counts */
    field(s, 8, 8);
    field(s, 16, 8);
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const GgufKv *kv = gguf_kv_at(g, i);
        size_t at = after(s, kv->key);
        field(s, at - kv->key.n - 8, 8);
        kv_fields(s, at, kv);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        size_t at = after(s, t->name), n = (size_t)t->n_dims;
        field(s, at - t->name.n - 8, 8);
        field(s, at, 4);
        for (size_t k = 0; k < n; k++) field(s, at + 4 + 8 * k, 8);
        field(s, at + 4 + 8 * n, 4);
        field(s, at + 8 + 8 * n, 8);
        s->n_head = at + 16 + 8 * n;
    }
    gguf_close(g);
}

static void seed_open(Seed *s, const char *path) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    s->n = b.n;
    s->p = (uint8_t *)sb_take(&b);
    TRUE_(s->p != NULL);
    find_fields(s);
}

/* ---- changes ---- */

static uint64_t edge(const Seed *s, uint64_t old, uint64_t *rng) {
    const uint64_t edges[] = {0,
                              1,
                              2,
                              3,
                              4,
                              7,
                              8,
                              9,
                              12,
                              16,
                              17,
                              30,
                              31,
                              32,
                              33,
                              64,
                              127,
                              256,
                              257,
                              1024,
                              65535,
                              65536,
                              INT32_MAX,
                              UINT64_C(1) << 31,
                              UINT32_MAX,
                              UINT64_C(1) << 32,
                              UINT64_C(1) << 60,
                              INT64_MAX,
                              UINT64_C(1) << 63,
                              UINT64_MAX,
                              0x7f800000,
                              0x7fc00000,
                              0xff800000,
                              0x3f800000,
                              0x80000000,
                              0x00000001,
                              UINT64_C(0x7ff0000000000000),
                              UINT64_C(0x7ff8000000000000),
                              s->n,
                              old + 1,
                              old - 1,
                              old + 8,
                              old * 2,
                              old / 2,
                              ~old,
                              0 - old};
    return edges[below(rng, COUNT_OF(edges))];
}

static void change_field(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    size_t f = below(rng, (size_t)s->n_fields), width = (size_t)s->field[f].width;
    uint64_t v = 0;
    if (s->field[f].at + width > *n) return;
    memcpy(&v, p + s->field[f].at, width);
    v = edge(s, v, rng);
    memcpy(p + s->field[f].at, &v, width);
}

static void flip_head(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    for (size_t k = 1 + below(rng, 3); k > 0 && *n > 0; k--) {
        size_t at = below(rng, MIN(*n, s->n_head));
        p[at] = below(rng, 2) ? (uint8_t)next(rng) : (uint8_t)(p[at] ^ 1u << below(rng, 8));
    }
}

/* Weights become anything: NaN, infinity, huge. */
static void flip_data(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    for (size_t k = 1 + below(rng, 20); k > 0 && *n > s->n_head; k--)
        p[s->n_head + below(rng, *n - s->n_head)] = below(rng, 2) ? 0xff : (uint8_t)next(rng);
}

static void cut(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    (void)s;
    (void)p;
    *n = below(rng, 4) ? *n - below(rng, MIN(*n, (size_t)300)) : below(rng, *n + 1);
}

static void swap_blocks(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    size_t len = 1 + below(rng, 64), end = MIN(*n, s->n_head);
    if (end < 2 * len) return;
    size_t i = below(rng, end - len + 1), j = below(rng, end - len + 1);
    for (size_t k = 0; k < len; k++) {
        uint8_t t = p[i + k];
        p[i + k] = p[j + k];
        p[j + k] = t;
    }
}

static void copy_block(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    size_t len = 1 + below(rng, 100), end = MIN(*n, s->n_head);
    if (end < len) return;
    memmove(p + below(rng, end - len + 1), p + below(rng, end - len + 1), len);
}

static void remove_block(const Seed *s, uint8_t *p, size_t *n, uint64_t *rng) {
    size_t at = below(rng, MIN(*n, s->n_head)), want = 1 + below(rng, 64), len = MIN(*n - at, want);
    memmove(p + at, p + at + len, *n - at - len);
    *n -= len;
}

static size_t mutate(const Seed *s, uint8_t *p, uint64_t i) {
    static void (*const change[])(const Seed *, uint8_t *, size_t *,
                                  uint64_t *) = {change_field, change_field, change_field,
                                                 flip_head,    flip_data,    cut,
                                                 swap_blocks,  copy_block,   remove_block};
    uint64_t rng = i * UINT64_C(0x2545f4914f6cdd1d) + 1;
    size_t n = s->n;
    memcpy(p, s->p, n);
    for (size_t k = 1 + below(&rng, 2); k > 0 && n > 0; k--)
        change[below(&rng, COUNT_OF(change))](s, p, &n, &rng);
    return n;
}

/* ---- the program's part ---- */

static void words(Status st, const Err *e, uint64_t i, const char *what) {
    if (st == OK) return;
    if (!e->msg[0] || strchr(e->msg, '\n'))
        FAIL("file %llu: %s refused with \"%s\"", (unsigned long long)i, what, e->msg);
    if (st == ERR_INTERNAL || st == ERR_IO)
        FAIL("file %llu: %s: status %d, \"%s\"", (unsigned long long)i, what, (int)st, e->msg);
}

static void write_file(const char *path, const uint8_t *p, size_t n) {
    FILE *f = fopen(path, "wb");
    TRUE_(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

/* 1 if the model loaded. */
static int try_file(Device *d, const char *path, uint64_t i) {
    Model *m = NULL;
    Tokenizer *t = NULL;
    Err e = {0}, te = {0}, fe = {0};
    static const int32_t ids[3] = {2, 0, 1};
    Status st = model_load(&m, d, path, &e);
    words(st, &e, i, "model");
    if (st != OK) return 0;
    words(tok_load(&t, m->file, &te), &te, i, "tokenizer");
    tok_free(t);
    words(edit_forward(m, ids, 3, NULL, &fe), &fe, i, "forward pass");
    model_free(m);
    return 1;
}

static uint64_t n_mutations(void) {
    const char *text = getenv("INGOT_MUTATIONS");
    uint64_t n = 300;
    if (text && !str_to_u64(&n, text)) FAIL("INGOT_MUTATIONS \"%s\" is not a number", text);
    return n;
}

TEST(damaged_models) {
    static Seed seeds[16];
    int n_seeds = 0;
    Device *d = edit_device();
    const char *path = edit_path("m.gguf");
    uint64_t n = n_mutations(), n_loaded = 0;
    OK_(vocab_build_load(&tokenizer, &vocab_small, TERR));
    for (int i = 0; model_arch_at(i); i++) {
        write_seed(path, d, model_arch_at(i), i % 2 == 0);
        EQ(try_file(d, path, 0), 1);
        TRUE_(n_seeds < (int)COUNT_OF(seeds));
        seed_open(&seeds[n_seeds++], path);
    }
    uint8_t *p = malloc(64 << 10);
    for (uint64_t i = 0; i < n; i++) {
        const Seed *s = &seeds[i % (uint64_t)n_seeds];
        TRUE_(s->n <= 64 << 10);
        write_file(path, p, mutate(s, p, i));
        size_t live = mem_live_bytes();
        n_loaded += (uint64_t)try_file(d, path, i);
        EQ(mem_live_bytes(), live);
        if (mem_peak_bytes() > live + s->n + PAGE_LIMIT)
            FAIL("file %llu: %zu bytes held at once", (unsigned long long)i,
                 mem_peak_bytes() - live);
    }
    /* Some must get through, or the forward pass saw nothing; many must not. */
    TRUE_(n < 100 || (n_loaded > n / 20 && n_loaded < n * 3 / 4));
    free(p);
    for (int i = 0; i < n_seeds; i++) mem_free(seeds[i].p);
    tok_free(tokenizer);
    device_free(d);
}
