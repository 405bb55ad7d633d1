/* SPDX-License-Identifier: Apache-2.0
 * The pages for browsers and what they load, as they stand in the program: each file of the folder web/, and the parts
 * of npm packages that they use, compressed when the program was built (tools/pages writes the table). Nothing is
 * read from the disk when it runs. Constant: any thread. */
#ifndef INGOT_WEB_WEB_H
#define INGOT_WEB_WEB_H

#include "base/str.h"

typedef struct WebAsset {
    const char *path; /* as browsers ask for it: "/", "/dashboard", "/assets/base.css" */
    const char *type; /* Content-Type */
    const char *hash; /* 16 hexadecimal digits of the plain bytes' SHA-256 */
    const unsigned char *gz;
    size_t n_gz, n_plain; /* bytes as stored, as meant */
} WebAsset;

/* The asset of a path, or NULL. */
const WebAsset *web_find(Slice path);
/* Asset i, or NULL past the last one. */
const WebAsset *web_at(int i);
/* Append its plain bytes. ERR_NOMEM, ERR_FORMAT if the stored bytes are damaged. */
MUST_CHECK Status web_plain(StrBuf *out, const WebAsset *a, Err *e);

#endif
