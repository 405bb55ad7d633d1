/* SPDX-License-Identifier: Apache-2.0
 * X-Request-Id stands on every answer, whoever gives it. */
#include <stdio.h>
#include <unistd.h>

#include "unit/net/echo.h"

static char id[200];

static const char *id_of(Echo *e, const char *request) {
    hc_once(e->port, &rep, request);
    id[0] = '\0';
    EQ(hc_header(&rep, "X-Request-Id", id, sizeof id), 1);
    return id;
}

TEST(a_client_s_own_id_comes_back) {
    Echo *e = echo_start((HttpConfig){0});
    EQ_STR(id_of(e, "GET / HTTP/1.1\r\nHost: x\r\nx-request-id: a.B-9_z\r\n\r\n"), "a.B-9_z");
    EQ_STR(id_of(e, "GET /stream HTTP/1.1\r\nHost: x\r\nX-Request-Id: s\r\n\r\n"), "s");
    EQ_STR(
        id_of(e,
              "POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: b\r\nContent-Length: 9999999\r\n\r\n"),
        "b");
    EQ(rep.status, 413);
    echo_stop(e);
}

TEST(ids_that_could_break_a_log_are_not_taken) {
    static const char *const bad[] = {"a b", "a\"b", "a;b", "\xc3\xa4", "a/b", ""};
    Echo *e = echo_start((HttpConfig){0});
    StrBuf b = {0};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        sb_clear(&b);
        sb_printf(&b, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n\r\n", bad[i]);
        TRUE_(str_starts_with(id_of(e, sb_str(&b)), "req-"));
        EQ(strlen(id), 4 + 16);
    }
    for (int n = 128; n <= 129; n++) {
        sb_clear(&b);
        sb_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: ");
        for (int i = 0; i < n; i++) sb_putc(&b, 'i');
        sb_puts(&b, "\r\n\r\n");
        EQ(strlen(id_of(e, sb_str(&b))), n == 128 ? 128 : 20);
    }
    sb_deinit(&b);
    echo_stop(e);
}

TEST(refusals_have_an_id_too) {
    Echo *e = echo_start((HttpConfig){.limits = {.max_connections = 1, .header_timeout_ms = 200}});
    char first[200];
    snprintf(first, sizeof first, "%s", id_of(e, "nonsense\r\n\r\n"));
    EQ(rep.status, 400);
    TRUE_(str_starts_with(first, "req-"));
    TRUE_(strcmp(first, id_of(e, "GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n")) != 0);
    EQ(rep.status, 400);
    int fd = hc_connect(e->port);
    hc_send(fd, "GET / HT");
    usleep(50000);
    id_of(e, GET("/")); /* over the limit of connections */
    EQ(rep.status, 503);
    hc_read(fd, &rep, false);
    EQ(rep.status, 408);
    EQ(hc_header(&rep, "X-Request-Id", id, sizeof id), 1);
    close(fd);
    echo_stop(e);
}
