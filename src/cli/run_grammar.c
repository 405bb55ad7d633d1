/* SPDX-License-Identifier: Apache-2.0
 * The grammar that `ingot run` holds an answer to, from its options. */
#include "base/io.h"
#include "cli/run.h"
#include "engine/grammar/grammar.h"

enum { MAX_GRAMMAR = 1 << 20 };

typedef Status (*CompileFn)(Grammar **out, Slice text, const GrammarLimits *limits, Err *e);

static Status from_file(Grammar **out, const char *path, CompileFn compile, Err *e) {
    StrBuf text = {0};
    Status st = io_read_file(&text, path, MAX_GRAMMAR, e);
    if (st == OK) {
        st = compile(out, (Slice){sb_str(&text), text.n}, NULL, e);
        if (st != OK) err_in(e, path);
    }
    sb_deinit(&text);
    return st;
}

Status cli_run_grammar(Grammar **out, const RunGrammar *g, Err *e) {
    *out = NULL;
    if ((g->schema != NULL) + (g->gbnf != NULL) + (g->regex != NULL) > 1)
        return err_set(e, ERR_ARG,
                       "--schema, --grammar and --regex are three ways to say one thing: give one");
    if (g->schema) return from_file(out, g->schema, grammar_from_schema, e);
    if (g->gbnf) return from_file(out, g->gbnf, grammar_from_gbnf, e);
    if (!g->regex) return OK;
    Status st = grammar_from_regex(out, slice_of(g->regex), NULL, e);
    if (st != OK) err_in(e, "--regex");
    return st;
}
