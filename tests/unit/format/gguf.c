/* SPDX-License-Identifier: Apache-2.0
 * Reading GGUF: what every type and typed read gives, and what opening takes. Files are made by
 * hand (support/gguf_build.h). Wrong files are in gguf_refuse.c, the writer's tests in
 * gguf_write.c. */
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/gguf.h"
#include "support/gguf_build.h"

static Gguf *open_blob(const Blob *b) {
    Gguf *g = NULL;
    OK_(gguf_open_bytes(&g, b->p, b->n, TERR));
    return g;
}

/* ---- good files ---- */

TEST(scalar_of_every_type) {
    static const char *const want[] = {
        "255",  "-2",   "65532",    "-5", "4294967289",           "-8",
        "-0.5", "true", "a string", "",   "18446744073709551602", "-15",
        "-0.5"};
    Blob b = {0};
    char key[32];
    blob_seed(&b, 0);
    Gguf *g = open_blob(&b);
    for (unsigned t = 0; t < GGUF_TYPE_COUNT; t++) {
        StrBuf text = {0};
        snprintf(key, sizeof key, "test.scalar.%u", t);
        const GgufKv *kv = gguf_find(g, key);
        if (t == GGUF_ARR) {
            TRUE_(kv == NULL);
            continue;
        }
        TRUE_(kv != NULL);
        EQ(kv->type, t);
        gguf_format_value(kv, &text);
        EQ_STR(sb_str(&text), want[t]);
        sb_deinit(&text);
    }
    gguf_close(g);
    blob_free(&b);
}

TEST(array_of_every_type) {
    Blob b = {0};
    char key[32];
    blob_seed(&b, 0);
    Gguf *g = open_blob(&b);
    static const double want[GGUF_TYPE_COUNT][2] = {
        [GGUF_U8] = {255, 253},
        [GGUF_I8] = {-1, -3},
        [GGUF_U16] = {65534, 65532},
        [GGUF_I16] = {-2, -4},
        [GGUF_U32] = {0xfffffffd, 0xfffffffb},
        [GGUF_I32] = {-3, -5},
        [GGUF_F32] = {-0.5, 3},
        [GGUF_BOOL] = {0, 0},
        [GGUF_I64] = {-4, -6},
        [GGUF_U64] = {0x1p64, 0x1p64},
        [GGUF_F64] = {-0.5, 3},
    };
    for (unsigned t = 0; t < GGUF_TYPE_COUNT; t++) {
        const GgufKv *kv = NULL;
        if (t == GGUF_ARR) continue;
        snprintf(key, sizeof key, "test.array.%u", t);
        OK_(gguf_get_arr(&kv, g, key, (GgufType)t, TERR));
        EQ(kv->v.arr.n, 3);
        if (t == GGUF_STR) continue;
        NEAR(gguf_arr_num(kv, 0), want[t][0], 0);
        NEAR(gguf_arr_num(kv, 2), want[t][1], 0);
        TRUE_(isnan(gguf_arr_num(kv, 3)));
    }
    gguf_close(g);
    blob_free(&b);
}

TEST(string_array_walk) {
    Blob b = {0};
    Slice s;
    size_t pos = 0;
    blob_seed(&b, 0);
    Gguf *g = open_blob(&b);
    const GgufKv *kv = gguf_find(g, "test.array.8");
    TRUE_(gguf_arr_next_str(kv, &pos, &s) && slice_eq_str(s, "a string"));
    TRUE_(gguf_arr_next_str(kv, &pos, &s) && slice_eq_str(s, ""));
    TRUE_(gguf_arr_next_str(kv, &pos, &s) && slice_eq_str(s, "a string"));
    FALSE_(gguf_arr_next_str(kv, &pos, &s));
    FALSE_(gguf_arr_next_str(kv, &pos, &s));
    pos = 0;
    FALSE_(gguf_arr_next_str(gguf_find(g, "test.array.4"), &pos, &s));
    FALSE_(gguf_arr_next_str(gguf_find(g, "test.scalar.8"), &pos, &s));
    TRUE_(isnan(gguf_arr_num(kv, 0)));
    TRUE_(isnan(gguf_arr_num(gguf_find(g, "test.scalar.4"), 0)));
    gguf_close(g);
    blob_free(&b);
}

TEST(nested_array) {
    Blob b = {0};
    StrBuf text = {0};
    blob_seed(&b, 0);
    Gguf *g = open_blob(&b);
    const GgufKv *kv = gguf_find(g, "test.nested");
    EQ(kv->v.arr.type, GGUF_ARR);
    EQ(kv->v.arr.n, 3);
    EQ(kv->v.arr.bytes.n, (12 + 4) + (12 + 8 + 5 + 8) + 12);
    gguf_format_value(kv, &text);
    EQ_STR(sb_str(&text), "[arr x 3]");
    sb_deinit(&text);
    gguf_close(g);
    blob_free(&b);
}

TEST(tensors_of_a_file) {
    Blob b = {0};
    blob_seed(&b, 0);
    Gguf *g = open_blob(&b);
    EQ(gguf_version(g), 3);
    EQ(gguf_alignment(g), 32);
    EQ(gguf_n_tensors(g), 3);
    const GgufTensor *t = gguf_find_tensor(g, "blk.0.attn_k.weight");
    TRUE_(t == gguf_tensor_at(g, 1));
    EQ(t->type, DT_Q8_0);
    EQ(t->n_dims, 3);
    EQ(t->ne[0], 64);
    EQ(t->ne[2], 2);
    EQ(t->ne[3], 1);
    EQ(t->n_elem, 256);
    EQ(t->n_bytes, 272);
    EQ(t->offset, 512);
    const uint8_t *first = gguf_tensor_at(g, 0)->data;
    EQ((const uint8_t *)t->data - first, 512);
    EQ(*first, 0);
    EQ((size_t)(first - b.p) % 32, 0);
    EQ(gguf_map(g).n, b.n);
    TRUE_(gguf_find_tensor(g, "blk.0") == NULL);
    TRUE_(gguf_find_tensor(g, "") == NULL);
    gguf_close(g);
    blob_free(&b);
}

TEST(version_2_with_alignment_64) {
    Blob b = {0};
    Slice s;
    blob_seed(&b, 1);
    Gguf *g = open_blob(&b);
    EQ(gguf_version(g), 2);
    EQ(gguf_alignment(g), 64);
    OK_(gguf_get_str(&s, g, "general.architecture", TERR));
    TRUE_(slice_eq_str(s, "llama"));
    EQ(gguf_find(g, "tokenizer.ggml.tokens")->v.arr.n, 40);
    EQ(((const uint8_t *)gguf_tensor_at(g, 0)->data - b.p) % 64, 0);
    gguf_close(g);
    blob_free(&b);
}

TEST(data_in_another_order) {
    Blob b = {0};
    blob_seed(&b, 2);
    Gguf *g = open_blob(&b);
    EQ(gguf_tensor_at(g, 0)->offset, 80);
    EQ(*(const uint8_t *)gguf_tensor_at(g, 0)->data, 80);
    EQ(*(const uint8_t *)gguf_find_tensor(g, "t6")->data, 16);
    gguf_close(g);
    blob_free(&b);
}

TEST(file_on_disk_and_its_path_in_messages) {
    char path[256], want[512];
    Gguf *g = NULL;
    snprintf(path, sizeof path, "%s/a.gguf", test_tmpdir());
    FAILS(ERR_NOT_FOUND, gguf_open(&g, path, TERR));
    for (int cut_it = 0; cut_it < 2; cut_it++) {
        Blob b = {0};
        blob_seed(&b, 4);
        FILE *f = fopen(path, "wb");
        fwrite(b.p, 1, b.n - (size_t)cut_it, f);
        fclose(f);
        blob_free(&b);
        if (cut_it) break;
        OK_(gguf_open(&g, path, TERR));
        EQ(gguf_n_kv(g), 0);
        gguf_close(g);
        g = NULL;
    }
    FAILS(ERR_FORMAT, gguf_open(&g, path, TERR));
    snprintf(want, sizeof want,
             "%s: the file ends in the metadata count: 8 bytes wanted at offset 16, 7 are left",
             path);
    EQ_STR(test_err.msg, want);
    fclose(fopen(path, "wb"));
    FAILS(ERR_FORMAT, gguf_open(&g, path, TERR));
    TRUE_(strstr(test_err.msg, "it is empty"));
    TRUE_(g == NULL);
    gguf_close(NULL);
}

/* Cut anywhere, a file is refused; only its trailing padding may be missing. */
TEST(every_prefix_is_refused) {
    for (int i = 0; i < BLOB_SEEDS; i++) {
        Blob b = {0};
        blob_seed(&b, i);
        for (size_t n = 0; n < b.n; n++) {
            Gguf *g = NULL;
            uint8_t *exact = malloc(n + 1);
            uint8_t *p = exact + 1 - (n % 2); /* ends where the block ends, or one byte before */
            memcpy(p, b.p, n);
            Status st = gguf_open_bytes(&g, p, n, TERR);
            if (st == OK || !test_err.msg[0]) FAIL("%s cut to %zu bytes", blob_seed_name(i), n);
            free(exact);
        }
        size_t whole = b.n;
        blob_pad(&b, 256);
        for (size_t n = whole; n <= b.n; n++) {
            Gguf *g = NULL;
            OK_(gguf_open_bytes(&g, b.p, n, TERR));
            gguf_close(g);
        }
        blob_free(&b);
    }
}

/* ---- typed reads ---- */

/* u8 7, i8 -7, u64 2^64-1, f32 0.5, f64 inf, f32 nan, bool, str, arr u32 */
static Gguf *numbers(Blob *b) {
    blob_head(b, 3, 0, 9);
    blob_key(b, "u8", GGUF_U8), blob_u8(b, 7);
    blob_key(b, "i8", GGUF_I8), blob_u8(b, (uint8_t)-7);
    blob_key(b, "u64", GGUF_U64), blob_u64(b, UINT64_MAX);
    blob_key(b, "f32", GGUF_F32), blob_f32(b, 0.5f);
    blob_key(b, "inf", GGUF_F64), blob_f64(b, (double)INFINITY);
    blob_key(b, "nan", GGUF_F32), blob_f32(b, NAN);
    blob_key(b, "bool", GGUF_BOOL), blob_u8(b, 1);
    blob_kv_str(b, "str", "x");
    blob_key(b, "arr", GGUF_ARR), blob_arr(b, GGUF_U32, 1), blob_u32(b, 1);
    return open_blob(b);
}

TEST(typed_reads_in_range) {
    Blob b = {0};
    Gguf *g = numbers(&b);
    int64_t i = 0;
    double f = 0;
    bool on = false;
    OK_(gguf_get_int(&i, g, "u8", 7, 7, TERR));
    EQ(i, 7);
    OK_(gguf_get_int(&i, g, "i8", -7, 0, TERR));
    EQ(i, -7);
    OK_(gguf_get_float(&f, g, "f32", 0.5, 0.5, TERR));
    NEAR(f, 0.5, 0);
    OK_(gguf_get_bool(&on, g, "bool", TERR));
    TRUE_(on);
    OK_(gguf_opt_int(&i, g, "i8", -7, 0, TERR));
    i = 3;
    OK_(gguf_opt_int(&i, g, "absent", 0, 0, TERR));
    OK_(gguf_opt_float(&f, g, "absent", 0, 0, TERR));
    OK_(gguf_opt_bool(&on, g, "absent", TERR));
    OK_(gguf_opt_str(&(Slice){0}, g, "absent", TERR));
    EQ(i, 3);
    NEAR(f, 0.5, 0);
    gguf_close(g);
    blob_free(&b);
}

TEST(typed_reads_refuse) {
    Blob b = {0};
    Gguf *g = numbers(&b);
    int64_t i = 42;
    double f = 42;
    bool on = true;
    Slice s;
    const GgufKv *arr = NULL;
    FAILS(ERR_NOT_FOUND, gguf_get_int(&i, g, "absent", 0, 9, TERR));
    EQ_STR(test_err.msg, "key \"absent\": is missing");
    FAILS(ERR_FORMAT, gguf_get_int(&i, g, "u8", 8, 9, TERR));
    EQ_STR(test_err.msg, "key \"u8\": 7 is out of range, limit 8 to 9");
    FAILS(ERR_FORMAT, gguf_get_int(&i, g, "i8", 0, 9, TERR));
    EQ_STR(test_err.msg, "key \"i8\": -7 is out of range, limit 0 to 9");
    FAILS(ERR_FORMAT, gguf_opt_int(&i, g, "u64", INT64_MIN, INT64_MAX, TERR));
    EQ_STR(test_err.msg, "key \"u64\": 18446744073709551615 is out of range, limit "
                         "-9223372036854775808 to 9223372036854775807");
    FAILS(ERR_FORMAT, gguf_get_int(&i, g, "f32", 0, 9, TERR));
    EQ_STR(test_err.msg, "key \"f32\": type f32, must be an integer");
    FAILS(ERR_FORMAT, gguf_get_int(&i, g, "bool", 0, 9, TERR));
    FAILS(ERR_FORMAT, gguf_get_float(&f, g, "inf", -1e308, 1e308, TERR));
    EQ_STR(test_err.msg, "key \"inf\": inf is not finite, limit -1e+308 to 1e+308");
    FAILS(ERR_FORMAT, gguf_get_float(&f, g, "nan", 0, 1, TERR));
    EQ_STR(test_err.msg, "key \"nan\": nan is not finite, limit 0 to 1");
    FAILS(ERR_FORMAT, gguf_opt_float(&f, g, "f32", 0, 0.25, TERR));
    EQ_STR(test_err.msg, "key \"f32\": 0.5 is out of range, limit 0 to 0.25");
    FAILS(ERR_FORMAT, gguf_get_float(&f, g, "u8", 0, 9, TERR));
    FAILS(ERR_FORMAT, gguf_get_bool(&on, g, "u8", TERR));
    FAILS(ERR_FORMAT, gguf_opt_bool(&on, g, "str", TERR));
    FAILS(ERR_FORMAT, gguf_get_str(&s, g, "arr", TERR));
    EQ_STR(test_err.msg, "key \"arr\": array of u32, must be str");
    FAILS(ERR_FORMAT, gguf_opt_str(&s, g, "u8", TERR));
    FAILS(ERR_FORMAT, gguf_get_arr(&arr, g, "arr", GGUF_STR, TERR));
    EQ_STR(test_err.msg, "key \"arr\": array of u32, must be an array of str");
    FAILS(ERR_FORMAT, gguf_get_arr(&arr, g, "u8", GGUF_STR, TERR));
    EQ_STR(test_err.msg, "key \"u8\": type u8, must be an array of str");
    FAILS(ERR_NOT_FOUND, gguf_get_arr(&arr, g, "absent", GGUF_STR, TERR));
    EQ(i, 42);
    NEAR(f, 42, 0);
    TRUE_(on && !arr);
    gguf_close(g);
    blob_free(&b);
}

TEST(values_as_text) {
    static const float f32[] = {1e-5f, 1e-6f, 0.1f, 1e6f, 500000.0f, 3.14159274f, INFINITY};
    static const char *const want[] = {"1e-05", "1e-06",     "0.1", "1e+06",
                                       "5e+05", "3.1415927", "inf"};
    for (size_t i = 0; i < COUNT_OF(f32); i++) {
        StrBuf text = {0};
        GgufKv kv = {.type = GGUF_F32, .v.f = (double)f32[i]};
        gguf_format_value(&kv, &text);
        EQ_STR(sb_str(&text), want[i]);
        sb_deinit(&text);
    }
    StrBuf text = {0};
    GgufKv kv = {.type = GGUF_STR, .v.s = {"two\nlines \xff", 11}};
    gguf_format_value(&kv, &text);
    EQ_STR(sb_str(&text), "two\\x0alines \\xff");
    sb_deinit(&text);
}

/* ---- size ---- */

/* The most entries a file may have, tensors in falling order so that they must be sorted: what
 * opening allocates stays under the contract's 64 MB by itself. */
TEST(most_entries_within_the_memory_limit) {
    enum { N = GGUF_MAX_ENTRIES };
    Blob b = {0};
    char name[16];
    size_t live = mem_live_bytes();
    blob_head(&b, 3, N, N);
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%x", i);
        blob_key(&b, name, GGUF_U8);
        blob_u8(&b, 0);
    }
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof name, "%x", i);
        blob_tensor_1d(&b, name, 1, DT_F32, (uint64_t)(N - 1 - i) * 32);
    }
    blob_pad(&b, 32);
    size_t data = b.n;
    static uint8_t zeros[1 << 20];
    for (int i = 0; i < 8; i++) blob_put(&b, zeros, sizeof zeros);
    Gguf *g = open_blob(&b);
    TRUE_(mem_peak_bytes() <= live + ((size_t)64 << 20));
    EQ(gguf_n_kv(g), N);
    const GgufTensor *t = gguf_find_tensor(g, "3ffff");
    TRUE_(t && t->data == b.p + data);
    gguf_close(g);
    b.p[8] = 1; /* one more tensor than the limit */
    FAILS(ERR_FORMAT, gguf_open_bytes(&g, b.p, b.n, TERR));
    EQ_STR(test_err.msg, "262145 tensors, limit 262144");
    blob_free(&b);
}

TEST(big_arrays) {
    enum { N = 200000 };
    Blob b = {0};
    char text[16];
    const GgufKv *kv = NULL;
    Slice s = {0};
    size_t pos = 0, n = 0, live = mem_live_bytes();
    blob_head(&b, 3, 0, 2);
    blob_key(&b, "tokens", GGUF_ARR);
    blob_arr(&b, GGUF_STR, N);
    for (int i = 0; i < N; i++) {
        snprintf(text, sizeof text, "%d", i);
        blob_str(&b, text);
    }
    blob_key(&b, "scores", GGUF_ARR);
    blob_arr(&b, GGUF_F32, N);
    for (int i = 0; i < N; i++) blob_f32(&b, (float)i);
    Gguf *g = open_blob(&b);
    TRUE_(mem_live_bytes() - live < 4096); /* borrowed, not copied */
    OK_(gguf_get_arr(&kv, g, "tokens", GGUF_STR, TERR));
    while (gguf_arr_next_str(kv, &pos, &s)) n++;
    EQ(n, N);
    TRUE_(slice_eq_str(s, "199999"));
    OK_(gguf_get_arr(&kv, g, "scores", GGUF_F32, TERR));
    NEAR(gguf_arr_num(kv, N - 1), N - 1, 0);
    gguf_close(g);
    blob_free(&b);
}
