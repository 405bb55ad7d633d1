/* SPDX-License-Identifier: Apache-2.0
 * Inside text/ only: rewriting of a pattern's Unicode classes into ranges. */
#ifndef INGOT_TEXT_REGEX_EXPAND_H
#define INGOT_TEXT_REGEX_EXPAND_H

#include "base/str.h"

/* Append pattern to b with \s and \p{..} written out. With limit > 0 it stops once b holds limit bytes, and
 * *src_at (may be NULL) is the offset in pattern that had been reached: so offsets are mapped back.
 * ERR_ARG for syntax of other engines, ERR_FULL past 1 MiB, ERR_NOMEM. */
MUST_CHECK Status regex__expand(StrBuf *b, const char *pattern, size_t limit, size_t *src_at,
                                Err *e);

#endif
