/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.1 server on libevent bufferevents and http-parser (RFC 9110, 9112). One loop on one thread;
 * handlers run on it and must not block: slow work goes to another thread, which answers later through
 * http_wake. Requests are parsed strictly: anything that two parsers could read differently is refused
 * with 400 and the connection is closed.
 *
 * With tls_cert and tls_key the same over TLS 1.2 or 1.3. Answers get headers of ours unless the handler gives
 * the same: X-Content-Type-Options, X-Frame-Options, Referrer-Policy, Content-Security-Policy.
 *
 * connection: READ -[whole request parsed]-> HANDLED -[http_reply | http_stream_end]-> READ (keep-alive)
 *             READ -[refused] | HANDLED -[answered, last one]-> FLUSH -[all sent]-> LINGER -> CLOSED
 *             any -[peer left, timeout]-> CLOSED; a request then HANDLED gets its on_gone, once
 *
 * Every answer carries an X-Request-Id: the request's own, if it consists of A-Z a-z 0-9 . _ -, or one drawn here.
 *
 * A client that closes its sending side has left: there is no other sign of one. Requests sent ahead
 * (pipelining) wait in a small buffer and are answered one after the other. */
#ifndef INGOT_NET_HTTP_H
#define INGOT_NET_HTTP_H

#include "base/str.h"

typedef struct HttpServer HttpServer;
typedef struct HttpReq HttpReq; /* one request being answered; owned by the server */

enum { HTTP_MAX_LARGE = 4 };

typedef struct HttpLimits {  /* zero: the default in brackets */
    size_t max_header_bytes; /* [16 KB, at most 64 KB] request line and headers; beyond: 431, 414 */
    size_t max_line_bytes;   /* [8 KB] one header line; beyond: 431 */
    size_t max_target_bytes; /* [4 KB] beyond: 414 */
    size_t max_body_bytes;   /* [4 MB] beyond: 413, by Content-Length or as it is read */
    size_t max_held_bytes;   /* [64 MB] of all bodies together (http_hold); beyond: 503 */
    int max_connections;     /* [256] beyond: 503 and closed */
    int max_per_address;     /* [all] of one IPv4 address or IPv6 /64; beyond: 429 and closed */
    int max_requests;        /* [1000] on one connection, then it is closed */
    int header_timeout_ms;   /* [10000] of a head, a TLS handshake included; 408 */
    int body_timeout_ms;     /* [5000] in each such time ... */
    int min_body_rate;       /* [1024] ... this many bytes a second of a body must arrive; 408 */
    int idle_timeout_ms;     /* [60000] keep-alive */
    int write_timeout_ms;    /* [30000] a reader that takes less than 64 KB in it is dropped */
} HttpLimits;

/* Pages of other sites that may read answers. */
typedef struct HttpCors {
    const char *const *origins; /* [n_origins] "https://chat.example", or "*": all; borrowed */
    int n_origins;              /* 0: none, no CORS header is ever sent */
    int max_age_s;              /* of a preflight's answer; 0: 600 */
} HttpCors;

typedef struct HttpConfig {
    /* Address or name to bind: "127.0.0.1", "::1", "0.0.0.0", "localhost"; NULL: only the loop, nothing listens. */
    const char *host;
    int port; /* 0: any free one, see http_port */
    HttpLimits limits;
    const char *tls_cert; /* PEM file: the certificate, then those that signed it; NULL: no TLS */
    const char *tls_key;  /* PEM file of its key, not encrypted */
    int hsts_s;           /* over TLS: max-age of Strict-Transport-Security; 0: not sent */
    HttpCors cors;        /* preflights are answered here, not by on_request */
    /* [n_proxies] addresses and ranges ("10.0.0.0/8") whose X-Forwarded-For is believed; borrowed */
    const char *const *proxies;
    int n_proxies;
    /* The body, in JSON, of an answer that a limit or the parser gives: append it to b. NULL: {"error", "detail"}. */
    void (*on_refuse)(void *ctx, StrBuf *b, int status, const char *why);
    /* Bytes that the body of this request may have, once its head is there; 0: max_body_bytes. At most HTTP_MAX_LARGE bodies
     * above that may arrive at one time, others get 503; they do not count in max_held_bytes. NULL: always 0. */
    size_t (*body_limit)(void *ctx, const HttpReq *r);
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
 * limit out of range or a proxy that is no address. */
MUST_CHECK Status http_new(HttpServer **out, const HttpConfig *c, Err *e);
void http_free(HttpServer *s);
int http_port(const HttpServer *s);
/* Run the loop on this thread until http_stop, then let running answers finish for up to grace_ms; who connects
 * meanwhile is answered once and let go (http_stopping). At the return every connection is closed. Once per server. */
MUST_CHECK Status http_run(HttpServer *s, int grace_ms, Err *e);
/* Any thread, also from a signal handler. */
void http_stop(HttpServer *s);
/* Ask for on_wake soon. Any thread. */
void http_wake(HttpServer *s);

/* ---- loop thread only ---- */
/* Read certificate and key again, for connections that come, and take other limits for requests and connections that come
 * (zero is the default again); `last` is called when all of it is ready, and on its success all of it is in force. On
 * failure all is as it was. NULL for last: there is nothing else. ERR_ARG a limit, what last returns, and those of files. */
MUST_CHECK Status http_reload(HttpServer *s, const HttpLimits *l, Status (*last)(void *ctx, Err *e),
                              void *ctx, Err *e);
/* Bytes of bodies that are being read, or are held by whoever took them. */
size_t http_held_bytes(const HttpServer *s);
/* Count `more` bytes as held, or less with a negative number; never fails, max_held_bytes is for bodies that come. */
void http_hold(HttpServer *s, int64_t more);
/* True once http_stop was called. */
bool http_stopping(const HttpServer *s);
int http_n_connections(const HttpServer *s);
Slice http_method(const HttpReq *r);
Slice http_target(const HttpReq *r); /* as sent: visible ASCII */
Slice http_path(const HttpReq *r);   /* without query, percent-decoded, valid UTF-8, no NUL */
Slice http_query(const HttpReq *r);  /* raw */
Slice http_header(const HttpReq *r, const char *name); /* case-insensitive; empty if absent */
Slice http_body(const HttpReq *r);
/* The body becomes the caller's, in `out`, which is empty: http_body is empty from then on. out->cap bytes stay held
 * until the caller gives them back by http_hold. */
void http_take_body(StrBuf *out, HttpReq *r);
/* What the answer's X-Request-Id says, borrowed: at most 128 characters. */
const char *http_request_id(const HttpReq *r);
/* Value of a field of a query string or a form, decoded (+ is a blank), appended to out; *found = false: there is none. The
 * first of several. ERR_FORMAT a bad escape, NUL or bytes that are not UTF-8; ERR_NOMEM. */
MUST_CHECK Status http_query_get(StrBuf *out, bool *found, Slice query, const char *name, Err *e);
/* Over TLS? */
bool http_is_secure(const HttpReq *r);
/* Version of the request: 10 or 11. */
int http_version(const HttpReq *r);
/* "127.0.0.1:43368" or "[::1]:43368"; without a port if a proxy of ours says who it is. Borrowed. */
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
/* fn is called once, when all that was written so far has gone to the client. */
void http_on_sent(HttpReq *r, void (*fn)(void *ctx), void *ctx);
void http_stream_end(HttpReq *r); /* r is invalid afterwards */
/* Standard words of a status code: "Not Found". */
const char *http_reason(int status);

#endif
