/* SPDX-License-Identifier: Apache-2.0
 * How much a client may take: requests and tokens in a time (api/rate.h), and the memory that requests hold from the
 * first byte of their body until they are answered (http_hold).
 *
 *   a request: taken out as it comes     tokens: reserved once the prompt is read, corrected as the job ends
 *   a body:    held as it is (http_take_body) -[prepared]-> what its JSON may take -[answered]-> nothing */
#include <stdio.h>

#include "base/clock.h"
#include "server/internal.h"

enum {
    VALUE_BYTES = 64, /* of a JSON value besides its text, at most */
    MEMBER_BYTES = 96 /* of an object's member besides */
};

/* ---- rates ---- */

static ApiRate or_own(int64_t per_minute, ApiRate general) {
    return per_minute > 0 ? (ApiRate){(double)per_minute, 60} : general;
}

/* What r's client may take; `peer` outlives it. */
static ApiRateAsk ask_of(const Server *s, const KeyUser *u, const char *peer) {
    return (ApiRateAsk){.key = u->id,
                        .peer = peer,
                        .requests = or_own(u->rpm, s->live.requests),
                        .tokens = or_own(u->tpm, s->live.tokens),
                        .now_ns = clock_now_ns()};
}

bool server__admit_rate(Server *s, HttpReq *r, const Route *t) {
    Err e = {0};
    StrBuf heads = {0};
    ErrDetail d = {0};
    ApiRateAsk a = ask_of(s, &s->user, http_peer(r));
    if (api_rate_request(&d.retry_after_s, s->rates, &a, &e) == OK) return true;
    s->stats.n_rate_refused++;
    api_rate_headers(&heads, s->rates, &a);
    if (!heads.failed) d.heads = sb_str(&heads);
    server__reply_err(r, t->shape, &d, &e);
    sb_deinit(&heads);
    return false;
}

void server__limits_start(Job *j, const HttpReq *r) {
    snprintf(j->peer, sizeof j->peer, "%s", http_peer(r));
    j->rate = ask_of(j->server, &j->user, j->peer);
    j->rate.key = j->rate_key;
    snprintf(j->rate_key, sizeof j->rate_key, "%s", j->user.id);
}

Status server__reserve(Job *j, int64_t n_tok, Err *e) {
    ApiRates *rates = j->server->rates;
    if (!j->rate.key) return OK; /* from inside this process */
    j->rate.now_ns = clock_now_ns();
    if (j->n_reserved >
        0) { /* one prompt of several: the first one was let in, so are the others */
        api_rate_settle(rates, &j->rate, -n_tok);
    } else {
        TRY(api_rate_reserve(&j->retry_after_s, rates, &j->rate, n_tok, e));
    }
    j->n_reserved += n_tok;
    return OK;
}

void server__settle(Job *j) {
    int64_t used = 0;
    if (j->n_reserved == 0) return;
    if (j->st == OK) used = j->n_prompt_tok + (j->n_answers > 0 ? server__usage(j).completion : 0);
    j->rate.now_ns = clock_now_ns();
    api_rate_settle(j->server->rates, &j->rate, j->n_reserved - used);
    j->n_reserved = 0;
}

void server__rate_heads(StrBuf *b, Job *j) {
    j->rate.now_ns = clock_now_ns();
    api_rate_headers(b, j->server->rates, &j->rate);
}

/* ---- memory ---- */

int64_t server__json_bytes(Slice text) {
    int64_t values = 1, members = 0;
    bool in_str = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (in_str) {
            if (c == '\\') i++;
            else if (c == '"') in_str = false;
        } else if (c == '"') {
            in_str = true;
        } else {
            values += c == ',' || c == '[' || c == '{';
            members += c == ':';
        }
    }
    return (int64_t)text.n + values * VALUE_BYTES + members * MEMBER_BYTES;
}

void server__hold(Job *j, int64_t bytes) {
    if (j->server->http) http_hold(j->server->http, bytes - j->n_held);
    j->n_held = bytes;
}

Status server__check_held(const Job *j, Err *e) {
    enum { FREE_BYTES = 1 << 20 }; /* of one request; small ones are always taken */
    size_t held = http_held_bytes(j->server->http), most = j->server->live.limits.max_held_bytes;
    if (j->n_held <= FREE_BYTES || held <= most) return OK;
    return err_set(e, ERR_NOMEM, "requests hold %zu bytes, the limit is %zu", held, most);
}
