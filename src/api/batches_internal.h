/* SPDX-License-Identifier: Apache-2.0
 * Inside api/, of files and batches: rows, tickets, and what runs. Everything but what is tagged is the io thread's. */
#ifndef INGOT_API_BATCHES_INTERNAL_H
#define INGOT_API_BATCHES_INTERNAL_H

#include <pthread.h>

#include "api/batches.h"
#include "store/store.h"

enum { BATCHES_MAX_ID = 40, BATCHES_MAX_FILENAME = 256, BATCHES_MAX_ENDPOINT = 64 };

/* ---- rows (batches_db.c) ---- */

typedef struct FileRow {
    int64_t n; /* rises */
    char id[BATCHES_MAX_ID], owner[BATCHES_OWNER_BYTES];
    char name[BATCHES_MAX_FILENAME];
    const char *purpose; /* static */
    int64_t bytes, created;
} FileRow;

typedef enum BatchState {
    BATCH_VALIDATING,
    BATCH_IN_PROGRESS,
    BATCH_CANCELLING,
    BATCH_COMPLETED, /* from here on it is over */
    BATCH_FAILED,
    BATCH_EXPIRED,
    BATCH_CANCELLED,
    BATCH_N_STATES
} BatchState;

/* Moments of a batch, seconds since 1970; 0: not yet. In the order of the columns. */
typedef enum BatchTime {
    BATCH_T_CREATED,
    BATCH_T_IN_PROGRESS,
    BATCH_T_EXPIRES,
    BATCH_T_FINALIZING,
    BATCH_T_COMPLETED,
    BATCH_T_FAILED,
    BATCH_T_EXPIRED,
    BATCH_T_CANCELLING,
    BATCH_T_CANCELLED,
    BATCH_N_TIMES
} BatchTime;

typedef struct BatchRow {
    int64_t n;
    char id[BATCHES_MAX_ID], owner[BATCHES_OWNER_BYTES], input[BATCHES_MAX_ID];
    char endpoint[BATCHES_MAX_ENDPOINT], window[16];
    char out[BATCHES_MAX_ID], err[BATCHES_MAX_ID]; /* ids of its outputs, chosen when it was made */
    bool has_out, has_err;                         /* they are there, as files */
    BatchState state;
    int64_t n_total, n_ok, n_failed;
    int64_t t[BATCH_N_TIMES];
    char *metadata, *errors; /* owned; JSON, or empty */
} BatchRow;

void batches__row_deinit(BatchRow *r);
MUST_CHECK Status batches__db_open(Store **out, const char *path, Err *e);
MUST_CHECK Status batches__file_add(Store *s, const FileRow *f, Err *e);
/* owner NULL: anybody's. */
MUST_CHECK Status batches__file_find(bool *found, FileRow *out, Store *s, const char *owner,
                                     Slice id, Err *e);
MUST_CHECK Status batches__file_remove(Store *s, const char *id, Err *e);
MUST_CHECK Status batches__row_add(Store *s, const BatchRow *r, Err *e);
/* *out is zeroed, or to be deinitialised. */
MUST_CHECK Status batches__row_find(bool *found, BatchRow *out, Store *s, const char *owner,
                                    Slice id, Err *e);
/* What changes in the life of a batch. */
MUST_CHECK Status batches__row_save(Store *s, const BatchRow *r, Err *e);
/* One number: SQL with ?1 a text. */
MUST_CHECK Status batches__count(int64_t *out, Store *s, const char *sql, const char *text, Err *e);

/* A page of rows: newest first, or oldest. */
typedef struct BatchesPage {
    const char *owner, *purpose; /* purpose "" or NULL: all */
    int64_t after;               /* n of the row before the first; 0: from the beginning */
    int limit;
    bool ascending;
} BatchesPage;
MUST_CHECK Status batches__files_list(Store *s, const BatchesPage *p,
                                      void (*fn)(void *ctx, const FileRow *f), void *ctx, Err *e);
MUST_CHECK Status batches__rows_list(Store *s, const BatchesPage *p,
                                     void (*fn)(void *ctx, const BatchRow *r), void *ctx, Err *e);
/* Those that are not over, oldest first, of all owners, while fn says so. */
MUST_CHECK Status batches__rows_open(Store *s, bool (*fn)(void *ctx, const BatchRow *r), void *ctx,
                                     Err *e);

/* ---- what runs ---- */

typedef enum ActivePhase {
    ACTIVE_CHECKS, /* its lines are looked at */
    ACTIVE_RUNS,   /* lines are handed out */
    ACTIVE_DRAINS, /* none are any more; those that are out come back */
    ACTIVE_ENDS,   /* they are back: the rest is refused if it expired, and it is over */
} ActivePhase;

/* A batch at work. */
typedef struct Active {
    BatchRow row;
    BatchRun *run; /* NULL: waits for retry_ns */
    ActivePhase phase;
    BatchState end;             /* with DRAINS, ENDS: how it ends */
    int n_out;                  /* lines handed out */
    bool touched;               /* something was put since the last sync */
    bool dry;                   /* there was no further line */
    bool keeps;                 /* its outputs stay where they are, whatever becomes of it */
    uint64_t retry_ns, rest_ns; /* no opening, no lines before these times */
    _Atomic bool
        dropped; /* [atomic] set here, read by the loop: lines that are out are not wanted */
    StrBuf errors;
} Active;

/* ---- tickets ---- */

struct BatchesTicket {
    BatchesTicket *next;
    BatchesOp op;
    char owner[BATCHES_OWNER_BYTES], id[2 * BATCHES_MAX_ID];
    StrBuf type, query, body; /* owned */
    uint64_t offset;
    size_t n_bytes; /* [loop] of the body */
    BatchesReply r;
    StrBuf out;                                   /* owned; r.body is of it */
    void (*fn)(void *ctx, const BatchesReply *r); /* [loop] NULL: forgotten */
    void *ctx;                                    /* [loop] */
};

struct Batches {
    BatchesConfig cfg; /* [const] */
    char *dir;         /* [const] owned; of the state */
    int lock;          /* [const] */
    Store *store;
    Active *active[BATCHES_MAX_ACTIVE];
    int turn; /* whose line is next */
    int n_out;
    bool look; /* there may be a batch to begin */
    pthread_t thread;
    int n_open;         /* [loop] tickets whose `done` was not called */
    size_t n_bytes;     /* [loop] of their bodies */
    _Atomic int window; /* [atomic] */
    pthread_mutex_t mu;
    pthread_cond_t work;
    BatchesTicket *asks, **asks_end; /* [mu] */
    BatchesTicket *done, **done_end; /* [mu] */
    BatchesWork *lines, **lines_end; /* [mu] */
    BatchesWork *answers;            /* [mu] newest first */
    bool stopping, nudged;           /* [mu] */
    BatchesStats stats;              /* [mu] */
};

/* Path of a file of this id, appended. */
void batches__path(StrBuf *out, const Batches *b, const char *id);
/* Do what a ticket asks (batches_ops.c); fills t->r but for body. */
void batches__do(Batches *b, BatchesTicket *t);
/* prefix and 32 random hexadecimal digits. ERR_IO. */
MUST_CHECK Status batches__new_id(char out[BATCHES_MAX_ID], const char *prefix, Err *e);
/* The file of a run that is over. */
void batches__remove_file(const Batches *b, const char *id);

/* ---- batches_work.c ---- */
/* Move everything on by a little. True: there is more to do at once. */
bool batches__work(Batches *b);
/* Take answers (a list, in the order of coming) into their outputs. */
void batches__answers(Batches *b, BatchesWork *list);
/* The one that is at work on this batch, or NULL. */
Active *batches__find_active(const Batches *b, const char *id);
/* No further lines; it ends so when those that are out are back. */
void batches__wind_up(Batches *b, Active *a, BatchState end);
void batches__active_free(Batches *b, int i);
void batches__work_free(BatchesWork *w);
/* For the loop: a line. */
void batches__push_line(Batches *b, BatchesWork *w);

#endif
