/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/engine/grammar_help.h"

typedef struct Case {
    const char *pattern;
    const char *yes[8], *no[8]; /* up to a NULL */
} Case;

static const Case cases[] = {
    {"abc", {"abc"}, {"", "ab", "abcd", "xabc"}},
    {"", {""}, {"a"}},
    {"^abc$", {"abc"}, {"^abc$"}},
    {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
    {"(ab)*c", {"c", "abc", "ababc"}, {"ac", "aabc"}},
    {"a+b?", {"a", "aab", "ab"}, {"b", "abb"}},
    {"[a-c]{2,3}", {"ab", "cab"}, {"a", "abca", "ad"}},
    {"a{3}", {"aaa"}, {"aa", "aaaa"}},
    {"a{2,}", {"aa", "aaaaaa"}, {"a"}},
    {"a{0}b", {"b"}, {"ab"}},
    {"\\d\\w\\s", {"1a ", "0_\t"}, {"a1 ", "1-"}},
    {"\\D\\W\\S", {"x-y", "\xc3\xa9-x"}, {"1-x", "xax"}},
    {"[^a-z]", {"A", "\xc3\xa9", "\xf0\x9f\x98\x80"}, {"a", "\xc3", "AB"}},
    {".", {"a", "\xe2\x82\xac"}, {"\n", "\xe2\x82", "\xed\xa0\x80", "\xff", "\xc0\x80"}},
    {"[\\d.-]+", {"1.2-3", "-"}, {"a"}},
    {"[]a]+", {"]a]"}, {"b"}},
    {"[\xc3\xa0-\xc3\xbf\xe2\x82\xac]", {"\xc3\xa9", "\xe2\x82\xac"}, {"e", "\xc3\x80"}},
    {"\\x41\\u0042\\u{1F600}", {"AB\xf0\x9f\x98\x80"}, {"AB"}},
    {"(?:a|b)(?<n>c)", {"ac", "bc"}, {"c"}},
    {"\\(\\[\\{\\.\\*", {"([{.*"}, {"(["}},
    {"a*?b+?", {"aab", "b"}, {"a"}},
    {"(a|ab)(c|bcd)", {"ac", "abc", "abcd", "abbcd"}, {"ab", "abb"}},
    {"(a*)*b", {"b", "aaab"}, {"a"}},
    {"([0-9]{1,3}\\.){3}[0-9]{1,3}", {"1.22.333.4"}, {"1.2.3", "1.2.3.4444"}},
};

TEST(texts) {
    GrammarVocab *v = help_vocab();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const Case *c = &cases[i];
        Grammar *g = NULL;
        OK_(grammar_from_regex(&g, slice_of(c->pattern), NULL, TERR));
        for (int k = 0; k < 8 && c->yes[k]; k++)
            if (!help_accepts(g, v, slice_of(c->yes[k])))
                FAIL("%s refuses %s", c->pattern, c->yes[k]);
        for (int k = 0; k < 8 && c->no[k]; k++)
            if (help_accepts(g, v, slice_of(c->no[k]))) FAIL("%s takes %s", c->pattern, c->no[k]);
        OK_(grammar_check(g, TERR));
        grammar_free(g);
    }
    grammar_vocab_free(v);
}

TEST(masks_are_exact) {
    GrammarVocab *v = help_vocab();
    StrBuf out = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Grammar *g = NULL;
        OK_(grammar_from_regex(&g, slice_of(cases[i].pattern), NULL, TERR));
        for (uint64_t seed = 0; seed < 6; seed++) {
            TRUE_(help_walk(g, v, seed, 4, 400, &out, true));
            TRUE_(help_accepts(g, v, (Slice){sb_str(&out), out.n}));
        }
        grammar_free(g);
    }
    sb_deinit(&out);
    grammar_vocab_free(v);
}

TEST(refused_with_the_place) {
    static const struct {
        const char *pattern;
        Status st;
        const char *place;
    } bad[] = {
        {"a(b", ERR_FORMAT, "1:2: "},         {"ab)", ERR_FORMAT, "1:3: "},
        {"x\ny[a", ERR_FORMAT, "2:2: "},      {"*a", ERR_FORMAT, "1:1: "},
        {"a(?=b)", ERR_UNSUPPORTED, "1:2: "}, {"(a)\\1", ERR_UNSUPPORTED, "1:4: "},
        {"a\\b", ERR_UNSUPPORTED, "1:2: "},   {"\\p{L}", ERR_UNSUPPORTED, "1:1: "},
        {"a$b", ERR_UNSUPPORTED, "1:2: "},    {"[z-a]", ERR_FORMAT, "1:2: "},
        {"a{3,2}", ERR_FORMAT, "1:2: "},      {"a\\", ERR_FORMAT, "1:2: "},
        {"a{0,1000000}", ERR_FULL, "1:2: "},  {"((a{1000}){1000}){1000}", ERR_FULL, "1:"},
        {"\xff", ERR_FORMAT, "1:1: "},        {"[^\\d\\D]", ERR_UNSUPPORTED, "1:1: "},
        {"a{", ERR_FORMAT, "1:2: "},          {"\\ud800", ERR_FORMAT, "1:1: "},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Grammar *g = NULL;
        FAILS(bad[i].st, grammar_from_regex(&g, slice_of(bad[i].pattern), NULL, TERR));
        TRUE_(g == NULL);
        if (strncmp(test_err.msg, bad[i].place, strlen(bad[i].place)) != 0)
            FAIL("%s: %s", bad[i].pattern, test_err.msg);
    }
}

TEST(choices) {
    static const char *const words[] = {"yes", "no",        "not at all",
                                        "",    "yesterday", "\xc3\xa9t\xc3\xa9",
                                        "no"};
    GrammarVocab *v = help_vocab();
    Slice s[COUNT_OF(words)];
    Grammar *g = NULL;
    for (size_t i = 0; i < COUNT_OF(words); i++) s[i] = slice_of(words[i]);
    OK_(grammar_from_choices(&g, s, COUNT_OF(words), NULL, TERR));
    for (size_t i = 0; i < COUNT_OF(words); i++) TRUE_(help_accepts(g, v, s[i]));
    FALSE_(help_accepts(g, v, slice_of("ye")));
    FALSE_(help_accepts(g, v, slice_of("not")));
    FALSE_(help_accepts(g, v, slice_of("yesno")));
    StrBuf out = {0};
    for (uint64_t seed = 0; seed < 20; seed++) TRUE_(help_walk(g, v, seed, 3, 100, &out, true));
    sb_deinit(&out);
    grammar_free(g);
    FAILS(ERR_UNSUPPORTED, grammar_from_choices(&g, NULL, 0, NULL, TERR));
    s[0] = slice_of("\xff");
    FAILS(ERR_FORMAT, grammar_from_choices(&g, s, 1, NULL, TERR));
    grammar_vocab_free(v);
}

TEST(states_go_back) {
    GrammarVocab *v = help_vocab();
    Grammar *g = NULL;
    GrammarState s = {0}, mark = {0};
    OK_(grammar_from_regex(&g, slice_of("ab(c|d)"), NULL, TERR));
    OK_(grammar_state_init(&s, g, v, TERR));
    FALSE_(grammar_can_end(&s));
    OK_(grammar_accept_bytes(&s, slice_of("ab"), TERR));
    OK_(grammar_state_copy(&mark, &s, TERR));
    OK_(grammar_accept(&s, 'c', TERR));
    TRUE_(grammar_can_end(&s) && grammar_is_done(&s));
    FAILS(ERR_ARG, grammar_accept(&s, 'c', TERR));
    TRUE_(grammar_is_done(&s)); /* as before */
    OK_(grammar_state_copy(&s, &mark, TERR));
    FAILS(ERR_ARG, grammar_accept(&s, HELP_END, TERR));
    FAILS(ERR_ARG, grammar_accept(&s, HELP_NO_TEXT, TERR));
    FAILS(ERR_ARG, grammar_accept(&s, HELP_N, TERR));
    FAILS(ERR_ARG, grammar_accept(&s, -1, TERR));
    FAILS(ERR_ARG, grammar_accept_bytes(&s, slice_of("dx"), TERR));
    OK_(grammar_accept(&s, 'd', TERR));
    OK_(grammar_accept(&s, HELP_END, TERR));
    TRUE_(grammar_is_done(&s) && grammar_can_end(&s));
    uint32_t mask[(HELP_N + 31) / 32];
    OK_(grammar_mask(&s, mask, TERR));
    for (int i = 0; i < HELP_N; i++) EQ(mask[i / 32] >> (i % 32) & 1, i == HELP_END);
    grammar_state_deinit(&s);
    grammar_state_deinit(&mark);
    OK_(grammar_check(g, TERR));
    grammar_free(g);
    grammar_vocab_free(v);
}
