/* SPDX-License-Identifier: Apache-2.0
 * The loop of a point:
 *
 *   launch what is due -> wait for the network, at most until the next arrival -> what came is read in callbacks
 *
 * The body of the next request is made before its time comes. At most BATCH requests are launched before the network
 * is looked at again, so that a burst does not hide the answers to its beginning. */
#include "load/run.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/clock.h"

enum { BATCH = 32, NOW_MS = 200, SPARE_FDS = 64, PAUSE_MS = 100 };
#define NEVER UINT64_MAX
#define MOST_S 1e9 /* of a run, so that its nanoseconds have a place */

typedef struct Run Run;

/* One request under way. */
typedef struct Flight {
    Run *run;
    struct Flight *next; /* in run->idle */
    LoadAnswer answer;
    StrBuf body, text; /* owned: what is sent; the prompt of it */
    char name[64];     /* its X-Request-Id line */
    int block, max_tokens;
    bool warmup;
} Flight;

struct Run {
    const LoadPlan *p;
    NetClient *net;
    LoadStats *s;
    LoadArrivals arrivals;
    Flight *idle;
    Flight *ready;       /* the next request, made; NULL: there is none any more */
    uint64_t t0;         /* ns of the start */
    uint64_t ready_plan; /* ns; NEVER: a user of a closed loop has to become free first */
    uint64_t n_made;     /* requests made so far */
    uint64_t t_now;      /* of the last report */
    uint64_t
        lost_from; /* ns: the first request that found nobody since a server said anything; 0: none */
    uint64_t lost_to;  /* ns: the last one */
    uint64_t *free_at; /* closed loop: since when users wait, oldest first, in a ring */
    int n_free, free_head;
    int flight;
    bool held; /* the request that is ready has waited for a place */
    bool over; /* no request is launched any more */
};

int load_most_connections(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0) return 1024 - SPARE_FDS;
    if (r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &r) != 0 && getrlimit(RLIMIT_NOFILE, &r) != 0) return 256;
    }
    double most = r.rlim_cur == RLIM_INFINITY ? 1e6 : (double)r.rlim_cur;
    return (int)fmax(fmin(most, 1e6) - SPARE_FDS, 1);
}

/* ---- users of a closed loop ---- */

/* They stay in order: one that pauses does not hold up others. */
static void user_free(Run *r, uint64_t at) {
    int n = r->p->users, i = r->n_free++;
    for (; i > 0 && r->free_at[(r->free_head + i - 1) % n] > at; i--)
        r->free_at[(r->free_head + i) % n] = r->free_at[(r->free_head + i - 1) % n];
    r->free_at[(r->free_head + i) % n] = at;
}

static uint64_t user_take(Run *r) {
    uint64_t at = r->free_at[r->free_head];
    r->free_head = (r->free_head + 1) % r->p->users;
    r->n_free--;
    return at;
}

/* ---- making requests ---- */

static Status flight_new(Flight **out, Run *r, Err *e) {
    Flight *f = r->idle;
    if (f) r->idle = f->next;
    else f = mem_new(Flight);
    if (!f) return err_set(e, ERR_NOMEM, "out of memory for a request");
    f->run = r;
    *out = f;
    return OK;
}

static void flight_free(Flight *f) {
    if (!f) return;
    load_answer_deinit(&f->answer);
    sb_deinit(&f->body);
    sb_deinit(&f->text);
    mem_free(f);
}

/* Which of the LOAD_BLOCKS stretches of the run a request belongs to. */
static int block_of(const Run *r, uint64_t i, double at_s) {
    const LoadPlan *p = r->p;
    double share = p->n_request ? (double)(i - p->n_warmup) / (double)p->n_request
                                : at_s / fmax(p->duration_s, 1e-9);
    return (int)fmin(fmax(share * LOAD_BLOCKS, 0), LOAD_BLOCKS - 1);
}

static Status make_body(Flight *f, uint64_t i, Err *e) {
    const LoadPlan *p = f->run->p;
    LoadAsk a = p->ask;
    sb_clear(&f->body);
    sb_clear(&f->text);
    a.max_tokens = load_mix_draw(&p->max_tokens, p->seed + 1, i);
    load_prompt_fill(&a, &f->text, p->prompts, i);
    load_put_body(&f->body, &a);
    f->max_tokens = a.max_tokens;
    TRY(sb_check(&f->text, e));
    return sb_check(&f->body, e);
}

/* Seconds from the start, of the first measured request on, that arrivals go on. */
static bool is_last(const Run *r, uint64_t i, uint64_t plan) {
    const LoadPlan *p = r->p;
    if (p->n_request) return i >= p->n_warmup + p->n_request;
    return r->s->t_from && plan != NEVER && (double)(plan - r->s->t_from) * 1e-9 >= p->duration_s;
}

static uint64_t plan_of(const Run *r, double at_s) {
    return r->t0 + (uint64_t)(fmin(at_s, MOST_S) * 1e9);
}

/* The warm-up is over, and no user has gone. */
static bool all_ask(const Run *r) { return r->p->users && r->s->t_from && !r->over; }

/* Users find nothing more to ask. */
static void end_users(Run *r, uint64_t now) {
    r->over = true;
    if (r->s->t_from) r->s->full_s = (double)(now - MIN(now, r->s->t_from)) * 1e-9;
}

/* No request follows: the arrivals are from the first measured one to when the next would be. */
static void end_arrivals(Run *r, double at_s) {
    LoadStats *s = r->s;
    uint64_t end = plan_of(r, load_arrive_end(&r->arrivals, at_s));
    r->ready = NULL;
    if (r->p->users) {
        end_users(r, clock_now_ns());
        return;
    }
    r->over = true;
    s->window_s = r->p->n_request ? (double)(end - s->t_from) * 1e-9 : r->p->duration_s;
}

/* Make the next request, or find that there is none. */
static Status make_next(Run *r, Err *e) {
    const LoadPlan *p = r->p;
    uint64_t i = r->n_made, plan = NEVER;
    double at_s = p->users ? 0 : load_arrive_next(&r->arrivals);
    if (!p->users) plan = plan_of(r, at_s);
    if (is_last(r, i, plan)) {
        end_arrivals(r, at_s);
        return OK;
    }
    TRY(flight_new(&r->ready, r, e));
    r->n_made++;
    r->held = false;
    r->ready_plan = plan;
    r->ready->warmup = i < p->n_warmup;
    load_answer_start(&r->ready->answer, i, plan, r->ready->warmup ? NULL : &r->s->time[LOAD_ITL]);
    return make_body(r->ready, i, e);
}

/* ---- what the network tells ---- */

static Status on_head(void *ctx, NetCall *c, Err *e) {
    Flight *f = ctx;
    (void)e;
    f->run->lost_from = 0;
    load_answer_head(&f->answer, net_status(c), net_header(c, "content-type"));
    return OK;
}

static Status on_body(void *ctx, NetCall *c, Slice part, Err *e) {
    Flight *f = ctx;
    uint64_t now = clock_now_ns();
    (void)c;
    f->run->lost_from = 0;
    Status st = load_answer_bytes(&f->answer, now, part, e);
    if (f->answer.n_text > 0) load_stats_text(f->run->s, now, f->answer.n_text);
    if (all_ask(f->run)) f->run->s->n_text_full += (uint64_t)f->answer.n_text;
    f->answer.n_text = 0;
    return st;
}

static LoadEnd end_of(const NetCall *c) {
    switch (net_fault(c)) {
    case NET_NONE: return LOAD_OK;
    case NET_RESOLVE: return LOAD_UNKNOWN_HOST;
    case NET_CONNECT: return net_os_error(c) == ECONNREFUSED ? LOAD_REFUSED : LOAD_UNREACHED;
    case NET_TLS: return LOAD_TLS;
    case NET_BROKEN: return LOAD_BROKEN;
    case NET_STALLED: return LOAD_TIMEOUT;
    case NET_CALLER:
    case NET_OTHER: break;
    }
    return LOAD_OTHER;
}

static void note_lost(Run *r, uint64_t now) {
    if (r->lost_from == 0) r->lost_from = now;
    r->lost_to = now;
}

static void land(Flight *f, uint64_t now, LoadEnd end, const char *why) {
    Run *r = f->run;
    LoadOne *o = &f->answer.one;
    load_answer_end(&f->answer, now, end, why);
    load_stats_end(r->s, o, &r->p->slo, f->block);
    if (all_ask(r) && o->end == LOAD_OK && o->n_event == 0) r->s->n_out_full += load_one_tokens(o);
    if (r->p->on_one) r->p->on_one(r->p->ctx, o);
    r->flight--;
    if (o->end >= LOAD_UNKNOWN_HOST && o->end <= LOAD_TLS) note_lost(r, now);
    /* a user whose request failed looks again a little later: nobody hammers a server that is not there */
    if (r->p->users) user_free(r, o->end == LOAD_OK ? now : now + PAUSE_MS * 1000000u);
    f->next = r->idle;
    r->idle = f;
}

static void on_done(void *ctx, NetCall *c, Status st, const Err *err) {
    Flight *f = ctx;
    bool stopped = st == ERR_CANCELLED;
    land(f, clock_now_ns(), stopped ? LOAD_STOPPED : end_of(c), stopped ? "stopped" : err->msg);
}

/* ---- launching ---- */

static Status launch(Run *r, uint64_t now, Err *e) {
    const LoadPlan *p = r->p;
    Flight *f = r->ready;
    LoadOne *o = &f->answer.one;
    o->plan = p->users ? user_take(r) : r->ready_plan;
    o->send = MAX(now, o->plan);
    o->max_tokens = f->max_tokens;
    o->warmup = f->warmup;
    if (!o->warmup && r->s->t_from == 0) r->s->t_from = o->plan;
    f->block = block_of(r, o->id, (double)(o->plan - MIN(r->s->t_from, o->plan)) * 1e-9);
    load_stats_plan(r->s, o->plan);
    r->ready = NULL;
    r->flight++;
    if (!o->warmup) r->s->n_sent++;
    r->s->n_held += r->held && !o->warmup;
    const char *lines[LOAD_MAX_HEADERS + 1];
    int n_line = MIN(p->n_header, LOAD_MAX_HEADERS);
    for (int i = 0; i < n_line; i++) lines[i] = p->header[i];
    snprintf(f->name, sizeof f->name, "X-Request-Id: load-%llu-%llu", (unsigned long long)p->seed,
             (unsigned long long)o->id);
    lines[n_line++] = f->name;
    NetRequest rq = {.method = "POST",
                     .url = p->url,
                     .headers = lines,
                     .n_headers = n_line,
                     .secrets = p->secret,
                     .n_secrets = p->n_secret,
                     .body = {sb_str(&f->body), f->body.n},
                     .timeout_ms = (int)(p->timeout_s * 1000),
                     .no_redirects = true,
                     .on_head = on_head,
                     .on_body = on_body,
                     .on_done = on_done,
                     .ctx = f};
    Err why = {0};
    Status st = net_start(NULL, r->net, &rq, &why);
    if (st == ERR_ARG) { /* the next one would be no better */
        flight_free(f);
        r->flight--;
        return err_set(e, st, "%s", why.msg);
    }
    if (st != OK) land(f, now, LOAD_OTHER, why.msg);
    load_stats_flight(r->s, now, r->flight);
    return make_next(r, e);
}

/* When the request that is ready may go; NEVER: not before something ends. */
static uint64_t due_at(const Run *r) {
    const LoadPlan *p = r->p;
    if (!r->ready || r->over) return NEVER;
    if (p->users) return r->n_free > 0 ? r->free_at[r->free_head] : NEVER;
    return r->flight < p->max_flight ? r->ready_plan : NEVER;
}

static bool closed_is_over(const Run *r, uint64_t now) {
    const LoadPlan *p = r->p;
    return p->users && !p->n_request && r->s->t_from &&
           (double)(now - MIN(now, r->s->t_from)) * 1e-9 >= p->duration_s;
}

static Status launch_due(Run *r, Err *e) {
    for (int i = 0; i < BATCH; i++) {
        uint64_t now = clock_now_ns();
        if (!r->over && closed_is_over(r, now)) end_users(r, now);
        if (due_at(r) > now) break;
        TRY(launch(r, now, e));
    }
    return OK;
}

/* ---- the loop ---- */

static void report(Run *r, uint64_t now) {
    const LoadPlan *p = r->p;
    LoadStats *s = r->s;
    double at = (double)(now - r->t0) * 1e-9;
    if (!p->on_now || now - r->t_now < NOW_MS * 1000000u) return;
    r->t_now = now;
    double begun = s->t_from && now > s->t_from ? (double)(now - s->t_from) * 1e-9 : 0;
    LoadNow n = {.elapsed_s = at,
                 .share = p->n_request ? (double)s->n_ended / (double)p->n_request
                                       : fmin(begun / p->duration_s, 1),
                 .n_sent = s->n_sent,
                 .n_ended = s->n_ended,
                 .n_failed = load_stats_failed(s),
                 .n_late = s->n_late,
                 .flight = r->flight,
                 .rate = begun > 0 ? (double)s->n_ok / begun : 0,
                 .stats = s};
    p->on_now(p->ctx, &n);
}

/* For a while requests have found nobody, and no server has said a word. That nothing was asked, or that answers take
 * long, is no sign of death: the while is from one such request to another. */
static bool is_dead(const Run *r) {
    return r->p->give_up_s > 0 && r->lost_from > 0 &&
           (double)(r->lost_to - r->lost_from) * 1e-9 > r->p->give_up_s;
}

static void check_ends(Run *r, uint64_t now) {
    if (r->over) return;
    if (r->p->stop && atomic_load_explicit(r->p->stop, memory_order_relaxed)) r->s->stopped = true;
    else if (is_dead(r)) r->s->gave_up = true;
    else return;
    r->over = true;
    r->s->window_s = r->s->t_from ? (double)(now - MIN(r->s->t_from, now)) * 1e-9 : 0;
}

static Status turn(Run *r, Err *e) {
    uint64_t now = clock_now_ns();
    TRY(launch_due(r, e));
    check_ends(r, now);
    if (r->s->stopped) net_client_end(r->net);
    if (r->ready && !r->p->users && r->flight >= r->p->max_flight && now > r->ready_plan)
        r->held = true;
    load_stats_flight(r->s, now, r->flight);
    report(r, now);
    uint64_t due = due_at(r), before = clock_now_ns();
    uint64_t wait = due > before ? due - before : 0;
    return net_poll_ns(r->net, MIN(wait, (uint64_t)NOW_MS * 1000000), e);
}

static double cpu_s(void) {
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static Status fly(Run *r, Err *e) {
    double cpu = cpu_s();
    r->t0 = r->t_now = r->s->t_zero = clock_now_ns();
    for (int i = 0; i < r->p->users; i++) user_free(r, r->t0);
    TRY(make_next(r, e));
    while (r->flight > 0 || (r->ready && !r->over)) TRY(turn(r, e));
    double elapsed = (double)(clock_now_ns() - r->t0) * 1e-9;
    r->s->busy = elapsed > 0 ? (cpu_s() - cpu) / elapsed : 0;
    if (r->p->users && (r->s->n_ok || r->s->window_s > 0))
        r->s->window_s = load_stats_elapsed(r->s);
    else if (r->p->users && r->s->t_from)
        r->s->window_s = (double)(clock_now_ns() - r->s->t_from) * 1e-9;
    return OK;
}

Status load_run(LoadStats **out, NetClient *net, const LoadPlan *p, Err *e) {
    Run r = {.p = p, .net = net, .arrivals = p->arrivals, .ready_plan = NEVER};
    r.arrivals.seed = p->seed;
    TRY(load_stats_new(&r.s, e));
    r.free_at = mem_new_n(uint64_t, (size_t)MAX(p->users, 1));
    Status st = r.free_at ? OK : err_set(e, ERR_NOMEM, "out of memory for %d users", p->users);
    if (st == OK) st = fly(&r, e);
    if (st != OK) net_client_end(net); /* what still flies lands in r */
    flight_free(r.ready);
    for (Flight *f; (f = r.idle) != NULL;) {
        r.idle = f->next;
        flight_free(f);
    }
    mem_free(r.free_at);
    if (st == OK) *out = r.s;
    else load_stats_free(r.s);
    return st;
}
