/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

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
