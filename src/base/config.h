/* SPDX-License-Identifier: Apache-2.0
 * Environment variables, the only place that reads them:
 *   INGOT_CPU      ref | avx2 | avx512 | amx    highest kernel level to use
 *   INGOT_THREADS  N                            default of --threads
 *   INGOT_MODEL_PUBLIC_KEY  FILE               only models signed with this key are run
 *   INGOT_LOG      error | warn | info | debug  log level
 *   INGOT_STATE_DIR  FOLDER                     keys, feedback, batches; else what XDG_STATE_HOME and
 *                                               HOME say
 *   INGOT_API_KEY, VLLM_API_KEY, LLAMA_API_KEY  keys that a server takes, with commas between
 *   INGOT_FAULT    KIND:N                       make the N-th alloc or io call fail, or (kill) die
 *                                               at the N-th io call (tests)
 * and, by name, those that stand for options of a command (opt_load_env).
 * What the network commands read is listed at ConfigNet. */
#ifndef INGOT_BASE_CONFIG_H
#define INGOT_BASE_CONFIG_H

#include "base/str.h"

enum { CONFIG_N_API_KEYS = 3 };

typedef struct ConfigEnv {
    const char *cpu; /* NULL: not set, here and below */
    int threads;     /* 0: not set */
    const char *model_key;
    const char *api_key[CONFIG_N_API_KEYS]; /* in the order above; those that are set come first */
    int n_api_keys;
    const char *state_dir, *xdg_state, *home;
} ConfigEnv;

/* Read and validate all of them; a bad value is ERR_ARG naming the variable, its value and the choices.
 * Applies INGOT_LOG and INGOT_FAULT. Called once, by main. */
MUST_CHECK Status config_load_env(ConfigEnv *out, Err *e);
/* The value of a variable; NULL if it is not set, or empty. Borrowed from the environment. */
const char *config_get(const char *name);
/* The folder of what outlives the process, without a / at its end, appended to out: `given` if it is not empty, else
 * INGOT_STATE_DIR, XDG_STATE_HOME/ingot, HOME/.local/state/ingot. Nothing is made. ERR_NOT_FOUND: none of them is set. */
MUST_CHECK Status config_state_dir(StrBuf *out, const ConfigEnv *env, const char *given, Err *e);

/* Variables of the network, as other programs read them; NULL: not set or empty. */
typedef struct ConfigNet {
    const char *http_proxy;                     /* http_proxy, HTTP_PROXY (not in a CGI program) */
    const char *https_proxy;                    /* https_proxy, HTTPS_PROXY */
    const char *all_proxy;                      /* all_proxy, ALL_PROXY */
    const char *no_proxy;                       /* no_proxy, NO_PROXY */
    const char *ca_file;                        /* SSL_CERT_FILE, CURL_CA_BUNDLE */
    const char *ca_dir;                         /* SSL_CERT_DIR */
    const char *hf_endpoint;                    /* HF_ENDPOINT */
    const char *hf_token;                       /* HF_TOKEN */
    const char *hf_token_path, *hf_home, *home; /* HF_TOKEN_PATH, HF_HOME, HOME */
    bool hf_offline;                            /* HF_HUB_OFFLINE=1 */
    const char *aws_key_id, *aws_secret;        /* AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY */
    const char *aws_token;                      /* AWS_SESSION_TOKEN */
    const char *aws_region;                     /* AWS_REGION, AWS_DEFAULT_REGION */
    const char *aws_endpoint;                   /* AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL */
    const char *aws_profile;                    /* AWS_PROFILE */
    const char *aws_credentials;                /* AWS_SHARED_CREDENTIALS_FILE */
    const char *aws_config;                     /* AWS_CONFIG_FILE */
} ConfigNet;

/* Strings are borrowed from the environment. Before any thread exists. */
void config_load_net(ConfigNet *out);

#endif
