/* SPDX-License-Identifier: Apache-2.0
 * Files and batches of a server, as OpenAI's clients know them: what /v1/files and /v1/batches do, and the work itself.
 *
 *   STATE/batches.db      rows of files and batches (store/store.h)
 *   STATE/batches/ID      a file: uploaded, or made by a batch; names are ids, never a client's
 *   STATE/batches.lock    held by the one server that works here
 *
 * An io thread owns all of it and is the only one that waits for the disk:
 *
 *   loop: batches_ask   ---> asks ----[io: rows, files]-----> replies ---> batches_poll: done
 *         batches_take  <--- lines <--[io: reads inputs]
 *         batches_give  ---> answers -[io: appends, one sync for all]-> outputs
 *
 *   VALIDATING -> IN_PROGRESS -> COMPLETED         FAILED: the input cannot be run; its errors say where
 *        `--> FAILED   |  `----> EXPIRED           EXPIRED: lines that were not reached are errors "batch_expired"
 *                      `-------> CANCELLING -> CANCELLED
 *
 * Which lines of a batch are done stands in its outputs alone (batch_run.h): after kill -9 a batch goes on with the lines
 * that are not there. Where the disk is full or fails, a batch waits and tries again. Up to BATCHES_MAX_ACTIVE run at a
 * time, line by line in turn, those of owners that have none running first. */
#ifndef INGOT_API_BATCHES_H
#define INGOT_API_BATCHES_H

#include <stdatomic.h>

#include "api/batch_run.h"
#include "api/field.h"
#include "api/keys.h"
#include "base/io.h"

enum { BATCHES_MAX_ACTIVE = 4, BATCHES_OWNER_BYTES = KEYS_MAX_ID, BATCHES_CHUNK = 1 << 20 };

typedef struct Batches Batches;
typedef struct BatchesTicket BatchesTicket;

typedef struct BatchesConfig { /* zero: the default in brackets */
    const char *dir;           /* the state folder; copied */
    size_t max_file;           /* [100 MB] bytes of an upload */
    int64_t max_lines;         /* [50000] of a batch */
    int max_files;             /* [1000] of one owner */
    int max_batches;           /* [100] of one owner that are not over */
    int max_waiting;           /* [256] asks that were not answered yet */
    size_t max_waiting_bytes;  /* [4 x max_file] of their bodies */
    uint64_t reserve;          /* [64 MB] of the disk that uploads leave free */
    int retry_ms;              /* [10000] after a failure of the disk */
    bool (*allows)(Slice url); /* endpoints that there are; NULL: all */
    /* io thread: there is something for batches_poll or batches_take. */
    void (*wake)(void *ctx);
    void *wake_ctx;
} BatchesConfig;

/* ERR_FULL: another server has the folder. */
MUST_CHECK Status batches_open(Batches **out, const BatchesConfig *c, Err *e);
/* Ends the thread. Lines that were taken were given back, tickets are done or forgotten. NULL is fine. */
void batches_free(Batches *b);

/* ---- requests of clients: loop's thread ---- */

typedef enum BatchesOp {
    BATCHES_FILE_PUT, /* body, content_type: multipart/form-data with purpose and file */
    BATCHES_FILE_GET,
    BATCHES_FILE_LIST,   /* query: limit, after, order, purpose */
    BATCHES_FILE_DELETE, /* not while a batch reads it */
    BATCHES_FILE_OPEN,   /* its content; the first chunk comes along */
    BATCHES_FILE_READ,   /* a further chunk: content, offset */
    BATCHES_NEW,         /* body: JSON */
    BATCHES_GET,
    BATCHES_LIST, /* query: limit, after */
    BATCHES_CANCEL
} BatchesOp;

typedef struct BatchesAsk {
    BatchesOp op;
    const char *owner; /* who sees and makes it; copied, as are the slices */
    Slice id;
    Slice content_type, query;
    StrBuf body;   /* taken, also by an ask that fails */
    IoMap content; /* the asker's until READ is done */
    uint64_t offset;
} BatchesAsk;

typedef struct BatchesReply {
    Status st;
    Err err;           /* st != OK */
    int http;          /* status instead of what st stands for; 0: none */
    const char *param; /* the field that was wrong; or NULL */
    Slice body;        /* JSON; of OPEN and READ: the chunk */
    IoMap content;     /* OPEN: the receiver's, to io_unmap */
} BatchesReply;

/* What POST /v1/batches reads. */
extern const ApiSchema batches_schema;

/* Hand it in; `done` is called once, from batches_poll or batches_free. ERR_FULL too many wait, ERR_NOMEM. */
MUST_CHECK Status batches_ask(BatchesTicket **t, Batches *b, BatchesAsk *a,
                              void (*done)(void *ctx, const BatchesReply *r), void *ctx, Err *e);
/* `done` will not be called. What was asked happens all the same. */
void batches_forget(BatchesTicket *t);
void batches_poll(Batches *b);
/* Bytes that an upload's body may have, its frame included. */
size_t batches_max_body(const Batches *b);

/* ---- lines to be run: loop's thread ---- */

typedef struct BatchesWork BatchesWork;
struct BatchesWork {
    BatchTask task;
    char owner[BATCHES_OWNER_BYTES];
    const _Atomic bool *dropped; /* its answer is not wanted any more */
    /* Filled before batches_give. */
    int status; /* 0: it was not run, and may be another time */
    bool again; /* it failed for a reason that may pass */
    char request_id[136];
    StrBuf body;
    /* of api/ */
    void *active;
    BatchesWork *next;
};

/* From now on up to n lines may be out at one time. Any thread. */
void batches_set_window(Batches *b, int n);
/* The next line to run, the caller's until batches_give; NULL: none at the moment. */
BatchesWork *batches_take(Batches *b);
/* It was run, or was not. Takes it. */
void batches_give(Batches *b, BatchesWork *w);

typedef struct BatchesStats {
    int n_active;            /* batches at work */
    uint64_t n_ok, n_failed; /* lines since the start */
} BatchesStats;
/* Any thread. */
BatchesStats batches_stats(Batches *b);

#endif
