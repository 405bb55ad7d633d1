/* SPDX-License-Identifier: Apache-2.0
 *
 * A pattern up to the first zero byte, then a text: both as foreign bytes. Matches must lie in order and
 * on code points.
 */
#include <stdlib.h>

#include "text/regex.h"
#include "text/utf8.h"

enum { MAX_PATTERN = 200, MAX_TEXT = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool on_code_point(Slice s, size_t at) {
    return at == s.n || ((uint8_t)s.p[at] & 0xc0) != 0x80;
}

static void find_all(const Regex *r, Slice s) {
    RegexScratch *sc = NULL;
    size_t b, e, from = 0;
    if (regex_scratch_new(&sc, r, NULL) != OK) abort();
    while (from <= s.n && regex_find(r, sc, s, from, &b, &e)) {
        if (b < from || e < b || e > s.n || !on_code_point(s, b) || !on_code_point(s, e)) abort();
        from = e > b ? e : e + 1;
        while (from < s.n && !on_code_point(s, from)) from++;
    }
    regex_scratch_free(sc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    Slice text = {zero ? (const char *)zero + 1 : "",
                  zero ? MIN(size - n - 1, (size_t)MAX_TEXT) : 0};
    Regex *r = NULL;
    Err e = {0};
    StrBuf pattern = {0}, clean = {0};
    if (n > MAX_PATTERN) return 0;
    sb_put(&pattern, data, n);
    utf8_put_clean(&clean, text);
    Status st = regex_new(&r, sb_str(&pattern), &e);
    if (st == OK) find_all(r, (Slice){sb_str(&clean), clean.n});
    if (st != OK && !e.msg[0]) abort();
    regex_free(r);
    sb_deinit(&pattern);
    sb_deinit(&clean);
    return 0;
}
