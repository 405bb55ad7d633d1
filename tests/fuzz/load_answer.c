/* SPDX-License-Identifier: Apache-2.0
 * Answers of a server, as a stream, whole or as a refusal: read in one piece and in many, with the same outcome. The
 * first byte says which. */
#include <stdlib.h>

#include "load/answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static LoadOne read_in(const char *p, size_t n, int kind, size_t step) {
    static const struct {
        int status;
        const char *type;
    } kinds[] = {{200, "text/event-stream"}, {200, "application/json"}, {503, "text/html"}};
    LoadAnswer a = {.done = false};
    uint64_t now = 1000;
    load_answer_start(&a, 1, 500, NULL);
    load_answer_head(&a, kinds[kind].status, slice_of(kinds[kind].type));
    Status st = OK;
    for (size_t at = 0; at < n && st == OK; at += step)
        st = load_answer_bytes(&a, now++, (Slice){p + at, MIN(step, n - at)}, NULL);
    load_answer_end(&a, now, st == OK ? LOAD_OK : LOAD_OTHER, "refused here");
    if (a.one.n_event > 0 && kind == 0 && (a.one.first < 1000 || a.one.last < a.one.first)) abort();
    load_answer_deinit(&a);
    return a.one;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
    if (n < 2) return 0;
    int kind = p[0] % 3;
    const char *text = (const char *)p + 1;
    LoadOne whole = read_in(text, n - 1, kind, n - 1);
    for (size_t step = 1; step < n - 1; step = 3 * step + 1) {
        LoadOne cut = read_in(text, n - 1, kind, step);
        if (cut.end != whole.end || cut.n_event != whole.n_event || cut.n_out != whole.n_out ||
            strcmp(cut.why, whole.why) != 0)
            abort();
    }
    return 0;
}
