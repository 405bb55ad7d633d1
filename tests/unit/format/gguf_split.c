/* SPDX-License-Identifier: Apache-2.0
 * Models in several files, and files of more than 4 GB. */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "format/gguf.h"
#include "support/gguf_build.h"

/* One file of a set, as its own header says; -1 leaves a key out. */
typedef struct Part {
    int no, count, total;
    const char *tensor[2];
    int n_tensors;
} Part;

static const char *part_path(int i, int n) {
    static char path[4][300];
    snprintf(path[i % 4], sizeof path[0], "%s/m-%05d-of-%05d.gguf", test_tmpdir(), i + 1, n);
    return path[i % 4];
}

static void kv_u16(Blob *b, const char *key, int v) {
    blob_key(b, key, GGUF_U16);
    blob_u16(b, (uint16_t)v);
}

static void put_file(const char *path, const Blob *b) {
    FILE *f = fopen(path, "wb");
    TRUE_(f != NULL);
    EQ(fwrite(b->p, 1, b->n, f), b->n);
    fclose(f);
}

/* Each tensor has 8 floats' worth of bytes that count up from the start of its file. */
static void write_part(const char *path, const Part *p, bool first) {
    Blob b = {0};
    blob_head(&b, 3, (uint64_t)p->n_tensors,
              (uint64_t)((p->no >= 0) + (p->count >= 0) + (p->total >= 0) + (first ? 2 : 0)));
    if (first) blob_kv_str(&b, "general.architecture", "none");
    if (p->no >= 0) kv_u16(&b, "split.no", p->no);
    if (p->count >= 0) kv_u16(&b, "split.count", p->count);
    if (p->total >= 0) {
        blob_key(&b, "split.tensors.count", GGUF_I32);
        blob_u32(&b, (uint32_t)p->total);
    }
    if (first) blob_kv_u32(&b, "test.last", 7);
    for (int i = 0; i < p->n_tensors; i++)
        blob_tensor_1d(&b, p->tensor[i], 8, DT_F32, (uint64_t)(i * 32));
    blob_data(&b, 32, (size_t)p->n_tensors * 32);
    put_file(path, &b);
    blob_free(&b);
}

static const Part good[3] = {{0, 3, 4, {"a", NULL}, 1},
                             {1, 3, 4, {"b", "c"}, 2},
                             {2, 3, 4, {"d", NULL}, 1}};

static void write_set(const Part *p, int n) {
    for (int i = 0; i < n; i++) write_part(part_path(i, n), &p[i], i == 0);
}

static void check_set(const char *path) {
    Gguf *g = NULL;
    OK_(gguf_open(&g, path, TERR));
    EQ(gguf_n_files(g), 3);
    EQ(gguf_n_tensors(g), 4);
    EQ(gguf_n_kv(g), 2); /* without the keys about files */
    TRUE_(gguf_find(g, "general.architecture") && gguf_find(g, "test.last"));
    TRUE_(!gguf_find(g, "split.count"));
    uint64_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        uint64_t n = 0;
        OK_(io_file_size(&n, part_path(i, 3), TERR));
        bytes += n;
    }
    EQ(gguf_file_bytes(g), bytes);
    for (const char *name = "abcd"; *name; name++) {
        const GgufTensor *t = gguf_find_tensor(g, (char[]){*name, 0});
        TRUE_(t != NULL);
        uint8_t want = *name == 'c' ? 32 : 0;
        for (int i = 0; i < 32; i++) EQ(((const uint8_t *)t->data)[i], want + i);
        IoMap all = gguf_map(g);
        TRUE_((const uint8_t *)t->data >= all.p && (const uint8_t *)t->data + 32 <= all.p + all.n);
    }
    gguf_close(g);
}

TEST(any_file_opens_all) {
    write_set(good, 3);
    for (int i = 0; i < 3; i++) check_set(part_path(i, 3));
}

TEST(a_set_of_one_is_a_file) {
    Part one = {0, 1, 1, {"a", NULL}, 1};
    Gguf *g = NULL;
    char path[300];
    snprintf(path, sizeof path, "%s/any-name.gguf", test_tmpdir());
    write_part(path, &one, true);
    OK_(gguf_open(&g, path, TERR));
    EQ(gguf_n_files(g), 1);
    gguf_close(g);
}

static void refused(Status want, const char *path, const char *w0, const char *w1) {
    Gguf *g = NULL;
    FAILS(want, gguf_open(&g, path, TERR));
    if (!strstr(test_err.msg, w0) || !strstr(test_err.msg, w1))
        FAIL("\"%s\" does not say \"%s\" and \"%s\"", test_err.msg, w0, w1);
    TRUE_(g == NULL && !strchr(test_err.msg, '\n'));
}

TEST(sets_that_do_not_fit) {
    static const struct {
        int at;
        Part p;
        const char *file, *words;
    } bad[] = {
        {1, {2, 3, 4, {"b", "c"}, 2}, "-00002-of", "split.no"},
        {1, {-1, 3, 4, {"b", "c"}, 2}, "-00002-of", "split.no"},
        {1, {1, 4, 4, {"b", "c"}, 2}, "-00002-of", "split.count"},
        {1, {1, -1, 4, {"b", "c"}, 2}, "-00002-of", "split.count"},
        {2, {2, 3, 4, {"a", NULL}, 1}, "-00003-of", "tensor \"a\": is in two files"},
        {0, {0, 3, 5, {"a", NULL}, 1}, "-00001-of", "split.tensors.count"},
        {0, {0, 3, 3, {"a", NULL}, 1}, "-00003-of", "split.tensors.count\": 3"},
        {0, {0, 3, 0, {"a", NULL}, 1}, "-00001-of", "split.tensors.count"},
        {0, {0, 3, INT32_MAX, {"a", NULL}, 1}, "-00001-of", "limit 1 to 65536"},
        {0, {0, 3, -1, {"a", NULL}, 1}, "-00001-of", "split.tensors.count"},
        {0, {0, 2000, 4, {"a", NULL}, 1}, "-00001-of", "limit 0 to 1024"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Part p[3] = {good[0], good[1], good[2]};
        p[bad[i].at] = bad[i].p;
        write_set(p, 3);
        Err e = {0};
        Gguf *g = NULL;
        Status st = gguf_open(&g, part_path(0, 3), &e);
        TRUE_(st == ERR_FORMAT || st == ERR_NOT_FOUND);
        refused(st, part_path(0, 3), bad[i].file, bad[i].words);
    }
}

TEST(names_and_absent_files) {
    char path[300];
    write_set(good, 3);
    snprintf(path, sizeof path, "%s/model.gguf", test_tmpdir());
    write_part(path, &good[0], true);
    refused(ERR_FORMAT, path, "model.gguf: key \"split.count\": 3", "-00001-of-00003.gguf");
    snprintf(path, sizeof path, "%s/m-00001-of-00002.gguf", test_tmpdir());
    write_part(path, &good[0], true);
    refused(ERR_FORMAT, path, "-00001-of-00002.gguf", "-00001-of-00003.gguf");
    snprintf(path, sizeof path, "%s/m-00009-of-00003.gguf", test_tmpdir());
    write_part(path, &good[0], true);
    refused(ERR_FORMAT, path, "-00009-of-00003.gguf", "none of the 3 files");
    unlink(part_path(1, 3));
    refused(ERR_NOT_FOUND, part_path(0, 3), "-00002-of-00003.gguf", "No such file");
    TRUE_(truncate(part_path(2, 3), 0) == 0);
    write_part(part_path(1, 3), &good[1], false);
    refused(ERR_FORMAT, part_path(0, 3), "-00003-of-00003.gguf", "empty");
}

TEST(every_failure_leaves_nothing) {
    static const FaultKind kinds[] = {FAULT_ALLOC, FAULT_IO};
    write_set(good, 3);
    for (size_t k = 0; k < COUNT_OF(kinds); k++) {
        uint64_t n = 1;
        for (bool fired = true; fired; n++) {
            Err e = {0};
            Gguf *g = NULL;
            size_t live = mem_live_bytes();
            fault_arm(kinds[k], n);
            Status st = gguf_open(&g, part_path(1, 3), &e);
            fired = fault_fired(kinds[k]);
            fault_arm(kinds[k], 0);
            gguf_close(g);
            EQ(mem_live_bytes(), live);
            TRUE_(fired ? st != OK && e.msg[0] : st == OK);
        }
        TRUE_(n > 12);
    }
}

/* ---- more than 4 GB: a file with a hole ---- */

TEST(tensors_beyond_four_gigabytes) {
    enum { COLS = 1 << 16, ROWS = 40000 }; /* f16: 5.2 GB */
    const uint64_t big = (uint64_t)COLS * ROWS * 2;
    const uint64_t ne[2] = {COLS, ROWS};
    const float last[4] = {1, -2, 3, 0.5f};
    const uint16_t corner = 0x3c00;
    char path[300];
    Blob b = {0};
    Gguf *g = NULL;
    snprintf(path, sizeof path, "%s/big.gguf", test_tmpdir());
    blob_head(&b, 3, 2, 0);
    blob_tensor(&b, "big", 2, ne, DT_F16, 0);
    blob_tensor_1d(&b, "last", 4, DT_F32, big);
    blob_pad(&b, 32);
    put_file(path, &b);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    off_t at = (off_t)(b.n + big);
    bool wrote = pwrite(fd, last, sizeof last, at) == sizeof last &&
                 pwrite(fd, &corner, sizeof corner, at - 2) == sizeof corner;
    close(fd);
    if (wrote) {
        OK_(gguf_open(&g, path, TERR));
        const GgufTensor *t = gguf_find_tensor(g, "big");
        EQ(t->n_bytes, big);
        EQ(((const uint16_t *)t->data)[t->n_elem - 1], corner);
        EQ(((const uint16_t *)t->data)[t->n_elem / 2], 0);
        EQ_MEM(gguf_find_tensor(g, "last")->data, last, sizeof last);
        gguf_close(g);
        TRUE_(truncate(path, at + 15) == 0);
        refused(ERR_FORMAT, path, "tensor \"last\"", "past the end of the data");
    }
    unlink(path);
    blob_free(&b);
    if (!wrote) SKIP("no room for a file with a hole of 5 GB");
}
