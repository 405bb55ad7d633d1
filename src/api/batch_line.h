/* SPDX-License-Identifier: Apache-2.0
 * Lines of offline batches, as OpenAI has them. One JSON object each:
 *
 *   in    {"custom_id", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
 *   out   {"id", "custom_id", "response": {"status_code", "request_id", "body"} or null, "error": null or {"code", "message"}}
 *
 * "id" is batch_req_N_H: N the number of the line of the input, from 1, H the first 16 hexadecimal digits of the SHA-256
 * of that line without its end. By it an output is known as that of an input, and what is done as done. Any thread. */
#ifndef INGOT_API_BATCH_LINE_H
#define INGOT_API_BATCH_LINE_H

#include "text/json.h"

enum {
    BATCHES_MAX_LINE = 8 << 20, /* bytes */
    BATCHES_MAX_CUSTOM = 512,   /* bytes of a custom_id */
    BATCHES_ID_BYTES = 64
};

/* Which lines are taken. */
typedef struct BatchRules {
    const char *endpoint;      /* every url is this one; NULL: any that `allows` does */
    bool (*allows)(Slice url); /* NULL: all */
} BatchRules;

/* A line to be run. Zeroed before the first use. */
typedef struct BatchTask {
    int64_t i_line;  /* from 0 */
    char *custom_id; /* owned; NULL: could not be read */
    char *url;       /* owned */
    StrBuf body;     /* owned; JSON on one line */
    int n_tries;     /* times it was given back as failed before */
} BatchTask;

/* What became of a line. */
typedef struct BatchAnswer {
    int status;             /* HTTP's; 0: it was not run, and code and message say why */
    const char *request_id; /* borrowed, all of it */
    Slice body;             /* JSON on one line */
    const char *code, *message;
} BatchAnswer;

/* Read a line. ERR_FORMAT, ERR_ARG with *code as OpenAI names it ("invalid_json_line"); what could be read of custom_id is in
 * *out also then. ERR_NOMEM with *code NULL. i_line is the caller's. */
MUST_CHECK Status batches_line_read(BatchTask *out, Slice text, const BatchRules *rules,
                                    const char **code, Err *e);
void batches_task_deinit(BatchTask *t);
/* The id of the answer to line i (from 0) with this text. ERR_INTERNAL. */
MUST_CHECK Status batches_line_id(char out[BATCHES_ID_BYTES], int64_t i_line, Slice text, Err *e);
/* The number of the line, from 0, in an id of that form; -1: it has another. */
int64_t batches_line_of(Slice id);
/* Append the answer's line with its end. ERR_NOMEM: nothing whole was appended. */
MUST_CHECK Status batches_line_put(StrBuf *b, const char *id, const char *custom_id,
                                   const BatchAnswer *a, Err *e);

#endif
