/* SPDX-License-Identifier: Apache-2.0
 * What users thought of answers: ratings, joined to the requests they are about.
 *
 * The loop's thread notes each request as it ends (feedback_note) and hands in ratings as they come (feedback_put);
 * both only copy into bounded memory. An io thread writes them to SQLite, in one transaction whatever waits. A rating is
 * acknowledged when it is committed: `done` is called then, from feedback_poll on the loop's thread, and what was
 * acknowledged survives kill -9. A note that finds no room is dropped and counted; a rating that finds none is
 * refused at once.
 *
 *   loop: feedback_note ---> ring of notes ----+                      +--> requests: id, model, version, hash, time
 *         feedback_put  ---> waiting ratings --+--[io: one commit]--+--> ratings: request, user, rating, comment ...
 *         feedback_poll <--- done ratings <---+
 *
 * No text of a prompt is kept, only a SHA-256. A rating takes over model, version and hash of its request, so that it
 * outlives the request's row; one whose request is not known is kept without them. A second rating of a request by the
 * same user replaces the first. Both tables have a largest number of rows, beyond which the oldest go. */
#ifndef INGOT_API_FEEDBACK_H
#define INGOT_API_FEEDBACK_H

#include "base/sha.h"
#include "base/str.h"
#include "text/json.h"

enum {
    FEEDBACK_MAX_ID = 128, /* bytes of a request's id */
    FEEDBACK_MAX_MODEL = 128,
    FEEDBACK_MAX_USER = 64,
    FEEDBACK_MAX_COMMENT = 4096
};

typedef struct Feedback Feedback;
typedef struct FeedbackTicket FeedbackTicket; /* a rating on its way */

typedef struct FeedbackConfig { /* zero: the default in brackets */
    const char *path;           /* feedback.db; NULL: in memory, lost at the end */
    int max_notes;              /* [4096] that wait to be written */
    int max_waiting;            /* [256] ratings, those included whose `done` was not called yet */
    int64_t max_requests;       /* [200000] rows */
    int64_t max_ratings;        /* [1000000] rows */
    /* io thread: ratings are done, call feedback_poll on the loop's thread soon (http_wake). */
    void (*wake)(void *ctx);
    void *wake_ctx;
    /* io thread, about once a second and once before it ends: slow writing of others (keys_flush); NULL: none. */
    void (*on_second)(void *ctx);
    void *second_ctx;
} FeedbackConfig;

/* A request that has ended. Longer texts are cut. */
typedef struct FeedbackNote {
    Slice id, model, version;
    Sha256 prompt; /* digest of the prompt */
    int64_t time_s;
} FeedbackNote;

typedef struct FeedbackRating {
    Slice request_id; /* 1 to 128 bytes */
    Slice user;       /* id of the key, or of the client; may be empty */
    Slice comment;    /* UTF-8; may be empty */
    int rating;       /* 1 to 5 */
    int64_t time_s;
} FeedbackRating;

/* What became of a rating. */
typedef struct FeedbackDone {
    Status st;
    Err err;       /* st != OK */
    bool known;    /* its request was found */
    bool replaced; /* it took the place of an earlier one */
    int rating;
    char model[FEEDBACK_MAX_MODEL + 1], version[FEEDBACK_MAX_MODEL + 1]; /* of its request, or "" */
} FeedbackDone;

typedef struct FeedbackStats {
    uint64_t n_notes, n_dropped; /* written; dropped or lost to a failed write */
    uint64_t n_ratings, n_failed, n_refused;
    uint64_t by_rating[6]; /* [1..5] written */
    int n_waiting;
} FeedbackStats;

/* Open the file and start the thread. */
MUST_CHECK Status feedback_new(Feedback **out, const FeedbackConfig *c, Err *e);
/* Write what waits, end the thread; `done` is called for every rating that was not forgotten. Loop's thread. */
void feedback_free(Feedback *f);

/* ---- loop's thread ---- */
/* A request ended. Never waits. */
void feedback_note(Feedback *f, const FeedbackNote *n);
/* Hand a rating in. `done` is called once, from feedback_poll or feedback_free. ERR_ARG a field out of its limits,
 * ERR_FULL too many wait. *t is valid until done was called. */
MUST_CHECK Status feedback_put(FeedbackTicket **t, Feedback *f, const FeedbackRating *r,
                               void (*done)(void *ctx, const FeedbackDone *d), void *ctx, Err *e);
/* The client left: `done` will not be called. The rating is written all the same. */
void feedback_forget(FeedbackTicket *t);
/* Call `done` of all ratings that are. */
void feedback_poll(Feedback *f);
FeedbackStats feedback_stats(Feedback *f);

/* The fields of a POST /feedback from its JSON body (NULL: none) or its query string, the body first: request_id; rating,
 * 1 to 5, or "like" and "dislike" for 5 and 1 (true and false too); comment. Strings are borrowed from the body or live in
 * *buf. ERR_ARG names the field. */
MUST_CHECK Status feedback_read(FeedbackRating *out, StrBuf *buf, const Json *body, Slice query,
                                Err *e);

#endif
