/* SPDX-License-Identifier: Apache-2.0
 * Inside the client: its calls and what the files of it share. One thread. */
#ifndef INGOT_NET_CLIENT_INTERNAL_H
#define INGOT_NET_CLIENT_INTERNAL_H

#include <curl/curl.h>

#include "base/arena.h"
#include "net/client.h"

enum { NET_MAX_HOST = 256, NET_MAX_URL = 16 << 10, NET_MAX_SKIPPED = 64 << 10 };

struct NetClient {
    NetConfig cfg; /* [const] defaults filled in */
    CURLM *multi;  /* owned */
    NetCall *calls;
    int n_calls;
    int epoll_fd, wake_fd; /* with cfg.many, else -1 */
    uint64_t timer_ns;     /* when libcurl wants a turn; UINT64_MAX: not at all */
};

struct NetCall {
    NetClient *client;    /* borrowed */
    NetCall *prev, *next; /* in client->calls */
    NetRequest rq;        /* strings in the arena */
    Arena arena;
    CURL *easy;              /* owned */
    struct curl_slist *list; /* owned: header lines of this hop */
    char *url;               /* owned: of this hop */
    char host[NET_MAX_HOST]; /* of url, for messages */
    StrBuf head;             /* "name: value\n" of the present answer */
    StrBuf body;             /* collected, without on_body */
    size_t n_head;           /* bytes of it as they came */
    uint64_t n_got, n_sent;  /* body bytes of this hop */
    int status, n_hops;
    bool head_done, redirect; /* the present answer's head is complete; it leads elsewhere */
    NetFault fault;
    Err err; /* what a callback or a limit said */
    char detail[CURL_ERROR_SIZE];
};

/* ---- client_head.c ---- */
/* One line of a head, with its line end: remembered, or the end of the head acted upon. */
Status net__head_line(NetCall *c, Slice line);
/* Value of a header in lines "name: value\n". */
Slice net__find_header(const StrBuf *head, const char *name);

/* ---- client_url.c ---- */
/* The URL `location` means as seen from base; owned by the caller. ERR_FORMAT, ERR_UNSUPPORTED. */
Status net__url_join(char **out, const char *base, Slice location, Err *e);
/* The host of a URL, "?" if there is none. */
void net__url_host(char host[NET_MAX_HOST], const char *url);

/* ---- client_many.c ---- */
/* Have libcurl say which sockets it waits for. ERR_IO: no descriptors; net__many_close frees what there is. */
Status net__many_open(NetClient *k, Err *e);
void net__many_close(NetClient *k);
/* Wait for sockets, libcurl's timer, a knock or the time to pass; let libcurl do what there is. */
Status net__many_step(NetClient *k, uint64_t timeout_ns, Err *e);
void net__many_wake(NetClient *k);

/* ---- client_fault.c ---- */
/* What libcurl's result means: c->fault and c->err. OK if there is an answer. */
Status net__judge(NetCall *c, CURLcode rc);

#endif
