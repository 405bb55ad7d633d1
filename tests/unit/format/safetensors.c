/* SPDX-License-Identifier: Apache-2.0
 * Safetensors: what a good file holds, every way a file can lie, several files, and what is written. */
#include "format/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "test.h"

/* A file of this JSON and n bytes of data that count up; owned by the caller. */
static uint8_t *file_of(size_t *n, const char *json, size_t n_data) {
    uint64_t head = strlen(json);
    uint8_t *p = malloc(8 + head + n_data);
    TRUE_(p != NULL);
    memcpy(p, &head, 8);
    memcpy(p + 8, json, head);
    for (size_t i = 0; i < n_data; i++) p[8 + head + i] = (uint8_t)i;
    *n = 8 + head + n_data;
    return p;
}

static void refused(const char *json, size_t n_data, const char *words) {
    size_t n, live = mem_live_bytes();
    uint8_t *p = file_of(&n, json, n_data);
    St *s = NULL;
    FAILS(ERR_FORMAT, st_open_bytes(&s, p, n, TERR));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    TRUE_(s == NULL);
    EQ(mem_live_bytes(), live);
    free(p);
}

static void put_file(const char *path, const char *json, size_t n_data) {
    size_t n;
    uint8_t *p = file_of(&n, json, n_data);
    FILE *f = fopen(path, "wb");
    TRUE_(f && fwrite(p, 1, n, f) == n);
    fclose(f);
    free(p);
}

static void put_text(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    TRUE_(f && fputs(text, f) >= 0);
    fclose(f);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}"
#define B "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[8,14]}"

TEST(tensors_are_where_the_header_says) {
    size_t n;
    St *s = NULL;
    uint8_t *p = file_of(&n, "{\"__metadata__\":{\"format\":\"pt\"}," B "," A "}   ", 14);
    OK_(st_open_bytes(&s, p, n, TERR));
    EQ(st_n_tensors(s), 2);
    EQ(st_n_files(s), 1);
    EQ(st_file_bytes(s), n);
    const StTensor *a = st_find(s, slice_of("a")), *b = st_find(s, slice_of("b"));
    EQ(a->type, ST_F32);
    EQ(a->n_dims, 2);
    EQ(a->shape[0], 2);
    EQ(a->n_bytes, 8);
    EQ(((const uint8_t *)a->data)[0], 0);
    EQ(b->type, ST_BF16);
    EQ(((const uint8_t *)b->data)[0], 8);
    EQ_STR(st_type_name(b->type), "BF16");
    TRUE_(!st_find(s, slice_of("__metadata__")));
    st_close(s);
    free(p);
}

TEST(empty_tensors_and_scalars_are_tensors) {
    size_t n;
    St *s = NULL;
    uint8_t *p = file_of(&n,
                         "{\"e\":{\"dtype\":\"I64\",\"shape\":[0,5],\"data_offsets\":[0,0]},"
                         "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                         "\"z\":{\"dtype\":\"F64\",\"shape\":[0],\"data_offsets\":[1,1]}}",
                         1);
    OK_(st_open_bytes(&s, p, n, TERR));
    EQ(st_find(s, slice_of("e"))->n_elem, 0);
    EQ(st_find(s, slice_of("s"))->n_elem, 1);
    st_close(s);
    free(p);
}

/* ---- lies ---- */

TEST(headers_that_lie_are_refused) {
    refused("[]", 0, "begins with byte");
    refused("{,", 0, "json");
    refused("{} x", 0, "json");
    refused("{}", 3, "3 bytes of data belong to no tensor");
    refused("{" A "," A "}", 8, "duplicate");
    refused("{" A "}", 7, "data_offsets 0 to 8, the data has 7 bytes");
    refused("{" A "}", 9, "1 bytes of data belong to no tensor");
    refused("{" B "}", 14, "a hole begins at 0");
    refused("{\"a\":7}", 0, "no object");
    refused("{\"a\":{\"dtype\":\"F7\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, "dtype \"F7\"");
    refused("{\"a\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,4]}}", 4, "dtype");
    refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "shape");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets");
    refused("{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "0 bytes");
}

#define ONE(shape, offsets) \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

TEST(numbers_that_lie_are_refused) {
    refused(ONE("[1]", "[4,0]"), 4, "data_offsets 4 to 0");
    refused(ONE("[1]", "[0,4,4]"), 4, "two whole numbers");
    refused(ONE("[1]", "[-4,0]"), 4, "two whole numbers");
    refused(ONE("[1]", "[0.0,4.0]"), 4, "two whole numbers");
    refused(ONE("[1]", "[\"0\",4]"), 4, "two whole numbers");
    refused(ONE("[1]", "[18446744073709551612,0]"), 4, "json");
    refused(ONE("[2]", "[0,4]"), 4, "takes 8 bytes");
    refused(ONE("[-1]", "[0,4]"), 4, "dim 0");
    refused(ONE("[1.5]", "[0,4]"), 4, "dim 0");
    refused(ONE("{}", "[0,4]"), 4, "shape");
    refused(ONE("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "shape");
    refused(ONE("[4611686018427387904,4611686018427387904]", "[0,4]"), 4, "2^63");
    refused(ONE("[4611686018427387904]", "[0,4]"), 4, "2^63");
    refused("{" A ",\"c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
            "another tensor's ends");
}

TEST(files_that_are_cut_are_refused) {
    size_t n;
    uint8_t *p = file_of(&n, "{" A "," B "}", 14);
    for (size_t i = 0; i < n; i++) {
        uint8_t *cut =
            malloc(i ? i : 1); /* of just this size, so that a read past the end is seen */
        St *s = NULL;
        memcpy(cut, p, i);
        FAILS(ERR_FORMAT, st_open_bytes(&s, cut, i, TERR));
        free(cut);
    }
    uint64_t big[] = {UINT64_MAX, INT64_MAX, (uint64_t)1 << 40, ST_MAX_HEADER + 1};
    for (size_t i = 0; i < COUNT_OF(big); i++) {
        St *s = NULL;
        memcpy(p, &big[i], 8);
        FAILS(ERR_FORMAT, st_open_bytes(&s, p, n, TERR));
        TRUE_(strstr(test_err.msg, "not a safetensors file") != NULL);
    }
    free(p);
}

/* Any one byte of the header changed: refused or opened, and if opened, all data inside. */
TEST(damaged_headers_do_no_harm) {
    size_t n, opened = 0;
    uint8_t *p = file_of(&n, "{" A "," B "}", 14);
    for (size_t i = 0; i < n - 14; i++)
        for (int v = 0; v < 256; v++) {
            St *s = NULL;
            uint8_t was = p[i];
            p[i] = (uint8_t)v;
            if (st_open_bytes(&s, p, n, NULL) == OK) {
                for (size_t k = 0; k < st_n_tensors(s); k++) {
                    const StTensor *t = st_tensor_at(s, k);
                    TRUE_((const uint8_t *)t->data >= p &&
                          (const uint8_t *)t->data + t->n_bytes <= p + n);
                }
                opened++;
            }
            st_close(s);
            p[i] = was;
        }
    TRUE_(opened > 100);
    free(p);
}

/* ---- folders ---- */

static const char *in_dir(const char *name) {
    static char path[4][512];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", test_tmpdir(), name);
    return path[k];
}

static void index_of(const char *map) {
    char text[1024];
    snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":{%s}}", map);
    put_text(in_dir("model.safetensors.index.json"), text);
}

static void refused_dir(Status want, const char *words) {
    St *s = NULL;
    size_t live = mem_live_bytes();
    FAILS(want, st_open_dir(&s, test_tmpdir(), TERR));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    EQ(mem_live_bytes(), live);
}

#define C "\"c\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}"

TEST(several_files_are_one_model) {
    St *s = NULL;
    put_file(in_dir("x-1.safetensors"), "{" A "," B "}", 14);
    put_file(in_dir("x-2.safetensors"), "{" C "}", 2);
    index_of("\"c\":\"x-2.safetensors\",\"a\":\"x-1.safetensors\",\"b\":\"x-1.safetensors\"");
    OK_(st_open_dir(&s, test_tmpdir(), TERR));
    EQ(st_n_tensors(s), 3);
    EQ(st_n_files(s), 2);
    EQ(((const uint8_t *)st_find(s, slice_of("b"))->data)[0], 8);
    EQ(((const uint8_t *)st_find(s, slice_of("c"))->data)[1], 1);
    st_close(s);
}

TEST(an_index_that_lies_is_refused) {
    put_file(in_dir("x-1.safetensors"), "{" A "," B "}", 14);
    put_file(in_dir("x-2.safetensors"), "{" C "}", 2);
    put_file(in_dir("x-3.safetensors"), "{" A "}", 8);
    index_of("\"a\":\"x-1.safetensors\",\"d\":\"x-2.safetensors\"");
    refused_dir(ERR_FORMAT, "\"d\": is not in");
    index_of("\"a\":\"x-2.safetensors\",\"b\":\"x-1.safetensors\"");
    refused_dir(ERR_FORMAT, "is in another file");
    index_of("\"a\":\"x-1.safetensors\",\"c\":\"x-3.safetensors\"");
    refused_dir(ERR_FORMAT, "is there twice");
    index_of("\"a\":\"../x-1.safetensors\"");
    refused_dir(ERR_FORMAT, "same folder");
    index_of("\"a\":\"/etc/passwd\"");
    refused_dir(ERR_FORMAT, "same folder");
    index_of("\"a\":7");
    refused_dir(ERR_FORMAT, "same folder");
    index_of("");
    refused_dir(ERR_FORMAT, "weight_map");
    index_of("\"a\":\"gone.safetensors\"");
    refused_dir(ERR_NOT_FOUND, "gone.safetensors");
    put_text(in_dir("model.safetensors.index.json"), "{\"weight_map\":[]}");
    refused_dir(ERR_FORMAT, "weight_map");
}

TEST(pickles_are_refused_with_the_reason) {
    refused_dir(ERR_NOT_FOUND, "no model.safetensors");
    put_text(in_dir("pytorch_model.bin"), "\x80\x02");
    refused_dir(ERR_UNSUPPORTED, "pytorch_model.bin: pickled weights run code");
}

/* ---- writing ---- */

TEST(what_is_written_opens) {
    StW *w = NULL;
    St *s = NULL;
    const char *path = in_dir("w.safetensors");
    float x[6] = {1, 2, 3, 4, 5, 6};
    uint16_t y[2] = {7, 8};
    OK_(st_w_new(&w, path, TERR));
    st_w_meta(w, "format", "pt");
    st_w_tensor(w, slice_of("wide \"\\\xc3\xa4"), ST_F32, 2, (const uint64_t[]){2, 3});
    st_w_tensor(w, slice_of("half"), ST_BF16, 1, (const uint64_t[]){2});
    OK_(st_w_begin(w, TERR));
    OK_(st_w_data(w, x, 10, TERR));
    OK_(st_w_data(w, (const char *)x + 10, sizeof x - 10, TERR));
    OK_(st_w_data(w, y, sizeof y, TERR));
    OK_(st_w_end(w, TERR));
    st_w_free(w);
    OK_(st_open(&s, path, TERR));
    const StTensor *a = st_find(s, slice_of("wide \"\\\xc3\xa4")),
                   *b = st_find(s, slice_of("half"));
    EQ_MEM(a->data, x, sizeof x);
    EQ_MEM(b->data, y, sizeof y);
    EQ((uintptr_t)a->data % ST_ALIGNMENT, 0); /* the map begins at a page */
    EQ(a->shape[0], 2);
    EQ(a->shape[1], 3);
    st_close(s);
}

TEST(wrong_use_of_the_writer_is_refused) {
    const char *path = in_dir("w.safetensors");
    for (int i = 0; i < 5; i++) {
        StW *w = NULL;
        uint64_t two[] = {2, 2}, huge[] = {UINT64_MAX / 2, 4};
        Status st = OK;
        OK_(st_w_new(&w, path, TERR));
        st_w_tensor(w, slice_of("a"), ST_U8, 2, two);
        if (i == 0) st_w_tensor(w, slice_of("a"), ST_U8, 2, two);
        if (i == 1) st_w_tensor(w, slice_of("b"), ST_F32, 2, huge);
        if (i == 2) st_w_tensor(w, slice_of(""), ST_U8, 2, two);
        st = st_w_begin(w, TERR);
        if (i == 3) st = st_w_data(w, "12345", 5, TERR);
        if (i == 4) st = st_w_end(w, TERR);
        EQ(st, ERR_ARG);
        TRUE_(test_err.msg[0]);
        st_w_free(w);
        FALSE_(io_exists(path));
    }
}
