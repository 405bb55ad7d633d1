/* SPDX-License-Identifier: Apache-2.0
 * One request from bytes: feeds scanned bytes to http-parser, collects the body, keeps the limits. Two
 * readings of the framing, the scan's and the library's, must agree on where the request ends. */
#include "net/http_parse.h"

#include <strings.h>

enum { KEEP_BYTES = 64 << 10 }; /* buffers larger than this are not kept for the next request */

static int on_headers_complete(http_parser *hp) {
    HttpParse *p = hp->data;
    hp->upgrade = 0; /* no other protocol is spoken here: an ordinary request */
    p->keep_alive = http_should_keep_alive(hp) != 0;
    return 0;
}

static int on_body(http_parser *hp, const char *at, size_t n) {
    HttpParse *p = hp->data;
    if (n > p->max_body - p->body.n) {
        http__parse_fail(p, 413, "request body too large");
        return 1;
    }
    sb_put(&p->body, at, n);
    if (!p->body.failed) return 0;
    http__parse_fail(p, 503, "out of memory");
    return 1;
}

static int on_message_complete(http_parser *hp) {
    HttpParse *p = hp->data;
    p->state = PARSE_DONE;
    return 0;
}

static const http_parser_settings settings = {
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

void http__parse_init(HttpParse *p, size_t max_head, size_t max_body) {
    *p = (HttpParse){.max_head = max_head, .max_body = max_body};
}

static void forget(StrBuf *b) {
    if (b->cap > KEEP_BYTES || b->failed) {
        sb_deinit(b);
        *b = (StrBuf){0};
    } else {
        sb_clear(b);
    }
}

void http__parse_reset(HttpParse *p) {
    StrBuf head = p->head, path = p->path, body = p->body;
    forget(&head);
    forget(&path);
    forget(&body);
    size_t max_line = p->max_line, max_target = p->max_target;
    size_t (*body_limit)(HttpParse *) = p->body_limit;
    http__parse_init(p, p->max_head, p->max_body);
    p->max_line = max_line;
    p->max_target = max_target;
    p->body_limit = body_limit;
    p->head = head;
    p->path = path;
    p->body = body;
}

void http__parse_deinit(HttpParse *p) {
    sb_deinit(&p->head);
    sb_deinit(&p->path);
    sb_deinit(&p->body);
}

bool http__parse_is_fresh(const HttpParse *p) { return p->state == PARSE_HEAD && p->head.n == 0; }

Slice http__parse_header(const HttpParse *p, const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < p->n_fields; i++) {
        const HttpField *f = &p->fields[i];
        if (f->name.n == n && strncasecmp(f->name.p, name, n) == 0) return f->value;
    }
    return (Slice){"", 0};
}

bool http__parse_fail(HttpParse *p, int status, const char *why) {
    if (p->state == PARSE_FAILED) return false;
    p->state = PARSE_FAILED;
    p->status = status;
    p->why = why;
    p->keep_alive = false;
    return false;
}

/* Give n bytes to the library; all of them must be taken. */
static bool execute(HttpParse *p, const char *d, size_t n) {
    size_t used = http_parser_execute(&p->hp, &settings, d, n);
    enum http_errno err = HTTP_PARSER_ERRNO(&p->hp);
    if (err == HPE_INVALID_METHOD) return http__parse_fail(p, 501, "unknown method");
    return used == n && err == HPE_OK ? true : http__parse_fail(p, 400, "malformed request");
}

/* The head is whole: judge it, then let the library read it. */
static bool accept_head(HttpParse *p) {
    if (p->head.failed) return http__parse_fail(p, 503, "out of memory");
    if (!http__head_check(p)) return false;
    p->state = PARSE_BODY;
    http_parser_init(&p->hp, HTTP_REQUEST);
    p->hp.data = p;
    return execute(p, p->head.p, p->head.n);
}

static size_t feed_head(HttpParse *p, const char *d, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (http__head_byte(p, d[i])) continue;
        if (p->state == PARSE_HEAD) accept_head(p);
        return i + 1;
    }
    return n;
}

static size_t feed_body(HttpParse *p, const char *d, size_t n) {
    p->wants_continue = false;
    if (!p->chunked) {
        size_t k = (size_t)MIN(p->hp.content_length, (uint64_t)n);
        execute(p, d, k);
        return k;
    }
    size_t k = http__chunk_scan(&p->chunk, d, n);
    if (k > 0) execute(p, d, k);
    bool ended = p->chunk.state == CHUNK_END;
    if (p->chunk.state == CHUNK_BAD || ended != (p->state == PARSE_DONE)) {
        http__parse_fail(p, 400, "bad chunk framing");
    }
    return k;
}

size_t http__parse_feed(HttpParse *p, const char *d, size_t n) {
    size_t used = 0;
    while (used < n && (p->state == PARSE_HEAD || p->state == PARSE_BODY)) {
        ParseState was = p->state;
        size_t k =
            was == PARSE_HEAD ? feed_head(p, d + used, n - used) : feed_body(p, d + used, n - used);
        if (k == 0 && p->state == was) http__parse_fail(p, 400, "malformed request");
        used += k;
    }
    return used;
}
