/* SPDX-License-Identifier: Apache-2.0
 * Inside net/: one request from bytes, without sockets. http-parser knows the grammar; before it sees a
 * byte, the head and the chunk framing pass our own scan, because the library (as Debian builds it) takes
 * blanks in names, bare line feeds and any two bytes as the end of a chunk.
 *
 * PARSE_HEAD -[empty line, head accepted]-> PARSE_BODY -[last byte]-> PARSE_DONE
 *      any -[http__parse_fail]-> PARSE_FAILED (status and why say what to answer; the connection is lost)
 *
 *   head   = request-line CRLF *(field CRLF) CRLF      one CRLF in front of it is skipped
 *   chunk  = 1*16HEXDIG [";" ext] CRLF data CRLF       last chunk is 0, then *(trailer CRLF) CRLF */
#ifndef INGOT_NET_HTTP_PARSE_H
#define INGOT_NET_HTTP_PARSE_H

#include <http_parser.h>

#include "base/str.h"

enum {
    HTTP_MAX_FIELDS = 100,
    HTTP_MAX_METHOD = 24,
    HTTP_MAX_CHUNK_EXTRA = 4096 /* extension and trailer bytes of one request */
};

typedef enum ParseState { PARSE_HEAD, PARSE_BODY, PARSE_DONE, PARSE_FAILED } ParseState;

typedef struct HttpField {
    Slice name, value; /* borrowed from the head */
} HttpField;

typedef enum ChunkState {
    CHUNK_SIZE,
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LINE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_END,
    CHUNK_BAD
} ChunkState;

typedef struct ChunkScan {
    ChunkState state;
    uint64_t left;  /* data bytes of this chunk still to come */
    int n_digits;   /* of the size */
    size_t n_extra; /* extension and trailer bytes so far */
} ChunkScan;

typedef struct HttpParse {
    size_t max_head, max_body;
    size_t (*body_limit)(
        struct HttpParse *p);    /* asked once the head is split; 0: max_body. May be NULL */
    size_t max_line, max_target; /* of one header line, of the target; 0: no limit of their own */
    ParseState state;
    int status;      /* PARSE_FAILED: the answer; PARSE_HEAD, PARSE_BODY: 0 */
    const char *why; /* PARSE_FAILED: static text for the client */

    /* scan of the head */
    StrBuf head;   /* owned: the head as received, with all line ends */
    size_t n_line; /* bytes of the line being read */
    int n_lines;   /* whole lines read */
    bool saw_cr;   /* the last byte was CR */
    bool skipped;  /* one empty line in front was skipped */

    /* the accepted head */
    Slice method, target, query; /* borrowed from head */
    int version;                 /* 10 or 11 */
    HttpField fields[HTTP_MAX_FIELDS];
    int n_fields;
    StrBuf path; /* owned, percent-decoded */
    bool keep_alive;
    bool wants_continue; /* Expect: 100-continue and not a byte of the body yet */
    bool chunked;

    StrBuf body; /* owned */
    ChunkScan chunk;
    http_parser hp;
} HttpParse;

/* Ready for a first request; nothing is allocated. max_line and max_target may be set then; a reset keeps them. */
void http__parse_init(HttpParse *p, size_t max_head, size_t max_body);
void http__parse_deinit(HttpParse *p);
/* Forget the request, keep small buffers. */
void http__parse_reset(HttpParse *p);
/* Take bytes of one request; returns how many were used. Stops at PARSE_DONE and PARSE_FAILED. */
size_t http__parse_feed(HttpParse *p, const char *d, size_t n);
/* True when no byte of a request was taken yet (an empty line in front does not count). */
bool http__parse_is_fresh(const HttpParse *p);
Slice http__parse_header(const HttpParse *p, const char *name);
/* Into PARSE_FAILED with this answer; the first failure stays. Always false, for `return`. */
bool http__parse_fail(HttpParse *p, int status, const char *why);

/* One byte of the head: false once the head is whole or refused. (http_head.c) */
bool http__head_byte(HttpParse *p, char ch);
/* Split and judge a whole head: request line, fields, framing, target. (http_head.c) */
bool http__head_check(HttpParse *p);

/* Bytes of d that are well-framed, up to the end of the body or the first bad byte. (http_chunk.c) */
size_t http__chunk_scan(ChunkScan *c, const char *d, size_t n);

#endif
