/* SPDX-License-Identifier: Apache-2.0
 * Inside net/: server and connection. Everything here belongs to the loop's thread, but for the two
 * atomics and wake_fd of HttpServer, through which other threads knock.
 *
 * A connection is freed only from libevent's callbacks and from http_run's end, never inside http_reply
 * and friends: a handler may go on using what it has until it returns. */
#ifndef INGOT_NET_INTERNAL_H
#define INGOT_NET_INTERNAL_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdatomic.h>

#include "net/http.h"
#include "net/http_parse.h"

typedef struct HttpConn HttpConn;
typedef struct ssl_ctx_st SSL_CTX; /* as OpenSSL has it */

typedef enum ConnState {
    CONN_READ,    /* a request is awaited or arriving */
    CONN_HANDLED, /* the handler has it; input waits */
    CONN_FLUSH,   /* no further request; the rest of the answer is being sent */
    CONN_LINGER /* our side is shut; late bytes are thrown away so that the answer is not lost to a reset */
} ConnState;

enum { HTTP_ID_BYTES = 129 };

struct HttpReq {
    HttpConn *conn; /* borrowed: the connection this is part of */
    HttpParse parse;
    void (*gone_fn)(void *ctx); /* NULL: nobody wants to know */
    void *gone_ctx;
    void (*sent_fn)(void *ctx); /* NULL: nobody waits for it */
    void *sent_ctx;
    bool streaming;                /* http_stream_begin was called */
    bool no_body;                  /* answer to HEAD, or a status without body */
    bool chunked;                  /* the stream is sent in chunks (not to HTTP/1.0) */
    char client[INET6_ADDRSTRLEN]; /* whom a proxy of ours had it from; "": the peer itself */
    char id[HTTP_ID_BYTES];        /* X-Request-Id; set as the request is handled */
};

struct HttpConn {
    HttpServer *server;      /* borrowed */
    HttpConn *prev, *next;   /* in server->conns */
    struct bufferevent *bev; /* owned, with its socket */
    struct event *resume;    /* owned: go on with this connection from the loop */
    HttpReq req;
    ConnState state;
    bool broken;          /* an answer could not be queued: close */
    bool peer_shut;       /* end of file was read */
    bool reading;         /* off while enough is read ahead */
    uint64_t deadline_ms; /* of the state; 0: none */
    size_t body_goal;     /* bytes of the body that must be there at the deadline */
    size_t n_held;        /* bytes of the body that count in server->n_held */
    int n_requests;       /* handled so far */
    uint64_t n_queued;    /* bytes ever given to the output buffer */
    uint64_t stall_goal;  /* bytes that must be sent in all ... */
    uint64_t stall_ms;    /* ... by this time; 0: nothing waits */
    char peer[INET6_ADDRSTRLEN + 10];
    uint8_t ip[16]; /* IPv4 as its mapped IPv6 */
    uint8_t
        address[16]; /* one client: an IPv4 address, mapped, or the first 64 bits of an IPv6 one */
};

/* Addresses whose first bits are these. */
typedef struct HttpRange {
    uint8_t ip[16]; /* IPv4 as its mapped IPv6 */
    int bits;
} HttpRange;

struct HttpServer {
    HttpConfig cfg; /* [const] limits filled in */
    int port;       /* [const] */
    int wake_fd;    /* [const] eventfd, any thread writes */
    _Atomic bool
        stop_asked; /* [atomic] set in http_stop, read by the loop; relaxed: wake_fd orders it */
    _Atomic bool
        wake_asked; /* [atomic] set in http_wake, cleared before on_wake; acquire and release */
    SSL_CTX *tls;   /* owned; NULL: plain HTTP */
    struct event_base *base; /* owned, all below too */
    struct evconnlistener *listener;
    struct event *ev_wake, *ev_scan, *ev_tick, *ev_relisten;
    HttpConn *conns;
    int n_conns;
    bool stopping;
    int grace_ms;
    uint64_t stop_ms;   /* running answers are cut then */
    size_t n_held;      /* bytes of bodies, here and with those who took them */
    HttpRange *proxies; /* owned; [cfg.n_proxies] */
    uint64_t id_seed;   /* [const] random */
    uint64_t n_ids;     /* drawn so far */
    int64_t date_s;     /* that `date` is of */
    char date[48];      /* header line */
};

uint64_t http__now_ms(void);

/* ---- http_conn.c ---- */
/* Take over an accepted socket; one that is over a limit is answered 503 or 429 and closed. The socket is closed on
 * failure. */
void http__conn_open(HttpServer *s, evutil_socket_t fd, const struct sockaddr *peer);
/* Close and free; a HANDLED request's on_gone is called. */
void http__conn_close(HttpConn *c);
/* Periodic check of deadline and slow reading; may close c. */
void http__conn_scan(HttpConn *c, uint64_t now_ms);
/* The server stops: close what is idle. May close c. */
void http__conn_stop(HttpConn *c);
/* Append to the output; on failure the connection is marked broken. */
void http__conn_put(HttpConn *c, const void *p, size_t n);
/* The request was answered: on to the next one, or to FLUSH. */
void http__conn_answered(HttpConn *c);

/* ---- http_tls.c ---- */
/* A context from two PEM files. ERR_NOT_FOUND, ERR_IO, ERR_FORMAT, ERR_ARG. */
MUST_CHECK Status http__tls_load(SSL_CTX **out, const char *cert, const char *key, Err *e);
void http__tls_free(SSL_CTX *ctx);
/* The server's side of a handshake on fd; NULL when memory is out. */
struct bufferevent *http__tls_socket(HttpServer *s, evutil_socket_t fd);
/* The context that a reload puts in force; NULL without TLS. */
MUST_CHECK Status http__tls_again(SSL_CTX **out, const HttpServer *s, Err *e);
/* Tell the peer that no more comes. */
void http__tls_goodbye(struct bufferevent *bev);

/* ---- http_cors.c ---- */
/* Header lines of our own that the handler's do not have already. */
void http__put_headers(HttpReq *r, const char *extra);
bool http__is_preflight(const HttpReq *r);
void http__reply_preflight(HttpReq *r);

/* ---- http_reply.c ---- */
/* Whole answer of the server itself, in on_refuse's words, after which the connection is closed. */
void http__reply_refuse(HttpReq *r, int status, const char *why);

/* ---- http_proxy.c ---- */
/* The configuration's proxies as ranges. ERR_ARG names one that is none, ERR_NOMEM. */
MUST_CHECK Status http__read_proxies(HttpServer *s, Err *e);
bool http__is_proxy(const HttpServer *s, const uint8_t ip[16]);
/* Whom a request comes from, if a proxy of ours says so. */
void http__take_client(HttpReq *r);

/* ---- http_id.c ---- */
/* Give the request its id: the client's, or one that is drawn. */
void http__take_id(HttpReq *r);

#endif
