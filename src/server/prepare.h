/* SPDX-License-Identifier: Apache-2.0
 * Inside server/: preparing a job. Everything here runs on the thread that prepares it. */
#ifndef INGOT_SERVER_PREPARE_H
#define INGOT_SERVER_PREPARE_H

#include "server/internal.h"

/* All of it: JSON, fields, the route's own part. The outcome is j->st and j->err. */
void server__prepare(Job *j);

/* How many prompts a "prompt" or "input" holds: a text, a list of texts, ids, a list of lists of ids. */
int server__n_prompts(const Json *v);
/* Tokens of the i-th, begin-of-text included where the model wants one and it is a text. */
MUST_CHECK Status server__prompt_at(TokBuf *out, const Tokenizer *t, const Json *v, int i,
                                    const char *what, Err *e);
/* Append a list of ids; ERR_ARG names the element. */
MUST_CHECK Status server__read_ids(TokBuf *out, const Json *list, const char *what, int32_t n_vocab,
                                   Err *e);
/* The error for a prompt that does not fit the context. */
Status server__no_room(Job *j, const char *what, int64_t n_prompt, int64_t max_new, Err *e);

/* Of which forms of answers, besides calls, a request asks for so many. */
int server__n_forms(const ApiRequest *q);
/* The grammar of an answer that has to be calls. ERR_FORMAT, ERR_NOMEM. */
MUST_CHECK Status server__tool_grammar(Grammar **out, Job *j, Err *e);

#endif
