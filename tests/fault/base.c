/* SPDX-License-Identifier: Apache-2.0
 * Fail the n-th allocation, then the n-th I/O call, for every n that a job has. A job that meets
 * its fault must return a failure that says why, hold nothing afterwards and keep its promises
 * about files; one beyond its last call must succeed. */
#include "base/fault.h"

#include <dirent.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/opt.h"
#include "base/team.h"
#include "test.h"

typedef Status (*Job)(Err *e);

/* Path of a name in this case's folder; four calls stay valid. */
static const char *in_tmp(const char *name) {
    static char buf[4][512];
    static int at;
    char *p = buf[at++ % 4];
    snprintf(p, 512, "%s/%s", test_tmpdir(), name);
    return p;
}

static int n_open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

/* Run job with the n-th call failing; true if the fault went off. */
static bool run_once(FaultKind kind, uint64_t n, Job job) {
    size_t live = mem_live_bytes();
    int files = n_open_files();
    Err e = {0};
    fault_arm(kind, n);
    Status st = job(&e);
    fault_arm(kind, 0);
    bool fired = fault_fired(kind);
    if (fired && st == OK) FAIL("call %d failed and nobody noticed", (int)n);
    if (!fired && st != OK) FAIL("failed without a fault: %s", e.msg);
    if (st != OK) {
        EQ(e.code, st);
        TRUE_(e.msg[0] != '\0');
    }
    EQ(mem_live_bytes(), live);
    EQ(n_open_files(), files);
    return fired;
}

/* All n from 1 until one is past the end; `after` checks promises each time. */
static void sweep_kind(FaultKind kind, uint64_t at_least, Job job, void (*after)(bool failed)) {
    for (uint64_t n = 1; n < 10000; n++) {
        bool fired = run_once(kind, n, job);
        if (after) after(fired);
        if (fired) continue;
        TRUE_(n > at_least); /* the sweep swept something */
        return;
    }
    FAIL("no end after 10000 calls");
}

static void sweep(uint64_t n_alloc, uint64_t n_io, Job job, void (*after)(bool failed)) {
    sweep_kind(FAULT_ALLOC, n_alloc, job, after);
    sweep_kind(FAULT_IO, n_io, job, after);
}

static void put_file(const char *path, const char *text) {
    IoWriter w;
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
}

static void check_file(const char *path, const char *want) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 22, TERR));
    TRUE_(strcmp(sb_str(&b), want) == 0);
    sb_deinit(&b);
}

/* ---- writers ---- */

static Status write_target(Err *e, bool atomic) {
    IoWriter w;
    TRY(io_writer_open(&w, in_tmp("target"), atomic, e));
    Status st = io_write(&w, "new ", 4, e);
    if (st == OK) st = io_write_zeros(&w, 3 << 19, e); /* more than the buffer */
    if (st == OK) st = io_writer_flush(&w, true, e);
    if (st == OK) st = io_write(&w, "end", 3, e);
    if (st == OK) return io_writer_close(&w, e);
    io_writer_abort(&w);
    return st;
}

static Status write_atomic(Err *e) { return write_target(e, true); }
static Status write_plain(Err *e) { return write_target(e, false); }

/* The old file or the new one, and no temporary file. */
static void check_target(bool failed) {
    IoMap m;
    TRUE_(!io_exists(in_tmp("target.tmp")));
    OK_(io_map(&m, in_tmp("target"), TERR));
    bool is_new = m.n == 7 + (3 << 19) && memcmp(m.p, "new ", 4) == 0;
    TRUE_(is_new || (failed && m.n == 3 && memcmp(m.p, "old", 3) == 0));
    io_unmap(&m);
    put_file(in_tmp("target"), "old");
}

TEST(atomic_writer) {
    put_file(in_tmp("target"), "old");
    sweep(3, 9, write_atomic, check_target);
}

TEST(plain_writer) { sweep(2, 4, write_plain, NULL); }

static Status resume_log(Err *e) {
    IoWriter w;
    TRY(io_writer_open_at(&w, in_tmp("log"), 5, e));
    Status st = io_write(&w, "more\n", 5, e);
    if (st == OK) return io_writer_close(&w, e);
    io_writer_abort(&w);
    return st;
}

TEST(resumed_log) {
    put_file(in_tmp("log"), "line\nhalf");
    sweep(2, 5, resume_log, NULL);
    check_file(in_tmp("log"), "line\nmore\n");
}

/* ---- readers and names ---- */

static Status read_and_map(Err *e) {
    StrBuf b = {0};
    IoMap m = {0};
    uint64_t n;
    Status st = io_read_file(&b, in_tmp("f"), 100, e);
    if (st == OK) st = io_map(&m, in_tmp("f"), e);
    if (st == OK) st = io_file_size(&n, in_tmp("f"), e);
    if (st == OK) st = io_disk_free(&n, in_tmp("f"), e);
    if (st == OK) st = io_disk_free(&n, in_tmp("absent"), e);
    io_unmap(&m);
    sb_deinit(&b);
    return st;
}

TEST(reading) {
    put_file(in_tmp("f"), "text");
    sweep(2, 8, read_and_map, NULL);
}

static Status make_and_remove(Err *e) {
    TRY(io_mkdirs(in_tmp("a/b"), e));
    TRY(io_mkdirs(in_tmp("a/b"), e));
    TRY(io_remove(in_tmp("a/b"), e));
    return io_remove(in_tmp("a"), e);
}

TEST(folders) { sweep(2, 6, make_and_remove, NULL); }

/* ---- builders ---- */

static Status build_text(Err *e) {
    StrBuf b = {0};
    for (int i = 0; i < 200; i++) sb_printf(&b, "%d ", i);
    sb_put_quoted(&b, slice_of("\n\n"), 99);
    Status st = sb_check(&b, e);
    if (st == OK && !str_ends_with(sb_str(&b), "199 \\x0a\\x0a")) FAIL("text has a hole");
    sb_deinit(&b);
    return st;
}

static Status fill_arena(Err *e) {
    Arena a;
    arena_init(&a, 512);
    for (size_t i = 0; i < 100; i++) {
        char *p = arena_dup(&a, "0123456789", i % 10);
        if (p) p[0] = 'x';
        if (i % 20 == 0) arena_alloc(&a, 400, 4);
    }
    Status st = arena_ok(&a) ? OK : err_set(e, ERR_NOMEM, "arena");
    arena_deinit(&a);
    return st;
}

TEST(builders) {
    sweep(3, 0, build_text, NULL);
    sweep(8, 0, fill_arena, NULL);
}

/* ---- options ---- */

typedef struct Values {
    int64_t n;
    const char *name;
    OptList items;
} Values;

static const OptSpec SPECS[] = {
    {"n", 'n', OPT_INT, offsetof(Values, n), "3", 0, 100, NULL, NULL, "a number"},
    {"name", 0, OPT_STR, offsetof(Values, name), "default", 0, 0, NULL, NULL, "a name"},
    {"items", 0, OPT_LIST, offsetof(Values, items), NULL, 0, 0, NULL, NULL, "a list"},
};

static Status load_options(Err *e) {
    Values v;
    OptSet *o = NULL;
    OptList pos;
    char *argv[] = {(char[]){"--n=9"}, (char[]){"word"}, (char[]){"--items=z"}};
    TRY(opt_new(&o, SPECS, COUNT_OF(SPECS), &v, e));
    Status st = opt_load_yaml(o, in_tmp("top.yaml"), e);
    if (st == OK) st = opt_parse_args(o, 3, argv, &pos, e);
    if (st == OK && (v.n != 9 || v.items.n != 1 || pos.n != 1)) FAIL("values went missing");
    opt_free(o);
    return st;
}

TEST(options) {
    StrBuf text = {0};
    sb_puts(&text, "include: sub.yaml\nitems: [");
    for (int i = 0; i < 2000; i++) sb_printf(&text, "item%d, ", i);
    sb_puts(&text, "]\nn: 5\n");
    put_file(in_tmp("top.yaml"), sb_str(&text));
    put_file(in_tmp("sub.yaml"), "name: other\nn: 4\n");
    sb_deinit(&text);
    sweep(10, 7, load_options, NULL);
}

static Status help_text(Err *e) {
    StrBuf b = {0};
    opt_format_help(SPECS, COUNT_OF(SPECS), &b);
    Status st = sb_check(&b, e);
    if (st == OK && !strstr(sb_str(&b), "may be repeated")) FAIL("help has a hole");
    sb_deinit(&b);
    return st;
}

TEST(help) { sweep(2, 0, help_text, NULL); }

/* A wrong value is still called wrong when there is no memory to quote it. */
TEST(bad_value_without_memory) {
    Values v;
    OptSet *o = NULL;
    OK_(opt_new(&o, SPECS, COUNT_OF(SPECS), &v, TERR));
    for (uint64_t n = 1; n <= 3; n++) {
        fault_arm(FAULT_ALLOC, n);
        Status st = opt_set(o, n == 2 ? "nn" : "n", "101", TERR);
        fault_arm(FAULT_ALLOC, 0);
        EQ(st, ERR_ARG);
        TRUE_(test_err.msg[0] != '\0');
    }
    opt_free(o);
}

/* ---- threads ---- */

static void no_work(void *ctx, int64_t tile, int worker) { (void)ctx, (void)tile, (void)worker; }

static Status start_team(Err *e) {
    Team *t = NULL;
    TRY(team_new(&t, 4, e));
    team_run(t, 10, no_work, NULL);
    team_free(t);
    return OK;
}

TEST(team) { sweep(2, 3, start_team, NULL); }
