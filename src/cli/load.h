/* SPDX-License-Identifier: Apache-2.0
 * What the files of `ingot load` share. */
#ifndef INGOT_CLI_LOAD_H
#define INGOT_CLI_LOAD_H

#include "cli/cli.h"
#include "load/out.h"
#include "load/run.h"

typedef struct LoadCmd {
    const char *route, *model, *pattern, *prompts, *prompt_tokens, *max_tokens, *body;
    const char *api_key, *cacert, *slo, *sweep, *log, *report;
    OptList headers;
    double rate, rate_end, ramp, duration, temperature, timeout, connect_timeout, give_up,
        slo_share;
    int64_t burst, concurrency, requests, warmup, prefix_tokens, prefixes, seed, max_in_flight;
    bool stream, ignore_eos, insecure, probe, json, quiet;
} LoadCmd;

extern const CliSpec cli_load_spec;

/* One point for people, on standard output. */
void cli_load_print_point(const LoadPoint *p);
/* All points of a sweep in a table, and which rate is the highest within the limits. best: its index or -1. */
void cli_load_print_sweep(const LoadPoint *p, int n, int best);
/* The rest of a bar's line while a point runs. */
const char *cli_load_print_now(char buf[160], const LoadNow *n);

#endif
