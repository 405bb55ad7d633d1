/* SPDX-License-Identifier: Apache-2.0
 * Inside pushing: the file that is sent, and its parts. One thread. */
#ifndef INGOT_HUB_PUSH_INTERNAL_H
#define INGOT_HUB_PUSH_INTERNAL_H

#include "base/io.h"
#include "hub/internal.h"

enum { PUSH_MAX_ETAG = 128, PUSH_BASE64 = 45, PUSH_MAX_LINE = 128 };

typedef struct PushPart {
    char sha256[DIGEST_HEX];
    char etag[PUSH_MAX_ETAG]; /* the store has it; "": not yet */
    bool busy;
} PushPart;

typedef struct Push {
    HubRun run;
    const HubOpts *o;
    HubPushed *out;
    bool abort;
    const char *bucket, *key, *path; /* borrowed, of the present file */
    char *state;                     /* owned: PATH.push */
    IoMap map;                       /* owned: the file */
    uint64_t part;
    int n_parts;
    PushPart *parts; /* owned */
    char sha256[DIGEST_HEX];
    StrBuf upload; /* its id, escaped */
} Push;

/* ---- push.c ---- */
/* Ask for the present key; OK with any status. */
Status hub__push_ask(NetAnswer *out, Push *p, const char *method, const char *query, Slice body,
                     const char *const *headers, int n_headers, Err *e);
/* The error that an answer is. */
Status hub__push_refused(Push *p, const NetAnswer *a, Err *e);
/* Bytes of part i. */
Slice hub__push_part(const Push *p, int i);
/* BASE64 of the 32 bytes of a digest. */
void hub__push_base64(char out[PUSH_BASE64], const char *hex);

/* ---- push_parts.c: an upload in parts ---- */
/* Begin one; its id is in p->upload then. */
Status hub__push_create(Push *p, Err *e);
/* What the store has of p->upload; *alive: it knows that upload. */
Status hub__push_resume(Push *p, bool *alive, Err *e);
/* Send what is missing. */
Status hub__push_send(Push *p, Err *e);
/* Make the object of the parts. */
Status hub__push_complete(Push *p, Err *e);

#endif
