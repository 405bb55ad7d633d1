/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "base/internal.h"
#include "base/io.h"
#include "opt_fixture.h"
#include "test.h"

static Status parse(OptSet *o, const char *text) {
    return opt__parse_yaml(o, "c.yaml", text, strlen(text), TERR);
}

/* A file in this case's folder; its path is valid for the next three calls. */
static const char *put(const char *name, const char *text) {
    static char buf[4][512];
    static int at;
    char *path = buf[at++ % 4];
    snprintf(path, 512, "%s/%s", test_tmpdir(), name);
    IoWriter w;
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
    return path;
}

TEST(every_type) {
    Demo d;
    OptSet *o = demo_new(&d);
    OK_(parse(o, "# a comment\nbatch_size: 32\nlearning-rate: 1e-4\nmmap: no\nquiet: true\n"
                 "dtype: 'f16'\nmodel: \"a b\\u00e9.gguf\"\nfile: [x, 'y z']\nseed: 1e3\n"));
    EQ(d.batch, 32);
    NEAR(d.rate, 1e-4, 0);
    EQ(d.mmap, false);
    EQ(d.quiet, true);
    EQ_STR(d.dtype, "f16");
    EQ_STR(d.model, "a b\xC3\xA9.gguf");
    EQ(d.files.n, 2);
    EQ_STR(d.files.v[1], "y z");
    EQ(d.seed, 1000);
    for (int i = 0; i < N_DEMO; i++) TRUE_(opt_given(o, DEMO[i].key));
    opt_free(o);
}

TEST(empty_files_set_nothing) {
    static const char *const TEXTS[] = {"", "\n\n", "# only words\n", "{}", "---\n{}\n...\n"};
    for (size_t i = 0; i < COUNT_OF(TEXTS); i++) {
        Demo d;
        OptSet *o = demo_new(&d);
        OK_(parse(o, TEXTS[i]));
        EQ(d.batch, 16);
        opt_free(o);
    }
}

TEST(null_is_the_default) {
    Demo d;
    OptSet *o = demo_new(&d);
    OK_(parse(o, "batch_size: 3\nmodel: x\nfile: [a]\ndtype: f32\n"));
    OK_(parse(o, "batch_size: ~\nmodel: null\nfile:\ndtype:\n"));
    EQ(d.batch, 16);
    TRUE_(d.model == NULL);
    EQ(d.files.n, 0);
    EQ_STR(d.dtype, "bf16");
    TRUE_(!opt_given(o, "batch_size") && !opt_given(o, "file"));
    OK_(parse(o, "model: 'null'\n")); /* in quotes it is text */
    EQ_STR(d.model, "null");
    OK_(parse(o, "model: ''\nfile: one\n"));
    EQ_STR(d.model, "");
    EQ(d.files.n, 1);
    opt_free(o);
}

TEST(list_forms) {
    Demo d;
    OptSet *o = demo_new(&d);
    OK_(parse(o, "file:\n- a\n- b\n- c\n"));
    EQ(d.files.n, 3);
    OK_(parse(o, "file: z\n")); /* the later file replaces */
    EQ(d.files.n, 1);
    EQ_STR(d.files.v[0], "z");
    OK_(parse(o, "file: []\n"));
    EQ(d.files.n, 0);
    TRUE_(opt_given(o, "file"));
    OK_(opt_set(o, "file", "flag", TERR));
    EQ(d.files.n, 1);
    opt_free(o);
}

/* A flag after the file wins, and its list is not mixed with the file's. */
TEST(flags_over_file) {
    Demo d;
    OptList pos;
    char *argv[] = {(char[]){"--batch-size=5"}, (char[]){"--file=c"}};
    OptSet *o = demo_new(&d);
    OK_(parse(o, "batch_size: 3\nfile: [a, b]\nseed: 9\n"));
    OK_(opt_parse_args(o, 2, argv, &pos, TERR));
    EQ(d.batch, 5);
    EQ(d.files.n, 1);
    EQ_STR(d.files.v[0], "c");
    EQ(d.seed, 9);
    opt_free(o);
}

/* What libyaml itself refuses is in its words, so only their start is compared. */
TEST(refused) {
    static const struct {
        const char *text, *says;
    } ROWS[] = {
        {"a: 1", "c.yaml:1:1: unknown option a"},
        {"seed: 1\n  \nbatchsize: 2",
         "c.yaml:3:1: unknown option batchsize; did you mean batch_size?"},
        {"seed: 1\nbatch_size:   0", "c.yaml:2:15: batch_size: '0' is below the limit of 1"},
        {"seed: 1\nseed: 2", "c.yaml:2:1: seed: given twice, first in line 1"},
        {"batch_size: 1\nbatch-size: 2", "c.yaml:2:1: batch-size: given twice, first in line 1"},
        {"- a", "c.yaml:1:1: a sequence where a mapping of key: value lines is expected"},
        {"hello", "c.yaml:1:1: a single value where a mapping of key: value lines is expected"},
        {"seed: {a: 1}", "c.yaml:1:7: a mapping where a value is expected"},
        {"file: [a, [b]]", "c.yaml:1:11: a sequence where a list item is expected"},
        {"file: [a, {b: c}]", "c.yaml:1:11: a mapping where a list item is expected"},
        {"file: [a, ~]", "c.yaml:1:11: file: empty list item"},
        {"seed: [1]", "c.yaml:1:7: seed: takes one value, not a list"},
        {"include: [a]", "c.yaml:1:10: include: takes one value, not a list"},
        {"[a]: 1", "c.yaml:1:1: a sequence where a key is expected"},
        {"model: &x y", "c.yaml:1:8: anchors are not supported"},
        {"file: &x [y]", "c.yaml:1:7: anchors are not supported"},
        {"&x {seed: 1}", "c.yaml:1:1: anchors are not supported"},
        {"&x seed: 1", "c.yaml:1:1: anchors are not supported"},
        {"seed: *x", "c.yaml:1:7: an alias where a value is expected"},
        {"seed: !!int 1", "c.yaml:1:7: tags are not supported"},
        {"file: !t [y]", "c.yaml:1:7: tags are not supported"},
        {"seed: 1\n---\nseed: 2",
         "c.yaml:2:1: a second document where the end of the file is expected"},
        {"model: \"a\\0b\"", "c.yaml:1:8: value has a zero byte"},
        {"include: x.yaml", "c.yaml:1:10: include: only files can include files"},
        {"seed: \"1", "c.yaml:1:9: found"},
        {"seed: 1\n\tquiet: true", "c.yaml:2:1: found"},
        {"model: \xff", "c.yaml: byte 7: invalid"},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        Demo d;
        OptSet *o = demo_new(&d);
        EQ(parse(o, ROWS[i].text), ERR_ARG);
        if (!str_starts_with(test_err.msg, ROWS[i].says))
            FAIL("%s: %s", ROWS[i].text, test_err.msg);
        opt_free(o);
    }
}

/* The outer file wins wherever its include stands; paths are seen from the including file. */
TEST(include_is_overridden) {
    Demo d;
    OptSet *o = demo_new(&d);
    char sub[512];
    snprintf(sub, sizeof sub, "%s/sub", test_tmpdir());
    OK_(io_mkdirs(sub, TERR));
    put("sub/base.yaml", "batch_size: 2\nseed: 2\nfile: [a, b]\ninclude: deep.yaml\nmodel: sub\n");
    put("sub/deep.yaml", "seed: 3\nquiet: yes\nmodel: deep\n");
    OK_(opt_load_yaml(o, put("top.yaml", "batch_size: 1\ninclude: sub/base.yaml\nfile: [c]\n"),
                      TERR));
    EQ(d.batch, 1);
    EQ(d.seed, 2);
    EQ(d.quiet, true);
    EQ_STR(d.model, "sub");
    EQ(d.files.n, 1);
    EQ_STR(d.files.v[0], "c");
    opt_free(o);
}

TEST(include_of_an_absolute_path) {
    Demo d;
    OptSet *o = demo_new(&d);
    char text[600];
    snprintf(text, sizeof text, "include: %s\n", put("other.yaml", "seed: 8"));
    OK_(opt_load_yaml(o, put("top.yaml", text), TERR));
    EQ(d.seed, 8);
    opt_free(o);
}

TEST(include_errors) {
    Demo d;
    OptSet *o = demo_new(&d);
    FAILS(ERR_ARG, opt_load_yaml(o, put("a.yaml", "seed: 1\ninclude: no.yaml"), TERR));
    TRUE_(strstr(test_err.msg, "a.yaml:2:10: include: ") && strstr(test_err.msg, "No such file"));
    put("bad.yaml", "seed: x\n");
    FAILS(ERR_ARG, opt_load_yaml(o, put("b.yaml", "include: bad.yaml"), TERR));
    TRUE_(strstr(test_err.msg, "/bad.yaml:1:7: seed: 'x' is not a whole number") != NULL);
    FAILS(ERR_NOT_FOUND, opt_load_yaml(o, "/no/such.yaml", TERR));
    FAILS(ERR_IO, opt_load_yaml(o, test_tmpdir(), TERR));
    opt_free(o);
}

TEST(include_cycles) {
    Demo d;
    OptSet *o = demo_new(&d);
    FAILS(ERR_ARG, opt_load_yaml(o, put("self.yaml", "include: ./self.yaml"), TERR));
    TRUE_(strstr(test_err.msg, "self.yaml: includes itself") != NULL);
    put("x.yaml", "include: y.yaml");
    FAILS(ERR_ARG, opt_load_yaml(o, put("y.yaml", "include: x.yaml"), TERR));
    TRUE_(strstr(test_err.msg, "y.yaml: includes itself through ") != NULL);
    opt_free(o);
}

TEST(include_depth) {
    Demo d;
    OptSet *o = demo_new(&d);
    char name[32], text[64], first[512] = "";
    for (int i = 1; i <= 9; i++) {
        snprintf(name, sizeof name, "d%d.yaml", i);
        snprintf(text, sizeof text, i < 9 ? "include: d%d.yaml\n" : "seed: %d\n", i + 1);
        const char *path = put(name, text);
        if (i == 1) snprintf(first, sizeof first, "%s", path);
    }
    FAILS(ERR_ARG, opt_load_yaml(o, first, TERR));
    TRUE_(strstr(test_err.msg, "d8.yaml:1:10: include: files nest deeper than 8") != NULL);
    snprintf(first, sizeof first, "%s/d2.yaml", test_tmpdir());
    OK_(opt_load_yaml(o, first, TERR)); /* eight files */
    EQ(d.seed, 10);
    opt_free(o);
}

/* A path longer than a message must not hide what is wrong. */
TEST(long_path_keeps_the_cause) {
    Demo d;
    OptSet *o = demo_new(&d);
    char name[400];
    memset(name, 'n', sizeof name);
    name[399] = '\0';
    EQ(opt__parse_yaml(o, name, "seed: x", 7, TERR), ERR_ARG);
    TRUE_(str_ends_with(test_err.msg, "nnn:1:7: seed: 'x' is not a whole number"));
    opt_free(o);
}

TEST(file_size_limit) {
    Demo d;
    OptSet *o = demo_new(&d);
    char *text = mem_new_n(char, (1 << 20) + 2);
    memset(text, '#', (1 << 20) + 1);
    const char *path = put("big.yaml", text);
    FAILS(ERR_FULL, opt_load_yaml(o, path, TERR));
    TRUE_(strstr(test_err.msg, "1048576") != NULL);
    EQ(truncate(path, 1 << 20), 0);
    OK_(opt_load_yaml(o, path, TERR));
    mem_free(text);
    opt_free(o);
}

/* What opt_format writes, opt_load_yaml reads back to the same values. */
TEST(round_trip) {
    static const char *const TEXTS[] = {"null",
                                        "~",
                                        "",
                                        "true",
                                        "a: b",
                                        "#x",
                                        " lead",
                                        "trail ",
                                        "-",
                                        "- a",
                                        "'q'",
                                        "\"",
                                        "\\",
                                        "a\tb\n",
                                        "\xC3\xA9",
                                        "[x]",
                                        "{",
                                        "*a",
                                        "&a",
                                        "!t",
                                        "1e5",
                                        "a,b",
                                        "\xC2\x82",
                                        "x\xC2\x85y",
                                        "\xE2\x80\xA8",
                                        "\xEF\xBB\xBF",
                                        "\xEF\xBF\xBF",
                                        "\xF0\x9F\x98\x80",
                                        "\x7F\x01"};
    for (size_t i = 0; i < COUNT_OF(TEXTS); i++) {
        Demo d, back;
        OptSet *o = demo_new(&d), *p = demo_new(&back);
        StrBuf b = {0};
        OK_(opt_set(o, "model", TEXTS[i], TERR));
        OK_(opt_set(o, "file", TEXTS[i], TERR));
        OK_(opt_set(o, "file", "z", TERR));
        OK_(opt_set(o, "learning_rate", "0.30000000000000004", TERR));
        for (int k = 0; k < N_DEMO; k++) {
            sb_printf(&b, "%s: ", DEMO[k].key);
            opt_format(o, DEMO[k].key, &b);
            sb_putc(&b, '\n');
        }
        OK_(opt__parse_yaml(p, "back", sb_str(&b), b.n, TERR));
        EQ_STR(back.model, d.model);
        EQ(back.files.n, 2);
        EQ_STR(back.files.v[0], d.files.v[0]);
        EQ(back.rate == d.rate && back.batch == d.batch && back.mmap == d.mmap, 1);
        sb_deinit(&b);
        opt_free(o);
        opt_free(p);
    }
}
