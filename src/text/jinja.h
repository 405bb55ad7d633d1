/* SPDX-License-Identifier: Apache-2.0
 * Chat templates: the part of Jinja that templates of language models use, with Python's semantics where they show,
 * set up as Transformers does (trim_blocks, lstrip_blocks, loop controls, its tojson, immutable values). A template
 * is foreign code: steps, depth, memory and output are bounded. A Jinja is immutable: any thread may render it. */
#ifndef INGOT_TEXT_JINJA_H
#define INGOT_TEXT_JINJA_H

#include "text/json.h"

typedef struct Jinja Jinja;

/* A variable: a JSON value, or a text where json is NULL. All borrowed. */
typedef struct JinjaVar {
    const char *name;
    const Json *json;
    Slice text;
} JinjaVar;

/* Characters [begin, end) of the output that stand in {% generation %}, as Transformers counts them: within a macro or
 * anything else whose text is captured first, begin is where the output stood as that was begun. In the order in
 * which the blocks end. */
typedef struct JinjaSpan {
    size_t begin, end;
} JinjaSpan;

typedef struct JinjaSpans {
    JinjaSpan *v; /* owned */
    size_t n, cap;
} JinjaSpans;

/* Zero: the default in brackets. */
typedef struct JinjaOpts {
    int64_t now_s;      /* seconds since 1970 for strftime_now; 0: the clock */
    uint64_t max_steps; /* [20,000,000] nodes evaluated, and bytes looked at by the hundred */
    size_t max_out;     /* [64 MB] bytes written, captured ones included */
    size_t max_mem;     /* [256 MB] bytes of values */
} JinjaOpts;

/* source is copied. ERR_FORMAT begins with "line L, column C: ". */
MUST_CHECK Status jinja_parse(Jinja **out, Slice source, Err *e);
void jinja_free(Jinja *t);
/* Append the rendered text; spans may be NULL. ERR_FORMAT as above (raise_exception too), ERR_FULL for a limit,
 * ERR_NOMEM. On failure out and spans are as they were. */
MUST_CHECK Status jinja_render(StrBuf *out, JinjaSpans *spans, const Jinja *t, const JinjaVar *vars,
                               int n_vars, const JinjaOpts *o, Err *e);
/* Leaves s zeroed. */
void jinja_spans_deinit(JinjaSpans *s);

#endif
