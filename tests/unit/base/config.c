/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/log.h"
#include "test.h"

static void clean(void) {
    unsetenv("INGOT_CPU");
    unsetenv("INGOT_THREADS");
    unsetenv("INGOT_LOG");
    unsetenv("INGOT_MODEL_PUBLIC_KEY");
    unsetenv("INGOT_FAULT");
}

TEST(nothing_set) {
    ConfigEnv c = {.cpu = "x", .threads = 9, .model_key = "y"};
    clean();
    OK_(config_load_env(&c, TERR));
    TRUE_(c.cpu == NULL);
    EQ(c.threads, 0);
    TRUE_(c.model_key == NULL);
}

TEST(all_set) {
    ConfigEnv c;
    clean();
    setenv("INGOT_CPU", "avx512", 1);
    setenv("INGOT_THREADS", "12", 1);
    setenv("INGOT_LOG", "debug", 1);
    setenv("INGOT_FAULT", "io:3", 1);
    setenv("INGOT_MODEL_PUBLIC_KEY", "key.pem", 1);
    OK_(config_load_env(&c, TERR));
    EQ_STR(c.cpu, "avx512");
    EQ(c.threads, 12);
    EQ_STR(c.model_key, "key.pem");
    bool third = !fault_hit(FAULT_IO) && !fault_hit(FAULT_IO) && fault_hit(FAULT_IO);
    fault_arm(FAULT_IO, 0);
    log_set_level(LOG_WARN);
    TRUE_(third);
    clean();
}

TEST(empty_is_not_set) {
    ConfigEnv c;
    clean();
    setenv("INGOT_CPU", "", 1);
    setenv("INGOT_FAULT", "", 1);
    OK_(config_load_env(&c, TERR));
    TRUE_(c.cpu == NULL);
    clean();
}

/* Each names the variable and its value, and nothing is applied. */
TEST(bad_values) {
    static const struct {
        const char *name, *value;
    } ROWS[] = {
        {"INGOT_CPU", "sse"},       {"INGOT_CPU", "AVX2"},    {"INGOT_THREADS", "0"},
        {"INGOT_THREADS", "4097"},  {"INGOT_THREADS", "two"}, {"INGOT_THREADS", "-1"},
        {"INGOT_LOG", "loud"},      {"INGOT_LOG", "3"},       {"INGOT_FAULT", "io"},
        {"INGOT_FAULT", "io:"},     {"INGOT_FAULT", "io:0"},  {"INGOT_FAULT", "disk:1"},
        {"INGOT_FAULT", "alloc:x"}, {"INGOT_FAULT", ":1"},    {"INGOT_FAULT", "alloc:-1"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        ConfigEnv c = {.threads = 77};
        clean();
        setenv(ROWS[i].name, ROWS[i].value, 1);
        FAILS(ERR_ARG, config_load_env(&c, TERR));
        TRUE_(strstr(test_err.msg, ROWS[i].name) && strstr(test_err.msg, ROWS[i].value));
        EQ(c.threads, 77);
    }
    clean();
}

static void clean_net(void) {
    static const char *const NAMES[] = {"http_proxy",  "HTTP_PROXY",        "https_proxy",
                                        "HTTPS_PROXY", "all_proxy",         "ALL_PROXY",
                                        "no_proxy",    "NO_PROXY",          "HF_ENDPOINT",
                                        "HF_TOKEN",    "HF_HUB_OFFLINE",    "REQUEST_METHOD",
                                        "AWS_REGION",  "AWS_DEFAULT_REGION"};
    for (size_t i = 0; i < COUNT_OF(NAMES); i++) unsetenv(NAMES[i]);
}

TEST(what_the_network_is_told) {
    ConfigNet c;
    clean_net();
    config_load_net(&c);
    TRUE_(!c.http_proxy && !c.https_proxy && !c.hf_token && !c.hf_offline && !c.aws_region);
    setenv("HTTPS_PROXY", "http://upper", 1);
    setenv("https_proxy", "http://lower", 1);
    setenv("HTTP_PROXY", "http://p", 1);
    setenv("NO_PROXY", "", 1);
    setenv("AWS_DEFAULT_REGION", "r", 1);
    setenv("HF_HUB_OFFLINE", "1", 1);
    config_load_net(&c);
    EQ_STR(c.https_proxy, "http://lower");
    EQ_STR(c.http_proxy, "http://p");
    EQ_STR(c.no_proxy, NULL);
    EQ_STR(c.aws_region, "r");
    TRUE_(c.hf_offline);
    setenv("REQUEST_METHOD", "GET", 1); /* then HTTP_PROXY is a header of somebody's request */
    setenv("HF_HUB_OFFLINE", "0", 1);
    config_load_net(&c);
    EQ_STR(c.http_proxy, NULL);
    FALSE_(c.hf_offline);
    clean_net();
}

TEST(keys_in_the_order_of_their_names) {
    ConfigEnv c;
    unsetenv("INGOT_API_KEY");
    setenv("LLAMA_API_KEY", "second", 1);
    setenv("VLLM_API_KEY", "first,more", 1);
    OK_(config_load_env(&c, TERR));
    EQ(c.n_api_keys, 2);
    EQ_STR(c.api_key[0], "first,more");
    EQ_STR(c.api_key[1], "second");
    unsetenv("LLAMA_API_KEY");
    unsetenv("VLLM_API_KEY");
    OK_(config_load_env(&c, TERR));
    EQ(c.n_api_keys, 0);
}

static const char *state_dir(const ConfigEnv *c, const char *given) {
    static StrBuf b;
    static char out[64];
    sb_clear(&b);
    Status st = config_state_dir(&b, c, given, TERR);
    snprintf(out, sizeof out, "%s", st == OK ? sb_str(&b) : "none");
    sb_deinit(&b);
    b = (StrBuf){0};
    return out;
}

TEST(state_folder_by_rank) {
    ConfigEnv c = {.state_dir = "/s//", .xdg_state = "/x", .home = "/h"};
    EQ_STR(state_dir(&c, "given/"), "given");
    EQ_STR(state_dir(&c, ""), "/s");
    EQ_STR(state_dir(&c, "/"), "/");
    c.state_dir = NULL;
    EQ_STR(state_dir(&c, NULL), "/x/ingot");
    c.xdg_state = NULL;
    EQ_STR(state_dir(&c, NULL), "/h/.local/state/ingot");
    c.home = NULL;
    EQ_STR(state_dir(&c, NULL), "none");
    TRUE_(strstr(test_err.msg, "INGOT_STATE_DIR") != NULL);
}
