/* SPDX-License-Identifier: Apache-2.0
 * Names from elsewhere that become paths here. */
#include <stdio.h>

#include "hub/internal.h"
#include "test.h"

static Status add(HubList *l, const char *name, Err *e) {
    HubFile *f = NULL;
    return hub__list_add(l, slice_of(name), "http://x/", 1, &f, e);
}

TEST(names) {
    HubList l = {0};
    arena_init(&l.arena, 1024);
    static const char *const good[] = {"a",         "a.b/c d", "...", "..a", "\xc3\xbc.gguf",
                                       "q/b/c/d/e", ".hidden"};
    static const char *const bad[] = {"",         "/a",     "a/",          "a//b",    "..",
                                      "../a",     "a/../b", "a/..",        ".",       "./a",
                                      "a/./b",    "a\nb",   "a\x1b",       "\xff",    "a\x7f",
                                      "\xc2\x9b", "a.part", "a.part.json", "d/a.part"};
    for (size_t i = 0; i < COUNT_OF(good); i++) OK_(add(&l, good[i], TERR));
    EQ(l.n, COUNT_OF(good));
    for (size_t i = 0; i < COUNT_OF(bad); i++) FAILS(ERR_FORMAT, add(&l, bad[i], TERR));
    HubFile *f = NULL;
    FAILS(ERR_FORMAT, hub__list_add(&l, (Slice){"a\0b", 3}, "http://x/", 1, &f, TERR));
    char longer[300];
    memset(longer, 'x', sizeof longer);
    FAILS(ERR_FORMAT, hub__list_add(&l, (Slice){longer, 256}, "http://x/", 1, &f, TERR));
    OK_(hub__list_add(&l, (Slice){longer, 255}, "http://x/", 1, &f, TERR));
    OK_(hub__list_check(&l, TERR));
    hub__list_deinit(&l);
}

TEST(two_files_cannot_have_one_place) {
    HubList l = {0};
    arena_init(&l.arena, 1024);
    OK_(add(&l, "a/b", TERR));
    OK_(add(&l, "c", TERR));
    OK_(hub__list_check(&l, TERR));
    OK_(add(&l, "a", TERR));
    FAILS(ERR_FORMAT, hub__list_check(&l, TERR));
    hub__list_deinit(&l);
    arena_init(&l.arena, 1024);
    OK_(add(&l, "a", TERR));
    OK_(add(&l, "a-b", TERR)); /* sorts between a and a/b */
    OK_(add(&l, "a/b", TERR));
    FAILS(ERR_FORMAT, hub__list_check(&l, TERR));
    hub__list_deinit(&l);
}

TEST(patterns_cross_folders) {
    static const char *const p[] = {"*.json", "x/*"};
    TRUE_(hub__matches("a/b.json", p, 2));
    TRUE_(hub__matches("x/y/z", p, 2));
    FALSE_(hub__matches("y", p, 2));
}
