/* SPDX-License-Identifier: Apache-2.0 */
#include "api/batch_run.h"

#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "test.h"

static char in[300], out[300], err[300];

static void put_file(const char *path, const char *text, size_t n) {
    IoWriter w;
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, text, n, TERR));
    OK_(io_writer_close(&w, TERR));
}

static void names(void) {
    snprintf(in, sizeof in, "%s/in", test_tmpdir());
    snprintf(out, sizeof out, "%s/out", test_tmpdir());
    snprintf(err, sizeof err, "%s/err", test_tmpdir());
}

#define LINE(id)                                                                               \
    "{\"custom_id\": \"" id "\", \"method\": \"POST\", \"url\": \"/v1/x\", \"body\": {\"a\": " \
    "1.50}}"

static void input(const char *text) {
    names();
    put_file(in, text, strlen(text));
}

static Status open_run(BatchRun **r, bool two) {
    BatchRunConfig c = {.in = in, .out = out, .errors = two ? err : NULL, .locked = true};
    return batches_run_open(r, &c, TERR);
}

static char read_text[8192];

static const char *text_of(const char *path) {
    StrBuf b = {0};
    OK_(io_read_file(&b, path, sizeof read_text - 1, TERR));
    snprintf(read_text, sizeof read_text, "%s", sb_str(&b));
    sb_deinit(&b);
    return read_text;
}

/* Take the next line and answer it with this status; its custom_id, or NULL at the end. */
static const char *answer(BatchRun *r, int status) {
    static char id[32];
    bool any;
    BatchTask t = {0};
    OK_(batches_run_next(&any, &t, r, TERR));
    if (!any) return NULL;
    snprintf(id, sizeof id, "%s", t.custom_id);
    BatchAnswer a = {.status = status, .request_id = "r", .body = slice_of("{\"x\":1}")};
    OK_(batches_run_put(r, &t, &a, TERR));
    batches_task_deinit(&t);
    return id;
}

static void counts_are(BatchRun *r, int n, int ok, int failed, int found) {
    BatchCounts c = batches_run_counts(r);
    EQ(c.n_lines, n);
    EQ(c.n_ok, ok);
    EQ(c.n_failed, failed);
    EQ(c.n_found, found);
}

TEST(lines_are_answered_in_order) {
    BatchRun *r;
    input("\xef\xbb\xbf" LINE("a") "\r\n\n  \n" LINE("b"));
    OK_(open_run(&r, false));
    counts_are(r, 2, 0, 0, 0);
    EQ_STR(answer(r, 200), "a");
    EQ_STR(answer(r, 400), "b");
    TRUE_(answer(r, 200) == NULL);
    counts_are(r, 2, 1, 1, 0);
    TRUE_(batches_is_done(batches_run_counts(r)));
    OK_(batches_run_sync(r, TERR));
    batches_run_close(r);
    const char *t = text_of(out);
    TRUE_(strstr(t, "{\"id\":\"batch_req_1_") == t);
    TRUE_(strstr(t, "\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"request_id\":\"r\","
                    "\"body\":{\"x\":1}},\"error\":null}\n{\"id\":\"batch_req_4_") != NULL);
    OK_(open_run(&r, false));
    counts_are(r, 2, 1, 1, 2);
    TRUE_(answer(r, 200) == NULL);
    batches_run_close(r);
}

/* Of every prefix of an output the whole lines count, and the rest is cut off and done again. */
TEST(every_torn_output_goes_on) {
    BatchRun *r;
    char whole[4096];
    input(LINE("a") "\nnonsense\n" LINE("c") "\n");
    OK_(open_run(&r, false));
    while (answer(r, 200)) {}
    OK_(batches_run_sync(r, TERR));
    batches_run_close(r);
    snprintf(whole, sizeof whole, "%s", text_of(out));
    for (size_t n = 0; n <= strlen(whole); n++) {
        int found = 0, again = 0;
        for (size_t i = 0; i < n; i++) found += whole[i] == '\n';
        put_file(out, whole, n);
        OK_(open_run(&r, false));
        EQ(batches_run_counts(r).n_found, found);
        while (answer(r, 200)) again++;
        TRUE_(again <= 3 - found);
        TRUE_(batches_is_done(batches_run_counts(r)));
        OK_(batches_run_sync(r, TERR));
        batches_run_close(r);
        EQ(strlen(text_of(out)), strlen(whole));
        OK_(open_run(&r, false));
        EQ(batches_run_counts(r).n_found, 3);
        batches_run_close(r);
    }
}

static void refused(const char *text, const char *why) {
    BatchRun *r;
    put_file(out, text, strlen(text));
    FAILS(ERR_FORMAT, open_run(&r, false));
    if (!strstr(test_err.msg, why)) FAIL("%s", test_err.msg);
    EQ_STR(text_of(out), text);
}

TEST(an_output_of_something_else_is_left_alone) {
    BatchRun *r;
    char whole[2048], two[4096];
    input(LINE("a") "\n");
    OK_(open_run(&r, false));
    EQ_STR(answer(r, 200), "a");
    OK_(batches_run_sync(r, TERR));
    batches_run_close(r);
    snprintf(whole, sizeof whole, "%s", text_of(out));
    snprintf(two, sizeof two, "%s%s", whole, whole);
    refused("notes\n", "no JSON");
    refused("notes", "no answer");
    refused("{}\n", "no id of a batch");
    refused("{\"id\":\"batch_req_0_0123456789abcdef\"}\n", "no id of a batch");
    refused("{\"id\":\"batch_req_9_0123456789abcdef\"}\n", "not there");
    refused("{\"id\":\"batch_req_1_0123456789abcdef\"}\n", "reads otherwise");
    refused(two, "second time");
    input(LINE("b") "\n");
    refused(whole, "reads otherwise");
    snprintf(out, sizeof out, "%s", in);
    FAILS(ERR_ARG, open_run(&r, false));
}

TEST(one_at_a_time) {
    BatchRun *r, *second;
    input(LINE("a") "\n");
    OK_(open_run(&r, false));
    FAILS(ERR_FULL, open_run(&second, false));
    batches_run_close(r);
    OK_(open_run(&r, false));
    batches_run_close(r);
}

TEST(what_cannot_be_run_is_an_error_and_the_rest_goes_on) {
    static const struct {
        const char *line, *code;
    } bad[] = {
        {"nonsense", "invalid_json_line"},
        {"[]", "invalid_json_line"},
        {"{}", "missing_required_parameter"},
        {"{\"custom_id\":5}", "missing_required_parameter"},
        {"{\"custom_id\":\"a\\u0000b\"}", "invalid_custom_id"},
        {"{\"custom_id\":\"x\",\"method\":\"GET\",\"url\":\"/v1/x\",\"body\":{}}",
         "invalid_method"},
        {"{\"custom_id\":\"x\",\"method\":\"POST\",\"body\":{}}", "missing_required_parameter"},
        {"{\"custom_id\":\"x\",\"method\":\"POST\",\"url\":\"/v1/x\"}",
         "missing_required_parameter"},
        {"{\"custom_id\":\"x\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":[]}",
         "missing_required_parameter"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        BatchRun *r;
        char text[1024], code[64];
        snprintf(text, sizeof text, "%s\n%s\n%s\n", bad[i].line, LINE("a"), LINE("a"));
        input(text);
        unlink(out);
        unlink(err);
        OK_(open_run(&r, true));
        EQ_STR(answer(r, 200), "a");
        TRUE_(answer(r, 200) == NULL); /* the second "a" */
        counts_are(r, 3, 1, 2, 0);
        OK_(batches_run_sync(r, TERR));
        batches_run_close(r);
        snprintf(code, sizeof code, "\"error\":{\"code\":\"%s\"", bad[i].code);
        if (!strstr(text_of(err), code)) FAIL("%s: %s", bad[i].line, read_text);
        TRUE_(strstr(read_text, "duplicate_custom_id") != NULL);
        OK_(open_run(&r, true)); /* and so it stays */
        counts_are(r, 3, 1, 2, 3);
        batches_run_close(r);
    }
}

TEST(a_check_tells_line_by_line) {
    BatchRun *r;
    StrBuf errors = {0};
    bool over = false;
    input(LINE("a") "\nx\n\n" LINE("a") "\n" LINE("b") "\n");
    BatchRunConfig c = {.in = in, .out = out, .errors = err, .endpoint = "/v1/x"};
    OK_(batches_run_open(&r, &c, TERR));
    for (int i = 0; i < 5; i++) {
        FALSE_(over);
        OK_(batches_run_check(&over, r, 1, &errors, TERR));
    }
    TRUE_(over);
    TRUE_(strstr(sb_str(&errors), "{\"code\":\"invalid_json_line\",\"line\":2,") != NULL);
    TRUE_(strstr(sb_str(&errors), "{\"code\":\"duplicate_custom_id\",\"line\":4,") != NULL);
    batches_run_close(r);
    sb_clear(&errors);
    c.endpoint = "/v1/y";
    OK_(batches_run_open(&r, &c, TERR));
    OK_(batches_run_check(&over, r, 100, &errors, TERR));
    TRUE_(strstr(sb_str(&errors), "mismatched_endpoint") != NULL);
    batches_run_close(r);
    sb_deinit(&errors);
    FALSE_(io_exists(err));
}

TEST(a_line_given_back_comes_again) {
    BatchRun *r;
    bool any, over;
    BatchTask a = {0}, b = {0};
    input(LINE("a") "\n" LINE("b") "\n" LINE("c") "\n");
    OK_(open_run(&r, false));
    OK_(batches_run_next(&any, &a, r, TERR));
    OK_(batches_run_next(&any, &b, r, TERR));
    batches_run_give_back(r, &b, false);
    batches_run_give_back(r, &a, true);
    batches_task_deinit(&a);
    batches_task_deinit(&b);
    EQ_STR(answer(r, 200), "a");
    OK_(batches_run_refuse(&over, r, 1, "batch_expired", "late", TERR));
    FALSE_(over);
    OK_(batches_run_refuse(&over, r, 10, "batch_expired", "late", TERR));
    TRUE_(over);
    counts_are(r, 3, 1, 2, 0);
    OK_(batches_run_sync(r, TERR));
    batches_run_close(r);
    TRUE_(strstr(text_of(out), "\"custom_id\":\"b\",\"response\":null,\"error\":{\"code\":"
                               "\"batch_expired\",\"message\":\"late\"}") != NULL);
}

TEST(many_lines_and_a_limit) {
    enum { N = 3000 };
    BatchRun *r;
    StrBuf b = {0};
    for (int i = 0; i < N; i++)
        sb_printf(&b, "{\"custom_id\":\"c%d\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{}}\n",
                  i);
    input(sb_str(&b));
    BatchRunConfig c = {.in = in, .out = out, .max_lines = N - 1};
    FAILS(ERR_ARG, batches_run_open(&r, &c, TERR));
    FALSE_(io_exists(out));
    c.max_lines = N;
    OK_(batches_run_open(&r, &c, TERR));
    for (int i = 0; i < N; i++) TRUE_(answer(r, 200) != NULL);
    counts_are(r, N, N, 0, 0);
    OK_(batches_run_sync(r, TERR));
    batches_run_close(r);
    OK_(batches_run_open(&r, &c, TERR));
    counts_are(r, N, N, 0, N);
    batches_run_close(r);
    sb_deinit(&b);
}
