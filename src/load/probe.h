/* SPDX-License-Identifier: Apache-2.0
 * Before the load: is somebody there, which model has it, and how many tokens does it make of a word? One thread. */
#ifndef INGOT_LOAD_PROBE_H
#define INGOT_LOAD_PROBE_H

#include "load/run.h"

/* Name of the first model of the server's list, for a plan whose ask has none, appended to out; nothing where there
 * is no such list. */
void load_probe_model(StrBuf *out, NetClient *net, const LoadPlan *p);
/* Ask two prompts of different length and set per_word and overhead of *fit by the server's own counts, which are left
 * as they are where it does not count. An answer that is no answer is an error, with the server's words: a load with
 * the same request would be one of errors. ERR_IO, ERR_FORMAT, ERR_CANCELLED. */
MUST_CHECK Status load_probe_tokens(LoadPrompts *fit, NetClient *net, const LoadPlan *p, Err *e);

#endif
