/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include "test.h"

TEST(first_cause_wins) {
    Err e = {0};
    EQ(err_set(&e, ERR_IO, "disk %d", 7), ERR_IO);
    EQ(err_set(&e, ERR_ARG, "later"), ERR_ARG);
    EQ(e.code, ERR_IO);
    EQ_STR(e.msg, "disk 7");
    TRUE_(strstr(e.file, "err.c") != NULL);
    TRUE_(e.line > 0);
}

TEST(null_is_not_interested) {
    EQ(err_set(NULL, ERR_FULL, "x"), ERR_FULL);
    err_in(NULL, "file");
}

TEST(prefix_once) {
    Err e = {0};
    err_in(&e, "file"); /* nothing happened yet: nothing to prefix */
    EQ_STR(e.msg, "");
    err_set(&e, ERR_FORMAT, "bad magic");
    err_in(&e, "a.gguf");
    err_in(&e, "a.gguf");
    EQ_STR(e.msg, "a.gguf: bad magic");
}

TEST(one_line) {
    Err e = {0};
    err_set(&e, ERR_ARG, "a\nb\tc\x7f");
    EQ_STR(e.msg, "a b c ");
}

/* 239 bytes fit; a sequence that does not fit whole is left out whole. */
TEST(cut_between_code_points) {
    char text[300];
    memset(text, 'x', 238);
    strcpy(text + 238, "\xC3\xA9z");
    Err e = {0};
    err_set(&e, ERR_ARG, "%s", text);
    EQ(strlen(e.msg), 238);
    e = (Err){0};
    strcpy(text + 236, "\xE2\x82\xACzz"); /* bytes 236..238: exactly fits */
    err_set(&e, ERR_ARG, "%s", text);
    EQ(strlen(e.msg), 239);
    e = (Err){0};
    strcpy(text + 237, "\xF0\x9F\x98\x80z");
    err_set(&e, ERR_ARG, "%s", text);
    EQ(strlen(e.msg), 237);
}

TEST(prefix_of_a_full_message) {
    Err e = {0};
    err_set(&e, ERR_ARG, "%0300d", 0);
    err_in(&e, "where");
    EQ(strlen(e.msg), 239);
    EQ_MEM(e.msg, "where: 000", 10);
}

TEST(every_status_has_a_name) {
    for (int s = 0; s < STATUS_COUNT; s++) {
        TRUE_(err_name((Status)s) && err_name((Status)s)[0]);
        for (int t = 0; t < s; t++) TRUE_(strcmp(err_name((Status)s), err_name((Status)t)) != 0);
    }
    EQ_STR(err_name((Status)99), "unknown status");
    EQ_STR(err_name((Status)-1), "unknown status");
}

static Status two_steps(Status first, int *n) {
    TRY(first);
    ++*n;
    return OK;
}

TEST(try_returns_early) {
    int n = 0;
    EQ(two_steps(ERR_FULL, &n), ERR_FULL);
    EQ(n, 0);
    EQ(two_steps(OK, &n), OK);
    EQ(n, 1);
}
