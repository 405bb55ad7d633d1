/* SPDX-License-Identifier: Apache-2.0
 * Sessions: how long conversations go on, which tells how content people are. A chat request brings its whole
 * conversation along, so the next one is known by how it begins, or by the id that its client gives it. A session ends
 * when nobody has added to it for half an hour, or when a new one needs its place; what it was then goes into the two
 * histograms. No text is kept. The loop's thread alone. */
#ifndef INGOT_SERVER_SESSIONS_H
#define INGOT_SERVER_SESSIONS_H

#include "base/err.h"
#include "base/sha.h"
#include "engine/metrics.h"

enum { SESSIONS_MOST = 1024 };
#define SESSIONS_IDLE_S 1800.0

typedef struct Sessions Sessions;

/* ERR_NOMEM. */
MUST_CHECK Status server__sessions_new(Sessions **out, Err *e);
/* NULL is fine. */
void server__sessions_free(Sessions *s);
/* An answer was given in a session in which users have said n_user messages so far; now in seconds. */
void server__sessions_note(Sessions *s, const Sha256 *id, int n_user, double now);
/* End those that nobody adds to any more. */
void server__sessions_tick(Sessions *s, double now);
int server__sessions_open(const Sessions *s);
/* Messages of users, and seconds from the first answer to the last, of sessions that ended. */
const Hist *server__sessions_messages(const Sessions *s);
const Hist *server__sessions_seconds(const Sessions *s);

#endif
