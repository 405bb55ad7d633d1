/* SPDX-License-Identifier: Apache-2.0
 * Environment variables, the only place that reads them:
 *   INGOT_CPU      ref | avx2 | avx512 | amx    highest kernel level to use
 *   INGOT_THREADS  N                            default of --threads
 *   INGOT_LOG      error | warn | info | debug  log level
 *   INGOT_FAULT    KIND:N                       make the N-th alloc or io call fail, or (kill) die
 *                                               at the N-th io call (tests)
 * What the network commands read is listed at ConfigNet. */
#ifndef INGOT_BASE_CONFIG_H
#define INGOT_BASE_CONFIG_H

#include "base/err.h"

typedef struct ConfigEnv {
    const char *cpu; /* NULL: not set */
    int threads;     /* 0: not set */
} ConfigEnv;

/* Read and validate all of them; a bad value is ERR_ARG naming the variable, its value and the choices.
 * Applies INGOT_LOG and INGOT_FAULT. Called once, by main. */
MUST_CHECK Status config_load_env(ConfigEnv *out, Err *e);

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
