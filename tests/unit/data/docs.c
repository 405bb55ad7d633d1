/* SPDX-License-Identifier: Apache-2.0
 * docs.jsonl, good and bad. */
#include "data/internal.h"
#include "test.h"

#include <stdio.h>

static DocReader *open_str(const char *s) {
    DocReader *r = NULL;
    OK_(data_docs_open_bytes(&r, slice_of(s), "d.jsonl", TERR));
    return r;
}

static void expect_doc(DocReader *r, const char *want_path, const char *want_text) {
    bool more = false;
    Slice path, text;
    OK_(data_docs_next(r, &more, &path, &text, TERR));
    TRUE_(more);
    TRUE_(slice_eq_str(path, want_path));
    TRUE_(slice_eq_str(text, want_text));
}

static void expect_end(DocReader *r) {
    bool more = true;
    Slice path, text;
    uint64_t done, total;
    for (int i = 0; i < 2; i++) {
        OK_(data_docs_next(r, &more, &path, &text, TERR));
        FALSE_(more);
    }
    data_docs_progress(r, &done, &total);
    EQ(done, total);
    data_docs_close(r);
}

TEST(reads_documents) {
    DocReader *r = open_str("{\"path\": \"a\", \"text\": \"one\\ntwo\"}\n"
                            "\n \t\r\n"
                            "{\"text\": \"\", \"more\": [1, {}]}\r\n"
                            "{\"path\": null, \"text\": \"last\"}");
    expect_doc(r, "a", "one\ntwo");
    expect_doc(r, "", "");
    expect_doc(r, "", "last");
    expect_end(r);
}

TEST(empty_file_has_no_documents) {
    expect_end(open_str(""));
    expect_end(open_str("\n\n"));
}

static void expect_bad(const char *line, const char *words) {
    StrBuf b = {0};
    DocReader *r = NULL;
    bool more = true;
    Slice path, text;
    sb_puts(&b, "{\"text\": \"fine\"}\n\n");
    sb_puts(&b, line);
    OK_(data_docs_open_bytes(&r, (Slice){b.p, b.n}, "d.jsonl", TERR));
    expect_doc(r, "", "fine");
    FAILS(ERR_FORMAT, data_docs_next(r, &more, &path, &text, TERR));
    TRUE_(!strncmp(test_err.msg, "d.jsonl:3: ", 11));
    TRUE_(strstr(test_err.msg, words) != NULL);
    TRUE_(strchr(test_err.msg, '\n') == NULL);
    data_docs_close(r);
    sb_deinit(&b);
}

TEST(bad_lines_are_named) {
    expect_bad("{\"text\": \"cut", "json");
    expect_bad("{\"path\": \"a\"}", "no member \"text\"");
    expect_bad("{\"text\": null}", "no member \"text\"");
    expect_bad("{\"text\": 7}", "text: a string is needed");
    expect_bad("{\"text\": \"a\", \"path\": []}", "path: a string is needed");
    expect_bad("[\"text\"]", "not a JSON object");
    expect_bad("\"text\"", "not a JSON object");
    expect_bad("{\"text\": \"a\"} {\"text\": \"b\"}", "json");
    expect_bad("{\"text\": \"a\", \"text\": \"b\"}", "json");
    expect_bad("{\"text\": \"\xff\"}", "json");
    expect_bad("plain words", "json");
}

TEST(absent_file) {
    DocReader *r = NULL;
    FAILS(ERR_NOT_FOUND, data_docs_open(&r, "/nonexistent/docs.jsonl", TERR));
    FAILS(ERR_IO, data_docs_open(&r, "/tmp", TERR));
}

TEST(counts_code_points) {
    EQ(data_count_chars(slice_of("")), 0);
    EQ(data_count_chars(slice_of("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")), 4);
}

/* Pages behind the reader are given back while later lines are still to come. */
TEST(a_file_larger_than_the_release_window) {
    enum { N = 12, LINE = 2 << 20 };
    char path[160], fill[64];
    IoWriter w;
    StrBuf line = {0};
    DocReader *r = NULL;
    snprintf(path, sizeof path, "%s/big.jsonl", test_tmpdir());
    memset(fill, 'a', 64);
    OK_(io_writer_open(&w, path, true, TERR));
    for (int i = 0; i < N; i++) {
        sb_clear(&line);
        sb_printf(&line, "{\"path\": \"%d\", \"text\": \"", i);
        for (int k = 0; k < LINE / 64; k++) sb_put(&line, fill, 64);
        memset(fill, 'b' + i, 64);
        sb_puts(&line, "\"}\n");
        OK_(io_write(&w, line.p, line.n, TERR));
    }
    OK_(io_writer_close(&w, TERR));
    OK_(data_docs_open(&r, path, TERR));
    for (int i = 0; i < N; i++) {
        bool more = false;
        Slice p, text;
        char want[16];
        OK_(data_docs_next(r, &more, &p, &text, TERR));
        snprintf(want, sizeof want, "%d", i);
        TRUE_(more && slice_eq_str(p, want));
        EQ(text.n, LINE);
        EQ(text.p[0], 'a' + i);
        EQ(text.p[text.n - 1], 'a' + i);
    }
    expect_end(r);
    sb_deinit(&line);
}
