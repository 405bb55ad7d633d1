/* SPDX-License-Identifier: Apache-2.0
 * Each case gives rights up in a process of its own, which says by its exit status what went wrong first. */
#include "base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "test.h"

/* The exit status of fn in a child. */
static int in_child(int (*fn)(void)) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) _exit(fn());
    int how = 0;
    waitpid(pid, &how, 0);
    return WIFEXITED(how) ? WEXITSTATUS(how) : 200 + WTERMSIG(how);
}

static char inside[600], outside[600];

static void make_folders(void) {
    snprintf(inside, sizeof inside, "%s/in", test_tmpdir());
    snprintf(outside, sizeof outside, "%s/out", test_tmpdir());
    EQ(mkdir(inside, 0700), 0);
    EQ(mkdir(outside, 0777), 0);
    chmod(outside, 0777);
}

static const char *in(const char *folder, const char *name) {
    static char buf[2][700];
    static int at;
    char *p = buf[at++ % 2];
    snprintf(p, 700, "%s/%s", folder, name);
    return p;
}

static bool can_make(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) close(fd);
    return fd >= 0;
}

/* ---- files ---- */

static int confined_files(void) {
    const char *folder[] = {inside};
    ConfineOpts o = {.folder = folder, .n_folders = 1, .files = true};
    Confined c;
    if (confine_apply(&c, &o, NULL) != OK) return 1;
    if (!c.no_new_privs || !c.no_dumps || prctl(PR_GET_DUMPABLE) != 0) return 2;
    if (c.files == 0) return 77;
    if (!can_make(in(inside, "a")) || rename(in(inside, "a"), in(inside, "b")) != 0) return 3;
    if (mkdir(in(inside, "d"), 0700) != 0 || unlink(in(inside, "b")) != 0) return 4;
    if (can_make(in(outside, "a")) || errno != EACCES) return 5;
    if (mkdir(in(outside, "d"), 0700) == 0) return 6;
    if (open(in(outside, "old"), O_WRONLY) >= 0 || unlink(in(outside, "old")) == 0) return 7;
    if (rename(in(outside, "old"), in(outside, "older")) == 0) return 8;
    if (symlink("/etc", in(outside, "l")) == 0) return 9;
    if (symlink(outside, in(inside, "l")) != 0 || can_make(in(inside, "l/x"))) return 10;
    int fd = open(in(outside, "old"), O_RDONLY); /* reading is as before */
    if (fd < 0) return 11;
    char *argv[] = {NULL};
    execv("/bin/true", argv);
    if (errno != EACCES) return 12;
    return c.files >= 3 && truncate(in(outside, "old"), 0) == 0 ? 13 : 0;
}

TEST(files_are_written_below_the_folders_alone) {
    make_folders();
    TRUE_(can_make(in(outside, "old")));
    int rc = in_child(confined_files);
    if (rc == 77) SKIP("SKIP this kernel has no Landlock");
    EQ(rc, 0);
}

static int no_folders(void) {
    Confined c;
    if (confine_apply(&c, &(ConfineOpts){.files = true}, NULL) != OK) return 1;
    return c.files > 0 && can_make(in(inside, "x")) ? 2 : 0;
}

static int files_left_alone(void) {
    Confined c;
    if (confine_apply(&c, &(ConfineOpts){0}, NULL) != OK) return 1;
    return c.files == 0 && can_make(in(outside, "y")) ? 0 : 2;
}

static int folder_that_is_not(void) {
    const char *folder[] = {"/nonexistent/folder"};
    Confined c;
    Err e = {0};
    Status st =
        confine_apply(&c, &(ConfineOpts){.folder = folder, .n_folders = 1, .files = true}, &e);
    if (c.files == 0 && st == OK) return 0; /* no Landlock: not looked at */
    return st == ERR_IO && strstr(e.msg, "/nonexistent/folder") ? 0 : 2;
}

TEST(no_folder_or_none_that_is_there) {
    make_folders();
    EQ(in_child(no_folders), 0);
    EQ(in_child(files_left_alone), 0);
    EQ(in_child(folder_that_is_not), 0);
}

/* ---- users ---- */

static int another_user(void) {
    ConfineUser u;
    ConfineOpts o = {.files = false};
    Confined c;
    struct stat s;
    if (confine_find_user(&u, "65534:65533", NULL) != OK) return 1;
    if (confine_give_folder(inside, &u, NULL) != OK) return 2;
    o.user = u;
    if (confine_apply(&c, &o, NULL) != OK) return 3;
    if (getuid() != 65534 || geteuid() != 65534 || getegid() != 65533) return 4;
    if (getgroups(0, NULL) != 1 || c.is_root || c.has_caps) return 5;
    if (setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0) return 6;
    if (prctl(PR_CAPBSET_READ, 0) != 0) return 7;
    if (stat(in(inside, "old"), &s) != 0 || s.st_uid != 65534 || s.st_gid != 65533) return 8;
    return can_make(in(inside, "new")) ? 0 : 9;
}

TEST(root_becomes_somebody_for_good) {
    if (geteuid() != 0) SKIP("SKIP not root");
    make_folders();
    chmod(test_tmpdir(), 0755);
    TRUE_(can_make(in(inside, "old")));
    EQ(in_child(another_user), 0);
}

TEST(users_by_name_and_number) {
    ConfineUser u;
    Err e = {0};
    OK_(confine_find_user(&u, "nobody", TERR));
    EQ(u.uid, 65534);
    FALSE_(u.only_group);
    OK_(confine_find_user(&u, "nobody:12", TERR));
    EQ(u.gid, 12);
    TRUE_(u.only_group);
    FAILS(ERR_NOT_FOUND, confine_find_user(&u, "no such user", &e));
    TRUE_(strstr(e.msg, "no such user") != NULL);
    FAILS(ERR_NOT_FOUND, confine_find_user(&u, "nobody:no such group", NULL));
    FAILS(ERR_NOT_FOUND, confine_find_user(&u, "54321", NULL)); /* has no group */
    FAILS(ERR_ARG, confine_find_user(&u, "root", NULL));
    FAILS(ERR_ARG, confine_find_user(&u, "0:12", NULL));
    FAILS(ERR_ARG, confine_find_user(&u, "nobody:0", NULL));
    FAILS(ERR_ARG, confine_find_user(&u, "", NULL));
    FAILS(ERR_ARG, confine_find_user(&u, ":12", NULL));
    FAILS(ERR_NOT_FOUND, confine_find_user(&u, "4294967295:12", NULL));
}

/* A link to somebody else's file in the folder must not become a present. */
TEST(what_is_not_ours_is_not_given) {
    if (geteuid() != 0) SKIP("SKIP not root");
    ConfineUser u;
    struct stat s;
    Err e = {0};
    make_folders();
    OK_(confine_find_user(&u, "65534:65534", TERR));
    TRUE_(can_make(in(outside, "precious")));
    EQ(symlink(in(outside, "precious"), in(inside, "soft")), 0);
    OK_(confine_give_folder(inside, &u, TERR));
    EQ(stat(in(outside, "precious"), &s), 0);
    EQ(s.st_uid, 0);
    FAILS(ERR_DENIED, confine_give_folder(outside, &u, &e)); /* everybody writes there */
    TRUE_(strstr(e.msg, "out") != NULL);
    EQ(chown(inside, 0, 0), 0);
    EQ(link(in(outside, "precious"), in(inside, "hard")), 0);
    FAILS(ERR_DENIED, confine_give_folder(inside, &u, NULL));
    EQ(stat(in(outside, "precious"), &s), 0);
    EQ(s.st_uid, 0);
    FAILS(ERR_IO, confine_give_folder(in(outside, "precious"), &u, NULL));
    FAILS(ERR_IO, confine_give_folder("/nonexistent/folder", &u, NULL));
}

static int as_nobody(void) {
    Confined c;
    ConfineOpts o = {0};
    if (geteuid() == 0 && setuid(65534) != 0) return 1;
    if (confine_find_user(&o.user, "65534:65534", NULL) != OK) return 2;
    return confine_apply(&c, &o, NULL) == ERR_DENIED ? 0 : 3;
}

TEST(only_root_becomes_somebody) { EQ(in_child(as_nobody), 0); }
