/* SPDX-License-Identifier: Apache-2.0
 * How much a client may take: requests and tokens in a time (api/rate.h), and the memory that requests hold from the
 * first byte of their body until they are answered (http_hold).
 *
 *   a request: taken out as it comes     tokens: reserved once the prompt is read, corrected as the job ends
 *   a body:    held as it is (http_take_body) -[prepared]-> what its JSON may take -[answered]-> nothing */
#include <stdio.h>

#include "base/clock.h"
#include "server/internal.h"

/* What JSON takes at most besides its text. */
enum {
    VALUE_BYTES = 48, /* a value and its place in a list */
    MEMBER_BYTES = 112,
    ARRAY_BYTES = 96,
    OBJECT_BYTES = 208
};

enum {
    SMALL_BYTES = 64 << 10, /* a text that is read whatever it holds */
    LIGHT_BYTES = 1 << 20,  /* JSON that is kept however much is held */
    PART = 4                /* of the memory of all bodies one request may take this part as JSON */
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

static int64_t bytes_of(char c) {
    switch (c) {
    case ',': return VALUE_BYTES;
    case '[': return VALUE_BYTES + ARRAY_BYTES;
    case '{': return VALUE_BYTES + OBJECT_BYTES;
    case ':': return MEMBER_BYTES;
    default: return 0;
    }
}

static int64_t json_bytes(Slice text) {
    int64_t n = (int64_t)text.n + VALUE_BYTES;
    bool in_str = false;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '"') in_str = !in_str;
        else if (!in_str) n += bytes_of(c);
        else if (c == '\\') i++;
    }
    return n;
}

int64_t server__json_most(const Server *s) {
    return (int64_t)(s->live.limits.max_held_bytes / PART);
}

Status server__check_json(Job *j, Slice text, Err *e) {
    j->n_json = json_bytes(text);
    if (j->n_json <= j->json_most || text.n <= SMALL_BYTES) return OK;
    return err_set(
        e, ERR_ARG,
        "body: so many values take %lld bytes, at most %lld are taken; see --body-memory",
        (long long)j->n_json, (long long)j->json_most);
}

void server__hold(Job *j, int64_t bytes) {
    if (j->server->http) http_hold(j->server->http, bytes - j->n_held);
    j->n_held = bytes;
}

Status server__check_held(const Job *j, Err *e) {
    size_t held = http_held_bytes(j->server->http), most = j->server->live.limits.max_held_bytes;
    if (j->n_held <= LIGHT_BYTES || held <= most) return OK;
    Status full =
        server__is_idle(j) ? ERR_FULL : ERR_NOMEM; /* batches can wait for as long as it takes */
    return err_set(e, full, "requests hold %zu bytes, the limit is %zu", held, most);
}
