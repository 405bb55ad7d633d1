/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rng.h"
#include "test.h"
#include "text/utf8.h"
#include "token/internal.h"

/* What random texts are made of: every class, every branch of the patterns, code points of each length. */
static const char *const bits[] = {
    "a",
    "b",
    "Z",
    "s",
    "t",
    "re",
    "LL",
    "'",
    "'s",
    "'T",
    "'rE",
    "'ve",
    "'m",
    "'ll",
    "'D",
    "\u2019",
    "0",
    "7",
    "12345",
    "\u0663",
    "\u00bd",
    "\u2167",
    " ",
    " ",
    " ",
    "  ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\v",
    "\f",
    "\u00a0",
    "\xc2\x85",
    "\u3000",
    "\u2028",
    "\u1680",
    "\u180e",
    "\u200b",
    "!",
    "...",
    "_",
    "-",
    "+",
    "$",
    "\\",
    "\"",
    "\x7f",
    "\x01",
    "\u00e4",
    "\u0439",
    "\u4e2d\u6587",
    "\u05d0",
    "\u01c5",
    "\u02b0",
    "\u0301",
    "\u0903",
    "\u20ac",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469",
    "\U00031350",
    "\U0001d7d8",
    "\ufeff",
    "\ufffd",
    "\U0010ffff",
    "\u0378",
    "\u017f",
};

static void random_text(StrBuf *b, uint64_t i) {
    uint32_t r[4];
    rng_philox(r, 5, 1, i);
    uint32_t n = r[0] % 24, few = r[1] % 3 == 0 ? 6 : (uint32_t)COUNT_OF(bits),
             base = r[2] % COUNT_OF(bits);
    for (uint32_t k = 0; k < n; k++) {
        rng_philox(r, 5, 2 + i, k);
        sb_puts(b, bits[(base + r[0] % few) % COUNT_OF(bits)]);
    }
}

/* The first pass of a row, by its scan function or by its pattern; or a pattern. */
static Pass pass_of(const char *row) {
    PreTok pre;
    TRUE_(tok__pretok_find(&pre, slice_of(row)));
    TRUE_(pre.n > 0);
    return pre.pass[0];
}

typedef struct Cutter {
    Splitter sp[TOK_MAX_PASSES];
    RegexScratch *sc[TOK_MAX_PASSES];
    int n;
} Cutter;

static void cutter_add(Cutter *c, const char *pattern, TokScanFn scan, SplitMode mode) {
    OK_(tok__splitter_init(&c->sp[c->n], &(Pass){pattern, scan}, TERR));
    c->sp[c->n].mode = mode;
    if (c->sp[c->n].re) OK_(regex_scratch_new(&c->sc[c->n], c->sp[c->n].re, TERR));
    c->n++;
}

static void cutter_free(Cutter *c) {
    for (int i = 0; i < c->n; i++) {
        regex_scratch_free(c->sc[i]);
        regex_free(c->sp[i].re);
    }
    *c = (Cutter){0};
}

static Cutter cutter_of_row(const char *row) {
    PreTok pre;
    Cutter c = {0};
    TRUE_(tok__pretok_find(&pre, slice_of(row)));
    for (int i = 0; i < pre.n; i++)
        cutter_add(&c, pre.pass[i].pattern, pre.pass[i].scan, SPLIT_ISOLATED);
    return c;
}

/* The chunks with a bar after each, ill-formed ones with a star. */
static void split(StrBuf *out, const Cutter *cut, Slice text) {
    Slice s;
    Chunks c;
    bool removes = false;
    size_t total = 0;
    for (int i = 0; i < cut->n; i++) removes |= cut->sp[i].mode == SPLIT_REMOVED;
    tok__chunks_init(&c, cut->sp, cut->n, cut->sc, text);
    for (ChunkKind k; (k = tok__chunk_next(&c, &s)) != CHUNK_END;) {
        TRUE_(s.n > 0 && (removes || s.p == text.p + total));
        total += s.n;
        sb_put(out, s.p, s.n);
        sb_putc(out, k == CHUNK_TEXT ? '|' : '*');
    }
    TRUE_(removes || total == text.n);
}

static void check_cutter(Cutter c, const char *text, const char *want) {
    StrBuf got = {0};
    split(&got, &c, slice_of(text));
    EQ_STR(sb_str(&got), want);
    sb_deinit(&got);
    cutter_free(&c);
}

static void check(const char *row, const char *text, const char *want) {
    check_cutter(cutter_of_row(row), text, want);
}

static void check_mode(const char *pattern, SplitMode mode, const char *text, const char *want) {
    Cutter c = {0};
    cutter_add(&c, pattern, NULL, mode);
    check_cutter(c, text, want);
}

static void check_pattern(const char *pattern, const char *text, const char *want) {
    check_mode(pattern, SPLIT_ISOLATED, text, want);
}

static void check_scan_against_pattern(const char *row) {
    Pass pass = pass_of(row);
    TRUE_(pass.scan != NULL && pass.pattern != NULL);
    Cutter by_pattern = {0}, by_scan = {0};
    cutter_add(&by_pattern, pass.pattern, NULL, SPLIT_ISOLATED);
    cutter_add(&by_scan, NULL, pass.scan, SPLIT_ISOLATED);
    StrBuf text = {0}, want = {0}, got = {0};
    for (uint64_t i = 0; i < 5000; i++) {
        sb_clear(&text);
        sb_clear(&want);
        sb_clear(&got);
        random_text(&text, i);
        Slice t = {sb_str(&text), text.n};
        split(&want, &by_pattern, t);
        split(&got, &by_scan, t);
        if (strcmp(sb_str(&want), sb_str(&got))) {
            FAIL("text %d:\n  pattern %s\n  scan    %s", (int)i, sb_str(&want), sb_str(&got));
        }
    }
    sb_deinit(&text);
    sb_deinit(&want);
    sb_deinit(&got);
    cutter_free(&by_pattern);
    cutter_free(&by_scan);
}

TEST(pretok_gpt2_scan_is_its_pattern) { check_scan_against_pattern("gpt-2"); }
TEST(pretok_llama_scan_is_its_pattern) { check_scan_against_pattern("llama-bpe"); }
TEST(pretok_qwen2_scan_is_its_pattern) { check_scan_against_pattern("qwen2"); }
TEST(pretok_qwen35_scan_is_its_pattern) { check_scan_against_pattern("qwen35"); }
TEST(pretok_gpt4o_scan_is_its_pattern) { check_scan_against_pattern("gpt-4o"); }
TEST(pretok_tekken_scan_is_its_pattern) { check_scan_against_pattern("tekken"); }
TEST(pretok_granite_scan_is_its_pattern) { check_scan_against_pattern("granite-embed-multi-97m"); }
TEST(pretok_digit_scan_is_its_pattern) { check_scan_against_pattern("starcoder"); }
TEST(pretok_digits_3_scan_is_its_pattern) { check_scan_against_pattern("deepseek-v3"); }
TEST(pretok_lines_scan_is_its_pattern) { check_scan_against_pattern("laguna"); }

/* Every code point of the first two planes alone, after a space and before a letter: the classes, one by one. */
TEST(pretok_scans_know_every_code_point) {
    static const char *const rows[] = {"gpt-2", "qwen2", "qwen35", "granite-embed-multi-97m",
                                       "tekken"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Cutter by_pattern = {0}, by_scan = {0};
        cutter_add(&by_pattern, pass_of(rows[i]).pattern, NULL, SPLIT_ISOLATED);
        cutter_add(&by_scan, NULL, pass_of(rows[i]).scan, SPLIT_ISOLATED);
        StrBuf text = {0}, want = {0}, got = {0};
        for (uint32_t cp = 0; cp < 0x20000; cp++) {
            char c[4];
            if (cp >= 0xd800 && cp <= 0xdfff) continue;
            size_t n = (size_t)utf8_encode(c, cp);
            sb_clear(&text), sb_clear(&want), sb_clear(&got);
            sb_puts(&text, " "), sb_put(&text, c, n), sb_puts(&text, "x 1"), sb_put(&text, c, n),
                sb_put(&text, c, n);
            Slice t = {text.p, text.n};
            split(&want, &by_pattern, t);
            split(&got, &by_scan, t);
            if (!slice_eq((Slice){want.p, want.n}, (Slice){got.p, got.n}))
                FAIL("%s: U+%04X", rows[i], (unsigned)cp);
        }
        sb_deinit(&text), sb_deinit(&want), sb_deinit(&got);
        cutter_free(&by_pattern), cutter_free(&by_scan);
    }
}

TEST(pretok_gpt2_by_hand) {
    check("gpt-2", "", "");
    check("gpt-2", "Hello, y'all!  How're 12 you?", "Hello|,| y|'|all|!| | How|'re| 12| you|?|");
    check("gpt-2", "def f(x):\n    return x\n", "def| f|(|x|):|\n   | return| x|\n|");
    check("gpt-2", "a\n\n\nb", "a|\n\n|\n|b|");
    check("gpt-2", "a  ", "a|  |");
    check("gpt-2", "''s 's", "''|s| '|s|");
    check("gpt-2", "I'S", "I|'|S|");
}

TEST(pretok_llama3_and_qwen2_by_hand) {
    check("llama-bpe", "I'S 12345\n\n  x (foo) \r\n y",
          "I|'S| |123|45|\n\n| | x| (|foo|)| \r\n| y|");
    check("qwen2", "I'S 123\n", "I|'S| |1|2|3|\n|");
    check("qwen2", "a;\n\nb", "a|;\n\n|b|");
    check("qwen2", "\tx .y", "\tx| .|y|");
}

TEST(pretok_ill_formed_bytes_stay_outside) {
    check("gpt-2",
          "ab\xff\xfe"
          "cd",
          "ab|\xff\xfe*cd|");
    check("gpt-2", "\xe2\x82", "\xe2\x82*");
    check("gpt-2", "a \xff b", "a| |\xff* b|");
    check_pattern("\\p{L}+",
                  "ab\x80"
                  "1c",
                  "ab|\x80*1|c|");
}

TEST(pretok_gaps_are_chunks) {
    check_pattern("a+", "xxaayaab", "xx|aa|y|aa|b|");
    check_pattern("a*", "xxaayaab", "x|x|aa|y|aa|b|"); /* an empty match cuts as well */
    check_pattern("", "\u00e4bc", "\u00e4|b|c|");
    check_pattern("z", "abc", "abc|");
    check_pattern("(?<=a)b", "abab", "a|b|a|b|");
    check_pattern("\\r?\\n", "a\r\n\nb", "a|\r\n|\n|b|");
}

TEST(pretok_match_limit_splits_and_goes_on) {
    char text[4002];
    StrBuf got = {0};
    Cutter c = {0};
    memset(text, 'a', 4000);
    text[4000] = '!';
    text[4001] = 0;
    cutter_add(&c, "(a+)+\\d|b", NULL, SPLIT_ISOLATED);
    split(&got, &c, slice_of(text));
    EQ(got.n, 4002); /* one chunk */
    sb_deinit(&got);
    cutter_free(&c);
}

/* Every pass cuts the pieces of the one before, and an end of a piece is an end of the text to it. */
TEST(pretok_passes_follow_each_other) {
    check("starcoder", "a1 2b  34", "a|1| |2|b|  |3|4|");
    check("falcon", "x==1234 y", "x|==|123|4| y|");
    check("default", "a 1234!? b`c", "a| |123|4|!?| b|`|c|");
    check("deepseek-llm", "a b\n  x1,\u4e2d\u6587 \u3000.",
          "a| b|\n| | x|1|,|\u4e2d\u6587| |\u3000.|");
    check("deepseek-coder", "if x(1):\n  y", "if| x|(|1|):|\n| | y|");
    check("deepseek-v3", "abc12345 d_e \u4e2d\u3042", "abc|123|45| d|_e| |\u4e2d\u3042|");
    check("viking", " ab12, c", " ab|1|2|,| c|");
}

TEST(pretok_words_end_at_case_changes) {
    check("gpt-4o", "camelCase HTMLParser's ABC 12345", "camel|Case| HTMLParser's| ABC| |123|45|");
    check("tekken", "camelCase's 123//\n/", "camel|Case|'s| |1|2|3|//\n/|");
    check("gpt-4o", "\u4e2dAB\u4e2dA.", "\u4e2dAB\u4e2d|A|.|");
    check("granite-embed-multi-97m", "a\u0301b !\u0301A.", "a\u0301b| !\u0301|A|.|");
}

TEST(pretok_digits_from_the_right) {
    check("superbpe", "1234567 12 \u06631234\u0663", "1|234|567| |12| |\u06631|234\u0663|");
    check("superbpe", "123456\u0663789", "123|456\u0663|789|");
    check("afmoe", "ab1234567 12", "ab|1|234|567| |12|");
    check("tiny_aya", "  12345", " | |12|345|");
}

TEST(pretok_what_becomes_of_a_match) {
    check_mode(" ", SPLIT_ISOLATED, "a b  c", "a| |b| | |c|");
    check_mode(" ", SPLIT_REMOVED, "a b  c", "a|b|c|");
    check_mode(" ", SPLIT_WITH_PREVIOUS, "a b  c ", "a |b | |c |");
    check_mode(" ", SPLIT_WITH_NEXT, " a b  c ", " a| b| | c| |");
    check_mode(" ", SPLIT_CONTIGUOUS, "a b  c", "a| |b|  |c|");
    Cutter c = {0};
    cutter_add(&c, "[a-z]+", NULL, SPLIT_REMOVED);
    c.sp[0].invert = true;
    check_cutter(c, "ab, cd!", "ab|cd|");
}

TEST(pretok_spaces_stay_together) {
    Cutter c = {0};
    cutter_add(&c, NULL, tok__scan_spaces, SPLIT_ISOLATED);
    check_cutter(c, "a b  c\u2581\u2581 d\xe2\x96", "a| b|  c|\u2581\u2581 d|\xe2\x96*");
    c = (Cutter){0};
    cutter_add(&c, NULL, tok__scan_space_each, SPLIT_ISOLATED);
    check_cutter(c, "a b  c\u2581\u25a0", "a| b| | c|\u2581\u25a0|");
}

/* Every pass of every row compiles and tiles any text. */
TEST(pretok_all_rows_tile_random_texts) {
    static const char *const names[] = {
        "default",     "gpt-2",          "llama-bpe", "dbrx",    "qwen2",      "qwen35",
        "starcoder",   "falcon",         "spark2_5",  "youtu",   "bloom",      "viking",
        "tekken",      "gpt-4o",         "tiny_aya",  "kimi-k2", "superbpe",   "bailingmoe",
        "seed-coder",  "ufakzeka",       "afmoe",     "laguna",  "exaone-moe", "minicpm5",
        "jais-2",      "gemma4",         "chameleon", "refact",  "command-r",  "deepseek-llm",
        "deepseek-v3", "deepseek-coder", "mpt",       "smollm",
    };
    StrBuf text = {0}, got = {0};
    for (size_t k = 0; k < COUNT_OF(names); k++) {
        Cutter c = cutter_of_row(names[k]);
        for (uint64_t i = 0; i < 500; i++) {
            sb_clear(&text), sb_clear(&got);
            random_text(&text, i);
            split(&got, &c, (Slice){sb_str(&text), text.n});
        }
        cutter_free(&c);
    }
    sb_deinit(&text), sb_deinit(&got);
}

TEST(pretok_unknown_row) {
    PreTok pre;
    FALSE_(tok__pretok_find(&pre, slice_of("gpt")));
    FALSE_(tok__pretok_find(&pre, slice_of("")));
    FALSE_(tok__pretok_find(&pre, slice_of("gpt-2 phi-2")));
    TRUE_(tok__pretok_find(&pre, slice_of("default")));
    EQ(pre.n, 4);
    TRUE_(tok__pretok_find(&pre, slice_of("phi-2")));
    TRUE_(tok__pretok_find(&pre, slice_of("falcon3")) && pre.whole_words && pre.add_bos);
}
