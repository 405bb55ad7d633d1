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

typedef struct Splitter {
    PreTok by_pattern;
    Regex *re;
    RegexScratch *sc;
} Splitter;

static Splitter splitter_new(const char *pattern) {
    Splitter s = {.by_pattern = {.pattern = pattern}};
    OK_(regex_new(&s.re, pattern, TERR));
    OK_(regex_scratch_new(&s.sc, s.re, TERR));
    return s;
}

static void splitter_free(Splitter *s) {
    regex_scratch_free(s->sc);
    regex_free(s->re);
}

/* The chunks with a bar after each, ill-formed ones with a star. */
static void split(StrBuf *out, Chunks c) {
    Slice s;
    size_t total = 0;
    for (ChunkKind k; (k = tok__chunk_next(&c, &s)) != CHUNK_END;) {
        TRUE_(s.n > 0 && s.p == c.text.p + total);
        total += s.n;
        sb_put(out, s.p, s.n);
        sb_putc(out, k == CHUNK_TEXT ? '|' : '*');
    }
    EQ(total, c.text.n);
}

static void check(const char *row, const char *text, const char *want) {
    StrBuf got = {0};
    split(&got, (Chunks){.pre = tok__pretok_find(slice_of(row)), .text = slice_of(text)});
    EQ_STR(sb_str(&got), want);
    sb_deinit(&got);
}

static void check_pattern(const char *pattern, const char *text, const char *want) {
    Splitter s = splitter_new(pattern);
    StrBuf got = {0};
    split(&got, (Chunks){.pre = &s.by_pattern, .re = s.re, .sc = s.sc, .text = slice_of(text)});
    EQ_STR(sb_str(&got), want);
    sb_deinit(&got);
    splitter_free(&s);
}

static void check_scan_against_pattern(const char *row) {
    const PreTok *pre = tok__pretok_find(slice_of(row));
    TRUE_(pre != NULL && pre->scan != NULL);
    Splitter s = splitter_new(pre->pattern);
    StrBuf text = {0}, want = {0}, got = {0};
    for (uint64_t i = 0; i < 15000; i++) {
        sb_clear(&text);
        sb_clear(&want);
        sb_clear(&got);
        random_text(&text, i);
        Slice t = {sb_str(&text), text.n};
        split(&want, (Chunks){.pre = &s.by_pattern, .re = s.re, .sc = s.sc, .text = t});
        split(&got, (Chunks){.pre = pre, .text = t});
        if (strcmp(sb_str(&want), sb_str(&got))) {
            FAIL("text %d:\n  pattern %s\n  scan    %s", (int)i, sb_str(&want), sb_str(&got));
        }
    }
    sb_deinit(&text);
    sb_deinit(&want);
    sb_deinit(&got);
    splitter_free(&s);
}

TEST(pretok_gpt2_scan_is_its_pattern) { check_scan_against_pattern("gpt-2"); }
TEST(pretok_llama_scan_is_its_pattern) { check_scan_against_pattern("llama-bpe"); }
TEST(pretok_qwen2_scan_is_its_pattern) { check_scan_against_pattern("qwen2"); }

/* Every code point of the first two planes alone, after a space and before a letter: the classes, one by one. */
TEST(pretok_scans_know_every_code_point) {
    static const char *const rows[] = {"gpt-2", "qwen2"};
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const PreTok *pre = tok__pretok_find(slice_of(rows[i]));
        Splitter s = splitter_new(pre->pattern);
        StrBuf text = {0}, want = {0}, got = {0};
        for (uint32_t cp = 0; cp < 0x20000; cp++) {
            char c[4];
            if (cp >= 0xd800 && cp <= 0xdfff) continue;
            size_t n = (size_t)utf8_encode(c, cp);
            sb_clear(&text), sb_clear(&want), sb_clear(&got);
            sb_puts(&text, " "), sb_put(&text, c, n), sb_puts(&text, "x 1"), sb_put(&text, c, n),
                sb_put(&text, c, n);
            Slice t = {text.p, text.n};
            split(&want, (Chunks){.pre = &s.by_pattern, .re = s.re, .sc = s.sc, .text = t});
            split(&got, (Chunks){.pre = pre, .text = t});
            if (!slice_eq((Slice){want.p, want.n}, (Slice){got.p, got.n}))
                FAIL("%s: U+%04X", rows[i], (unsigned)cp);
        }
        sb_deinit(&text), sb_deinit(&want), sb_deinit(&got);
        splitter_free(&s);
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
    check_pattern("a*", "xxaayaab", "xx|aa|y|aa|b|");
    check_pattern("", "\u00e4bc", "\u00e4bc|");
    check_pattern("z", "abc", "abc|");
    check_pattern("(?<=a)b", "abab", "a|b|a|b|");
    check_pattern("\\r?\\n", "a\r\n\nb", "a|\r\n|\n|b|");
}

TEST(pretok_match_limit_splits_and_goes_on) {
    char text[4002];
    StrBuf got = {0};
    memset(text, 'a', 4000);
    text[4000] = '!';
    text[4001] = 0;
    Splitter s = splitter_new("(a+)+\\d|b");
    split(&got, (Chunks){.pre = &s.by_pattern, .re = s.re, .sc = s.sc, .text = slice_of(text)});
    EQ(got.n, 4002); /* one chunk */
    sb_deinit(&got);
    splitter_free(&s);
}

TEST(pretok_unknown_row) {
    TRUE_(tok__pretok_find(slice_of("gpt")) == NULL);
    TRUE_(tok__pretok_find(slice_of("")) == NULL);
    TRUE_(tok__pretok_find(slice_of("default")) != NULL);
}
