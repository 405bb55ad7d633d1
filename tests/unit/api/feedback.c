/* SPDX-License-Identifier: Apache-2.0 */
#include "api/feedback.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store.h"
#include "test.h"

static char path[256];
static _Atomic int n_wakes, n_seconds;

static void on_wake(void *ctx) {
    (void)ctx;
    atomic_fetch_add(&n_wakes, 1);
}

static void on_second(void *ctx) {
    (void)ctx;
    atomic_fetch_add(&n_seconds, 1);
}

static Feedback *start(FeedbackConfig c) {
    Feedback *f = NULL;
    snprintf(path, sizeof path, "%s/feedback.db", test_tmpdir());
    if (!c.path) c.path = path;
    c.wake = on_wake;
    OK_(feedback_new(&f, &c, TERR));
    return f;
}

/* What `done` was told. */
typedef struct Got {
    FeedbackDone d;
    int n;
} Got;

static void on_done(void *ctx, const FeedbackDone *d) {
    Got *g = ctx;
    g->d = *d;
    g->n++;
}

static void note(Feedback *f, const char *id, const char *model) {
    FeedbackNote n = {slice_of(id), slice_of(model), slice_of("v1"), {{7}}, 1000};
    feedback_note(f, &n);
}

static Status put(Feedback *f, const char *id, const char *user, int rating, Got *g) {
    FeedbackTicket *t = NULL;
    FeedbackRating r = {.request_id = slice_of(id),
                        .user = slice_of(user),
                        .comment = slice_of("why"),
                        .rating = rating,
                        .time_s = 2000};
    return feedback_put(&t, f, &r, on_done, g, TERR);
}

/* Poll until g was told, at most 5 s. */
static void wait_for(Feedback *f, const Got *g, int n) {
    for (int i = 0; i < 5000 && g->n < n; i++) {
        feedback_poll(f);
        if (g->n < n) usleep(1000);
    }
    EQ(g->n, n);
}

static int64_t number(const char *sql) {
    static const char *const none[] = {""};
    StoreSchema s = {"feedback", 0x494e4746, none, 1};
    Store *st = NULL;
    StoreStmt *q = NULL;
    bool row = false;
    OK_(store_open_read(&st, path, &s, TERR));
    OK_(store_prepare(&q, st, sql, TERR));
    OK_(store_step(&row, q, TERR));
    int64_t v = row ? store_int(q, 0) : -1;
    store_stmt_free(q);
    store_close(st);
    return v;
}

TEST(a_rating_is_joined_to_its_request) {
    Feedback *f = start((FeedbackConfig){0});
    Got g = {0};
    note(f, "req-1", "tiny");
    OK_(put(f, "req-1", "key1", 4, &g));
    wait_for(f, &g, 1);
    OK_(g.d.st);
    TRUE_(g.d.known);
    FALSE_(g.d.replaced);
    EQ_STR(g.d.model, "tiny");
    EQ_STR(g.d.version, "v1");
    EQ(number(
           "SELECT count(*) FROM ratings WHERE request = 'req-1' AND rating = 4 AND user = 'key1' "
           "AND comment = 'why' AND model = 'tiny' AND version = 'v1' AND hex(prompt) LIKE "
           "'0700%' AND time = 2000"),
       1);
    OK_(put(f, "req-1", "key1", 1, &g));
    wait_for(f, &g, 2);
    TRUE_(g.d.replaced);
    OK_(put(f, "req-1", "key2", 5, &g));
    wait_for(f, &g, 3);
    FALSE_(g.d.replaced);
    EQ(number("SELECT count(*) FROM ratings"), 2);
    EQ(number("SELECT rating FROM ratings WHERE user = 'key1'"), 1);
    FeedbackStats s = feedback_stats(f);
    EQ(s.n_notes, 1);
    EQ(s.n_ratings, 3);
    EQ(s.by_rating[4] + s.by_rating[1] + s.by_rating[5], 3);
    EQ(s.n_waiting, 0);
    feedback_free(f);
}

TEST(a_rating_of_an_unknown_request_is_kept) {
    Feedback *f = start((FeedbackConfig){0});
    Got g = {0};
    OK_(put(f, "never seen", "", 2, &g));
    wait_for(f, &g, 1);
    OK_(g.d.st);
    FALSE_(g.d.known);
    EQ_STR(g.d.model, "");
    EQ(number("SELECT count(*) FROM ratings WHERE model IS NULL AND prompt IS NULL"), 1);
    feedback_free(f);
}

TEST(a_rating_outlives_its_request_and_keeps_what_was_known) {
    Feedback *f = start((FeedbackConfig){.max_requests = 10, .max_ratings = 5});
    Got g = {0};
    char id[32];
    note(f, "old", "m");
    OK_(put(f, "old", "u", 4, &g));
    wait_for(f, &g, 1);
    for (int i = 0; i < 20; i++) {
        snprintf(id, sizeof id, "r%d", i);
        note(f, id, "m");
    }
    OK_(put(f, "old", "u", 5, &g)); /* its request is gone by now */
    wait_for(f, &g, 2);
    TRUE_(g.d.replaced);
    OK_(put(f, "old", "u", 3, &g));
    wait_for(f, &g, 3);
    TRUE_(g.d.known);
    EQ_STR(g.d.model, "m");
    EQ(number("SELECT count(*) FROM requests"), 10);
    EQ(number(
           "SELECT count(*) FROM ratings WHERE model = 'm' AND rating = 3 AND prompt IS NOT NULL"),
       1);
    for (int i = 0; i < 8; i++) {
        snprintf(id, sizeof id, "r%d", i);
        OK_(put(f, id, "u", 3, &g));
        wait_for(f, &g, 4 + i);
    }
    EQ(number("SELECT count(*) FROM ratings"), 5);
    feedback_free(f);
}

TEST(notes_are_written_at_the_latest_at_the_end) {
    Feedback *f = start((FeedbackConfig){0});
    for (int i = 0; i < 100; i++) {
        char id[32];
        snprintf(id, sizeof id, "r%d", i);
        note(f, id, "m");
    }
    feedback_free(f);
    EQ(number("SELECT count(*) FROM requests"), 100);
    f = start((FeedbackConfig){0}); /* and are found by the next process */
    Got g = {0};
    OK_(put(f, "r42", "", 5, &g));
    wait_for(f, &g, 1);
    TRUE_(g.d.known);
    feedback_free(f);
    feedback_free(NULL);
}

TEST(in_memory_without_a_file) {
    Feedback *f = NULL;
    FeedbackConfig c = {.wake = on_wake};
    Got g = {0};
    OK_(feedback_new(&f, &c, TERR));
    note(f, "a", "m");
    OK_(put(f, "a", "", 5, &g));
    wait_for(f, &g, 1);
    TRUE_(g.d.known);
    feedback_free(f);
}

TEST(full_queues_drop_notes_and_refuse_ratings) {
    Feedback *f = start((FeedbackConfig){.max_notes = 4, .max_waiting = 3});
    Got g = {0};
    for (int i = 0; i < 3; i++) OK_(put(f, "x", "", 3, &g));
    FAILS(ERR_FULL, put(f, "x", "", 3, &g)); /* none was polled */
    FeedbackStats s = feedback_stats(f);
    EQ(s.n_refused, 1);
    EQ(s.n_waiting, 3);
    wait_for(f, &g, 3);
    OK_(put(f, "x", "", 3, &g));
    for (int i = 0; i < 20000; i++) note(f, "n", "m");
    feedback_free(f);
    EQ(g.n, 4);
}

TEST(notes_that_find_no_room_are_counted) {
    Feedback *f = start((FeedbackConfig){.max_notes = 8});
    for (int i = 0; i < 5000; i++) note(f, "n", "m");
    usleep(20000);
    Got g = {0};
    OK_(put(f, "n", "", 3, &g));
    wait_for(f, &g, 1);
    FeedbackStats s = feedback_stats(f);
    EQ(s.n_notes + s.n_dropped, 5000);
    TRUE_(s.n_notes >= 8 && s.n_dropped > 0);
    feedback_free(f);
}

TEST(a_client_that_left_is_not_told) {
    Feedback *f = start((FeedbackConfig){0});
    FeedbackTicket *t = NULL;
    Got g = {0}, after = {0};
    FeedbackRating r = {.request_id = slice_of("a"),
                        .user = {"", 0},
                        .comment = {"", 0},
                        .rating = 5};
    OK_(feedback_put(&t, f, &r, on_done, &g, TERR));
    feedback_forget(t);
    OK_(put(f, "b", "", 1, &after));
    wait_for(f, &after, 1);
    EQ(g.n, 0);
    EQ(number("SELECT count(*) FROM ratings"), 2);
    feedback_free(f);
}

TEST(ratings_out_of_their_limits) {
    Feedback *f = start((FeedbackConfig){0});
    FeedbackTicket *t = NULL;
    static char big[5000];
    memset(big, 'x', sizeof big);
    Slice none = {"", 0}, id = slice_of("a");
    const FeedbackRating wrong[] = {
        {id, none, none, 0, 1},          {id, none, none, 6, 1},
        {none, none, none, 3, 1},        {{big, 129}, none, none, 3, 1},
        {id, {big, 65}, none, 3, 1},     {id, none, {big, 4097}, 3, 1},
        {{"\xff", 1}, none, none, 3, 1}, {{"a\0b", 3}, none, none, 3, 1},
        {id, none, {"\xc3", 1}, 3, 1},
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        FAILS(ERR_ARG, feedback_put(&t, f, &wrong[i], on_done, NULL, TERR));
    FeedbackNote n = {{big, 500}, {big, 500}, {big, 500}, {{0}}, 1}; /* notes are cut */
    feedback_note(f, &n);
    Got g = {0};
    FeedbackRating fits = {{big, 128}, none, {big, 4096}, 3, 1};
    OK_(feedback_put(&t, f, &fits, on_done, &g, TERR));
    wait_for(f, &g, 1);
    TRUE_(g.d.known);
    EQ(strlen(g.d.model), 128);
    feedback_free(f);
}

TEST(the_thread_has_a_second_hand) {
    Feedback *f = NULL;
    FeedbackConfig c = {.on_second = on_second};
    atomic_store(&n_seconds, 0);
    OK_(feedback_new(&f, &c, TERR));
    Got g = {0};
    uint64_t t0 = clock_now_ns();
    for (int i = 0; i < 50; i++) {
        OK_(put(f, "x", "", 3, &g));
        wait_for(f, &g, i + 1);
    }
    int most = 2 + (int)((clock_now_ns() - t0) / 1000000000u);
    TRUE_(atomic_load(&n_seconds) <= most); /* not with every batch */
    feedback_free(f);
    TRUE_(atomic_load(&n_seconds) >= 1); /* and once at the end */
}

TEST(a_write_that_fails_is_told) {
    Feedback *f = start((FeedbackConfig){0});
    Got g = {0};
    OK_(put(f, "a", "", 3, &g));
    wait_for(f, &g, 1);
    static const char *const none[] = {""};
    StoreSchema s = {"feedback", 0x494e4746, none, 1};
    Store *st = NULL;
    OK_(store_open(&st, path, &s, TERR));
    OK_(store_exec(st, "ALTER TABLE ratings RENAME TO gone", TERR));
    note(f, "a", "m");
    OK_(put(f, "b", "", 3, &g));
    wait_for(f, &g, 2);
    NE(g.d.st, OK);
    TRUE_(g.d.err.msg[0] != 0);
    EQ(feedback_stats(f).n_failed, 1);
    EQ(feedback_stats(f).n_dropped, 1);
    OK_(store_exec(st, "ALTER TABLE gone RENAME TO ratings", TERR));
    OK_(put(f, "b", "", 3, &g));
    wait_for(f, &g, 3);
    OK_(g.d.st);
    store_close(st);
    feedback_free(f);
}

/* The child tells through a pipe what was acknowledged, and is killed at some moment: all of that is in the file. */
TEST(kill_keeps_what_was_acknowledged) {
    for (int round = 0; round < 8; round++) {
        int fd[2];
        snprintf(path, sizeof path, "%s/k%d.db", test_tmpdir(), round);
        EQ(pipe(fd), 0);
        pid_t pid = fork();
        TRUE_(pid >= 0);
        if (pid == 0) {
            Feedback *f = NULL;
            FeedbackConfig c = {.path = path};
            if (feedback_new(&f, &c, NULL) != OK) _exit(1);
            for (int i = 0;; i++) {
                char id[32];
                Got g = {0};
                FeedbackTicket *t = NULL;
                snprintf(id, sizeof id, "r%d", i);
                note(f, id, "m");
                FeedbackRating r = {slice_of(id), {"", 0}, {"", 0}, 1 + i % 5, 1};
                if (feedback_put(&t, f, &r, on_done, &g, NULL) != OK) _exit(1);
                while (g.n == 0) feedback_poll(f);
                if (g.d.st != OK || write(fd[1], &i, sizeof i) != sizeof i) _exit(1);
            }
        }
        close(fd[1]);
        int last = -1, i;
        while (last < 3 + 5 * round && read(fd[0], &i, sizeof i) == sizeof i) last = i;
        kill(pid, SIGKILL);
        while (read(fd[0], &i, sizeof i) == sizeof i) last = i;
        int status = 0;
        EQ(waitpid(pid, &status, 0), pid);
        TRUE_(WIFSIGNALED(status));
        close(fd[0]);
        TRUE_(last >= 3);
        Feedback *f = NULL; /* opening repairs what the kill left */
        FeedbackConfig c = {.path = path};
        OK_(feedback_new(&f, &c, TERR));
        feedback_free(f);
        TRUE_(number("SELECT count(*) FROM ratings WHERE model = 'm'") >= last + 1);
    }
}

static FeedbackRating rating;
static StrBuf text;

/* Strings of the body are gone afterwards, those of the query are in `text`. */
static Status read_both(const char *body, const char *query) {
    Json *j = NULL;
    if (body) OK_(json_parse(&j, slice_of(body), TERR));
    sb_clear(&text);
    Status st = feedback_read(&rating, &text, j, slice_of(query), TERR);
    json_free(j);
    return st;
}

TEST(fields_of_a_query) {
    OK_(read_both(NULL, "request_id=abc%2D1&rating=4&comment=not+bad%21"));
    TRUE_(slice_eq_str(rating.request_id, "abc-1"));
    EQ(rating.rating, 4);
    TRUE_(slice_eq_str(rating.comment, "not bad!"));
    OK_(read_both(NULL, "rating=like&x=&request_id=a"));
    EQ(rating.rating, 5);
    OK_(read_both(NULL, "rating=dislike&request_id=a"));
    EQ(rating.rating, 1);
    FAILS(ERR_ARG, read_both(NULL, ""));
    TRUE_(strstr(test_err.msg, "request_id") != NULL);
    FAILS(ERR_ARG, read_both(NULL, "request_id=a"));
    TRUE_(strstr(test_err.msg, "rating") != NULL);
    static const char *const wrong[] = {"0", "6", "4.5", "-1", "", "five", "44", "%34x"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char q[100];
        snprintf(q, sizeof q, "request_id=a&rating=%s", wrong[i]);
        FAILS(ERR_ARG, read_both(NULL, q));
    }
    FAILS(ERR_ARG, read_both(NULL, "request_id=%zz&rating=4"));
    FAILS(ERR_ARG, read_both(NULL, "request_id=%ff&rating=4"));
    FAILS(ERR_ARG, read_both(NULL, "request_id=a%00&rating=4"));
    sb_deinit(&text);
}

TEST(fields_of_a_body) {
    OK_(read_both("{\"rating\": 3}", "request_id=a&rating=5"));
    EQ(rating.rating, 3); /* the body counts first */
    OK_(read_both("{\"rating\": true}", "request_id=a"));
    EQ(rating.rating, 5);
    OK_(read_both("{\"rating\": \"dislike\"}", "request_id=a"));
    EQ(rating.rating, 1);
    OK_(read_both("{\"request_id\": null, \"rating\": \"2\"}", "request_id=a"));
    EQ(rating.rating, 2);
    FAILS(ERR_ARG, read_both("{\"rating\": 3}", ""));
    static const char *const wrong[] = {
        "[]",
        "{\"request_id\": 5, \"rating\": 3}",
        "{\"request_id\": \"a\", \"rating\": 3.0}",
        "{\"request_id\": \"a\", \"rating\": 0}",
        "{\"request_id\": \"a\", \"rating\": 99999999999}",
        "{\"request_id\": \"a\", \"rating\": [1]}",
        "{\"request_id\": \"a\", \"rating\": \"great\"}",
        "{\"request_id\": \"a\", \"rating\": 3, \"comment\": 1}",
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) FAILS(ERR_ARG, read_both(wrong[i], ""));
    sb_deinit(&text);
}
