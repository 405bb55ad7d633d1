/* SPDX-License-Identifier: Apache-2.0
 * The options of `ingot serve`: one table for flags, YAML and the environment, the names that other servers have for
 * them, and the presets. */
#include "cli/serve.h"

#include <stdio.h>

#include "cli/lora.h"
#include "cli/model.h"

#define AT(field) offsetof(ServeCmd, field)
static const OptSpec opts[] = {
    {.key = "model",
     .letter = 'm',
     .type = OPT_STR,
     .offset = AT(model),
     .metavar = "FILE",
     .help = "the model, if it is not the first word"},
    {.key = "config",
     .type = OPT_STR,
     .offset = AT(config),
     .metavar = "FILE.yaml",
     .help = "options from a file; INGOT_KEY variables and flags win over it"},
    {.key = "check_config",
     .type = OPT_BOOL,
     .offset = AT(check_config),
     .help = "print the configuration as it stands and stop"},
    {.key = "preset",
     .type = OPT_CHOICE,
     .offset = AT(preset),
     .choices = "tune|offline|production|code|cluster",
     .help = "defaults of a deployment, docs/serving.md says which"},
    {.key = "host",
     .type = OPT_STR,
     .offset = AT(host),
     .def = "127.0.0.1",
     .metavar = "ADDR",
     .help = "address to listen on; 0.0.0.0: every one of this machine"},
    {.key = "port",
     .letter = 'p',
     .type = OPT_INT,
     .offset = AT(port),
     .def = "8000",
     .min = 0,
     .max = 65535,
     .help = "0: any free one"},
    {.key = "served_model_name",
     .type = OPT_STR,
     .offset = AT(model_name),
     .metavar = "NAME",
     .help = "what requests and answers call the model; without it, the file's name"},
    {.key = "max_seqs",
     .type = OPT_INT,
     .offset = AT(max_seqs),
     .def = "8",
     .min = 1,
     .max = 4096,
     .help = "requests generated together in one step"},
    {.key = "max_queue",
     .type = OPT_INT,
     .offset = AT(max_queue),
     .def = "256",
     .min = 1,
     .max = 1 << 20,
     .help = "requests waiting beyond those; more are answered 429"},
    {.key = "max_connections",
     .type = OPT_INT,
     .offset = AT(max_connections),
     .def = "512",
     .min = 1,
     .max = 65536,
     .help = "clients connected at one time; more are answered 503"},
    CLI_CTX_OPT(AT(ctx)),
    CLI_KV_OPT(AT(kv)),
    {.key = "kv_cache_memory",
     .type = OPT_STR,
     .offset = AT(kv_memory),
     .metavar = "SIZE",
     .help = "memory of the KV cache, such as 4G; without it, room for max_seqs full sequences as "
             "far as "
             "memory_utilization allows"},
    {.key = "memory_utilization",
     .type = OPT_FLOAT,
     .offset = AT(utilization),
     .def = "0.9",
     .min = 0.05,
     .max = 1,
     .help = "share of the memory that weights, KV cache and activations may take together"},
    {.key = "prefill_chunk",
     .type = OPT_INT,
     .offset = AT(chunk),
     .def = "256",
     .min = 1,
     .max = 65536,
     .help = "prompt tokens computed together"},
    {.key = "itl_target_ms",
     .type = OPT_INT,
     .offset = AT(itl_target),
     .def = "100",
     .min = 1,
     .max = 3600000,
     .help = "while answers are being written, a step takes prompt tokens for about so long"},
    {.key = "timeout",
     .type = OPT_FLOAT,
     .offset = AT(timeout),
     .def = "120",
     .min = 0,
     .max = 1e6,
     .metavar = "SECONDS",
     .help = "a request that takes longer, waiting included, is answered 504; 0: none"},
    CLI_SPECULATE_OPTS(AT(speculate), AT(speculate_tokens)),
    CLI_INVARIANT_OPT(AT(batch_invariant)),
    {.key = "lora",
     .type = OPT_LIST,
     .offset = AT(lora),
     .metavar = "[NAME=]FILE[:SCALE]",
     .help = CLI_LORA_HELP ", for requests "
                           "whose \"model\" is NAME; may be given several times"},
    CLI_NO_PACK_OPT(AT(no_pack)),
    CLI_THREADS_OPT(AT(threads)),
    {.key = "grace",
     .type = OPT_FLOAT,
     .offset = AT(grace),
     .def = "10",
     .min = 0,
     .max = 3600,
     .metavar = "SECONDS",
     .help = "time that running answers have to finish after SIGINT or SIGTERM"},
    {.key = "api_key",
     .type = OPT_LIST,
     .offset = AT(api_keys),
     .metavar = "KEY",
     .help = "a key that may do everything; better are those of `ingot keys create`"},
    {.key = "no_auth",
     .type = OPT_BOOL,
     .offset = AT(no_auth),
     .help = "answer everybody, also on an address that others reach"},
    {.key = "state_dir",
     .type = OPT_STR,
     .offset = AT(state_dir),
     .metavar = "FOLDER",
     .help = "keys, ratings, files and batches; without it INGOT_STATE_DIR, or "
             "~/.local/state/ingot"},
    {.key = "max_file_size",
     .type = OPT_STR,
     .offset = AT(max_file),
     .def = "100M",
     .metavar = "SIZE",
     .help = "of an upload to /v1/files"},
    {.key = "tls_cert",
     .type = OPT_STR,
     .offset = AT(tls_cert),
     .metavar = "FILE.pem",
     .help = "serve over TLS with this certificate"},
    {.key = "tls_key",
     .type = OPT_STR,
     .offset = AT(tls_key),
     .metavar = "FILE.pem",
     .help = "and its key"},
    {.key = "hsts",
     .type = OPT_INT,
     .offset = AT(hsts),
     .def = "0",
     .min = 0,
     .max = 63072000,
     .metavar = "SECONDS",
     .help = "over TLS: browsers are to come by TLS alone for so long; 0: not said"},
    {.key = "cors_origin",
     .type = OPT_LIST,
     .offset = AT(cors),
     .metavar = "URL",
     .help = "pages of this origin may read answers; *: those of all"},
    {.key = "max_per_address",
     .type = OPT_INT,
     .offset = AT(max_per_address),
     .def = "0",
     .min = 0,
     .max = 65536,
     .help = "connections of one address; more are answered 429; 0: no limit"},
    {.key = "trusted_proxy",
     .type = OPT_LIST,
     .offset = AT(proxies),
     .metavar = "ADDR[/BITS]",
     .help = "believe X-Forwarded-For of connections from here; may be given several times"},
    {.key = "rate_limit",
     .type = OPT_STR,
     .offset = AT(rate_limit),
     .def = "0",
     .metavar = "N/minute",
     .help = "requests of one key, or of one address without keys; more are answered 429; also "
             "/second, /hour, /day; 0: no limit"},
    {.key = "token_rate_limit",
     .type = OPT_STR,
     .offset = AT(token_rate_limit),
     .def = "0",
     .metavar = "N/minute",
     .help = "the same of tokens, prompt and answer"},
    {.key = "max_body",
     .type = OPT_STR,
     .offset = AT(max_body),
     .def = "8M",
     .metavar = "SIZE",
     .help = "of one request; longer ones are answered 413"},
    {.key = "body_memory",
     .type = OPT_STR,
     .offset = AT(body_memory),
     .def = "256M",
     .metavar = "SIZE",
     .help = "that all requests hold together, as bodies and as JSON; long ones beyond it are "
             "answered 503"},
    {.key = "user",
     .type = OPT_STR,
     .offset = AT(user),
     .metavar = "NAME[:GROUP]",
     .help = "started as root: become this user once the port is bound"},
    {.key = "sandbox",
     .type = OPT_BOOL,
     .offset = AT(sandbox),
     .def = "true",
     .help = "write only below the state folder and that of log_file, start no program (Landlock)"},
    {.key = "model_version",
     .type = OPT_STR,
     .offset = AT(model_version),
     .metavar = "TAG",
     .help = "kept with ratings of its answers"},
    {.key = "otlp_endpoint",
     .type = OPT_STR,
     .offset = AT(otlp),
     .metavar = "URL",
     .help = "spans of requests go to URL/v1/traces, as OTLP in JSON"},
    {.key = "feedback_webhook",
     .type = OPT_STR,
     .offset = AT(webhook),
     .metavar = "URL",
     .help = "ratings below 3 are posted here, as JSON"},
    {.key = "title",
     .type = OPT_STR,
     .offset = AT(title),
     .help = "what GET / and the API's description say"},
    {.key = "chat_template",
     .type = OPT_STR,
     .offset = AT(chat_template),
     .metavar = "FILE",
     .help = "a Jinja template, instead of the model's own"},
    {.key = "max_prompt",
     .type = OPT_INT,
     .offset = AT(max_prompt),
     .def = "512",
     .min = 1,
     .max = MODEL_MAX_CTX,
     .help = "tokens of code that /complete reads, the last ones"},
    {.key = "max_total",
     .type = OPT_INT,
     .offset = AT(max_total),
     .def = "0",
     .min = 0,
     .max = MODEL_MAX_CTX,
     .help = "tokens of prompt and answer on /inference and /generate; 0: the context"},
    {.key = "prep_threads",
     .type = OPT_INT,
     .offset = AT(prep_threads),
     .def = "2",
     .min = 1,
     .max = 64,
     .help = "threads that read requests: JSON, templates, tokens, grammars"},
    {.key = "log_format",
     .type = OPT_CHOICE,
     .offset = AT(log_format),
     .def = "text",
     .choices = "text|json",
     .help = "json: an object a line and event, without any text of prompts or answers"},
    {.key = "log_file",
     .type = OPT_STR,
     .offset = AT(log_file),
     .metavar = "FILE",
     .help = "append the lines to it instead of standard error; opened again on SIGHUP"},
    {.key = "log_resources",
     .type = OPT_BOOL,
     .offset = AT(log_resources),
     .help = "a line of the memory in use before and after loading and each generation"},
    {.key = "log_level",
     .type = OPT_CHOICE,
     .offset = AT(log_level),
     .def = "info",
     .metavar = "error|warn|info|debug",
     .choices = "error|warn|info|debug|warning|critical|ERROR|WARN|WARNING|INFO|DEBUG|CRITICAL",
     .help = "info and debug: a line for every answer"},
    CLI_MODEL_KEY_OPT(AT(model_key)),
    /* what other servers are started with */
    {.key = "enable_prefix_caching",
     .type = OPT_BOOL,
     .offset = AT(enable_prefix_caching),
     .def = "true",
     .help = "always so; accepted as other servers have it"},
    {.key = "enable_chunked_prefill",
     .type = OPT_BOOL,
     .offset = AT(enable_chunked_prefill),
     .def = "true",
     .help = "always so; accepted likewise"},
    {.key = "cont_batching",
     .type = OPT_BOOL,
     .offset = AT(cont_batching),
     .def = "true",
     .help = "always so; accepted likewise"},
    {.key = "metrics",
     .type = OPT_BOOL,
     .offset = AT(metrics),
     .def = "true",
     .help = "always so; accepted likewise"},
    {.key = "enable_lora",
     .type = OPT_BOOL,
     .offset = AT(enable_lora),
     .help = "not needed beside --lora; accepted likewise"},
    {.key = "enable_auto_tool_choice",
     .type = OPT_BOOL,
     .offset = AT(auto_tools),
     .help = "not needed: the chat template says how calls are written"},
    {.key = "tool_call_parser",
     .type = OPT_STR,
     .offset = AT(tool_parser),
     .help = "not needed, likewise"},
    {.key = "reasoning_parser",
     .type = OPT_STR,
     .offset = AT(reasoning_parser),
     .help = "not needed, likewise"},
    {.key = "generation_config",
     .type = OPT_STR,
     .offset = AT(generation_config),
     .help = "without effect; accepted likewise"},
    {.key = "cost_per_hour",
     .type = OPT_FLOAT,
     .offset = AT(cost_per_hour),
     .def = "0",
     .min = 0,
     .max = 1e6,
     .metavar = "DOLLARS",
     .help = "of this machine: /metrics then tells what an answer costs; 0: not known"},
    {.key = "swap_space",
     .type = OPT_STR,
     .offset = AT(swap_space),
     .metavar = "GIB",
     .help = "without effect: what is preempted is computed again"},
    {.key = "quantization",
     .type = OPT_STR,
     .offset = AT(quantization),
     .help = "without effect: the file says it"},
    {.key = "dtype",
     .type = OPT_STR,
     .offset = AT(dtype),
     .help = "without effect: the file says it"},
    {.key = "trust_remote_code",
     .type = OPT_BOOL,
     .offset = AT(trust_remote_code),
     .help = "refused: nothing a model brings is run"},
    {.key = "disable_log_requests",
     .type = OPT_BOOL,
     .offset = AT(disable_log_requests),
     .help = "refused: --log-level warn does it"},
};
#undef AT

/* vLLM's, then llama-server's names; variables that deployments set. */
static const OptAlias also[] = {
    {"max_num_seqs", "max_seqs", false},
    {"max_model_len", "ctx", false},
    {"gpu_memory_utilization", "memory_utilization", false},
    {"kv_cache_memory_bytes", "kv_cache_memory", false},
    {"kv_cache_dtype", "kv_cache_type", false},
    {"max_num_batched_tokens", "prefill_chunk", false},
    {"max_num_queued_reqs", "max_queue", false},
    {"lora_modules", "lora", false},
    {"shutdown_timeout", "grace", false},
    {"drain_timeout", "grace", false},
    {"ssl_certfile", "tls_cert", false},
    {"ssl_keyfile", "tls_key", false},
    {"ssl_cert_file", "tls_cert", false},
    {"ssl_key_file", "tls_key", false},
    {"allowed_origins", "cors_origin", false},
    {"otlp_traces_endpoint", "otlp_endpoint", false},
    {"OTEL_EXPORTER_OTLP_ENDPOINT", "otlp_endpoint", true},
    {"alias", "served_model_name", false},
    {"parallel", "max_seqs", false},
    {"ctx_size", "ctx", false},
    {"ubatch_size", "prefill_chunk", false},
    {"cache_type_k", "kv_cache_type", false},
    {"model_draft", "speculate", false},
    {"spec_draft_n_max", "speculate_tokens", false},
    {"chat_template_file", "chat_template", false},
    {"MODEL_PATH", "model", true},
    {"LLAMA_ARG_MODEL", "model", true},
    {"LLAMA_ARG_PORT", "port", true},
    {"LLAMA_ARG_HOST", "host", true},
    {"LOG_LEVEL", "log_level", true},
};

const CliSpec cli_serve_spec = {
    .usage = "ingot serve MODEL.gguf [options]",
    .about =
        "Answers HTTP requests with a model, as OpenAI's clients and others know it. Requests of "
        "all clients\n"
        "are generated together; one that leaves frees its place at once.\n"
        "\n"
        "  POST /v1/chat/completions   also /v1/completions, /v1/embeddings, /v1/models; streams, "
        "tools,\n"
        "                              JSON schemas, log-probabilities\n"
        "  POST /complete, /generate, /inference, /v1/generate, /tokenize, /detokenize\n"
        "  POST /v1/files, /v1/batches  files of requests, run when there is nothing else to do\n"
        "  GET  /health                also /health/live, /health/ready; /metrics for Prometheus\n"
        "  GET  /openapi.json          every route and field with its range and default\n"
        "\n"
        "example:\n"
        "  ingot serve model.gguf --port 8000\n"
        "  curl -s http://127.0.0.1:8000/v1/chat/completions \\\n"
        "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 0,
    .max_pos = 1,
    .also = also,
    .n_also = (int)COUNT_OF(also),
    .config = "config",
};

/* ---- presets ---- */

typedef struct PresetRow {
    const char *preset, *key, *value;
} PresetRow;

static const PresetRow presets[] = {
    {"tune", "title", "DeepSeek R1 Fine-tuned API"},
    {"tune", "port", "8000"},
    {"offline", "port", "8000"},
    {"offline", "log_resources", "true"},
    {"offline", "title", "Offline text generation"},
    {"production", "port", "30030"},
    {"production", "max_seqs", "16"},
    {"production", "ctx", "512"},
    {"production", "prefill_chunk", "512"},
    {"production", "log_format", "json"},
    {"code", "port", "8000"},
    {"code", "max_prompt", "512"},
    {"code", "title", "Code assistant"},
    {"cluster", "port", "5000"},
    {"cluster", "max_total", "512"},
};

/* ---- what is accepted for the sake of other servers ---- */

static const char *const idle[] = {"swap_space", "quantization", "dtype", "generation_config"};

static Status refuse(const ServeCmd *c, Err *e) {
    if (c->trust_remote_code)
        return err_set(e, ERR_ARG, "--trust-remote-code: nothing that a model brings is run here");
    if (c->disable_log_requests)
        return err_set(e, ERR_ARG,
                       "--disable-log-requests: requests are always logged, without their text; "
                       "--log-level warn leaves the lines out");
    if (!c->enable_prefix_caching || !c->enable_chunked_prefill || !c->cont_batching || !c->metrics)
        return err_set(e, ERR_ARG,
                       "prefix caching, chunked prefill, continuous batching and metrics cannot "
                       "be switched off");
    return OK;
}

Status cli_serve_settle(ServeCmd *c, CliArgs *a, bool quiet, Err *e) {
    for (size_t i = 0; c->preset && i < COUNT_OF(presets); i++) {
        const PresetRow *p = &presets[i];
        if (strcmp(p->preset, c->preset) == 0 && !opt_given(a->set, p->key))
            TRY(opt_set(a->set, p->key, p->value, e));
    }
    TRY(refuse(c, e));
    for (size_t i = 0; i < COUNT_OF(idle); i++) {
        StrBuf v = {0};
        if (quiet || !opt_given(a->set, idle[i])) continue;
        opt_format(a->set, idle[i], &v);
        fprintf(stderr, "%s: %s is without effect here\n", idle[i], sb_str(&v));
        sb_deinit(&v);
    }
    if (a->pos.n > 0) c->model = a->pos.v[0];
    return OK;
}

int cli_serve_print(const CliArgs *a) {
    for (size_t i = 0; i < COUNT_OF(opts); i++) {
        StrBuf v = {0};
        bool secret = strcmp(opts[i].key, "api_key") == 0 && opt_given(a->set, "api_key");
        if (secret) sb_puts(&v, "[given, not shown]");
        else opt_format(a->set, opts[i].key, &v);
        printf("%s: %s\n", opts[i].key, sb_str(&v));
        sb_deinit(&v);
    }
    return cli_flush_stdout();
}
