/* SPDX-License-Identifier: Apache-2.0
 * A small table that is searched from end to end: one look for each answer to a chat. */
#include "server/sessions.h"

#include <string.h>

#include "base/mem.h"

static const double message_bounds[] = {1, 2, 3, 5, 8, 13, 21, 34, 55, 100};
static const double second_bounds[] = {1, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400};

typedef struct Session {
    Sha256 id;
    int n_user;
    double first, last;
} Session;

struct Sessions {
    Hist messages, seconds;
    int n;
    Session v[SESSIONS_MOST];
};

Status server__sessions_new(Sessions **out, Err *e) {
    Sessions *s = mem_new(Sessions);
    if (!s) return err_set(e, ERR_NOMEM, "a table of %d sessions", SESSIONS_MOST);
    s->messages = (Hist){.bound = message_bounds, .n = COUNT_OF(message_bounds)};
    s->seconds = (Hist){.bound = second_bounds, .n = COUNT_OF(second_bounds)};
    *out = s;
    return OK;
}

void server__sessions_free(Sessions *s) { mem_free(s); }

static void end(Sessions *s, int i) {
    metrics_observe(&s->messages, s->v[i].n_user);
    metrics_observe(&s->seconds, s->v[i].last - s->v[i].first);
    s->v[i] = s->v[--s->n];
}

static int oldest(const Sessions *s) {
    int at = 0;
    for (int i = 1; i < s->n; i++)
        if (s->v[i].last < s->v[at].last) at = i;
    return at;
}

void server__sessions_note(Sessions *s, const Sha256 *id, int n_user, double now) {
    int i = 0;
    while (i < s->n && memcmp(&s->v[i].id, id, sizeof *id) != 0) i++;
    if (i == s->n) {
        if (s->n == SESSIONS_MOST) end(s, oldest(s));
        i = s->n++;
        s->v[i] = (Session){.id = *id, .first = now};
    }
    s->v[i].n_user = MAX(s->v[i].n_user, n_user);
    s->v[i].last = now;
}

void server__sessions_tick(Sessions *s, double now) {
    for (int i = s->n - 1; i >= 0; i--)
        if (now - s->v[i].last > SESSIONS_IDLE_S) end(s, i);
}

int server__sessions_open(const Sessions *s) { return s->n; }
const Hist *server__sessions_messages(const Sessions *s) { return &s->messages; }
const Hist *server__sessions_seconds(const Sessions *s) { return &s->seconds; }
