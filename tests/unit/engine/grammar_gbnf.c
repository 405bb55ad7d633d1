/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/engine/grammar_help.h"

typedef struct Case {
    const char *text;
    const char *yes[8], *no[8];
} Case;

#define JSON_GBNF                                                                                 \
    "root ::= object\n"                                                                           \
    "value ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"         \
    "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n" \
    "array ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"                                  \
    "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" "          \
    "[0-9a-fA-F]{4}) )* \"\\\"\" ws\n"                                                            \
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] "          \
    "[1-9]{0,15})? ws\n"                                                                          \
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n"

static const Case cases[] = {
    {"root ::= \"a\"", {"a"}, {"", "aa"}},
    {"# head\nroot   ::= x y # tail\n\nx ::= \"a\" |\n  \"b\"\r\ny::=(\n\"c\"\n|\"d\"\n)?",
     {"ac", "b", "bd"},
     {"c", "ab"}},
    {"root ::= [a-c0]+ [^a-c]", {"a0x", "c\xc3\xa9"}, {"x", "ab"}},
    {"root ::= \"\\x41\\u00e9\\U0001F600\\n\\\"\"", {"A\xc3\xa9\xf0\x9f\x98\x80\n\""}, {"A"}},
    {"root ::= \"ab\"{2} \"c\"{1,} \"d\"{0,2}",
     {"ababc", "ababccdd"},
     {"abc", "abababc", "ababddd"}},
    {"root ::= .", {"\xe2\x82\xac", "\n"}, {"", "ab", "\xff"}},
    {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", "())", ")("}},
    {"root ::= \"a\" root \"b\" | \"a\" root | \"\"", {"", "aab", "aabb", "a"}, {"b", "abb"}},
    {"root ::= \"a\" root | \"b\"", {"b", "aaaaab"}, {"a"}},
    {"root ::= e\ne ::= t (\" + \" t)*\nt ::= \"x\" | \"(\" e \")\"",
     {"x", "x + (x + x)"},
     {"x +", "(x"}},
    {"root ::= a* b\na ::= \"x\"?\nb ::= \"y\"", {"y", "xxy"}, {"x"}},
    {"root ::= (word \" \")+ \".\"\nword ::= [a-z]+", {"the cat .", "a ."}, {"a.", " ."}},
    {"root ::= s s s\ns ::= \"a\" s \"b\" | \"a\"+", {"aaa", "aabaaab"}, {"aa", "b"}},
    {JSON_GBNF,
     {"{}", "{\"a\": [1, {\"b\":null}], \"c\": -1.5e3}"},
     {"[]", "{\"a\"}", "{\"a\":01}", "{\"a\":1"}},
};

TEST(texts) {
    GrammarVocab *v = help_vocab();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const Case *c = &cases[i];
        Grammar *g = NULL;
        OK_(grammar_from_gbnf(&g, slice_of(c->text), NULL, TERR));
        for (int k = 0; k < 8 && c->yes[k]; k++)
            if (!help_accepts(g, v, slice_of(c->yes[k]))) FAIL("%s refuses %s", c->text, c->yes[k]);
        for (int k = 0; k < 8 && c->no[k]; k++)
            if (help_accepts(g, v, slice_of(c->no[k]))) FAIL("%s takes %s", c->text, c->no[k]);
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
        OK_(grammar_from_gbnf(&g, slice_of(cases[i].text), NULL, TERR));
        for (uint64_t seed = 0; seed < 6; seed++) {
            if (help_walk(g, v, seed, 10, 60, &out, true))
                TRUE_(help_accepts(g, v, (Slice){sb_str(&out), out.n}));
        }
        grammar_free(g);
    }
    sb_deinit(&out);
    grammar_vocab_free(v);
}

/* States nobody is in are dropped: a tiny allowance gives the same masks. */
TEST(little_memory_same_masks) {
    GrammarVocab *v = help_vocab();
    StrBuf a = {0}, b = {0};
    Grammar *g = NULL, *small = NULL;
    GrammarLimits lim = {.state_bytes = 40000, .mask_bytes = 1};
    OK_(grammar_from_gbnf(&g, slice_of(JSON_GBNF), NULL, TERR));
    OK_(grammar_from_gbnf(&small, slice_of(JSON_GBNF), &lim, TERR));
    for (uint64_t seed = 0; seed < 10; seed++) {
        GrammarState here;
        OK_(grammar_state_init(&here, small, v, TERR));
        OK_(grammar_accept_bytes(&here, slice_of("{\"a\":[["), TERR));
        bool done = help_walk(g, v, seed, 30, 200, &a, false);
        EQ(help_walk(small, v, seed, 30, 200, &b, false), done);
        EQ(a.n, b.n);
        EQ_MEM(sb_str(&a), sb_str(&b), a.n);
        help_check_mask(small, v, &here, slice_of("{\"a\":[["));
        OK_(grammar_accept_bytes(&here, slice_of("]]}"), TERR));
        TRUE_(grammar_can_end(&here));
        grammar_state_deinit(&here);
    }
    TRUE_(grammar_bytes(small) < grammar_bytes(g));
    grammar_free(g);
    grammar_free(small);
    sb_deinit(&a);
    sb_deinit(&b);
    grammar_vocab_free(v);
}

TEST(refused_with_the_place) {
    static const struct {
        const char *text;
        Status st;
        const char *message;
    } bad[] = {
        {"", ERR_FORMAT, "1:1: rule \"root\" is not defined"},
        {"x ::= \"a\"", ERR_FORMAT, "1:1: rule \"root\""},
        {"root ::= x", ERR_FORMAT, "1:10: rule \"x\" is not defined"},
        {"root ::= \"a", ERR_FORMAT, "1:10: literal"},
        {"root ::= [a", ERR_FORMAT, "1:10: class"},
        {"root ::= (\"a\"", ERR_FORMAT, "1:10: group"},
        {"root ::= \"a\")", ERR_FORMAT, "1:13: "},
        {"root = \"a\"", ERR_FORMAT, "1:6: ::="},
        {"root ::= \"a\"\nroot ::= \"b\"", ERR_FORMAT, "2:1: rule \"root\" is defined twice"},
        {"root ::= \"\\q\"", ERR_FORMAT, "1:11: unknown escape"},
        {"root ::= \"\\xZZ\"", ERR_FORMAT, "1:11: 2 hex"},
        {"root ::= \"\\ud800\"", ERR_FORMAT, "1:11: "},
        {"root ::= \"a\"{2,1}", ERR_FORMAT, "1:13: "},
        {"root ::= \"a\"{x}", ERR_FORMAT, "1:13: "},
        {"root ::= \"abcdef\"{0,1000000}", ERR_FULL, "1:18: "},
        {"root ::= root \"a\" | \"b\"", ERR_UNSUPPORTED, "1:1: rule \"root\" is left-recursive"},
        {"root ::= a\na ::= b \"x\"\nb ::= \"\" c\nc ::= e? a | \"y\"\ne ::= \"e\"",
         ERR_UNSUPPORTED, "2:1: "},
        {"root ::= n root \"a\" | \"b\"\nn ::= \"n\"?", ERR_UNSUPPORTED,
         "1:1: rule \"root\" is left"},
        {"root ::= \"a\" root", ERR_UNSUPPORTED, "1:1: no text"},
        {"root ::= []", ERR_UNSUPPORTED, "1:1: no text"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Grammar *g = NULL;
        Status st = grammar_from_gbnf(&g, slice_of(bad[i].text), NULL, TERR);
        if (st != bad[i].st || !strstr(test_err.msg, bad[i].message))
            FAIL("%s: %d %s", bad[i].text, (int)st, test_err.msg);
    }
}

/* Rules that double 40 times: written in place they would be a terabyte. */
TEST(doubling_rules_are_called) {
    StrBuf b = {0};
    Grammar *g = NULL;
    GrammarVocab *v = help_vocab();
    sb_puts(&b, "root ::= r0\n");
    for (int i = 0; i < 40; i++) sb_printf(&b, "r%d ::= r%d r%d\n", i, i + 1, i + 1);
    sb_puts(&b, "r40 ::= \"a\"\n");
    OK_(grammar_from_gbnf(&g, (Slice){b.p, b.n}, NULL, TERR));
    GrammarState s;
    OK_(grammar_state_init(&s, g, v, TERR));
    for (int i = 0; i < 2000; i++) OK_(grammar_accept(&s, 'a', TERR));
    FAILS(ERR_ARG, grammar_accept(&s, 'b', TERR));
    grammar_state_deinit(&s);
    grammar_free(g);
    sb_deinit(&b);
    grammar_vocab_free(v);
}

/* Compiling took as long as the repetition is large, with no state to count. */
TEST(much_of_nothing) {
    static const char *const texts[] = {"root ::= a{10001000010} \"x\"\na ::=",
                                        "root ::= ((\"\"{9999999}){9999999} | \"\"?)+ \"x\""};
    GrammarVocab *v = help_vocab();
    StrBuf b = {0};
    Grammar *g = NULL;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        OK_(grammar_from_gbnf(&g, slice_of(texts[i]), NULL, TERR));
        TRUE_(help_accepts(g, v, slice_of("x")));
        grammar_free(g);
    }
    sb_puts(&b, "root ::= r0 \"x\"\n");
    for (int i = 0; i < 40; i++) sb_printf(&b, "r%d ::= r%d r%d\n", i, i + 1, i + 1);
    sb_puts(&b, "r40 ::= \"\"\n");
    OK_(grammar_from_gbnf(&g, (Slice){b.p, b.n}, NULL, TERR));
    GrammarState s;
    Status st = grammar_state_init(&s, g, v, TERR);
    if (st != OK) EQ(st, ERR_FULL);
    grammar_state_deinit(&s);
    grammar_free(g);
    sb_deinit(&b);
    grammar_vocab_free(v);
}

/* What is ambiguous without end costs its own request: refused at a step, and quickly. */
TEST(ambiguous_without_end) {
    static const char *const texts[] = {
        "root ::= \"a\" | \"a\" root root root",
        "root ::= x x x x x x x x x x x x\nx ::= \"a\" x \"b\"? | \"a\"? y\ny ::= \"a\" y? x?",
        "root ::= ([ab]* \"a\" [ab]{300} \"x\")",
    };
    GrammarVocab *v = help_vocab();
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        Grammar *g = NULL;
        GrammarState s;
        uint32_t mask[(HELP_N + 31) / 32];
        GrammarLimits lim = {.mask_work = 300000, .state_bytes = 1 << 20};
        OK_(grammar_from_gbnf(&g, slice_of(texts[i]), &lim, TERR));
        OK_(grammar_state_init(&s, g, v, TERR));
        Status st = OK;
        for (int t = 0; t < 3000 && st == OK; t++) {
            st = grammar_mask(&s, mask, TERR);
            if (st == OK) st = grammar_accept(&s, t * 7 % 3 ? 'a' : i == 2 ? 'b' : 'a', TERR);
        }
        if (st != OK && st != ERR_ARG) EQ(st, ERR_FULL);
        TRUE_(grammar_bytes(g) < (16 << 20));
        OK_(grammar_check(g, TERR));
        grammar_state_deinit(&s);
        grammar_free(g);
    }
    grammar_vocab_free(v);
}

/* Nesting ends where the stack does: what would open more is not allowed any more. */
TEST(stack_is_bounded) {
    GrammarVocab *v = help_vocab();
    Grammar *g = NULL;
    GrammarState s;
    GrammarLimits lim = {.stack_depth = 8};
    OK_(grammar_from_gbnf(&g, slice_of("root ::= \"[\" root? \"]\""), &lim, TERR));
    OK_(grammar_state_init(&s, g, v, TERR));
    int n = 0;
    while (grammar_accept(&s, '[', NULL) == OK) n++;
    EQ(n, 9);
    help_check_mask(g, v, &s, slice_of("[[[[[[[[["));
    GrammarState back = {0}; /* a mask allowed what the full stack then refused */
    OK_(grammar_state_init(&back, g, v, TERR));
    OK_(grammar_accept_bytes(&back, slice_of("[[[[[[["), TERR));
    help_check_mask(g, v, &back, slice_of("[[[[[[["));
    grammar_state_deinit(&back);
    for (int i = 0; i < n; i++) OK_(grammar_accept(&s, ']', TERR));
    TRUE_(grammar_is_done(&s));
    grammar_state_deinit(&s);
    grammar_free(g);
    grammar_vocab_free(v);
}
