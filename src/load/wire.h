/* SPDX-License-Identifier: Apache-2.0
 * What is asked on each route, and what stands in the answers: OpenAI's two, and the short ones. Any thread. */
#ifndef INGOT_LOAD_WIRE_H
#define INGOT_LOAD_WIRE_H

#include "base/str.h"

typedef enum LoadShape { LOAD_CHAT, LOAD_TEXT, LOAD_SHORT, LOAD_CODE } LoadShape;

typedef struct LoadRoute {
    const char *name, *path;
    LoadShape shape;
} LoadRoute;

/* LOAD_ROUTES: the names, with | between. */
#define LOAD_ROUTES "chat|completions|inference|api-inference|complete|generate|v1-generate"
/* By its name, or NULL. */
const LoadRoute *load_route(const char *name);
/* The whole URL to ask, appended to out: base as it is if it ends in the path of a route, which is then *r; else base
 * and the path of *r. */
void load_route_url(StrBuf *out, const LoadRoute **r, const char *base);

/* One request. Empty or negative: left out. */
typedef struct LoadAsk {
    const LoadRoute *route;
    const char *model;
    Slice prompt;   /* a text */
    Slice messages; /* a JSON array instead of it, for chat */
    int max_tokens;
    bool stream, ignore_eos;
    double temperature;
    Slice extra; /* JSON members to add: "\"a\": 1" */
    unsigned
        own; /* a bit for each member that extra has instead of the generated one; load_ask_extra */
} LoadAsk;

/* Members of an object for extra, instead of generated ones where they have the same name. Their text is put into
 * keep, which has to outlive a. ERR_ARG: no object, or a member that every request has its own of (its text, stream). */
MUST_CHECK Status load_ask_extra(LoadAsk *a, StrBuf *keep, const char *json, Err *e);

/* The body, appended. */
void load_put_body(StrBuf *b, const LoadAsk *a);

/* What one event, or a whole answer, says. */
typedef struct LoadSaid {
    bool text;               /* generated text is in it */
    bool last;               /* the stream's own summary */
    int64_t n_prompt, n_out; /* tokens, by the server's count; -1: not said */
    bool error;
    char why[160]; /* with error */
} LoadSaid;

/* Read an event's data or a whole body. ERR_FORMAT: no JSON object. */
MUST_CHECK Status load_read_said(LoadSaid *out, Slice json, Err *e);

#endif
