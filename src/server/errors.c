/* SPDX-License-Identifier: Apache-2.0
 * The one table from Status to HTTP: code, class, and the text that replaces messages of the inside. */
#include "base/log.h"
#include "server/internal.h"

typedef struct ErrorRow {
    int http;
    const char *type;
    const char *extra;   /* header lines or NULL */
    const char *general; /* sent instead of the message; NULL: the message is sent */
    bool logged;         /* the message is for the operator */
} ErrorRow;

static const ErrorRow rows[STATUS_COUNT] = {
    [OK] = {500, "server_error", NULL, "internal error", true},
    [ERR_NOMEM] = {503, "unavailable_error", "Retry-After: 5\r\n", "out of memory, try again later",
                   true},
    [ERR_IO] = {500, "server_error", NULL, "internal error", true},
    [ERR_FORMAT] = {400, "invalid_request_error", NULL, NULL, false},
    [ERR_ARG] = {422, "invalid_request_error", NULL, NULL, false},
    [ERR_NOT_FOUND] = {404, "not_found_error", NULL, NULL, false},
    [ERR_FULL] = {429, "rate_limit_error", "Retry-After: 1\r\n",
                  "too many requests are waiting, try again later", false},
    [ERR_CANCELLED] = {503, "unavailable_error", "Retry-After: 5\r\n", "the server is stopping",
                       false},
    [ERR_UNSUPPORTED] = {501, "not_supported_error", NULL, NULL, false},
    [ERR_TIMEOUT] = {504, "timeout_error", NULL, "inference timeout", false},
    [ERR_INTERNAL] = {500, "server_error", NULL, "internal error", true},
    [ERR_AUTH] = {401, "authentication_error", "WWW-Authenticate: Bearer\r\n", NULL, false},
    [ERR_DENIED] = {403, "permission_error", NULL, NULL, false},
};

void server__reply_json(HttpReq *r, int status, StrBuf *b) {
    static const char oom[] = "{\"error\":\"out of memory\",\"detail\":\"out of memory\"}";
    Slice body = b->failed ? slice_of(oom) : (Slice){sb_str(b), b->n};
    http_reply(r, b->failed ? 503 : status, "application/json", NULL, body);
    sb_deinit(b);
}

void server__reply_text(HttpReq *r, int status, const char *type, const char *extra,
                        const char *text) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "error", text);
    jw_cstr(&w, "detail", text);
    jw_cstr(&w, "type", type);
    jw_end_obj(&w);
    http_reply(r, status, "application/json", extra, (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
}

void server__reply_err(HttpReq *r, const Err *e) {
    const ErrorRow *row = &rows[e->code < STATUS_COUNT ? e->code : ERR_INTERNAL];
    if (row->logged) {
        log_error("%s (%s:%d, %s)", e->msg, e->file ? e->file : "?", e->line, err_name(e->code));
    }
    server__reply_text(r, row->http, row->type, row->extra, row->general ? row->general : e->msg);
}
