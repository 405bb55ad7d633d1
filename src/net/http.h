/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.1 server on libevent bufferevents and http-parser (RFC 9110, 9112). One loop on one thread;
 * handlers run on it and must not block: slow work goes to another thread, which answers later through
 * http_wake. Requests are parsed strictly: anything that two parsers could read differently is refused
 * with 400 and the connection is closed.
 *
 * connection: READ -[whole request parsed]-> HANDLED -[http_reply | http_stream_end]-> READ (keep-alive)
 *             READ -[refused] | HANDLED -[answered, last one]-> FLUSH -[all sent]-> LINGER -> CLOSED
 *             any -[peer left, timeout]-> CLOSED; a request then HANDLED gets its on_gone, once
 *
 * A client that closes its sending side has left: there is no other sign of one. Requests sent ahead
 * (pipelining) wait in a small buffer and are answered one after the other. */
#ifndef INGOT_NET_HTTP_H
#define INGOT_NET_HTTP_H

#include "base/str.h"

typedef struct HttpServer HttpServer;
typedef struct HttpReq HttpReq; /* one request being answered; owned by the server */

typedef struct HttpLimits {  /* zero: the default in brackets */
    size_t max_header_bytes; /* [16 KB, at most 64 KB] request line and headers; beyond: 431, 414 */
    size_t max_body_bytes;   /* [4 MB] beyond: 413 */
    int max_connections;     /* [256] beyond: 503 and closed */
    int header_timeout_ms;   /* [10000] a whole request must have arrived by then; 408 */
    int idle_timeout_ms;     /* [60000] keep-alive */
    int write_timeout_ms; /* [60000] a reader that takes less than 64 KB in this time is dropped */
} HttpLimits;

typedef struct HttpConfig {
    const char *host; /* address or name to bind: "127.0.0.1", "::1", "0.0.0.0", "localhost" */
    int port;         /* 0: any free one, see http_port */
    HttpLimits limits;
    /* Called for every whole request, on the loop's thread. */
    void (*on_request)(void *ctx, HttpReq *r);
    /* Called on the loop's thread after http_wake. */
    void (*on_wake)(void *ctx);
    /* Called when an answer's status is decided, refusals included (then method and target may be empty).
     * For access logs; NULL: nothing. */
    void (*on_reply)(void *ctx, const HttpReq *r, int status);
    /* Called on the loop's thread every tick_ms; NULL: never. */
    void (*on_tick)(void *ctx);
    int tick_ms;
    void *ctx;
} HttpConfig;

/* Bind and listen; requests are taken once http_run is called. ERR_IO names address and cause, ERR_ARG a
 * limit out of range. */
MUST_CHECK Status http_new(HttpServer **out, const HttpConfig *c, Err *e);
void http_free(HttpServer *s);
int http_port(const HttpServer *s);
/* Run the loop on this thread until http_stop, then let running answers finish for up to grace_ms. At the
 * return every connection is closed. Once per server. */
MUST_CHECK Status http_run(HttpServer *s, int grace_ms, Err *e);
/* Any thread, also from a signal handler. */
void http_stop(HttpServer *s);
/* Ask for on_wake soon. Any thread. */
void http_wake(HttpServer *s);

/* ---- loop thread only ---- */
/* True once http_stop was called. */
bool http_stopping(const HttpServer *s);
int http_n_connections(const HttpServer *s);
Slice http_method(const HttpReq *r);
Slice http_target(const HttpReq *r); /* as sent: visible ASCII */
Slice http_path(const HttpReq *r);   /* without query, percent-decoded, valid UTF-8, no NUL */
Slice http_query(const HttpReq *r);  /* raw */
Slice http_header(const HttpReq *r, const char *name); /* case-insensitive; empty if absent */
Slice http_body(const HttpReq *r);
/* Version of the request: 10 or 11. */
int http_version(const HttpReq *r);
/* "127.0.0.1:43368" or "[::1]:43368", borrowed. */
const char *http_peer(const HttpReq *r);
/* fn is called at most once, if the client leaves or the connection breaks before the answer is complete;
 * from fn on r is invalid. */
void http_on_gone(HttpReq *r, void (*fn)(void *ctx), void *ctx);
/* Whole answer; r is invalid afterwards. `extra_headers` is "Name: value\r\n"... or NULL. To HEAD the
 * same is answered without the body. */
void http_reply(HttpReq *r, int status, const char *content_type, const char *extra_headers,
                Slice body);
/* Chunked answer in parts. http_stream_write returns bytes now waiting in the send buffer. */
void http_stream_begin(HttpReq *r, int status, const char *content_type, const char *extra_headers);
size_t http_stream_write(HttpReq *r, Slice part);
void http_stream_end(HttpReq *r); /* r is invalid afterwards */
/* Standard words of a status code: "Not Found". */
const char *http_reason(int status);

#endif
