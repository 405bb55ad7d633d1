/* SPDX-License-Identifier: Apache-2.0
 * Who may ask for what: keys in front of every route but those that are open. */
#include <strings.h>
#include <time.h>

#include "server/prepare.h"

static uint32_t scope_of(const Route *t) {
    switch (t->scope) {
    case ROUTE_OPEN: return KEY_SCOPE_ANY;
    case ROUTE_INFER: return KEY_SCOPE_INFERENCE;
    case ROUTE_FEEDBACK: return KEY_SCOPE_FEEDBACK;
    case ROUTE_BATCH: return KEY_SCOPE_BATCH;
    case ROUTE_ADMIN: return KEY_SCOPE_ADMIN;
    }
    return KEY_SCOPE_ADMIN;
}

static Status check(KeyUser *user, Server *s, const HttpReq *r, uint32_t scope, bool quiet,
                    Err *e) {
    KeyAsk ask = {.authorization = http_header(r, "Authorization"),
                  .api_key = http_header(r, "X-Api-Key"),
                  .scope = scope,
                  .peer = http_peer(r),
                  .quiet = quiet,
                  .now_s = (int64_t)time(NULL)};
    *user = (KeyUser){0};
    return s->cfg.keys ? keys_check(user, s->cfg.keys, &ask, e) : OK;
}

/* ---- keys that a browser sends by itself ---- */

static bool is_basic(const HttpReq *r) {
    static const char word[] = "basic ";
    Slice h = http_header(r, "Authorization");
    return http_header(r, "X-Api-Key").n == 0 && h.n > sizeof word - 1 &&
           strncasecmp(h.p, word, sizeof word - 1) == 0;
}

/* Whether an Origin ("https://host:8000") is the host this request was sent to. */
static bool is_own_origin(Slice origin, Slice host) {
    size_t at = 0;
    while (at + 3 <= origin.n && memcmp(origin.p + at, "://", 3) != 0) at++;
    if (at + 3 > origin.n || host.n == 0 || origin.n - at - 3 != host.n) return false;
    return strncasecmp(origin.p + at + 3, host.p, host.n) == 0;
}

/* Once it has a key by way of "Basic", a browser adds it to whatever another site makes it ask of this server. Such
 * requests are refused, but for following a link to a page, which changes nothing and cannot be framed. */
static bool is_foreign(const HttpReq *r, const Route *t) {
    Slice site = http_header(r, "Sec-Fetch-Site"), origin = http_header(r, "Origin");
    if (origin.n > 0 && !is_own_origin(origin, http_header(r, "Host"))) return true;
    if (site.n == 0 || slice_eq_str(site, "same-origin") || slice_eq_str(site, "none"))
        return false;
    bool link = slice_eq_str(http_header(r, "Sec-Fetch-Mode"), "navigate") &&
                slice_eq_str(http_header(r, "Sec-Fetch-Dest"), "document");
    return !(t->page && link);
}

static void refuse(HttpReq *r, const Route *t, const Err *e) {
    static const char ask[] = "WWW-Authenticate: Basic realm=\"Ingot\", charset=\"UTF-8\"\r\n";
    if (e->code == ERR_AUTH && t->page && server__wants_html(r))
        server__reply_text(r, t->shape, 401, ask, e->msg);
    else server__reply_err(r, t->shape, NULL, e);
}

bool server__admit(KeyUser *user, Server *s, HttpReq *r, const Route *t) {
    Err e = {0};
    *user = (KeyUser){0};
    if (t->scope == ROUTE_OPEN) return true;
    if (is_basic(r) && is_foreign(r, t)) {
        server__reply_text(r, t->shape, 403, NULL,
                           "another site may not use the key that the browser keeps for this one");
        return false;
    }
    if (check(user, s, r, scope_of(t), false, &e) == OK) return true;
    refuse(r, t, &e);
    return false;
}

bool server__is_known(Server *s, const HttpReq *r, uint32_t scope, bool quiet) {
    KeyUser user;
    Slice given = http_header(r, "Authorization");
    if (!s->cfg.keys || !keys_required(s->cfg.keys)) return true;
    if (given.n == 0 && http_header(r, "X-Api-Key").n == 0) return false;
    return check(&user, s, r, scope, quiet, NULL) == OK;
}

Status server__keep_key(Job *j, const HttpReq *r, Err *e) {
    Slice a = http_header(r, "Authorization"), b = http_header(r, "X-Api-Key");
    if (!j->server->cfg.keys || !keys_required(j->server->cfg.keys)) return OK;
    j->bearer = arena_dup(&j->arena, a.p, a.n);
    j->api_key = arena_dup(&j->arena, b.p, b.n);
    return arena_ok(&j->arena) ? OK : err_set(e, ERR_NOMEM, "request");
}

/* A line of a batch runs with what its key may do by then. */
static Status check_call(Job *j, const char *model, Err *e) {
    KeyAsk ask = {.model = slice_of(model), .scope = KEY_SCOPE_BATCH, .now_s = (int64_t)time(NULL)};
    if (!j->server->cfg.keys) return OK;
    j->param = "model";
    TRY(keys_check_id(j->server->cfg.keys, j->user.id, &ask, e));
    j->param = NULL;
    return OK;
}

/* The model stands in the body, so it is looked at after the route's own check. */
Status server__check_model(Job *j, Err *e) {
    const char *model = j->adapter ? j->adapter : j->server->cfg.model;
    if (server__is_idle(j)) return check_call(j, model, e);
    if (!j->bearer || !j->api_key) return OK;
    KeyAsk ask = {.authorization = slice_of(j->bearer),
                  .api_key = slice_of(j->api_key),
                  .model = slice_of(model),
                  .scope = scope_of(j->route),
                  .now_s = (int64_t)time(NULL)};
    j->param = "model";
    TRY(keys_check(&j->user, j->server->cfg.keys, &ask, e));
    j->param = NULL;
    return OK;
}
