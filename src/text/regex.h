/* SPDX-License-Identifier: Apache-2.0
 * Regular expressions through PCRE2 (JIT where available), always UTF and with match limits. A compiled
 * Regex is immutable and may be shared; each thread needs its own RegexScratch. */
#ifndef INGOT_TEXT_REGEX_H
#define INGOT_TEXT_REGEX_H

#include "base/str.h"

typedef struct Regex Regex;
typedef struct RegexScratch RegexScratch;

enum {
    REGEX_MAX_PATTERN = 64 << 10, /* bytes as given */
    REGEX_MATCH_LIMIT = 250000    /* backtracking steps from one start */
};

/* Before compiling, \s \p{L} \p{N} \p{M} \p{P} \p{S} \p{Lu} \p{Ll} \p{Lt} \p{Lm} \p{Lo} (and negations, also
 * inside classes) are replaced by the ranges of Unicode 15.1, since PCRE2's own tables are older and its \s
 * differs from the tokenizers'. \d, \w and \b follow PCRE2's Unicode properties; $ is the very end.
 * ERR_ARG names the offset of a syntax error in `pattern`; the set operations of other engines ([a&&b],
 * [a[b]]) are such errors. */
MUST_CHECK Status regex_new(Regex **out, const char *pattern, Err *e);
void regex_free(Regex *r);
MUST_CHECK Status regex_scratch_new(RegexScratch **out, const Regex *r, Err *e);
void regex_scratch_free(RegexScratch *s);
/* First match in s at or after `from`: its range in *begin, *end. Returns false when there is none or a
 * match limit was reached. s must be valid UTF-8. */
bool regex_find(const Regex *r, RegexScratch *sc, Slice s, size_t from, size_t *begin, size_t *end);

#endif
