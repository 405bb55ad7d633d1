/* SPDX-License-Identifier: Apache-2.0
 * The options of `ingot serve`. */
#ifndef INGOT_CLI_SERVE_H
#define INGOT_CLI_SERVE_H

#include "cli/cli.h"

typedef struct ServeCmd {
    const char *model, *host, *kv, *kv_memory, *log_level, *log_format, *model_name, *title;
    const char *model_key, *preset, *config, *chat_template;
    int64_t port, threads, max_seqs, max_queue, max_connections, ctx, chunk;
    int64_t itl_target, max_total, max_prompt, prep_threads;
    /* accepted because other servers have them */
    bool enable_prefix_caching, enable_chunked_prefill, enable_lora, auto_tools, metrics,
        trust_remote_code, disable_log_requests, check_config, cont_batching;
    const char *swap_space, *quantization, *dtype, *tool_parser, *reasoning_parser,
        *generation_config;
    bool batch_invariant, no_pack;
    double utilization, timeout, grace;
    OptList lora, api_keys, cors;
    const char *otlp, *webhook, *state_dir, *tls_cert, *tls_key, *model_version;
    int64_t max_per_address;
    const char *max_file;
    bool no_auth, log_resources;
    const char *speculate;
    int64_t speculate_tokens;
} ServeCmd;

extern const CliSpec cli_serve_spec;
/* After parsing: the preset's values where nothing else was given, what cannot be accepted refused, what is without
 * effect said in one line each on standard error. ERR_ARG. */
MUST_CHECK Status cli_serve_settle(ServeCmd *c, CliArgs *a, Err *e);
/* Print the configuration as it stands, as YAML. */
int cli_serve_print(const CliArgs *a);

#endif
