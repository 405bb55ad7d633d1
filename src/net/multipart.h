/* SPDX-License-Identifier: Apache-2.0
 * multipart/form-data (RFC 7578, 2046): a form's fields and files out of a whole body.
 *
 *   body      = *preamble "--" boundary CRLF part *("\r\n--" boundary CRLF part) "\r\n--" boundary "--" ...
 *   part      = *(field CRLF) CRLF data        Content-Disposition: form-data; name="..."; filename="..."
 *   boundary  = 1 to 70 visible ASCII characters, from Content-Type
 *
 * Everything is borrowed from the body; nothing is decoded. Any thread. */
#ifndef INGOT_NET_MULTIPART_H
#define INGOT_NET_MULTIPART_H

#include "base/str.h"

enum { HTTP_MAX_PARTS = 16, HTTP_MAX_PART_HEAD = 4096 };

typedef struct HttpPart {
    Slice name, filename; /* filename.p NULL: there is none */
    Slice data;
} HttpPart;

/* Cut a body into its parts, *n of them, at most HTTP_MAX_PARTS. ERR_FORMAT says what is wrong, for the client. */
MUST_CHECK Status http_multipart(HttpPart parts[HTTP_MAX_PARTS], int *n, Slice content_type,
                                 Slice body, Err *e);

#endif
