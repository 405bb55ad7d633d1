/* SPDX-License-Identifier: Apache-2.0
 * Models from elsewhere and to elsewhere: files and folders of the Hugging Face hub, of https servers and of S3
 * stores are pulled, files and folders are pushed to S3.
 *
 *   hf:OWNER/REPO[@REV][:FILE]    FILE: a path, a pattern, or part of the name of a GGUF file ("Q4_K_M")
 *   https://HOST/PATH, http://...
 *   s3://BUCKET/KEY               a KEY that ends in / is a folder
 *
 * What the other side says is checked before it is believed: names, sizes, digests. A file appears under its name
 * whole or not at all; until then it is NAME.part, with NAME.part.json beside it that says what of it is there, and
 * the same call goes on from that, whatever ended the last one. One thread. */
#ifndef INGOT_HUB_HUB_H
#define INGOT_HUB_HUB_H

#include <stdatomic.h>

#include "base/config.h"
#include "base/sha.h"

enum { HUB_MAX_CONNECTIONS = 64 };

/* What both directions are told. Zero: the default in brackets; everything is borrowed. */
typedef struct HubOpts {
    const ConfigNet *env;   /* proxies, certificates, tokens, keys */
    const char *ca_file;    /* instead of env's */
    int connections;        /* [8] at a time, at most HUB_MAX_CONNECTIONS */
    int retries;            /* failures in a row, without progress, that are borne */
    int connect_timeout_ms; /* [15000] */
    int stall_timeout_ms;   /* [30000] */
    uint64_t piece_bytes;   /* [by the size] of one ranged request, of one part of an upload */
    /* Where the work is; total 0: not known. */
    void (*progress)(void *ctx, const char *step, uint64_t done, uint64_t total);
    /* One line that the user should see. */
    void (*note)(void *ctx, const char *line);
    void *ctx;
    const atomic_int *stop; /* set: save what there is and end with ERR_CANCELLED */
} HubOpts;

typedef struct HubPullOpts {
    HubOpts hub;
    const char *output; /* [the name of the source, here] file; folder if the source is one */
    const char *sha256; /* the one file has to have; 64 digits */
    const char *const *include, *const
                                    *exclude; /* patterns of names in a folder; "*" crosses "/" */
    int n_include, n_exclude;
    const char *const *headers; /* "Name: value" for https sources; not sent to other hosts */
    int n_headers;
    bool force; /* replace files that are there and differ */
    bool list;  /* only ask what would be pulled: `found` is called, nothing is written */
    void (*found)(void *ctx, const char *name, int64_t size,
                  const char *sha256); /* hub.ctx; size -1: not known */
} HubPullOpts;

typedef struct HubPulled {
    int n_files, n_present;  /* all; those that were there already */
    uint64_t bytes, fetched; /* of all files; that came over the network */
    int n_retries;
    char sha256[65];  /* of the one file; "" for a folder */
    char output[512]; /* file or folder; cut if longer */
} HubPulled;

/* ERR_ARG: a source or option that makes no sense; ERR_NOT_FOUND: not there; ERR_FULL: no room; ERR_FORMAT:
 * what came is not what was promised; ERR_CANCELLED; ERR_IO. */
MUST_CHECK Status hub_pull(HubPulled *out, const char *source, const HubPullOpts *o, Err *e);

typedef struct HubPushed {
    int n_files, n_present;
    uint64_t bytes, sent;
    int n_retries;
} HubPushed;

/* Send a file or a folder to s3://BUCKET/PREFIX. A file that is there with the same sha256 is left alone; an upload
 * that was broken off is continued (NAME.push beside the file remembers it), or given up with `abort`. */
MUST_CHECK Status hub_push(HubPushed *out, const char *path, const char *target, bool abort,
                           const HubOpts *o, Err *e);

#endif
