/* SPDX-License-Identifier: Apache-2.0 */
#include "text/ucd.h"

#include <utf8proc.h>

#include "test.h"

static bool is(uint32_t cp, UcdSet set) { return (ucd_class(cp) & set) != 0; }

TEST(ucd_classes_of_well_known_characters) {
    TRUE_(is('A', UCD_LU) && is('a', UCD_LL) && is(0x1c5, UCD_LT) && is(0x2b0, UCD_LM) &&
          is(0x5d0, UCD_LO));
    TRUE_(is('7', UCD_N) && is(0xbd, UCD_N) && is(0x2167, UCD_N));
    TRUE_(is(0x301, UCD_M) && is('!', UCD_P) && is('+', UCD_S) && is(0x1f600, UCD_S));
    FALSE_(is('_', UCD_L) || is(' ', UCD_L | UCD_N | UCD_P | UCD_S));
    TRUE_(is(0x31350, UCD_L)); /* CJK extension H came with Unicode 15 */
    EQ_STR(utf8proc_unicode_version(), "15.0.0");
}

TEST(ucd_white_space_is_exactly_these) {
    static const uint32_t want[] = {9,      10,     11,     12,     13,     32,     0x85,
                                    0xa0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                    0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028,
                                    0x2029, 0x202f, 0x205f, 0x3000};
    size_t n = 0;
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        if (!is(cp, UCD_SPACE)) continue;
        TRUE_(n < COUNT_OF(want));
        EQ(cp, want[n]);
        n++;
    }
    EQ(n, COUNT_OF(want));
}

/* Ranges are made by looking at the ends of known long stretches: here every code point is looked at. */
static void check_ranges(UcdSet set, bool negate) {
    StrBuf got = {0}, want = {0};
    uint32_t lo = 0, last = 0;
    bool open = false;
    ucd_put_ranges(&got, set, negate);
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        if (cp == 0xd800) cp = 0xe000;
        bool in = cp <= 0x10ffff && is(cp, set) != negate;
        if (in && !open) lo = cp;
        if (!in && open)
            sb_printf(&want, lo == last ? "\\x{%x}" : "\\x{%x}-\\x{%x}", (unsigned)lo,
                      (unsigned)last);
        open = in;
        last = cp;
    }
    EQ_STR(sb_str(&got), sb_str(&want));
    sb_deinit(&got);
    sb_deinit(&want);
}

TEST(ucd_ranges_of_every_category) {
    for (int i = 0; i < 31; i++) {
        if (i == UTF8PROC_CATEGORY_CS) continue;
        check_ranges((UcdSet)1 << i, i % 8 == 0);
    }
    check_ranges(UCD_L, false);
    check_ranges(UCD_SPACE | UCD_L | UCD_N, true);
}

TEST(ucd_names) {
    EQ(ucd_find_set(slice_of("L")), UCD_L);
    EQ(ucd_find_set(slice_of("Lm")), UCD_LM);
    EQ(ucd_find_set(slice_of("N")), UCD_N);
    EQ(ucd_find_set(slice_of("P")), UCD_P);
    EQ(ucd_find_set(slice_of("L&")), UCD_LU | UCD_LL | UCD_LT);
    EQ(ucd_find_set(slice_of("Zs")), 1u << UTF8PROC_CATEGORY_ZS);
    EQ(ucd_find_set(slice_of("Cf")), 1u << UTF8PROC_CATEGORY_CF);
    EQ(ucd_find_set(slice_of("Xx")) | ucd_find_set(slice_of("C")) | ucd_find_set(slice_of("")) |
           ucd_find_set(slice_of("Han")) | ucd_find_set(slice_of("uL")),
       0);
}

TEST(ucd_ranges_as_text) {
    StrBuf b = {0};
    ucd_put_ranges(&b, 1u << UTF8PROC_CATEGORY_ZP, false);
    EQ_STR(sb_str(&b), "\\x{2029}");
    sb_clear(&b);
    ucd_put_ranges(&b, 1u << UTF8PROC_CATEGORY_ZP, true);
    EQ_STR(sb_str(&b), "\\x{0}-\\x{2028}\\x{202a}-\\x{10ffff}");
    sb_clear(&b);
    ucd_put_ranges(&b, UCD_SPACE, false);
    EQ_STR(sb_str(&b),
           "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}-\\x{2029}"
           "\\x{202f}\\x{205f}\\x{3000}");
    sb_deinit(&b);
}
