/* SPDX-License-Identifier: Apache-2.0
 * Finding assets, and their plain bytes for clients that do not take gzip. */
#include "web/web.h"

#define ZLIB_CONST
#include <zlib.h>

#include "web/internal.h"

enum { GZIP_ONLY = 16 + MAX_WBITS, CHUNK = 16 << 10 };

const WebAsset *web_at(int i) { return i >= 0 && i < web__n_assets ? &web__assets[i] : NULL; }

const WebAsset *web_find(Slice path) {
    for (int i = 0; i < web__n_assets; i++) {
        if (slice_eq_str(path, web__assets[i].path)) return &web__assets[i];
    }
    return NULL;
}

static Status inflate_all(StrBuf *out, z_stream *z, const WebAsset *a, Err *e) {
    unsigned char part[CHUNK];
    size_t n = 0;
    int rc = Z_OK;
    while (rc == Z_OK) {
        z->next_out = part;
        z->avail_out = sizeof part;
        rc = inflate(z, Z_NO_FLUSH);
        n += sizeof part - z->avail_out;
        sb_put(out, part, sizeof part - z->avail_out);
    }
    if (rc == Z_MEM_ERROR) return err_set(e, ERR_NOMEM, "%s", a->path);
    if (rc != Z_STREAM_END || n != a->n_plain)
        return err_set(e, ERR_FORMAT, "%s: %zu bytes of it, want %zu", a->path, n, a->n_plain);
    return sb_check(out, e);
}

Status web_plain(StrBuf *out, const WebAsset *a, Err *e) {
    z_stream z = {.next_in = a->gz, .avail_in = (uInt)a->n_gz};
    if (inflateInit2(&z, GZIP_ONLY) != Z_OK) return err_set(e, ERR_NOMEM, "%s", a->path);
    Status st = inflate_all(out, &z, a, e);
    inflateEnd(&z);
    return st;
}
