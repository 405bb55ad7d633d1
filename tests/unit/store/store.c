/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/str.h"
#include "test.h"

static const char *const one_step[] = {"CREATE TABLE t (a INTEGER UNIQUE, b TEXT, c BLOB)"};
static const char *const two_steps[] = {"CREATE TABLE t (a INTEGER UNIQUE, b TEXT, c BLOB)",
                                        "ALTER TABLE t ADD COLUMN d TEXT; UPDATE t SET d = 'new'"};
static const char *const bad_steps[] = {"CREATE TABLE t (a INTEGER UNIQUE, b TEXT, c BLOB)",
                                        "CREATE TABLE u (x); CREATE TABLE t (a)"};

static const StoreSchema v1 = {"things", 0x54455354, one_step, 1};
static const StoreSchema v2 = {"things", 0x54455354, two_steps, 2};
static const StoreSchema bad = {"things", 0x54455354, bad_steps, 2};
static const StoreSchema other = {"others", 0x4f544852, one_step, 1};

static char path_buf[256];

static const char *path_of(const char *name) {
    snprintf(path_buf, sizeof path_buf, "%s/%s", test_tmpdir(), name);
    return path_buf;
}

static int64_t number(Store *s, const char *sql) {
    StoreStmt *q = NULL;
    bool row = false;
    OK_(store_prepare(&q, s, sql, TERR));
    OK_(store_step(&row, q, TERR));
    int64_t v = row ? store_int(q, 0) : -1;
    store_stmt_free(q);
    return v;
}

static int mode_of(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int)(st.st_mode & 0777) : -1;
}

TEST(a_file_is_private_and_keeps_what_was_committed) {
    Store *s = NULL;
    StrBuf wal = {0};
    const char *path = path_of("a.db");
    OK_(store_open(&s, path, &v1, TERR));
    OK_(store_exec(s, "INSERT INTO t VALUES (1, 'x', NULL)", TERR));
    sb_printf(&wal, "%s-wal", path);
    EQ(mode_of(path), 0600);
    EQ(mode_of(sb_str(&wal)), 0600); /* write-ahead mode */
    EQ(number(s, "PRAGMA synchronous"), 2);
    store_close(s);
    OK_(store_open(&s, path, &v1, TERR));
    EQ(number(s, "SELECT count(*) FROM t"), 1);
    store_close(s);
    sb_deinit(&wal);
}

TEST(values_of_each_type) {
    Store *s = NULL;
    StoreStmt *q = NULL;
    bool row = true;
    OK_(store_open(&s, NULL, &v1, TERR));
    OK_(store_prepare(&q, s, "INSERT INTO t VALUES (?1, ?2, ?3)", TERR));
    store_bind_int(q, 1, INT64_MIN);
    store_bind_text(q, 2, (Slice){"a\0b", 3});
    store_bind_blob(q, 3, "\0\xff", 2);
    OK_(store_run(q, TERR));
    EQ(store_changes(s), 1);
    store_bind_int(q, 1, 2); /* the others are NULL again */
    store_bind_text(q, 2, (Slice){NULL, 0});
    OK_(store_run(q, TERR));
    store_stmt_free(q);

    OK_(store_prepare(&q, s, "SELECT a, b, c FROM t ORDER BY a", TERR));
    OK_(store_step(&row, q, TERR));
    TRUE_(row);
    TRUE_(store_int(q, 0) == INT64_MIN);
    EQ(store_text(q, 1).n, 3);
    EQ_MEM(store_text(q, 1).p, "a\0b", 3);
    EQ(store_blob(q, 2).n, 2);
    EQ(store_int(q, 1), 0); /* of another type: nothing */
    EQ(store_text(q, 0).n, 0);
    EQ(store_blob(q, 1).n, 0);
    EQ(store_text(q, 99).n, 0);
    OK_(store_step(&row, q, TERR));
    FALSE_(store_is_null(q, 1)); /* an empty text is no NULL */
    EQ(store_text(q, 1).n, 0);
    TRUE_(store_is_null(q, 2));
    OK_(store_step(&row, q, TERR));
    FALSE_(row);
    store_reset(q);
    OK_(store_step(&row, q, TERR));
    TRUE_(row);
    store_stmt_free(q);
    store_stmt_free(NULL);
    store_close(s);
    store_close(NULL);
}

TEST(a_failed_binding_is_told_by_the_step) {
    Store *s = NULL;
    StoreStmt *q = NULL;
    bool row = false;
    OK_(store_open(&s, NULL, &v1, TERR));
    OK_(store_prepare(&q, s, "SELECT ?1", TERR));
    store_bind_int(q, 2, 5);
    FAILS(ERR_INTERNAL, store_step(&row, q, TERR));
    store_reset(q);
    store_bind_int(q, 1, 5);
    OK_(store_step(&row, q, TERR));
    EQ(store_int(q, 0), 5);
    store_reset(q);
    static char huge[17 << 20];
    store_bind_text(q, 1, (Slice){huge, sizeof huge});
    FAILS(ERR_ARG, store_step(&row, q, TERR));
    TRUE_(strstr(test_err.msg, "too long") != NULL);
    store_stmt_free(q);
    FAILS(ERR_INTERNAL, store_prepare(&q, s, "SELECT nonsense FROM nowhere", TERR));
    TRUE_(strstr(test_err.msg, "nowhere") != NULL);
    store_close(s);
}

TEST(a_constraint_is_an_argument_and_a_transaction_ends) {
    Store *s = NULL;
    OK_(store_open(&s, NULL, &v1, TERR));
    OK_(store_exec(s, "INSERT INTO t VALUES (1, '', '')", TERR));
    FAILS(ERR_ARG, store_exec(s, "INSERT INTO t VALUES (1, '', '')", TERR));
    OK_(store_begin(s, TERR));
    OK_(store_exec(s, "INSERT INTO t VALUES (2, '', '')", TERR));
    store_rollback(s);
    store_rollback(s);
    EQ(number(s, "SELECT count(*) FROM t"), 1);
    OK_(store_begin(s, TERR));
    OK_(store_exec(s, "INSERT INTO t VALUES (2, '', '')", TERR));
    OK_(store_commit(s, TERR));
    EQ(number(s, "SELECT count(*) FROM t"), 2);
    store_close(s);
}

TEST(migrations_run_once_and_whole) {
    Store *s = NULL;
    const char *path = path_of("m.db");
    OK_(store_open(&s, path, &v1, TERR));
    OK_(store_exec(s, "INSERT INTO t VALUES (1, 'x', NULL)", TERR));
    store_close(s);
    FAILS(ERR_INTERNAL, store_open(&s, path, &bad, TERR)); /* its second statement fails */
    FAILS(ERR_FORMAT, store_open_read(&s, path, &v2, TERR));
    for (int i = 0; i < 2; i++) {
        OK_(store_open(&s, path, &v2, TERR));
        EQ(number(s, "PRAGMA user_version"), 2);
        EQ(number(s, "SELECT count(*) FROM t WHERE d = 'new'"), 1);
        EQ(number(s, "SELECT count(*) FROM sqlite_schema WHERE name = 'u'"), 0);
        store_close(s);
    }
    FAILS(ERR_FORMAT, store_open(&s, path, &v1, TERR));
    TRUE_(strstr(test_err.msg, "later") != NULL);
    FAILS(ERR_FORMAT, store_open(&s, path, &other, TERR));
    TRUE_(strstr(test_err.msg, "not a file of others") != NULL);
}

static StrBuf slurp(const char *path) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 1 << 20, TERR));
    return b;
}

static void spill(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    TRUE_(f && fwrite(p, 1, n, f) == n && fclose(f) == 0);
}

TEST(a_file_of_somebody_else_is_not_touched) {
    Store *s = NULL;
    sqlite3 *db = NULL;
    const char *path = path_of("foreign.db");
    EQ(sqlite3_open(path, &db), SQLITE_OK);
    EQ(sqlite3_exec(db, "CREATE TABLE theirs (x)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    StrBuf before = slurp(path);
    FAILS(ERR_FORMAT, store_open(&s, path, &v1, TERR));
    FAILS(ERR_FORMAT, store_open_read(&s, path, &v1, TERR));
    StrBuf after = slurp(path);
    EQ(before.n, after.n);
    EQ_MEM(before.p, after.p, before.n);
    sb_deinit(&before);
    sb_deinit(&after);
}

TEST(what_cannot_be_opened_says_why) {
    Store *s = NULL;
    const char *path = path_of("text.db");
    static const char text[4096] = "this is not a table, but long enough to be read as one";
    spill(path, text, sizeof text);
    FAILS(ERR_FORMAT, store_open(&s, path, &v1, TERR));
    TRUE_(strstr(test_err.msg, "text.db") && strstr(test_err.msg, "not a SQLite file"));
    FAILS(ERR_NOT_FOUND, store_open_read(&s, path_of("none.db"), &v1, TERR));
    FALSE_(io_exists(path_of("none.db")));
    FAILS(ERR_IO, store_open(&s, path_of("no/such/folder.db"), &v1, TERR));
    TRUE_(strstr(test_err.msg, "folder.db: No such file") != NULL);
    FAILS(ERR_IO, store_open(&s, test_tmpdir(), &v1, TERR));
    FAILS(ERR_IO, store_open(&s, "/dev/full", &v1, TERR));
    FAILS(ERR_IO, store_open(&s, "/proc/ingot.db", &v1, TERR));
}

TEST(a_file_for_reading_alone_is_not_written) {
    Store *s = NULL;
    const char *path = path_of("r.db");
    OK_(store_open(&s, path, &v1, TERR));
    store_close(s);
    OK_(store_open_read(&s, path, &v1, TERR));
    EQ(number(s, "SELECT count(*) FROM t"), 0);
    FAILS(ERR_IO, store_exec(s, "INSERT INTO t VALUES (1, '', '')", TERR));
    TRUE_(strstr(test_err.msg, "cannot be written") != NULL);
    store_close(s);
}

TEST(a_full_disk_and_a_lock_have_words_of_their_own) {
    Store *a = NULL, *b = NULL;
    const char *path = path_of("f.db");
    OK_(store_open(&a, path, &v1, TERR));
    OK_(store_open(&b, path, &v1, TERR));
    OK_(store_exec(b, "PRAGMA busy_timeout = 20", TERR));
    OK_(store_begin(a, TERR));
    FAILS(ERR_IO, store_begin(b, TERR));
    TRUE_(strstr(test_err.msg, "another process holds it") != NULL);
    EQ(number(b, "SELECT count(*) FROM t"), 0); /* readers do not wait for writers */
    store_rollback(a);
    OK_(store_begin(b, TERR));
    store_rollback(b);
    OK_(store_exec(a, "PRAGMA max_page_count = 3", TERR));
    OK_(store_begin(a, TERR));
    FAILS(ERR_IO, store_exec(a, "INSERT INTO t VALUES (1, '', zeroblob(100000))", TERR));
    TRUE_(strstr(test_err.msg, "the disk is full") != NULL);
    store_rollback(a);
    EQ(number(a, "SELECT count(*) FROM t"), 0);
    store_close(a);
    store_close(b);
}

/* Every page is damaged in turn: an error or other content, never a crash, and not silently an empty file. */
TEST(a_damaged_file_is_refused_or_read) {
    Store *s = NULL;
    const char *path = path_of("d.db");
    OK_(store_open(&s, path, &v1, TERR));
    OK_(store_begin(s, TERR));
    for (int i = 0; i < 200; i++) {
        char sql[128];
        snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, 'some text of row %d', zeroblob(100))",
                 i, i);
        OK_(store_exec(s, sql, TERR));
    }
    OK_(store_commit(s, TERR));
    store_close(s);
    StrBuf good = slurp(path);
    int n_refused = 0, n_opened = 0;
    for (size_t at = 0; at < good.n; at += at < 512 ? 5 : 97) {
        char *copy = mem_dup(good.p, good.n);
        memset(copy + at, copy[at] == (char)0xa5 ? 0x5a : 0xa5, MIN((size_t)4, good.n - at));
        spill(path, copy, good.n);
        mem_free(copy);
        Err e = {0};
        Status st = store_open(&s, path, &v1, &e);
        if (st != OK) {
            n_refused++;
            TRUE_(e.msg[0] != 0);
            continue;
        }
        n_opened++;
        StoreStmt *q = NULL;
        bool row = true;
        if (store_prepare(&q, s, "SELECT a, b, c FROM t ORDER BY a", NULL) == OK)
            while (row && store_step(&row, q, NULL) == OK)
                row = row && store_text(q, 1).n < 1000000;
        store_stmt_free(q);
        store_close(s);
    }
    for (size_t cut = 0; cut < good.n; cut += 1500) {
        spill(path, good.p, cut);
        Status st = store_open(&s, path, &v1, NULL);
        if (st == OK) store_close(s);
        if (cut > 0) NE(st, OK);
    }
    if (n_refused < 20 || n_opened < 20) FAIL("%d refused, %d opened", n_refused, n_opened);
    sb_deinit(&good);
}

TEST(a_schema_that_was_tampered_with_cannot_run_code) {
    Store *s = NULL;
    sqlite3 *db = NULL;
    const char *path = path_of("t.db");
    OK_(store_open(&s, path, &v1, TERR));
    store_close(s);
    EQ(sqlite3_open(path, &db), SQLITE_OK);
    EQ(sqlite3_exec(db,
                    "CREATE TABLE log (x); CREATE TRIGGER spy AFTER INSERT ON t BEGIN INSERT INTO "
                    "log VALUES (new.b); END",
                    NULL, NULL, NULL),
       SQLITE_OK);
    sqlite3_close(db);
    OK_(store_open(&s, path, &v1, TERR));
    OK_(store_exec(s, "INSERT INTO t VALUES (1, 'secret', '')", TERR));
    EQ(number(s, "SELECT count(*) FROM log"), 0);
    FAILS(ERR_INTERNAL, store_exec(s, "SELECT load_extension('x')", TERR));
    FAILS(ERR_INTERNAL, store_exec(s, "ATTACH '/tmp/x.db' AS x", TERR));
    store_close(s);
}

TEST(folders_are_private) {
    const char *path = path_of("a/b/state");
    OK_(store_make_dir(path, TERR));
    EQ(mode_of(path), 0700);
    OK_(store_make_dir(path, TERR));
    FAILS(ERR_NOT_FOUND, store_make_dir("/proc/ingot/state", TERR));
}
