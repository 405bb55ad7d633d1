/* SPDX-License-Identifier: Apache-2.0
 * Requests from inside this process: the same jobs as those of clients, answered to a function. */
#include "base/log.h"
#include "server/internal.h"

/* The route, if it makes answers as OpenAI's do. */
static const Route *find_route(Slice path) {
    for (int i = 0; i < server__n_routes; i++) {
        const Route *t = &server__routes[i];
        if (t->prepare && t->operation && t->shape == API_OPENAI && slice_eq_str(path, t->path))
            return t;
    }
    return NULL;
}

bool server_call_allows(Slice path) { return find_route(path) != NULL; }

Status server_call(ServerTicket **out, Server *s, const ServerCall *c, Err *e) {
    const Route *route = find_route(c->path);
    if (!route)
        return err_set(e, ERR_NOT_FOUND, "url: \"%.*s\" is none of a batch's",
                       (int)MIN(c->path.n, 64), c->path.p);
    if (!s->cfg.engine.submit || !s->prep || http_stopping(s->http))
        return err_set(e, ERR_CANCELLED, "the server is loading or stopping");
    StrBuf body = {0};
    sb_put(&body, c->body.p, c->body.n);
    int64_t held = (int64_t)body.cap;
    Job *j = server__job_new(s, route, &body, NULL);
    if (j) http_hold(s->http, held);
    if (!j) return err_set(e, ERR_NOMEM, "request of %zu bytes", c->body.n);
    j->call = *c;
    j->call.path = slice_of(route->path); /* outlives the call */
    j->call.body = (Slice){"", 0};
    j->call.user = NULL;
    if (c->user) j->user = *c->user;
    *out = j;
    prep_push(s->prep, j);
    return OK;
}

void server_call_drop(ServerTicket *t) { server__job_drop(t); }

void server__call_answer(Job *j, const Err *failed) {
    StrBuf b = {0};
    ServerAnswer a = {.status = 200,
                      .request_id = j->request_id,
                      .body = {sb_str(&j->out), j->out.n},
                      .again = j->out.failed,
                      .n_prompt = j->n_prompt_tok};
    if (failed) {
        const ApiErrorRow *row = api_error_row(failed->code);
        if (row->logged) log_error("%s (%s)", failed->msg, err_name(failed->code));
        api_put_error(&b, API_OPENAI, row->type, j->code ? j->code : row->code, j->param,
                      row->general ? row->general : failed->msg);
        a.status = row->http;
        a.again = failed->code == ERR_FULL || failed->code == ERR_NOMEM ||
                  failed->code == ERR_CANCELLED || b.failed;
        a.body = (Slice){sb_str(&b), b.n};
    } else if (j->n_answers > 0) {
        a.n_completion = server__usage(j).completion;
    }
    j->call.done(j->call.ctx, &a);
    sb_deinit(&b);
}
