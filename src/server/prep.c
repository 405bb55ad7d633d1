/* SPDX-License-Identifier: Apache-2.0
 * Two lists under one lock: jobs that wait for a thread, jobs that wait for the loop. */
#include "server/prep.h"

#include <pthread.h>

#include "base/mem.h"
#include "server/job.h"

typedef struct List {
    Job *first, *last;
} List;

struct Prep {
    void (*run)(Job *j);      /* [const] */
    void (*knock)(void *ctx); /* [const] */
    void *ctx;                /* [const] */
    pthread_mutex_t mu;
    pthread_cond_t more;
    List waiting, ready; /* [mu] */
    bool over;           /* [mu] */
    int n_wanted;        /* [const] */
    int n_threads;       /* started so far */
    pthread_t thread[];
};

static void append(List *l, Job *j) {
    j->prep_next = NULL;
    if (l->last) l->last->prep_next = j;
    else l->first = j;
    l->last = j;
}

static Job *take_first(List *l) {
    Job *j = l->first;
    if (!j) return NULL;
    l->first = j->prep_next;
    if (!l->first) l->last = NULL;
    return j;
}

/* The next job, or NULL at the end. */
static Job *wait_for_job(Prep *p) {
    pthread_mutex_lock(&p->mu);
    while (!p->over && !p->waiting.first) pthread_cond_wait(&p->more, &p->mu);
    Job *j = p->over ? NULL : take_first(&p->waiting);
    pthread_mutex_unlock(&p->mu);
    return j;
}

static void *work(void *ctx) {
    Prep *p = ctx;
    for (Job *j; (j = wait_for_job(p));) {
        p->run(j);
        pthread_mutex_lock(&p->mu);
        append(&p->ready, j);
        pthread_mutex_unlock(&p->mu);
        p->knock(p->ctx);
    }
    return NULL;
}

Status prep_new(Prep **out, int n_threads, void (*run)(Job *j), void (*knock)(void *ctx), void *ctx,
                Err *e) {
    Prep *p = mem_alloc_n(1, sizeof *p + (size_t)n_threads * sizeof p->thread[0]);
    if (!p) return err_set(e, ERR_NOMEM, "threads that prepare requests");
    p->run = run;
    p->knock = knock;
    p->ctx = ctx;
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->more, NULL);
    p->n_wanted = n_threads;
    *out = p;
    return OK;
}

Status prep_start(Prep *p, Err *e) {
    while (p->n_threads < p->n_wanted) {
        if (pthread_create(&p->thread[p->n_threads], NULL, work, p) != 0)
            return err_set(e, ERR_IO, "thread %d of %d cannot be started", p->n_threads + 1,
                           p->n_wanted);
        p->n_threads++;
    }
    return OK;
}

void prep_free(Prep *p) {
    if (!p) return;
    pthread_mutex_lock(&p->mu);
    p->over = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->mu);
    for (int i = 0; i < p->n_threads; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->more);
    pthread_mutex_destroy(&p->mu);
    mem_free(p);
}

void prep_push(Prep *p, Job *j) {
    pthread_mutex_lock(&p->mu);
    append(&p->waiting, j);
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->mu);
}

bool prep_cancel(Prep *p, Job *j) {
    bool found = false;
    pthread_mutex_lock(&p->mu);
    for (Job **at = &p->waiting.first, *before = NULL; *at && !found;) {
        found = *at == j;
        if (found) {
            *at = j->prep_next;
            if (p->waiting.last == j) p->waiting.last = before;
        } else {
            before = *at;
            at = &before->prep_next;
        }
    }
    pthread_mutex_unlock(&p->mu);
    return found;
}

Job *prep_take(Prep *p) {
    pthread_mutex_lock(&p->mu);
    Job *j = take_first(&p->ready);
    pthread_mutex_unlock(&p->mu);
    return j;
}
