/* SPDX-License-Identifier: Apache-2.0
 * Opening a file of tables, transactions, and what SQLite's results mean in our words.
 *
 * The file is made by us, before SQLite sees it, because its mode must be 0600 from the first moment; the files that
 * SQLite puts beside it take over its mode. One that exists is never opened by us: closing it again would take
 * away the locks that another connection of this process has on it (they belong to process and file). */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/log.h"
#include "store/internal.h"

typedef struct ResultRow {
    int rc; /* primary result code */
    Status st;
    const char *words; /* NULL: SQLite's */
} ResultRow;

static const ResultRow results[] = {
    {SQLITE_NOMEM, ERR_NOMEM, "out of memory"},
    {SQLITE_FULL, ERR_IO, "the disk is full"},
    {SQLITE_READONLY, ERR_IO, "it or its folder cannot be written"},
    {SQLITE_BUSY, ERR_IO, "another process holds it"},
    {SQLITE_LOCKED, ERR_IO, "another statement holds it"},
    {SQLITE_PERM, ERR_IO, "no permission"},
    {SQLITE_PROTOCOL, ERR_IO, "its lock cannot be had"},
    {SQLITE_CORRUPT, ERR_FORMAT, "it is damaged"},
    {SQLITE_NOTADB, ERR_FORMAT, "it is not a SQLite file"},
    {SQLITE_CONSTRAINT, ERR_ARG, NULL},
    {SQLITE_TOOBIG, ERR_ARG, "a value is too long"},
    {SQLITE_MISMATCH, ERR_ARG, NULL},
};

static Status fail_io(const Store *s, int rc, Err *e) {
    int why = s->db ? sqlite3_system_errno(s->db) : 0;
    const char *words = (rc & 0xff) == SQLITE_CANTOPEN ? "cannot be opened" : "i/o failed";
    return err_set(e, ERR_IO, "%s: %s: %s", s->name, words,
                   why ? strerror(why) : sqlite3_errstr(rc));
}

Status store__fail(const Store *s, int rc, Err *e) {
    int primary = rc & 0xff;
    if (primary == SQLITE_IOERR && rc == SQLITE_IOERR_NOMEM) primary = SQLITE_NOMEM;
    if (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN) return fail_io(s, rc, e);
    for (size_t i = 0; i < COUNT_OF(results); i++) {
        const ResultRow *r = &results[i];
        if (r->rc != primary) continue;
        return err_set(e, r->st, "%s: %s", s->name, r->words ? r->words : sqlite3_errmsg(s->db));
    }
    return err_set(e, ERR_INTERNAL, "%s: sqlite: %s", s->name,
                   s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
}

/* ---- opening ---- */

/* What root makes in somebody's folder is his: a server that gave its rights up could not read it otherwise. */
static void give_to_owner(int fd, const char *path) {
    struct stat st;
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    if (geteuid() != 0 || !slash || (size_t)(slash - path) + 1 >= sizeof folder) return;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    if (stat(folder, &st) == 0 && st.st_uid != 0 && fchown(fd, st.st_uid, st.st_gid) != 0)
        log_warn("%s: stays root's", path);
}

/* The file with mode 0600, if there is none. */
static Status make_file(const char *path, Err *e) {
    struct stat st;
    if (stat(path, &st) == 0) {
        if (S_ISREG(st.st_mode)) return OK;
        return err_set(e, ERR_IO, "%s: not a regular file", path);
    }
    errno = EIO;
    int fd = fault_hit(FAULT_IO) ? -1 : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST) return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (fd >= 0) {
        give_to_owner(fd, path);
        close(fd);
    }
    return OK;
}

/* What a file that is not ours could ask SQLite to do is switched off. */
static int harden(sqlite3 *db) {
    sqlite3_extended_result_codes(db, 1);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, STORE_MAX_VALUE);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    int rc = sqlite3_busy_timeout(db, STORE_BUSY_MS);
    static const int off[] = {SQLITE_DBCONFIG_TRUSTED_SCHEMA, SQLITE_DBCONFIG_ENABLE_TRIGGER,
                              SQLITE_DBCONFIG_ENABLE_VIEW};
    for (size_t i = 0; i < COUNT_OF(off) && rc == SQLITE_OK; i++)
        rc = sqlite3_db_config(db, off[i], 0, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    return rc;
}

/* SQLite opens read-only by itself where it must. Reading alone is asked for by query_only and not by how the file is
 * opened: a connection that cannot write cannot repair what a killed process left either. */
static Status open_db(Store *s, const char *path, Err *e) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    int rc = sqlite3_open_v2(path ? path : ":memory:", &s->db, flags, NULL);
    if (rc == SQLITE_OK) rc = harden(s->db);
    if (rc == SQLITE_OK && s->read_only)
        rc = sqlite3_exec(s->db, "PRAGMA query_only = ON", NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : store__fail(s, rc, e);
}

static Status open_new(Store **out, const char *path, const StoreSchema *schema, bool read_only,
                       Err *e) {
    Store *s = mem_new(Store);
    if (!s) return err_set(e, ERR_NOMEM, "%s store", schema->what);
    *s = (Store){.what = schema->what, .read_only = read_only};
    const char *name = path ? path : schema->what;
    s->name = mem_dup(name, strlen(name));
    Status st = s->name ? open_db(s, path, e) : err_set(e, ERR_NOMEM, "%s store", schema->what);
    if (st == OK) st = store__check_schema(s, schema, e);
    if (st != OK) {
        store_close(s);
        return st;
    }
    *out = s;
    return OK;
}

Status store_open(Store **out, const char *path, const StoreSchema *s, Err *e) {
    TRY(store__init(e));
    if (path) TRY(make_file(path, e));
    return open_new(out, path, s, false, e);
}

Status store_open_read(Store **out, const char *path, const StoreSchema *s, Err *e) {
    TRY(store__init(e));
    if (!io_exists(path)) return err_set(e, ERR_NOT_FOUND, "%s: does not exist", path);
    return open_new(out, path, s, true, e);
}

void store_close(Store *s) {
    if (!s) return;
    sqlite3_close_v2(s->db); /* NULL is fine */
    mem_free(s->name);
    mem_free(s);
}

/* ---- whole statements ---- */

Status store_exec(Store *s, const char *sql, Err *e) {
    int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? OK : store__fail(s, rc, e);
}

/* IMMEDIATE: the one lock that can be waited for is taken at the start; a transaction that first reads could not
 * wait for it later. */
Status store_begin(Store *s, Err *e) { return store_exec(s, "BEGIN IMMEDIATE", e); }

Status store_commit(Store *s, Err *e) {
    Status st = store_exec(s, "COMMIT", e);
    if (st != OK) store_rollback(s);
    return st;
}

void store_rollback(Store *s) {
    if (!sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

int64_t store_changes(const Store *s) { return sqlite3_changes64(s->db); }

/* ---- the folder ---- */

Status store_make_dir(const char *path, Err *e) {
    if (io_exists(path)) return OK;
    StrBuf up = {0};
    const char *slash = strrchr(path, '/');
    if (slash && slash > path) sb_put(&up, path, (size_t)(slash - path));
    Status st = sb_check(&up, e);
    if (st == OK && up.n > 0) st = io_mkdirs(sb_str(&up), e);
    sb_deinit(&up);
    if (st != OK) return st;
    errno = EIO;
    if ((fault_hit(FAULT_IO) || mkdir(path, 0700) != 0) && errno != EEXIST)
        return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    return OK;
}
