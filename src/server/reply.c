/* SPDX-License-Identifier: Apache-2.0
 * Whole answers: JSON, and errors by the table of api/error.h. */
#include <math.h>

#include "base/log.h"
#include "server/internal.h"

Slice server__trim(Slice s) {
    while (s.n > 0 && strchr(" \t\r\n", s.p[0]) && s.p[0]) s.p++, s.n--;
    while (s.n > 0 && strchr(" \t\r\n", s.p[s.n - 1]) && s.p[s.n - 1]) s.n--;
    return s;
}

void server__reply_json(HttpReq *r, int status, StrBuf *b, const char *extra) {
    static const char oom[] = "{\"error\":\"out of memory\",\"detail\":\"out of memory\"}";
    Slice body = b->failed ? slice_of(oom) : (Slice){sb_str(b), b->n};
    http_reply(r, b->failed ? 503 : status, "application/json", extra, body);
    sb_deinit(b);
}

void server__reply_text(HttpReq *r, ApiShape shape, int status, const char *extra,
                        const char *text) {
    StrBuf b = {0};
    api_put_error(&b, shape, api_error_type(status), NULL, NULL, text);
    server__reply_json(r, status, &b, extra);
}

void server__reply_err(HttpReq *r, ApiShape shape, const ErrDetail *d, const Err *e) {
    const ApiErrorRow *row = api_error_row(e->code);
    double wait_s = d && d->retry_after_s > 0 ? d->retry_after_s : row->retry_after_s;
    bool own = d && d->retry_after_s > 0;
    StrBuf b = {0}, extra = {0};
    if (row->logged)
        log_error("%s (%s:%d, %s)", e->msg, e->file ? e->file : "?", e->line, err_name(e->code));
    if (wait_s > 0) sb_printf(&extra, "Retry-After: %.0f\r\n", ceil(wait_s));
    if (d && d->heads) sb_puts(&extra, d->heads);
    api_put_error(&b, shape, row->type, d && d->code ? d->code : row->code, d ? d->param : NULL,
                  row->general && !own ? row->general : e->msg);
    server__reply_json(r, shape == API_OPENAI ? row->http : row->http_plain, &b,
                       extra.failed ? NULL : sb_str(&extra));
    sb_deinit(&extra);
}
