/* SPDX-License-Identifier: Apache-2.0
 * HTTP/1.1 client over libcurl's multi interface: many calls at a time on one thread, none of which blocks
 * another. TLS 1.2 and later, verified unless told otherwise. No call runs without bounds: connecting, standing still, head,
 * body and redirects each have one.
 *
 * call: START -[net_poll]-> HEAD -[redirect: on_hop]-> START, with the next URL
 *                           HEAD -[on_head]-> BODY -[on_body ...]-> DONE: on_done, once, then it is freed
 *       any  -[failure, a callback's error, a time limit]-> DONE
 *       any  -[net_cancel]-> gone, without on_done
 *
 * Whose turn it is: a client and its calls belong to one thread. That thread calls net_poll again and again and
 * waits inside it; callbacks run inside net_poll. A server, whose loop waits for its own sockets, gives its calls to
 * a thread of their own as outbox.c does: it queues what is to be asked under a lock and knocks with net_wake, the
 * one function for other threads; what comes back is queued the other way and http_wake knocks there. A call is
 * started, cancelled and read on the client's thread, from on_done too; on_hop, on_head and on_body end their own
 * call by returning an error, and touch no other one. */
#ifndef INGOT_NET_CLIENT_H
#define INGOT_NET_CLIENT_H

#include <stdatomic.h>

#include "base/str.h"

typedef struct NetClient NetClient;
typedef struct NetCall NetCall;

/* Zero: the default in brackets. Strings are borrowed, longer than the client. */
typedef struct NetConfig {
    const char *http_proxy, *https_proxy; /* [no proxy] by the scheme of the URL */
    const char *all_proxy;                /* where there is none of its own */
    const char *no_proxy;                 /* hosts without one, as curl reads the list; "*": all */
    const char *ca_file, *ca_dir;         /* certificates to trust instead of the system's */
    const char *user_agent;               /* ["ingot"] */
    int connect_timeout_ms;               /* [15000] name, connection, TLS */
    int stall_timeout_ms; /* [30000] less than 512 bytes a second for so long; whole seconds; -1: none */
    int max_redirects;     /* [8] */
    size_t max_head_bytes; /* [64 KB] of one answer's head */
    int retries;           /* [0] of net_ask */
    int buffer_bytes;      /* [256 KB] of each call and direction */
    int many; /* [0] connections kept open; above 0 net_poll waits by epoll, so that a turn costs what
                             * has happened and not what is open: for hundreds of calls at a time */
    bool insecure;          /* any certificate will do */
    const atomic_int *stop; /* net_ask gives up when it is set; NULL: never */
} NetConfig;

/* Why there is no answer. */
typedef enum NetFault {
    NET_NONE,    /* there is one */
    NET_RESOLVE, /* the name of the host (or proxy) is not known here */
    NET_CONNECT, /* nobody listens there, or it cannot be reached */
    NET_TLS,     /* the certificate is refused */
    NET_BROKEN,  /* the connection ended early */
    NET_STALLED, /* a time limit */
    NET_CALLER,  /* a callback or a limit of the request ended it */
    NET_OTHER
} NetFault;

/* Strings are copied; body and ctx are borrowed until the call is gone. */
typedef struct NetRequest {
    const char *method;         /* [GET] */
    const char *url;            /* http or https, no credentials in it */
    const char *const *headers; /* "Name: value" */
    int n_headers;
    const char *const *secrets; /* the same, but never sent to another origin than that of url */
    int n_secrets;
    /* Adds "Name: value\n" lines to those above when the call starts (net_ask: each time); they are
     * treated as secrets. NULL: nothing. */
    Status (*sign)(void *ctx, StrBuf *lines, Err *e);
    Slice body; /* bytes to send, or read below */
    /* Gives n bytes from offset `at`; a connection that broke may ask again from the start. */
    Status (*read)(void *ctx, uint64_t at, void *p, size_t n, Err *e);
    uint64_t n_body;    /* of read */
    uint64_t max_reply; /* [1 MB] bytes of a body that is collected; with on_body: no limit */
    int timeout_ms;     /* [none] for the whole call, each redirect anew */
    bool no_redirects;  /* a redirect is the answer */
    bool retry_post;    /* net_ask may send a POST again */
    bool once;          /* net_ask does not try again */
    Status (*on_hop)(void *ctx, NetCall *c, Err *e);  /* head of a redirect */
    Status (*on_head)(void *ctx, NetCall *c, Err *e); /* head of the answer */
    /* NULL: collected, see net_body. */
    Status (*on_body)(void *ctx, NetCall *c, Slice part, Err *e);
    /* st: whether a whole answer came, of any status. */
    void (*on_done)(void *ctx, NetCall *c, Status st, const Err *err);
    void *ctx;
} NetRequest;

/* ERR_NOMEM, ERR_INTERNAL. */
MUST_CHECK Status net_client_new(NetClient **out, const NetConfig *c, Err *e);
/* Calls that still run are cancelled. */
void net_client_free(NetClient *c);
/* End all calls now as if they had failed: on_done is called for each, with ERR_CANCELLED. */
void net_client_end(NetClient *c);
/* Start a call; *out (unless NULL) is borrowed until on_done. ERR_ARG: the URL or a header is no good. */
MUST_CHECK Status net_start(NetCall **out, NetClient *c, const NetRequest *rq, Err *e);
/* Take a call back. NULL is fine. */
void net_cancel(NetCall *call);
/* Do what can be done, waiting up to timeout_ms for something to do. ERR_INTERNAL if libcurl fails. */
MUST_CHECK Status net_poll(NetClient *c, int timeout_ms, Err *e);
/* The same as net_poll, with a wait that is cut finer where config.many is set, else rounded up. */
MUST_CHECK Status net_poll_ns(NetClient *c, uint64_t timeout_ns, Err *e);
/* Calls that are not done. */
int net_n_running(const NetClient *c);
/* End a net_poll that waits. Any thread. */
void net_wake(NetClient *c);

/* ---- inside callbacks ---- */
/* Status of the answer, 0 while there is none. */
int net_status(const NetCall *c);
/* Value of a header of the present answer, without blanks around; empty if absent, the first if repeated. */
Slice net_header(const NetCall *c, const char *name);
/* The URL that answered, after redirects. */
const char *net_url(const NetCall *c);
/* What was collected of the body. */
Slice net_body(const NetCall *c);
NetFault net_fault(const NetCall *c);
/* errno of a connection that could not be made, 0 if not known. */
int net_os_error(const NetCall *c);
/* The like may go better later: the fault, or the status (408, 425, 429, 500, 502, 503, 504), is of that kind.
 * A name that is not known is not: who has talked to that host before may think otherwise. */
bool net_may_retry(const NetCall *c);
/* Seconds the server asks to wait; 0 if it does not. */
int64_t net_retry_after(const NetCall *c);

/* ---- helpers ---- */
/* Milliseconds before attempt n + 1 after n >= 1 failures: at random below a bound that doubles from half a
 * second to half a minute; what the server asked for, if that is longer, and -1 if that is over five minutes. */
int net_backoff_ms(int n, int64_t retry_after_s, uint64_t seed);
/* Same scheme, host and port. False if one is no URL. */
bool net_same_origin(const char *a, const char *b);
/* Whether this is an http or https URL without credentials that can be asked for. ERR_ARG names it. */
MUST_CHECK Status net_check_url(const char *url, Err *e);
/* text with everything but letters, digits, "-._~" and the bytes of `keep` as %XX. */
void net_put_escaped(StrBuf *b, Slice text, const char *keep);

/* Unix time of a date as headers have it; 0 if it is none, or before 1970. */
int64_t net_parse_date(const char *text);

/* A whole answer, owned by the caller. Zeroed: empty. */
typedef struct NetAnswer {
    int status;
    NetFault fault;
    StrBuf head, body;
} NetAnswer;
/* Start a call, drive the client until it is done, again where that may help (config.retries). Callbacks of rq
 * stay as they are, on_done apart, which is not called. Not from inside a callback. OK: there is an answer,
 * of any status. */
MUST_CHECK Status net_ask(NetAnswer *out, NetClient *c, const NetRequest *rq, Err *e);
Slice net_answer_header(const NetAnswer *a, const char *name);
void net_answer_deinit(NetAnswer *a);

#endif
