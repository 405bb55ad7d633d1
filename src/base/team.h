/* SPDX-License-Identifier: Apache-2.0
 * A team of worker threads for data-parallel loops. The caller is worker 0; the others spin for at most
 * 50 microseconds after a loop, then sleep. Tiles are handed out dynamically, to each worker from a share of its
 * own first, so a tile's result must not depend on who runs it: the same input gives the same bits with 1 or
 * 64 threads.
 *
 * IDLE -[team_run: publish]-> RUNNING -[last tile done]-> IDLE */
#ifndef INGOT_BASE_TEAM_H
#define INGOT_BASE_TEAM_H

#include "base/err.h"

typedef struct Team Team;
/* One tile of a loop; `worker` in [0, team_size) picks per-thread scratch. */
typedef void (*TeamFn)(void *ctx, int64_t tile, int worker);

/* n_threads >= 1, the calling thread included. ERR_NOMEM, ERR_IO (thread creation). */
MUST_CHECK Status team_new(Team **out, int n_threads, Err *e);
void team_free(Team *t);
int team_size(const Team *t);
/* Run fn for every tile in [0, n_tiles); returns when all are done. One caller at a time, never from
 * within a tile. */
void team_run(Team *t, int64_t n_tiles, TeamFn fn, void *ctx);
/* After the loop that comes next, n_bytes at p are going to be read, in the order of tiles: workers who wait by then
 * ask memory for the beginning of their shares. A hint: p may be gone. The caller's thread. */
void team_soon(Team *t, const void *p, size_t n_bytes);
/* Processors this process may use (affinity and cgroup quota), at least 1. */
int team_default_size(void);

#endif
