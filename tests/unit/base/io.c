/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "test.h"

/* Path of a name in this case's folder; four calls stay valid. */
static const char *in_tmp(const char *name) {
    static char buf[4][512];
    static int at;
    char *p = buf[at++ % 4];
    snprintf(p, 512, "%s/%s", test_tmpdir(), name);
    return p;
}

static void put_file(const char *path, const char *text) {
    IoWriter w;
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
}

static void check_file(const char *path, const char *want) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    EQ_STR(sb_str(&b), want);
    sb_deinit(&b);
}

TEST(map_and_unmap) {
    const char *path = in_tmp("f");
    IoMap m = {0};
    put_file(path, "hello");
    OK_(io_map(&m, path, TERR));
    EQ(m.n, 5);
    EQ_MEM(m.p, "hello", 5);
    io_map_release(m.p, m.n);
    EQ_MEM(m.p, "hello", 5);
    io_unmap(&m);
    TRUE_(m.p == NULL && m.n == 0);
    io_unmap(&m);
}

TEST(map_of_an_empty_file) {
    IoMap m = {(const uint8_t *)"x", 1};
    put_file(in_tmp("empty"), "");
    OK_(io_map(&m, in_tmp("empty"), TERR));
    TRUE_(m.p == NULL && m.n == 0);
    io_unmap(&m);
}

/* Released pages come back from the file; a release inside a page touches nothing. */
TEST(map_release_keeps_content) {
    IoWriter w;
    IoMap m;
    OK_(io_writer_open(&w, in_tmp("big"), false, TERR));
    for (uint32_t i = 0; i < 10000; i++) OK_(io_write(&w, &i, sizeof i, TERR));
    OK_(io_writer_close(&w, TERR));
    OK_(io_map(&m, in_tmp("big"), TERR));
    io_map_release(m.p + 10, m.n - 20);
    io_map_release(m.p + 5000, 100);
    for (uint32_t i = 0; i < 10000; i++) EQ_MEM(m.p + i * 4, &i, sizeof i);
    io_unmap(&m);
}

TEST(map_refuses_other_things) {
    IoMap m = {NULL, 7};
    FAILS(ERR_NOT_FOUND, io_map(&m, in_tmp("absent"), TERR));
    TRUE_(strstr(test_err.msg, "absent: No such file") != NULL);
    FAILS(ERR_IO, io_map(&m, test_tmpdir(), TERR));
    TRUE_(strstr(test_err.msg, "is a folder") != NULL);
    EQ(mkfifo(in_tmp("pipe"), 0600), 0);
    FAILS(ERR_IO, io_map(&m, in_tmp("pipe"), TERR)); /* and does not wait for a writer */
    TRUE_(strstr(test_err.msg, "not a regular file") != NULL);
    FAILS(ERR_IO, io_map(&m, "/dev/null", TERR));
    EQ(m.n, 7);
}

TEST(read_appends) {
    StrBuf b = {0};
    put_file(in_tmp("f"), "world");
    sb_puts(&b, "hello ");
    OK_(io_read_file(&b, in_tmp("f"), 5, TERR));
    EQ_STR(sb_str(&b), "hello world");
    sb_deinit(&b);
}

TEST(read_limits) {
    StrBuf b = {0};
    put_file(in_tmp("f"), "123456");
    sb_puts(&b, "kept");
    FAILS(ERR_FULL, io_read_file(&b, in_tmp("f"), 5, TERR));
    TRUE_(strstr(test_err.msg, "limit of 5 bytes") != NULL);
    FAILS(ERR_FULL, io_read_file(&b, "/dev/zero", 100000, TERR)); /* no size to look at first */
    FAILS(ERR_IO, io_read_file(&b, test_tmpdir(), 5, TERR));
    FAILS(ERR_NOT_FOUND, io_read_file(&b, in_tmp("absent"), 5, TERR));
    EQ_STR(sb_str(&b), "kept");
    sb_deinit(&b);
}

TEST(read_standard_input) {
    StrBuf b = {0};
    put_file(in_tmp("f"), "from stdin");
    int saved = dup(STDIN_FILENO), fd = open(in_tmp("f"), O_RDONLY);
    dup2(fd, STDIN_FILENO);
    close(fd);
    Status st = io_read_file(&b, "-", 100, TERR);
    dup2(saved, STDIN_FILENO);
    close(saved);
    EQ(st, OK);
    EQ_STR(sb_str(&b), "from stdin");
    sb_deinit(&b);
}

/* A child with slow small writes: reads come back short. */
TEST(read_from_a_pipe) {
    StrBuf b = {0};
    int fd[2];
    char path[32];
    EQ(pipe(fd), 0);
    for (int i = 0; i < 100; i++) EQ(write(fd[1], "0123456789", 10), 10);
    close(fd[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", fd[0]);
    OK_(io_read_file(&b, path, 1000, TERR));
    EQ(b.n, 1000);
    close(fd[0]);
    sb_deinit(&b);
}

TEST(atomic_replacement) {
    const char *path = in_tmp("f"), *tmp = in_tmp("f.tmp");
    IoWriter w;
    put_file(path, "old");
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, "new text", 8, TERR));
    OK_(io_writer_flush(&w, true, TERR));
    check_file(path, "old");
    check_file(tmp, "new text");
    OK_(io_writer_close(&w, TERR));
    check_file(path, "new text");
    TRUE_(!io_exists(tmp));
    io_writer_abort(&w);
}

TEST(abort_leaves_the_old_file) {
    IoWriter w = {0};
    io_writer_abort(&w); /* a zeroed writer: standard input must stay open */
    TRUE_(fcntl(STDIN_FILENO, F_GETFD) != -1);
    put_file(in_tmp("f"), "old");
    OK_(io_writer_open(&w, in_tmp("f"), true, TERR));
    OK_(io_write(&w, "x", 1, TERR));
    io_writer_abort(&w);
    check_file(in_tmp("f"), "old");
    TRUE_(!io_exists(in_tmp("f.tmp")));
    io_writer_abort(&w);
}

/* Somebody's private file became readable to all when it was rewritten. */
TEST(replacement_keeps_the_mode) {
    struct stat s;
    IoWriter w;
    put_file(in_tmp("f"), "old");
    EQ(chmod(in_tmp("f"), 0640), 0);
    OK_(io_writer_open(&w, in_tmp("f"), true, TERR));
    OK_(io_writer_close(&w, TERR));
    EQ(stat(in_tmp("f"), &s), 0);
    EQ(s.st_mode & 0777, 0640);
    EQ(s.st_size, 0);
}

TEST(atomic_refuses_what_is_not_a_file) {
    IoWriter w;
    FAILS(ERR_IO, io_writer_open(&w, "/dev/null", true, TERR));
    FAILS(ERR_IO, io_writer_open(&w, test_tmpdir(), true, TERR));
    FAILS(ERR_NOT_FOUND, io_writer_open(&w, in_tmp("no/folder"), true, TERR));
    io_writer_abort(&w);
}

/* Sizes around the buffer of 1 MB, in pieces that do and do not divide it. */
TEST(large_writes) {
    static const size_t PIECES[] = {1 << 20, (1 << 20) - 1, (1 << 20) + 1, 3 << 20, 777777, 0, 5};
    uint8_t *data = mem_new_n(uint8_t, 3 << 20);
    for (size_t i = 0; i < 3 << 20; i++) data[i] = (uint8_t)(i * 31 >> 3);
    IoWriter w;
    IoMap m;
    size_t at = 0;
    OK_(io_writer_open(&w, in_tmp("f"), true, TERR));
    for (size_t i = 0; i < COUNT_OF(PIECES); i++) {
        OK_(io_write(&w, data, PIECES[i], TERR));
        at += PIECES[i];
        EQ(w.offset, at);
    }
    OK_(io_writer_close(&w, TERR));
    OK_(io_map(&m, in_tmp("f"), TERR));
    EQ(m.n, at);
    at = 0;
    for (size_t i = 0; i < COUNT_OF(PIECES); at += PIECES[i++]) EQ_MEM(m.p + at, data, PIECES[i]);
    io_unmap(&m);
    mem_free(data);
}

TEST(zeros) {
    IoWriter w;
    IoMap m;
    OK_(io_writer_open(&w, in_tmp("f"), false, TERR));
    OK_(io_write(&w, "a", 1, TERR));
    OK_(io_write_zeros(&w, 10000, TERR));
    OK_(io_write_zeros(&w, 0, TERR));
    OK_(io_write(&w, "b", 1, TERR));
    EQ(w.offset, 10002);
    OK_(io_writer_close(&w, TERR));
    OK_(io_map(&m, in_tmp("f"), TERR));
    EQ(m.n, 10002);
    for (size_t i = 1; i <= 10000; i++) EQ(m.p[i], 0);
    EQ(m.p[10001], 'b');
    io_unmap(&m);
}

TEST(resumed_log) {
    IoWriter w;
    put_file(in_tmp("log"), "line one\nline two\nhalf a li");
    OK_(io_writer_open_at(&w, in_tmp("log"), 18, TERR));
    EQ(w.offset, 18);
    OK_(io_write(&w, "next\n", 5, TERR));
    EQ(w.offset, 23);
    OK_(io_writer_close(&w, TERR));
    check_file(in_tmp("log"), "line one\nline two\nnext\n");
    FAILS(ERR_FORMAT, io_writer_open_at(&w, in_tmp("log"), 24, TERR));
    TRUE_(strstr(test_err.msg, "23") && strstr(test_err.msg, "24"));
    check_file(in_tmp("log"), "line one\nline two\nnext\n");
    FAILS(ERR_NOT_FOUND, io_writer_open_at(&w, in_tmp("absent"), 0, TERR));
}

TEST(disk_full) {
    IoWriter w;
    if (!io_exists("/dev/full")) SKIP("no /dev/full");
    OK_(io_writer_open(&w, "/dev/full", false, TERR));
    OK_(io_write(&w, "x", 1, TERR));
    FAILS(ERR_IO, io_writer_flush(&w, false, TERR));
    EQ_STR(test_err.msg, "/dev/full: No space left on device");
    FAILS(ERR_IO, io_write(&w, "x", 1, TERR)); /* it stays failed */
    FAILS(ERR_IO, io_writer_close(&w, TERR));
}

/* The cause stands at the end of the message: a long path must not push it out. */
TEST(long_path_keeps_the_cause) {
    char path[1000];
    IoMap m;
    memset(path, 'd', sizeof path);
    for (size_t i = 0; i < sizeof path; i += 100) path[i] = '/';
    path[999] = '\0';
    FAILS(ERR_NOT_FOUND, io_map(&m, path, TERR));
    TRUE_(str_ends_with(test_err.msg, ": No such file or directory"));
}

TEST(folders) {
    OK_(io_mkdirs(in_tmp("a/b//c/"), TERR));
    TRUE_(io_exists(in_tmp("a/b/c")));
    OK_(io_mkdirs(in_tmp("a/b/c"), TERR));
    OK_(io_mkdirs("/", TERR));
    put_file(in_tmp("file"), "");
    FAILS(ERR_IO, io_mkdirs(in_tmp("file"), TERR));
    TRUE_(strstr(test_err.msg, "not a folder") != NULL);
    FAILS(ERR_IO, io_mkdirs(in_tmp("file/x"), TERR));
    FAILS(ERR_NOT_FOUND, io_mkdirs("", TERR));
}

TEST(remove_and_size) {
    uint64_t n = 9;
    put_file(in_tmp("f"), "1234");
    OK_(io_file_size(&n, in_tmp("f"), TERR));
    EQ(n, 4);
    OK_(io_remove(in_tmp("f"), TERR));
    FAILS(ERR_NOT_FOUND, io_remove(in_tmp("f"), TERR));
    FAILS(ERR_NOT_FOUND, io_file_size(&n, in_tmp("f"), TERR));
    FAILS(ERR_IO, io_file_size(&n, test_tmpdir(), TERR));
    EQ(n, 4);
    TRUE_(!io_exists(in_tmp("f")));
}

TEST(free_space) {
    uint64_t here = 0, there = 0;
    OK_(io_disk_free(&here, test_tmpdir(), TERR));
    OK_(io_disk_free(&there, in_tmp("not_yet.gguf"), TERR));
    TRUE_(here > 0 && there > 0);
    OK_(io_disk_free(&there, "not_yet.gguf", TERR)); /* no folder in the name: this one */
    FAILS(ERR_NOT_FOUND, io_disk_free(&there, in_tmp("no/folder"), TERR));
}

/* A run as root replaced the link /dev/stdout itself. */
TEST(atomic_writes_behind_a_link) {
    struct stat s;
    IoWriter w;
    put_file(in_tmp("real"), "old");
    EQ(symlink("real", in_tmp("link")), 0);
    OK_(io_writer_open(&w, in_tmp("link"), true, TERR));
    OK_(io_write(&w, "new", 3, TERR));
    OK_(io_writer_close(&w, TERR));
    check_file(in_tmp("real"), "new");
    EQ(lstat(in_tmp("link"), &s), 0);
    TRUE_(S_ISLNK(s.st_mode));
}

TEST(lock_is_held_by_one) {
    int a = -1, b = -1;
    OK_(io_lock(&a, in_tmp("lock"), TERR));
    FAILS(ERR_FULL, io_lock(&b, in_tmp("lock"), TERR));
    EQ(b, -1);
    io_unlock(a);
    OK_(io_lock(&b, in_tmp("lock"), TERR));
    io_unlock(b);
}
