/* SPDX-License-Identifier: Apache-2.0
 * The order matters: Landlock asks for no_new_privs; bounding capabilities can be dropped as long as CAP_SETPCAP is there,
 * groups set as long as the process is root; changing the user makes the process dumpable or not as the system is
 * configured, so that comes last. The system calls that have no function in libc are called by number. */
#include "base/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/str.h"

enum { CAP_MOST = 64 };

/* ---- who ---- */

static bool read_id(unsigned *out, const char *text) {
    uint64_t v;
    if (!str_to_u64(&v, text) || v >= UINT32_MAX) return false;
    *out = (unsigned)v;
    return true;
}

static Status find_group(gid_t *out, const char *name, Err *e) {
    if (read_id(out, name)) return OK;
    const struct group *g = getgrnam(name); /* there is no second thread */
    if (!g) return err_set(e, ERR_NOT_FOUND, "group \"%.60s\" is not known", name);
    *out = g->gr_gid;
    return OK;
}

static Status find_user(ConfineUser *u, const char *name, bool needs_group, Err *e) {
    uid_t id = 0;
    const struct passwd *p = read_id(&id, name) ? getpwuid(id) : getpwnam(name);
    if (p) {
        u->uid = p->pw_uid;
        u->gid = p->pw_gid;
        return OK;
    }
    if (!read_id(&id, name)) return err_set(e, ERR_NOT_FOUND, "user \"%.60s\" is not known", name);
    if (needs_group)
        return err_set(e, ERR_NOT_FOUND, "user %u has no group of its own, name one as %u:GROUP",
                       id, id);
    u->uid = id;
    return OK;
}

Status confine_find_user(ConfineUser *out, const char *spec, Err *e) {
    ConfineUser u = {.given = true};
    size_t n = strcspn(spec, ":");
    if (n == 0 || n >= sizeof u.name)
        return err_set(e, ERR_ARG, "\"%.80s\" is no user, want NAME or NAME:GROUP", spec);
    memcpy(u.name, spec, n);
    u.only_group = spec[n] == ':';
    TRY(find_user(&u, u.name, !u.only_group, e));
    if (u.only_group) TRY(find_group(&u.gid, spec + n + 1, e));
    if (u.uid == 0 || u.gid == 0)
        return err_set(e, ERR_ARG, "\"%.80s\" has the rights of root", spec);
    *out = u;
    return OK;
}

/* ---- giving a folder ---- */

/* Root's or his, and not to be written by anybody else; a file also has no other name. */
static bool may_give(const struct stat *s, const ConfineUser *to) {
    bool owned = s->st_uid == 0 || s->st_uid == to->uid;
    bool shared = (s->st_mode & S_IWOTH) != 0 || ((s->st_mode & S_IWGRP) && s->st_gid != to->gid);
    return owned && (S_ISLNK(s->st_mode) || !shared) && (!S_ISREG(s->st_mode) || s->st_nlink == 1);
}

static Status give_entry(int dir, const char *name, const ConfineUser *to, Err *e);

static Status give_entries(int fd, const ConfineUser *to, Err *e) {
    DIR *d = fdopendir(fd); /* takes fd over */
    Status st = OK;
    if (!d) {
        close(fd);
        return err_set(e, ERR_IO, "a folder cannot be read: %s", strerror(errno));
    }
    for (struct dirent *n; st == OK && (n = readdir(d));) {
        if (strcmp(n->d_name, ".") != 0 && strcmp(n->d_name, "..") != 0)
            st = give_entry(dirfd(d), n->d_name, to, e);
    }
    closedir(d);
    return st;
}

/* A file, or a folder with all that is in it: itself last, so that one that cannot be given whole is not given. */
static Status give_entry(int dir, const char *name, const ConfineUser *to, Err *e) {
    struct stat s;
    if (fstatat(dir, name, &s, AT_SYMLINK_NOFOLLOW) != 0)
        return err_set(e, ERR_IO, "%s: %s", name, strerror(errno));
    if (!may_give(&s, to))
        return err_set(e, ERR_DENIED, "%s: neither root's nor %s's alone", name, to->name);
    if (S_ISDIR(s.st_mode)) {
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) return err_set(e, ERR_IO, "%s: %s", name, strerror(errno));
        TRY(give_entries(fd, to, e));
    }
    if (fchownat(dir, name, to->uid, to->gid, AT_SYMLINK_NOFOLLOW) != 0)
        return err_set(e, ERR_IO, "%s: %s", name, strerror(errno));
    return OK;
}

Status confine_give_folder(const char *path, const ConfineUser *to, Err *e) {
    struct stat s;
    if (lstat(path, &s) != 0) return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    if (s.st_uid == to->uid) return OK;
    Status st = S_ISDIR(s.st_mode) ? give_entry(AT_FDCWD, path, to, e)
                                   : err_set(e, ERR_IO, "%s: not a folder", path);
    if (st != OK) err_in(e, path);
    return st;
}

/* ---- files: Landlock ---- */

/* Rights of later kernels than the headers may be of. */
#define RIGHT_TRUNCATE (UINT64_C(1) << 14) /* version 3 */

static const uint64_t writes = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                               LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                               LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                               LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                               LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;

static uint64_t rights_of(int version) {
    uint64_t r = writes;
    if (version >= 2) r |= LANDLOCK_ACCESS_FS_REFER;
    if (version >= 3) r |= RIGHT_TRUNCATE;
    return r;
}

static Status allow_below(int rules, const char *path, uint64_t rights, Err *e) {
    struct landlock_path_beneath_attr a = {.allowed_access = rights};
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return err_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    a.parent_fd = fd;
    long rc = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &a, 0);
    int why = errno;
    close(fd);
    return rc == 0 ? OK : err_set(e, ERR_IO, "landlock: %s: %s", path, strerror(why));
}

static Status confine_files(int *version, const ConfineOpts *o, Err *e) {
    long v = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    *version = 0;
    if (v <= 0) return OK; /* the kernel has none, or it is switched off */
    uint64_t rights = rights_of((int)v);
    struct landlock_ruleset_attr a = {.handled_access_fs = rights | LANDLOCK_ACCESS_FS_EXECUTE};
    long rules = syscall(SYS_landlock_create_ruleset, &a, sizeof a.handled_access_fs, 0);
    if (rules < 0) return err_set(e, ERR_IO, "landlock: %s", strerror(errno));
    Status st = OK;
    for (int i = 0; st == OK && i < o->n_folders; i++)
        st = allow_below((int)rules, o->folder[i], rights, e);
    if (st == OK && syscall(SYS_landlock_restrict_self, (int)rules, 0) != 0)
        st = err_set(e, ERR_IO, "landlock: %s", strerror(errno));
    close((int)rules);
    if (st == OK) *version = (int)v;
    return st;
}

/* ---- user, capabilities, dumps ---- */

static Status change_user(const ConfineUser *u, Err *e) {
    if (geteuid() != 0) return err_set(e, ERR_DENIED, "only root can become user %s", u->name);
    for (int c = 0; c < CAP_MOST; c++) prctl(PR_CAPBSET_DROP, c, 0, 0, 0); /* those there are */
    int rc = u->only_group ? setgroups(1, &u->gid) : initgroups(u->name, u->gid);
    if (rc != 0 && !u->only_group) rc = setgroups(1, &u->gid); /* a number without a name */
    if (rc != 0 || setresgid(u->gid, u->gid, u->gid) != 0 || setresuid(u->uid, u->uid, u->uid) != 0)
        return err_set(e, ERR_IO, "becoming user %s: %s", u->name, strerror(errno));
    if (setuid(0) == 0 || geteuid() == 0)
        return err_set(e, ERR_INTERNAL, "user %s can become root again", u->name);
    return OK;
}

static bool read_caps(struct __user_cap_data_struct data[2]) {
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    memset(data, 0, 2 * sizeof *data);
    return syscall(SYS_capget, &h, data) == 0;
}

/* A process that is not root has capabilities only if somebody gave it some. */
static Status drop_caps(Err *e) {
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};
    if (geteuid() == 0) return OK;
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &h, none) != 0)
        return err_set(e, ERR_IO, "dropping capabilities: %s", strerror(errno));
    return OK;
}

static bool forbid_dumps(void) {
    struct rlimit none = {0, 0};
    bool ok = setrlimit(RLIMIT_CORE, &none) == 0;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && ok;
}

static void look(Confined *out) {
    struct __user_cap_data_struct caps[2];
    out->is_root = geteuid() == 0;
    out->has_caps = read_caps(caps) && (caps[0].effective | caps[1].effective) != 0;
    out->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
    out->no_dumps = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
}

Status confine_apply(Confined *out, const ConfineOpts *o, Err *e) {
    *out = (Confined){0};
    if (fault_hit(FAULT_IO)) return err_set(e, ERR_IO, "giving up rights: i/o error");
    if (o->user.given) TRY(change_user(&o->user, e));
    TRY(drop_caps(e));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_set(e, ERR_IO, "giving up privileges: %s", strerror(errno));
    if (o->files) TRY(confine_files(&out->files, o, e));
    forbid_dumps();
    look(out);
    return OK;
}
