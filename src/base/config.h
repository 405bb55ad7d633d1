/* SPDX-License-Identifier: Apache-2.0
 * Environment variables, the only place that reads them:
 *   INGOT_CPU      ref | avx2 | avx512 | amx    highest kernel level to use
 *   INGOT_THREADS  N                            default of --threads
 *   INGOT_MODEL_PUBLIC_KEY  FILE               only models signed with this key are run
 *   INGOT_LOG      error | warn | info | debug  log level
 *   INGOT_FAULT    KIND:N                       make the N-th alloc or io call fail, or (kill) die
 *                                               at the N-th io call (tests)
 * and, by name, those that stand for options of a command (opt_load_env). */
#ifndef INGOT_BASE_CONFIG_H
#define INGOT_BASE_CONFIG_H

#include "base/err.h"

typedef struct ConfigEnv {
    const char *cpu;       /* NULL: not set */
    int threads;           /* 0: not set */
    const char *model_key; /* NULL: not set */
} ConfigEnv;

/* Read and validate all of them; a bad value is ERR_ARG naming the variable, its value and the choices.
 * Applies INGOT_LOG and INGOT_FAULT. Called once, by main. */
MUST_CHECK Status config_load_env(ConfigEnv *out, Err *e);
/* The value of a variable; NULL if it is not set, or empty. Borrowed from the environment. */
const char *config_get(const char *name);

#endif
