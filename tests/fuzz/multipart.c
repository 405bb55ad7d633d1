/* SPDX-License-Identifier: Apache-2.0
 *
 * A Content-Type on the first line, a body behind it: parts lie in the body, one behind the other.
 */
#include <stdlib.h>

#include "net/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void in_order(const char *from, Slice s, const char *end) {
    if (s.p < from || s.p + s.n > end) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    HttpPart parts[HTTP_MAX_PARTS];
    int n = 0;
    const char *p = (const char *)data, *end = p + size;
    const char *nl = size > 0 ? memchr(p, '\n', size) : NULL;
    if (!nl) return 0;
    Slice type = {p, (size_t)(nl - p)}, body = {nl + 1, (size_t)(end - nl - 1)};
    if (http_multipart(parts, &n, type, body, NULL) != OK) return 0;
    const char *at = body.p;
    for (int i = 0; i < n; i++) {
        in_order(at, parts[i].name, end);
        if (parts[i].filename.p) in_order(at, parts[i].filename, end);
        in_order(parts[i].name.p, parts[i].data, end);
        at = parts[i].data.p + parts[i].data.n;
    }
    return 0;
}
