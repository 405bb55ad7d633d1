/* SPDX-License-Identifier: Apache-2.0
 * What every command that runs a model opens: the processor, the weights, the tokenizer. */
#ifndef INGOT_CLI_MODEL_H
#define INGOT_CLI_MODEL_H

#include "engine/engine.h"
#include "model/model.h"
#include "token/token.h"

/* The row of --model-public-key, for a const char * at this offset; cli_parse puts it into cli_env, where
 * INGOT_MODEL_PUBLIC_KEY is otherwise. With a key, models and adapters that it did not sign are refused. */
#define CLI_MODEL_KEY_OPT(at)                                                             \
    {                                                                                     \
        .key = "model_public_key", .type = OPT_STR, .offset = (at), .metavar = "FILE",    \
        .help = "run nothing that was not signed with this key (ingot model sign); also " \
                "INGOT_MODEL_PUBLIC_KEY"                                                  \
    }

typedef struct CliModel {
    Device *dev; /* owned, but for a model beside another */
    bool is_beside;
    Model *m;       /* owned */
    Tokenizer *tok; /* owned */
} CliModel;

/* Messages name the file. o: n_threads as cli_threads gives it; cpu is filled in. cli_model_close is legal after
 * a failure. */
MUST_CHECK Status cli_model_open(CliModel *out, const char *path, DeviceOpts o, Err *e);
void cli_model_close(CliModel *m);
/* A model beside another, on the other's processor. */
MUST_CHECK Status cli_model_open_beside(CliModel *out, const CliModel *m, const char *path, Err *e);
/* Where a key is asked for, whether the file at path was signed with it (adapters). ERR_FORMAT, ERR_NOT_FOUND. */
MUST_CHECK Status cli_model_check_file(const char *path, Err *e);
/* Text from -p, or from the file (or "-", standard input) of -f, as tokens after the begin-of-text token
 * where the model has one. ERR_ARG for no text. */
MUST_CHECK Status cli_model_encode(TokBuf *out, const CliModel *m, Slice text, bool parse_special,
                                   Err *e);

/* What guesses the tokens that come next (engine/spec.c). */
typedef struct CliSpeculate {
    const char *how; /* NULL: nothing; "ngram", or a draft model's file */
    int64_t n_tok;
    CliModel draft; /* owned */
} CliSpeculate;

/* The rows of --speculate and --speculate-tokens, for fields at these offsets. */
#define CLI_SPECULATE_OPTS(how_at, n_tok_at)                                                     \
    {.key = "speculate",                                                                         \
     .type = OPT_STR,                                                                            \
     .offset = (how_at),                                                                         \
     .metavar = "ngram|FILE",                                                                    \
     .help = "guess tokens ahead, from what the text says earlier or with a small model of the " \
             "same vocabulary: the same answers, sooner where guesses are right"},               \
    {                                                                                            \
        .key = "speculate_tokens", .type = OPT_INT, .offset = (n_tok_at), .def = "8", .min = 1,  \
        .max = ENGINE_MAX_DRAFT, .help = "tokens guessed at a time, at most"                     \
    }

/* Into o, with the draft model loaded if there is one. */
MUST_CHECK Status cli_speculate(EngineOpts *o, CliSpeculate *s, const CliModel *m, Err *e);

#endif
