/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include "base/fault.h"
#include "base/internal.h"
#include "test.h"

TEST(slices) {
    TRUE_(slice_eq(slice_of("ab"), (Slice){"abc", 2}));
    TRUE_(!slice_eq(slice_of("ab"), slice_of("abc")));
    TRUE_(slice_eq((Slice){NULL, 0}, slice_of("")));
    TRUE_(slice_eq_str((Slice){"abc", 2}, "ab"));
    TRUE_(!slice_eq_str((Slice){"abc", 2}, "ac"));
    TRUE_(str_ends_with("a.gguf", ".gguf") && str_ends_with("a", "") && str_ends_with("a", "a"));
    TRUE_(!str_ends_with("f", "gguf") && !str_ends_with("a.ggu", ".gguf"));
    TRUE_(str_starts_with("--key", "--") && str_starts_with("a", "") &&
          !str_starts_with("-", "--"));
}

TEST(whole_numbers) {
    int64_t i = 5;
    uint64_t u = 5;
    TRUE_(str_to_i64(&i, "9223372036854775807") && i == INT64_MAX);
    TRUE_(str_to_i64(&i, "-9223372036854775808") && i == INT64_MIN);
    TRUE_(str_to_i64(&i, "-0") && i == 0);
    TRUE_(str_to_u64(&u, "18446744073709551615") && u == UINT64_MAX);
    TRUE_(str_to_u64(&u, "007") && u == 7);
}

TEST(not_whole_numbers) {
    static const char *const BAD[] = {"",
                                      "-",
                                      "--1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x10",
                                      "1e3",
                                      "1.0",
                                      "1_0",
                                      "nan",
                                      "9223372036854775808",
                                      "-9223372036854775809",
                                      "99999999999999999999999"};
    for (size_t k = 0; k < COUNT_OF(BAD); k++) {
        int64_t i = 5;
        if (str_to_i64(&i, BAD[k])) FAIL("took '%s'", BAD[k]);
        EQ(i, 5);
    }
    uint64_t u = 5;
    TRUE_(!str_to_u64(&u, "-1") && !str_to_u64(&u, "18446744073709551616"));
    EQ(u, 5);
}

TEST(real_numbers) {
    double v;
    TRUE_(str_to_f64(&v, "5e-5"));
    NEAR(v, 5e-5, 0);
    TRUE_(str_to_f64(&v, "-.5"));
    NEAR(v, -0.5, 0);
    TRUE_(str_to_f64(&v, "1."));
    NEAR(v, 1, 0);
    TRUE_(str_to_f64(&v, "1e-400")); /* underflow is zero, not an error */
    NEAR(v, 0, 0);
}

TEST(not_real_numbers) {
    static const char *const BAD[] = {"",         " 1",    "1 ",  "nan", "inf", "-inf",
                                      "infinity", "1e400", "0x1", "1e",  "e5",  "1.2.3",
                                      "--1",      "1,5",   ".",   "+-1"};
    for (size_t k = 0; k < COUNT_OF(BAD); k++) {
        double v = 5;
        if (str_to_f64(&v, BAD[k])) FAIL("took '%s'", BAD[k]);
        NEAR(v, 5, 0);
    }
}

TEST(builder_grows) {
    StrBuf b = {0};
    EQ_STR(sb_str(&b), "");
    for (int i = 0; i < 1000; i++) sb_putc(&b, (char)('a' + i % 26));
    EQ(b.n, 1000);
    EQ(strlen(sb_str(&b)), 1000);
    for (int i = 0; i < 1000; i++) EQ(b.p[i], 'a' + i % 26);
    sb_clear(&b);
    EQ_STR(sb_str(&b), "");
    sb_puts(&b, "x=");
    sb_printf(&b, "%d %s", 42, "long enough to need a second look at the size of this very buffer");
    sb_put(&b, "\0z", 2);
    EQ(b.n, 5 + 65 + 2);
    EQ_MEM(b.p, "x=42 long", 9);
    EQ_MEM(b.p + b.n - 2, "\0z", 3);
    OK_(sb_check(&b, TERR));
    sb_deinit(&b);
}

TEST(take_moves_the_bytes) {
    size_t live = mem_live_bytes();
    StrBuf b = {0};
    char *p = sb_take(&b);
    EQ_STR(p, "");
    mem_free(p);
    sb_puts(&b, "abc");
    p = sb_take(&b);
    EQ_STR(p, "abc");
    EQ(b.p == NULL && b.n == 0, 1);
    mem_free(p);
    EQ(mem_live_bytes(), live);
}

TEST(failure_sticks_until_clear) {
    StrBuf b = {0};
    sb_puts(&b, "kept");
    fault_arm(FAULT_ALLOC, 1);
    sb_printf(&b, "%0200d", 1);
    fault_arm(FAULT_ALLOC, 0);
    sb_puts(&b, "ignored");
    EQ_STR(sb_str(&b), "kept");
    FAILS(ERR_NOMEM, sb_check(&b, TERR));
    sb_clear(&b);
    sb_puts(&b, "again");
    OK_(sb_check(&b, TERR));
    EQ_STR(sb_str(&b), "again");
    b.failed = true;
    EQ(sb_take(&b) == NULL, 1);
    EQ(b.p == NULL, 1);
}

TEST(sizes_that_overflow) {
    StrBuf b = {0};
    sb_puts(&b, "x");
    TRUE_(!sb__reserve(&b, SIZE_MAX));
    TRUE_(b.failed);
    sb_deinit(&b);
}

static const char *quoted(StrBuf *b, const char *s, size_t n, size_t max) {
    sb_clear(b);
    sb_put_quoted(b, (Slice){s, n}, max);
    return sb_str(b);
}

TEST(quoted_text) {
    StrBuf b = {0};
    EQ_STR(quoted(&b, "plain \"x\" \xC3\xA9", 12, 99), "plain \"x\" \xC3\xA9");
    EQ_STR(quoted(&b, "a\n\x1b\0\x7f", 5, 99), "a\\x0a\\x1b\\x00\\x7f");
    EQ_STR(quoted(&b, "\xC0\xAF", 2, 99), "\\xc0\\xaf");                   /* overlong */
    EQ_STR(quoted(&b, "\xE0\x9F\xBF", 3, 99), "\\xe0\\x9f\\xbf");          /* overlong */
    EQ_STR(quoted(&b, "\xED\xA0\x80", 3, 99), "\\xed\\xa0\\x80");          /* surrogate */
    EQ_STR(quoted(&b, "\xF4\x90\x80\x80", 4, 99), "\\xf4\\x90\\x80\\x80"); /* above 10FFFF */
    EQ_STR(quoted(&b, "\xF0\x9F\x98\x80", 4, 99), "\xF0\x9F\x98\x80");
    EQ_STR(quoted(&b, "\xF0\x9F\x98", 3, 99), "\\xf0\\x9f\\x98"); /* the end is missing */
    EQ_STR(quoted(&b, "\xC2\x85", 2, 99), "\\xc2\\x85");          /* C1 control */
    EQ_STR(quoted(&b, "", 0, 0), "");
    sb_deinit(&b);
}

TEST(quoted_text_is_cut) {
    StrBuf b = {0};
    EQ_STR(quoted(&b, "abcdefgh", 8, 8), "abcdefgh");
    EQ_STR(quoted(&b, "abcdefgh", 8, 7), "abcd...");
    EQ_STR(quoted(&b, "ab\n\n", 4, 9), "ab\\x0a...");
    EQ_STR(quoted(&b, "ab\n\n", 4, 8), "ab..."); /* an escape is not cut in two */
    EQ_STR(quoted(&b, "a\xC3\xA9zzzz", 7, 5), "a...");
    EQ_STR(quoted(&b, "abcdefgh", 8, 2), "..");
    EQ_STR(quoted(&b, "abcdefgh", 8, 0), "");
    sb_deinit(&b);
}

TEST(tail_of_a_path) {
    EQ_STR(str__tail("abc", 3), "abc");
    EQ_STR(str__tail("abcd", 3), "bcd");
    EQ_STR(str__tail("a\xC3\xA9z", 2), "z");
}
