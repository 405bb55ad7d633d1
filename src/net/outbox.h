/* SPDX-License-Identifier: Apache-2.0
 * Outbox: posts (webhooks, telemetry) that a thread of its own sends, so that nobody who has one to send waits for a
 * network. Bounded in number and bytes: what does not fit is refused and counted, never waited for. Each is sent at
 * least once or counted as failed; a receiver may see one twice. Redirects are not followed.
 *
 * post: QUEUED -[thread has room]-> SENT -[2xx]-> done
 *                                   SENT -[may be retried]-> WAITING -[later]-> SENT
 *                                   SENT -[anything else, attempts used up]-> failed */
#ifndef INGOT_NET_OUTBOX_H
#define INGOT_NET_OUTBOX_H

#include "net/client.h"

typedef struct NetOutbox NetOutbox;

typedef struct NetOutboxConfig { /* zero: the default in brackets */
    NetConfig net;               /* strings are borrowed, longer than the outbox */
    int max_posts;               /* [1024] that are not done */
    size_t max_bytes;            /* [16 MB] of their bodies */
    int max_running;             /* [4] at a time */
    int attempts;                /* [5] */
    int timeout_ms;              /* [10000] of one attempt */
} NetOutboxConfig;

typedef struct NetOutboxStats {
    uint64_t sent, failed, refused, retried;
    int waiting; /* not done */
} NetOutboxStats;

/* Starts the thread. ERR_NOMEM, ERR_IO. */
MUST_CHECK Status net_outbox_new(NetOutbox **out, const NetOutboxConfig *c, Err *e);
/* Take no more, go on for up to grace_ms with what there is, count the rest as failed, end the thread. */
void net_outbox_free(NetOutbox *o, int grace_ms);
/* Copy a post and queue it. ERR_FULL: no room now; ERR_ARG: a URL or header that cannot be sent. Any thread. */
MUST_CHECK Status net_outbox_post(NetOutbox *o, const char *url, const char *const *headers,
                                  int n_headers, Slice body, Err *e);
/* Any thread. */
void net_outbox_stats(NetOutbox *o, NetOutboxStats *out);

#endif
