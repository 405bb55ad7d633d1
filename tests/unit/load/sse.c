/* SPDX-License-Identifier: Apache-2.0
 * Events, however the network cuts their bytes. */
#include "load/sse.h"

#include "test.h"

static const char stream[] = "data: one\n\n"
                             ": a comment\n\n"
                             "event: message\r\nid: 7\r\ndata: two\r\ndata:three\r\n\r\n"
                             "data\n\n"
                             "data:  four\r\r"
                             "dataset: no\ndata: five\nretry: 5\n\n"
                             "data: [DONE]\n\n"
                             "data: never ended";
static const char want[] = "<one><two\nthree><>< four><five><[DONE]>";

static Status collect(void *ctx, Slice data, Err *e) {
    StrBuf *b = ctx;
    (void)e;
    sb_putc(b, '<');
    sb_put(b, data.p, data.n);
    sb_putc(b, '>');
    return OK;
}

static void expect(LoadSse *s, StrBuf *b) {
    EQ_STR(sb_str(b), want);
    TRUE_(load_sse_pending(s));
    load_sse_clear(s);
    FALSE_(load_sse_pending(s));
    sb_clear(b);
}

TEST(cut_anywhere_in_two_and_three) {
    enum { L = sizeof stream - 1 };
    LoadSse s = {.any = false};
    StrBuf b = {0};
    for (size_t i = 0; i <= L; i++)
        for (size_t j = i; j <= L; j += 1 + (i % 3)) {
            OK_(load_sse_feed(&s, (Slice){stream, i}, collect, &b, TERR));
            OK_(load_sse_feed(&s, (Slice){stream + i, j - i}, collect, &b, TERR));
            OK_(load_sse_feed(&s, (Slice){stream + j, L - j}, collect, &b, TERR));
            expect(&s, &b);
        }
    load_sse_deinit(&s);
    sb_deinit(&b);
}

TEST(byte_by_byte) {
    LoadSse s = {.any = false};
    StrBuf b = {0};
    for (size_t i = 0; i < sizeof stream - 1; i++)
        OK_(load_sse_feed(&s, (Slice){stream + i, 1}, collect, &b, TERR));
    expect(&s, &b);
    load_sse_deinit(&s);
    sb_deinit(&b);
}

TEST(event_without_end_is_bounded) {
    LoadSse s = {.any = false};
    StrBuf b = {0};
    static char part[1 << 16];
    Status st = OK;
    memset(part, 'x', sizeof part);
    for (int i = 0; i < 1000 && st == OK; i++)
        st = load_sse_feed(&s, (Slice){part, sizeof part}, collect, &b, TERR);
    EQ(st, ERR_FULL);
    TRUE_(s.line.n <= LOAD_MAX_EVENT + sizeof part);
    load_sse_deinit(&s);
    sb_deinit(&b);
}

TEST(lines_without_end_are_bounded) { /* each is short, the event is not */
    LoadSse s = {.any = false};
    StrBuf b = {0};
    Status st = OK;
    for (int i = 0; i < 100000 && st == OK; i++)
        st = load_sse_feed(
            &s, slice_of("data: 0123456789012345678901234567890123456789012345678901234567\n"),
            collect, &b, TERR);
    EQ(st, ERR_FULL);
    load_sse_deinit(&s);
    sb_deinit(&b);
}
