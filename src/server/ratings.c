/* SPDX-License-Identifier: Apache-2.0
 * POST /feedback: a rating of an answer, by JSON or in the query. It is answered when it is on the disk. */
#include <time.h>

#include "server/internal.h"

enum { MAX_BODY = 64 << 10 }; /* it is read on the loop's thread */

/* One that waits for its commit. */
struct Rating {
    Server *server;
    HttpReq *req;
    FeedbackTicket *ticket; /* owned by feedback */
    Rating *prev, *next;
};

static void unlist(Rating *w) {
    if (w->prev) w->prev->next = w->next;
    else w->server->ratings = w->next;
    if (w->next) w->next->prev = w->prev;
    mem_free(w);
}

static void reply(HttpReq *r, const FeedbackDone *d) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "status", "stored");
    jw_int(&w, "rating", d->rating);
    jw_bool(&w, "request_known", d->known);
    jw_bool(&w, "replaced", d->replaced);
    if (d->model[0]) jw_cstr(&w, "model", d->model);
    if (d->version[0]) jw_cstr(&w, "model_version", d->version);
    jw_end_obj(&w);
    server__reply_json(r, 200, &b, NULL);
}

static void on_done(void *ctx, const FeedbackDone *d) {
    Rating *w = ctx;
    Server *s = w->server;
    HttpReq *r = w->req;
    http_on_gone(r, NULL, NULL);
    unlist(w);
    if (d->st == OK) {
        s->stats.by_rating[MIN(MAX(d->rating, 1), 5)]++;
        if (d->rating < 3 && s->cfg.on_low_rating) s->cfg.on_low_rating(s->cfg.ctx, d);
        reply(r, d);
    } else {
        server__reply_err(r, API_PLAIN, NULL, &d->err);
    }
}

static void on_gone(void *ctx) {
    Rating *w = ctx;
    feedback_forget(w->ticket);
    unlist(w);
}

static Status put(Server *s, HttpReq *r, const KeyUser *user, const Json *body, Err *e) {
    FeedbackRating rating = {0};
    StrBuf buf = {0};
    Rating *w = NULL;
    Status st = feedback_read(&rating, &buf, body, http_query(r), e);
    if (st == OK) w = mem_new(Rating);
    if (st == OK && !w) st = err_set(e, ERR_NOMEM, "a rating");
    rating.user = slice_of(user->id);
    rating.time_s = (int64_t)time(NULL);
    if (st == OK) {
        *w = (Rating){.server = s, .req = r, .next = s->ratings};
        st = feedback_put(&w->ticket, s->cfg.feedback, &rating, on_done, w, e);
    }
    sb_deinit(&buf);
    if (st != OK) {
        mem_free(w);
        return st;
    }
    if (w->next) w->next->prev = w;
    s->ratings = w;
    http_on_gone(r, on_gone, w);
    return OK;
}

void server__post_feedback(Server *s, HttpReq *r) {
    Err e = {0};
    Json *body = NULL;
    Status st = OK;
    if (http_body(r).n > MAX_BODY) {
        server__reply_text(r, API_PLAIN, 413, NULL, "body: over 64 KB");
        return;
    }
    if (!s->cfg.feedback) st = err_set(&e, ERR_UNSUPPORTED, "feedback: this server keeps none");
    if (st == OK && http_body(r).n > 0) st = json_parse(&body, http_body(r), &e);
    if (st == OK) st = put(s, r, &s->user, body, &e);
    json_free(body);
    if (st != OK) server__reply_err(r, API_PLAIN, NULL, &e);
}

void server__note_request(const Job *j) {
    const ServerConfig *c = &j->server->cfg;
    if (!c->feedback || j->n_answers == 0) return;
    FeedbackNote n = {.id = slice_of(j->request_id),
                      .model = slice_of(j->adapter ? j->adapter : c->model),
                      .version = slice_of(c->model_version ? c->model_version : ""),
                      .prompt = j->prompt_digest,
                      .time_s = (int64_t)time(NULL)};
    feedback_note(c->feedback, &n);
}
