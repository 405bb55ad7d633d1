/* SPDX-License-Identifier: Apache-2.0
 *
 * The GPT-2 alphabet: byte-level vocabularies are written with 256 visible characters, so that a token
 * is always printable text. Visible Latin-1 stands for itself; the 68 other bytes, in order, are
 * U+0100 and up (a space is U+0120, a newline U+010A).
 */
#include "token/internal.h"

static bool visible(int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; }

uint32_t tok__byte_char(uint8_t b) {
    if (visible(b)) return b;
    uint32_t cp = 256;
    for (int i = 0; i < b; i++) cp += !visible(i);
    return cp;
}

int tok__char_byte(uint32_t cp) {
    if (cp < 256) return visible((int)cp) ? (int)cp : -1;
    if (cp < 256 + 33) return (int)cp - 256;              /* 0..32 */
    if (cp < 256 + 67) return (int)cp - (256 + 33) + 127; /* 127..160 */
    return cp == 256 + 67 ? 173 : -1;
}
