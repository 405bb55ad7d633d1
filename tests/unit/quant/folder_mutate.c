/* SPDX-License-Identifier: Apache-2.0
 * Damaged Hugging Face folders: fixtures of every architecture and packing, and a LoRA adapter, in which one
 * file was changed: values of its JSON replaced by edge values of every type, members doubled, removed and
 * nested deeply, bytes flipped, files cut, emptied, missing, or links to what they should not be. Each is
 * converted: no crash, one line of words for each refusal, no file left, memory bounded. INGOT_MUTATIONS says
 * how many (default 250); number i is the same folder in every run. */
#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "quant/convert.h"

enum { MAX_FILES = 12, MEMORY_LIMIT = 128 << 20 };

static const char *const seeds[] = {"hf/gpt2",       "hf/llama",     "hf/mistral/fp16",
                                    "hf/qwen2",      "hf/qwen3",     "packed/awq",
                                    "packed/gptq",   "packed/gptq3", "packed/nf4",
                                    "packed/adapter"};

typedef struct Folder {
    char *name[MAX_FILES], *data[MAX_FILES]; /* owned */
    size_t size[MAX_FILES];
    int n;
} Folder;

/* splitmix64 */
static uint64_t next(uint64_t *s) {
    uint64_t z = *s += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static size_t below(uint64_t *s, size_t n) { return n ? (size_t)(next(s) % n) : 0; }

/* ---- folders ---- */

static void add_file(Folder *f, const char *dir, const char *name) {
    char path[512];
    StrBuf b = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    TRUE_(f->n < MAX_FILES);
    f->name[f->n] = mem_dup(name, strlen(name));
    f->size[f->n] = b.n;
    f->data[f->n++] = sb_take(&b);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void load(Folder *f, const char *seed) {
    char dir[256];
    struct dirent **ent = NULL;
    snprintf(dir, sizeof dir, "tests/golden/%s", seed);
    int n = scandir(dir, &ent, NULL, by_name);
    TRUE_(n > 2);
    for (int i = 0; i < n; i++) {
        if (ent[i]->d_name[0] != '.') add_file(f, dir, ent[i]->d_name);
        free(ent[i]);
    }
    free(ent);
    if (strstr(seed, "mistral")) add_file(f, "tests/golden/hf/mistral/tokenizer", "tokenizer.json");
}

static void unload(Folder *f) {
    for (int i = 0; i < f->n; i++) {
        mem_free(f->name[i]);
        mem_free(f->data[i]);
    }
    *f = (Folder){0};
}

/* A file of its own, never through a link that an earlier change left there. */
static void put(const char *name, const char *p, size_t n) {
    char path[512];
    snprintf(path, sizeof path, "%s/in/%s", test_tmpdir(), name);
    unlink(path);
    FILE *f = fopen(path, "wbx");
    TRUE_(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

/* ---- changes ---- */

/* Where the values of a JSON text begin: behind a colon, a comma or a bracket. */
static size_t value_at(const char *p, size_t n, uint64_t *rng) {
    size_t from = below(rng, n);
    for (size_t k = 0; k < n; k++) {
        size_t i = (from + k) % n;
        if (p[i] == ':' || p[i] == ',' || p[i] == '[') return i + 1;
    }
    return n;
}

static size_t value_end(const char *p, size_t n, size_t i) {
    bool quoted = false;
    for (; i < n; i++) {
        if (p[i] == '"' && p[i - 1] != '\\') quoted = !quoted;
        if (!quoted && (p[i] == ',' || p[i] == '}' || p[i] == ']')) break;
    }
    return i;
}

static void put_deep(StrBuf *b) {
    for (int i = 0; i < 3000; i++) sb_puts(b, i % 2 ? "{\"a\":" : "[");
}

static void put_edge(StrBuf *b, uint64_t *rng) {
    static const char *const edges[] = {"0",
                                        "1",
                                        "-1",
                                        "2",
                                        "3",
                                        "7",
                                        "16",
                                        "31",
                                        "33",
                                        "1024",
                                        "65536",
                                        "2147483647",
                                        "2147483648",
                                        "4294967296",
                                        "9223372036854775807",
                                        "9223372036854775808",
                                        "1e308",
                                        "-1e308",
                                        "1e999",
                                        "1e-320",
                                        "0.5",
                                        "true",
                                        "false",
                                        "null",
                                        "\"\"",
                                        "\"x\"",
                                        "\"../../../../etc/passwd\"",
                                        "\"../x.safetensors\"",
                                        "\"/etc/passwd\"",
                                        "\"\\u0000\"",
                                        "\"\xff\"",
                                        "[]",
                                        "{}",
                                        "[1,2]",
                                        "[[[]]]",
                                        "{\"a\":{}}",
                                        "NaN",
                                        "\"gemv\"",
                                        "\"nf4\"",
                                        "\"LlamaForCausalLM\"",
                                        "\"linear\"",
                                        "\"yarn\"",
                                        "-",
                                        "\"model.safetensors\"",
                                        "[\"GPT2LMHeadModel\"]",
                                        "[16,32]",
                                        "[0,18446744073709551615]"};
    size_t i = below(rng, COUNT_OF(edges) + 2);
    if (i < COUNT_OF(edges)) sb_puts(b, edges[i]);
    else if (i == COUNT_OF(edges)) put_deep(b);
    else {
        sb_putc(b, '"');
        for (int k = 0; k < 70000; k++) sb_putc(b, 'a');
        sb_putc(b, '"');
    }
}

/* A value becomes another one, comes twice with its key, or goes. */
static void change_json(StrBuf *b, const char *p, size_t n, uint64_t *rng) {
    size_t at = value_at(p, n, rng), end = value_end(p, n, at);
    sb_put(b, p, at);
    switch (below(rng, 5)) {
    case 0: break;
    case 1:
        sb_put(b, p + at, end - at);
        sb_putc(b, ',');
        sb_put(b, p + at, end - at);
        break;
    default: put_edge(b, rng);
    }
    sb_put(b, p + end, n - end);
}

static void change_bytes(StrBuf *b, const char *p, size_t n, uint64_t *rng) {
    static const size_t reach[] = {16, 600, 1 << 20};
    size_t want = reach[below(rng, COUNT_OF(reach))], end = MIN(n, want);
    sb_put(b, p, n);
    for (size_t k = 1 + below(rng, 4); k > 0 && end > 0; k--) {
        size_t at = below(rng, end);
        b->p[at] = below(rng, 2) ? (char)next(rng) : (char)(b->p[at] ^ 1 << below(rng, 8));
    }
}

static void change_length(StrBuf *b, const char *p, size_t n, uint64_t *rng) {
    size_t keep = below(rng, 3) ? n - below(rng, MIN(n, (size_t)100)) : below(rng, n + 1);
    sb_put(b, p, keep);
    if (below(rng, 4) == 0) sb_put(b, p, MIN(n, (size_t)64));
}

/* What is not a regular file is never read, however it is named. */
static void change_kind(const char *name, uint64_t *rng) {
    static const char *const targets[] = {"/dev/zero", "..", "config.json", "nowhere"};
    char path[512];
    snprintf(path, sizeof path, "%s/in/%s", test_tmpdir(), name);
    unlink(path);
    size_t i = below(rng, COUNT_OF(targets) + 2);
    if (i < COUNT_OF(targets)) EQ(symlink(targets[i], path), 0);
    else if (i == COUNT_OF(targets)) EQ(mkfifo(path, 0600), 0);
}

static void change_file(const Folder *f, int k, uint64_t *rng) {
    StrBuf b = {0};
    const char *p = f->data[k];
    size_t n = f->size[k], kind = below(rng, 16);
    bool json = str_ends_with(f->name[k], ".json");
    if (kind == 0) change_kind(f->name[k], rng);
    else if (kind == 1) change_length(&b, p, n, rng);
    else if (kind < (json ? 4 : 10)) change_bytes(&b, p, n, rng);
    else change_json(&b, p, json ? n : MIN(n, (size_t)2000), rng);
    if (kind >= (json ? 4u : 10u) && !json && n > 2000) sb_put(&b, p + 2000, n - 2000);
    if (kind != 0) put(f->name[k], sb_str(&b), b.n);
    sb_deinit(&b);
}

/* ---- the program's part ---- */

static void clear_folder(void) {
    char path[1024], dir[512];
    snprintf(dir, sizeof dir, "%s/in", test_tmpdir());
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (e->d_name[0] != '.') unlink(path);
    }
    if (d) closedir(d);
    else EQ(mkdir(dir, 0700), 0);
}

/* True if it was converted. */
static bool try_folder(uint64_t i, uint64_t *rng) {
    static const char *const types[] = {"auto", "f32", "f16", "q8_0"};
    char in[512], out[512], tmp[530];
    Err e = {0};
    QuantConverted st = {0};
    QuantAdapter ad;
    bool adapter = i % COUNT_OF(seeds) == COUNT_OF(seeds) - 1;
    QuantConvertOpts o = {.type = types[below(rng, adapter ? 3 : 4)],
                          .n_threads = 1 + (int)(i % 2)};
    snprintf(in, sizeof in, "%s/in", test_tmpdir());
    snprintf(out, sizeof out, "%s/out.gguf", test_tmpdir());
    snprintf(tmp, sizeof tmp, "%s.tmp", out);
    Status s = adapter ? quant_convert_adapter(&ad, in, "tests/golden/hf/llama", out, &o, &e)
                       : quant_convert(&st, in, out, &o, &e);
    if (s != OK && (!e.msg[0] || strchr(e.msg, '\n')))
        FAIL("folder %llu: refused with \"%s\"", (unsigned long long)i, e.msg);
    if (s == ERR_INTERNAL) FAIL("folder %llu: \"%s\"", (unsigned long long)i, e.msg);
    EQ(io_exists(out), s == OK);
    EQ(io_exists(tmp), 0);
    if (s == OK) OK_(io_remove(out, TERR));
    quant_converted_deinit(&st);
    return s == OK;
}

static uint64_t n_mutations(void) {
    const char *text = getenv("INGOT_MUTATIONS");
    uint64_t n = 250;
    if (text && !str_to_u64(&n, text)) FAIL("INGOT_MUTATIONS \"%s\" is not a number", text);
    return n;
}

TEST(damaged_folders) {
    Folder f[COUNT_OF(seeds)] = {{{0}, {0}, {0}, 0}};
    uint64_t n = n_mutations(), n_good = 0;
    for (size_t i = 0; i < COUNT_OF(seeds); i++) load(&f[i], seeds[i]);
    for (uint64_t i = 0; i < n; i++) {
        const Folder *seed = &f[i % COUNT_OF(seeds)];
        uint64_t rng = i * UINT64_C(0x2545f4914f6cdd1d) + 1;
        clear_folder();
        for (int k = 0; k < seed->n; k++) put(seed->name[k], seed->data[k], seed->size[k]);
        if (i >= COUNT_OF(seeds)) /* the first of each is whole */
            for (size_t k = 1 + below(&rng, 2); k > 0; k--)
                change_file(seed, (int)below(&rng, (size_t)seed->n), &rng);
        size_t live = mem_live_bytes();
        bool good = try_folder(i, &rng);
        n_good += good;
        if (i < COUNT_OF(seeds)) TRUE_(good);
        EQ(mem_live_bytes(), live);
        if (mem_peak_bytes() > live + MEMORY_LIMIT)
            FAIL("folder %llu: %zu bytes held at once", (unsigned long long)i,
                 mem_peak_bytes() - live);
    }
    /* Some get through, or the writer saw nothing; many do not. */
    printf("%llu of %llu converted\n", (unsigned long long)n_good, (unsigned long long)n);
    TRUE_(n < 100 || (n_good > n / 20 && n_good < n * 3 / 4));
    for (size_t i = 0; i < COUNT_OF(seeds); i++) unload(&f[i]);
}
