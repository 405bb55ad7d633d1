/* SPDX-License-Identifier: Apache-2.0
 *
 * The common patterns by hand: each function gives the end of the chunk that its pattern (pretok.c)
 * would match at p, several times faster than running the pattern. A test holds them to PCRE2 on random
 * text. Since the classes letter, number, white space and other cover everything, there are no gaps.
 */
#include "text/ucd.h"
#include "text/utf8.h"
#include "token/internal.h"

typedef enum Class {
    OTHER,
    LETTER,
    NUMBER,
    SPACE,
    WIDE /* not ASCII: look at the whole code point */
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
    return c & UCD_L ? LETTER : c & UCD_N ? NUMBER : c & UCD_SPACE ? SPACE : OTHER;
}

/* Class and length of the code point at p. */
static inline Class class_at(const char *p, size_t n, size_t *len) {
    *len = 1;
    Class c = (Class)byte_class[(uint8_t)*p];
    return LIKELY(c != WIDE) ? c : wide_class(p, n, len);
}

/* End of the run of class c from i on. */
static size_t run_end(const char *p, size_t n, size_t i, Class c) {
    for (size_t len;; i += len) {
        while (i < n && byte_class[(uint8_t)p[i]] == c) i++;
        if (i == n || byte_class[(uint8_t)p[i]] != WIDE || wide_class(p + i, n - i, &len) != c)
            return i;
    }
}

/* The same, but at most max code points. */
static size_t run_end_max(const char *p, size_t n, size_t i, Class c, int max) {
    size_t len;
    for (; i < n && max > 0 && class_at(p + i, n - i, &len) == c; max--) i += len;
    return i;
}

/* \s+(?!\S)|\s+ : the whole run at the end of the text, else all but its last code point, at least one. */
static size_t space_end(const char *p, size_t n) {
    size_t len, last = 0, i = 0;
    while (i < n && class_at(p + i, n - i, &len) == SPACE) {
        last = i;
        i += len;
    }
    return i == n || last == 0 ? i : last;
}

/* 's 't 're 've 'm 'll 'd ; fold: in any case of letters. 0 if p does not start with one. */
static size_t contraction(const char *p, size_t n, bool fold) {
    char bit = fold ? 0x20 : 0;
    if (n < 2 || p[0] != '\'') return 0;
    char a = (char)(p[1] | bit);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (n < 3) return 0;
    char b = (char)(p[2] | bit);
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

size_t tok__scan_gpt2(const char *p, size_t n) {
    size_t len, skip = p[0] == ' ' && n > 1 ? 1 : 0;
    Class c = class_at(p + skip, n - skip, &len);
    if (c == SPACE) return space_end(p, n);
    if (c == OTHER && !skip) {
        size_t end = contraction(p, n, false);
        if (end) return end;
    }
    return run_end(p, n, skip + len, c);
}

static bool is_newline(char c) { return c == '\n' || c == '\r'; }

/* \s*[\r\n]+ : up to the last newline of the run of white space; 0 if there is none in it. */
static size_t newline_end(const char *p, size_t n) {
    size_t i = run_end(p, n, 0, SPACE);
    while (i > 0 && !is_newline(p[i - 1])) i--;
    return i;
}

/* " ?[^\s\p{L}\p{N}]+[\r\n]*", from the first of the others on. */
static size_t others_end(const char *p, size_t n, size_t i) {
    i = run_end(p, n, i, OTHER);
    while (i < n && is_newline(p[i])) i++;
    return i;
}

static size_t scan_cl100k(const char *p, size_t n, int max_digits) {
    size_t len, len2 = 0;
    size_t end = contraction(p, n, true);
    if (end) return end;
    Class c = class_at(p, n, &len);
    if (c == LETTER) return run_end(p, n, len, LETTER);
    if (c == NUMBER) return run_end_max(p, n, len, NUMBER, max_digits - 1);
    Class next = len < n ? class_at(p + len, n - len, &len2) : SPACE;
    if (next == LETTER && !is_newline(p[0])) return run_end(p, n, len + len2, LETTER);
    if (c == OTHER) return others_end(p, n, len);
    if (p[0] == ' ' && next == OTHER) return others_end(p, n, len + len2);
    end = newline_end(p, n);
    return end ? end : space_end(p, n);
}

size_t tok__scan_llama3(const char *p, size_t n) { return scan_cl100k(p, n, 3); }
size_t tok__scan_qwen2(const char *p, size_t n) { return scan_cl100k(p, n, 1); }
