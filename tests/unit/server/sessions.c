/* SPDX-License-Identifier: Apache-2.0
 * Sessions: what belongs together, when one ends, and what is then counted. */
#include "server/sessions.h"

#include "base/mem.h"
#include "test.h"

static Sha256 id_of(int i) {
    Sha256 id = {0};
    memcpy(&id, &i, sizeof i);
    return id;
}
static void note(Sessions *s, int i, int n_user, double now) {
    Sha256 id = id_of(i);
    server__sessions_note(s, &id, n_user, now);
}
static uint64_t count(const Hist *h) {
    uint64_t n = 0;
    for (int i = 0; i <= h->n; i++) n += metrics_get(&h->bucket[i]);
    return n;
}
static double sum(const Hist *h) { return atomic_load(&h->sum); }

TEST(a_session_goes_on_until_nobody_adds_to_it) {
    Sessions *s;
    OK_(server__sessions_new(&s, TERR));
    note(s, 1, 1, 100);
    note(s, 2, 1, 110);
    note(s, 1, 2, 160);
    note(s, 1, 4, 400);
    note(s, 1, 3, 430); /* the last answer again, otherwise */
    server__sessions_tick(s, 1900);
    EQ(server__sessions_open(s), 2);
    server__sessions_tick(s, 1911);
    EQ(server__sessions_open(s), 1);
    EQ(count(server__sessions_messages(s)), 1);
    server__sessions_tick(s, 2231);
    EQ(server__sessions_open(s), 0);
    EQ(count(server__sessions_messages(s)), 2);
    NEAR(sum(server__sessions_messages(s)), 1 + 4, 0);
    NEAR(sum(server__sessions_seconds(s)), 0 + 330, 0);
    server__sessions_free(s);
}

TEST(a_full_table_ends_the_one_that_is_idle_longest) {
    Sessions *s;
    OK_(server__sessions_new(&s, TERR));
    for (int i = 0; i < SESSIONS_MOST; i++) note(s, i, i + 1, i);
    note(s, 0, 1, SESSIONS_MOST);
    note(s, -1, 1, SESSIONS_MOST + 1);
    EQ(server__sessions_open(s), SESSIONS_MOST);
    EQ(count(server__sessions_messages(s)), 1);
    NEAR(sum(server__sessions_messages(s)), 2, 0); /* number 1, with two messages */
    server__sessions_free(s);
}
