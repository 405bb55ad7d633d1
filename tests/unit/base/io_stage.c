/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io_stage.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "test.h"

static bool is_own(const char *name) { return !strcmp(name, "one") || !strcmp(name, "two"); }

static char place[300];

static void begin(const char *name) { snprintf(place, sizeof place, "%s/%s", test_tmpdir(), name); }

static const char *in(const char *name) {
    static char path[2][400];
    static int i;
    i = !i;
    snprintf(path[i], sizeof path[i], "%s%s", place, name);
    return path[i];
}

static void put(const IoStage *s, const char *name) {
    StrBuf b = {0};
    io_stage_put(&b, s, name);
    FILE *f = fopen(b.p, "w");
    TRUE_(f != NULL);
    fclose(f);
    sb_deinit(&b);
}

static void make(const char *name) {
    IoStage s;
    OK_(io_stage_open(&s, place, true, is_own, TERR));
    put(&s, name);
    OK_(io_stage_commit(&s, TERR));
}

TEST(a_folder_appears_whole) {
    IoStage s;
    begin("whole/");
    OK_(io_stage_open(&s, place, false, is_own, TERR));
    place[strlen(place) - 1] = 0;
    put(&s, "one");
    FALSE_(io_exists(place));
    OK_(io_stage_commit(&s, TERR));
    TRUE_(io_exists(in("/one")));
    FALSE_(io_exists(in(".tmp")));
    io_stage_abort(&s); /* a committed one */
    TRUE_(io_exists(in("/one")));
}

TEST(an_aborted_folder_leaves_nothing) {
    IoStage s;
    begin("abort");
    OK_(io_stage_open(&s, place, false, is_own, TERR));
    put(&s, "one");
    put(&s, "two.tmp"); /* a writer that was not done */
    io_stage_abort(&s);
    FALSE_(io_exists(place));
    FALSE_(io_exists(in(".tmp")));
}

TEST(what_is_there_is_replaced_on_request) {
    IoStage s;
    begin("again");
    make("one");
    FAILS(ERR_IO, io_stage_open(&s, place, false, is_own, TERR));
    make("two");
    TRUE_(io_exists(in("/two")));
    FALSE_(io_exists(in("/one")));
    FALSE_(io_exists(in(".tmp")));
}

TEST(what_others_made_is_never_replaced) {
    IoStage s;
    begin("foreign");
    mkdir(place, 0777);
    fclose(fopen(in("/letter"), "w"));
    FAILS(ERR_IO, io_stage_open(&s, place, true, is_own, TERR));
    TRUE_(strstr(test_err.msg, "\"letter\"") != NULL);
    unlink(in("/letter"));
    mkdir(in("/one"), 0777); /* an own name, but no file */
    FAILS(ERR_IO, io_stage_open(&s, place, true, is_own, TERR));
    rmdir(in("/one"));
    EQ(symlink("/etc/passwd", in("/one")), 0);
    FAILS(ERR_IO, io_stage_open(&s, place, true, is_own, TERR));
    unlink(in("/one"));
    OK_(io_stage_open(&s, place, true, is_own, TERR));
    fclose(fopen(in("/letter"), "w")); /* while it was being written */
    FAILS(ERR_IO, io_stage_commit(&s, TERR));
    TRUE_(io_exists(in("/letter")));
    FALSE_(io_exists(in(".tmp")));
    unlink(in("/letter"));
    rmdir(place);
    fclose(fopen(place, "w"));
    TRUE_(io_stage_open(&s, place, true, is_own, TERR) != OK);
}

TEST(leftovers_are_cleared_and_writers_kept_apart) {
    IoStage s, t;
    begin("left");
    mkdir(in(".tmp"), 0777);
    fclose(fopen(in(".tmp/one"), "w"));
    OK_(io_stage_open(&s, place, false, is_own, TERR));
    FALSE_(io_exists(in(".tmp/one")));
    FAILS(ERR_FULL, io_stage_open(&t, place, false, is_own, TERR));
    io_stage_abort(&s);
    mkdir(in(".tmp"), 0777);
    fclose(fopen(in(".tmp/letter"), "w"));
    FAILS(ERR_IO, io_stage_open(&s, place, false, is_own, TERR));
    TRUE_(io_exists(in(".tmp/letter")));
    FAILS(ERR_NOT_FOUND, io_stage_open(&s, "/none/of/this", false, is_own, TERR));
}
