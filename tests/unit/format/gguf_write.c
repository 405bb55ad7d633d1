/* SPDX-License-Identifier: Apache-2.0
 * Writing GGUF: what is written is read back, byte for byte where a copy is asked for, and every
 * wrong use is refused with a line and leaves no file. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "format/gguf.h"
#include "support/gguf_build.h"

static const uint64_t one_row[] = {32};

static const char *path_of(const char *name) {
    static char path[2][256];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", test_tmpdir(), name);
    return path[turn];
}

static GgufW *writer(const char *path, uint32_t alignment, bool atomic) {
    GgufW *w = NULL;
    OK_(gguf_w_new(&w, path, alignment, atomic, TERR));
    return w;
}

static void declare_all(GgufW *w) {
    static const Slice strs[] = {{"x", 1}, {"", 0}, {"yz", 2}};
    gguf_w_str(w, "general.architecture", slice_of("llama"));
    gguf_w_u32(w, "a.u32", UINT32_MAX);
    gguf_w_i32(w, "a.i32", INT32_MIN);
    gguf_w_u64(w, "a.u64", UINT64_MAX);
    gguf_w_f32(w, "a.f32", 1e-5f);
    gguf_w_f64(w, "a.f64", 1e-300);
    gguf_w_bool(w, "a.bool", true);
    gguf_w_arr_str(w, "a.strs", strs, 3);
    gguf_w_arr_i32(w, "a.i32s", (const int32_t[]){-1, 2}, 2);
    gguf_w_arr_f32(w, "a.f32s", (const float[]){0.5f}, 1);
    gguf_w_arr_str(w, "a.none", NULL, 0);
    gguf_w_tensor(w, slice_of("t.f32"), DT_F32, 2, (const uint64_t[]){3, 5});
    gguf_w_tensor(w, slice_of("t.q4"), DT_Q4_0, 1, one_row);
    gguf_w_tensor(w, slice_of("t.f16"), DT_F16, 4, (const uint64_t[]){1, 2, 3, 4});
}

static void write_all(const char *path, uint32_t alignment, bool atomic) {
    uint8_t data[60];
    GgufW *w = writer(path, alignment, atomic);
    for (unsigned i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i + 1);
    declare_all(w);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_data(w, data, 60, TERR));
    for (int i = 0; i < 18; i++) OK_(gguf_w_data(w, data + i, 1, TERR));
    OK_(gguf_w_data(w, NULL, 0, TERR));
    OK_(gguf_w_data(w, data, 47, TERR));
    OK_(gguf_w_data(w, data + 47, 1, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

static void check_value(const Gguf *g, const char *key, GgufType type, const char *want) {
    StrBuf text = {0};
    const GgufKv *kv = gguf_find(g, key);
    TRUE_(kv != NULL);
    EQ(kv->type, type);
    gguf_format_value(kv, &text);
    EQ_STR(sb_str(&text), want);
    sb_deinit(&text);
}

static void check_all(const Gguf *g) {
    const uint8_t *d[3];
    check_value(g, "general.architecture", GGUF_STR, "llama");
    check_value(g, "a.u32", GGUF_U32, "4294967295");
    check_value(g, "a.i32", GGUF_I32, "-2147483648");
    check_value(g, "a.u64", GGUF_U64, "18446744073709551615");
    check_value(g, "a.f32", GGUF_F32, "1e-05");
    check_value(g, "a.f64", GGUF_F64, "1e-300");
    check_value(g, "a.bool", GGUF_BOOL, "true");
    check_value(g, "a.strs", GGUF_ARR, "[str x 3]");
    check_value(g, "a.i32s", GGUF_ARR, "[i32 x 2]");
    check_value(g, "a.f32s", GGUF_ARR, "[f32 x 1]");
    check_value(g, "a.none", GGUF_ARR, "[str x 0]");
    NEAR(gguf_arr_num(gguf_find(g, "a.i32s"), 0), -1, 0);
    EQ(gguf_n_tensors(g), 3);
    for (size_t i = 0; i < 3; i++) d[i] = gguf_tensor_at(g, i)->data;
    EQ(gguf_tensor_at(g, 0)->n_bytes, 60);
    EQ(gguf_tensor_at(g, 1)->type, DT_Q4_0);
    EQ(gguf_tensor_at(g, 2)->ne[3], 4);
    EQ(d[0][59], 60);
    EQ(d[0][60], 0);
    EQ(d[1][0], 1);
    EQ(d[1][17], 18);
    EQ(d[2][47], 48);
}

TEST(written_is_read_back) {
    for (uint32_t alignment = 8; alignment <= 65536; alignment *= 2) {
        const char *path = path_of("all.gguf");
        Gguf *g = NULL;
        write_all(path, alignment, alignment != 8);
        OK_(gguf_open(&g, path, TERR));
        EQ(gguf_version(g), 3);
        EQ(gguf_alignment(g), alignment);
        EQ(gguf_find(g, "general.alignment") != NULL, alignment != 32);
        EQ(gguf_map(g).n % alignment, 0);
        for (size_t i = 0; i < 3; i++) EQ(gguf_tensor_at(g, i)->offset % alignment, 0);
        check_all(g);
        gguf_close(g);
    }
}

static void copy(const Gguf *g, const char *path, uint32_t alignment) {
    GgufW *w = writer(path, alignment, false);
    for (size_t i = 0; i < gguf_n_kv(g); i++) gguf_w_kv(w, gguf_kv_at(g, i));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        gguf_w_tensor(w, t->name, t->type, t->n_dims, t->ne);
    }
    OK_(gguf_w_begin(w, TERR));
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        OK_(gguf_w_data(w, gguf_tensor_at(g, i)->data, gguf_tensor_at(g, i)->n_bytes, TERR));
    }
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
}

TEST(copied_entries_are_the_same_bytes) {
    Blob b = {0};
    StrBuf back = {0};
    Gguf *g = NULL;
    blob_seed(&b, 0); /* every type */
    OK_(gguf_open_bytes(&g, b.p, b.n, TERR));
    copy(g, path_of("copy.gguf"), 32);
    gguf_close(g);
    OK_(io_read_file(&back, path_of("copy.gguf"), 1 << 20, TERR));
    blob_data(&b, 32, 0);
    /* The seed has no padding after its last tensor and its data counts up through the gaps. */
    Gguf *h = NULL;
    OK_(gguf_open_bytes(&g, b.p, b.n, TERR));
    OK_(gguf_open_bytes(&h, back.p, back.n, TERR));
    size_t head = (size_t)((const uint8_t *)gguf_tensor_at(g, 0)->data - b.p);
    EQ(back.n, b.n);
    EQ_MEM(back.p, b.p, head);
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i), *u = gguf_tensor_at(h, i);
        EQ_MEM(t->data, u->data, t->n_bytes);
    }
    gguf_close(g);
    gguf_close(h);
    sb_deinit(&back);
    blob_free(&b);
}

TEST(copy_takes_the_alignment_of_the_writer) {
    Blob b = {0};
    Gguf *g = NULL, *h = NULL;
    blob_seed(&b, 1); /* general.alignment 64 */
    OK_(gguf_open_bytes(&g, b.p, b.n, TERR));
    copy(g, path_of("a32.gguf"), 32);
    OK_(gguf_open(&h, path_of("a32.gguf"), TERR));
    EQ(gguf_alignment(h), 32);
    EQ(gguf_n_kv(h), gguf_n_kv(g) - 1);
    gguf_close(h);
    copy(g, path_of("a128.gguf"), 128);
    OK_(gguf_open(&h, path_of("a128.gguf"), TERR));
    EQ(gguf_alignment(h), 128);
    EQ(gguf_n_kv(h), gguf_n_kv(g));
    gguf_close(h);
    gguf_close(g);
    blob_free(&b);
}

TEST(last_value_in_first_place) {
    Gguf *g = NULL;
    GgufW *w = writer(path_of("twice.gguf"), 32, true);
    gguf_w_u32(w, "a", 1);
    gguf_w_u32(w, "b", 2);
    gguf_w_str(w, "a", slice_of("again"));
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    OK_(gguf_open(&g, path_of("twice.gguf"), TERR));
    EQ(gguf_n_kv(g), 2);
    TRUE_(slice_eq_str(gguf_kv_at(g, 0)->key, "a"));
    TRUE_(slice_eq_str(gguf_kv_at(g, 0)->v.s, "again"));
    gguf_close(g);
}

TEST(many_entries) {
    Gguf *g = NULL;
    char name[16];
    GgufW *w = writer(path_of("many.gguf"), 32, true);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        gguf_w_i32(w, name, i);
        gguf_w_tensor(w, slice_of(name), DT_F32, 1, (const uint64_t[]){1});
    }
    OK_(gguf_w_begin(w, TERR));
    for (float f = 0; f < 3000; f++) OK_(gguf_w_data(w, &f, sizeof f, TERR));
    OK_(gguf_w_end(w, TERR));
    gguf_w_free(w);
    OK_(gguf_open(&g, path_of("many.gguf"), TERR));
    EQ(gguf_find(g, "n2999")->v.i, 2999);
    NEAR(*(const float *)gguf_find_tensor(g, "n1234")->data, 1234, 0);
    gguf_close(g);
}

/* ---- wrong use ---- */

/* begin fails with this line after the path, again on every later call, and there is no file. */
static void begin_refused(GgufW *w, const char *path, const char *msg) {
    char want[512];
    snprintf(want, sizeof want, "%s: %s", path, msg);
    FAILS(ERR_ARG, gguf_w_begin(w, TERR));
    EQ_STR(test_err.msg, want);
    gguf_w_u32(w, "late", 1); /* ignored */
    FAILS(ERR_ARG, gguf_w_data(w, "", 1, TERR));
    FAILS(ERR_ARG, gguf_w_end(w, TERR));
    EQ_STR(test_err.msg, want);
    gguf_w_free(w);
    FALSE_(io_exists(path));
}

TEST(wrong_declarations) {
    static char long_key[65537];
    const char *path = path_of("bad.gguf");
    memset(long_key, 'k', sizeof long_key - 1);
    GgufW *w = writer(path, 32, true);
    gguf_w_u32(w, "", 1);
    gguf_w_tensor(w, slice_of("not the first failure"), DT_F32, 0, one_row);
    begin_refused(w, path, "key \"\": name of 0 bytes, limit 1 to 65535");
    w = writer(path, 32, true);
    gguf_w_u32(w, long_key, 1);
    FAILS(ERR_ARG, gguf_w_begin(w, TERR));
    TRUE_(strstr(test_err.msg, "name of 65536 bytes, limit 1 to 65535"));
    gguf_w_free(w);
    w = writer(path, 32, true);
    gguf_w_tensor(w, slice_of("t"), DT_Q8_0, 1, (const uint64_t[]){48});
    begin_refused(w, path, "tensor \"t\": rows of 48 are not whole blocks of 32 (q8_0)");
    w = writer(path, 32, true);
    gguf_w_tensor(w, slice_of("t"), (DType)97, 1, one_row);
    begin_refused(w, path, "tensor \"t\": type 97 is not known");
    w = writer(path, 32, true);
    gguf_w_tensor(w, slice_of("t"), DT_F32, 5, one_row);
    begin_refused(w, path, "tensor \"t\": 5 dims, limit 1 to 4");
    w = writer(path, 32, true);
    gguf_w_tensor(w, slice_of("t"), DT_F32, 1, one_row);
    gguf_w_tensor(w, slice_of("t"), DT_F32, 1, one_row);
    begin_refused(w, path, "tensor \"t\": declared twice");
    w = writer(path, 32, true);
    gguf_w_tensor(w, slice_of("a"), DT_F16, 1, (const uint64_t[]){UINT64_C(1) << 61});
    gguf_w_tensor(w, slice_of("b"), DT_F16, 1, (const uint64_t[]){UINT64_C(1) << 61});
    begin_refused(w, path,
                  "tensor \"b\": offset 4611686018427387904 + 4611686018427387904 bytes, "
                  "limit 2^63");
}

TEST(one_entry_too_many) {
    const char *path = path_of("many.gguf");
    char name[16];
    GgufW *w = writer(path, 32, true);
    for (int i = 0; i <= GGUF_MAX_ENTRIES; i++) {
        snprintf(name, sizeof name, "%x", (unsigned)i);
        gguf_w_bool(w, name, true);
    }
    begin_refused(w, path, "key \"40000\": entry 262145, limit 262144");
}

TEST(wrong_alignment) {
    GgufW *w = NULL;
    FAILS(ERR_ARG, gguf_w_new(&w, "x.gguf", 48, true, TERR));
    EQ_STR(test_err.msg, "x.gguf: alignment 48 is not a power of two in 8 to 65536");
    FAILS(ERR_ARG, gguf_w_new(&w, "x.gguf", 0, true, TERR));
    TRUE_(w == NULL);
}

static GgufW *one_tensor(const char *path) {
    GgufW *w = writer(path, 32, true);
    gguf_w_tensor(w, slice_of("t"), DT_F32, 1, one_row);
    OK_(gguf_w_begin(w, TERR));
    return w;
}

static void fails_with(GgufW *w, Status st, const char *path, const char *msg) {
    char want[512];
    snprintf(want, sizeof want, "%s: %s", path, msg);
    EQ(st, ERR_ARG);
    EQ_STR(test_err.msg, want);
    FAILS(ERR_ARG, gguf_w_end(w, TERR));
    gguf_w_free(w);
    FALSE_(io_exists(path));
}

TEST(wrong_amount_of_data) {
    static const uint8_t data[256];
    const char *path = path_of("short.gguf");
    GgufW *w = one_tensor(path);
    OK_(gguf_w_data(w, data, 100, TERR));
    fails_with(w, gguf_w_data(w, data, 29, TERR), path, "tensor \"t\": 100 + 29 bytes, limit 128");
    w = one_tensor(path);
    OK_(gguf_w_data(w, data, 128, TERR));
    fails_with(w, gguf_w_data(w, data, 1, TERR), path, "1 bytes after the last of 1 tensors");
    w = one_tensor(path);
    OK_(gguf_w_data(w, data, 100, TERR));
    fails_with(w, gguf_w_end(w, TERR), path, "tensor \"t\": only 100 of 128 bytes came");
}

TEST(calls_out_of_order) {
    const char *path = path_of("order.gguf");
    GgufW *w = writer(path, 32, true);
    fails_with(w, gguf_w_data(w, "", 1, TERR), path, "data came before gguf_w_begin");
    w = writer(path, 32, true);
    fails_with(w, gguf_w_end(w, TERR), path, "gguf_w_end was called before gguf_w_begin");
    w = one_tensor(path);
    fails_with(w, gguf_w_begin(w, TERR), path, "gguf_w_begin was called after gguf_w_begin");
    w = one_tensor(path);
    gguf_w_u32(w, "k", 1);
    fails_with(w, gguf_w_data(w, "", 1, TERR), path, "metadata was declared after gguf_w_begin");
    w = one_tensor(path);
    gguf_w_tensor(w, slice_of("u"), DT_F32, 1, one_row);
    fails_with(w, gguf_w_data(w, "", 1, TERR), path, "a tensor was declared after gguf_w_begin");
}

TEST(a_finished_file_stays) {
    const char *path = path_of("done.gguf");
    write_all(path, 32, true);
    GgufW *w = writer(path, 32, true);
    OK_(gguf_w_begin(w, TERR));
    OK_(gguf_w_end(w, TERR));
    FAILS(ERR_ARG, gguf_w_data(w, "", 1, TERR));
    gguf_w_free(w);
    TRUE_(io_exists(path));
}

TEST(unfinished_file_leaves_nothing) {
    const char *path = path_of("none.gguf");
    char tmp[300];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    GgufW *w = one_tensor(path);
    TRUE_(io_exists(tmp));
    gguf_w_free(w);
    FALSE_(io_exists(tmp));
    FALSE_(io_exists(path));
}

TEST(folder_that_is_not_there) {
    const char *path = path_of("no/such.gguf");
    GgufW *w = writer(path, 32, true);
    FAILS(ERR_NOT_FOUND, gguf_w_begin(w, TERR));
    TRUE_(strstr(test_err.msg, "no/such.gguf") && strstr(test_err.msg, "No such file"));
    gguf_w_free(w);
}
