/* SPDX-License-Identifier: Apache-2.0
 * Requests that wait, in the order of their turn. New ones belong at the end nearly always, preempted ones at
 * the front: both ends are tried before the list is walked. The caller holds the engine's lock. */
#include "engine/internal.h"

bool engine__before(const Req *a, const Req *b) {
    if (a->in.priority != b->in.priority) return a->in.priority < b->in.priority;
    return a->id < b->id;
}

void engine__put(Queue *q, Req *r) {
    Req **at = &q->head;
    if (q->tail && !engine__before(r, q->tail)) at = &q->tail->next;
    while (*at && !engine__before(r, *at)) at = &(*at)->next;
    r->next = *at;
    *at = r;
    if (!r->next) q->tail = r;
    q->n++;
    q->n_tok += r->in.n_prompt;
}

/* The one that *at points to leaves; before: the one in front of it, or NULL. */
static Req *unlink_req(Queue *q, Req **at, Req *before) {
    Req *r = *at;
    *at = r->next;
    if (q->tail == r) q->tail = before;
    q->n--;
    q->n_tok -= r->in.n_prompt;
    r->next = NULL;
    return r;
}

Req *engine__pop(Queue *q) { return q->head ? unlink_req(q, &q->head, NULL) : NULL; }

void engine__take(Queue *q, Req *r) {
    Req **at = &q->head, *before = NULL;
    for (; *at != r; at = &before->next) before = *at;
    unlink_req(q, at, before);
}

bool engine__is_dead(const Req *r, double now, FinishReason *why) {
    *why = FINISH_CANCELLED;
    if (atomic_load_explicit(&r->cancelled, memory_order_relaxed)) return true;
    *why = FINISH_DEADLINE;
    return r->deadline > 0.0 && now >= r->deadline;
}

Queue engine__take_dead(Queue *q, double now) {
    Queue dead = {0};
    Req *before = NULL;
    FinishReason why;
    for (Req **at = &q->head; *at;) {
        if (engine__is_dead(*at, now, &why)) {
            engine__put(&dead, unlink_req(q, at, before));
        } else {
            before = *at;
            at = &before->next;
        }
    }
    return dead;
}
