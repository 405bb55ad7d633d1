/* SPDX-License-Identifier: Apache-2.0
 * Errors as clients see them: the one table from Status to HTTP, and the two shapes of a body.
 *
 *   OpenAI's routes   {"error": {"message", "type", "param", "code"}}
 *   the others        {"error": text, "detail": text, "type": class}
 *
 * Messages of ERR_ARG and the like are written for the client; what speaks of the inside is logged, and a general
 * text sent instead. */
#ifndef INGOT_API_ERROR_H
#define INGOT_API_ERROR_H

#include "base/str.h"

typedef enum ApiShape { API_OPENAI, API_PLAIN } ApiShape;

typedef struct ApiErrorRow {
    int http;            /* on OpenAI's routes */
    int http_plain;      /* on the others */
    const char *type;    /* class: "invalid_request_error" */
    const char *code;    /* OpenAI's short code, or NULL */
    int retry_after_s;   /* 0: no Retry-After */
    const char *general; /* sent instead of the message; NULL: the message is sent */
    bool logged;         /* the message is for the operator */
} ApiErrorRow;

/* The row of a Status; that of ERR_INTERNAL for what is none. */
const ApiErrorRow *api_error_row(Status code);
/* Class of an HTTP status that no Status stands for: 404, 405, 401. */
const char *api_error_type(int http);
/* Append a body. param and code may be NULL. */
void api_put_error(StrBuf *b, ApiShape shape, const char *type, const char *code, const char *param,
                   const char *message);

#endif
