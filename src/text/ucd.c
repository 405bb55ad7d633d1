/* SPDX-License-Identifier: Apache-2.0
 *
 * Unicode sets out of utf8proc's tables (version 2.8: Unicode 15.0).
 */
#include "text/ucd.h"

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

UcdSet ucd_class(uint32_t cp) {
    UcdSet c = (UcdSet)1 << utf8proc_category((utf8proc_int32_t)cp);
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
