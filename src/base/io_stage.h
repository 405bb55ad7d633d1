/* SPDX-License-Identifier: Apache-2.0
 * A folder that appears whole or not at all: files are written into PATH.tmp, which is renamed to PATH when all are
 * there. A lock on it keeps two writers apart; what a killed one left is cleared away by the next. A folder that is
 * there already is replaced only on request, and only if it holds nothing but plain files that the writer knows for
 * its own. One thread. */
#ifndef INGOT_BASE_IO_STAGE_H
#define INGOT_BASE_IO_STAGE_H

#include "base/str.h"

typedef struct IoStage {
    char *path, *tmp; /* owned; without slashes at the end */
    bool (*is_own)(const char *name);
    int fd; /* of tmp, with the lock */
} IoStage;

/* Make PATH.tmp. is_own tells names that the writer makes; with replace, a folder at path is taken away by
 * io_stage_commit. ERR_FULL: somebody is writing it; ERR_IO: something is there, or a file that is not the writer's
 * (named). On failure *s is zeroed. */
MUST_CHECK Status io_stage_open(IoStage *s, const char *path, bool replace,
                                bool (*is_own)(const char *name), Err *e);
/* Path of a file in it, appended to b. */
void io_stage_put(StrBuf *b, const IoStage *s, const char *name);
/* Put the folder in place and release. After a failure the old one, if any, is where it was. */
MUST_CHECK Status io_stage_commit(IoStage *s, Err *e);
/* Remove all of it. Legal on a zeroed or committed stage. */
void io_stage_abort(IoStage *s);

#endif
