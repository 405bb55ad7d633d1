/* SPDX-License-Identifier: Apache-2.0 */
#include "text/regex.h"

#include "base/clock.h"
#include "test.h"
#include "text/regex_expand.h"
#include "text/ucd.h"
#include "text/utf8.h"

/* All matches of pattern in text, each in angle brackets. */
static void check(const char *pattern, const char *text, const char *want) {
    Regex *r = NULL;
    RegexScratch *sc = NULL;
    StrBuf got = {0};
    size_t b, e, from = 0;
    OK_(regex_new(&r, pattern, TERR));
    OK_(regex_scratch_new(&sc, r, TERR));
    while (regex_find(r, sc, slice_of(text), from, &b, &e)) {
        TRUE_(b >= from && e >= b);
        sb_printf(&got, "<%.*s>", (int)(e - b), text + b);
        if (e == strlen(text)) break;
        from = e > b ? e : e + 1;
    }
    if (strcmp(sb_str(&got), want))
        FAIL("/%s/ in \"%s\": %s, want %s", pattern, text, sb_str(&got), want);
    sb_deinit(&got);
    regex_scratch_free(sc);
    regex_free(r);
}

static void check_error(const char *pattern, const char *want) {
    Regex *r = NULL;
    FAILS(ERR_ARG, regex_new(&r, pattern, TERR));
    if (!strstr(test_err.msg, want)) FAIL("/%s/: \"%s\", want \"%s\"", pattern, test_err.msg, want);
    TRUE_(r == NULL);
}

TEST(regex_classes_inside_and_outside) {
    check("\\p{L}+", "ab1\xc3\xa4\xd0\xb9 z", "<ab><\xc3\xa4\xd0\xb9><z>");
    check("\\P{L}+", "ab1 z", "<1 >");
    check("\\pL", "a1", "<a>");
    check("\\PN+", "a1b", "<a><b>");
    check("\\p{^N}+", "a1b", "<a><b>");
    check("[^\\s\\p{L}\\p{N}]+", "a!? 1-b", "<!?><->");
    check("[\\S]+",
          "a b\xc2\xa0"
          "c",
          "<a><b><c>");
    check("[^\\P{L}]+", "ab1", "<ab>");
    check("[\\p{Lu}\\p{Lt}x]+", "ABcxD", "<AB><xD>");
    check("\\s+",
          "a\v\xe2\x80\xa8"
          "b\xe1\xa0\x8e",
          "<\v\xe2\x80\xa8>"); /* U+180E is no white space */
    check("[a\\-\\]\\s]+", "a-] b", "<a-] >");
    check("[]\\s]+", "a] b", "<] >");
    check("[^]\\s]+", "a] b", "<a><b>");
    check("\\Q\\s[\\E\\s", "x\\s[ y", "<\\s[ >");
    check("(?#a [ \\s)b", "ab", "<b>");
    check("[[:digit:]\\p{Lu}]+", "a1Bc", "<1B>");
    check("\\\\s", "a\\s", "<\\s>");
}

TEST(regex_hyphen_beside_a_set_is_itself) {
    check("[\\s-a]+", "b -a", "< -a>");
    check("[a-\\s]+", "ba- ", "<a- >");
    check("[-\\s]+", "b- ", "<- >");
    check("[\\s-]+", "b- ", "<- >");
    check("[a-c\\s]+", "xabc d", "<abc >");
}

TEST(regex_ordinary_features) {
    check("", "ab", "<><><>");
    check("(?i:'s|'re)", "a'S b'Re", "<'S><'Re>");
    check("a$", "a\na", "<a>");
    check("(?<=x)y", "yxy", "<y>");
    check("\\b\\w+\\b", "\xd0\xbf\xd0\xb0 b", "<\xd0\xbf\xd0\xb0><b>");
    check("\\s+(?!\\S)|\\s+", "a   b ", "<  >< >< >");
}

TEST(regex_errors_name_the_offset_in_the_pattern_given) {
    check_error("ab(", "offset 3");
    check_error("\\p{L}\\p{L}(", "offset 11");
    check_error("\\p{L}[z-a]\\s", "offset 8");
    check_error("[a&&b]", "offset 2");
    check_error("[a[b]]", "offset 2");
    check_error("\\p{Nonsense}", "offset");
    check_error("a\\C", "offset");
    check_error("[\\s", "missing terminating ]");
    check_error("\\", "offset 1");
    check_error("\xff", "UTF-8");
}

TEST(regex_limits) {
    StrBuf b = {0};
    Regex *r = NULL;
    for (int i = 0; i < 300; i++) sb_putc(&b, '(');
    FAILS(ERR_ARG, regex_new(&r, sb_str(&b), TERR));
    sb_clear(&b);
    while (b.n <= REGEX_MAX_PATTERN) sb_putc(&b, 'a');
    FAILS(ERR_ARG, regex_new(&r, sb_str(&b), TERR));
    sb_clear(&b);
    while (b.n + 5 <= REGEX_MAX_PATTERN) sb_puts(&b, "\\p{L}");
    FAILS(ERR_FULL, regex_new(&r, sb_str(&b), TERR));
    sb_deinit(&b);
}

TEST(regex_exponential_pattern_ends_soon) {
    Regex *r = NULL;
    RegexScratch *sc = NULL;
    size_t b, e;
    char text[2001];
    memset(text, 'a', 2000);
    text[2000] = 0;
    OK_(regex_new(&r, "(a+)+\\d", TERR));
    OK_(regex_scratch_new(&sc, r, TERR));
    double t0 = clock_now_s();
    FALSE_(regex_find(r, sc, slice_of(text), 0, &b, &e));
    TRUE_(clock_now_s() - t0 < 5.0);
    FALSE_(regex_find(r, sc, slice_of(text), 2001, &b, &e));
    regex_scratch_free(sc);
    regex_free(r);
}

/* PCRE2 with the ranges written out says the same of code points as the table itself. */
TEST(regex_code_points_against_table) {
    static const struct {
        const char *pattern;
        UcdSet set;
        bool negate;
    } cases[] = {{"\\p{L}", UCD_L, false},
                 {"\\P{N}", UCD_N, true},
                 {"[^\\s\\p{L}\\p{N}]", UCD_SPACE | UCD_L | UCD_N, true},
                 {"[\\p{P}\\p{S}]", UCD_P | UCD_S, false},
                 {"[\\P{M}]", UCD_M, true},
                 {"\\S", UCD_SPACE, true}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Regex *r = NULL;
        RegexScratch *sc = NULL;
        OK_(regex_new(&r, cases[i].pattern, TERR));
        OK_(regex_scratch_new(&sc, r, TERR));
        for (uint32_t cp = 0; cp <= 0x10ffff; cp += cp < 0x20000 ? 1 : 61) {
            char c[4];
            size_t b, e;
            if (cp == 0xd800) cp = 0xe000; /* planes above 1: a sample */
            bool got = regex_find(r, sc, (Slice){c, (size_t)utf8_encode(c, cp)}, 0, &b, &e);
            bool want = !(ucd_class(cp) & cases[i].set) == cases[i].negate;
            if (got != want) FAIL("/%s/ U+%04X: %d", cases[i].pattern, (unsigned)cp, got);
        }
        regex_scratch_free(sc);
        regex_free(r);
    }
}

/* A group that repeats takes stack for each turn: no limit of the machine code may show. */
TEST(regex_long_runs_of_a_group) {
    enum { N = 20000 };
    static char text[N + 1];
    Regex *r = NULL;
    RegexScratch *sc = NULL;
    size_t b, e;
    memset(text, 'a', N);
    OK_(regex_new(&r, "(?:(?![b-d])\\p{L})+", TERR));
    OK_(regex_scratch_new(&sc, r, TERR));
    TRUE_(regex_find(r, sc, (Slice){text, N}, 0, &b, &e));
    EQ(b, 0);
    EQ(e, N);
    regex_scratch_free(sc);
    regex_free(r);
}
