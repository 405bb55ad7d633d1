/* SPDX-License-Identifier: Apache-2.0 */
#include "load/sse.h"

void load_sse_deinit(LoadSse *s) {
    sb_deinit(&s->line);
    sb_deinit(&s->data);
}

void load_sse_clear(LoadSse *s) {
    sb_clear(&s->line);
    sb_clear(&s->data);
    s->any = s->after_cr = false;
}

/* A line that is whole: of interest if it is data. */
static void take_line(LoadSse *s, Slice line) {
    if (line.n < 4 || memcmp(line.p, "data", 4) != 0) return;
    size_t from = 4;
    if (line.n > 4 && line.p[4] != ':') return;
    if (line.n > 4) from = line.n > 5 && line.p[5] == ' ' ? 6 : 5;
    if (s->any) sb_putc(&s->data, '\n');
    sb_put(&s->data, line.p + from, line.n - from);
    s->any = true;
}

static Status end_line(LoadSse *s, Slice tail, Status (*take)(void *, Slice, Err *), void *ctx,
                       Err *e) {
    Slice line = tail;
    Status st = OK;
    if (s->line.n > 0) {
        sb_put(&s->line, tail.p, tail.n);
        line = (Slice){s->line.p, s->line.n};
    }
    if (line.n > 0) take_line(s, line);
    else if (s->any) {
        st = sb_check(&s->data, e);
        if (st == OK) st = take(ctx, (Slice){sb_str(&s->data), s->data.n}, e);
        sb_clear(&s->data);
        s->any = false;
    }
    if (s->line.failed && st == OK) st = sb_check(&s->line, e);
    sb_clear(&s->line);
    return st;
}

Status load_sse_feed(LoadSse *s, Slice in, Status (*take)(void *ctx, Slice data, Err *e), void *ctx,
                     Err *e) {
    size_t at = 0;
    for (size_t i = 0; i < in.n; i++) {
        char c = in.p[i];
        bool skip = c == '\n' && s->after_cr;
        if (c != '\n' && c != '\r') {
            s->after_cr = false;
            continue;
        }
        s->after_cr = c == '\r';
        if (!skip) TRY(end_line(s, (Slice){in.p + at, i - at}, take, ctx, e));
        at = i + 1;
    }
    sb_put(&s->line, in.p + at, in.n - at);
    if (s->line.n + s->data.n > LOAD_MAX_EVENT)
        return err_set(e, ERR_FULL, "an event has over %d bytes", LOAD_MAX_EVENT);
    return sb_check(&s->line, e);
}

bool load_sse_pending(const LoadSse *s) { return s->any || s->line.n > 0; }
