/* SPDX-License-Identifier: Apache-2.0
 * The queue between the loop and the io thread. Notes go into one of two arrays, which the io thread swaps when it takes
 * them, ratings into a list; the lock is held for copying and swapping only. Ratings wake the thread at once, notes wait
 * for the next second or for a quarter of their room to be full: one sync for many. */
#include "api/feedback.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "api/feedback_internal.h"
#include "base/fault.h"
#include "base/log.h"
#include "text/utf8.h"

typedef struct TicketList {
    FeedbackTicket *first, *last;
} TicketList;

struct Feedback {
    FeedbackConfig cfg;    /* [const] */
    FeedbackFile file;     /* [io] while the thread runs */
    FeedbackRecord *taken; /* [io] owned; the array that is not filled */
    pthread_t thread;
    int n_open; /* [loop] tickets whose `done` was not called */
    pthread_mutex_t mu;
    pthread_cond_t work;
    FeedbackRecord *notes; /* [mu] owned */
    int n_notes;           /* [mu] */
    TicketList waiting;    /* [mu] */
    TicketList done;       /* [mu] */
    bool stopping;         /* [mu] */
    FeedbackStats stats;   /* [mu] */
};

static void list_add(TicketList *l, FeedbackTicket *first, FeedbackTicket *last) {
    if (!first) return;
    if (l->last) l->last->next = first;
    else l->first = first;
    l->last = last;
}

static void ticket_free(FeedbackTicket *t) {
    if (t) mem_free(t->comment);
    mem_free(t);
}

/* ---- io thread ---- */

static bool has_work(const Feedback *f) {
    return f->stopping || f->waiting.first || f->n_notes * 4 >= f->cfg.max_notes;
}

/* Sleep until there is work or a second is over, then take what waits. False: stopping, and nothing is left. */
static bool take_work(Feedback *f, FeedbackBatch *b, TicketList *l) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_mutex_lock(&f->mu);
    int rc = 0;
    while (!has_work(f) && rc != ETIMEDOUT) rc = pthread_cond_timedwait(&f->work, &f->mu, &until);
    FeedbackRecord *filled = f->notes;
    *b = (FeedbackBatch){.notes = filled, .n_notes = f->n_notes, .tickets = f->waiting.first};
    *l = f->waiting;
    f->waiting = (TicketList){0};
    f->notes = f->taken;
    f->n_notes = 0;
    f->taken = filled;
    bool more = !f->stopping || b->n_notes > 0 || b->tickets;
    pthread_mutex_unlock(&f->mu);
    return more;
}

static void count_batch(FeedbackStats *s, const FeedbackBatch *b, Status st) {
    if (st == OK) s->n_notes += (uint64_t)b->n_notes;
    else s->n_dropped += (uint64_t)b->n_notes;
    for (const FeedbackTicket *t = b->tickets; t; t = t->next) {
        if (st == OK) s->by_rating[t->d.rating]++;
        if (st == OK) s->n_ratings++;
        else s->n_failed++;
    }
}

static void write_batch(Feedback *f, const FeedbackBatch *b, TicketList *l) {
    Err e = {0};
    if (b->n_notes == 0 && !b->tickets) return;
    Status st = feedback__file_write(&f->file, b, &f->cfg, &e);
    if (st != OK) log_error("feedback: %s", e.msg);
    for (FeedbackTicket *t = b->tickets; t; t = t->next) {
        t->d.st = st;
        t->d.err = e;
    }
    pthread_mutex_lock(&f->mu);
    count_batch(&f->stats, b, st);
    list_add(&f->done, l->first, l->last);
    pthread_mutex_unlock(&f->mu);
    if (b->tickets && f->cfg.wake) f->cfg.wake(f->cfg.wake_ctx);
}

/* At most once a second, however often there is work. */
static void each_second(const Feedback *f, int64_t *last_s, bool now) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (!f->cfg.on_second || (!now && t.tv_sec == *last_s)) return;
    *last_s = t.tv_sec;
    f->cfg.on_second(f->cfg.second_ctx);
}

static void *io_main(void *ctx) {
    Feedback *f = ctx;
    FeedbackBatch b;
    TicketList l;
    int64_t last_s = 0;
    while (take_work(f, &b, &l)) {
        write_batch(f, &b, &l);
        each_second(f, &last_s, false);
    }
    each_second(f, &last_s, true);
    return NULL;
}

/* ---- life ---- */

static void fill_config(FeedbackConfig *c) {
    if (c->max_notes <= 0) c->max_notes = 4096;
    if (c->max_waiting <= 0) c->max_waiting = 256;
    if (c->max_requests <= 0) c->max_requests = 200000;
    if (c->max_ratings <= 0) c->max_ratings = 1000000;
}

/* Signals are for the other threads. */
static int start_thread(Feedback *f) {
    sigset_t all, old;
    sigfillset(&all);
    if (fault_hit(FAULT_IO)) return EAGAIN;
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&f->thread, NULL, io_main, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static void init_locks(Feedback *f) {
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&f->work, &a);
    pthread_condattr_destroy(&a);
    pthread_mutex_init(&f->mu, NULL);
}

static void release(Feedback *f) {
    feedback__file_close(&f->file);
    pthread_cond_destroy(&f->work);
    pthread_mutex_destroy(&f->mu);
    mem_free(f->notes);
    mem_free(f->taken);
    mem_free(f);
}

Status feedback_new(Feedback **out, const FeedbackConfig *c, Err *e) {
    Feedback *f = mem_new(Feedback);
    if (!f) return err_set(e, ERR_NOMEM, "feedback");
    f->cfg = *c;
    fill_config(&f->cfg);
    init_locks(f);
    f->notes = mem_new_n(FeedbackRecord, (size_t)f->cfg.max_notes);
    f->taken = mem_new_n(FeedbackRecord, (size_t)f->cfg.max_notes);
    Status st = f->notes && f->taken ? OK : err_set(e, ERR_NOMEM, "feedback");
    if (st == OK) st = feedback__file_open(&f->file, c->path, e);
    int rc = st == OK ? start_thread(f) : 0;
    if (rc != 0) st = err_set(e, ERR_IO, "thread of feedback: %s", strerror(rc));
    if (st != OK) {
        release(f);
        return st;
    }
    *out = f;
    return OK;
}

void feedback_free(Feedback *f) {
    if (!f) return;
    pthread_mutex_lock(&f->mu);
    f->stopping = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mu);
    pthread_join(f->thread, NULL);
    feedback_poll(f);
    release(f);
}

/* ---- loop's thread ---- */

/* At most cap - 1 bytes of s, not ending inside a character, and none after a NUL. */
static void copy_cut(char *out, size_t cap, Slice s) {
    size_t n = strnlen(s.p, MIN(s.n, cap - 1));
    n = utf8_complete_prefix((Slice){s.p, n});
    memcpy(out, s.p, n);
    out[n] = '\0';
}

void feedback_note(Feedback *f, const FeedbackNote *n) {
    pthread_mutex_lock(&f->mu);
    if (f->n_notes == f->cfg.max_notes) {
        f->stats.n_dropped++;
        pthread_mutex_unlock(&f->mu);
        return;
    }
    FeedbackRecord *r = &f->notes[f->n_notes++];
    copy_cut(r->id, sizeof r->id, n->id);
    copy_cut(r->model, sizeof r->model, n->model);
    copy_cut(r->version, sizeof r->version, n->version);
    r->prompt = n->prompt;
    r->time_s = n->time_s;
    if (has_work(f)) pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->mu);
}

static Status check_text(Slice s, const char *what, size_t least, size_t most, Err *e) {
    if (s.n < least || s.n > most)
        return err_set(e, ERR_ARG, "%s: %zu bytes, want %zu to %zu", what, s.n, least, most);
    if (!utf8_valid(s)) return err_set(e, ERR_ARG, "%s: not UTF-8", what);
    if (s.n > 0 && memchr(s.p, '\0', s.n)) return err_set(e, ERR_ARG, "%s: a NUL in it", what);
    return OK;
}

static Status check_rating(const FeedbackRating *r, Err *e) {
    if (r->rating < 1 || r->rating > 5)
        return err_set(e, ERR_ARG, "rating: %d is not in 1 .. 5", r->rating);
    TRY(check_text(r->request_id, "request_id", 1, FEEDBACK_MAX_ID, e));
    TRY(check_text(r->user, "user", 0, FEEDBACK_MAX_USER, e));
    return check_text(r->comment, "comment", 0, FEEDBACK_MAX_COMMENT, e);
}

static FeedbackTicket *ticket_new(const FeedbackRating *r) {
    FeedbackTicket *t = mem_new(FeedbackTicket);
    if (!t) return NULL;
    t->comment = mem_dup(r->comment.n > 0 ? r->comment.p : "", r->comment.n);
    if (!t->comment) {
        mem_free(t);
        return NULL;
    }
    copy_cut(t->request, sizeof t->request, r->request_id);
    copy_cut(t->user, sizeof t->user, r->user);
    t->time_s = r->time_s;
    t->d.rating = r->rating;
    return t;
}

Status feedback_put(FeedbackTicket **out, Feedback *f, const FeedbackRating *r,
                    void (*done)(void *ctx, const FeedbackDone *d), void *ctx, Err *e) {
    TRY(check_rating(r, e));
    bool full = f->n_open >= f->cfg.max_waiting;
    FeedbackTicket *t = full ? NULL : ticket_new(r);
    pthread_mutex_lock(&f->mu);
    if (t) {
        t->fn = done;
        t->ctx = ctx;
        list_add(&f->waiting, t, t);
        pthread_cond_signal(&f->work);
    } else {
        f->stats.n_refused++;
    }
    pthread_mutex_unlock(&f->mu);
    if (full) return err_set(e, ERR_FULL, "%d ratings are waiting to be written", f->n_open);
    if (!t) return err_set(e, ERR_NOMEM, "a rating");
    f->n_open++;
    *out = t;
    return OK;
}

void feedback_forget(FeedbackTicket *t) { t->fn = NULL; }

void feedback_poll(Feedback *f) {
    pthread_mutex_lock(&f->mu);
    FeedbackTicket *t = f->done.first;
    f->done = (TicketList){0};
    pthread_mutex_unlock(&f->mu);
    for (FeedbackTicket *next; t; t = next) {
        next = t->next;
        f->n_open--;
        if (t->fn) t->fn(t->ctx, &t->d);
        ticket_free(t);
    }
}

FeedbackStats feedback_stats(Feedback *f) {
    pthread_mutex_lock(&f->mu);
    FeedbackStats s = f->stats;
    pthread_mutex_unlock(&f->mu);
    s.n_waiting = f->n_open;
    return s;
}
