/* SPDX-License-Identifier: Apache-2.0
 * What a result of libcurl means: whose fault, in which words, and whether trying again may help. */
#include "net/client_internal.h"

#include <stdio.h>

#include "base/rng.h"

#define BACKOFF_FIRST_MS 500
#define BACKOFF_MAX_MS 30000
#define BACKOFF_MAX_ASKED_S 300

static NetFault fault_of(CURLcode rc) {
    switch ((int)rc) {
    case CURLE_OK: return NET_NONE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return NET_RESOLVE;
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY: return NET_CONNECT;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CIPHER: return NET_TLS;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SEND_FAIL_REWIND: return NET_BROKEN;
    case CURLE_OPERATION_TIMEDOUT: return NET_STALLED;
    case CURLE_WRITE_ERROR:
    case CURLE_ABORTED_BY_CALLBACK:
    case CURLE_READ_ERROR: return NET_CALLER;
    default: return NET_OTHER;
    }
}

static Status say(NetCall *c, CURLcode rc, const char *detail) {
    Err *e = &c->err;
    unsigned long long got = c->n_got;
    const char *proxy = rc == CURLE_COULDNT_RESOLVE_PROXY ? "the proxy for " : "";
    switch (c->fault) {
    case NET_RESOLVE: return err_set(e, ERR_IO, "cannot resolve %s%.100s", proxy, c->host);
    case NET_CONNECT: return err_set(e, ERR_IO, "cannot connect to %.80s: %.100s", c->host, detail);
    case NET_TLS:
        return err_set(e, ERR_IO, "the certificate of %.80s is refused: %.120s", c->host, detail);
    case NET_BROKEN:
        return err_set(e, ERR_IO, "%.80s: the connection broke after %llu bytes: %.80s", c->host,
                       got, detail);
    case NET_STALLED:
        return err_set(e, ERR_TIMEOUT, "%.80s: no answer in time, %llu bytes so far: %.80s",
                       c->host, got, detail);
    case NET_CALLER: return err_set(e, ERR_INTERNAL, "%.80s: %.100s", c->host, detail);
    case NET_NONE:
    case NET_OTHER: break;
    }
    Status st = rc == CURLE_OUT_OF_MEMORY ? ERR_NOMEM : ERR_IO;
    return err_set(e, st, "%.80s: %.120s", c->host, detail);
}

Status net__judge(NetCall *c, CURLcode rc) {
    if (c->err.code != OK) {
        c->fault = NET_CALLER;
        return c->err.code;
    }
    c->fault = fault_of(rc);
    if (c->fault != NET_NONE) return say(c, rc, c->detail[0] ? c->detail : curl_easy_strerror(rc));
    if (c->head_done) return OK;
    c->fault = NET_BROKEN;
    return err_set(&c->err, ERR_IO, "%.80s: no answer", c->host);
}

bool net_may_retry(const NetCall *c) {
    static const int CODES[] = {408, 425, 429, 500, 502, 503, 504};
    if (c->fault == NET_RESOLVE || c->fault == NET_CONNECT || c->fault == NET_BROKEN ||
        c->fault == NET_STALLED)
        return true;
    for (size_t i = 0; c->fault == NET_NONE && i < COUNT_OF(CODES); i++)
        if (c->status == CODES[i]) return true;
    return false;
}

int net_backoff_ms(int n, int64_t retry_after_s, uint64_t seed) {
    int bound = BACKOFF_FIRST_MS;
    for (int i = 1; i < n && bound < BACKOFF_MAX_MS; i++) bound *= 2;
    bound = MIN(bound, BACKOFF_MAX_MS);
    int ms = (int)(rng_uniform(seed, 0x6E6574, (uint64_t)n) * bound) + 1;
    if (retry_after_s > BACKOFF_MAX_ASKED_S) return -1;
    return retry_after_s > 0 ? (int)retry_after_s * 1000 + ms / 4 : ms;
}
