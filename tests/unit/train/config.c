/* SPDX-License-Identifier: Apache-2.0
 * The training configuration: rules between keys, the architecture it means, ranges. Messages name the key
 * the user wrote. */
#include "fixture.h"

static void refused(const char *const keys[][2], const char *const words[]) {
    Fix f;
    ModelConfig m;
    fix_init(&f);
    for (int i = 0; keys[i][0]; i++) fix_set(&f, keys[i][0], keys[i][1]);
    Err e = {0};
    Status st = train__check(&f.c, &e);
    if (st == OK) st = train__model_config(&m, &f.c, 300, &e);
    EQ(st, ERR_ARG);
    for (int i = 0; words[i]; i++)
        if (!strstr(e.msg, words[i])) FAIL("\"%s\" lacks \"%s\"", e.msg, words[i]);
    fix_free(&f);
}

#define REFUSED(a, b, c, d, ...)                                    \
    refused((const char *const[][2]){{a, b}, {c, d}, {NULL, NULL}}, \
            (const char *const[]){__VA_ARGS__, NULL})

TEST(rules_between_keys) {
    REFUSED("learning_rate", "1e-4", "min_lr", "2e-4", "min_lr 0.0002", "learning_rate 0.0001");
    REFUSED("n_embd", "33", "n_head", "2", "n_embd 33", "n_head 2");
    REFUSED("n_embd", "24", "n_head", "6", "n_embd 24", "n_head 6", "heads of 4", "multiple of 8");
    REFUSED("n_embd", "1024", "n_head", "2", "heads of 512", "256");
    REFUSED("n_head", "2", "n_kv_head", "4", "n_kv_head 4", "n_head 2");
    REFUSED("n_head", "1", "n_kv_head", "3", "n_kv_head 3", "n_head 1");
}

TEST(a_micro_batch_has_its_limit) {
    REFUSED("batch_size", "65536", "block_size", "512", "batch_size 65536", "block_size 512",
            "16777216");
}

TEST(dataset_is_needed) {
    Fix f;
    fix_init(&f);
    f.c.dataset = NULL;
    FAILS(ERR_ARG, train__check(&f.c, TERR));
    TRUE_(strstr(test_err.msg, "dataset"));
    fix_free(&f);
}

TEST(architecture_by_keys) {
    Fix f;
    ModelConfig m;
    fix_init(&f);
    fix_set(&f, "n_embd", "96");
    fix_set(&f, "n_head", "4");
    fix_set(&f, "n_ff", "0");
    OK_(train__model_config(&m, &f.c, 300, TERR));
    EQ(m.ff, 256); /* 8/3 widths, whole 32s */
    EQ(m.nkv, 4);
    EQ(m.hd, 24);
    EQ(m.n_rot, 12);
    EQ(m.V, 300);
    EQ(m.ctx, 16);
    TRUE_(m.tied);
    fix_set(&f, "n_kv_head", "2");
    fix_set(&f, "tie_embeddings", "false");
    fix_set(&f, "rope_theta", "5e5");
    fix_set(&f, "norm_eps", "1e-6");
    OK_(train__model_config(&m, &f.c, 300, TERR));
    EQ(m.nkv, 2);
    FALSE_(m.tied);
    NEAR(m.rope_base, 5e5, 0);
    NEAR(m.norm_eps, 1e-6, 1e-12);
    fix_set(&f, "arch", "gpt2");
    fix_set(&f, "n_kv_head", "0");
    OK_(train__model_config(&m, &f.c, 300, TERR));
    EQ(m.ff, 384);
    EQ_STR(m.arch->name, "gpt2");
    fix_set(&f, "arch", "qwen3");
    fix_set(&f, "head_dim", "64");
    OK_(train__model_config(&m, &f.c, 300, TERR));
    EQ(m.hd, 64);
    EQ(m.n_rot, 32);
    TRUE_(m.hd * m.nh != m.C);
    fix_set(&f, "head_dim", "20");
    FAILS(ERR_ARG, train__model_config(&m, &f.c, 300, TERR));
    TRUE_(strstr(test_err.msg, "key_length 20 is not a multiple of 8"));
    fix_free(&f);
}

/* Whatever the table of architectures has can be trained from scratch. */
TEST(every_architecture_is_a_choice) {
    int n, at = 0;
    const OptSpec *o = train_options(&n);
    while (at < n && strcmp(o[at].key, "arch") != 0) at++;
    TRUE_(at < n);
    char all[MODEL_ARCH_NAMES] = "";
    for (int i = 0; model_arch_at(i); i++) {
        if (i > 0) strcat(all, "|");
        strcat(all, model_arch_at(i)->name);
    }
    EQ_STR(o[at].choices, all);
}

TEST(ranges) {
    static const char *const bad[][2] = {
        {"n_layer", "0"},
        {"n_layer", "513"},
        {"n_head", "0"},
        {"n_embd", "7"},
        {"n_embd", "65537"},
        {"block_size", "7"},
        {"batch_size", "0"},
        {"batch_size", "65537"},
        {"gradient_accumulation_steps", "0"},
        {"dropout", "-0.1"},
        {"dropout", "0.96"},
        {"dropout", "nan"},
        {"learning_rate", "-1"},
        {"learning_rate", "11"},
        {"learning_rate", "inf"},
        {"max_iters", "0"},
        {"warmup_iters", "-1"},
        {"beta1", "1"},
        {"beta2", "1"},
        {"eps", "0"},
        {"grad_clip", "-1"},
        {"eval_interval", "0"},
        {"eval_iters", "-1"},
        {"early_stop", "-1"},
        {"log_interval", "0"},
        {"seed", "-1"},
        {"threads", "4097"},
        {"train_seconds", "-5"},
        {"norm_eps", "0"},
        {"arch", "bert"},
        {"schedule", "step"},
        {"dtype", "int8"},
        {"device", "tpu"},
        {"cpu", "sse"},
        {"resume", "maybe"},
        {"n_layer", "six"},
        {"n_layer", "2.5"},
        {"n_layer", ""},
    };
    Fix f;
    fix_init(&f);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        FAILS(ERR_ARG, opt_set(f.o, bad[i][0], bad[i][1], TERR));
        if (!strstr(test_err.msg, bad[i][0])) FAIL("\"%s\" lacks \"%s\"", test_err.msg, bad[i][0]);
    }
    fix_free(&f);
}

/* The keys of the code-completion configuration that people bring along. */
TEST(familiar_keys_are_there) {
    static const char *const keys[][2] = {
        {"out_dir", "out-code-assistant"},
        {"eval_interval", "500"},
        {"eval_iters", "100"},
        {"log_interval", "10"},
        {"dataset", "python_code"},
        {"gradient_accumulation_steps", "4"},
        {"batch_size", "8"},
        {"block_size", "512"},
        {"n_layer", "12"},
        {"n_head", "12"},
        {"n_embd", "768"},
        {"dropout", "0.1"},
        {"init_from", "scratch"},
        {"learning_rate", "5e-5"},
        {"max_iters", "5000"},
        {"lr_decay_iters", "5000"},
        {"min_lr", "5e-6"},
        {"weight_decay", "0.1"},
        {"grad_clip", "1.0"},
        {"decay_lr", "true"},
        {"warmup_iters", "100"},
        {"device", "cuda"},
        {"dtype", "float16"},
        {"compile", "true"},
        {"always_save_checkpoint", "false"},
        {"beta1", "0.9"},
        {"beta2", "0.95"},
    };
    Fix f;
    ModelConfig m;
    fix_init(&f);
    fix_set(&f, "arch", "gpt2");
    for (size_t i = 0; i < COUNT_OF(keys); i++) fix_set(&f, keys[i][0], keys[i][1]);
    fix_set(&f, "n_ff", "0");
    OK_(train__check(&f.c, TERR));
    OK_(train__model_config(&m, &f.c, 50257, TERR));
    NEAR((double)model_n_params(&m), 124439808.0 - 512 * 768,
         0); /* a context of 512 instead of 1,024 */
    fix_free(&f);
}
