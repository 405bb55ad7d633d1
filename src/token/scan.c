/* SPDX-License-Identifier: Apache-2.0
 *
 * The common patterns by hand: each function gives the end of the piece that its pattern (pretok.c)
 * would give at i, several times faster than running the pattern. A test holds them to PCRE2 on random
 * text. Functions without a pattern there would be quadratic as one, or have none. A small letter in a
 * name: `m` counts marks among the letters.
 */
#include "text/ucd.h"
#include "text/utf8.h"
#include "token/internal.h"

typedef enum Class {
    OTHER,
    LETTER,
    NUMBER,
    SPACE,
    MARK, /* only from wide_class */
    WIDE  /* not ASCII: look at the whole code point */
} Class;

static const uint8_t byte_class[256] = {
    ['\t'] = SPACE, ['\n'] = SPACE, ['\v'] = SPACE, ['\f'] = SPACE, ['\r'] = SPACE, [' '] = SPACE,
    ['0'] = NUMBER, ['1'] = NUMBER, ['2'] = NUMBER, ['3'] = NUMBER, ['4'] = NUMBER, ['5'] = NUMBER,
    ['6'] = NUMBER, ['7'] = NUMBER, ['8'] = NUMBER, ['9'] = NUMBER, ['A'] = LETTER, ['B'] = LETTER,
    ['C'] = LETTER, ['D'] = LETTER, ['E'] = LETTER, ['F'] = LETTER, ['G'] = LETTER, ['H'] = LETTER,
    ['I'] = LETTER, ['J'] = LETTER, ['K'] = LETTER, ['L'] = LETTER, ['M'] = LETTER, ['N'] = LETTER,
    ['O'] = LETTER, ['P'] = LETTER, ['Q'] = LETTER, ['R'] = LETTER, ['S'] = LETTER, ['T'] = LETTER,
    ['U'] = LETTER, ['V'] = LETTER, ['W'] = LETTER, ['X'] = LETTER, ['Y'] = LETTER, ['Z'] = LETTER,
    ['a'] = LETTER, ['b'] = LETTER, ['c'] = LETTER, ['d'] = LETTER, ['e'] = LETTER, ['f'] = LETTER,
    ['g'] = LETTER, ['h'] = LETTER, ['i'] = LETTER, ['j'] = LETTER, ['k'] = LETTER, ['l'] = LETTER,
    ['m'] = LETTER, ['n'] = LETTER, ['o'] = LETTER, ['p'] = LETTER, ['q'] = LETTER, ['r'] = LETTER,
    ['s'] = LETTER, ['t'] = LETTER, ['u'] = LETTER, ['v'] = LETTER, ['w'] = LETTER, ['x'] = LETTER,
    ['y'] = LETTER, ['z'] = LETTER,
#define W4(x) [x] = WIDE, [(x) + 1] = WIDE, [(x) + 2] = WIDE, [(x) + 3] = WIDE
#define W16(x) W4(x), W4((x) + 4), W4((x) + 8), W4((x) + 12)
    W16(0x80),      W16(0x90),      W16(0xa0),      W16(0xb0),      W16(0xc0),      W16(0xd0),
    W16(0xe0),      W16(0xf0),
};

static NOINLINE Class wide_class(const char *p, size_t n, size_t *len) {
    uint32_t cp = 0;
    *len = (size_t)utf8_decode(&cp, p, n);
    UcdSet c = ucd_class(cp);
    return c & UCD_L       ? LETTER
           : c & UCD_N     ? NUMBER
           : c & UCD_SPACE ? SPACE
           : c & UCD_M     ? MARK
                           : OTHER;
}

/* The same with marks as letters or as others. */
static inline Class wide_as(const char *p, size_t n, size_t *len, bool m) {
    Class c = wide_class(p, n, len);
    return c != MARK ? c : m ? LETTER : OTHER;
}

/* Class and length of the code point at p. */
static inline Class class_at(const char *p, size_t n, size_t *len, bool m) {
    *len = 1;
    Class c = (Class)byte_class[(uint8_t)*p];
    return LIKELY(c != WIDE) ? c : wide_as(p, n, len, m);
}

/* End of the run of class c from i on. */
static inline size_t run_end(const char *p, size_t n, size_t i, Class c, bool m) {
    for (size_t len;; i += len) {
        while (i < n && byte_class[(uint8_t)p[i]] == c) i++;
        if (i == n || byte_class[(uint8_t)p[i]] != WIDE || wide_as(p + i, n - i, &len, m) != c)
            return i;
    }
}

/* How many of eight ASCII characters, the first in the low byte, are letters up to the first that is none. */
static inline size_t leading_letters(uint64_t x) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t low = (x & ~high) | 0x20 * ones; /* in small letters; no byte carries into the next */
    uint64_t from_a = low + (0x80 - 'a') * ones, above_z = low + (0x7f - 'z') * ones;
    uint64_t other = ~(from_a & ~above_z & ~x) & high;
    return other ? (size_t)__builtin_ctzll(other) / 8 : 8;
}

/* run_end of letters: words are short and of any length, so a step of eight is one branch, not eight. */
static inline size_t letters_end(const char *p, size_t n, size_t i, bool m) {
    for (size_t len;; i += len) {
        size_t k = 8;
        for (uint64_t x; k == 8 && n - i >= 8; i += k) {
            memcpy(&x, p + i, 8);
            k = leading_letters(x);
        }
        if (k == 8) {
            while (i < n && byte_class[(uint8_t)p[i]] == LETTER) i++;
        }
        if (i == n || byte_class[(uint8_t)p[i]] != WIDE || wide_as(p + i, n - i, &len, m) != LETTER)
            return i;
    }
}

/* The same, but at most max code points. */
static size_t run_end_max(const char *p, size_t n, size_t i, Class c, int max) {
    size_t len;
    for (; i < n && max > 0 && class_at(p + i, n - i, &len, false) == c; max--) i += len;
    return i;
}

/* \s+(?!\S)|\s+ : the whole run at the end of the text, else all but its last code point, at least one. */
static size_t space_end(const char *p, size_t n) {
    size_t len, last = 0, i = 0;
    while (i < n && class_at(p + i, n - i, &len, false) == SPACE) {
        last = i;
        i += len;
    }
    return i == n || last == 0 ? i : last;
}

/* How letters of a contraction are compared. */
typedef enum Fold {
    FOLD_NONE,
    FOLD_ASCII,
    FOLD_UNICODE /* the long s is an s */
} Fold;

/* 's 't 're 've 'm 'll 'd . 0 if p does not start with one. */
static size_t contraction(const char *p, size_t n, Fold fold) {
    char bit = fold ? 0x20 : 0;
    if (n < 2 || p[0] != '\'') return 0;
    if (fold == FOLD_UNICODE && n >= 3 && !memcmp(p + 1, "\xc5\xbf", 2)) return 3;
    char a = (char)(p[1] | bit);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (n < 3) return 0;
    char b = (char)(p[2] | bit);
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

static inline size_t gpt2_end(const char *p, size_t n) {
    size_t len, skip = p[0] == ' ' && n > 1 ? 1 : 0;
    Class c = class_at(p + skip, n - skip, &len, false);
    if (c == SPACE) return space_end(p, n);
    if (c == OTHER && !skip) {
        size_t end = contraction(p, n, FOLD_NONE);
        if (end) return end;
    }
    return c == LETTER ? letters_end(p, n, skip + len, false) : run_end(p, n, skip + len, c, false);
}

size_t tok__scan_gpt2(const char *p, size_t n, size_t i) { return i + gpt2_end(p + i, n - i); }

/* ---- the family of cl100k ---- */

static bool is_newline(char c) { return c == '\n' || c == '\r'; }

/* \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last newline of the run of white space if there is one. */
static size_t blank_end(const char *p, size_t n) {
    size_t i = run_end(p, n, 0, SPACE, false);
    while (i > 0 && !is_newline(p[i - 1])) i--;
    return i ? i : space_end(p, n);
}

/* " ?[^\s\p{L}\p{N}]+[\r\n]*", from the first of the others on; slash: [\r\n/]*. */
static size_t others_end(const char *p, size_t n, size_t i, bool m, bool slash) {
    i = run_end(p, n, i, OTHER, m);
    while (i < n && (is_newline(p[i]) || (slash && p[i] == '/'))) i++;
    return i;
}

static ALWAYS_INLINE size_t cl100k_end(const char *p, size_t n, int max_digits, bool m, Fold fold) {
    size_t len, len2 = 0;
    size_t end = contraction(p, n, fold);
    if (end) return end;
    Class c = class_at(p, n, &len, m);
    if (c == LETTER) return letters_end(p, n, len, m);
    if (c == NUMBER) return run_end_max(p, n, len, NUMBER, max_digits - 1);
    Class next = len < n ? class_at(p + len, n - len, &len2, m) : SPACE;
    if (next == LETTER && !is_newline(p[0])) return letters_end(p, n, len + len2, m);
    if (c == OTHER) return others_end(p, n, len, m, false);
    if (p[0] == ' ' && next == OTHER) return others_end(p, n, len + len2, m, false);
    return blank_end(p, n);
}

/* up to three numbers together; each alone; the same and marks are letters */
size_t tok__scan_llama3(const char *p, size_t n, size_t i) {
    return i + cl100k_end(p + i, n - i, 3, false, FOLD_ASCII);
}
size_t tok__scan_qwen2(const char *p, size_t n, size_t i) {
    return i + cl100k_end(p + i, n - i, 1, false, FOLD_ASCII);
}
size_t tok__scan_qwen35(const char *p, size_t n, size_t i) {
    return i + cl100k_end(p + i, n - i, 1, true, FOLD_ASCII);
}

/* the same where the pattern says (?i:'s) */
static size_t scan_llama3_fold(const char *p, size_t n, size_t i) {
    return i + cl100k_end(p + i, n - i, 3, false, FOLD_UNICODE);
}
static size_t scan_qwen2_fold(const char *p, size_t n, size_t i) {
    return i + cl100k_end(p + i, n - i, 1, false, FOLD_UNICODE);
}
static size_t scan_qwen35_fold(const char *p, size_t n, size_t i) {
    return i + cl100k_end(p + i, n - i, 1, true, FOLD_UNICODE);
}

/* ---- the family of o200k: words end where a capital follows a small letter ---- */

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

/* End of the run of letters that are not in a-z (small false) or not in A-Z (small true); *low becomes
 * the end of its last letter outside of ASCII, which is both. */
static inline size_t cased_run(const char *p, size_t n, size_t i, bool small, bool m, size_t *low) {
    for (size_t len; i < n && class_at(p + i, n - i, &len, m) == LETTER; i += len) {
        if (small ? is_upper(p[i]) : is_lower(p[i])) break;
        if (p[i] & 0x80) *low = i + len;
    }
    return i;
}

/* upper* lower+ at i, or 0 */
static inline size_t low_word(const char *p, size_t n, size_t i, bool m) {
    size_t low = 0, unused, end = cased_run(p, n, i, false, m, &low);
    if (end < n && is_lower(p[end])) return cased_run(p, n, end, true, m, &unused);
    return low;
}

/* upper+ lower* at i where low_word is 0, or 0 */
static inline size_t high_word(const char *p, size_t n, size_t i, bool m) {
    size_t unused, end = cased_run(p, n, i, false, m, &unused);
    return end > i ? end : 0;
}

/* The word that starts at p, with a leading character that is no letter, number or newline. */
static inline size_t word_end(const char *p, size_t n, bool m) {
    size_t len, end;
    Class c = class_at(p, n, &len, false);
    bool lead = c != LETTER && c != NUMBER && !is_newline(p[0]) && len < n;
    if (lead && (end = low_word(p, n, len, m))) return end;
    if ((end = low_word(p, n, 0, m))) return end;
    if (lead && (end = high_word(p, n, len, m))) return end;
    return high_word(p, n, 0, m);
}

static ALWAYS_INLINE size_t o200k_end(const char *p, size_t n, int max_digits, bool cut, bool m) {
    size_t len, len2 = 0, end = word_end(p, n, m);
    if (end) return cut ? end + contraction(p + end, n - end, FOLD_ASCII) : end;
    Class c = class_at(p, n, &len, false);
    if (c == NUMBER) return run_end_max(p, n, len, NUMBER, max_digits - 1);
    if (c == OTHER) return others_end(p, n, len, false, true);
    Class next = len < n ? class_at(p + len, n - len, &len2, false) : SPACE;
    if (p[0] == ' ' && next == OTHER) return others_end(p, n, len + len2, false, true);
    return blank_end(p, n);
}

size_t tok__scan_gpt4o(const char *p, size_t n, size_t i) {
    return i + o200k_end(p + i, n - i, 3, true, false);
}
size_t tok__scan_tekken(const char *p, size_t n, size_t i) {
    return i + o200k_end(p + i, n - i, 1, false, false);
}
size_t tok__scan_granite(const char *p, size_t n, size_t i) {
    return i + o200k_end(p + i, n - i, 3, true, true);
}

/* ---- numbers ---- */

/* End of the stretch without numbers at i. */
static size_t no_number_end(const char *p, size_t n, size_t i) {
    for (size_t len; i < n && class_at(p + i, n - i, &len, false) != NUMBER;) i += len;
    return i;
}

static ALWAYS_INLINE size_t digits_end(const char *p, size_t n, size_t i, int max) {
    size_t end = run_end_max(p, n, i, NUMBER, max);
    return end > i ? end : no_number_end(p, n, i);
}

size_t tok__scan_digit(const char *p, size_t n, size_t i) { return digits_end(p, n, i, 1); }
size_t tok__scan_digits_3(const char *p, size_t n, size_t i) { return digits_end(p, n, i, 3); }

/* True if a number ends right before i. */
static bool after_number(const char *p, size_t n, size_t i) {
    size_t len, b = i;
    while (b > 0 && ((uint8_t)p[--b] & 0xc0) == 0x80) {}
    return i > 0 && class_at(p + b, n - b, &len, false) == NUMBER;
}

/* How many code points the run of numbers at i has. */
static size_t count_numbers(const char *p, size_t n, size_t i) {
    size_t len, k = 0;
    for (; i < n && class_at(p + i, n - i, &len, false) == NUMBER; i += len) k++;
    return k;
}

/* A run is counted once, at its start: later pieces of it are threes. */
size_t tok__scan_groups(const char *p, size_t n, size_t i) {
    bool inside = after_number(p, n, i);
    size_t b = no_number_end(p, n, i);
    if (b == n) return n;
    size_t k = inside && b == i ? 3 : count_numbers(p, n, b);
    return run_end_max(p, n, b, NUMBER, k % 3 ? (int)(k % 3) : 3);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Cuts stand where a multiple of three digits is left of a run. Pieces start at such a place, or at 0. */
size_t tok__scan_super(const char *p, size_t n, size_t i) {
    size_t b = i, e;
    if (i > 0 && is_digit(p[i]) && is_digit(p[i - 1])) {
        b = i + 3;
        if (b < n && is_digit(p[b])) return b;
    }
    for (; b < n; b = e) {
        while (b < n && !is_digit(p[b])) b++;
        for (e = b; e < n && is_digit(p[e]);) e++;
        size_t cut = b + (e - b) % 3;
        if (cut == i) cut += 3;
        if (cut < e) return cut;
    }
    return n;
}

/* ---- lines, spaces ---- */

size_t tok__scan_lines(const char *p, size_t n, size_t i) {
    if (p[i] == '\n') {
        while (i < n && p[i] == '\n') i++;
        return i;
    }
    const char *end = memchr(p + i, '\n', n - i);
    return end ? (size_t)(end - p) : n;
}

size_t tok__scan_space_len(const char *p, size_t n) {
    if (n > 0 && p[0] == ' ') return 1;
    return n >= 3 && p[0] == '\xe2' && p[1] == '\x96' && p[2] == '\x81' ? 3 : 0;
}

size_t tok__scan_spaces(const char *p, size_t n, size_t i) {
    size_t len;
    while (i < n && (len = tok__scan_space_len(p + i, n - i)) > 0) i += len;
    while (i < n && p[i] != ' ' && (p[i] != '\xe2' || !tok__scan_space_len(p + i, n - i))) i++;
    return i;
}

size_t tok__scan_space_each(const char *p, size_t n, size_t i) {
    i += MAX(tok__scan_space_len(p + i, n - i), (size_t)1);
    while (i < n && p[i] != ' ' && (p[i] != '\xe2' || !tok__scan_space_len(p + i, n - i))) i++;
    return i;
}

static const struct {
    const char *name;
    TokScanFn fn;
} scans[] = {
    {"gpt2", tok__scan_gpt2},         {"llama3_fold", scan_llama3_fold},
    {"qwen2_fold", scan_qwen2_fold},  {"qwen35_fold", scan_qwen35_fold},
    {"llama3", tok__scan_llama3},     {"qwen2", tok__scan_qwen2},
    {"qwen35", tok__scan_qwen35},     {"gpt4o", tok__scan_gpt4o},
    {"tekken", tok__scan_tekken},     {"granite", tok__scan_granite},
    {"lines", tok__scan_lines},       {"digit", tok__scan_digit},
    {"digits_3", tok__scan_digits_3}, {"space_each", tok__scan_space_each},
};

TokScanFn tok__scan_find(const char *name) {
    for (size_t i = 0; i < COUNT_OF(scans); i++) {
        if (!strcmp(scans[i].name, name)) return scans[i].fn;
    }
    return NULL;
}

const char *tok__scan_name(TokScanFn fn) {
    for (size_t i = 0; i < COUNT_OF(scans); i++) {
        if (scans[i].fn == fn) return scans[i].name;
    }
    return NULL;
}
