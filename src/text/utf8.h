/* SPDX-License-Identifier: Apache-2.0
 * UTF-8. Any thread. */
#ifndef INGOT_TEXT_UTF8_H
#define INGOT_TEXT_UTF8_H

#include "base/str.h"

/* Decode the code point at p (n > 0 bytes left). Returns its length, or 0 if the bytes there are not
 * well-formed UTF-8 (overlong forms and surrogates included); *cp is set only on success. */
int utf8_decode(uint32_t *cp, const char *p, size_t n);
/* Bytes of cp into out[4]; returns the length. cp <= 0x10ffff. */
int utf8_encode(char out[4], uint32_t cp);
bool utf8_valid(Slice s);
/* Length of the longest well-formed prefix of s. */
size_t utf8_valid_prefix(Slice s);
/* Length of the longest prefix of s that does not end inside a code point: what a stream may show now. */
size_t utf8_complete_prefix(Slice s);
/* s with every maximal ill-formed part replaced by U+FFFD, appended to b. */
void utf8_put_clean(StrBuf *b, Slice s);

#endif
