/* SPDX-License-Identifier: Apache-2.0
 * Inside hub/: lists of files, one file being made, S3 requests, XML. One thread. */
#ifndef INGOT_HUB_INTERNAL_H
#define INGOT_HUB_INTERNAL_H

#include "base/arena.h"
#include "base/digest.h"
#include "hub/hub.h"
#include "net/client.h"

#define HUB_UNKNOWN UINT64_MAX           /* a size */
#define HUB_MAX_SIZE ((uint64_t)1 << 46) /* 64 TB: no model file is larger */
#define HUB_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
enum {
    HUB_SHA1_HEX = 40,
    HUB_SHA256_HEX = 64,
    HUB_MAX_NAME = 1024,
    HUB_MAX_LISTING = 64 << 20,
    HUB_MAX_FILES = 100000
};

/* ---- s3.c ---- */
typedef struct HubS3 {
    const char *key_id, *secret, *token; /* key_id NULL: requests are not signed */
    const char *region;
    const char *endpoint; /* NULL: Amazon's, by bucket and region */
} HubS3;
typedef struct HubS3Request {
    const char *method, *url;   /* url: made by hub__s3_url */
    const char *payload;        /* SHA-256 of the body, hexadecimal */
    const char *const *headers; /* "x-amz-...: value", lower case, signed too */
    int n_headers;
} HubS3Request;
/* Keys, region and endpoint of the environment, else of the files of AWS_PROFILE. */
Status hub__s3_init(HubS3 *s, const ConfigNet *env, Arena *a, Err *e);
/* "s3://BUCKET/KEY" in two; ERR_ARG. */
Status hub__s3_split(char **bucket, char **key, const char *text, Arena *a, Err *e);
/* URL of an object (key "": of the bucket), with a query whose names are in order and escaped; NULL: none. */
char *hub__s3_url(const HubS3 *s, const char *bucket, const char *key, const char *query, Arena *a);
/* A signing callback for NetRequest: ctx is a HubS3Call. */
typedef struct HubS3Call {
    const HubS3 *s3;
    HubS3Request rq;
} HubS3Call;
Status hub__s3_sign_call(void *ctx, StrBuf *lines, Err *e);
/* The request's own headers and those that sign it at unix time `now`, as lines. */
Status hub__s3_sign(StrBuf *lines, const HubS3 *s, const HubS3Request *r, int64_t now, Err *e);
/* What an error answer says: "Code: Message" into b, or nothing. */
void hub__s3_error(StrBuf *b, Slice xml);
/* Seconds since 1970. */
int64_t hub__s3_now(void);

/* ---- xml.c ---- */
/* fn is called where an element ends, with its path ("ListPartsResult/Part/ETag") and its text. ERR_FORMAT. */
Status hub__xml_walk(Slice text, Status (*fn)(void *ctx, const char *path, Slice value, Err *e),
                     void *ctx, Err *e);

/* ---- list.c ---- */
typedef struct HubFile { /* strings belong to the list's arena */
    const char *name;    /* below the folder, checked; of a single file: its last part */
    const char *path;    /* where it goes */
    const char *url;
    uint64_t size;                   /* HUB_UNKNOWN */
    char sha256[DIGEST_HEX];         /* "": not known */
    char git_sha1[HUB_SHA1_HEX + 1]; /* git's name of the content; "": not known */
    bool present;                    /* is there already, and is the same */
} HubFile;
typedef struct HubList {
    Arena arena;
    HubFile *v; /* owned */
    size_t n, cap;
    bool folder;
} HubList;
/* What both directions run on. */
typedef struct HubRun {
    const HubOpts *o;
    NetClient *net; /* owned */
    HubS3 s3;
    Arena arena;
    const char *endpoint;   /* of the Hugging Face hub, without / at the end */
    const char *token_line; /* "Authorization: Bearer ..."; NULL: none */
} HubRun;
Status hub__run_init(HubRun *r, const HubOpts *o, Err *e);
void hub__run_deinit(HubRun *r);
bool hub__stopped(const HubOpts *o);
Status hub__fail_stopped(Err *e);
void hub__note(const HubOpts *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Append a file; its name is checked: ERR_FORMAT for "../x", "/x", "a//b", control bytes, NAME.part. */
Status hub__list_add(HubList *l, Slice name, const char *url, uint64_t size, HubFile **out, Err *e);
void hub__list_deinit(HubList *l);
/* No two files that would be one. */
Status hub__list_check(HubList *l, Err *e);
/* Whether name matches one of n patterns (fnmatch, * crosses /). */
bool hub__matches(const char *name, const char *const *patterns, int n);

/* ---- hf.c, listing.c ---- */
/* Files of "OWNER/REPO[@REV][:FILE]" that are wanted. */
Status hub__hf_list(HubList *l, HubRun *r, const char *source, const HubPullOpts *o, Err *e);
/* Name of a folder for that source, in the arena of r. */
const char *hub__hf_folder(HubRun *r, const char *source);
/* Objects below s3://BUCKET/PREFIX/. */
Status hub__s3_list(HubList *l, HubRun *r, const char *source, const HubPullOpts *o, Err *e);

/* ---- part.c ---- */
/* One file being made: PATH.part, locked, and PATH.part.json. It is cut into pieces of equal size, each filled
 * from its start. */
typedef struct HubPart {
    char *path, *part, *state; /* owned */
    int fd;                    /* of the .part; -1: not open */
    uint64_t size;             /* HUB_UNKNOWN: not laid out; then there are no pieces */
    uint64_t piece;            /* bytes */
    size_t n_pieces;
    uint64_t *done;  /* owned: bytes of each piece that are there */
    uint64_t n_done; /* their sum */
    char etag[256];  /* strong, with its quotation marks; "": none */
    char modified[64];
    char sha256[DIGEST_HEX]; /* the file was expected to have; "": none */
    bool dirty;              /* something came since the state was written */
} HubPart;
/* Open or make it, take its lock (ERR_FULL: another process has it) and what its state says is there. */
Status hub__part_open(HubPart *p, const char *path, Err *e);
/* Nothing is there any more. */
Status hub__part_reset(HubPart *p, Err *e);
/* Set size and pieces; room on the disk is taken where the file system can. */
Status hub__part_layout(HubPart *p, uint64_t size, uint64_t piece, Err *e);
Status hub__part_write(HubPart *p, uint64_t at, const void *b, size_t n, Err *e);
Status hub__part_read(const HubPart *p, uint64_t at, void *b, size_t n, Err *e);
/* Bytes from the start without a gap. */
uint64_t hub__part_prefix(const HubPart *p);
uint64_t hub__part_piece_len(const HubPart *p, size_t i);
/* Bytes to the disk, then the state. */
Status hub__part_save(HubPart *p, Err *e);
/* Cut to n bytes, to the disk, under its name; modified: unix time for the file, 0: now. Closes p if OK. */
Status hub__part_finish(HubPart *p, uint64_t n, int64_t modified, Err *e);
/* Close; what is there stays. */
void hub__part_close(HubPart *p);
/* Remove .part and state, close. */
void hub__part_discard(HubPart *p);

/* ---- check.c ---- */
/* SHA-256, or git's SHA-1, of a file that is there; step NULL: no progress. */
Status hub__file_digest(char hex[DIGEST_HEX], const char *path, bool git, const HubOpts *o,
                        const char *step, Err *e);

/* Bytes free where `path` will be: on the file system of the nearest folder above it that exists. */
Status hub__disk_free(uint64_t *out, const char *path, Err *e);

/* ---- fetch.c ---- */
typedef struct HubFetch {
    HubRun *run;
    const HubPullOpts *o;
    HubList *list;
    bool s3;                    /* requests are signed */
    const char *const *secrets; /* for the origin of each URL */
    int n_secrets;
    HubPulled *out;
} HubFetch;
/* Get all files of the list that are not present. */
Status hub__fetch(HubFetch *f, Err *e);

/* ---- answer.c ---- */
/* What an answer that is not 2xx means, with hints: "HOST says 404: ..." */
Status hub__say_status(const HubRun *r, const char *what, const char *url, int status,
                       Slice message, Err *e);
/* Hints about proxies and endpoints for a call that found nobody. */
void hub__hint(const HubRun *r, Err *e, NetFault fault, const char *url);

#endif
