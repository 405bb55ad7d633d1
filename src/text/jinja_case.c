/* SPDX-License-Identifier: Apache-2.0
 *
 * Case of strings, and what kinds of characters they have, by Unicode.
 */
#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

/* ---- case ---- */

/* Letters whose counterpart is several: all of it in upper case, then with only the first one so. */
static const struct {
    uint32_t cp;
    const char *upper, *title;
} several[] = {
    {0xdf, "SS", "Ss"},
    {0x149, "\u02bcN", "\u02bcN"},
    {0x1f0, "J\u030c", "J\u030c"},
    {0x587, "\u0535\u0552", "\u0535\u0582"},
    {0xfb00, "FF", "Ff"},
    {0xfb01, "FI", "Fi"},
    {0xfb02, "FL", "Fl"},
    {0xfb03, "FFI", "Ffi"},
    {0xfb04, "FFL", "Ffl"},
    {0xfb05, "ST", "St"},
    {0xfb06, "ST", "St"},
};

enum { CASED = UCD_LU | UCD_LL | UCD_LT, SIGMA = 0x3a3, SIGMA_LAST = 0x3c2, I_DOT = 0x130 };

static bool put_several(StrBuf *b, uint32_t cp, char how) {
    for (size_t i = 0; i < COUNT_OF(several); i++) {
        if (several[i].cp != cp) continue;
        sb_puts(b, how == 't' ? several[i].title : several[i].upper);
        return true;
    }
    return false;
}

/* A sigma in lower case: another one at the end of a word. */
static uint32_t lower_sigma(Slice s, size_t at, bool after_letter) {
    uint32_t next = 0;
    at += 2;
    bool more = at < s.n && utf8_decode(&next, s.p + at, s.n - at) > 0 && (ucd_class(next) & CASED);
    return after_letter && !more ? SIGMA_LAST : ucd_lower(SIGMA);
}

/* One letter: how is u, l or t. */
static void put_cased(StrBuf *b, Slice s, size_t at, uint32_t cp, char how, bool after_letter) {
    char u[4];
    if (how != 'l' && put_several(b, cp, how)) return;
    if (how == 'l' && cp == I_DOT) {
        sb_puts(b, "i\u0307");
        return;
    }
    uint32_t to = how == 'u'    ? ucd_upper(cp)
                  : how == 't'  ? ucd_title(cp)
                  : cp == SIGMA ? lower_sigma(s, at, after_letter)
                                : ucd_lower(cp);
    sb_put(b, u, (size_t)utf8_encode(u, to));
}

Status jinja__case(JRun *r, JVal *out, Slice s, char how) {
    StrBuf b = {0};
    bool after_letter = false;
    TRY(jinja__step(r, s.n / 16));
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
        UcdSet c = ucd_class(cp);
        char one = how == 's' ? (c & UCD_LU ? 'l' : 'u') : how;
        if (how == 't') one = after_letter ? 'l' : 't';
        if (how == 'c') one = i ? 'l' : 't';
        if (how == 'C') one = i ? 'l' : 'u';
        put_cased(&b, s, i, cp, one, after_letter);
        after_letter = c & CASED;
        i += (size_t)n;
    }
    return jinja__take(r, out, &b);
}

static Status m_upper(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 'u');
}
static Status m_lower(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 'l');
}
static Status m_title(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 't');
}
static Status m_capitalize(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 'c');
}
static Status m_swapcase(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 's');
}

/* Lower case of all, letters that are several taken apart first. */
static Status m_casefold(JRun *r, JVal *out, JVal v, const JArgs *a) {
    StrBuf apart = {0}, b = {0};
    (void)a;
    for (size_t i = 0; i < v.s.n;) {
        uint32_t cp = 0xfffd;
        size_t n = (size_t)MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        if (!put_several(&apart, cp, 'u')) sb_put(&apart, v.s.p + i, n);
        i += n;
    }
    TRY(jinja__take(r, out, &apart));
    TRY(jinja__case(r, out, out->s, 'l'));
    for (size_t i = 0; i < out->s.n;) {
        uint32_t cp = 0xfffd;
        size_t n = (size_t)MAX(1, utf8_decode(&cp, out->s.p + i, out->s.n - i));
        if (cp == SIGMA_LAST) sb_puts(&b, "\u03c3");
        else sb_put(&b, out->s.p + i, n);
        i += n;
    }
    return jinja__take(r, out, &b);
}

/* ---- kinds of characters ---- */

/* True where every character is of the set, and there is one. */
static Status all_of(JRun *r, JVal *out, JVal v, UcdSet set) {
    bool yes = v.s.n > 0;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n && yes;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        yes = set == UCD_SPACE ? jinja__is_space(cp) : (ucd_class(cp) & set) != 0;
        i += (size_t)n;
    }
    *out = jinja__bool(yes);
    return OK;
}
static Status m_isalpha(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_L);
}
enum { ND = 1 << 9, NO = 1 << 11 };

static Status m_isdecimal(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, ND);
}

/* Raised, lowered, circled ... digits, which are digits though no decimal ones. */
static bool odd_digit(uint32_t cp) {
    static const uint32_t ranges[][2] = {{0xb2, 0xb3},     {0xb9, 0xb9},     {0x1369, 0x1371},
                                         {0x19da, 0x19da}, {0x2070, 0x2070}, {0x2074, 0x2079},
                                         {0x2080, 0x2089}, {0x2460, 0x2468}, {0x2474, 0x247c},
                                         {0x2488, 0x2490}, {0x24ea, 0x24ea}, {0x24f5, 0x24fd},
                                         {0x24ff, 0x24ff}, {0x2776, 0x277e}, {0x2780, 0x2788},
                                         {0x278a, 0x2792}};
    for (size_t i = 0; i < COUNT_OF(ranges); i++)
        if (cp >= ranges[i][0] && cp <= ranges[i][1]) return true;
    return false;
}

static Status m_isdigit(JRun *r, JVal *out, JVal v, const JArgs *a) {
    bool yes = v.s.n > 0;
    (void)a;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n && yes;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        yes = (ucd_class(cp) & ND) || odd_digit(cp);
        i += (size_t)n;
    }
    *out = jinja__bool(yes);
    return OK;
}
static Status m_isnumeric(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_N);
}
static Status m_isalnum(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_L | UCD_N);
}
static Status m_isascii(JRun *r, JVal *out, JVal v, const JArgs *a) {
    bool yes = true;
    (void)a;
    TRY(jinja__step(r, v.s.n / 64));
    for (size_t i = 0; i < v.s.n; i++) yes &= (unsigned char)v.s.p[i] < 0x80;
    *out = jinja__bool(yes);
    return OK;
}
static Status m_isprintable(JRun *r, JVal *out, JVal v, const JArgs *a) {
    bool yes = true;
    (void)a;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n;) {
        uint32_t cp = 0xfffd;
        i += (size_t)MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        yes &= jinja__printable(cp);
    }
    *out = jinja__bool(yes);
    return OK;
}
static Status m_isidentifier(JRun *r, JVal *out, JVal v, const JArgs *a) {
    bool yes = v.s.n > 0;
    (void)a;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n;) {
        uint32_t cp = 0xfffd;
        bool first = i == 0;
        i += (size_t)MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        yes &= cp == '_' || (ucd_class(cp) & (first ? UCD_L : UCD_L | UCD_M | ND));
    }
    *out = jinja__bool(yes);
    return OK;
}
static Status m_isspace(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_SPACE);
}

/* Some letter has a case, and none the other. */
static Status one_case(JRun *r, JVal *out, JVal v, UcdSet want) {
    bool any = false, other = false;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        UcdSet c = ucd_class(cp) & (UCD_LU | UCD_LL | UCD_LT);
        any |= (c & want) != 0;
        other |= (c & ~want) != 0;
        i += (size_t)n;
    }
    *out = jinja__bool(any && !other);
    return OK;
}
static Status m_isupper(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return one_case(r, out, v, UCD_LU);
}
static Status m_islower(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return one_case(r, out, v, UCD_LL);
}

/* Capitals begin words and nothing else does, and there is one. */
static Status m_istitle(JRun *r, JVal *out, JVal v, const JArgs *a) {
    bool any = false, yes = true, after_letter = false;
    (void)a;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n;) {
        uint32_t cp = 0xfffd;
        i += (size_t)MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        UcdSet c = ucd_class(cp);
        if (c & (UCD_LU | UCD_LT)) yes &= !after_letter;
        if (c & UCD_LL) yes &= after_letter;
        after_letter = c & CASED;
        any |= after_letter;
    }
    *out = jinja__bool(yes && any);
    return OK;
}

const JCallRow jinja__case_methods[] = {{"upper", m_upper, "", 0},
                                        {"lower", m_lower, "", 0},
                                        {"casefold", m_casefold, "", 0},
                                        {"title", m_title, "", 0},
                                        {"capitalize", m_capitalize, "", 0},
                                        {"swapcase", m_swapcase, "", 0},
                                        {"isalpha", m_isalpha, "", 0},
                                        {"isdigit", m_isdigit, "", 0},
                                        {"isdecimal", m_isdecimal, "", 0},
                                        {"isnumeric", m_isnumeric, "", 0},
                                        {"isalnum", m_isalnum, "", 0},
                                        {"isspace", m_isspace, "", 0},
                                        {"isascii", m_isascii, "", 0},
                                        {"isprintable", m_isprintable, "", 0},
                                        {"isidentifier", m_isidentifier, "", 0},
                                        {"istitle", m_istitle, "", 0},
                                        {"isupper", m_isupper, "", 0},
                                        {"islower", m_islower, "", 0},
                                        {NULL, NULL, NULL, 0}};
