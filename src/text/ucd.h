/* SPDX-License-Identifier: Apache-2.0
 * Unicode 15.1 general categories and white space. Any thread. */
#ifndef INGOT_TEXT_UCD_H
#define INGOT_TEXT_UCD_H

#include "base/str.h"

/* A set of code points: one bit per general category, and one for the White_Space property. */
typedef uint32_t UcdSet;

enum {
    UCD_LU = 1 << 1,
    UCD_LL = 1 << 2,
    UCD_LT = 1 << 3,
    UCD_LM = 1 << 4,
    UCD_LO = 1 << 5,
    UCD_L = UCD_LU | UCD_LL | UCD_LT | UCD_LM | UCD_LO,
    UCD_M = 7 << 6,     /* Mn Mc Me */
    UCD_N = 7 << 9,     /* Nd Nl No */
    UCD_P = 0x7f << 12, /* Pc Pd Ps Pe Pi Pf Po */
    UCD_S = 0xf << 19,  /* Sm Sc Sk So */
    UCD_Z = 7 << 23,    /* Zs Zl Zp */
    UCD_SPACE = 1 << 30 /* White_Space, which is not a category */
};

/* The category bit of cp, with UCD_SPACE where it is white space. cp <= 0x10ffff. */
UcdSet ucd_class(uint32_t cp);
/* Members of `set` (or all others, with negate) as the inside of a PCRE2 class: "\x{41}-\x{5a}...",
 * appended. Surrogates count as whatever is next to them. */
void ucd_put_ranges(StrBuf *b, UcdSet set, bool negate);
/* The code point's counterpart of that case; itself where it has none (and where it would be several). */
uint32_t ucd_upper(uint32_t cp);
uint32_t ucd_lower(uint32_t cp);
uint32_t ucd_title(uint32_t cp);
/* Normal forms of Unicode. */
typedef enum UtfForm { UTF_AS_IS, UTF_NFC, UTF_NFD, UTF_NFKC, UTF_NFKD } UtfForm;
/* s in a normal form, appended; ill-formed bytes stay and are borders. ERR_NOMEM. */
MUST_CHECK Status ucd_normalize(StrBuf *b, Slice s, UtfForm form, Err *e);
/* The set of a category's short name ("L", "Lu", "L&"); 0 if it is none. */
UcdSet ucd_find_set(Slice name);

#endif
