/* SPDX-License-Identifier: Apache-2.0
 * Ids of requests: the client's own X-Request-Id, if it cannot break a line or a log, else one that nobody else gets from this
 * server and nobody can guess. */
#include <inttypes.h>

#include "base/rng.h"
#include "net/internal.h"

static bool is_id(Slice id) {
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (id.n == 0 || id.n >= HTTP_ID_BYTES) return false;
    for (size_t i = 0; i < id.n; i++) {
        if (!memchr(chars, id.p[i], sizeof chars - 1)) return false;
    }
    return true;
}

void http__take_id(HttpReq *r) {
    HttpServer *s = r->conn->server;
    Slice given = http_header(r, "X-Request-Id");
    uint32_t w[4];
    if (is_id(given)) {
        memcpy(r->id, given.p, given.n);
        r->id[given.n] = '\0';
        return;
    }
    rng_philox(w, s->id_seed, 0, s->n_ids++);
    evutil_snprintf(r->id, sizeof r->id, "req-%08" PRIx32 "%08" PRIx32, w[0], w[1]);
}

const char *http_request_id(const HttpReq *r) { return r->id; }
