/* SPDX-License-Identifier: Apache-2.0 */
#include "support/http_client.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

int hc_connect(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct timeval limit = {10, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) return fd;
    close(fd);
    return -1;
}

bool hc_send_n(int fd, const void *p, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t k = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
        if (k <= 0) return false;
        done += (size_t)k;
    }
    return true;
}

bool hc_send(int fd, const char *text) { return hc_send_n(fd, text, strlen(text)); }

bool hc_header(const HcReply *r, const char *name, char *buf, size_t cap) {
    size_t n = strlen(name);
    for (const char *p = strstr(r->head, "\r\n"); p && p[2]; p = strstr(p + 2, "\r\n")) {
        const char *line = p + 2;
        if (strncasecmp(line, name, n) != 0 || line[n] != ':') continue;
        const char *v = line + n + 1;
        size_t k = 0;
        while (*v == ' ') v++;
        while (v[k] && v[k] != '\r' && k + 1 < cap) k++;
        memcpy(buf, v, k);
        buf[k] = '\0';
        return true;
    }
    return false;
}

/* The head, byte by byte so that nothing behind it is taken. */
static bool read_head(int fd, HcReply *r) {
    size_t n = 0;
    while (n + 1 < sizeof r->head) {
        if (recv(fd, r->head + n, 1, 0) != 1) return false;
        r->head[++n] = '\0';
        if (n >= 4 && memcmp(r->head + n - 4, "\r\n\r\n", 4) == 0) return true;
    }
    return false;
}

void hc_read(int fd, HcReply *r, bool head_only) {
    char v[32];
    memset(r, 0, sizeof *r);
    if (!read_head(fd, r)) {
        r->closed = true;
        return;
    }
    r->status = atoi(r->head + 9);
    bool sized = hc_header(r, "Content-Length", v, sizeof v);
    size_t want = sized ? (size_t)atol(v) : sizeof r->body - 1;
    if (head_only || r->status == 100 || r->status == 204) return;
    while (r->n_body < want && r->n_body + 1 < sizeof r->body) {
        size_t room = sizeof r->body - 1 - r->n_body;
        ssize_t k =
            recv(fd, r->body + r->n_body, want - r->n_body < room ? want - r->n_body : room, 0);
        if (k <= 0) {
            r->closed = true;
            break;
        }
        r->n_body += (size_t)k;
    }
    r->body[r->n_body] = '\0';
}

void hc_ask(int fd, HcReply *r, const char *text) {
    hc_send(fd, text); /* a refusal may come before all was sent */
    hc_read(fd, r, strncmp(text, "HEAD ", 5) == 0);
}

void hc_once(int port, HcReply *r, const char *text) {
    int fd = hc_connect(port);
    memset(r, 0, sizeof *r);
    if (fd < 0) return;
    hc_ask(fd, r, text);
    close(fd);
}

bool hc_closed(int fd, int ms) {
    char buf[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (poll(&p, 1, ms) <= 0) return false;
        if (recv(fd, buf, sizeof buf, 0) <= 0) return true;
    }
}

void hc_reset(int fd) {
    struct linger now = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}
