/* SPDX-License-Identifier: Apache-2.0
 * The API over real sockets, with a stand-in for the engine that does what a case tells it. */
#include "server/server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "support/http_client.h"
#include "test.h"
#include "text/json.h"

typedef enum FakeMode {
    ECHO_PROMPT,
    BAD_BYTES,
    HANG,
    TOO_FULL,
    BROKEN,
    CANCELS,
    TOO_SLOW,
    NO_MEMORY
} FakeMode;

enum { MAX_RUNS = 512, MAX_PROMPT = 600 };

/* One submitted request, on a thread of its own. */
typedef struct FakeRun {
    pthread_t thread;
    EngineReq req;
    int32_t prompt[MAX_PROMPT];
    _Atomic bool cancelled;
} FakeRun;

static FakeRun runs[MAX_RUNS]; /* index: id - 1 */
static _Atomic int n_runs, n_cancels;
static _Atomic FakeMode mode;

static const char secret[] = "blk.3 at /srv/models/secret.gguf";

/* An engine has one thread that calls back; these take turns. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void give_token(const EngineReq *r, int32_t id) {
    pthread_mutex_lock(&turn);
    r->on_token(r->ctx, &(SampleOut){.id = id});
    pthread_mutex_unlock(&turn);
}

static void *run_request(void *ctx) {
    FakeRun *f = ctx;
    const EngineReq *r = &f->req;
    Err e = {0};
    FinishReason why = FINISH_LENGTH;
    FakeMode m = atomic_load(&mode);
    for (int i = 0; m == ECHO_PROMPT && i < r->max_new; i++)
        give_token(r, f->prompt[i % r->n_prompt]);
    if (m == HANG) {
        while (!atomic_load(&f->cancelled)) usleep(500);
        why = FINISH_CANCELLED;
    }
    if (m == CANCELS) why = FINISH_CANCELLED;
    if (m == TOO_SLOW) why = FINISH_DEADLINE;
    if (m == BROKEN || m == NO_MEMORY) {
        why = FINISH_ERROR;
        if (err_set(&e, m == BROKEN ? ERR_ARG : ERR_NOMEM, "%s", secret) == OK) return NULL;
    }
    if (m == BAD_BYTES) {
        why = FINISH_STOP;
        for (int i = 0; i < r->n_prompt - 1; i++) give_token(r, f->prompt[i]);
    }
    pthread_mutex_lock(&turn);
    r->on_done(r->ctx, why, why == FINISH_ERROR ? &e : NULL);
    pthread_mutex_unlock(&turn);
    return NULL;
}

static Status fake_submit(void *self, const EngineReq *r, uint64_t *id, Err *e) {
    (void)self;
    if (atomic_load(&mode) == TOO_FULL) return err_set(e, ERR_FULL, "%s", secret);
    if (r->n_prompt > MAX_PROMPT) return err_set(e, ERR_ARG, "prompt too long for the test");
    int i = atomic_fetch_add(&n_runs, 1);
    FakeRun *f = &runs[i];
    f->req = *r;
    memcpy(f->prompt, r->prompt, (size_t)r->n_prompt * sizeof f->prompt[0]);
    atomic_store(&f->cancelled, false);
    *id = (uint64_t)i + 1;
    return pthread_create(&f->thread, NULL, run_request, f) == 0 ? OK
                                                                 : err_set(e, ERR_IO, "thread");
}

static void fake_cancel(void *self, uint64_t id) {
    (void)self;
    atomic_fetch_add(&n_cancels, 1);
    atomic_store(&runs[id - 1].cancelled, true);
}

/* ---- fixture ---- */

static Server *server;
static Tokenizer *tok; /* 256 bytes and the end of text */
static pthread_t loop_thread;
static int port;
static size_t live_before;
static char access_line[4096]; /* the last one; read after the server stopped */
static HcReply rep;
static Status run_status;

static void on_line(void *ctx, const char *line) {
    (void)ctx;
    snprintf(access_line, sizeof access_line, "%s", line);
}

static void *loop(void *ctx) {
    (void)ctx;
    run_status = server_run(server, 300, NULL);
    return NULL;
}

static void start(FakeMode m, int max_ctx) {
    TokTrainOpts o = {.n_vocab = 257};
    TokTrainer *t;
    atomic_store(&mode, m);
    atomic_store(&n_runs, 0);
    atomic_store(&n_cancels, 0);
    live_before = mem_live_bytes();
    OK_(tok_train_new(&t, &o, TERR));
    OK_(tok_train_finish(t, &tok, TERR));
    tok_train_free(t);
    ServerConfig c = {.host = "127.0.0.1",
                      .engine = {.submit = fake_submit, .cancel = fake_cancel, .max_ctx = max_ctx},
                      .tok = tok,
                      .device = "cpu",
                      .on_line = on_line};
    OK_(server_new(&server, &c, TERR));
    port = server_port(server);
    EQ(pthread_create(&loop_thread, NULL, loop, NULL), 0);
}

static void stop(void) {
    server_stop(server);
    pthread_join(loop_thread, NULL);
    EQ(run_status, OK);
    for (int i = 0; i < n_runs; i++) {
        atomic_store(&runs[i].cancelled, true);
        pthread_join(runs[i].thread, NULL);
    }
    server_free(server);
    tok_free(tok);
    EQ(mem_live_bytes(), live_before); /* every job was freed, whoever left first */
}

/* POST body to path on its own connection; answer in rep. */
static void post_n(const char *path, const char *body, size_t n) {
    char head[256];
    int fd = hc_connect(port);
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
             "Content-Length: %zu\r\n\r\n",
             path, n);
    hc_send(fd, head);
    hc_send_n(fd, body, n);
    hc_read(fd, &rep, false);
    close(fd);
}

static void post(const char *body) { post_n("/complete", body, strlen(body)); }

static void get(const char *request_line) {
    char text[256];
    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: x\r\n\r\n", request_line);
    hc_once(port, &rep, text);
}

/* Member of the answer as text; what it borrows lives until the next call. */
static Slice member(const char *key) {
    static Json *j;
    Slice v = {NULL, 0};
    json_free(j);
    j = NULL;
    OK_(json_parse(&j, (Slice){rep.body, rep.n_body}, TERR));
    TRUE_(json_is_object(j));
    OK_(json_opt_str(&v, j, key, TERR));
    return v;
}

static double number(const char *key) {
    Json *j = NULL;
    double v = -1;
    OK_(json_parse(&j, (Slice){rep.body, rep.n_body}, TERR));
    OK_(json_opt_num(&v, j, key, -1e18, 1e18, TERR));
    json_free(j);
    return v;
}

static const FakeRun *last_run(void) { return &runs[atomic_load(&n_runs) - 1]; }

static bool wait_for(_Atomic int *n, int want) {
    for (int i = 0; i < 5000 && atomic_load(n) < want; i++) usleep(1000);
    return atomic_load(n) >= want;
}

/* ---- /complete ---- */

TEST(complete_answers_without_the_prompt) {
    start(ECHO_PROMPT, 1024);
    post("{\"code\": \"abc\", \"max_tokens\": 7, \"unknown\": [1, {}]}");
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("completion"), "abcabca"));
    NEAR(number("tokens"), 7, 0);
    TRUE_(number("latency_ms") >= 0 && number("latency_ms") < 5000);
    char v[64];
    TRUE_(hc_header(&rep, "Content-Type", v, sizeof v));
    EQ_STR(v, "application/json");
    stop();
    TRUE_(strstr(access_line, " - \"POST /complete HTTP/1.1\" 200 OK") != NULL);
    TRUE_(strncmp(access_line, "INFO:     127.0.0.1:", 20) == 0);
}

TEST(defaults_and_given_values_reach_the_engine) {
    start(ECHO_PROMPT, 4096);
    post("{\"code\": \"x\"}");
    EQ(rep.status, 200);
    const EngineReq *r = &last_run()->req;
    EQ(r->max_new, 50);
    NEAR(r->sample.temp, 0.8, 0);
    EQ(r->sample.top_k, 200);
    NEAR(r->sample.top_p, 1, 0);
    uint64_t seed = r->sample.seed;
    post("{\"code\": \"x\", \"max_tokens\": null, \"temperature\": null, \"top_k\" : null, "
         "\"seed\": null}");
    r = &last_run()->req;
    EQ(r->max_new, 50);
    NEAR(r->sample.temp, 0.8, 0);
    EQ(r->sample.top_k, 0); /* null: off */
    TRUE_(r->sample.seed != seed);
    post("{\"code\": \"\\\"top_k\\\": null\", \"temperature\": 0, \"top_p\": 0.5, \"seed\": -3}");
    r = &last_run()->req;
    EQ(r->sample.top_k, 200);
    NEAR(r->sample.temp, 0, 0);
    NEAR(r->sample.top_p, 0.5, 0);
    EQ((int64_t)r->sample.seed, -3);
    post("{\"code\": \"x\", \"top_k\": 0, \"max_tokens\": 4000, \"temperature\": 100}");
    EQ(rep.status, 200);
    EQ(last_run()->req.max_new, 4000);
    EQ(last_run()->req.sample.top_k, 0);
    stop();
}

TEST(bad_requests_say_what_is_wrong) {
    static const struct {
        int status;
        const char *body, *says;
    } t[] = {
        {400, "", "json"},
        {400, "{", "json"},
        {400, "{\"code\": \"x\"} x", "json"},
        {400, "{\"code\": \"x\", \"code\": \"y\"}", "json"},
        {400, "{\"code\": \"\xff\"}", "json"},
        {400, "{\"code\": \"x\", \"temperature\": NaN}", "json"},
        {400, "{\"code\": \"\"}", "No prompt provided"},
        {422, "{}", "code: field required"},
        {422, "{\"code\": null}", "code: field required"},
        {422, "[]", "body"},
        {422, "\"code\"", "body"},
        {422, "{\"code\": 1}", "code"},
        {422, "{\"code\": [\"x\"]}", "code"},
        {422, "{\"code\": \"x\", \"max_tokens\": 0}", "max_tokens: 0"},
        {422, "{\"code\": \"x\", \"max_tokens\": -1}", "max_tokens"},
        {422, "{\"code\": \"x\", \"max_tokens\": 1048577}", "1048576"},
        {422, "{\"code\": \"x\", \"max_tokens\": 8192}", "8191"},
        {422, "{\"code\": \"x\", \"max_tokens\": \"5\"}", "max_tokens"},
        {422, "{\"code\": \"x\", \"max_tokens\": 1.5}", "max_tokens"},
        {422, "{\"code\": \"x\", \"max_tokens\": true}", "max_tokens"},
        {422, "{\"code\": \"x\", \"temperature\": -0.1}", "temperature"},
        {422, "{\"code\": \"x\", \"temperature\": 101}", "temperature"},
        {422, "{\"code\": \"x\", \"temperature\": \"hot\"}", "temperature"},
        {422, "{\"code\": \"x\", \"top_k\": -1}", "top_k"},
        {422, "{\"code\": \"x\", \"top_k\": \"all\"}", "top_k"},
        {422, "{\"code\": \"x\", \"top_p\": 0}", "top_p"},
        {422, "{\"code\": \"x\", \"top_p\": 1.1}", "top_p"},
        {422, "{\"code\": \"x\", \"seed\": 1.5}", "seed"},
        {422, "{\"code\": \"x\", \"n\": 0}", "n"},
        {422, "{\"code\": \"x\", \"n\": 129}", "128"},
        {422, "{\"code\": \"x\", \"stop\": 5}", "stop"},
        {422, "{\"code\": \"x\", \"stop\": [5]}", "stop"},
        {422, "{\"code\": \"x\", \"stop\": \"\"}", "stop string 0 is empty"},
        {422, "{\"code\": \"x\", \"stop\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", "17 elements"},
    };
    start(ECHO_PROMPT, 8192);
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        post(t[i].body);
        if (rep.status != t[i].status)
            FAIL("%d, not %d: %s: %s", rep.status, t[i].status, t[i].body, rep.body);
        Slice error = member("error");
        char text[300];
        snprintf(text, sizeof text, "%.*s", (int)error.n, error.p);
        if (!strstr(text, t[i].says)) FAIL("%s does not say %s", rep.body, t[i].says);
        TRUE_(slice_eq_str(member("detail"), text));
        TRUE_(slice_eq_str(member("type"), "invalid_request_error"));
    }
    EQ(atomic_load(&n_runs), 0);
    stop();
}

TEST(stop_strings_end_a_completion) {
    start(ECHO_PROMPT, 1024);
    post("{\"code\": \"abc\", \"max_tokens\": 40, \"stop\": \"ca\"}");
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("completion"), "ab"));
    NEAR(number("tokens"), 4, 0); /* those of the stop string were made, too */
    post("{\"code\": \"abc\", \"max_tokens\": 4, \"stop\": [\"x\", \"bca\"]}");
    TRUE_(slice_eq_str(member("completion"), "a"));
    post("{\"code\": \"abc\", \"max_tokens\": 4, \"stop\": null, \"n\": null}");
    TRUE_(slice_eq_str(member("completion"), "abca"));
    TRUE_(strstr(rep.body, "completions") == NULL);
    stop();
}

TEST(several_completions_of_one_prompt) {
    start(ECHO_PROMPT, 1024);
    post("{\"code\": \"abc\", \"max_tokens\": 2, \"n\": 3}");
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("completion"), "ab"));
    TRUE_(strstr(rep.body, "\"completions\":[\"ab\",\"ab\",\"ab\"]") != NULL);
    NEAR(number("tokens"), 6, 0);
    EQ(atomic_load(&n_runs), 3);
    stop();
}

TEST(prompt_is_cut_to_its_last_tokens) {
    start(ECHO_PROMPT, 2000);
    StrBuf b = {0};
    sb_puts(&b, "{\"code\": \"");
    for (int i = 0; i < 30000; i++) sb_printf(&b, "%05d ", i % 100000);
    sb_puts(&b, "END\", \"max_tokens\": 4}");
    post(sb_str(&b));
    EQ(rep.status, 200);
    EQ(last_run()->req.n_prompt, 512);
    TokBuf want = {0};
    OK_(tok_encode(tok, slice_of("29998 29999 END"), false, &want, TERR));
    EQ_MEM(last_run()->prompt + 512 - want.n, want.v, want.n * sizeof want.v[0]);
    tokbuf_deinit(&want);
    post("{\"code\": \"0123456789\", \"max_tokens\": 1992}"); /* 8 of the 10 fit beside */
    EQ(rep.status, 200);
    EQ(last_run()->req.n_prompt, 8);
    post("{\"code\": \"0123456789\", \"max_tokens\": 1999}");
    EQ(last_run()->req.n_prompt, 1);
    post("{\"code\": \"0123456789\", \"max_tokens\": 2000}");
    EQ(rep.status, 422);
    TRUE_(strstr(rep.body, "max_tokens: 2000") && strstr(rep.body, "1999"));
    sb_deinit(&b);
    stop();
}

TEST(completion_is_always_valid_utf8) {
    start(BAD_BYTES, 1024); /* the last byte of the prompt is left out */
    post("{\"code\": \"a\xc3\xa9\"}");
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("completion"), "a\xef\xbf\xbd"));
    NEAR(number("tokens"), 2, 0);
    post("{\"code\": \"x\"}"); /* nothing was generated */
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("completion"), ""));
    NEAR(number("tokens"), 0, 0);
    stop();
}

TEST(special_tokens_in_code_are_plain_text) {
    start(ECHO_PROMPT, 1024);
    post("{\"code\": \"<|endoftext|>\", \"max_tokens\": 13}");
    EQ(last_run()->req.n_prompt, 13);
    TRUE_(slice_eq_str(member("completion"), "<|endoftext|>"));
    stop();
}

/* ---- what the engine may do ---- */

TEST(failures_inside_are_not_shown) {
    static const struct {
        FakeMode mode;
        int status;
        const char *retry, *says;
    } t[] = {
        {TOO_FULL, 429, "1", "too many requests"}, {BROKEN, 500, NULL, "internal error"},
        {CANCELS, 503, "5", "stopping"},           {TOO_SLOW, 504, NULL, "timeout"},
        {NO_MEMORY, 503, "5", "out of memory"},
    };
    char v[32];
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        start(t[i].mode, 1024);
        post("{\"code\": \"x\"}");
        EQ(rep.status, t[i].status);
        TRUE_(strstr(rep.body, t[i].says) != NULL);
        TRUE_(strstr(rep.body, "blk.3") == NULL && strstr(rep.body, "secret") == NULL);
        EQ(hc_header(&rep, "Retry-After", v, sizeof v), t[i].retry != NULL);
        if (t[i].retry) EQ_STR(v, t[i].retry);
        stop();
    }
}

TEST(leaving_client_cancels_its_request) {
    start(HANG, 1024);
    static const char ask[] =
        "POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"code\": \"x\"}";
    for (int i = 0; i < 8; i++) {
        int fd = hc_connect(port);
        TRUE_(hc_send(fd, ask));
        TRUE_(wait_for(&n_runs, i + 1));
        if (i % 2) {
            hc_reset(fd);
        } else {
            close(fd);
        }
        TRUE_(wait_for(&n_cancels, i + 1));
    }
    EQ(atomic_load(&n_cancels), 8);
    stop();
}

TEST(health_never_waits_for_inference) {
    start(HANG, 1024);
    static const char ask[] =
        "POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"code\": \"x\"}";
    int fd[16];
    for (int i = 0; i < 16; i++) {
        fd[i] = hc_connect(port);
        TRUE_(hc_send(fd[i], ask));
    }
    TRUE_(wait_for(&n_runs, 16));
    uint64_t t0 = clock_now_ns();
    for (int i = 0; i < 20; i++) {
        get("GET /health");
        EQ(rep.status, 200);
    }
    TRUE_((double)(clock_now_ns() - t0) * 1e-9 < 2);
    for (int i = 0; i < 16; i++) close(fd[i]);
    stop();
}

TEST(stopping_answers_what_the_grace_leaves_time_for) {
    start(HANG, 1024);
    int fd = hc_connect(port);
    TRUE_(hc_send(
        fd, "POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"code\": \"x\"}"));
    TRUE_(wait_for(&n_runs, 1));
    server_stop(server);
    usleep(20000);
    EQ(atomic_load(&n_cancels), 0);
    stop();
    EQ(atomic_load(&n_cancels), 1);
    TRUE_(hc_closed(fd, 1000));
    close(fd);
}

static void *ask_often(void *ctx) {
    _Atomic int *n_ok = ctx;
    HcReply *r = mem_new(HcReply);
    int fd = hc_connect(port);
    for (int i = 0; r && i < 20; i++) {
        hc_ask(fd, r,
               "POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 33\r\n\r\n"
               "{\"code\": \"abcd\", \"max_tokens\": 8}");
        if (r->status == 200 && strstr(r->body, "\"completion\":\"abcdabcd\""))
            atomic_fetch_add(n_ok, 1);
    }
    close(fd);
    mem_free(r);
    return NULL;
}

TEST(many_clients_at_once_get_their_own_answers) {
    enum { N = 16 };
    start(ECHO_PROMPT, 1024);
    pthread_t t[N];
    _Atomic int n_ok = 0;
    for (int i = 0; i < N; i++) EQ(pthread_create(&t[i], NULL, ask_often, &n_ok), 0);
    for (int i = 0; i < N; i++) pthread_join(t[i], NULL);
    EQ(n_ok, N * 20);
    stop();
}

/* ---- the rest ---- */

TEST(health_has_all_numbers) {
    start(ECHO_PROMPT, 1024);
    get("GET /health");
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("status"), "healthy"));
    TRUE_(slice_eq_str(member("device"), "cpu"));
    TRUE_(strstr(rep.body, "\"model_loaded\":true") != NULL);
    TRUE_(number("memory_usage") > 1e6 && number("memory_usage") < 1e11);
    TRUE_(number("cpu_usage") >= 0 && number("cpu_usage") <= 100);
    TRUE_(strstr(rep.body, "\"gpu_memory_used\":0") != NULL);
    get("GET /health/live");
    EQ(rep.status, 200);
    get("GET /health/ready");
    EQ(rep.status, 200);
    TRUE_(slice_eq_str(member("status"), "ready"));
    get("GET /");
    EQ(rep.status, 200);
    TRUE_(strstr(rep.body, "\"path\":\"/complete\"") != NULL);
    stop();
}

TEST(wrong_paths_and_methods) {
    static const struct {
        const char *line;
        int status;
        const char *allow;
    } t[] = {
        {"GET /nowhere", 404, NULL},     {"GET /health/", 404, NULL},
        {"GET /complete", 405, "POST"},  {"PUT /complete", 405, "POST"},
        {"HEAD /complete", 405, "POST"}, {"POST /health", 405, "GET, HEAD"},
        {"DELETE /", 405, "GET, HEAD"},  {"GET /health?x=1", 200, NULL},
        {"HEAD /health", 200, NULL},     {"GET /%68ealth", 200, NULL},
        {"GET /a\"b\\c", 404, NULL},
    };
    char v[32];
    start(ECHO_PROMPT, 1024);
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        get(t[i].line);
        if (rep.status != t[i].status) FAIL("%s: %d", t[i].line, rep.status);
        EQ(hc_header(&rep, "Allow", v, sizeof v), t[i].allow != NULL);
        if (t[i].allow) EQ_STR(v, t[i].allow);
    }
    stop();
    TRUE_(strstr(access_line, "\"GET /a%22b%5Cc HTTP/1.1\" 404 Not Found") != NULL);
}

TEST(refused_bytes_are_in_the_access_log) {
    start(ECHO_PROMPT, 1024);
    hc_once(port, &rep, "nonsense\r\n\r\n");
    EQ(rep.status, 400);
    stop();
    TRUE_(strstr(access_line, " - \"-\" 400 Bad Request") != NULL);
}

TEST(port_in_use_is_said) {
    start(ECHO_PROMPT, 1024);
    Server *second;
    ServerConfig c = {.host = "127.0.0.1",
                      .port = port,
                      .engine = {.submit = fake_submit, .cancel = fake_cancel, .max_ctx = 9},
                      .tok = tok};
    FAILS(ERR_IO, server_new(&second, &c, TERR));
    TRUE_(strstr(test_err.msg, "in use") != NULL);
    stop();
}
