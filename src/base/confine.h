/* SPDX-License-Identifier: Apache-2.0
 * Giving up rights, once, before the process has a second thread: each of these holds for the thread that asks for it and
 * for those it starts.
 *
 *   user          started as root: another user and group, for good
 *   capabilities  none (a process that stays root keeps them)
 *   privileges    execve cannot give any back
 *   dumps         no core file, no reading of its memory by others of the same user
 *   files         below the named folders alone may anything be written, made, renamed or removed, and no program
 *                 is started from any file: Landlock, where the kernel has it. What is open already stays so.
 *
 * Reading files, and sockets, are as before. */
#ifndef INGOT_BASE_CONFINE_H
#define INGOT_BASE_CONFINE_H

#include <sys/types.h>

#include "base/err.h"

typedef struct ConfineUser {
    bool given;
    bool only_group; /* a group was named: no others */
    uid_t uid;
    gid_t gid;
    char name[64];
} ConfineUser;

typedef struct ConfineOpts {
    ConfineUser user;          /* given: become this one; the process must be root */
    const char *const *folder; /* [n_folders] that exist; written below them alone */
    int n_folders;
    bool files; /* confine files too */
} ConfineOpts;

/* What holds now. */
typedef struct Confined {
    bool is_root, has_caps;
    bool no_new_privs, no_dumps;
    int files; /* version of Landlock; 0: files are not confined */
} Confined;

/* "nobody", "nobody:nogroup", "65534:65534". ERR_NOT_FOUND names what is not known, ERR_ARG root itself. */
MUST_CHECK Status confine_find_user(ConfineUser *out, const char *spec, Err *e);
/* Give a folder and the files in it to a user, if all of them are root's and nobody else can write there; what is his already
 * stays. Links are not followed. ERR_DENIED: it belongs to somebody else; ERR_IO. */
MUST_CHECK Status confine_give_folder(const char *path, const ConfineUser *to, Err *e);
/* All of it, in the order that lets each step happen. On failure some of it may hold: end the process. ERR_DENIED: a user
 * is given and the process is not root; ERR_IO. */
MUST_CHECK Status confine_apply(Confined *out, const ConfineOpts *o, Err *e);

#endif
