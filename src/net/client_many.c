/* SPDX-License-Identifier: Apache-2.0
 * Waiting for many calls at once. libcurl's own wait asks the kernel about every socket and then looks at every
 * call; here libcurl says which sockets it waits for, epoll says which of them have something, and only these calls
 * get a turn. The times at which answers are read are then those at which they came, with a thousand calls open too.
 *
 * ppoll on the epoll descriptor waits by the nanosecond, which epoll_wait does not. One thread, but for the knock. */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/client_internal.h"

enum { EVENTS = 64 };

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known) {
    NetClient *k = ctx;
    struct epoll_event ev = {.events = 0, .data.fd = fd};
    (void)easy;
    if (what == CURL_POLL_REMOVE) { /* it may be closed already, and is forgotten then */
        epoll_ctl(k->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    if (what & CURL_POLL_IN) ev.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) ev.events |= EPOLLOUT;
    int rc = epoll_ctl(k->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev);
    if (rc != 0 && errno == EEXIST) rc = epoll_ctl(k->epoll_fd, EPOLL_CTL_MOD, fd, &ev);
    if (rc != 0 && errno == ENOENT) rc = epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
    if (!known) curl_multi_assign(k->multi, fd, k);
    return rc == 0 ? 0 : -1;
}

static int on_timer(CURLM *multi, long ms, void *ctx) {
    NetClient *k = ctx;
    (void)multi;
    k->timer_ns = ms < 0 ? UINT64_MAX : clock_now_ns() + (uint64_t)ms * 1000000;
    return 0;
}

Status net__many_open(NetClient *k, Err *e) {
    struct epoll_event ev = {.events = EPOLLIN};
    k->timer_ns = UINT64_MAX;
    k->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    k->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    ev.data.fd = k->wake_fd;
    if (k->epoll_fd < 0 || k->wake_fd < 0 ||
        epoll_ctl(k->epoll_fd, EPOLL_CTL_ADD, k->wake_fd, &ev) != 0)
        return err_set(e, ERR_IO, "no descriptors for an http client: %s", strerror(errno));
    CURLMcode rc = CURLM_OK;
    rc |= curl_multi_setopt(k->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    rc |= curl_multi_setopt(k->multi, CURLMOPT_SOCKETDATA, k);
    rc |= curl_multi_setopt(k->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    rc |= curl_multi_setopt(k->multi, CURLMOPT_TIMERDATA, k);
    rc |= curl_multi_setopt(k->multi, CURLMOPT_MAXCONNECTS, (long)k->cfg.many);
    return rc == CURLM_OK ? OK : err_set(e, ERR_INTERNAL, "libcurl refuses a setting");
}

void net__many_close(NetClient *k) {
    if (k->epoll_fd >= 0) close(k->epoll_fd);
    if (k->wake_fd >= 0) close(k->wake_fd);
    k->epoll_fd = k->wake_fd = -1;
}

void net__many_wake(NetClient *k) {
    static const uint64_t ONE = 1;
    ssize_t n =
        write(k->wake_fd, &ONE, sizeof ONE); /* a full counter has been knocked at already */
    (void)n;
}

static Status turn(NetClient *k, curl_socket_t fd, int what, Err *e) {
    int running;
    CURLMcode m = curl_multi_socket_action(k->multi, fd, what, &running);
    return m == CURLM_OK ? OK : err_set(e, ERR_INTERNAL, "libcurl: %s", curl_multi_strerror(m));
}

static Status run_timer(NetClient *k, Err *e) {
    if (clock_now_ns() < k->timer_ns) return OK;
    k->timer_ns = UINT64_MAX;
    return turn(k, CURL_SOCKET_TIMEOUT, 0, e);
}

static Status take_event(NetClient *k, const struct epoll_event *ev, Err *e) {
    uint64_t n;
    if (ev->data.fd == k->wake_fd) {
        ssize_t got = read(k->wake_fd, &n, sizeof n);
        (void)got;
        return OK;
    }
    int what = 0;
    if (ev->events & EPOLLIN) what |= CURL_CSELECT_IN;
    if (ev->events & EPOLLOUT) what |= CURL_CSELECT_OUT;
    if (ev->events & (EPOLLERR | EPOLLHUP)) what |= CURL_CSELECT_ERR;
    return turn(k, ev->data.fd, what, e);
}

static void wait_ready(const NetClient *k, uint64_t timeout_ns) {
    uint64_t now = clock_now_ns();
    uint64_t until_timer = k->timer_ns > now ? k->timer_ns - now : 0;
    uint64_t ns = MIN(timeout_ns, until_timer);
    struct timespec ts = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    struct pollfd p = {.fd = k->epoll_fd, .events = POLLIN};
    ppoll(&p, 1, &ts, NULL); /* a signal ends the wait, and that is all */
}

Status net__many_step(NetClient *k, uint64_t timeout_ns, Err *e) {
    struct epoll_event ev[EVENTS];
    TRY(run_timer(k, e));
    int n = epoll_wait(k->epoll_fd, ev, EVENTS, 0);
    if (n == 0) {
        wait_ready(k, timeout_ns);
        n = epoll_wait(k->epoll_fd, ev, EVENTS, 0);
    }
    if (n < 0 && errno != EINTR)
        return err_set(e, ERR_IO, "waiting for connections: %s", strerror(errno));
    for (int i = 0; i < n; i++) TRY(take_event(k, &ev[i], e));
    return run_timer(k, e);
}
