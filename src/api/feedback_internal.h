/* SPDX-License-Identifier: Apache-2.0
 * Inside api/, of feedback: what the io thread writes, and its tables. */
#ifndef INGOT_API_FEEDBACK_INTERNAL_H
#define INGOT_API_FEEDBACK_INTERNAL_H

#include "api/feedback.h"
#include "store/store.h"

/* A note, copied. */
typedef struct FeedbackRecord {
    char id[FEEDBACK_MAX_ID + 1], model[FEEDBACK_MAX_MODEL + 1], version[FEEDBACK_MAX_MODEL + 1];
    Sha256 prompt;
    int64_t time_s;
} FeedbackRecord;

/* A rating, copied. Who touches it: the loop until it is queued, the io thread until it is done, the loop again; `fn`
 * always the loop. */
struct FeedbackTicket {
    FeedbackTicket *next;
    char request[FEEDBACK_MAX_ID + 1], user[FEEDBACK_MAX_USER + 1];
    char *comment; /* owned */
    int64_t time_s;
    FeedbackDone d;
    void (*fn)(void *ctx, const FeedbackDone *d); /* NULL: forgotten */
    void *ctx;
};

/* The open file with its statements; io thread. */
typedef struct FeedbackFile {
    Store *store;
    StoreStmt *add_request, *cut_requests, *find_request, *find_rating, *put_rating, *cut_ratings;
} FeedbackFile;

/* Open path (NULL: in memory), to hold at most so many rows. */
MUST_CHECK Status feedback__file_open(FeedbackFile *f, const char *path, Err *e);
void feedback__file_close(FeedbackFile *f);

/* What one commit writes. */
typedef struct FeedbackBatch {
    const FeedbackRecord *notes;
    int n_notes;
    FeedbackTicket *tickets; /* linked */
} FeedbackBatch;

/* Notes first, so that a rating finds its request; all or nothing. Fills known, replaced, model and version of tickets. */
MUST_CHECK Status feedback__file_write(FeedbackFile *f, const FeedbackBatch *b,
                                       const FeedbackConfig *c, Err *e);

#endif
