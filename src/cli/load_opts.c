/* SPDX-License-Identifier: Apache-2.0
 * ingot load: its options. */
#include "cli/load.h"

#define AT(f) offsetof(LoadCmd, f)
#define STR(k, f, d, meta, text) \
    { .key = k, .type = OPT_STR, .offset = AT(f), .def = d, .metavar = meta, .help = text }
#define INT(k, f, d, lo, hi, text) \
    { .key = k, .type = OPT_INT, .offset = AT(f), .def = d, .min = lo, .max = hi, .help = text }
#define NUM(k, f, d, lo, hi, meta, text)                                              \
    {                                                                                 \
        .key = k, .type = OPT_FLOAT, .offset = AT(f), .def = d, .min = lo, .max = hi, \
        .metavar = meta, .help = text                                                 \
    }
#define BOOL(k, f, d, text) \
    { .key = k, .type = OPT_BOOL, .offset = AT(f), .def = d, .help = text }

static const OptSpec opts[] = {
    {.key = "route",
     .type = OPT_CHOICE,
     .offset = AT(route),
     .def = "chat",
     .choices = LOAD_ROUTES,
     .help = "what is asked, where the URL does not end in a route's path"},
    STR("model", model, NULL, "NAME", "default: the first one the server lists"),
    NUM("rate", rate, "1", 0.001, 1e6, "R", "requests a second"),
    {.key = "pattern",
     .type = OPT_CHOICE,
     .offset = AT(pattern),
     .def = "poisson",
     .choices = "poisson|constant|burst|ramp",
     .help = "independent users, even gaps, --burst at once, or from --rate to --rate-end"},
    INT("burst", burst, "10", 1, 100000, "requests of a burst; the mean rate stays"),
    NUM("rate_end", rate_end, "10", 0.001, 1e6, "R", "rate at the end of a ramp"),
    NUM("ramp", ramp, "0", 0, 1e6, "S", "seconds of a ramp; 0: --duration"),
    INT("concurrency", concurrency, "0", 0, 100000,
        "instead of a rate: so many users, each asks when it has its answer (closed loop)"),
    INT("requests", requests, "0", 0, 1e9, "how many are measured; 0: by --duration"),
    NUM("duration", duration, "30", 0.1, 1e6, "S", "seconds in which requests start"),
    INT("warmup", warmup, "5", 0, 1e6, "first requests that are not measured"),
    STR("prompt_tokens", prompt_tokens, "256", "MIX",
        "length: 256, 64-1024, 300~0.8 (log-normal), or with weights 64:0.7,1024:0.3"),
    INT("prefix_tokens", prefix_tokens, "0", 0, LOAD_MAX_LENGTH,
        "tokens at the beginning that requests share"),
    INT("prefixes", prefixes, "1", 1, 1e9, "how many such beginnings there are"),
    STR("prompts", prompts, NULL, "FILE",
        "instead: JSON lines with prompt, messages or conversations, in turn"),
    STR("max_tokens", max_tokens, "128", "MIX", "of answers, as above"),
    BOOL("ignore_eos", ignore_eos, NULL, "answers have all their tokens, where the server can"),
    BOOL("stream", stream, "true", "answers as streams: without, only whole answers are timed"),
    NUM("temperature", temperature, "-1", -1, 10, "T", "-1: the server's"),
    STR("body", body, NULL, "JSON",
        "an object whose members each request has besides, or instead of those made here"),
    STR("api_key", api_key, NULL, "KEY", "default: INGOT_API_KEY"),
    {.key = "header",
     .letter = 'H',
     .type = OPT_LIST,
     .offset = AT(headers),
     .metavar = "LINE",
     .help = "\"Name: value\", several times"},
    STR("cacert", cacert, NULL, "FILE", "certificates to trust instead of the system's"),
    BOOL("insecure", insecure, NULL, "any certificate will do"),
    NUM("timeout", timeout, "300", 0.01, 86400, "S", "seconds for one request"),
    NUM("connect_timeout", connect_timeout, "15", 0.01, 3600, "S", "seconds of it to connect"),
    INT("max_in_flight", max_in_flight, "0", 0, 1e6,
        "requests under way at a time; 0: what the limit of descriptors allows, up to 10000"),
    NUM("give_up", give_up, "10", 0, 86400, "S",
        "end when so long nobody answers and connections fail; 0: never"),
    STR("slo", slo, NULL, "LIMITS", "such as ttft=500ms,tpot=50ms,e2e=10s (and itl: longest gap)"),
    NUM("slo_share", slo_share, "0.99", 0.01, 1, "SHARE", "of requests that has to be within"),
    STR("sweep", sweep, NULL, "RANGE",
        "rate=1..64 or concurrency=1..64: search for the highest within --slo; rate=1,4,16: each"),
    BOOL("probe", probe, "true", "ask first, and measure how many tokens a word has"),
    INT("seed", seed, "1", 0, 0, "of arrivals, lengths and texts"),
    BOOL("json", json, NULL, "print a JSON object for each point, and what a sweep found"),
    STR("log", log, NULL, "FILE", "write a JSON line for each request"),
    STR("report", report, NULL, "FILE.html", "write a page with curves"),
    CLI_QUIET_OPT(AT(quiet)),
};

const CliSpec cli_load_spec = {
    .usage = "ingot load URL [options]",
    .about =
        "Sends requests to a server and tells how long they took. Each has a time at which it is\n"
        "meant to start, whatever the server does, and all times count from there: a server that\n"
        "stalls is seen by everybody who would have asked meanwhile. docs/load.md explains the "
        "figures.\n"
        "\n"
        "examples:\n"
        "  ingot load http://127.0.0.1:8000 --rate 4 --duration 60\n"
        "  ingot load http://127.0.0.1:8000 --rate 8 --prompt-tokens 64:0.7,1024:0.3 \\\n"
        "      --slo ttft=500ms,tpot=50ms --report report.html\n"
        "  ingot load http://127.0.0.1:8000 --sweep rate=1..64 --slo ttft=500ms,tpot=50ms\n"
        "  ingot load http://127.0.0.1:8000/v1/completions --concurrency 16 --requests 500",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};
