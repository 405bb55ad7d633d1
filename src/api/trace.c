/* SPDX-License-Identifier: Apache-2.0 */
#include "api/trace.h"

#include <inttypes.h>
#include <stdio.h>

static bool read_hex(char *out, const char *p, size_t n) {
    bool zero = true;
    for (size_t i = 0; i < n; i++) {
        bool digit = p[i] >= '0' && p[i] <= '9', letter = p[i] >= 'a' && p[i] <= 'f';
        if (!digit && !letter) return false;
        zero = zero && p[i] == '0';
        out[i] = p[i];
    }
    out[n] = '\0';
    return !zero || n == 2;
}

/* version 00 is 55 bytes long; later ones may go on after a dash. */
static bool read(ApiTrace *t, Slice h) {
    char version[3], flags[3];
    if (h.n < 55 || h.p[2] != '-' || h.p[35] != '-' || h.p[52] != '-') return false;
    if (!read_hex(version, h.p, 2) || strcmp(version, "ff") == 0) return false;
    if (strcmp(version, "00") == 0 ? h.n != 55 : h.n > 55 && h.p[55] != '-') return false;
    if (!read_hex(t->trace, h.p + 3, 32) || !read_hex(t->parent, h.p + 36, 16)) return false;
    if (!read_hex(flags, h.p + 53, 2)) return false;
    t->sampled = (flags[1] <= '9' ? flags[1] - '0' : flags[1] - 'a' + 10) & 1;
    return true;
}

bool api_trace_read(ApiTrace *t, Slice header) {
    *t = (ApiTrace){0};
    if (read(t, header)) return true;
    *t = (ApiTrace){0};
    return false;
}

void api_trace_fill(ApiTrace *t, const uint64_t random[3]) {
    if (!t->trace[0])
        snprintf(t->trace, sizeof t->trace, "%016" PRIx64 "%016" PRIx64, random[0] | 1, random[1]);
    snprintf(t->span, sizeof t->span, "%016" PRIx64, random[2] | 1);
}

void api_trace_format(char out[API_TRACEPARENT], const ApiTrace *t) {
    snprintf(out, API_TRACEPARENT, "00-%s-%s-0%d", t->trace, t->span, t->sampled);
}
