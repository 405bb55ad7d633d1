/* SPDX-License-Identifier: Apache-2.0
 * Every allocation of net/ fails once: a request is then refused with 503 or its connection closed, and
 * nothing leaks. (libevent's own allocations are outside the sweep.) */
#include <unistd.h>

#include "base/fault.h"
#include "net/http.h"
#include "net/http_parse.h"
#include "test.h"

static const char request[] =
    "POST /a/%41 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    "40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n0\r\n\r\n";

TEST(parsing_refuses_with_503) {
    size_t before = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        HttpParse p;
        http__parse_init(&p, 1000, 1000);
        fault_arm(FAULT_ALLOC, n);
        http__parse_feed(&p, request, sizeof request - 1);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        EQ(p.state, fired ? PARSE_FAILED : PARSE_DONE);
        if (fired) EQ(p.status, 503);
        if (fired) EQ_STR(p.why, "out of memory");
        http__parse_reset(&p); /* and the next request is read again */
        http__parse_feed(&p, request, sizeof request - 1);
        EQ(p.state, PARSE_DONE);
        http__parse_deinit(&p);
        EQ(mem_live_bytes(), before);
        if (!fired) {
            TRUE_(n > 2);
            return;
        }
    }
}

TEST(making_a_server_says_why_it_cannot) {
    size_t before = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        HttpServer *s = NULL;
        HttpConfig c = {.host = "127.0.0.1"};
        Err e = {0};
        fault_arm(FAULT_ALLOC, n);
        Status st = http_new(&s, &c, &e);
        bool fired = fault_fired(FAULT_ALLOC);
        fault_arm(FAULT_ALLOC, 0);
        EQ(st != OK, fired);
        EQ(e.msg[0] != 0, fired);
        http_free(s);
        EQ(mem_live_bytes(), before);
        if (!fired) return;
    }
}
