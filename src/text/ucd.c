/* SPDX-License-Identifier: Apache-2.0
 *
 * Unicode sets out of utf8proc's tables (version 2.8: Unicode 15.0), and the three stretches that 15.1
 * assigned: vocabularies are read with it elsewhere.
 */
#include "text/ucd.h"

#include "text/utf8.h"

#include <utf8proc.h>

enum { CP_MAX = 0x10ffff };

/* Long stretches of one category each, rising: making ranges looks at their ends only. */
static const struct {
    uint32_t lo, hi;
} alike[] = {
    {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xac00, 0xd7a3},     {0xe000, 0xf8ff},
    {0x17000, 0x187f7}, {0x20000, 0x2a6df}, {0x2a700, 0x2b739},   {0x2b820, 0x2cea1},
    {0x2ceb0, 0x2ebe0}, {0x30000, 0x3134a}, {0x31350, 0x323af},   {0x323b0, 0xe0000},
    {0xe01f0, 0xeffff}, {0xf0000, 0xffffd}, {0x100000, 0x10fffd},
};

/* The bits in ucd.h are these numbers. */
_Static_assert(UCD_LU == 1 << UTF8PROC_CATEGORY_LU && UCD_LO == 1 << UTF8PROC_CATEGORY_LO &&
                   UCD_M == 7 << UTF8PROC_CATEGORY_MN && UCD_N == 7 << UTF8PROC_CATEGORY_ND &&
                   UCD_P == 0x7f << UTF8PROC_CATEGORY_PC && UCD_S == 0xf << UTF8PROC_CATEGORY_SM &&
                   UCD_Z == 7 << UTF8PROC_CATEGORY_ZS && UTF8PROC_CATEGORY_CO < 30,
               "category numbers of utf8proc");

static bool is_space(uint32_t cp) {
    if (cp < 0x80) return (cp >= 9 && cp <= 13) || cp == 32;
    if (cp >= 0x2000 && cp <= 0x200a) return true;
    static const uint16_t rest[] = {0x85, 0xa0, 0x1680, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    for (size_t i = 0; i < COUNT_OF(rest); i++) {
        if (cp == rest[i]) return true;
    }
    return false;
}

/* The category of what Unicode 15.0 has not assigned. */
static UcdSet class_15_1(uint32_t cp) {
    if (cp >= 0x2ebf0 && cp <= 0x2ee5d) return UCD_LO;
    bool symbol = (cp >= 0x2ffc && cp <= 0x2fff) || cp == 0x31ef;
    return (UcdSet)1 << (symbol ? UTF8PROC_CATEGORY_SO : UTF8PROC_CATEGORY_CN);
}

UcdSet ucd_class(uint32_t cp) {
    UcdSet c = (UcdSet)1 << utf8proc_category((utf8proc_int32_t)cp);
    if (UNLIKELY(c == (UcdSet)1 << UTF8PROC_CATEGORY_CN)) return class_15_1(cp);
    /* white space is made of controls and separators: most code points skip the search */
    if (c & (UCD_Z | 1u << UTF8PROC_CATEGORY_CC) && is_space(cp)) c |= UCD_SPACE;
    return c;
}

static void put_range(StrBuf *b, uint32_t lo, uint32_t hi) {
    if (lo == hi) {
        sb_printf(b, "\\x{%x}", (unsigned)lo);
    } else {
        sb_printf(b, "\\x{%x}-\\x{%x}", (unsigned)lo, (unsigned)hi);
    }
}

/* The next code point to look at; surrogates are left out. *i is the next row of `alike`. */
static uint32_t next_cp(uint32_t cp, size_t *i) {
    if (cp == 0xd7ff) return 0xe000;
    if (*i == COUNT_OF(alike) || cp != alike[*i].lo) return cp + 1;
    return alike[(*i)++].hi;
}

void ucd_put_ranges(StrBuf *b, UcdSet set, bool negate) {
    bool open = false;
    uint32_t lo = 0, last = 0;
    size_t i = 0;
    for (uint32_t cp = 0; cp <= CP_MAX; cp = next_cp(cp, &i)) {
        bool in = !(ucd_class(cp) & set) == negate;
        if (in && !open) lo = cp;
        if (!in && open) put_range(b, lo, last);
        open = in;
        last = cp;
    }
    if (open) put_range(b, lo, last);
}

UcdSet ucd_find_set(Slice name) {
    static const char names[] = "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCf";
    if (name.n == 2 && name.p[0] == 'L' && name.p[1] == '&') return UCD_LU | UCD_LL | UCD_LT;
    if (name.n < 1 || name.n > 2) return 0;
    UcdSet set = 0;
    for (unsigned i = 0; i < sizeof names / 2; i++) {
        if (!memcmp(names + (size_t)2 * i, name.p, name.n)) set |= (UcdSet)2 << i;
    }
    /* other kinds of C are unassigned, private or surrogates: PCRE2 knows them as well */
    return name.p[0] == 'C' && name.n == 1 ? 0 : set;
}

/* ---- normal forms ---- */

static bool is_ascii(Slice s) {
    size_t i = 0;
    while (i < s.n && (uint8_t)s.p[i] < 0x80) i++;
    return i == s.n;
}

/* How much of well-formed s to take at once. Marks are sorted pair by pair, so a run of thousands of them,
 * which no language has, is cut. */
static size_t part_len(Slice s) {
    enum { MARKS_MAX = 1000 };
    uint32_t cp = 0;
    int marks = 0;
    for (size_t i = 0; i < s.n;) {
        i += (size_t)utf8_decode(&cp, s.p + i, s.n - i);
        marks = cp > 0x7f && utf8proc_get_property((utf8proc_int32_t)cp)->combining_class
                    ? marks + 1
                    : 0;
        if (marks == MARKS_MAX) return i;
    }
    return s.n;
}

/* Well-formed text without endless runs of marks. */
static Status normalize_part(StrBuf *b, Slice s, utf8proc_option_t how, Err *e) {
    if (is_ascii(s)) {
        sb_put(b, s.p, s.n);
        return sb_check(b, e);
    }
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)s.p;
    utf8proc_ssize_t n = utf8proc_decompose(p, (utf8proc_ssize_t)s.n, NULL, 0, how);
    if (n < 0) return err_set(e, ERR_INTERNAL, "normal form of %zu bytes", s.n);
    utf8proc_int32_t *cp = mem_new_n(utf8proc_int32_t, (size_t)n + 1);
    if (!cp) return err_set(e, ERR_NOMEM, "normal form of %zu bytes: out of memory", s.n);
    n = utf8proc_decompose(p, (utf8proc_ssize_t)s.n, cp, n, how);
    if (n >= 0 && how & UTF8PROC_COMPOSE) n = utf8proc_normalize_utf32(cp, n, how);
    char c[4];
    for (utf8proc_ssize_t i = 0; i < n; i++) sb_put(b, c, (size_t)utf8_encode(c, (uint32_t)cp[i]));
    mem_free(cp);
    return sb_check(b, e);
}

Status ucd_normalize(StrBuf *b, Slice s, UtfForm form, Err *e) {
    static const int how[] = {0, UTF8PROC_STABLE | UTF8PROC_COMPOSE,
                              UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
                              UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                              UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
    size_t valid = 0; /* bytes from here on that are known to be well-formed */
    while (s.n > 0) {
        if (valid == 0) valid = utf8_valid_prefix(s);
        size_t n = valid > 0 ? part_len((Slice){s.p, valid}) : 0;
        valid -= n;
        if (n > 0 && form != UTF_AS_IS) {
            TRY(normalize_part(b, (Slice){s.p, n}, (utf8proc_option_t)how[form], e));
        } else {
            n += n == 0;
            sb_put(b, s.p, n);
        }
        s.p += n;
        s.n -= n;
    }
    return sb_check(b, e);
}

uint32_t ucd_upper(uint32_t cp) { return (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp); }
uint32_t ucd_lower(uint32_t cp) { return (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp); }
uint32_t ucd_title(uint32_t cp) { return (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp); }
