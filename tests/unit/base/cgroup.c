/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cgroup.c"

#include "base/io.h"
#include "test.h"

static void note(void *ctx, const char *dir) {
    sb_puts(ctx, dir);
    sb_putc(ctx, ' ');
}

static const char *visited(StrBuf *b, const char *line) {
    char text[256];
    Visit v = {"memory", note, b};
    sb_clear(b);
    snprintf(text, sizeof text, "%s", line);
    visit_line(&v, text);
    return sb_str(b);
}

TEST(ancestors_up_to_the_mount) {
    StrBuf b = {0};
    EQ_STR(visited(&b, "0::/a/b"), "/sys/fs/cgroup/a/b /sys/fs/cgroup/a /sys/fs/cgroup ");
    EQ_STR(visited(&b, "0::/"), "/sys/fs/cgroup/ /sys/fs/cgroup ");
    EQ_STR(visited(&b, "4:cpu,memory:/x"), "/sys/fs/cgroup/memory/x /sys/fs/cgroup/memory ");
    EQ_STR(visited(&b, "4:memory:/"), "/sys/fs/cgroup/memory/ /sys/fs/cgroup/memory ");
    sb_deinit(&b);
}

TEST(other_lines) {
    StrBuf b = {0};
    EQ_STR(visited(&b, "4:cpu:/x"), "");
    EQ_STR(visited(&b, "4:memory_other:/x"), "");
    EQ_STR(visited(&b, "no colon"), "");
    EQ_STR(visited(&b, "4:one"), "");
    EQ_STR(visited(&b, ""), "");
    sb_deinit(&b);
}

TEST(reads_the_first_line) {
    char path[512], text[16];
    IoWriter w;
    snprintf(path, sizeof path, "%s/memory.max", test_tmpdir());
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, "12345\nmore", 10, TERR));
    OK_(io_writer_close(&w, TERR));
    TRUE_(cgroup__read(text, sizeof text, test_tmpdir(), "memory.max"));
    EQ_STR(text, "12345");
    TRUE_(!cgroup__read(text, sizeof text, test_tmpdir(), "absent"));
}
