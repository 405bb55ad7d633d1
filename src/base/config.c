/* SPDX-License-Identifier: Apache-2.0
 * The environment, read once by main before any thread exists. A variable that is set but empty
 * counts as not set, as shells make it easy to empty one and hard to unset it for one command. */
#include "base/config.h"

#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/str.h"

#define CONFIG_MAX_THREADS 4096

static const char *env(const char *name) {
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
    const char *v = env("INGOT_CPU");
    if (v && find_name(NAMES, v, strlen(v)) < 0)
        return err_set(e, ERR_ARG, "INGOT_CPU=%.64s: must be ref, avx2, avx512 or amx", v);
    out->cpu = v;
    return OK;
}

static Status load_threads(ConfigEnv *out, Err *e) {
    const char *v = env("INGOT_THREADS");
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
    const char *v = env("INGOT_LOG");
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
    const char *v = env("INGOT_FAULT");
    if (!v) return OK;
    size_t n_kind = strcspn(v, ":");
    out->kind = find_name(NAMES, v, n_kind);
    if (out->kind < 0 || v[n_kind] != ':' || !str_to_u64(&out->n, v + n_kind + 1) || out->n == 0)
        return err_set(e, ERR_ARG,
                       "INGOT_FAULT=%.64s: must be alloc:N, io:N or kill:N with N from 1", v);
    return OK;
}

Status config_load_env(ConfigEnv *out, Err *e) {
    ConfigEnv c = {0};
    LogLevel level = LOG_WARN;
    Fault fault = {0};
    TRY(load_cpu(&c, e));
    TRY(load_threads(&c, e));
    TRY(load_log(&level, e));
    TRY(load_fault(&fault, e));
    log_set_level(level);
    if (fault.n > 0) fault_arm((FaultKind)fault.kind, fault.n);
    *out = c;
    return OK;
}

static const char *either(const char *a, const char *b) {
    const char *v = env(a);
    return v ? v : env(b);
}

static bool is_true(const char *v) {
    static const char *const YES[] = {"1", "true", "yes", "on", "TRUE", "YES", "ON", NULL};
    return v && find_name(YES, v, strlen(v)) >= 0;
}

void config_load_net(ConfigNet *out) {
    *out = (ConfigNet){
        .http_proxy = env("http_proxy"),
        .https_proxy = either("https_proxy", "HTTPS_PROXY"),
        .all_proxy = either("all_proxy", "ALL_PROXY"),
        .no_proxy = either("no_proxy", "NO_PROXY"),
        .ca_file = either("SSL_CERT_FILE", "CURL_CA_BUNDLE"),
        .ca_dir = env("SSL_CERT_DIR"),
        .hf_endpoint = env("HF_ENDPOINT"),
        .hf_token = env("HF_TOKEN"),
        .hf_token_path = env("HF_TOKEN_PATH"),
        .hf_home = env("HF_HOME"),
        .home = env("HOME"),
        .hf_offline = is_true(env("HF_HUB_OFFLINE")),
        .aws_key_id = env("AWS_ACCESS_KEY_ID"),
        .aws_secret = env("AWS_SECRET_ACCESS_KEY"),
        .aws_token = env("AWS_SESSION_TOKEN"),
        .aws_region = either("AWS_REGION", "AWS_DEFAULT_REGION"),
        .aws_endpoint = either("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        .aws_profile = env("AWS_PROFILE"),
        .aws_credentials = env("AWS_SHARED_CREDENTIALS_FILE"),
        .aws_config = env("AWS_CONFIG_FILE"),
    };
    /* A web server hands the header "Proxy:" of a request to its CGI programs as HTTP_PROXY. */
    if (!out->http_proxy && !env("REQUEST_METHOD")) out->http_proxy = env("HTTP_PROXY");
}
