/* SPDX-License-Identifier: Apache-2.0 */
#include "opt_fixture.h"
#include "test.h"

/* Parse the words up to NULL. */
static Status parse(OptSet *o, OptList *pos, const char *const *words) {
    char *argv[16];
    int n = 0;
    for (; words[n]; n++) argv[n] = (char *)(uintptr_t)words[n];
    return opt_parse_args(o, n, argv, pos, TERR);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

TEST(every_form) {
    Demo d;
    OptList pos = {0};
    OptSet *o = demo_new(&d);
    OK_(parse(o, &pos,
              WORDS("one", "--batch-size", "7", "--learning_rate=0.5", "-q", "-m", "x.gguf", "two",
                    "--no-mmap", "--dtype=f32")));
    EQ(d.batch, 7);
    NEAR(d.rate, 0.5, 0);
    EQ(d.quiet, true);
    EQ(d.mmap, false);
    EQ_STR(d.model, "x.gguf");
    EQ_STR(d.dtype, "f32");
    EQ(pos.n, 2);
    EQ_STR(pos.v[0], "one");
    EQ_STR(pos.v[1], "two");
    opt_free(o);
}

TEST(booleans) {
    static const struct {
        const char *word, *next;
        bool quiet;
        int n_pos;
    } ROWS[] = {
        {"--quiet", "rest", true, 1},     {"--quiet", "true", true, 0},
        {"--quiet", "false", false, 0},   {"-q", "no", false, 0},
        {"--no-quiet", "rest", false, 1}, {"--no_quiet", "yes", false, 1},
        {"--quiet=yes", "no", true, 1},   {"--quiet=false", "x", false, 1},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        Demo d;
        OptList pos = {0};
        OptSet *o = demo_new(&d);
        OK_(parse(o, &pos, WORDS(ROWS[i].word, ROWS[i].next)));
        EQ(d.quiet, ROWS[i].quiet);
        EQ(pos.n, ROWS[i].n_pos);
        TRUE_(opt_given(o, "quiet"));
        opt_free(o);
    }
}

TEST(dashes) {
    Demo d;
    OptList pos = {0};
    OptSet *o = demo_new(&d);
    OK_(parse(o, &pos, WORDS("--seed", "-5", "--model", "---", "-", "--", "--quiet", "-x", "--")));
    EQ(d.seed, -5);
    EQ_STR(d.model, "---");
    EQ(d.quiet, false);
    EQ(pos.n, 4);
    EQ_STR(pos.v[0], "-");
    EQ_STR(pos.v[1], "--quiet");
    EQ_STR(pos.v[3], "--");
    OK_(parse(o, &pos, WORDS("--model=--quiet", "--file=")));
    EQ_STR(d.model, "--quiet");
    EQ_STR(d.files.v[0], "");
    opt_free(o);
}

TEST(mistakes) {
    static const struct {
        const char *a, *b, *says;
    } ROWS[] = {
        {"--batch-size", NULL, "--batch-size needs a value"},
        {"--model", "--quiet", "--model needs a value"},
        {"--model", "--no-mmap", "--model needs a value"},
        {"--model", "-q", "--model needs a value"},
        {"-m", "--", "-m needs a value"},
        {"--batch_sise", "1", "unknown option --batch_sise; did you mean --batch-size?"},
        {"--no-batch-size", NULL, "unknown option --no-batch-size; did you mean --batch-size?"},
        {"--no-quiet=true", NULL, "--no-quiet=true: takes no value after 'no'"},
        {"-x", NULL, "unknown option -x; short options are one letter: -k value"},
        {"-qq", NULL, "unknown option -qq; short options are one letter: -k value"},
        {"--quiet=maybe", NULL, "quiet: 'maybe' is not true or false"},
        {"--=1", NULL, "unknown option --"},
        {"-b", "300", "batch_size: '300' is above the limit of 256"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        Demo d;
        OptList pos = {NULL, 77};
        OptSet *o = demo_new(&d);
        EQ(parse(o, &pos, WORDS(ROWS[i].a, ROWS[i].b)), ERR_ARG);
        EQ_STR(test_err.msg, ROWS[i].says);
        EQ(pos.n, 77);
        opt_free(o);
    }
}

/* One command line gathers; the next one starts afresh. */
TEST(lists) {
    Demo d;
    OptList pos;
    OptSet *o = demo_new(&d);
    OK_(parse(o, &pos, WORDS("-f", "a", "--file", "b", "--file=c")));
    EQ(d.files.n, 3);
    EQ_STR(d.files.v[2], "c");
    OK_(parse(o, &pos, WORDS("-f", "z")));
    EQ(d.files.n, 1);
    EQ_STR(d.files.v[0], "z");
    EQ(opt_parse_args(o, 0, NULL, &pos, TERR), OK);
    EQ(pos.n, 0);
    EQ(d.files.n, 1);
    opt_free(o);
}
