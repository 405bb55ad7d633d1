/* SPDX-License-Identifier: Apache-2.0
 *
 * UTF-8 as the Unicode standard's table 3-7 has it: overlong forms, surrogates and values above
 * U+10FFFF are ill-formed. One scanner answers all questions; replacement follows "maximal subparts"
 * (Unicode 15, section 3.9): a cut-off code point becomes one U+FFFD, a stray byte one each.
 */
#include "text/utf8.h"

typedef enum ScanKind { SCAN_OK, SCAN_BAD, SCAN_CUT } ScanKind;

typedef struct Scan {
    ScanKind kind; /* CUT: well-formed so far, but the bytes end inside the code point */
    int n;         /* bytes of the code point, or of the maximal ill-formed part */
    uint32_t cp;
} Scan;

/* Bytes that follow lead byte b, and the range of the first of them; -1 for no lead byte. */
static int lead_info(uint8_t b, uint8_t *lo, uint8_t *hi) {
    *lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
    *hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
    if (b < 0x80) return 0;
    if (b < 0xc2 || b > 0xf4) return -1;
    return b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
}

static Scan scan(const char *s, size_t n) {
    const uint8_t *p = (const uint8_t *)s;
    uint8_t lo, hi;
    int more = lead_info(p[0], &lo, &hi);
    if (more <= 0) return (Scan){more == 0 ? SCAN_OK : SCAN_BAD, 1, p[0]};
    uint32_t cp = p[0] & (0x3fu >> more);
    for (int i = 1; i <= more; i++) {
        if ((size_t)i == n) return (Scan){SCAN_CUT, i, 0};
        if (p[i] < lo || p[i] > hi) return (Scan){SCAN_BAD, i, 0};
        cp = cp << 6 | (p[i] & 0x3fu);
        lo = 0x80;
        hi = 0xbf;
    }
    return (Scan){SCAN_OK, more + 1, cp};
}

int utf8_decode(uint32_t *cp, const char *p, size_t n) {
    Scan s = scan(p, n);
    if (s.kind != SCAN_OK) return 0;
    *cp = s.cp;
    return s.n;
}

int utf8_encode(char out[4], uint32_t cp) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    int more = cp < 0x800 ? 1 : cp < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (char)(lead[more] | cp >> 6 * more);
    for (int i = 1; i <= more; i++) out[i] = (char)(0x80 | (cp >> 6 * (more - i) & 0x3f));
    return more + 1;
}

/* Bytes below 0x80 at the start of s, eight at a time. */
static size_t ascii_prefix(const char *p, size_t n) {
    size_t i = 0;
    uint64_t w;
    for (; i + 8 <= n; i += 8) {
        memcpy(&w, p + i, 8);
        if (w & 0x8080808080808080u) break;
    }
    while (i < n && (uint8_t)p[i] < 0x80) i++;
    return i;
}

size_t utf8_valid_prefix(Slice s) {
    size_t i = 0;
    while (i < s.n) {
        i += ascii_prefix(s.p + i, s.n - i);
        for (; i < s.n && (uint8_t)s.p[i] >= 0x80;) {
            Scan c = scan(s.p + i, s.n - i);
            if (c.kind != SCAN_OK) return i;
            i += (size_t)c.n;
        }
    }
    return i;
}

bool utf8_valid(Slice s) { return utf8_valid_prefix(s) == s.n; }

size_t utf8_complete_prefix(Slice s) {
    for (size_t back = 1; back <= 3 && back <= s.n; back++) {
        size_t at = s.n - back;
        if (((uint8_t)s.p[at] & 0xc0) == 0x80) continue;
        return scan(s.p + at, back).kind == SCAN_CUT ? at : s.n;
    }
    return s.n;
}

void utf8_put_clean(StrBuf *b, Slice s) {
    size_t i = 0;
    while (i < s.n) {
        size_t good = utf8_valid_prefix((Slice){s.p + i, s.n - i});
        sb_put(b, s.p + i, good);
        i += good;
        if (i == s.n) break;
        i += (size_t)scan(s.p + i, s.n - i).n;
        sb_puts(b, "\xef\xbf\xbd");
    }
}
