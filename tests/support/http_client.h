/* SPDX-License-Identifier: Apache-2.0
 * A plain blocking client over loopback, for tests that talk to a server of this process. */
#ifndef INGOT_TEST_HTTP_CLIENT_H
#define INGOT_TEST_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct HcReply {
    int status;       /* 0: no answer before the end or the time limit */
    char head[4096];  /* with the empty line; NUL-terminated */
    char body[70000]; /* NUL-terminated; chunks are left as sent */
    size_t n_body;
    bool closed; /* the server closed after it */
} HcReply;

/* Connected socket to 127.0.0.1:port, reads limited to 10 s; -1 on failure. */
int hc_connect(int port);
/* All bytes; false if the server closed. */
bool hc_send(int fd, const char *text);
bool hc_send_n(int fd, const void *p, size_t n);
/* Read one answer: by Content-Length, or up to the end of the connection if it has none. */
void hc_read(int fd, HcReply *r, bool head_only);
/* Send and read one answer. */
void hc_ask(int fd, HcReply *r, const char *text);
/* Connect, send, read, close. */
void hc_once(int port, HcReply *r, const char *text);
/* Value of a header field in r->head, up to its line end, into buf; false if absent. */
bool hc_header(const HcReply *r, const char *name, char *buf, size_t cap);
/* True if the server closed within ms; bytes that come are thrown away. */
bool hc_closed(int fd, int ms);
/* Close with a reset instead of an orderly end. */
void hc_reset(int fd);

#endif
