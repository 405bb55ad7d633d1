/* SPDX-License-Identifier: Apache-2.0
 * /v1/files and /v1/batches over api/batches.h: requests handed to its thread and answered from there; contents of files
 * sent in chunks, the next one read when the last one has gone; lines of batches run as jobs. */
#include "api/batches.h"

#include <stdio.h>

#include "server/internal.h"

enum { MAX_JSON = 64 << 10 };

/* A request that waits for the io thread. */
struct Filing {
    Server *server;
    HttpReq *req;
    BatchesTicket *ticket; /* NULL: a chunk is being sent */
    Filing *prev, *next;
    IoMap content; /* of a download; owned */
    uint64_t sent;
    bool waits; /* for the next tick: no chunk could be asked for */
};

/* A line of a batch at work. */
struct LineJob {
    Server *server;
    BatchesWork *work; /* ours until it is given back */
    ServerTicket *ticket;
    LineJob *prev, *next;
};

/* ---- requests ---- */

static void filing_free(Filing *f) {
    Server *s = f->server;
    if (f->prev) f->prev->next = f->next;
    else s->filings = f->next;
    if (f->next) f->next->prev = f->prev;
    io_unmap(&f->content);
    mem_free(f);
}

static void on_gone(void *ctx) {
    Filing *f = ctx;
    if (f->ticket) { /* what it reads is unmapped when it is done */
        batches_forget(f->ticket);
        f->content = (IoMap){0};
    }
    filing_free(f);
}

static void reply_err(HttpReq *r, const BatchesReply *a) {
    ErrDetail d = {.param = a->param, .code = a->st == ERR_NOT_FOUND ? "not_found" : NULL};
    StrBuf b = {0};
    if (a->http == 0) {
        server__reply_err(r, API_OPENAI, &d, &a->err);
        return;
    }
    api_put_error(&b, API_OPENAI, api_error_type(a->http), d.code, d.param, a->err.msg);
    server__reply_json(r, a->http, &b, a->http == 429 ? "Retry-After: 60\r\n" : NULL);
}

static void on_done(void *ctx, const BatchesReply *a) {
    Filing *f = ctx;
    HttpReq *r = f->req;
    http_on_gone(r, NULL, NULL);
    filing_free(f);
    if (a->st != OK) reply_err(r, a);
    else http_reply(r, 200, "application/json", NULL, a->body);
}

/* Takes ask->body. */
static void hand_in(Server *s, HttpReq *r, BatchesAsk *ask,
                    void (*done)(void *ctx, const BatchesReply *a)) {
    Err e = {0};
    Filing *f = mem_new(Filing);
    Status st = f ? OK : err_set(&e, ERR_NOMEM, "a request for files");
    ask->owner = s->user.id;
    if (st == OK) {
        *f = (Filing){.server = s, .req = r};
        st = batches_ask(&f->ticket, s->cfg.batches, ask, done, f, &e);
    } else {
        sb_deinit(&ask->body);
    }
    if (st != OK) {
        mem_free(f);
        server__reply_err(r, API_OPENAI, NULL, &e);
        return;
    }
    f->next = s->filings;
    if (f->next) f->next->prev = f;
    s->filings = f;
    http_on_gone(r, on_gone, f);
}

static bool is_off(const Server *s, HttpReq *r) {
    if (s->cfg.batches) return false;
    server__reply_text(r, API_OPENAI, 501, NULL, "this server keeps no files");
    return true;
}

/* The segment of the path behind `before` slashes: /v1/files/ID. */
static Slice id_of(const HttpReq *r) {
    Slice p = http_path(r);
    for (int i = 0; i < 3; i++) {
        const char *slash = memchr(p.p, '/', p.n);
        if (!slash) return (Slice){"", 0};
        p = (Slice){slash + 1, p.n - (size_t)(slash - p.p) - 1};
    }
    const char *end = memchr(p.p, '/', p.n);
    return end ? (Slice){p.p, (size_t)(end - p.p)} : p;
}

static void ask(Server *s, HttpReq *r, BatchesOp op) {
    BatchesAsk a = {.op = op,
                    .id = id_of(r),
                    .query = http_query(r),
                    .content_type = http_header(r, "Content-Type")};
    if (is_off(s, r)) return;
    if (op == BATCHES_NEW && http_body(r).n > MAX_JSON) {
        server__reply_text(r, API_OPENAI, 413, NULL, "body: over 64 KB");
        return;
    }
    if (op == BATCHES_FILE_PUT || op == BATCHES_NEW) {
        http_take_body(&a.body, r);
        http_hold(s->http, -(int64_t)a.body.cap); /* api/batches.h bounds what waits there */
    }
    hand_in(s, r, &a, on_done);
}

void server__post_file(Server *s, HttpReq *r) { ask(s, r, BATCHES_FILE_PUT); }
void server__get_files(Server *s, HttpReq *r) { ask(s, r, BATCHES_FILE_LIST); }
void server__get_file(Server *s, HttpReq *r) { ask(s, r, BATCHES_FILE_GET); }
void server__delete_file(Server *s, HttpReq *r) { ask(s, r, BATCHES_FILE_DELETE); }
void server__post_batch(Server *s, HttpReq *r) { ask(s, r, BATCHES_NEW); }
void server__get_batches(Server *s, HttpReq *r) { ask(s, r, BATCHES_LIST); }
void server__get_batch(Server *s, HttpReq *r) { ask(s, r, BATCHES_GET); }
void server__cancel_batch(Server *s, HttpReq *r) { ask(s, r, BATCHES_CANCEL); }

/* ---- contents ---- */

static void on_chunk(void *ctx, const BatchesReply *a);

/* The last chunk has gone: ask for the next. */
static void on_sent(void *ctx) {
    Filing *f = ctx;
    Err e = {0};
    BatchesAsk a = {.op = BATCHES_FILE_READ, .content = f->content, .offset = f->sent};
    if (batches_ask(&f->ticket, f->server->cfg.batches, &a, on_chunk, f, &e) == OK) return;
    f->ticket = NULL;
    f->waits = true; /* for the next tick */
}

static void on_chunk(void *ctx, const BatchesReply *a) {
    Filing *f = ctx;
    HttpReq *r = f->req;
    f->ticket = NULL;
    if (a->st != OK) {
        f->waits = true;
        return;
    }
    f->sent += a->body.n;
    http_stream_write(r, a->body);
    if (f->sent < f->content.n) {
        http_on_sent(r, on_sent, f);
        return;
    }
    http_on_gone(r, NULL, NULL);
    filing_free(f);
    http_stream_end(r);
}

static void on_open(void *ctx, const BatchesReply *a) {
    static const char type[] = "application/jsonl";
    Filing *f = ctx;
    HttpReq *r = f->req;
    f->ticket = NULL;
    f->content = a->content;
    bool whole = a->body.n == f->content.n, head = slice_eq_str(http_method(r), "HEAD");
    if (a->st == OK && !whole) http_stream_begin(r, 200, type, NULL);
    if (a->st == OK && !whole && !head) {
        on_chunk(f, a);
        return;
    }
    http_on_gone(r, NULL, NULL);
    filing_free(f);
    if (a->st != OK) reply_err(r, a);
    else if (!whole) http_stream_end(r); /* of HEAD */
    else http_reply(r, 200, type, NULL, a->body);
}

void server__get_content(Server *s, HttpReq *r) {
    BatchesAsk a = {.op = BATCHES_FILE_OPEN, .id = id_of(r)};
    if (!is_off(s, r)) hand_in(s, r, &a, on_open);
}

/* ---- lines ---- */

static void line_free(LineJob *l) {
    Server *s = l->server;
    if (l->prev) l->prev->next = l->next;
    else s->lines = l->next;
    if (l->next) l->next->prev = l->prev;
    mem_free(l);
}

static void give_back(LineJob *l, int status) {
    l->work->status = status;
    batches_give(l->server->cfg.batches, l->work);
    line_free(l);
}

static void on_answer(void *ctx, const ServerAnswer *a) {
    LineJob *l = ctx;
    BatchesWork *w = l->work;
    sb_put(&w->body, a->body.p, a->body.n);
    w->again = a->again;
    snprintf(w->request_id, sizeof w->request_id, "%s", a->request_id);
    give_back(l, w->body.failed ? 0 : a->status);
}

static void run_line(Server *s, BatchesWork *w) {
    KeyUser user = {0};
    Err e = {0};
    LineJob *l = atomic_load(w->dropped) ? NULL : mem_new(LineJob);
    if (!l) {
        w->status = 0;
        batches_give(s->cfg.batches, w);
        return;
    }
    *l = (LineJob){.server = s, .work = w, .next = s->lines};
    if (l->next) l->next->prev = l;
    s->lines = l;
    snprintf(user.id, sizeof user.id, "%s", w->owner);
    ServerCall c = {.path = slice_of(w->task.url),
                    .body = {sb_str(&w->task.body), w->task.body.n},
                    .user = &user,
                    .done = on_answer,
                    .ctx = l};
    if (server_call(&l->ticket, s, &c, &e) != OK) give_back(l, 0);
}

static void drop_lines(Server *s, bool all) {
    for (LineJob *l = s->lines, *next; l; l = next) {
        next = l->next;
        if (!all && !atomic_load(l->work->dropped)) continue;
        server_call_drop(l->ticket);
        give_back(l, 0);
    }
}

void server__batches_poll(Server *s) {
    if (!s->cfg.batches) return;
    bool ready = s->cfg.engine.submit && !http_stopping(s->http);
    batches_set_window(s->cfg.batches, ready ? MAX(s->cfg.batch_lines, 1) : 0);
    batches_poll(s->cfg.batches);
    drop_lines(s, false);
    for (BatchesWork *w; (w = batches_take(s->cfg.batches));) run_line(s, w);
}

void server__batches_tick(Server *s) {
    for (Filing *f = s->filings, *next; f; f = next) {
        next = f->next;
        if (!f->waits) continue;
        f->waits = false;
        on_sent(f);
    }
    server__batches_poll(s);
}

void server__batches_end(Server *s) {
    if (!s->cfg.batches) return;
    batches_set_window(s->cfg.batches, 0);
    drop_lines(s, true);
}

size_t server__body_limit(void *ctx, const HttpReq *r) {
    Server *s = ctx;
    bool upload = s->cfg.batches && slice_eq_str(http_method(r), "POST") &&
                  slice_eq_str(http_path(r), "/v1/files");
    return upload && server__is_known(s, r, KEY_SCOPE_BATCH, true)
               ? batches_max_body(s->cfg.batches)
               : 0;
}
