/* SPDX-License-Identifier: Apache-2.0
 * Digests in parts and HMAC, against the values of FIPS 180-4 and RFC 4231. */
#include "base/digest.h"

#include "test.h"

static void digest(char hex[DIGEST_HEX], DigestKind kind, const char *a, const char *b) {
    Digest *d = NULL;
    OK_(digest_new(&d, kind, TERR));
    digest_add(d, a, strlen(a));
    digest_add(d, b, strlen(b));
    OK_(digest_finish(hex, d, TERR));
    digest_free(d);
}

TEST(known_values_in_parts) {
    char hex[DIGEST_HEX];
    digest(hex, DIGEST_SHA256, "", "");
    EQ_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest(hex, DIGEST_SHA256, "a", "bc");
    EQ_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest(hex, DIGEST_SHA1, "ab", "c");
    EQ_STR(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

TEST(hmac_of_rfc_4231) {
    Sha256 s;
    char hex[DIGEST_HEX];
    const char *text = "what do ya want for nothing?";
    OK_(digest_hmac(&s, "Jefe", 4, text, strlen(text), TERR));
    sha_hex(hex, &s);
    EQ_STR(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(hexadecimal_digits) {
    char out[9];
    TRUE_(digest_parse_hex(out, slice_of("01aBcDeF"), 8));
    EQ_STR(out, "01abcdef");
    FALSE_(digest_parse_hex(out, slice_of("01aBcDe"), 8));
    FALSE_(digest_parse_hex(out, slice_of("01aBcDeFF"), 8));
    FALSE_(digest_parse_hex(out, slice_of("01aBcDeg"), 8));
    FALSE_(digest_parse_hex(out, slice_of("01aBcD\xc3\xbc"), 8));
}
