/* SPDX-License-Identifier: Apache-2.0
 * --lora [NAME=]FILE[:SCALE], for the commands that run a model. Without NAME an adapter has its file's, without
 * folder and .gguf; SCALE is 1. */
#ifndef INGOT_CLI_LORA_H
#define INGOT_CLI_LORA_H

#include "base/opt.h"
#include "engine/engine.h"

#define CLI_LORA_HELP "a LoRA adapter laid over the model, at SCALE (1) times its own strength"

typedef struct CliLora {
    char *path; /* owned */
    char name[ENGINE_ADAPTER_NAME];
    double scale;
    LoraInfo info; /* after cli_loras_plan */
} CliLora;

typedef struct CliLoras {
    CliLora *v; /* owned; [n] */
    int n;
} CliLoras;

/* ERR_ARG for no name, no file, a name twice. cli_loras_deinit is legal after a failure. */
MUST_CHECK Status cli_loras_parse(CliLoras *out, const OptList *words, Err *e);
void cli_loras_deinit(CliLoras *l);
/* Room for them in an engine's options; each file is held against the model. */
MUST_CHECK Status cli_loras_plan(EngineOpts *o, CliLoras *l, const ModelConfig *c, Err *e);
/* A file's name without folders and .gguf, cut to fit. */
void cli_lora_stem(char *out, size_t n, const char *path);
MUST_CHECK Status cli_loras_load(Engine *en, const CliLoras *l, Err *e);

#endif
