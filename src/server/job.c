/* SPDX-License-Identifier: Apache-2.0
 * Life of a job; job.h draws it. */
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "engine/stop.h"
#include "server/embed.h"
#include "server/history.h"
#include "server/internal.h"

enum {
    OUT_MOST =
        256 << 10, /* bytes a client is behind by: what comes stays in its rings until it reads */
    ROOM_BYTES = 16 << 20, /* of a request's samples */
    GRAMMARS_MS = 3000,    /* to make all grammars of a request */
    SLICE_NS = 2000000,    /* of one job, before others have their turn */
    PING_NS_PER_S = 1000000000,
    PING_S = 15
};

/* ---- any thread ---- */

void server__knock(void *ctx) {
    Server *s = ctx;
    if (!atomic_exchange(&s->knocked, true)) http_wake(s->http);
}

/* ---- the end ---- */

static void unlist(Job *j) {
    Server *s = j->server;
    if (j->prev) j->prev->next = j->next;
    else s->jobs = j->next;
    if (j->next) j->next->prev = j->prev;
}

static void job_free(Job *j) {
    Server *s = j->server;
    unlist(j);
    s->stats.n_active--;
    server__settle(j);
    server__hold(j, 0);
    if (j->route->writer->drop) j->route->writer->drop(j);
    for (int i = 0; i < j->n_answers; i++) answer_free(j->answers[i]);
    pooled_free(j->pooled);
    json_free(j->extra);
    json_free(j->allowed);
    json_free(j->items);
    json_free(j->json);
    sb_deinit(&j->body);
    sb_deinit(&j->out);
    arena_deinit(&j->arena);
    mem_free(j);
}

static bool is_left(const Job *j) { return !j->req && !j->call.done; }

int server__status(const Job *j, const Err *failed) {
    enum { CLIENT_LEFT = 499 };
    if (!failed) return 200;
    if (is_left(j)) return CLIENT_LEFT;
    const ApiErrorRow *row = api_error_row(failed->code);
    return j->route->shape == API_OPENAI ? row->http : row->http_plain;
}

static void note_left(Job *j) {
    Err left = {.code = ERR_CANCELLED, .msg = "the client left"};
    if (!server__is_idle(j)) server__history_note(j->server->history, server__status(j, &left));
    server__stats_note(j->server, j, false);
    server__log_ended(j, &left);
    server__trace_end(j, &left);
}

void server__job_drop(Job *j) {
    j->req = NULL;
    j->call.done = NULL;
    Prep *p = j->server->prep;                           /* NULL: its threads are gone */
    if (!j->prepared && p && !prep_cancel(p, j)) return; /* it comes out of preparing */
    note_left(j);
    job_free(j);
}

static void on_gone(void *ctx) { server__job_drop(ctx); }

void server__jobs_free(Server *s) {
    while (s->jobs) job_free(s->jobs);
}

/* ---- the beginning ---- */

Job *server__job_new(Server *s, const Route *route, StrBuf *body, const char *id) {
    Job *j = mem_new(Job);
    if (!j || body->failed) {
        sb_deinit(body);
        mem_free(j);
        return NULL;
    }
    j->server = s;
    j->route = route;
    j->t_start_ns = clock_now_ns();
    j->created = (int64_t)time(NULL);
    arena_init(&j->arena, 4096);
    j->body = *body;
    j->n_held = (int64_t)body->cap;
    j->json_most = server__json_most(s);
    *body = (StrBuf){0};
    if (id) snprintf(j->request_id, sizeof j->request_id, "%s", id);
    else server__draw_id(j->request_id, s, "req-");
    j->next = s->jobs;
    if (j->next) j->next->prev = j;
    s->jobs = j;
    s->stats.n_active++;
    return j;
}

void server__job_start(Server *s, HttpReq *r, const Route *route) {
    Err e = {0};
    StrBuf body = {0};
    http_take_body(&body, r);
    int64_t held = (int64_t)body.cap;
    Job *j = server__job_new(s, route, &body, http_request_id(r));
    if (!j) {
        http_hold(s->http, -held);
        if (err_set(&e, ERR_NOMEM, "request of %lld bytes", (long long)held) != OK)
            server__reply_err(r, route->shape, NULL, &e);
        return;
    }
    j->req = r;
    j->user = s->user;
    j->most_s = s->live.timeout_s;
    server__limits_start(j, r);
    server__trace_start(j, r);
    if (server__keep_key(j, r, &e) != OK) j->st = ERR_NOMEM;
    http_on_gone(r, on_gone, j);
    prep_push(s->prep, j);
}

/* ---- submitting: the preparing thread ---- */

Status server__job_answers(Job *j, int n, Err *e) {
    int most = j->server->cfg.engine.max_requests;
    if (most > 0 && n * j->q.n > most)
        return err_set(e, ERR_ARG, "n: %lld answers, %d can run and wait here",
                       (long long)(n * j->q.n), most);
    j->answers = arena_new_n(&j->arena, Answer *, (size_t)n);
    if (!j->answers) return err_set(e, ERR_NOMEM, "%d answers", n);
    return OK;
}

static Status read_bias(SampleOpts *o, Job *j, Err *e) {
    const Json *v, *map = j->q.logit_bias;
    Slice key;
    size_t n = json_len(map);
    if (n == 0) return OK;
    SampleBias *b = arena_new_n(&j->arena, SampleBias, n);
    if (!b) return err_set(e, ERR_NOMEM, "logit_bias of %zu", n);
    o->bias = b;
    for (void *it = NULL; (it = json_next(map, it, &key, &v));) {
        int64_t id;
        double x = json_num(v);
        bool ok = str_to_i64(&id, key.p) && id >= 0 && id < tok_n_vocab(j->server->cfg.tok);
        JsonKind k = json_kind(v);
        if (!ok || (k != JSON_KIND_INT && k != JSON_KIND_REAL) || !(x >= -100 && x <= 100))
            return err_set(e, ERR_ARG,
                           "logit_bias: \"%.*s\": a token id with a number from -100 to 100 "
                           "is needed",
                           (int)MIN(key.n, 32), key.p);
        b[o->n_bias++] = (SampleBias){(int32_t)id, (float)x};
    }
    return OK;
}

static Status read_stop_ids(SampleOpts *o, Job *j, Err *e) {
    size_t n = json_len(j->q.stop_token_ids);
    if (n == 0) return OK;
    int32_t *ids = arena_new_n(&j->arena, int32_t, n);
    if (!ids) return err_set(e, ERR_NOMEM, "stop_token_ids of %zu", n);
    for (size_t i = 0; i < n; i++) {
        int64_t id =
            json_int_or(json_at(j->q.stop_token_ids, i), 0, tok_n_vocab(j->server->cfg.tok) - 1);
        if (id < 0)
            return err_set(e, ERR_ARG, "stop_token_ids: element %zu is no token id, 0 to %d", i,
                           tok_n_vocab(j->server->cfg.tok) - 1);
        ids[i] = (int32_t)id;
    }
    o->stop_ids = ids;
    o->n_stop_ids = (int)n;
    return OK;
}

static Status read_sampling(SampleOpts *o, Job *j, Err *e) {
    const ApiRequest *q = &j->q;
    *o = (SampleOpts){.temp = q->temperature,
                      .top_k = MAX(q->top_k, 0),
                      .top_p = q->top_p,
                      .min_p = q->min_p,
                      .typical = q->typical_p,
                      .repetition = q->repetition_penalty,
                      .repeat_last_n = MAX(q->repeat_last_n, 0),
                      .presence = q->presence_penalty,
                      .frequency = q->frequency_penalty,
                      .min_tokens = q->min_tokens,
                      .logprobs = q->logprobs,
                      .top_logprobs = q->logprobs ? q->top_logprobs : 0};
    o->seed = json_get(j->json, "seed") ? (uint64_t)q->seed : server__draw(j->server);
    TRY(read_bias(o, j, e));
    TRY(read_stop_ids(o, j, e));
    return sample_check_vocab(o, tok_n_vocab(j->server->cfg.tok), e);
}

static Status read_stop(AnswerOpts *o, Job *j, Err *e) {
    const Json *v = j->q.stop;
    size_t n = !v ? 0 : json_is_array(v) ? json_len(v) : 1;
    Slice *stop = arena_new_n(&j->arena, Slice, MAX(n, 1));
    if (!stop) return err_set(e, ERR_NOMEM, "stop strings");
    for (size_t i = 0; i < n; i++) stop[i] = json_str(json_is_array(v) ? json_at(v, i) : v);
    o->stop = stop;
    o->n_stop = (int)n;
    o->include_stop = j->q.include_stop;
    return sample_stop_check(stop, o->n_stop, e);
}

/* One grammar for each sample; on failure none is left. */
static Status make_grammars(AnswerOpts *o, Job *j, Err *e) {
    Grammar **g = arena_new_n(&j->arena, Grammar *, (size_t)j->q.n);
    if (!g) return err_set(e, ERR_NOMEM, "grammars");
    for (int i = 0; i < (int)j->q.n; i++) {
        uint64_t t0 = clock_now_ns();
        Status st = server__grammar(&g[i], j, e);
        if (st == OK && !g[i]) return OK;
        j->t_grammars_ns += clock_now_ns() - t0;
        if (st == OK && j->t_grammars_ns > (uint64_t)GRAMMARS_MS * 1000000) {
            grammar_free(g[i]);
            st = err_set(e, ERR_ARG, "n: so many answers of this form take too long to prepare");
        }
        if (st == OK) continue;
        while (i-- > 0) grammar_free(g[i]);
        return st;
    }
    o->grammars = g;
    return OK;
}

/* Tenants share no prefixes: a key's id is part of it. */
Status server__salt(Sha256 *salt, const Job *j, Err *e) {
    StrBuf b = {0};
    sb_put(&b, j->user.id, sizeof j->user.id);
    sb_put(&b, j->q.cache_salt.p, j->q.cache_salt.n);
    Status st = sb_check(&b, e);
    if (st == OK) st = sha_256(salt, sb_str(&b), b.n, e);
    sb_deinit(&b);
    return st;
}

/* What is set aside for tokens that may come, so that a slow reader holds nobody up. */
static Status check_room(Job *j, int64_t max_new, Err *e) {
    int64_t each = j->q.logprobs ? (int64_t)sizeof(SampleOut) : 16;
    j->room_used += j->q.n * max_new * each;
    if (j->room_used <= ROOM_BYTES) return OK;
    return err_set(e, ERR_ARG,
                   "n: %lld answers of up to %lld tokens%s, fewer are taken in one request",
                   (long long)j->q.n, (long long)max_new,
                   j->q.logprobs ? " with log-probabilities" : "");
}

Status server__time_left(double *out, const Job *j, Err *e) {
    double usual = server__is_idle(j) ? 0 : j->most_s;
    double most = j->q.timeout > 0 ? j->q.timeout : usual;
    *out = most;
    if (most <= 0) return OK;
    *out = most - 1e-9 * (double)(clock_now_ns() - j->t_start_ns);
    return *out > 0 ? OK : err_set(e, ERR_TIMEOUT, "inference timeout");
}

int server__priority(const Job *j) {
    return (int)j->q.priority + (server__is_idle(j) ? ENGINE_IDLE : 0);
}

Status server__submit(Job *j, const TokBuf *prompt, int64_t max_new, Err *e) {
    Server *s = j->server;
    Sha256 salt;
    EngineReq er = {.prompt = prompt->v,
                    .n_prompt = (int)prompt->n,
                    .max_new = (int)max_new,
                    .ignore_end = j->q.ignore_eos,
                    .adapter = j->adapter,
                    .priority = server__priority(j),
                    .timeout_s = 0};
    AnswerOpts o = {.n = (int)j->q.n, .wake = server__knock, .wake_ctx = s};
    TRY(check_room(j, max_new, e));
    TRY(server__time_left(&er.timeout_s, j, e));
    TRY(read_sampling(&er.sample, j, e));
    TRY(read_stop(&o, j, e));
    if (j->q.cache_salt.n > 0 || j->user.id[0]) {
        TRY(server__salt(&salt, j, e));
        er.salt = &salt;
    }
    if (j->n_answers == 0)
        TRY(sha_256(&j->prompt_digest, prompt->v, prompt->n * sizeof prompt->v[0], e));
    o.ends_only = !j->q.stream && o.n_stop == 0 &&
                  !j->q.logprobs; /* stop strings are looked for as the text comes */
    TRY(server__reserve(j, (int64_t)prompt->n + j->q.n * max_new, e));
    TRY(make_grammars(&o, j, e));
    TRY(answer_new(&j->answers[j->n_answers], &s->cfg.engine, s->cfg.tok, &er, &o, e));
    j->n_answers++;
    j->n_samples = (int)j->q.n;
    j->n_prompt_tok += (int64_t)prompt->n;
    return OK;
}

/* ---- running ---- */

const AnswerSample *server__choice(const Job *j, int i) {
    return answer_sample(j->answers[i / j->n_samples], i % j->n_samples);
}

Usage server__usage(const Job *j) {
    Usage u = {.prompt = j->n_prompt_tok};
    for (int i = 0; i < server__n_choices(j); i++)
        u.completion += (int64_t)server__choice(j, i)->ids.n;
    for (int i = 0; i < server__n_choices(j); i += j->n_samples)
        u.cached += server__choice(j, i)->n_cached;
    return u;
}

static bool ended_badly(const AnswerSample *a) {
    return a->ended && a->why != FINISH_STOP && a->why != FINISH_LENGTH;
}

/* The first sample that ended otherwise than it should, or NULL. */
static const AnswerSample *find_failed(const Job *j) {
    for (int i = 0; i < server__n_choices(j); i++) {
        if (ended_badly(server__choice(j, i))) return server__choice(j, i);
    }
    return NULL;
}

/* Messages of a running engine speak of its inside: none of them is for the client. */
static Err failure_of(const AnswerSample *a) {
    Err e = a->err;
    bool known = e.code == ERR_NOMEM || e.code == ERR_TIMEOUT || e.code == ERR_FULL;
    if (a->why == FINISH_CANCELLED) return (Err){.code = ERR_CANCELLED, .msg = "cancelled"};
    if (a->why == FINISH_DEADLINE) return (Err){.code = ERR_TIMEOUT, .msg = "inference timeout"};
    if (!known) e.code = ERR_INTERNAL;
    return e;
}

static void begin_stream(Job *j) {
    StrBuf heads = {0};
    sb_puts(&heads, "Cache-Control: no-cache\r\n");
    server__rate_heads(&heads, j);
    http_stream_begin(j->req, 200, "text/event-stream; charset=utf-8",
                      heads.failed ? NULL : sb_str(&heads));
    sb_deinit(&heads);
    j->streaming = true;
    j->t_sent_ns = clock_now_ns();
}

/* Hand over what was written. Returns bytes the client is behind by. */
static size_t send_out(Job *j) {
    size_t behind = http_stream_write(j->req, (Slice){sb_str(&j->out), j->out.n});
    if (j->out.n > 0) j->t_sent_ns = clock_now_ns();
    sb_clear(&j->out);
    return behind;
}

/* One part of answer i; false: there is none, or it is the end of a sample that failed, which writers never see. */
static bool take_part(Job *j, int i) {
    AnswerPart p;
    if (!answer_next(j->answers[i], &p)) return false;
    int choice = i * j->n_samples + p.sample;
    if (p.end && ended_badly(server__choice(j, choice))) return false;
    if (j->route->writer->part) j->route->writer->part(j, choice, &p);
    return true;
}

/* Take parts while the client keeps up, for a slice of time. True: all that there is was taken. */
static bool take_parts(Job *j) {
    uint64_t until = clock_now_ns() + SLICE_NS;
    size_t behind = j->streaming ? send_out(j) : 0;
    bool in_time = true;
    for (int i = 0; i < j->n_answers && in_time; i++) {
        while (in_time && (behind + j->out.n < OUT_MOST || !j->streaming)) {
            if (!take_part(j, i)) break;
            in_time = clock_now_ns() < until;
        }
    }
    if (j->streaming) behind = send_out(j);
    if (!in_time) server__knock(j->server); /* the others first, then on */
    return in_time && behind < OUT_MOST;
}

static bool is_done(const Job *j) {
    for (int i = 0; i < j->n_answers; i++) {
        if (!answer_done(j->answers[i])) return false;
    }
    return !j->pooled || pooled_done(j->pooled);
}

static void finish_stream(Job *j, const Err *failed) {
    HttpReq *r = j->req;
    if (failed) {
        const ApiErrorRow *row = api_error_row(failed->code);
        sb_puts(&j->out, "data: ");
        api_put_error(&j->out, API_OPENAI, row->type, row->code, NULL,
                      row->general ? row->general : failed->msg);
        sb_puts(&j->out, "\n\n");
    } else {
        j->route->writer->end(j);
    }
    send_out(j);
    http_stream_end(r);
}

static void finish_whole(Job *j) {
    StrBuf heads = {0};
    server__settle(j); /* before saying what is left */
    server__rate_heads(&heads, j);
    server__reply_json(j->req, 200, &j->out, heads.failed ? NULL : sb_str(&heads));
    sb_deinit(&heads);
}

static void finish_failed(Job *j, const Err *failed) {
    StrBuf heads = {0};
    ErrDetail d = {.param = j->param, .code = j->code, .retry_after_s = j->retry_after_s};
    if (j->retry_after_s > 0) j->server->stats.n_rate_refused++;
    server__settle(j);
    server__rate_heads(&heads, j);
    if (!heads.failed) d.heads = sb_str(&heads);
    server__reply_err(j->req, j->route->shape, &d, failed);
    sb_deinit(&heads);
}

static void finish(Job *j, const Err *failed) {
    if (j->req) http_on_gone(j->req, NULL, NULL);
    if (failed && j->streaming) /* its head said 200; other answers are noted as they are sent */
        server__history_note(j->server->history, server__status(j, failed));
    server__stats_note(j->server, j, !failed);
    server__log_ended(j, failed);
    server__trace_end(j, failed);
    if (!failed) server__note_request(j);
    if (!failed && !j->streaming && !j->rendering) j->route->writer->end(j);
    if (j->call.done) server__call_answer(j, failed);
    else if (j->streaming) finish_stream(j, failed);
    else if (failed) finish_failed(j, failed);
    else finish_whole(j);
    job_free(j);
}

/* An answer that takes long to write is written where it was prepared. */
static void render(Job *j) {
    j->prepared = false;
    j->rendering = true;
    prep_push(j->server->prep, j);
}

/* A job that runs: move it on; it may be freed. */
static void poll(Job *j) {
    Err failed = {0};
    bool all = take_parts(j);
    if (j->pooled) pooled_step(j->pooled);
    const AnswerSample *bad = find_failed(j);
    if (!bad && !(all && is_done(j))) return;
    if (bad) failed = failure_of(bad);
    else if (j->pooled) failed = pooled_error(j->pooled);
    if (failed.code == OK && j->route->writer->slow) render(j);
    else finish(j, failed.code != OK ? &failed : NULL);
}

/* A job that comes from preparing. */
static void take_over(Job *j) {
    j->prepared = true;
    server__hold(j, j->n_json);
    if (!is_left(j) && j->st == OK && !j->rendering) j->st = server__check_held(j, &j->err);
    if (is_left(j)) {
        note_left(j);
        job_free(j);
    } else if (j->st != OK || j->rendering) {
        finish(j, j->st != OK ? &j->err : NULL);
    } else {
        server__log_received(j);
        if (j->q.stream) begin_stream(j);
        if (j->route->writer->begin) j->route->writer->begin(j);
    }
}

void server__jobs_poll(Server *s) {
    atomic_store(&s->knocked, false); /* before looking: what comes after it knocks again */
    for (Job *j; (j = prep_take(s->prep));) take_over(j);
    for (Job *j = s->jobs, *next; j; j = next) {
        next = j->next; /* answering one frees that one alone */
        if (j->prepared) poll(j);
    }
}

void server__jobs_ping(Server *s) {
    uint64_t now = clock_now_ns();
    for (Job *j = s->jobs; j; j = j->next) {
        if (!j->streaming || now - j->t_sent_ns < (uint64_t)PING_S * PING_NS_PER_S) continue;
        http_stream_write(j->req, slice_of(": ping\n\n"));
        j->t_sent_ns = now;
    }
}
