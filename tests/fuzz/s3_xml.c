/* SPDX-License-Identifier: Apache-2.0
 * What an S3 store answers: any bytes are read to their end or refused with words. */
#include <stdlib.h>

#include "hub/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Status count(void *ctx, const char *path, Slice value, Err *e) {
    size_t *n = ctx;
    (void)e;
    *n += strlen(path) + value.n;
    return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Slice text = {(const char *)data, size};
    StrBuf b = {0};
    Err e = {0};
    size_t n = 0;
    if (hub__xml_walk(text, count, &n, &e) != OK && !e.msg[0]) abort();
    hub__s3_error(&b, text);
    sb_deinit(&b);
    return 0;
}
