/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <unistd.h>

#include "unit/net/echo.h"

static const char *const sites[] = {"https://chat.example", "http://localhost:3000"};
static const char *const everyone[] = {"*"};

static const char *field(const char *name) {
    static char v[256];
    return hc_header(&rep, name, v, sizeof v) ? v : NULL;
}

TEST(answers_are_safe_for_browsers_unless_the_handler_knows_better) {
    Echo *e = echo_start((HttpConfig){0});
    static const char *const paths[] = {
        GET("/"), "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        int fd = hc_connect(e->port);
        hc_ask(fd, &rep, paths[i]);
        EQ_STR(field("X-Content-Type-Options"), "nosniff");
        EQ_STR(field("X-Frame-Options"), "DENY");
        EQ_STR(field("Referrer-Policy"), "no-referrer");
        EQ_STR(field("Content-Security-Policy"), "default-src 'none'; frame-ancestors 'none'");
        EQ_STR(field("Cache-Control"), "no-store");
        TRUE_(field("Strict-Transport-Security") == NULL);
        TRUE_(field("Access-Control-Allow-Origin") == NULL);
        TRUE_(field("Vary") == NULL);
        const char *date = field("Date");
        TRUE_(date && strlen(date) == 29 && strcmp(date + 25, " GMT") == 0);
        close(fd);
    }
    hc_once(e->port, &rep, GET("/page"));
    EQ_STR(field("Content-Security-Policy"), "default-src 'self'");
    EQ_STR(field("X-Own"), "1");
    EQ_STR(field("X-Frame-Options"), "DENY");
    TRUE_(strstr(rep.head, "default-src 'none'") == NULL);
    echo_stop(e);
}

TEST(without_origins_a_preflight_is_a_request_like_others) {
    Echo *e = echo_start((HttpConfig){0});
    hc_once(e->port, &rep,
            "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: https://chat.example\r\n"
            "Access-Control-Request-Method: POST\r\n\r\n");
    EQ(rep.status, 200);
    EQ(atomic_load(&e->n_served), 1);
    TRUE_(strstr(rep.head, "Access-Control") == NULL);
    echo_stop(e);
}

static void ask_from(Echo *e, const char *origin) {
    char text[256];
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: x\r\nOrigin: %s\r\n\r\n", origin);
    hc_once(e->port, &rep, text);
    EQ(rep.status, 200);
}

TEST(named_origins_may_read_and_no_other) {
    Echo *e = echo_start((HttpConfig){.cors = {.origins = sites, .n_origins = 2}});
    for (int i = 0; i < 2; i++) {
        ask_from(e, sites[i]);
        EQ_STR(field("Access-Control-Allow-Origin"), sites[i]);
        EQ_STR(field("Access-Control-Expose-Headers"), "*");
        EQ_STR(field("Vary"), "Origin");
        TRUE_(field("Access-Control-Allow-Credentials") == NULL);
    }
    static const char *const strangers[] = {
        "https://chat.example.evil",
        "https://evil.example",
        "http://chat.example",
        "https://chat.example:8443",
        "null",
        "https://chat.exampl",
        "*",
        "https://chat.example, other",
    };
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        ask_from(e, strangers[i]);
        TRUE_(field("Access-Control-Allow-Origin") == NULL);
        EQ_STR(field("Vary"), "Origin");
    }
    hc_once(e->port, &rep, GET("/"));
    TRUE_(field("Access-Control-Allow-Origin") == NULL);
    EQ_STR(field("Vary"), "Origin");
    hc_once(e->port, &rep, "GET / HTTP/1.1\r\nOrigin: https://chat.example\r\n\r\n");
    EQ(rep.status, 400); /* a page can read why */
    EQ_STR(field("Access-Control-Allow-Origin"), "https://chat.example");
    echo_stop(e);
}

#define PREFLIGHT(origin, extra)                                  \
    "OPTIONS /v1/x HTTP/1.1\r\nHost: x\r\nOrigin: " origin "\r\n" \
    "Access-Control-Request-Method: POST\r\n" extra "\r\n"

TEST(preflights_are_answered_without_the_handler) {
    Echo *e = echo_start((HttpConfig){.cors = {.origins = sites, .n_origins = 2, .max_age_s = 77}});
    int fd = hc_connect(e->port);
    hc_ask(fd, &rep,
           PREFLIGHT(
               "https://chat.example",
               "Access-Control-Request-Headers: authorization, content-type,x-stainless-os\r\n"));
    EQ(rep.status, 204);
    EQ_STR(field("Access-Control-Allow-Origin"), "https://chat.example");
    EQ_STR(field("Access-Control-Allow-Headers"), "authorization, content-type,x-stainless-os");
    EQ_STR(field("Access-Control-Max-Age"), "77");
    TRUE_(strstr(field("Access-Control-Allow-Methods"), "POST") != NULL);
    hc_ask(fd, &rep, PREFLIGHT("https://evil.example", "")); /* on the same connection */
    EQ(rep.status, 204);
    TRUE_(strstr(rep.head, "Access-Control") == NULL);
    hc_ask(fd, &rep,
           PREFLIGHT("https://chat.example", "Access-Control-Request-Headers: a\tb: c\r\n"));
    EQ(rep.status, 204);
    TRUE_(field("Access-Control-Allow-Headers") == NULL);
    EQ(atomic_load(&e->n_served), 0);
    hc_ask(fd, &rep, "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: https://chat.example\r\n\r\n");
    EQ(rep.status, 200); /* no method asked for: an OPTIONS of its own */
    EQ(atomic_load(&e->n_served), 1);
    close(fd);
    echo_stop(e);
}

TEST(a_star_allows_every_origin) {
    Echo *e = echo_start((HttpConfig){.cors = {.origins = everyone, .n_origins = 1}});
    ask_from(e, "https://anything.example");
    EQ_STR(field("Access-Control-Allow-Origin"), "*");
    hc_once(e->port, &rep, PREFLIGHT("null", ""));
    EQ_STR(field("Access-Control-Allow-Origin"), "*");
    EQ_STR(field("Access-Control-Max-Age"), "600");
    echo_stop(e);
}
