/* SPDX-License-Identifier: Apache-2.0 */
#include "text/utf8.h"

#include "base/rng.h"
#include "test.h"

/* The definition, one code point at a time: decode by value, then refuse what is not shortest. */
static int naive_decode(uint32_t *cp, const uint8_t *p, size_t n) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int len = p[0] < 0x80             ? 1
              : (p[0] & 0xe0) == 0xc0 ? 2
              : (p[0] & 0xf0) == 0xe0 ? 3
              : (p[0] & 0xf8) == 0xf0 ? 4
                                      : 0;
    if (len == 0 || (size_t)len > n) return 0;
    uint32_t v = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (int i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        v = v << 6 | (p[i] & 0x3f);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff)) return 0;
    *cp = v;
    return len;
}

TEST(utf8_every_code_point_there_and_back) {
    char c[4];
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        uint32_t back = 1;
        int n = utf8_encode(c, cp), got = utf8_decode(&back, c, (size_t)n);
        if (cp >= 0xd800 && cp <= 0xdfff) {
            EQ(got, 0);
            EQ(back, 1);
        } else if (got != n || back != cp) {
            FAIL("U+%04X: %d bytes, decoded %d bytes U+%04X", (unsigned)cp, n, got, (unsigned)back);
        }
    }
}

TEST(utf8_every_pair_and_random_quads_against_definition) {
    uint8_t s[4];
    for (uint32_t i = 0; i < 1u << 20; i++) {
        uint32_t r[4];
        rng_philox(r, 11, 0, i);
        memcpy(s, r, 4);
        if (i < 1u << 16) memcpy(s, &i, 2);
        if (i & 1) s[0] |= 0xc0; /* mostly lead bytes */
        if (i & 2) s[2] = (s[2] & 0x3f) | 0x80;
        if (i & 4) s[1] = (s[1] & 0x3f) | 0x80;
        size_t n = i < 1u << 16 ? 2 : 1 + i % 4;
        uint32_t a = 7, b = 7;
        int want = naive_decode(&a, s, n), got = utf8_decode(&b, (const char *)s, n);
        if (want != got || a != b)
            FAIL("%02x %02x %02x %02x n=%zu: %d, want %d", s[0], s[1], s[2], s[3], n, got, want);
    }
}

static void check_clean(const char *in, const char *want) {
    StrBuf b = {0};
    utf8_put_clean(&b, slice_of(in));
    EQ_STR(sb_str(&b), want);
    TRUE_(utf8_valid((Slice){b.p, b.n}));
    sb_deinit(&b);
}

#define BAD "\xef\xbf\xbd"

TEST(utf8_ill_formed_parts_become_replacement_characters) {
    check_clean("abc", "abc");
    check_clean("a\xff"
                "b",
                "a" BAD "b");
    check_clean("\xc0\xaf", BAD BAD); /* overlong: two stray bytes */
    check_clean("\xe2\x82", BAD);     /* cut off: one part */
    check_clean("\xe2\x82"
                "A",
                BAD "A");
    check_clean("\xed\xa0\x80", BAD BAD BAD); /* surrogate */
    check_clean("\xf0\x9f\x98"
                "\xf0\x9f\x98\x80",
                BAD "\xf0\x9f\x98\x80");
    check_clean("\xf4\x90\x80\x80", BAD BAD BAD BAD);
    check_clean("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
                "a" BAD BAD BAD "b" BAD "c" BAD BAD
                "d"); /* the standard's own example, table 3-8 */
}

TEST(utf8_complete_prefix_cuts_only_started_code_points) {
    EQ(utf8_complete_prefix(slice_of("")), 0);
    EQ(utf8_complete_prefix(slice_of("ab")), 2);
    EQ(utf8_complete_prefix(slice_of("a\xf0\x9f\x98")), 1);
    EQ(utf8_complete_prefix(slice_of("a\xf0")), 1);
    EQ(utf8_complete_prefix(slice_of("\xe2\x82")), 0);
    EQ(utf8_complete_prefix(slice_of("\xe2\x82\xac")), 3);
    EQ(utf8_complete_prefix(slice_of("a\x82\x82\x82\x82")), 5); /* never a code point */
    EQ(utf8_complete_prefix(slice_of("a\xe0\x80")), 3);         /* nor this */
    EQ(utf8_complete_prefix(slice_of("a\xff")), 2);
}

TEST(utf8_valid_prefix_stops_at_first_bad_byte) {
    char s[64];
    for (size_t at = 0; at < sizeof s; at++) {
        memset(s, 'x', sizeof s);
        s[at] = (char)0x80;
        EQ(utf8_valid_prefix((Slice){s, sizeof s}), at);
        FALSE_(utf8_valid((Slice){s, sizeof s}));
    }
    TRUE_(utf8_valid((Slice){NULL, 0}));
    EQ(utf8_valid_prefix(slice_of("12345678\xc3\xa4"
                                  "12345678\xc3")),
       18);
}
