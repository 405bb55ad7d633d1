/* SPDX-License-Identifier: Apache-2.0
 * What every command that runs a model opens: the processor, the weights, the tokenizer. */
#ifndef INGOT_CLI_MODEL_H
#define INGOT_CLI_MODEL_H

#include "model/model.h"
#include "token/token.h"

typedef struct CliModel {
    Device *dev;    /* owned */
    Model *m;       /* owned */
    Tokenizer *tok; /* owned */
} CliModel;

/* Messages name the file. o: n_threads as cli_threads gives it; cpu is filled in. cli_model_close is legal after
 * a failure. */
MUST_CHECK Status cli_model_open(CliModel *out, const char *path, DeviceOpts o, Err *e);
void cli_model_close(CliModel *m);
/* Text from -p, or from the file (or "-", standard input) of -f, as tokens after the begin-of-text token
 * where the model has one. ERR_ARG for no text. */
MUST_CHECK Status cli_model_encode(TokBuf *out, const CliModel *m, Slice text, bool parse_special,
                                   Err *e);

#endif
