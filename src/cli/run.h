/* SPDX-License-Identifier: Apache-2.0
 * Between the two halves of `ingot run`: cmd_run.c generates, run_lines.c reads prompts. Main thread. */
#ifndef INGOT_CLI_RUN_H
#define INGOT_CLI_RUN_H

#include "base/str.h"
typedef struct Grammar Grammar;

typedef struct RunSession RunSession;

/* What an answer has to keep to: at most one of a JSON Schema's file, a GBNF grammar's file and a regular
 * expression. */
typedef struct RunGrammar {
    const char *schema, *gbnf, *regex;
} RunGrammar;

/* Compile it; NULL where none is asked for. Messages name the file or the option. */
MUST_CHECK Status cli_run_grammar(Grammar **out, const RunGrammar *g, Err *e);

/* Continue a text and show it as it comes; errors are printed. Returns an exit code. */
int cli_run_generate(RunSession *r, Slice text);
/* Prompts from standard input, one a line, until it ends. Returns an exit code. */
int cli_run_lines(RunSession *r);
/* True once after Ctrl-C. */
bool cli_run_interrupted(void);

#endif
