/* SPDX-License-Identifier: Apache-2.0
 * What handlers see of a request, and answers: whole ones with a length, streams in chunks. */
#include "net/internal.h"

enum { HEAD_BYTES = 256 }; /* status line and the fields of our own */

typedef struct Reason {
    int status;
    const char *words;
} Reason;

static const Reason reasons[] = {
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Entity"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {507, "Insufficient Storage"},
    {505, "HTTP Version Not Supported"},
};

const char *http_reason(int status) {
    for (size_t i = 0; i < COUNT_OF(reasons); i++) {
        if (reasons[i].status == status) return reasons[i].words;
    }
    return "Unknown";
}

/* ---- the request ---- */

Slice http_method(const HttpReq *r) { return r->parse.method; }

Slice http_target(const HttpReq *r) { return r->parse.target; }

Slice http_path(const HttpReq *r) { return (Slice){sb_str(&r->parse.path), r->parse.path.n}; }

Slice http_query(const HttpReq *r) { return r->parse.query; }

Slice http_header(const HttpReq *r, const char *name) {
    return http__parse_header(&r->parse, name);
}

Slice http_body(const HttpReq *r) { return (Slice){sb_str(&r->parse.body), r->parse.body.n}; }

void http_take_body(StrBuf *out, HttpReq *r) {
    *out = r->parse.body;
    r->parse.body = (StrBuf){0};
    r->conn->server->n_held += out->cap - r->conn->n_held; /* held, but not here */
    r->conn->n_held = 0;
}

void http_on_sent(HttpReq *r, void (*fn)(void *ctx), void *ctx) {
    r->sent_fn = fn;
    r->sent_ctx = ctx;
}

bool http_is_secure(const HttpReq *r) { return r->conn->server->tls != NULL; }

int http_version(const HttpReq *r) { return r->parse.version; }

const char *http_peer(const HttpReq *r) { return r->client[0] ? r->client : r->conn->peer; }

void http_on_gone(HttpReq *r, void (*fn)(void *ctx), void *ctx) {
    r->gone_fn = fn;
    r->gone_ctx = ctx;
}

/* ---- answers ---- */

static bool status_has_body(int status) { return status >= 200 && status != 204 && status != 304; }

static void puts_conn(HttpConn *c, const char *s) { http__conn_put(c, s, strlen(s)); }

/* Status line and fields; `framing` is Content-Length or Transfer-Encoding with its line end, or "". */
static void put_head(HttpReq *r, int status, const char *type, const char *extra,
                     const char *framing) {
    HttpConn *c = r->conn;
    char line[HEAD_BYTES];
    if (c->server->stopping || c->peer_shut) r->parse.keep_alive = false;
    evutil_snprintf(line, sizeof line, "HTTP/1.1 %d %s\r\n", status, http_reason(status));
    puts_conn(c, line);
    if (type && status_has_body(status)) {
        puts_conn(c, "Content-Type: ");
        puts_conn(c, type);
        puts_conn(c, "\r\n");
    }
    puts_conn(c, framing);
    if (extra) puts_conn(c, extra);
    http__put_headers(r, extra);
    if (!r->parse.keep_alive) {
        puts_conn(c, "Connection: close\r\n");
    } else if (r->parse.version < 11) {
        puts_conn(c, "Connection: keep-alive\r\n");
    }
    puts_conn(c, "\r\n");
    r->no_body = !status_has_body(status) || slice_eq_str(r->parse.method, "HEAD");
    if (c->server->cfg.on_reply) c->server->cfg.on_reply(c->server->cfg.ctx, r, status);
}

void http_reply(HttpReq *r, int status, const char *content_type, const char *extra_headers,
                Slice body) {
    char framing[64] = "";
    if (status_has_body(status)) {
        evutil_snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", body.n);
    }
    put_head(r, status, content_type, extra_headers, framing);
    if (!r->no_body) http__conn_put(r->conn, body.p, body.n);
    http__conn_answered(r->conn);
}

void http_stream_begin(HttpReq *r, int status, const char *content_type,
                       const char *extra_headers) {
    r->streaming = true;
    r->chunked = r->parse.version >= 11;
    if (!r->chunked) r->parse.keep_alive = false; /* the end of the connection ends the body */
    put_head(r, status, content_type, extra_headers,
             r->chunked ? "Transfer-Encoding: chunked\r\n" : "");
}

size_t http_stream_write(HttpReq *r, Slice part) {
    HttpConn *c = r->conn;
    if (part.n > 0 && !r->no_body) {
        char size[24];
        evutil_snprintf(size, sizeof size, "%zx\r\n", part.n);
        if (r->chunked) puts_conn(c, size);
        http__conn_put(c, part.p, part.n);
        if (r->chunked) puts_conn(c, "\r\n");
    }
    return evbuffer_get_length(bufferevent_get_output(c->bev));
}

void http_stream_end(HttpReq *r) {
    if (r->chunked && !r->no_body) puts_conn(r->conn, "0\r\n\r\n");
    http__conn_answered(r->conn);
}

/* `why` is our own plain text. */
static void put_refusal(StrBuf *b, const HttpConfig *c, int status, const char *why) {
    if (c->on_refuse) c->on_refuse(c->ctx, b, status, why);
    else sb_printf(b, "{\"error\":\"%s\",\"detail\":\"%s\"}", why, why);
}

void http__reply_refuse(HttpReq *r, int status, const char *why) {
    StrBuf b = {0};
    bool later = status == 429 || status == 503;
    r->parse.keep_alive = false;
    if (!r->id[0]) http__take_id(r);
    put_refusal(&b, &r->conn->server->cfg, status, why);
    http_reply(r, status, "application/json", later ? "Retry-After: 1\r\n" : NULL,
               (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
}
