/* SPDX-License-Identifier: Apache-2.0
 * The queues between the loop and the io thread, and the thread's life. */
#include "api/batches.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "api/batches_internal.h"
#include "base/fault.h"
#include "base/log.h"

enum { BUSY_MS = 250, IDLE_MS = 2000, FRAME = 64 << 10 /* of a form around a file */ };

/* ---- files ---- */

void batches__path(StrBuf *out, const Batches *b, const char *id) {
    sb_printf(out, "%s/batches/%s", b->dir, id);
}

void batches__remove_file(const Batches *b, const char *id) {
    StrBuf path = {0};
    batches__path(&path, b, id);
    if (!path.failed && io_exists(sb_str(&path))) {
        Err e = {0};
        if (io_remove(sb_str(&path), &e) != OK) log_warn("batches: %s", e.msg);
    }
    sb_deinit(&path);
}

Status batches__new_id(char out[BATCHES_MAX_ID], const char *prefix, Err *e) {
    unsigned char r[16];
    if (fault_hit(FAULT_IO) || getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return err_set(e, ERR_IO, "getrandom: %s", strerror(errno));
    size_t n = (size_t)snprintf(out, BATCHES_MAX_ID, "%s", prefix);
    for (size_t i = 0; i < sizeof r && n + 3 <= BATCHES_MAX_ID; i++, n += 2)
        snprintf(out + n, 3, "%02x", r[i]);
    return OK;
}

/* Whether a row speaks of this file. */
static Status is_known(bool *known, const Batches *b, const char *id, Err *e) {
    int64_t n = 0;
    TRY(batches__count(&n, b->store,
                       "SELECT (SELECT count(*) FROM files WHERE id = ?1) + "
                       "(SELECT count(*) FROM batches WHERE (out = ?1 OR err = ?1) AND "
                       "(state < 3 OR state = 4))",
                       id, e));
    *known = n > 0;
    return OK;
}

/* What a kill left: parts of uploads, files whose row was not written or is gone. */
static Status clear_folder(const Batches *b, Err *e) {
    StrBuf path = {0};
    Status st = OK;
    bool known = true;
    batches__path(&path, b, "");
    DIR *d = path.failed ? NULL : opendir(sb_str(&path));
    if (!d) st = err_set(e, ERR_IO, "%s/batches: %s", b->dir, strerror(errno));
    for (struct dirent *f; d && st == OK && (f = readdir(d));) {
        if (!str_starts_with(f->d_name, "file-")) continue;
        st = is_known(&known, b, f->d_name, e);
        if (st == OK && !known) batches__remove_file(b, f->d_name);
    }
    if (d) closedir(d);
    sb_deinit(&path);
    return st;
}

/* ---- io thread ---- */

static bool has_work(const Batches *b) { return b->stopping || b->asks || b->answers || b->nudged; }

static BatchesWork *reversed(BatchesWork *list) {
    BatchesWork *out = NULL;
    for (BatchesWork *next; list; list = next) {
        next = list->next;
        list->next = out;
        out = list;
    }
    return out;
}

/* Sleep until there is work, unless there is more at once; take what waits. False: the end. */
static bool take_work(Batches *b, BatchesTicket **asks, BatchesWork **answers, bool more) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long ms = b->stats.n_active > 0 ? BUSY_MS : IDLE_MS;
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&b->mu);
    int rc = 0;
    while (!more && !has_work(b) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&b->work, &b->mu, &until);
    *asks = b->asks;
    *answers = reversed(b->answers);
    b->asks = NULL;
    b->asks_end = &b->asks;
    b->answers = NULL;
    b->nudged = false;
    bool on = !b->stopping || *asks || *answers;
    pthread_mutex_unlock(&b->mu);
    return on;
}

static void wake(const Batches *b) {
    if (b->cfg.wake) b->cfg.wake(b->cfg.wake_ctx);
}

static void do_asks(Batches *b, BatchesTicket *t) {
    for (BatchesTicket *next; t; t = next) {
        next = t->next;
        t->next = NULL;
        batches__do(b, t);
        pthread_mutex_lock(&b->mu);
        *b->done_end = t;
        b->done_end = &t->next;
        pthread_mutex_unlock(&b->mu);
        wake(b);
    }
}

static void *io_main(void *ctx) {
    Batches *b = ctx;
    BatchesTicket *asks;
    BatchesWork *answers;
    bool more = true;
    while (take_work(b, &asks, &answers, more)) {
        batches__answers(b, answers);
        do_asks(b, asks);
        more = batches__work(b);
    }
    batches__work(b); /* what was answered last is written */
    return NULL;
}

void batches__push_line(Batches *b, BatchesWork *w) {
    pthread_mutex_lock(&b->mu);
    w->next = NULL;
    *b->lines_end = w;
    b->lines_end = &w->next;
    pthread_mutex_unlock(&b->mu);
    wake(b);
}

/* ---- life ---- */

static void fill_config(BatchesConfig *c) {
    if (c->max_file == 0) c->max_file = (size_t)100 << 20;
    if (c->max_lines == 0) c->max_lines = 50000;
    if (c->max_files == 0) c->max_files = 1000;
    if (c->max_batches == 0) c->max_batches = 100;
    if (c->max_waiting == 0) c->max_waiting = 256;
    if (c->max_waiting_bytes == 0) c->max_waiting_bytes = 4 * (c->max_file + FRAME);
    if (c->reserve == 0) c->reserve = (uint64_t)64 << 20;
    if (c->retry_ms == 0) c->retry_ms = 10000;
}

static void init_locks(Batches *b) {
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&b->work, &a);
    pthread_condattr_destroy(&a);
    pthread_mutex_init(&b->mu, NULL);
    b->asks_end = &b->asks;
    b->done_end = &b->done;
    b->lines_end = &b->lines;
}

static Status open_state(Batches *b, Err *e) {
    StrBuf path = {0};
    sb_printf(&path, "%s/batches", b->dir);
    Status st = sb_check(&path, e);
    if (st == OK) st = store_make_dir(sb_str(&path), e);
    sb_puts(&path, ".lock");
    if (st == OK) st = sb_check(&path, e);
    if (st == OK) st = io_lock(&b->lock, sb_str(&path), e);
    sb_clear(&path);
    sb_printf(&path, "%s/batches.db", b->dir);
    if (st == OK) st = sb_check(&path, e);
    if (st == OK) st = batches__db_open(&b->store, sb_str(&path), e);
    sb_deinit(&path);
    return st == OK ? clear_folder(b, e) : st;
}

/* Signals are for the other threads. */
static Status start_thread(Batches *b, Err *e) {
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = fault_hit(FAULT_IO) ? EAGAIN : pthread_create(&b->thread, NULL, io_main, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? OK : err_set(e, ERR_IO, "thread of batches: %s", strerror(rc));
}

static void release(Batches *b) {
    for (BatchesWork *w = b->lines, *next; w; w = next) {
        next = w->next;
        batches__work_free(w);
    }
    for (int i = 0; i < BATCHES_MAX_ACTIVE; i++) batches__active_free(b, i);
    store_close(b->store);
    io_unlock(b->lock);
    pthread_cond_destroy(&b->work);
    pthread_mutex_destroy(&b->mu);
    mem_free(b->dir);
    mem_free(b);
}

Status batches_open(Batches **out, const BatchesConfig *c, Err *e) {
    Batches *b = mem_new(Batches);
    if (!b) return err_set(e, ERR_NOMEM, "batches");
    b->cfg = *c;
    b->lock = -1;
    b->look = true;
    fill_config(&b->cfg);
    init_locks(b);
    b->dir = mem_dup(c->dir, strlen(c->dir));
    Status st = b->dir ? open_state(b, e) : err_set(e, ERR_NOMEM, "batches");
    if (st == OK) st = start_thread(b, e);
    if (st != OK) {
        release(b);
        return st;
    }
    *out = b;
    return OK;
}

void batches_free(Batches *b) {
    if (!b) return;
    pthread_mutex_lock(&b->mu);
    b->stopping = true;
    pthread_cond_signal(&b->work);
    pthread_mutex_unlock(&b->mu);
    pthread_join(b->thread, NULL);
    batches_poll(b);
    release(b);
}

/* ---- loop's thread: asks ---- */

static void ticket_free(BatchesTicket *t) {
    sb_deinit(&t->type);
    sb_deinit(&t->query);
    sb_deinit(&t->body);
    sb_deinit(&t->out);
    mem_free(t);
}

static Status fill_ticket(BatchesTicket *t, BatchesAsk *a, Err *e) {
    t->op = a->op;
    t->body = a->body;
    t->n_bytes = a->body.n;
    a->body = (StrBuf){0};
    t->offset = a->offset;
    t->r.content = a->content;
    snprintf(t->owner, sizeof t->owner, "%s", a->owner ? a->owner : "");
    snprintf(t->id, sizeof t->id, "%.*s", (int)MIN(a->id.n, sizeof t->id - 1), a->id.p);
    sb_put(&t->type, a->content_type.p, a->content_type.n);
    sb_put(&t->query, a->query.p, a->query.n);
    TRY(sb_check(&t->type, e));
    return sb_check(&t->query, e);
}

Status batches_ask(BatchesTicket **out, Batches *b, BatchesAsk *a,
                   void (*done)(void *ctx, const BatchesReply *r), void *ctx, Err *e) {
    BatchesTicket *t = b->n_open < b->cfg.max_waiting ? mem_new(BatchesTicket) : NULL;
    Status st = OK;
    if (b->n_open >= b->cfg.max_waiting || a->body.n > b->cfg.max_waiting_bytes - b->n_bytes)
        st = err_set(e, ERR_FULL, "%d requests of %zu bytes wait", b->n_open, b->n_bytes);
    else if (!t) st = err_set(e, ERR_NOMEM, "a request");
    if (st == OK) st = fill_ticket(t, a, e);
    sb_deinit(&a->body);
    a->body = (StrBuf){0};
    if (st != OK) {
        if (t) ticket_free(t);
        return st;
    }
    t->fn = done;
    t->ctx = ctx;
    b->n_open++;
    b->n_bytes += t->n_bytes;
    pthread_mutex_lock(&b->mu);
    *b->asks_end = t;
    b->asks_end = &t->next;
    pthread_cond_signal(&b->work);
    pthread_mutex_unlock(&b->mu);
    *out = t;
    return OK;
}

void batches_forget(BatchesTicket *t) { t->fn = NULL; }

static void answer(Batches *b, BatchesTicket *t) {
    b->n_open--;
    b->n_bytes -= t->n_bytes;
    t->r.body = (Slice){sb_str(&t->out), t->out.n};
    if (t->fn) t->fn(t->ctx, &t->r);
    else if (t->op == BATCHES_FILE_OPEN || t->op == BATCHES_FILE_READ) io_unmap(&t->r.content);
    ticket_free(t);
}

void batches_poll(Batches *b) {
    pthread_mutex_lock(&b->mu);
    BatchesTicket *t = b->done;
    b->done = NULL;
    b->done_end = &b->done;
    pthread_mutex_unlock(&b->mu);
    for (BatchesTicket *next; t; t = next) {
        next = t->next;
        answer(b, t);
    }
}

size_t batches_max_body(const Batches *b) { return b->cfg.max_file + FRAME; }

/* ---- loop's thread: lines ---- */

static void nudge(Batches *b) {
    pthread_mutex_lock(&b->mu);
    b->nudged = true;
    pthread_cond_signal(&b->work);
    pthread_mutex_unlock(&b->mu);
}

void batches_set_window(Batches *b, int n) {
    if (atomic_exchange(&b->window, n) != n) nudge(b);
}

BatchesWork *batches_take(Batches *b) {
    pthread_mutex_lock(&b->mu);
    BatchesWork *w = b->lines;
    if (w) b->lines = w->next;
    if (!b->lines) b->lines_end = &b->lines;
    pthread_mutex_unlock(&b->mu);
    return w;
}

void batches_give(Batches *b, BatchesWork *w) {
    pthread_mutex_lock(&b->mu);
    w->next = b->answers;
    b->answers = w;
    pthread_cond_signal(&b->work);
    pthread_mutex_unlock(&b->mu);
}

BatchesStats batches_stats(Batches *b) {
    pthread_mutex_lock(&b->mu);
    BatchesStats s = b->stats;
    pthread_mutex_unlock(&b->mu);
    return s;
}
