/* SPDX-License-Identifier: Apache-2.0 */
#include "support/net_server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/http.h"

enum { MAX_BYTES = 8 << 20 };

static int n_requests;

uint8_t net_server_byte(uint64_t i) { return (uint8_t)(i * 31 + i / 251); }

static void send_bytes(HttpReq *r, unsigned long n) {
    static char buf[MAX_BYTES];
    unsigned long a = 0, b = n - 1;
    char range[64] = "", head[160];
    Slice h = http_header(r, "range");
    snprintf(range, sizeof range, "%.*s", (int)h.n, h.p);
    for (unsigned long i = 0; i < n; i++) buf[i] = (char)net_server_byte(i);
    bool part = sscanf(range, "bytes=%lu-%lu", &a, &b) == 2;
    if (b >= n) b = n - 1;
    int k = snprintf(head, sizeof head, "ETag: \"n\"\r\n");
    if (part)
        snprintf(head + k, sizeof head - (size_t)k, "Content-Range: bytes %lu-%lu/%lu\r\n", a, b,
                 n);
    http_reply(r, part ? 206 : 200, "application/octet-stream", head, (Slice){buf + a, b - a + 1});
}

static void on_request(void *ctx, HttpReq *r) {
    char path[2048], head[2100];
    Slice p = http_path(r);
    (void)ctx;
    snprintf(path, sizeof path, "%.*s", (int)p.n, p.p);
    n_requests++;
    if (!strncmp(path, "/bytes/", 7)) {
        send_bytes(r, strtoul(path + 7, NULL, 10) % MAX_BYTES);
    } else if (!strcmp(path, "/echo")) {
        http_reply(r, 200, "text/plain", NULL, http_body(r));
    } else if (!strncmp(path, "/header/", 8)) {
        Slice v = http_header(r, path + 8);
        http_reply(r, 200, "text/plain", NULL, v.n ? v : slice_of("-"));
    } else if (!strncmp(path, "/status/", 8)) {
        http_reply(r, atoi(path + 8), "text/plain", NULL, slice_of("words"));
    } else if (!strncmp(path, "/to/", 4)) {
        snprintf(head, sizeof head, "Location: %s\r\n", path + 4);
        http_reply(r, 302, "text/plain", head, slice_of("elsewhere"));
    } else if (!strcmp(path, "/count")) {
        snprintf(head, sizeof head, "%d", n_requests - 1);
        http_reply(r, 200, "text/plain", NULL, slice_of(head));
    } else {
        http_reply(r, 404, "text/plain", NULL, slice_of("none"));
    }
}

static void serve(int out) {
    HttpServer *s = NULL;
    HttpConfig c = {.host = "127.0.0.1", .on_request = on_request};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (http_new(&s, &c, NULL) != OK) _exit(1);
    int port = http_port(s);
    if (write(out, &port, sizeof port) != sizeof port) _exit(1);
    _exit(http_run(s, 0, NULL) == OK ? 0 : 1);
}

bool net_server_start(NetServer *s) {
    int fd[2];
    if (pipe(fd) < 0) return false;
    fflush(NULL);
    s->pid = fork();
    if (s->pid == 0) serve(fd[1]);
    close(fd[1]);
    bool ok = s->pid > 0 && read(fd[0], &s->port, sizeof s->port) == sizeof s->port;
    close(fd[0]);
    return ok;
}

void net_server_stop(NetServer *s) {
    if (s->pid <= 0) return;
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}
