/* SPDX-License-Identifier: Apache-2.0
 * Requests from bytes, hostile ones above all. Every request of the tables is fed whole, byte by byte and
 * cut in two at every place; all ways must end the same. */
#include "net/http_parse.h"
#include "test.h"

enum { MAX_HEAD = 2048, MAX_BODY = 64 };

typedef struct Case {
    int status; /* 0: accepted */
    const char *text;
    size_t n; /* 0: strlen(text) */
} Case;

#define HOST "Host: x\r\n"
#define POST "POST /p HTTP/1.1\r\n" HOST
#define TE POST "Transfer-Encoding: chunked\r\n\r\n"

static const Case cases[] = {
    /* plain */
    {0, "GET / HTTP/1.1\r\n" HOST "\r\n", 0},
    {0, "GET / HTTP/1.0\r\n\r\n", 0},
    {0, "\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 0},
    {0, "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0},
    {0, "GET / HTTP/1.1\r\nHost:x\r\nX: \t a b \t\r\nEmpty:\r\n\r\n", 0},
    {0, "GET http://other/p?q HTTP/1.1\r\n" HOST "\r\n", 0},
    {0, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0},
    {0, "DELETE /x HTTP/1.1\r\n" HOST "\r\n", 0},
    {0, "GET /%41%c3%a9 HTTP/1.1\r\n" HOST "\r\n", 0},
    {0, "GET / HTTP/1.1\r\n" HOST "X: \xff\xfe\r\n\r\n", 0},
    {0, "GET / HTTP/1.1\r\n" HOST "Connection: upgrade\r\nUpgrade: h2c\r\n\r\n", 0},
    {0, POST "Content-Length: 5\r\n\r\nhello", 0},
    {0, POST "content-length: 0005\r\n\r\nhello", 0},
    {0, POST "Content-Length: 0\r\n\r\n", 0},
    {0, POST "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", 0},
    {0, POST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", 0},
    {0, TE "5\r\nhello\r\n0\r\n\r\n", 0},
    {0, TE "3\r\nhel\r\n2;a=\"b\"\r\nlo\r\n000\r\nTrailer: x\r\n\r\n", 0},
    {0, POST "Transfer-Encoding:\tCHUNKED \r\n\r\n1\r\nx\r\nA\r\n0123456789\r\n0\r\n\r\n", 0},
    /* where a line ends */
    {400, "GET / HTTP/1.1\nHost: x\n\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: x\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: x\r\n\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\r\n" HOST "\r\n", 0},
    {400, "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "\nGET / HTTP/1.1\r\n" HOST "\r\n", 0},
    /* request line */
    {400, " GET / HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET  / HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /  HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET / HTTP/1.1 \r\n" HOST "\r\n", 0},
    {400, "GET\t/ HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /\r\n" HOST "\r\n", 0},
    {400, "GET / http/1.1\r\n" HOST "\r\n", 0},
    {400, "GET / HTTP/11\r\n" HOST "\r\n", 0},
    {400, "GET /a b HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET p HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET * HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET http:///p HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "CONNECT x:443 HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /#f HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /%00 HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /% HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /%4 HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /%g1 HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /%c3 HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GET /%c0%af HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "GE(T / HTTP/1.1\r\n" HOST "\r\n", 0},
    {400, "\x16\x03\x01\x02", 0}, /* a TLS greeting */
    {501, "FROB / HTTP/1.1\r\n" HOST "\r\n", 0},
    {501, "get / HTTP/1.1\r\n" HOST "\r\n", 0},
    {505, "GET / HTTP/2.0\r\n" HOST "\r\n", 0},
    {505, "GET / HTTP/1.2\r\n" HOST "\r\n", 0},
    {505, "GET / HTTP/0.9\r\n" HOST "\r\n", 0},
    /* fields */
    {400, "GET / HTTP/1.1\r\n Host: x\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: x\r\n\tfolded\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST "X\t: y\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST "X y: z\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST ": z\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST "nocolon\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n",
     sizeof "GET / HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n" - 1},
    {400, "GET / HTTP/1.1\r\n" HOST "X: \x01\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST "X: \x7f\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST "X\xc3\xa9: y\r\n\r\n", 0},
    /* host */
    {400, "GET / HTTP/1.1\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\n" HOST HOST "\r\n", 0},
    {400, "GET / HTTP/1.0\r\n" HOST "host: y\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 0},
    {400, "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 0},
    /* framing: what smuggling is made of */
    {400, POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 0},
    {400, POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 0},
    {400, POST "Content-Length: 5, 5\r\n\r\nhello", 0},
    {400, POST "Content-Length: +5\r\n\r\nhello", 0},
    {400, POST "Content-Length: -5\r\n\r\nhello", 0},
    {400, POST "Content-Length: 0x5\r\n\r\nhello", 0},
    {400, POST "Content-Length: 5 5\r\n\r\nhello", 0},
    {400, POST "Content-Length:\r\n\r\nhello", 0},
    {400, POST "Content-Length: 18446744073709551621\r\n\r\nhello", 0},
    {400, POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
    {400, POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 0},
    {400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
    {400, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 0},
    {400, "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0},
    {400, POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 0},
    {400,
     POST "Transfer-Encoding: \x0b"
          "chunked\r\n\r\n0\r\n\r\n",
     0},
    {501, POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 0},
    {501, POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0},
    {501, POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 0},
    {501, POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 0},
    {501, POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n", 0},
    {417, POST "Expect: 200-maybe\r\nContent-Length: 5\r\n\r\nhello", 0},
    /* chunks */
    {400, TE "5\nhello\r\n0\r\n\r\n", 0},
    {400, TE "5\rXhello\r\n0\r\n\r\n", 0},
    {400, TE "5\r\nhelloXY0\r\n\r\n", 0},
    {400, TE "5\r\nhello0\r\n\r\n", 0},
    {400, TE "5\r\nhello\n0\r\n\r\n", 0},
    {400, TE "5 \r\nhello\r\n0\r\n\r\n", 0},
    {400, TE " 5\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE "0x5\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE "-5\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE "\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE ";x\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE "5;a\nb\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE "00000000000000005\r\nhello\r\n0\r\n\r\n", 0},
    {400, TE "5\r\nhello\r\n0\r\nX: y\n\n", 0},
    {400, TE "5\r\nhello\r\n0\r\n X: y\r\n\r\n", 0},
    {400, TE "5\r\nhello\r\n0\r\nX: \x01\r\n\r\n", 0},
    {400, TE "5\r\nhello\r\n0\r\n\rX", 0},
    /* limits */
    {413, POST "Content-Length: 65\r\n\r\n", 0},
    {413, POST "Content-Length: 999999999999999999\r\n\r\n", 0},
    {413,
     TE "20\r\n0123456789abcdef0123456789abcdef\r\n21\r\n0123456789abcdef0123456789abcdef!"
        "\r\n0\r\n\r\n",
     0},
};

static size_t len_of(const Case *c) { return c->n ? c->n : strlen(c->text); }

/* Feed in pieces of `piece` bytes after a first one of `first`; bytes used. */
static size_t feed_pieces(HttpParse *p, const char *d, size_t n, size_t first, size_t piece) {
    size_t used = 0, want = first;
    while (used < n && p->state < PARSE_DONE) {
        size_t k = MIN(want, n - used);
        used += http__parse_feed(p, d + used, k);
        want = piece;
    }
    return used;
}

static void check_case(const Case *c, size_t first, size_t piece) {
    HttpParse p;
    http__parse_init(&p, MAX_HEAD, MAX_BODY);
    size_t used = feed_pieces(&p, c->text, len_of(c), first, piece);
    int got = p.state == PARSE_DONE ? 0 : p.state == PARSE_FAILED ? p.status : -1;
    bool said = p.state != PARSE_FAILED || p.why;
    http__parse_deinit(&p);
    if (got != c->status) FAIL("status %d, not %d (first %zu): %s", got, c->status, first, c->text);
    if (!said) FAIL("no reason: %s", c->text);
    if (c->status == 0) EQ(used, len_of(c));
}

TEST(every_request_ends_as_it_should_however_it_is_cut) {
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const Case *c = &cases[i];
        check_case(c, len_of(c), 1);
        check_case(c, 1, 1);
        for (size_t cut = 1; cut < len_of(c); cut++) check_case(c, cut, len_of(c));
    }
}

TEST(parts_of_a_request) {
    static const char text[] =
        "POST /a%20b/%C3%A9?x=1&y HTTP/1.1\r\nHost: h\r\nX-One:  two three \r\nx-one: 4\r\n"
        "Content-Length: 4\r\n\r\nbodyGET";
    HttpParse p;
    http__parse_init(&p, MAX_HEAD, MAX_BODY);
    EQ(http__parse_feed(&p, text, sizeof text - 1), sizeof text - 1 - 3);
    EQ(p.state, PARSE_DONE);
    TRUE_(slice_eq_str(p.method, "POST"));
    TRUE_(slice_eq_str(p.target, "/a%20b/%C3%A9?x=1&y"));
    EQ_STR(sb_str(&p.path), "/a b/\xc3\xa9");
    TRUE_(slice_eq_str(p.query, "x=1&y"));
    TRUE_(slice_eq_str(http__parse_header(&p, "X-ONE"), "two three"));
    EQ(http__parse_header(&p, "absent").n, 0);
    EQ_STR(sb_str(&p.body), "body");
    EQ(p.version, 11);
    TRUE_(p.keep_alive);
    http__parse_reset(&p);
    TRUE_(http__parse_is_fresh(&p));
    static const char next[] = "GET http://h HTTP/1.0\r\n\r\n";
    EQ(http__parse_feed(&p, next, sizeof next - 1), sizeof next - 1);
    EQ(p.state, PARSE_DONE);
    EQ_STR(sb_str(&p.path), "/");
    EQ(p.body.n, 0);
    EQ(p.query.n, 0);
    FALSE_(p.keep_alive);
    http__parse_deinit(&p);
}

TEST(keep_alive_follows_version_and_connection) {
    static const struct {
        bool keep;
        const char *text;
    } t[] = {
        {true, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {false, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"},
        {false, "GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n"},
        {false, "GET / HTTP/1.0\r\n\r\n"},
        {true, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"},
    };
    for (size_t i = 0; i < COUNT_OF(t); i++) {
        HttpParse p;
        http__parse_init(&p, MAX_HEAD, MAX_BODY);
        http__parse_feed(&p, t[i].text, strlen(t[i].text));
        EQ(p.state, PARSE_DONE);
        EQ(p.keep_alive, t[i].keep);
        http__parse_deinit(&p);
    }
}

/* A head of `n` bytes in all, its surplus in the target or in a field. */
static int status_of_head(size_t n, bool in_target) {
    StrBuf b = {0};
    const char *tail = in_target ? " HTTP/1.1\r\nHost: x\r\n\r\n" : "\r\n\r\n";
    sb_puts(&b, in_target ? "GET /" : "GET / HTTP/1.1\r\nHost: x\r\nX: ");
    while (b.n + strlen(tail) < n) sb_putc(&b, 'a');
    sb_puts(&b, tail);
    HttpParse p;
    http__parse_init(&p, MAX_HEAD, MAX_BODY);
    http__parse_feed(&p, b.p, b.n);
    int status = p.state == PARSE_DONE ? 0 : p.status;
    http__parse_deinit(&p);
    sb_deinit(&b);
    return status;
}

TEST(head_limit_is_exact) {
    EQ(status_of_head(MAX_HEAD, false), 0);
    EQ(status_of_head(MAX_HEAD + 1, false), 431);
    EQ(status_of_head(MAX_HEAD, true), 0);
    EQ(status_of_head(3 * MAX_HEAD, true), 414);
}

TEST(number_of_fields_is_limited) {
    for (int n = HTTP_MAX_FIELDS; n <= HTTP_MAX_FIELDS + 1; n++) {
        StrBuf b = {0};
        sb_puts(&b, "GET / HTTP/1.1\r\nHost: x\r\n");
        for (int i = 1; i < n; i++) sb_puts(&b, "a: b\r\n");
        sb_puts(&b, "\r\n");
        HttpParse p;
        http__parse_init(&p, MAX_HEAD, MAX_BODY);
        http__parse_feed(&p, b.p, b.n);
        EQ(p.state == PARSE_DONE ? 0 : p.status, n > HTTP_MAX_FIELDS ? 431 : 0);
        http__parse_deinit(&p);
        sb_deinit(&b);
    }
}

TEST(body_limit_is_exact) {
    StrBuf b = {0};
    sb_printf(&b, POST "Content-Length: %d\r\n\r\n", MAX_BODY);
    for (int i = 0; i < MAX_BODY; i++) sb_putc(&b, 'b');
    HttpParse p;
    http__parse_init(&p, MAX_HEAD, MAX_BODY);
    EQ(http__parse_feed(&p, b.p, b.n), b.n);
    EQ(p.state, PARSE_DONE);
    EQ(p.body.n, MAX_BODY);
    http__parse_deinit(&p);
    sb_deinit(&b);
}

TEST(endless_chunk_extensions_and_trailers_are_cut) {
    static const char *const heads[] = {TE "5;", TE "0\r\nX: "};
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        HttpParse p;
        http__parse_init(&p, MAX_HEAD, MAX_BODY);
        http__parse_feed(&p, heads[i], strlen(heads[i]));
        EQ(p.state, PARSE_BODY);
        for (int k = 0; k < HTTP_MAX_CHUNK_EXTRA + 8 && p.state == PARSE_BODY; k++)
            http__parse_feed(&p, "a", 1);
        EQ(p.state, PARSE_FAILED);
        EQ(p.status, 400);
        http__parse_deinit(&p);
    }
}
