/* SPDX-License-Identifier: Apache-2.0
 * Pages over real sockets: who gets HTML, how it is sent, which keys browsers may use, the numbers of the dashboard. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "server/server.h"
#include "support/http_client.h"
#include "test.h"
#include "text/json.h"
#include "web/web.h"

#define BROWSER "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
#define BASIC "Authorization: Basic dTpvbmU=\r\n" /* u:one */

static Server *server;
static Keys *keys;
static Tokenizer *tok;
static pthread_t loop_thread;
static int port;
static HcReply rep;

/* An engine that takes requests and leaves them. */
static EngineReq held[8];
static _Atomic int n_held;
static Metrics metrics;

static Status hold(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    (void)self;
    (void)e;
    int i = atomic_fetch_add(&n_held, 1);
    held[i] = *r;
    *id = (uint64_t)i + 1;
    return OK;
}

static void cancel(void *self, uint64_t id) {
    (void)self;
    (void)id;
}

static void *loop(void *ctx) {
    (void)ctx;
    return server_run(server, 100, NULL) == OK ? NULL : server;
}

static void start(const char *plain) {
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
    KeysConfig kc = {.plain = &plain, .n_plain = plain ? 1 : 0, .max_fails = -1};
    OK_(keys_open(&keys, &kc, TERR));
    atomic_store(&n_held, 0);
    metrics_init(&metrics, 10, 32, 4096);
    ServerConfig c = {
        .host = "127.0.0.1",
        .device = "cpu",
        .keys = keys,
        .tok = tok,
        .engine = {.submit = hold, .cancel = cancel, .max_ctx = 512, .metrics = &metrics}};
    OK_(server_new(&server, &c, TERR));
    port = server_port(server);
    EQ(pthread_create(&loop_thread, NULL, loop, NULL), 0);
}

static void stop(void) {
    void *failed;
    server_stop(server);
    pthread_join(loop_thread, &failed);
    TRUE_(failed == NULL);
    for (int i = 0; i < n_held; i++) held[i].on_done(held[i].ctx, FINISH_CANCELLED, NULL);
    server_free(server);
    keys_free(keys);
    tok_free(tok);
}

/* GET path with further header lines. */
static void get(const char *path, const char *lines) {
    char text[1024];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: here:8000\r\nConnection: close\r\n%s\r\n",
             path, lines);
    hc_once(port, &rep, text);
}

static bool is_html(void) {
    char v[64] = "";
    return rep.status == 200 && hc_header(&rep, "Content-Type", v, sizeof v) &&
           strncmp(v, "text/html", 9) == 0;
}

TEST(browsers_get_html_and_others_json) {
    static const struct {
        const char *accept;
        bool html;
    } t[] = {
        {BROWSER, true},
        {"text/html", true},
        {"TEXT/HTML", true},
        {"application/json;q=0.5, text/html;q=0.7", true},
        {"application/json, text/html", true}, /* equal: HTML was asked for by name */
        {"*/*", false},
        {"", false},
        {"application/json", false},
        {"application/json, text/html;q=0.5", false},
        {"text/html;q=0", false},
        {"text/html; q=0.0, */*", false},
        {"text/html;q=x", false},
        {"text/htmlx", false},
        {"text/*", false},
        {",,;q=1,", false},
    };
    start(NULL);
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        char line[200], v[64];
        snprintf(line, sizeof line, "Accept: %s\r\n", t[i].accept);
        get("/", line);
        EQ(rep.status, 200);
        if (is_html() != t[i].html) FAIL("Accept: %s: %s", t[i].accept, rep.head);
        TRUE_(hc_header(&rep, "Vary", v, sizeof v) && strncmp(v, "Accept", 6) == 0);
    }
    get("/", "");
    TRUE_(strstr(rep.body, "\"routes\":[") != NULL);
    stop();
}

TEST(assets_are_sent_compressed_or_plain_and_once) {
    const WebAsset *a = web_find(slice_of("/assets/base.css"));
    char tag[64], plain[64], v[64], line[128];
    start(NULL);
    get(a->path, "Accept-Encoding: gzip, br\r\n");
    EQ(rep.status, 200);
    EQ(rep.n_body, a->n_gz);
    EQ_MEM(rep.body, a->gz, a->n_gz);
    TRUE_(hc_header(&rep, "Content-Encoding", v, sizeof v));
    EQ_STR(v, "gzip");
    TRUE_(hc_header(&rep, "ETag", tag, sizeof tag));
    static const char *const without[] = {"", "Accept-Encoding: br\r\n",
                                          "Accept-Encoding: gzip;q=0\r\n",
                                          "Accept-Encoding: gzip;q=0, *;q=0\r\n",
                                          "Accept-Encoding: identity\r\n"};
    for (size_t i = 0; i < COUNT_OF(without); i++) {
        get(a->path, without[i]);
        EQ(rep.status, 200);
        EQ(rep.n_body, a->n_plain);
        FALSE_(hc_header(&rep, "Content-Encoding", v, sizeof v));
        TRUE_(hc_header(&rep, "ETag", plain, sizeof plain));
        TRUE_(strcmp(plain, tag) != 0); /* other bytes, another name */
    }
    snprintf(line, sizeof line, "Accept-Encoding: gzip\r\nIf-None-Match: \"x\", W/%s\r\n", tag);
    get(a->path, line);
    EQ(rep.status, 304);
    EQ(rep.n_body, 0);
    TRUE_(hc_header(&rep, "ETag", v, sizeof v));
    EQ_STR(v, tag);
    FALSE_(hc_header(&rep, "Content-Encoding", v, sizeof v));
    snprintf(line, sizeof line, "If-None-Match: %s\r\n",
             tag); /* the compressed one is not what it asks for */
    get(a->path, line);
    EQ(rep.status, 200);
    stop();
}

TEST(pages_have_a_strict_policy) {
    static const char *const pages[] = {"/", "/dashboard", "/docs", "/assets/playground.js"};
    char v[400];
    start(NULL);
    for (size_t i = 0; i < COUNT_OF(pages); i++) {
        get(pages[i], "Accept: " BROWSER "\r\n");
        EQ(rep.status, 200);
        TRUE_(hc_header(&rep, "Content-Security-Policy", v, sizeof v));
        TRUE_(strstr(v, "default-src 'none'") && strstr(v, "script-src 'self';") &&
              strstr(v, "style-src 'self';"));
        TRUE_(strstr(v, "frame-ancestors 'none'") && strstr(v, "base-uri 'none'") &&
              strstr(v, "form-action 'none'"));
        TRUE_(strstr(v, "unsafe") == NULL);
        TRUE_(hc_header(&rep, "X-Content-Type-Options", v, sizeof v));
        TRUE_(hc_header(&rep, "Referrer-Policy", v, sizeof v));
        TRUE_(hc_header(&rep, "Cache-Control", v, sizeof v));
        EQ_STR(v, "private, no-cache");
    }
    get("/assets/nothing.js", "");
    EQ(rep.status, 404);
    get("/assets/..%2fplayground.js", "");
    EQ(rep.status, 404);
    stop();
}

/* A browser is asked for a key where it shows what it is asked; what a script asks for is not. */
TEST(browsers_are_asked_for_a_key_on_pages) {
    static const struct {
        const char *path, *accept;
        bool asked;
    } t[] = {{"/", BROWSER, true},
             {"/dashboard", BROWSER, true},
             {"/docs", BROWSER, true},
             {"/", "application/json", false},
             {"/dashboard", "*/*", false},
             {"/assets/base.css", "text/css,*/*;q=0.1", false},
             {"/openapi.json", BROWSER, false},
             {"/dashboard/data", BROWSER, false},
             {"/v1/models", BROWSER, false}};
    start("one");
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        char line[200], v[100];
        snprintf(line, sizeof line, "Accept: %s\r\n", t[i].accept);
        get(t[i].path, line);
        EQ(rep.status, 401);
        if (hc_header(&rep, "WWW-Authenticate", v, sizeof v) != t[i].asked)
            FAIL("%s, %s", t[i].path, t[i].accept);
        if (t[i].asked) EQ_STR(v, "Basic realm=\"Ingot\", charset=\"UTF-8\"");
        snprintf(line, sizeof line, BASIC "Accept: %s\r\n", t[i].accept);
        get(t[i].path, line);
        EQ(rep.status, 200);
    }
    get("/", "Authorization: Basic dTp0d28=\r\nAccept: " BROWSER "\r\n"); /* u:two */
    EQ(rep.status, 401);
    TRUE_(strstr(rep.head, "WWW-Authenticate") != NULL);
    stop();
}

/* What another site makes a browser ask carries the key too, and must not count. */
TEST(other_sites_cannot_use_the_browsers_key) {
    static const struct {
        const char *path, *lines;
        int status;
    } t[] = {
        {"/v1/models", BASIC, 200},
        {"/v1/models", BASIC "Sec-Fetch-Site: same-origin\r\n", 200},
        {"/v1/models", BASIC "Sec-Fetch-Site: none\r\n", 200},
        {"/v1/models", BASIC "Sec-Fetch-Site: cross-site\r\n", 403},
        {"/v1/models", BASIC "Sec-Fetch-Site: same-site\r\n", 403},
        {"/v1/models", BASIC "Sec-Fetch-Site: whatever\r\n", 403},
        {"/v1/models", BASIC "Origin: http://here:8000\r\n", 200},
        {"/v1/models", BASIC "Origin: https://HERE:8000\r\n", 200},
        {"/v1/models", BASIC "Origin: http://here:8001\r\n", 403},
        {"/v1/models", BASIC "Origin: http://there:8000\r\n", 403},
        {"/v1/models", BASIC "Origin: http://here:8000.evil.example\r\n", 403},
        {"/v1/models", BASIC "Origin: null\r\n", 403},
        {"/v1/models", BASIC "Origin: here:8000\r\n", 403},
        {"/v1/models", BASIC "Origin: http://there\r\nSec-Fetch-Site: same-origin\r\n", 403},
        {"/", BASIC "Sec-Fetch-Site: cross-site\r\n", 403},
        /* a link followed to a page */
        {"/",
         BASIC
         "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
         200},
        {"/",
         BASIC
         "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
         403},
        {"/v1/models",
         BASIC
         "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
         403},
        /* keys that no browser adds by itself */
        {"/v1/models",
         "Authorization: Bearer one\r\nSec-Fetch-Site: cross-site\r\nOrigin: http://there\r\n",
         200},
        {"/v1/models", BASIC "X-Api-Key: one\r\nSec-Fetch-Site: cross-site\r\n", 200},
        {"/health", BASIC "Sec-Fetch-Site: cross-site\r\n", 200},
    };
    start("one");
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        get(t[i].path, t[i].lines);
        if (rep.status != t[i].status)
            FAIL("%d, not %d: %s %s", rep.status, t[i].status, t[i].path, t[i].lines);
    }
    char text[400];
    snprintf(text, sizeof text,
             "POST /complete HTTP/1.1\r\nHost: here:8000\r\n" BASIC
             "Origin: http://there\r\nContent-Type: text/plain\r\nContent-Length: "
             "12\r\n\r\n{\"code\":\"x\"}");
    hc_once(port, &rep, text);
    EQ(rep.status, 403);
    EQ(n_held, 0);
    stop();
}

/* ---- the dashboard's numbers ---- */

static Json *data(const char *query) {
    char path[100];
    Json *j = NULL;
    snprintf(path, sizeof path, "/dashboard/data%s", query);
    get(path, "");
    EQ(rep.status, 200);
    OK_(json_parse(&j, (Slice){rep.body, rep.n_body}, TERR));
    return j;
}

TEST(the_dashboard_shows_what_runs) {
    start(NULL);
    int fd = hc_connect(port);
    hc_send(fd, "POST /complete HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: "
                "14\r\n\r\n{\"code\":\"abc\"}");
    for (int i = 0; i < 3000 && atomic_load(&n_held) == 0; i++) usleep(1000);
    get("/nowhere", "");
    EQ(rep.status, 404);
    Json *j = NULL;
    for (int i = 0; i < 100; i++) { /* until two samples were taken, and the job has come back */
        json_free(j);
        j = data("");
        const Json *one = json_at(json_get(j, "requests"), 0);
        if (json_len(json_get(j, "rows")) >= 2 &&
            slice_eq_str(json_str(json_get(one, "state")), "waiting"))
            break;
        usleep(50000);
    }
    EQ(json_int(json_get(j, "n_requests")), 1);
    const Json *r = json_at(json_get(j, "requests"), 0);
    TRUE_(slice_eq_str(json_str(json_get(r, "id")), "mine"));
    TRUE_(slice_eq_str(json_str(json_get(r, "route")), "/complete"));
    TRUE_(slice_eq_str(json_str(json_get(r, "state")), "waiting"));
    EQ(json_int(json_get(r, "prompt_tokens")), 3);
    EQ(json_int(json_get(r, "tokens")), 0);
    EQ(json_int(json_get(json_get(j, "totals"), "errors")), 1);
    EQ(json_len(json_get(j, "names")), json_len(json_at(json_get(j, "rows"), 0)));
    /* only what is later */
    const Json *rows = json_get(j, "rows");
    char query[64];
    size_t n = json_len(rows);
    snprintf(query, sizeof query, "?since=%.3f",
             json_num(json_at(json_at(rows, n - 1), 0)) - 0.001);
    Json *later = data(query);
    double t = json_num(json_at(json_at(json_get(later, "rows"), 0), 0));
    NEAR(t, json_num(json_at(json_at(rows, n - 1), 0)), 1e-6);
    json_free(later);
    later = data("?rows=1");
    EQ(json_len(json_get(later, "rows")), 1);
    json_free(later);
    later = data("?rows=0");
    EQ(json_len(json_get(later, "rows")), 0);
    json_free(later);
    json_free(j);
    close(fd);
    stop();
}

TEST(the_dashboards_query_is_checked) {
    static const char *const bad[] = {"since=x", "since=-1",  "since=nan",   "step=61",
                                      "step=",   "since=%ff", "since=1e300", "rows=901"};
    start(NULL);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char path[100];
        snprintf(path, sizeof path, "/dashboard/data?%s", bad[i]);
        get(path, "");
        if (rep.status != 422 && rep.status != 400) FAIL("%s: %d %s", bad[i], rep.status, rep.body);
    }
    Json *j = data("?step=0&since=0&other=1");
    EQ(json_int(json_get(j, "step")), 1);
    json_free(j);
    stop();
}
