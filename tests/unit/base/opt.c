/* SPDX-License-Identifier: Apache-2.0 */
#include "base/opt.h"

#include "opt_fixture.h"
#include "test.h"

TEST(defaults) {
    Demo d;
    OptSet *o = demo_new(&d);
    EQ(d.batch, 16);
    NEAR(d.rate, 5e-5, 0);
    EQ(d.mmap, true);
    EQ(d.quiet, false);
    EQ_STR(d.dtype, "bf16");
    TRUE_(d.model == NULL);
    EQ(d.files.n, 0);
    EQ(d.seed, 0);
    TRUE_(!opt_given(o, "batch_size") && !opt_given(o, "dtype"));
    opt_free(o);
    opt_free(NULL);
}

TEST(set_one_value) {
    Demo d;
    OptSet *o = demo_new(&d);
    OK_(opt_set(o, "batch_size", "256", TERR));
    OK_(opt_set(o, "learning-rate", "1", TERR));
    OK_(opt_set(o, "mmap", "no", TERR));
    OK_(opt_set(o, "model", "a b", TERR));
    OK_(opt_set(o, "seed", "1e6", TERR));
    OK_(opt_set(o, "dtype", "f16", TERR));
    EQ(d.batch, 256);
    NEAR(d.rate, 1, 0);
    EQ(d.mmap, false);
    EQ_STR(d.model, "a b");
    EQ(d.seed, 1000000);
    EQ_STR(d.dtype, "f16");
    OK_(opt_set(o, "seed", "25.6k", TERR));
    EQ(d.seed, 25600);
    OK_(opt_set(o, "seed", "-8K", TERR));
    EQ(d.seed, -8192);
    OK_(opt_set(o, "seed", "2G", TERR));
    EQ(d.seed, 2LL << 30);
    TRUE_(opt_given(o, "batch-size") && opt_given(o, "batch_size"));
    TRUE_(!opt_given(o, "quiet") && !opt_given(o, "absent"));
    opt_free(o);
}

/* The value and the limit are named, and the field keeps what it had. */
TEST(bad_values) {
    static const struct {
        const char *key, *value, *says;
    } ROWS[] = {
        {"batch_size", "0", "batch_size: '0' is below the limit of 1"},
        {"batch_size", "257", "batch_size: '257' is above the limit of 256"},
        {"batch_size", "1.5", "batch_size: '1.5' is not a whole number"},
        {"batch_size", "1e-1", "batch_size: '1e-1' is not a whole number"},
        {"batch_size", "k", "batch_size: 'k' is not a whole number"},
        {"batch_size", "1.5e-3k", "batch_size: '1.5e-3k' is not a whole number"},
        {"batch_size", "1kk", "batch_size: '1kk' is not a whole number"},
        {"batch_size", "1k", "batch_size: '1k' is above the limit of 256"},
        {"batch_size", "", "batch_size: '' is not a whole number"},
        {"batch_size", "1e300", "batch_size: '1e300' is not a whole number"},
        {"learning_rate", "2", "learning_rate: '2' is above the limit of 1"},
        {"learning_rate", "nan", "learning_rate: 'nan' is not a number"},
        {"mmap", "1", "mmap: '1' is not true or false"},
        {"dtype", "bf", "dtype: 'bf' is not one of f32|f16|bf16"},
        {"dtype", "f32|f16", "dtype: 'f32|f16' is not one of f32|f16|bf16"},
        {"dtype", "", "dtype: '' is not one of f32|f16|bf16"},
        {"seed", "9223372036854775808", "seed: '9223372036854775808' is not a whole number"},
        {"mmap", "a\nb", "mmap: 'a\\x0ab' is not true or false"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        Demo d;
        OptSet *o = demo_new(&d);
        FAILS(ERR_ARG, opt_set(o, ROWS[i].key, ROWS[i].value, TERR));
        EQ_STR(test_err.msg, ROWS[i].says);
        TRUE_(!opt_given(o, ROWS[i].key));
        EQ(d.batch, 16);
        NEAR(d.rate, 5e-5, 0);
        EQ(d.mmap, true);
        EQ_STR(d.dtype, "bf16");
        opt_free(o);
    }
}

TEST(unknown_key_names_the_nearest) {
    Demo d;
    OptSet *o = demo_new(&d);
    FAILS(ERR_ARG, opt_set(o, "batchsize", "1", TERR));
    EQ_STR(test_err.msg, "unknown option batchsize; did you mean batch_size?");
    FAILS(ERR_ARG, opt_set(o, "learning-rtae", "1", TERR));
    EQ_STR(test_err.msg, "unknown option learning-rtae; did you mean learning_rate?");
    FAILS(ERR_ARG, opt_set(o, "zebra", "1", TERR));
    EQ_STR(test_err.msg, "unknown option zebra");
    FAILS(ERR_ARG, opt_set(o, "sxxd", "1", TERR)); /* two letters of four: no guess */
    EQ_STR(test_err.msg, "unknown option sxxd");
    FAILS(ERR_ARG, opt_set(o, "", "1", TERR));
    char longest[500];
    memset(longest, 'q', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    FAILS(ERR_ARG, opt_set(o, longest, "1", TERR));
    FAILS(ERR_ARG, opt_set(o, "batch_siz\033", "1", TERR));
    EQ_STR(test_err.msg, "unknown option batch_siz\\x1b; did you mean batch_size?");
    opt_free(o);
}

TEST(lists_grow) {
    Demo d;
    OptSet *o = demo_new(&d);
    char text[16];
    for (int i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "item%d", i);
        OK_(opt_set(o, "file", text, TERR));
    }
    EQ(d.files.n, 100);
    EQ_STR(d.files.v[0], "item0");
    EQ_STR(d.files.v[99], "item99");
    opt_free(o);
}

/* A table whose default breaks its own range is a mistake in the table. */
TEST(bad_default) {
    static const OptSpec BAD[] = {
        {.key = "n", .type = OPT_INT, .def = "5", .min = 1, .max = 4, .help = "x"},
    };
    int64_t n = 0;
    OptSet *o = NULL;
    FAILS(ERR_ARG, opt_new(&o, BAD, 1, &n, TERR));
    TRUE_(o == NULL);
}

TEST(format) {
    Demo d;
    OptSet *o = demo_new(&d);
    StrBuf b = {0};
    OK_(opt_set(o, "learning_rate", "0.1", TERR));
    OK_(opt_set(o, "file", "a.txt", TERR));
    OK_(opt_set(o, "file", "say \"hi\"\n", TERR));
    for (int i = 0; i < N_DEMO; i++) {
        opt_format(o, DEMO[i].key, &b);
        sb_putc(&b, ' ');
    }
    opt_format(o, "absent", &b);
    EQ_STR(sb_str(&b), "16 0.1 true false bf16 null [a.txt, \"say \\\"hi\\\"\\x0a\"] 0 ");
    sb_deinit(&b);
    opt_free(o);
}
