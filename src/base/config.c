/* SPDX-License-Identifier: Apache-2.0
 * The environment, read once by main before any thread exists. A variable that is set but empty
 * counts as not set, as shells make it easy to empty one and hard to unset it for one command. */
#include "base/config.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/str.h"

#define CONFIG_MAX_THREADS 4096

const char *config_get(const char *name) {
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* Index of value in the NULL-terminated names, or -1. */
static int find_name(const char *const *names, const char *value, size_t n_value) {
    for (int i = 0; names[i]; i++)
        if (slice_eq_str((Slice){value, n_value}, names[i])) return i;
    return -1;
}

static Status load_cpu(ConfigEnv *out, Err *e) {
    static const char *const NAMES[] = {"ref", "avx2", "avx512", "amx", NULL};
    const char *v = config_get("INGOT_CPU");
    if (v && find_name(NAMES, v, strlen(v)) < 0)
        return err_set(e, ERR_ARG, "INGOT_CPU=%.64s: must be ref, avx2, avx512 or amx", v);
    out->cpu = v;
    return OK;
}

static Status load_threads(ConfigEnv *out, Err *e) {
    const char *v = config_get("INGOT_THREADS");
    int64_t n = 0;
    if (!v) return OK;
    if (!str_to_i64(&n, v) || n < 1 || n > CONFIG_MAX_THREADS)
        return err_set(e, ERR_ARG, "INGOT_THREADS=%.64s: must be a number from 1 to %d", v,
                       CONFIG_MAX_THREADS);
    out->threads = (int)n;
    return OK;
}

static Status load_log(LogLevel *out, Err *e) {
    static const char *const NAMES[] = {"error", "warn", "info", "debug", NULL};
    const char *v = config_get("INGOT_LOG");
    int i = v ? find_name(NAMES, v, strlen(v)) : LOG_WARN;
    if (i < 0) return err_set(e, ERR_ARG, "INGOT_LOG=%.64s: must be error, warn, info or debug", v);
    *out = (LogLevel)i;
    return OK;
}

typedef struct Fault {
    int kind;   /* FaultKind */
    uint64_t n; /* 0: not armed */
} Fault;

static Status load_fault(Fault *out, Err *e) {
    static const char *const NAMES[] = {
        [FAULT_ALLOC] = "alloc", [FAULT_IO] = "io", [FAULT_KILL] = "kill", NULL};
    const char *v = config_get("INGOT_FAULT");
    if (!v) return OK;
    size_t n_kind = strcspn(v, ":");
    out->kind = find_name(NAMES, v, n_kind);
    if (out->kind < 0 || v[n_kind] != ':' || !str_to_u64(&out->n, v + n_kind + 1) || out->n == 0)
        return err_set(e, ERR_ARG,
                       "INGOT_FAULT=%.64s: must be alloc:N, io:N or kill:N with N from 1", v);
    return OK;
}

static void load_api_keys(ConfigEnv *out) {
    static const char *const NAMES[] = {"INGOT_API_KEY", "VLLM_API_KEY", "LLAMA_API_KEY"};
    _Static_assert(COUNT_OF(NAMES) == CONFIG_N_API_KEYS, "one for each");
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) {
        const char *v = config_get(NAMES[i]);
        if (v) out->api_key[out->n_api_keys++] = v;
    }
}

/* XDG says that a path which does not begin at the root is to be ignored. */
static const char *rooted(const char *path) { return path && path[0] == '/' ? path : NULL; }

static void load_folders(ConfigEnv *out) {
    out->state_dir = config_get("INGOT_STATE_DIR");
    out->xdg_state = rooted(config_get("XDG_STATE_HOME"));
    out->home = rooted(config_get("HOME"));
}

Status config_state_dir(StrBuf *out, const ConfigEnv *c, const char *given, Err *e) {
    const char *dir = given && *given ? given : c->state_dir;
    size_t n = dir ? strlen(dir) : 0;
    while (n > 1 && dir[n - 1] == '/') n--;
    if (dir) {
        sb_put(out, dir, n);
    } else if (c->xdg_state) {
        sb_printf(out, "%s/ingot", c->xdg_state);
    } else if (c->home) {
        sb_printf(out, "%s/.local/state/ingot", c->home);
    } else {
        return err_set(e, ERR_NOT_FOUND,
                       "no state folder: INGOT_STATE_DIR, XDG_STATE_HOME and HOME are not set");
    }
    return sb_check(out, e);
}

Status config_load_env(ConfigEnv *out, Err *e) {
    ConfigEnv c = {0};
    LogLevel level = LOG_WARN;
    Fault fault = {0};
    TRY(load_cpu(&c, e));
    TRY(load_threads(&c, e));
    c.model_key = config_get("INGOT_MODEL_PUBLIC_KEY");
    TRY(load_log(&level, e));
    TRY(load_fault(&fault, e));
    load_api_keys(&c);
    load_folders(&c);
    log_set_level(level);
    if (fault.n > 0) fault_arm((FaultKind)fault.kind, fault.n);
    *out = c;
    return OK;
}

static const char *either(const char *a, const char *b) {
    const char *v = config_get(a);
    return v ? v : config_get(b);
}

static bool is_true(const char *v) {
    static const char *const YES[] = {"1", "true", "yes", "on", "TRUE", "YES", "ON", NULL};
    return v && find_name(YES, v, strlen(v)) >= 0;
}

void config_load_net(ConfigNet *out) {
    *out = (ConfigNet){
        .http_proxy = config_get("http_proxy"),
        .https_proxy = either("https_proxy", "HTTPS_PROXY"),
        .all_proxy = either("all_proxy", "ALL_PROXY"),
        .no_proxy = either("no_proxy", "NO_PROXY"),
        .ca_file = either("SSL_CERT_FILE", "CURL_CA_BUNDLE"),
        .ca_dir = config_get("SSL_CERT_DIR"),
        .hf_endpoint = config_get("HF_ENDPOINT"),
        .hf_token = config_get("HF_TOKEN"),
        .hf_token_path = config_get("HF_TOKEN_PATH"),
        .hf_home = config_get("HF_HOME"),
        .home = config_get("HOME"),
        .hf_offline = is_true(config_get("HF_HUB_OFFLINE")),
        .aws_key_id = config_get("AWS_ACCESS_KEY_ID"),
        .aws_secret = config_get("AWS_SECRET_ACCESS_KEY"),
        .aws_token = config_get("AWS_SESSION_TOKEN"),
        .aws_region = either("AWS_REGION", "AWS_DEFAULT_REGION"),
        .aws_endpoint = either("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        .aws_profile = config_get("AWS_PROFILE"),
        .aws_credentials = config_get("AWS_SHARED_CREDENTIALS_FILE"),
        .aws_config = config_get("AWS_CONFIG_FILE"),
    };
    /* A web server hands the header "Proxy:" of a request to its CGI programs as HTTP_PROXY. */
    if (!out->http_proxy && !config_get("REQUEST_METHOD"))
        out->http_proxy = config_get("HTTP_PROXY");
}
