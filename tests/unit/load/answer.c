/* SPDX-License-Identifier: Apache-2.0
 * Answers told by hand: when what came, how it ended. */
#include "load/answer.h"

#include "test.h"

enum { MS = 1000000 };

static LoadAnswer a;
static LoadHist itl;

static void begin(int status, const char *type) {
    load_answer_start(&a, 1, 100 * MS, &itl);
    a.one.send = 101 * MS;
    load_answer_head(&a, status, slice_of(type));
}

static void setup(void) {
    a = (LoadAnswer){.done = false};
    OK_(load_hist_init(&itl, TERR));
    begin(200, "text/event-stream; charset=utf-8");
}

static void teardown(void) {
    load_answer_deinit(&a);
    load_hist_deinit(&itl);
}

static Status at(int ms, const char *text) {
    return load_answer_bytes(&a, (uint64_t)ms * MS, slice_of(text), TERR);
}

#define PIECE(t) "data: {\"choices\":[{\"delta\":{\"content\":\"" t "\"}}]}\n\n"

TEST(stream_of_a_chat) {
    setup();
    OK_(at(110, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"));
    OK_(at(130, PIECE("a")));
    OK_(at(140, PIECE("b")));
    OK_(at(165, PIECE("c") PIECE("d"))); /* together: no time between them */
    OK_(at(170, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"));
    OK_(at(171, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":6}}\n\n"
                "data: [DONE]\n\n"));
    load_answer_end(&a, 172 * MS, LOAD_OK, "");
    EQ(a.one.end, LOAD_OK);
    EQ(a.one.first, 130 * MS); /* the role is no text */
    EQ(a.one.last, 165 * MS);
    EQ(a.one.stop, 172 * MS);
    EQ(a.one.n_event, 4);
    EQ(load_one_tokens(&a.one), 6);
    EQ(a.one.n_prompt, 9);
    EQ(load_one_tpot(&a.one), 35 * MS / 5);
    EQ(a.one.gap_max, 25 * MS);
    EQ(itl.n, 3);
    EQ(itl.min, 0);
    EQ(itl.max, 25 * MS);
    teardown();
}

TEST(without_usage_events_are_counted) {
    setup();
    OK_(at(120, PIECE("a") PIECE("b") "data: [DONE]\n\n"));
    load_answer_end(&a, 121 * MS, LOAD_OK, "");
    EQ(a.one.n_out, -1);
    EQ(load_one_tokens(&a.one), 2);
    teardown();
}

TEST(reasoning_and_calls_are_text) {
    setup();
    OK_(at(120, "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n"));
    OK_(at(130, "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}]}}]}\n\n"));
    EQ(a.one.n_event, 2);
    EQ(a.one.first, 120 * MS);
    teardown();
}

TEST(completions_and_short_routes) {
    setup();
    OK_(at(120, "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: {\"text\":\"b\"}\n\n"));
    OK_(at(150,
           "data: {\"output\":\"ab\",\"text\":\"ab\",\"usage\":{\"completion_tokens\":2}}\n\ndata: "
           "[DONE]\n\n"));
    load_answer_end(&a, 151 * MS, LOAD_OK, "");
    EQ(a.one.end, LOAD_OK);
    EQ(a.one.n_event, 2); /* the summary is no piece */
    EQ(a.one.last, 120 * MS);
    EQ(a.one.n_out, 2);
    teardown();
}

TEST(whole_answers) {
    static const struct {
        const char *body;
        LoadEnd end;
        int64_t n_out;
    } rows[] = {
        {"{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{\"completion_tokens\":5}}",
         LOAD_OK, 5},
        {"{\"choices\":[{\"text\":\"x\"}]}", LOAD_OK, -1},
        {"{\"response\":\"x\",\"tokens_generated\":7}", LOAD_OK, 7},
        {"{\"completion\":\"x\",\"tokens\":3}", LOAD_OK, 3},
        {"{\"output\":\"x\",\"usage\":{\"completion_tokens\":4}}", LOAD_OK, 4},
        {"{\"choices\":[{\"message\":{\"content\":\"\"}}]}", LOAD_EMPTY, -1},
        {"{\"error\":{\"message\":\"no\"}}", LOAD_ERROR_EVENT, -1},
        {"{\"choices\":", LOAD_BAD_JSON, -1},
        {"[]", LOAD_BAD_JSON, -1},
        {"", LOAD_BAD_JSON, -1},
    };
    setup();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        begin(200, "application/json");
        OK_(at(150, rows[i].body));
        load_answer_end(&a, 151 * MS, LOAD_OK, "");
        if (a.one.end != rows[i].end)
            FAIL("%s: %s, want %s", rows[i].body, load_end_name(a.one.end),
                 load_end_name(rows[i].end));
        EQ(a.one.n_out, rows[i].n_out);
        EQ(a.one.first, 0);
        if (rows[i].end != LOAD_OK) TRUE_(a.one.why[0]);
    }
    teardown();
}

TEST(refusals_have_kinds_and_words) {
    static const struct {
        int status;
        LoadEnd end;
    } rows[] = {{429, LOAD_429}, {503, LOAD_503}, {400, LOAD_4XX},    {404, LOAD_4XX},
                {500, LOAD_5XX}, {502, LOAD_5XX}, {301, LOAD_STATUS}, {204, LOAD_STATUS}};
    setup();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        begin(rows[i].status, "application/json");
        OK_(at(150, "{\"error\":{\"message\":\"too \\u0007 many\"}}"));
        load_answer_end(&a, 151 * MS, LOAD_OK, "");
        EQ(a.one.end, rows[i].end);
        TRUE_(strstr(a.one.why, "too \\x07 many"));
    }
    begin(500, "text/html");
    OK_(at(150, "<h1>oh</h1>"));
    load_answer_end(&a, 151 * MS, LOAD_OK, "");
    EQ_STR(a.one.why, "status 500: <h1>oh</h1>");
    teardown();
}

TEST(streams_that_break) {
    setup();
    OK_(at(120, PIECE("a")));
    load_answer_end(&a, 130 * MS, LOAD_BROKEN, "the connection broke");
    EQ(a.one.end, LOAD_CUT);
    EQ_STR(a.one.why, "the connection broke");

    begin(200, "text/event-stream");
    OK_(at(120, PIECE("a")));
    load_answer_end(&a, 130 * MS, LOAD_OK, "");
    EQ(a.one.end, LOAD_NO_DONE);

    begin(200, "text/event-stream");
    OK_(at(120, "data: [DONE]\n\n"));
    load_answer_end(&a, 130 * MS, LOAD_OK, "");
    EQ(a.one.end, LOAD_EMPTY);

    begin(200, "text/event-stream");
    FAILS(ERR_FORMAT, at(120, PIECE("a") "data: {\"choices\":[\n\n"));
    load_answer_end(&a, 130 * MS, LOAD_OTHER, "ended by the caller");
    EQ(a.one.end, LOAD_BAD_JSON); /* the first cause */

    begin(200, "text/event-stream");
    FAILS(ERR_FORMAT, at(120, "data: {\"error\":{\"message\":\"out of blocks\"}}\n\n"));
    load_answer_end(&a, 130 * MS, LOAD_OTHER, "ended by the caller");
    EQ(a.one.end, LOAD_ERROR_EVENT);
    EQ_STR(a.one.why, "out of blocks");

    load_answer_start(&a, 1, 100 * MS, &itl);
    load_answer_end(&a, 130 * MS, LOAD_BROKEN, "reset");
    EQ(a.one.end, LOAD_BROKEN); /* no answer had begun */
    teardown();
}

TEST(long_refusals_are_cut) {
    static char part[4096];
    setup();
    begin(500, "text/html");
    memset(part, 'y', sizeof part);
    for (int i = 0; i < 100; i++) OK_(load_answer_bytes(&a, 1, (Slice){part, sizeof part}, TERR));
    TRUE_(a.body.n <= 4096);
    begin(200, "application/json");
    Status st = OK;
    for (int i = 0; i < 10000 && st == OK; i++)
        st = load_answer_bytes(&a, 1, (Slice){part, sizeof part}, TERR);
    EQ(st, ERR_FULL);
    load_answer_end(&a, 2, LOAD_OTHER, "");
    EQ(a.one.end, LOAD_TOO_LONG);
    teardown();
}
