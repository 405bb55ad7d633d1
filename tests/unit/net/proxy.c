/* SPDX-License-Identifier: Apache-2.0
 * Whom a request comes from when X-Forwarded-For says something. */
#include <stdio.h>

#include "unit/net/echo.h"

static char peer[100];

static void keep_peer(void *ctx, const HttpReq *r, int status) {
    (void)ctx;
    (void)status;
    snprintf(peer, sizeof peer, "%s", http_peer(r));
}

static const char *peer_of(int n_proxies, const char *const *proxies, const char *forwarded) {
    Echo *e =
        echo_start((HttpConfig){.proxies = proxies, .n_proxies = n_proxies, .on_reply = keep_peer});
    StrBuf b = {0};
    sb_printf(&b, "GET / HTTP/1.1\r\nHost: x\r\n%s%s\r\n\r\n",
              forwarded ? "X-Forwarded-For: " : "X: ", forwarded ? forwarded : "");
    hc_once(e->port, &rep, sb_str(&b));
    EQ(rep.status, 200);
    sb_deinit(&b);
    echo_stop(e);
    return peer;
}

TEST(nobody_is_believed_by_default) {
    static const char *const others[] = {"10.0.0.0/8", "::1"};
    TRUE_(str_starts_with(peer_of(0, NULL, "1.2.3.4"), "127.0.0.1:"));
    TRUE_(str_starts_with(peer_of(2, others, "1.2.3.4"), "127.0.0.1:"));
}

TEST(the_last_that_is_no_proxy_of_ours) {
    static const char *const ours[] = {"127.0.0.0/8", "10.1.0.0/16", "2001:db8::/33"};
    static const struct {
        const char *header, *client;
    } rows[] = {{"1.2.3.4", "1.2.3.4"},
                {"6.6.6.6, 1.2.3.4", "1.2.3.4"}, /* the first one is a claim */
                {"6.6.6.6,1.2.3.4 , 10.1.255.9", "1.2.3.4"},
                {"1.2.3.4, 10.2.0.1", "10.2.0.1"},
                {"2001:db9::7", "2001:db9::7"},
                {"5.5.5.5, 2001:db8:7fff::7", "5.5.5.5"},
                {"5.5.5.5, 2001:db8:8000::7", "2001:db8:8000::7"},
                {"1.2.3.4:567", "1.2.3.4"},
                {"[2001:db9::7]:567", "2001:db9::7"},
                {"::ffff:9.8.7.6", "9.8.7.6"},
                {"10.1.0.1", "10.1.0.1"}, /* proxies all the way: the first of them */
                {"nonsense, 1.2.3.4", "1.2.3.4"},
                {"1.2.3.4, nonsense, 10.1.0.1", "10.1.0.1"},
                /* a proxy that adds a line of its own */
                {"6.6.6.6\r\nX-Forwarded-For: 1.2.3.4", "1.2.3.4"},
                {"6.6.6.6\r\nx-forwarded-for: 1.2.3.4\r\nX-Forwarded-For: 10.1.0.1", "1.2.3.4"}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        EQ_STR(peer_of(3, ours, rows[i].header), rows[i].client);
    static const char *const nothing[] = {NULL, "", "nonsense", ",", "1.2.3.4.5", "1.2.3"};
    for (size_t i = 0; i < COUNT_OF(nothing); i++)
        TRUE_(str_starts_with(peer_of(3, ours, nothing[i]), "127.0.0.1:"));
}

TEST(ranges_that_are_none) {
    static const char *const bad[] = {"",          "localhost",  "10.0.0.0/33", "::/129",
                                      "10.0.0.0/", "10.0.0.0/x", "/8"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        HttpConfig c = {.host = "127.0.0.1", .proxies = &bad[i], .n_proxies = 1};
        HttpServer *s = NULL;
        Err e = {0};
        FAILS(ERR_ARG, http_new(&s, &c, &e));
        TRUE_(strstr(e.msg, "proxy") != NULL);
    }
}
