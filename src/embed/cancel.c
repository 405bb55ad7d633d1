/* SPDX-License-Identifier: Apache-2.0
 * Cancelling from other threads: a handle knows the answers that are under way with it. */
#include <pthread.h>

#include "embed/internal.h"

struct IngotCancel {
    pthread_mutex_t mu;  /* rank 10: the engine's is taken while it is held */
    bool cancelled;      /* [mu] */
    CancelLink *running; /* [mu] */
};

IngotCancel *ingot_cancel_new(void) {
    IngotCancel *c = mem_new(IngotCancel);
    if (!c) return NULL;
    if (pthread_mutex_init(&c->mu, NULL) == 0) return c;
    mem_free(c);
    return NULL;
}

void ingot_cancel(IngotCancel *c) {
    pthread_mutex_lock(&c->mu);
    c->cancelled = true;
    for (CancelLink *l = c->running; l; l = l->next) answer_cancel(l->answer);
    pthread_mutex_unlock(&c->mu);
}

void ingot_cancel_free(IngotCancel *c) {
    if (!c) return;
    pthread_mutex_destroy(&c->mu);
    mem_free(c);
}

void ingot__cancel_attach(IngotCancel *c, CancelLink *link) {
    if (!c) return;
    pthread_mutex_lock(&c->mu);
    link->next = c->running;
    c->running = link;
    if (c->cancelled) answer_cancel(link->answer);
    pthread_mutex_unlock(&c->mu);
}

void ingot__cancel_detach(IngotCancel *c, CancelLink *link) {
    if (!c) return;
    pthread_mutex_lock(&c->mu);
    CancelLink **at = &c->running;
    while (*at != link) at = &(*at)->next;
    *at = link->next;
    pthread_mutex_unlock(&c->mu);
}
