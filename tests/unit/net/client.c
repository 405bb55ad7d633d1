/* SPDX-License-Identifier: Apache-2.0
 * The client against a server in a process of its own. What servers do wrong is in tests/e2e/pull.sh. */
#include "net/client.h"

#include <stdio.h>

#include "support/net_server.h"
#include "test.h"

static NetServer srv;
static NetClient *net;
static NetAnswer ans;
static char url[1024];

static void begin(const NetConfig *c) {
    TRUE_(net_server_start(&srv));
    OK_(net_client_new(&net, c, TERR));
}
static void end(void) {
    net_answer_deinit(&ans);
    net_client_free(net);
    net_server_stop(&srv);
}
static const char *at(const char *path) {
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", srv.port, path);
    return url;
}
static const char *get(const char *path) {
    OK_(net_ask(&ans, net, &(NetRequest){.url = at(path)}, TERR));
    return sb_str(&ans.body);
}

TEST(answers_of_any_status) {
    begin(&(NetConfig){0});
    get("/bytes/1000");
    EQ(ans.status, 200);
    EQ(ans.body.n, 1000);
    EQ((uint8_t)ans.body.p[999], net_server_byte(999));
    TRUE_(slice_eq_str(net_answer_header(&ans, "etag"), "\"n\""));
    EQ(net_answer_header(&ans, "nothing").n, 0);
    EQ_STR(get("/status/404"), "words");
    EQ(ans.status, 404);
    OK_(net_ask(&ans, net,
                &(NetRequest){.method = "POST", .url = at("/echo"), .body = slice_of("hello")},
                TERR));
    EQ_STR(sb_str(&ans.body), "hello");
    OK_(net_ask(&ans, net, &(NetRequest){.method = "HEAD", .url = at("/bytes/77")}, TERR));
    TRUE_(slice_eq_str(net_answer_header(&ans, "Content-Length"), "77"));
    EQ(ans.body.n, 0);
    EQ_STR(get("/header/user-agent"), "ingot");
    end();
}

TEST(bodies_are_bounded) {
    begin(&(NetConfig){0});
    FAILS(ERR_FULL,
          net_ask(&ans, net, &(NetRequest){.url = at("/bytes/5001"), .max_reply = 5000}, TERR));
    OK_(net_ask(&ans, net, &(NetRequest){.url = at("/bytes/5000"), .max_reply = 5000}, TERR));
    EQ(ans.body.n, 5000);
    end();
}

TEST(secrets_stay_with_their_origin) {
    NetServer other;
    char to[600];
    const char *const secret[] = {"X-Secret: s"}, *const plain[] = {"X-Plain: p"};
    begin(&(NetConfig){0});
    TRUE_(net_server_start(&other));
    for (int same = 0; same < 2; same++) {
        for (int which = 0; which < 2; which++) {
            snprintf(to, sizeof to, "/to/http%%3A%%2F%%2F127.0.0.1:%d%%2Fheader%%2Fx-%s",
                     same ? srv.port : other.port, which ? "plain" : "secret");
            OK_(net_ask(&ans, net,
                        &(NetRequest){.url = at(to),
                                      .secrets = secret,
                                      .n_secrets = 1,
                                      .headers = plain,
                                      .n_headers = 1},
                        TERR));
            EQ_STR(sb_str(&ans.body), which ? "p" : same ? "s" : "-");
        }
    }
    net_server_stop(&other);
    end();
}

TEST(redirects_are_bounded_and_of_the_web) {
    begin(&(NetConfig){.max_redirects = 2});
    EQ_STR(get("/to/%2Fto%2F%2Fstatus%2F200"), "words");
    static const char *const bad[] = {"/to/file:%2F%2F%2Fetc%2Fpasswd", "/to/ftp:%2F%2Fx%2F",
                                      "/to/http:%2F%2Fu:p@127.0.0.1%2F",
                                      "/to/%2Fto%2F%2Fto%2F%2Fto%2F%2Fstatus%2F200"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Status st = net_ask(&ans, net, &(NetRequest){.url = at(bad[i])}, TERR);
        NE(st, OK);
        TRUE_(strstr(test_err.msg, "redirect"));
    }
    OK_(net_ask(&ans, net, &(NetRequest){.url = at("/to/x"), .no_redirects = true}, TERR));
    EQ(ans.status, 302);
    FAILS(ERR_UNSUPPORTED,
          net_ask(&ans, net, &(NetRequest){.method = "POST", .url = at("/to/x")}, TERR));
    end();
}

TEST(requests_that_cannot_be_sent) {
    begin(&(NetConfig){0});
    static const char *const bad[] = {"",
                                      "x",
                                      "ftp://h/",
                                      "http://",
                                      "http://u:p@h/",
                                      "http://u@h/",
                                      "http://h/a b",
                                      "http://h/\n",
                                      "http://h/\xc3\xbc",
                                      "file:///x"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        FAILS(ERR_ARG, net_ask(&ans, net, &(NetRequest){.url = bad[i]}, TERR));
    static const char *const lines[] = {"", "no colon", "X: a\r\nY: b", "X: \n"};
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        FAILS(ERR_ARG,
              net_ask(&ans, net,
                      &(NetRequest){.url = at("/"), .headers = &lines[i], .n_headers = 1}, TERR));
    end();
}

TEST(retries_are_counted) {
    begin(&(NetConfig){.retries = 2});
    get("/status/503");
    EQ(ans.status, 503);
    EQ_STR(get("/count"), "3");
    OK_(net_ask(&ans, net, &(NetRequest){.method = "POST", .url = at("/status/503")}, TERR));
    EQ_STR(get("/count"), "5"); /* a POST is sent once */
    end();
    OK_(net_client_new(&net, &(NetConfig){0}, TERR));
    FAILS(ERR_IO, net_ask(&ans, net, &(NetRequest){.url = "http://127.0.0.1:1/"}, TERR));
    EQ(ans.fault, NET_CONNECT);
    net_client_free(net);
}

TEST(the_stop_flag_ends_waiting) {
    atomic_int stop = 1;
    begin(&(NetConfig){.stop = &stop});
    FAILS(ERR_CANCELLED, net_ask(&ans, net, &(NetRequest){.url = at("/count")}, TERR));
    EQ(net_n_running(net), 0);
    end();
}

typedef struct Many {
    int n_done, n_ok, n_cancelled;
    uint64_t n_bytes;
} Many;

static Status many_body(void *ctx, NetCall *c, Slice part, Err *e) {
    Many *m = ctx;
    m->n_bytes += part.n;
    if (m->n_bytes > 150000) return err_set(e, ERR_FULL, "enough of %d", net_status(c));
    return OK;
}
static void many_done(void *ctx, NetCall *c, Status st, const Err *err) {
    Many *m = ctx;
    m->n_done++;
    m->n_ok += st == OK && net_status(c) == 200;
    m->n_cancelled += st == ERR_FULL && strstr(err->msg, "enough of 200");
}

TEST(many_at_a_time_and_callbacks_that_refuse) {
    Many m = {0};
    begin(&(NetConfig){0});
    NetCall *dropped = NULL;
    for (int i = 0; i < 20; i++) {
        NetRequest rq = {.url = at("/bytes/10000"),
                         .on_body = many_body,
                         .on_done = many_done,
                         .ctx = &m};
        OK_(net_start(i == 7 ? &dropped : NULL, net, &rq, TERR));
    }
    EQ(net_n_running(net), 20);
    net_cancel(dropped);
    for (int i = 0; i < 1000 && m.n_done < 19; i++) OK_(net_poll(net, 100, TERR));
    EQ(m.n_done, 19);
    TRUE_(m.n_ok >= 10 && m.n_cancelled >= 3);
    EQ(m.n_ok + m.n_cancelled, 19);
    NetRequest rq = {.url = at("/bytes/10000"), .on_done = many_done, .ctx = &m};
    OK_(net_start(NULL, net, &rq, TERR));
    net_client_end(net);
    EQ(m.n_done, 20);
    OK_(net_start(NULL, net, &rq, TERR)); /* freed with the client, silently */
    end();
    EQ(m.n_done, 20);
}

TEST(origins) {
    TRUE_(net_same_origin("http://a/x", "http://A:80/y?z"));
    TRUE_(net_same_origin("https://a:443/", "https://a"));
    FALSE_(net_same_origin("http://a/", "https://a/"));
    FALSE_(net_same_origin("http://a/", "http://a:81/"));
    FALSE_(net_same_origin("http://a/", "http://a.b/"));
    FALSE_(net_same_origin("http://a/", "nonsense"));
}

TEST(backing_off) {
    int most = 0;
    for (int n = 1; n < 40; n++) {
        int ms = net_backoff_ms(n, 0, (uint64_t)n * 7919);
        TRUE_(ms >= 1 && ms <= 30001);
        if (n == 1) TRUE_(ms <= 501);
        most = MAX(most, ms);
    }
    TRUE_(most > 10000);
    TRUE_(net_backoff_ms(1, 7, 1) >= 7000);
    EQ(net_backoff_ms(1, 301, 1), -1);
    EQ(net_parse_date("Sat, 03 Feb 2001 04:05:06 GMT"), 981173106);
    EQ(net_parse_date("yesterday, or so"), 0);
}
