/* SPDX-License-Identifier: Apache-2.0
 * Inside fetching: one Get for each file, one Slot for each request that runs.
 *
 * Get: WAIT -[get_begin]-> FIRST -[head 206]-> RANGES -[all pieces]-> CHECK -[get_finish]-> DONE
 *                          FIRST -[head 200]-> STREAM -[whole body]-> CHECK
 *      any -[restart: the file is another one, or cannot be had in parts]-> WAIT, with nothing */
#ifndef INGOT_HUB_FETCH_INTERNAL_H
#define INGOT_HUB_FETCH_INTERNAL_H

#include "hub/internal.h"

typedef enum GetState { GET_WAIT, GET_FIRST, GET_RANGES, GET_STREAM, GET_CHECK, GET_DONE } GetState;

typedef struct Fetch Fetch;

typedef struct Get {
    HubFile *f; /* borrowed from the list */
    HubPart part;
    bool open; /* part is */
    GetState state;
    bool *busy;          /* owned: pieces that a slot has */
    char *final_url;     /* owned: where redirects led; NULL: not known */
    uint64_t streamed;   /* bytes of a file whose size nobody tells */
    uint64_t on_resume;  /* bytes that were there at the start */
    int64_t modified;    /* unix time; 0: not known */
    bool plain;          /* the server does not do ranges */
    const char *restart; /* why; NULL: no need */
    int n_restarts;
    int n_fails; /* in a row, without progress */
    uint64_t progress_mark, not_before_ms;
    Digest *digest; /* owned */
    uint64_t hashed;
} Get;

typedef struct Slot {
    Fetch *x;
    Get *g;        /* NULL: free */
    NetCall *call; /* borrowed */
    size_t piece;
    uint64_t at, end; /* next byte, first byte that is not asked for; end HUB_UNKNOWN: to the end */
    bool ranged, first, by_final;
    StrBuf words;     /* of an answer that is a refusal */
    uint64_t refused; /* bytes of it */
} Slot;

struct Fetch {
    HubFetch *f;
    Get *gets; /* owned, one for each file of the list */
    size_t n_gets, n_done;
    Slot slots[HUB_MAX_CONNECTIONS];
    int n_slots;
    uint64_t got;        /* bytes that came in this run */
    uint64_t free_bytes; /* of the disk at the start */
    uint64_t save_ms, show_ms;
    bool failed;
    Err err; /* the first failure */
};

/* ---- fetch_head.c: the head of an answer ---- */
/* Whether what comes may be written: sets the file's size, pieces and identity, or g->restart. */
Status hub__fetch_head(void *slot, NetCall *c, Err *e);
/* What a redirect of the first host says about the file. */
Status hub__fetch_hop(void *slot, NetCall *c, Err *e);
/* Bytes of one request for a file of that size. */
uint64_t hub__fetch_piece(const HubFetch *f, uint64_t size);

#endif
