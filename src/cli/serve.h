/* SPDX-License-Identifier: Apache-2.0
 * The options of `ingot serve`. */
#ifndef INGOT_CLI_SERVE_H
#define INGOT_CLI_SERVE_H

#include "base/confine.h"
#include "base/log.h"
#include "cli/cli.h"
#include "server/server.h"

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
    double utilization, timeout, grace, cost_per_hour;
    OptList lora, api_keys, cors, proxies;
    const char *otlp, *webhook, *state_dir, *tls_cert, *tls_key, *model_version;
    int64_t max_per_address, hsts;
    const char *max_file;
    bool no_auth, log_resources, sandbox;
    const char *user, *log_file, *rate_limit, *token_rate_limit, *max_body, *body_memory;
    const char *speculate;
    int64_t speculate_tokens;
} ServeCmd;

extern const CliSpec cli_serve_spec;
/* After parsing: the preset's values where nothing else was given, what cannot be accepted refused, what is without
 * effect said in one line each on standard error unless quiet. ERR_ARG. */
MUST_CHECK Status cli_serve_settle(ServeCmd *c, CliArgs *a, bool quiet, Err *e);
/* Print the configuration as it stands, as YAML. */
int cli_serve_print(const CliArgs *a);

/* ---- serve_reload.c ---- */
/* What a reload may change, from the options. ERR_ARG. */
MUST_CHECK Status cli_serve_live(ServerLive *out, const ServeCmd *c, Err *e);
LogLevel cli_serve_level(const ServeCmd *c);
/* Keys given in words or variables; *list is the caller's, its strings borrowed. ERR_NOMEM. */
MUST_CHECK Status cli_serve_plain(KeysConfig *out, const char ***list, const ServeCmd *c, Err *e);
/* Reads the options again: first as they were, argv as they were given; all borrowed. ERR_NOMEM. */
typedef struct ServeReload ServeReload;
MUST_CHECK Status cli_serve_reload_new(ServeReload **out, const OptSet *first, int argc,
                                       char **argv, Err *e);
void cli_serve_reload_free(ServeReload *r);
/* The two halves of a reload, as ServerConfig has them. ERR_ARG, and what reading files returns. */
MUST_CHECK Status cli_serve_reload_begin(ServeReload *r, ServerLive *l, Err *e);
void cli_serve_reload_end(ServeReload *r, const Err *e);

/* ---- serve_confine.c ---- */
typedef struct ServeConfine {
    ConfineUser user;
    StrBuf state, logs; /* owned; folders that are written to; empty: none */
    StrBuf said;        /* owned; what holds, a line */
    bool is_root;
} ServeConfine;
/* As root still: who to become, and his folder. ERR_NOT_FOUND, ERR_ARG, ERR_DENIED, ERR_IO. */
MUST_CHECK Status cli_serve_confine_begin(ServeConfine *s, const ServeCmd *c, Err *e);
/* Give rights up; what holds is in s->said. ERR_DENIED, ERR_IO. */
MUST_CHECK Status cli_serve_confine(ServeConfine *s, const ServeCmd *c, Err *e);
void cli_serve_confine_deinit(ServeConfine *s);

#endif
