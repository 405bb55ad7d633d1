/* SPDX-License-Identifier: Apache-2.0
 * Files in the making: what is remembered, what is believed, what a crash leaves. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "hub/internal.h"
#include "test.h"

static char path[256], part[300], state[300];

static void names(void) {
    snprintf(path, sizeof path, "%s/f", test_tmpdir());
    snprintf(part, sizeof part, "%s.part", path);
    snprintf(state, sizeof state, "%s.part.json", path);
}

static void put_text(const char *to, const char *text) {
    IoWriter w;
    OK_(io_writer_open(&w, to, false, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
}

TEST(goes_on_from_what_was_saved) {
    HubPart p;
    names();
    OK_(hub__part_open(&p, path, TERR));
    OK_(hub__part_layout(&p, 25, 10, TERR));
    EQ(p.n_pieces, 3);
    EQ(hub__part_piece_len(&p, 2), 5);
    snprintf(p.etag, sizeof p.etag, "\"e\"");
    OK_(hub__part_write(&p, 0, "0123456789", 10, TERR));
    OK_(hub__part_write(&p, 20, "abc", 3, TERR));
    EQ(hub__part_prefix(&p), 10);
    OK_(hub__part_save(&p, TERR));
    OK_(hub__part_write(&p, 10, "not saved", 9, TERR));
    hub__part_close(&p);

    OK_(hub__part_open(&p, path, TERR));
    EQ(p.size, 25);
    EQ(p.n_done, 13);
    EQ(p.done[0], 10);
    EQ(p.done[1], 0);
    EQ(p.done[2], 3);
    EQ_STR(p.etag, "\"e\"");
    OK_(hub__part_write(&p, 10, "ABCDEFGHIJ", 10, TERR));
    OK_(hub__part_write(&p, 23, "de", 2, TERR));
    EQ(hub__part_prefix(&p), 25);
    OK_(hub__part_finish(&p, 25, 981173106, TERR));
    StrBuf b = {0};
    OK_(io_read_file(&b, path, 100, TERR));
    EQ_STR(sb_str(&b), "0123456789ABCDEFGHIJabcde");
    struct stat s;
    EQ(stat(path, &s), 0);
    EQ(s.st_mtime, 981173106);
    FALSE_(io_exists(part) || io_exists(state));
    sb_deinit(&b);
}

TEST(only_bytes_from_the_start_of_a_piece_count) {
    HubPart p;
    names();
    OK_(hub__part_open(&p, path, TERR));
    OK_(hub__part_layout(&p, 30, 10, TERR));
    OK_(hub__part_write(&p, 5, "xxxxxxxxxx", 10,
                        TERR)); /* the end of one piece, the start of the next */
    EQ(p.done[0], 0);
    EQ(p.done[1], 5);
    OK_(hub__part_write(&p, 15, "yy", 2, TERR));
    EQ(p.done[1], 7);
    EQ(p.n_done, 7);
    EQ(hub__part_prefix(&p), 0);
    hub__part_discard(&p);
    FALSE_(io_exists(part));
}

TEST(a_second_one_is_kept_out) {
    HubPart p;
    names();
    OK_(hub__part_open(&p, path, TERR));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        HubPart q;
        Err e = {0};
        _exit(hub__part_open(&q, path, &e) == ERR_FULL && strstr(e.msg, "another process") ? 7 : 8);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    EQ(WEXITSTATUS(status), 7);
    hub__part_discard(&p);
}

TEST(states_that_lie_count_as_none) {
#define HEAD \
    "{\"format\":\"ingot part 1\",\"size\":100,\"piece\":10,\"etag\":\"\",\"modified\":\"\","
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        HEAD "\"sha256\":\"\",\"done\":[[0,50]]}", /* the .part has 20 bytes */
        HEAD "\"sha256\":\"\",\"done\":[[5,2]]}",
        HEAD "\"sha256\":\"\",\"done\":[[0,10],[5,15]]}",
        HEAD "\"sha256\":\"\",\"done\":[[0]]}",
        HEAD "\"sha256\":\"\",\"done\":[[-1,5]]}",
        HEAD "\"sha256\":\"\",\"done\":[[0,5.5]]}",
        HEAD "\"sha256\":\"\",\"done\":{}}",
        HEAD "\"sha256\":\"\\u0000\",\"done\":[]}",
        HEAD "\"sha256\":\"00000000000000000000000000000000000000000000000000000000000000000000\","
             "\"done\":[]}",
        "{\"format\":\"ingot part "
        "1\",\"size\":100,\"piece\":0,\"etag\":\"\",\"modified\":\"\",\"sha256\":\"\",\"done\":[]}",
        "{\"format\":\"ingot part "
        "1\",\"size\":9000000000000000000,\"piece\":1,\"etag\":\"\",\"modified\":\"\","
        "\"sha256\":\"\",\"done\":[]}",
        "{\"format\":\"other\",\"size\":100,\"piece\":10,\"etag\":\"\",\"modified\":\"\","
        "\"sha256\":\"\",\"done\":[]}"};
    names();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        HubPart p;
        put_text(part, "01234567890123456789");
        put_text(state, bad[i]);
        OK_(hub__part_open(&p, path, TERR));
        EQ(p.size, HUB_UNKNOWN);
        EQ(p.n_done, 0);
        FALSE_(io_exists(state));
        hub__part_discard(&p);
    }
    HubPart p; /* and one that does not */
    put_text(part, "01234567890123456789");
    put_text(state, HEAD "\"sha256\":\"\",\"done\":[[0,15],[20,20]]}");
    OK_(hub__part_open(&p, path, TERR));
    EQ(p.n_done, 0); /* [20,20] is empty: refused as a whole */
    hub__part_discard(&p);
    put_text(part, "01234567890123456789");
    put_text(state, HEAD "\"sha256\":\"\",\"done\":[[0,15],[16,20]]}");
    OK_(hub__part_open(&p, path, TERR));
    EQ(p.n_done, 15);
    hub__part_discard(&p);
}

TEST(links_are_not_followed_into_other_files) {
    HubPart p;
    char victim[300];
    names();
    snprintf(victim, sizeof victim, "%s/victim", test_tmpdir());
    put_text(victim, "precious");
    EQ(symlink(victim, part), 0);
    FAILS(ERR_IO, hub__part_open(&p, path, TERR));
    StrBuf b = {0};
    OK_(io_read_file(&b, victim, 100, TERR));
    EQ_STR(sb_str(&b), "precious");
    sb_deinit(&b);
    unlink(part);
}
