/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "test.h"

static StrBuf got;
static int saved_fd;
static char path[512];

static void capture_start(void) {
    snprintf(path, sizeof path, "%s/err", test_tmpdir());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    saved_fd = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    close(fd);
}

/* What was written to standard error since capture_start. */
static const char *capture_end(void) {
    dup2(saved_fd, STDERR_FILENO);
    close(saved_fd);
    sb_clear(&got);
    OK_(io_read_file(&got, path, 1 << 20, TERR));
    return sb_str(&got);
}

TEST(levels) {
    capture_start();
    log_set_level(LOG_INFO);
    log_error("one %d", 1);
    log_info("two");
    log_debug("three");
    log_set_level(LOG_WARN);
    log_info("four");
    const char *s = capture_end();
    TRUE_(strstr(s, " ERROR one 1\n") != NULL);
    TRUE_(strstr(s, " INFO  two\n") != NULL);
    TRUE_(!strstr(s, "three") && !strstr(s, "four"));
    sb_deinit(&got);
}

TEST(line_shape) {
    capture_start();
    log_warn("x\ny");
    const char *s = capture_end();
    const char *shape = "dddd-dd-dd dd:dd:dd WARN  x y\n";
    EQ(strlen(s), strlen(shape));
    for (size_t i = 0; shape[i]; i++)
        TRUE_(shape[i] == 'd' ? s[i] >= '0' && s[i] <= '9' : s[i] == shape[i]);
    sb_deinit(&got);
}

TEST(long_line_is_cut) {
    capture_start();
    log_warn("%05000d", 0);
    const char *s = capture_end();
    TRUE_(strlen(s) < 2100 && strlen(s) > 1000);
    TRUE_(str_ends_with(s, "0...\n"));
    sb_deinit(&got);
}
