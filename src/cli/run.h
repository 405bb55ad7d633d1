/* SPDX-License-Identifier: Apache-2.0
 * Between the parts of `ingot run`: cmd_run.c has the options and opens the session, run_generate.c makes and shows one
 * answer, run_lines.c reads lines, run_chat.c keeps a conversation, run_grammar.c what answers are held to. What they
 * share is in run_session.h; the editor of lines has names of its own that clash with it. Main thread. */
#ifndef INGOT_CLI_RUN_H
#define INGOT_CLI_RUN_H

#include "base/str.h"

typedef struct Grammar Grammar;

/* What an answer has to keep to: at most one of a JSON Schema's file, a GBNF grammar's file and a regular
 * expression. */
typedef struct RunGrammar {
    const char *schema, *gbnf, *regex;
} RunGrammar;

typedef struct RunSession RunSession;

/* Compile it; NULL where none is asked for. Messages name the file or the option. */
MUST_CHECK Status cli_run_grammar(Grammar **out, const RunGrammar *g, Err *e);

/* Continue a text and show it as it comes; errors are printed. Returns an exit code. */
int cli_run_generate(RunSession *r, Slice text);
/* Lines from standard input until it ends, each a prompt or a message. Returns an exit code. */
int cli_run_lines(RunSession *r);
/* True once after Ctrl-C. */
bool cli_run_interrupted(void);

/* Whether lines are messages of a conversation. */
bool cli_chat_on(const RunSession *r);
/* Whether the next line goes on with the message of this one. */
bool cli_chat_more(const RunSession *r);
/* What can be typed, for people. */
const char *cli_chat_help(void);
/* A line of the conversation: a message, or a command. False when it was the last. */
bool cli_chat_line(RunSession *r, Slice line, int *rc);
/* Send a message, show the answer and keep both. Returns an exit code; after a failure neither is kept. */
int cli_chat_say(RunSession *r, Slice text);

#endif
