/* SPDX-License-Identifier: Apache-2.0 */
#include "api/error.h"

#include "text/json.h"

static const ApiErrorRow rows[STATUS_COUNT] = {
    [OK] = {500, 500, "server_error", NULL, 0, "internal error", true},
    [ERR_NOMEM] = {503, 503, "unavailable_error", NULL, 5, "out of memory, try again later", true},
    [ERR_IO] = {500, 500, "server_error", NULL, 0, "internal error", true},
    [ERR_FORMAT] = {400, 400, "invalid_request_error", NULL, 0, NULL, false},
    [ERR_ARG] = {400, 422, "invalid_request_error", NULL, 0, NULL, false},
    [ERR_NOT_FOUND] = {404, 404, "not_found_error", "model_not_found", 0, NULL, false},
    [ERR_FULL] = {429, 429, "rate_limit_error", "rate_limit_exceeded", 1,
                  "too many requests are waiting, try again later", false},
    [ERR_CANCELLED] = {503, 503, "unavailable_error", NULL, 5, "the server is stopping", false},
    [ERR_UNSUPPORTED] = {400, 501, "not_supported_error", NULL, 0, NULL, false},
    [ERR_TIMEOUT] = {504, 504, "timeout_error", NULL, 0, "inference timeout", false},
    [ERR_AUTH] = {401, 401, "authentication_error", "invalid_api_key", 0, NULL, false},
    [ERR_DENIED] = {403, 403, "permission_error", NULL, 0, NULL, false},
    [ERR_INTERNAL] = {500, 500, "server_error", NULL, 0, "internal error", true},
};

const ApiErrorRow *api_error_row(Status code) {
    return &rows[code < STATUS_COUNT ? code : ERR_INTERNAL];
}

const char *api_error_type(int http) {
    switch (http) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return http < 500 ? "invalid_request_error" : "server_error";
    }
}

static void put_or_null(JsonW *w, const char *key, const char *v) {
    if (v) jw_cstr(w, key, v);
    else jw_null(w, key);
}

void api_put_error(StrBuf *b, ApiShape shape, const char *type, const char *code, const char *param,
                   const char *message) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    if (shape == API_OPENAI) {
        jw_obj(&w, "error");
        jw_cstr(&w, "message", message);
        jw_cstr(&w, "type", type);
        put_or_null(&w, "param", param);
        put_or_null(&w, "code", code);
        jw_end_obj(&w);
    } else {
        jw_cstr(&w, "error", message);
        jw_cstr(&w, "detail", message);
        jw_cstr(&w, "type", type);
    }
    jw_end_obj(&w);
}
