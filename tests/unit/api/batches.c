/* SPDX-License-Identifier: Apache-2.0
 * Files and batches without a server: the case is the loop, and answers lines itself. */
#include "api/batches.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store.h"
#include "test.h"
#include "text/json.h"

static Batches *b;
static _Atomic int n_wakes;

static void on_wake(void *ctx) {
    (void)ctx;
    atomic_fetch_add(&n_wakes, 1);
}

static bool allows(Slice url) { return slice_eq_str(url, "/v1/x"); }

static void start(BatchesConfig c) {
    c.dir = test_tmpdir();
    c.wake = on_wake;
    c.allows = allows;
    c.reserve = 1;
    if (c.retry_ms == 0) c.retry_ms = 20;
    OK_(batches_open(&b, &c, TERR));
}

/* ---- asking ---- */

static struct {
    int n, http;
    Status st;
    Err err;
    char body[20000];
    size_t n_body;
    IoMap content;
} got;

static void on_done(void *ctx, const BatchesReply *r) {
    (void)ctx;
    got.n++;
    got.st = r->st;
    got.err = r->err;
    got.http = r->http;
    got.n_body = MIN(r->body.n, sizeof got.body - 1);
    memcpy(got.body, r->body.p, got.n_body);
    got.body[got.n_body] = '\0';
    got.content = r->content;
}

/* Ask and wait for the answer. */
static Status ask_for(BatchesAsk a) {
    BatchesTicket *t;
    int before = got.n;
    OK_(batches_ask(&t, b, &a, on_done, NULL, TERR));
    for (int i = 0; i < 5000 && got.n == before; i++) {
        batches_poll(b);
        if (got.n == before) usleep(1000);
    }
    EQ(got.n, before + 1);
    return got.st;
}

static Status ask(BatchesOp op, const char *owner, const char *id) {
    return ask_for((BatchesAsk){.op = op, .owner = owner, .id = slice_of(id)});
}

/* A text member of the last answer. */
static const char *member(const char *key) {
    static char text[4][300];
    static int turn;
    Json *j = NULL;
    OK_(json_parse(&j, slice_of(got.body), TERR));
    Slice s = json_str(json_get(j, key));
    snprintf(text[++turn % 4], sizeof text[0], "%.*s", (int)s.n, s.n ? s.p : "");
    json_free(j);
    return text[turn % 4];
}

static Status upload(char id[64], const char *owner, const char *text) {
    BatchesAsk a = {.op = BATCHES_FILE_PUT,
                    .owner = owner,
                    .content_type = slice_of("multipart/form-data; boundary=q")};
    sb_printf(
        &a.body,
        "--q\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
        "--q\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a/b\\\\c.jsonl\"\r\n\r\n"
        "%s\r\n--q--\r\n",
        text);
    Status st = ask_for(a);
    if (st == OK) snprintf(id, 64, "%s", member("id"));
    return st;
}

static Status begin_in(char id[64], const char *owner, const char *file, const char *window) {
    BatchesAsk a = {.op = BATCHES_NEW, .owner = owner};
    sb_printf(&a.body,
              "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/x\",\"completion_window\":\"%s\"}",
              file, window);
    Status st = ask_for(a);
    if (st == OK) snprintf(id, 64, "%s", member("id"));
    return st;
}

static Status begin(char id[64], const char *owner, const char *file) {
    return begin_in(id, owner, file, "24h");
}

static const char *make_lines(int n) {
    static char text[20000];
    size_t k = 0;
    for (int i = 0; i < n; i++)
        k += (size_t)snprintf(
            text + k, sizeof text - k,
            "{\"custom_id\":\"c%d\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{}}\n", i);
    return text;
}

/* ---- working ---- */

/* Run up to `most` lines with this status, for as long as the batch is not in this state. */
static int work_until(const char *owner, const char *batch, const char *state, int most,
                      int status) {
    int n = 0;
    for (int i = 0; i < 5000; i++) {
        BatchesWork *w = n < most ? batches_take(b) : NULL;
        if (w) {
            w->status = status;
            snprintf(w->request_id, sizeof w->request_id, "r%d", n++);
            sb_puts(&w->body, "{}");
            batches_give(b, w);
            continue;
        }
        if (n >= most) return n;
        OK_(ask(BATCHES_GET, owner, batch));
        if (strcmp(member("status"), state) == 0) return n;
        usleep(1000);
    }
    FAIL("it is %s, not %s", member("status"), state);
    return n;
}

static void give_all_back(void) {
    batches_set_window(b, 0);
    for (BatchesWork *w; (w = batches_take(b));) batches_give(b, w);
}

static int n_lines_of(const char *owner, const char *id) {
    int n = 0;
    if (!id[0]) return 0;
    OK_(ask(BATCHES_FILE_OPEN, owner, id));
    for (size_t i = 0; i < got.n_body; i++) n += got.body[i] == '\n';
    EQ(got.content.n, got.n_body);
    io_unmap(&got.content);
    return n;
}

/* ---- files ---- */

TEST(files_are_their_owners) {
    char id[64], id2[64];
    start((BatchesConfig){.max_files = 2, .max_file = 100});
    OK_(upload(id, "me", "hello"));
    EQ_STR(member("filename"), "c.jsonl");
    OK_(ask(BATCHES_FILE_GET, "me", id));
    FAILS(ERR_NOT_FOUND, (ask(BATCHES_FILE_GET, "you", id) == OK ? OK : (*TERR = got.err, got.st)));
    FAILS(ERR_NOT_FOUND, (ask(BATCHES_FILE_DELETE, "you", id), *TERR = got.err, got.st));
    FAILS(ERR_NOT_FOUND, (ask(BATCHES_FILE_OPEN, "you", id), *TERR = got.err, got.st));
    FAILS(ERR_NOT_FOUND, (ask(BATCHES_FILE_OPEN, "me", "../batches.db"), *TERR = got.err, got.st));
    OK_(ask(BATCHES_FILE_OPEN, "me", id));
    EQ_STR(got.body, "hello");
    io_unmap(&got.content);
    OK_(upload(id2, "me", "again"));
    NE(upload(id2, "me", "a third"), OK);
    EQ(got.http, 429);
    OK_(upload(id2, "you", "of another"));
    NE(upload(id2, "you", make_lines(3)), OK);
    EQ(got.http, 413);
    OK_(ask(BATCHES_FILE_DELETE, "me", id));
    NE(ask(BATCHES_FILE_GET, "me", id), OK);
    OK_(ask(BATCHES_FILE_LIST, "me", ""));
    TRUE_(strstr(got.body, "again") == NULL && strstr(got.body, "\"has_more\":false") != NULL);
    batches_free(b);
}

TEST(pages_of_a_list) {
    char id[5][64];
    start((BatchesConfig){.max_file = 100});
    for (int i = 0; i < 5; i++) OK_(upload(id[i], "", "x"));
    BatchesAsk a = {.op = BATCHES_FILE_LIST, .query = slice_of("limit=2")};
    OK_(ask_for(a));
    EQ_STR(member("first_id"), id[4]);
    EQ_STR(member("last_id"), id[3]);
    TRUE_(strstr(got.body, "\"has_more\":true") != NULL);
    char query[100];
    snprintf(query, sizeof query, "limit=3&after=%s", id[3]);
    a.query = slice_of(query);
    OK_(ask_for(a));
    EQ_STR(member("first_id"), id[2]);
    EQ_STR(member("last_id"), id[0]);
    TRUE_(strstr(got.body, "\"has_more\":false") != NULL);
    a.query = slice_of("order=asc&limit=1&purpose=batch");
    OK_(ask_for(a));
    EQ_STR(member("first_id"), id[0]);
    a.query = slice_of("purpose=batch_output");
    OK_(ask_for(a));
    EQ_STR(member("first_id"), "");
    static const char *const bad[] = {"limit=0", "limit=x", "limit=10001", "after=nobody",
                                      "limit=%zz"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        a.query = slice_of(bad[i]);
        EQ(ask_for(a), ERR_ARG);
    }
    batches_free(b);
}

/* ---- batches ---- */

TEST(a_batch_from_its_lines_to_its_outputs) {
    char file[64], id[64], out[64];
    start((BatchesConfig){0});
    OK_(upload(file, "me", make_lines(20)));
    OK_(begin(id, "me", file));
    EQ_STR(member("status"), "validating");
    usleep(20000);
    TRUE_(batches_take(b) == NULL); /* nobody runs lines yet */
    batches_set_window(b, 3);
    EQ(work_until("me", id, "completed", 100, 200), 20);
    TRUE_(strstr(got.body, "\"request_counts\":{\"total\":20,\"completed\":20,\"failed\":0}") !=
          NULL);
    EQ_STR(member("error_file_id"), "");
    snprintf(out, sizeof out, "%s", member("output_file_id"));
    EQ(n_lines_of("me", out), 20);
    NE(ask(BATCHES_FILE_OPEN, "you", out), OK);
    EQ(batches_stats(b).n_ok, 20);
    batches_free(b);
}

TEST(no_more_lines_are_out_than_the_window_has) {
    char file[64], id[64];
    BatchesWork *w[8] = {0};
    int n = 0;
    start((BatchesConfig){0});
    OK_(upload(file, "", make_lines(20)));
    OK_(begin(id, "", file));
    batches_set_window(b, 4);
    for (int i = 0; i < 300; i++) {
        BatchesWork *x = batches_take(b);
        if (x) w[n++] = x;
        else usleep(1000);
        TRUE_(n <= 4);
    }
    EQ(n, 4);
    for (int i = 0; i < n; i++) batches_give(b, w[i]); /* unrun: they come again */
    EQ(work_until("", id, "completed", 100, 400), 20);
    EQ_STR(member("output_file_id"), "");
    batches_free(b);
}

TEST(owners_take_turns) {
    char file[64], id[6][64], other[64], small[64];
    start((BatchesConfig){0});
    OK_(upload(file, "many", make_lines(50)));
    for (int i = 0; i < 6; i++) OK_(begin(id[i], "many", file));
    OK_(upload(other, "few", make_lines(2)));
    OK_(begin(small, "few", other));
    batches_set_window(b, 2);
    int n = work_until("few", small, "completed", 1000, 200);
    TRUE_(n < 250); /* it did not wait for the six */
    give_all_back();
    batches_free(b);
}

/* What a server that is stopped, or killed, leaves is done by the next one, and only that. */
TEST(another_server_goes_on) {
    char file[64], id[64], out[64];
    int n = 0;
    start((BatchesConfig){0});
    OK_(upload(file, "", make_lines(30)));
    OK_(begin(id, "", file));
    for (int round = 0; round < 4; round++) {
        batches_set_window(b, 5);
        n += work_until("", id, "completed", 6, 200);
        give_all_back();
        batches_free(b);
        start((BatchesConfig){0});
    }
    EQ(n, 24);
    batches_set_window(b, 5);
    EQ(work_until("", id, "completed", 100, 200), 6);
    snprintf(out, sizeof out, "%s", member("output_file_id"));
    EQ(n_lines_of("", out), 30);
    batches_free(b);
}

TEST(cancelled_with_lines_out) {
    char file[64], id[64];
    start((BatchesConfig){0});
    OK_(upload(file, "", make_lines(10)));
    OK_(begin(id, "", file));
    batches_set_window(b, 2);
    EQ(work_until("", id, "completed", 3, 200), 3);
    BatchesWork *w = NULL;
    for (int i = 0; i < 2000 && !w; i++) {
        w = batches_take(b);
        if (!w) usleep(1000);
    }
    TRUE_(w && !atomic_load(w->dropped));
    OK_(ask(BATCHES_CANCEL, "", id));
    EQ_STR(member("status"), "cancelling");
    TRUE_(atomic_load(w->dropped));
    OK_(ask(BATCHES_CANCEL, "", id)); /* twice is fine */
    batches_give(b, w);
    for (BatchesWork *x; (x = batches_take(b));) batches_give(b, x);
    work_until("", id, "cancelled", 100, 200);
    TRUE_(strstr(got.body, "\"completed\":3,") != NULL);
    NE(ask(BATCHES_CANCEL, "", id), OK);
    EQ(got.http, 409);
    batches_free(b);
}

TEST(inputs_that_cannot_be_run) {
    static const struct {
        const char *text, *code;
    } bad[] = {{"\n\n", "empty_file"},
               {"x\n", "invalid_json_line"},
               {NULL, "too_many_tasks"},
               {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/y\",\"body\":{}}",
                "mismatched_endpoint"}};
    start((BatchesConfig){.max_lines = 10});
    batches_set_window(b, 2);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        char file[64], id[64];
        OK_(upload(file, "", bad[i].text ? bad[i].text : make_lines(11)));
        OK_(begin(id, "", file));
        EQ(work_until("", id, "failed", 100, 200), 0);
        TRUE_(strstr(got.body, bad[i].code) != NULL);
        EQ_STR(member("output_file_id"), "");
        TRUE_(strstr(got.body, test_tmpdir()) == NULL); /* no path of ours */
    }
    batches_free(b);
}

TEST(what_a_batch_may_ask_for) {
    static const char *const bad[] = {
        "x",
        "{}",
        "{\"input_file_id\":\"%s\"}",
        "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/y\"}",
        "{\"input_file_id\":\"none\",\"endpoint\":\"/v1/x\"}",
        "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/x\",\"completion_window\":\"8d\"}",
        "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/x\",\"completion_window\":\"0h\"}",
        "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/x\",\"completion_window\":\"h\"}",
        "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/x\",\"metadata\":{\"a\":1}}",
        "{\"input_file_id\":\"%s\",\"endpoint\":\"/v1/x\",\"metadata\":5}"};
    char file[64], id[64];
    start((BatchesConfig){.max_batches = 2});
    OK_(upload(file, "", make_lines(5)));
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        BatchesAsk a = {.op = BATCHES_NEW};
        const char *at = strstr(bad[i], "%s");
        sb_put(&a.body, bad[i], at ? (size_t)(at - bad[i]) : strlen(bad[i]));
        if (at) sb_printf(&a.body, "%s%s", file, at + 2);
        Status st = ask_for(a);
        if (st != ERR_ARG && st != ERR_FORMAT) FAIL("%s: %d", bad[i], st);
    }
    OK_(begin(id, "", file));
    OK_(begin(id, "", file));
    NE(begin(id, "", file), OK);
    EQ(got.http, 429);
    NE(ask(BATCHES_FILE_DELETE, "", file), OK);
    EQ(got.http, 409);
    batches_free(b);
}

TEST(the_folder_has_one_server) {
    Batches *second = NULL;
    start((BatchesConfig){0});
    BatchesConfig c = {.dir = test_tmpdir()};
    FAILS(ERR_FULL, batches_open(&second, &c, TERR));
    batches_free(b);
    OK_(batches_open(&second, &c, TERR));
    batches_free(second);
}

TEST(asks_are_bounded_and_may_be_forgotten) {
    BatchesTicket *t[4];
    size_t before = mem_live_bytes();
    start((BatchesConfig){.max_waiting = 3});
    for (int i = 0; i < 4; i++) {
        BatchesAsk a = {.op = BATCHES_LIST};
        if (i < 3) OK_(batches_ask(&t[i], b, &a, on_done, NULL, TERR));
        else FAILS(ERR_FULL, batches_ask(&t[i], b, &a, on_done, NULL, TERR));
    }
    int n = got.n;
    for (int i = 0; i < 3; i++) batches_forget(t[i]);
    usleep(50000);
    batches_poll(b);
    EQ(got.n, n);
    batches_free(b);
    EQ(mem_live_bytes(), before); /* only now: until then the io thread has work of its own */
}
