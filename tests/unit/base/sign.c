/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sign.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/sha.h"
#include "test.h"

static char key_path[300], pub_path[300];

static void make_pair(const char *name) {
    snprintf(key_path, sizeof key_path, "%s/%s.key", test_tmpdir(), name);
    snprintf(pub_path, sizeof pub_path, "%s/%s.pub", test_tmpdir(), name);
    unlink(key_path);
    unlink(pub_path);
    OK_(sign_keygen(key_path, pub_path, TERR));
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    chmod(path, 0600);
}

TEST(a_signature_is_right_for_these_bytes_and_this_key) {
    SignKey *key = NULL, *pub = NULL, *other = NULL;
    uint8_t sig[SIGN_BYTES], same[SIGN_BYTES];
    make_pair("other");
    OK_(sign_load_public(&other, pub_path, TERR));
    make_pair("a");
    OK_(sign_load_private(&key, key_path, TERR));
    OK_(sign_load_public(&pub, pub_path, TERR));
    Slice text = slice_of("what is signed");
    OK_(sign_make(sig, key, text, TERR));
    OK_(sign_make(same, key, text, TERR));
    EQ_MEM(sig, same, sizeof sig); /* Ed25519 has no random part */
    TRUE_(sign_check(pub, text, sig));
    TRUE_(sign_check(key, text, sig));
    FALSE_(sign_check(other, text, sig));
    FALSE_(sign_check(pub, slice_of("what is signeD"), sig));
    FALSE_(sign_check(pub, (Slice){text.p, text.n - 1}, sig));
    for (int i = 0; i < SIGN_BYTES; i++) {
        sig[i] ^= 1;
        FALSE_(sign_check(pub, text, sig));
        sig[i] ^= 1;
    }
    char a[SIGN_ID + 1], b[SIGN_ID + 1], c[SIGN_ID + 1];
    EQ_STR(sign_key_id(a, key), sign_key_id(b, pub));
    TRUE_(strcmp(a, sign_key_id(c, other)) != 0);
    sign_key_free(key);
    sign_key_free(pub);
    sign_key_free(other);
}

/* RFC 8032, section 7.1, test 3: keys as openssl writes them. */
TEST(known_answer) {
    static const char pem[] = "-----BEGIN PRIVATE KEY-----\n"
                              "MC4CAQAwBQYDK2VwBCIEIMWqjfQ/n4N77bdELzHct7Fm04U1B28JS4XOOi4LRFj3\n"
                              "-----END PRIVATE KEY-----\n";
    static const uint8_t msg[2] = {0xaf, 0x82};
    static const uint8_t head[8] = {0x62, 0x91, 0xd6, 0x57, 0xde, 0xec, 0x24, 0x02};
    SignKey *key = NULL;
    uint8_t sig[SIGN_BYTES];
    snprintf(key_path, sizeof key_path, "%s/rfc.key", test_tmpdir());
    write_text(key_path, pem);
    OK_(sign_load_private(&key, key_path, TERR));
    OK_(sign_make(sig, key, (Slice){(const char *)msg, sizeof msg}, TERR));
    EQ_MEM(sig, head, sizeof head);
    sign_key_free(key);
}

TEST(a_private_key_is_its_owners_alone) {
    struct stat s;
    SignKey *k = NULL;
    make_pair("mode");
    EQ(stat(key_path, &s), 0);
    EQ(s.st_mode & 0777, 0600);
    EQ(stat(pub_path, &s), 0);
    EQ(s.st_mode & 0400, 0400);
    chmod(key_path, 0640);
    FAILS(ERR_IO, sign_load_private(&k, key_path, TERR));
    TRUE_(strstr(test_err.msg, "mode 640") != NULL);
    chmod(key_path, 0400);
    OK_(sign_load_private(&k, key_path, TERR));
    sign_key_free(k);
}

TEST(keys_are_not_replaced) {
    make_pair("once");
    FAILS(ERR_IO, sign_keygen(key_path, pub_path, TERR));
    unlink(key_path);
    FAILS(ERR_IO, sign_keygen(key_path, pub_path, TERR)); /* the public one is there */
    FALSE_(io_exists(key_path));                          /* and no half of a pair is left */
}

TEST(other_files_are_no_keys) {
    SignKey *k = NULL;
    char path[300];
    make_pair("kind");
    FAILS(ERR_FORMAT, sign_load_public(&k, key_path, TERR));
    chmod(pub_path, 0600);
    FAILS(ERR_FORMAT, sign_load_private(&k, pub_path, TERR));
    snprintf(path, sizeof path, "%s/junk", test_tmpdir());
    static const char *const junk[] = {
        "", "-----BEGIN PUBLIC KEY-----\n", "hello",
        /* X25519, which agrees on keys and signs nothing */
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAZJ6M/3S4bJYXlUFaYL3WQZQ/3c6RPhNo3CCtnVyEtmA=\n"
        "-----END PUBLIC KEY-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgA\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n"};
    for (size_t i = 0; i < COUNT_OF(junk); i++) {
        write_text(path, junk[i]);
        FAILS(ERR_FORMAT, sign_load_public(&k, path, TERR));
        FAILS(ERR_FORMAT, sign_load_private(&k, path, TERR));
    }
    FAILS(ERR_NOT_FOUND, sign_load_public(&k, "/none", TERR));
}

TEST(digests_as_text) {
    Sha256 a, b;
    char hex[65];
    OK_(sha_256(&a, "abcdef", 6, TERR));
    TRUE_(sha_parse(&b, sha_hex(hex, &a), 64));
    EQ_MEM(&a, &b, sizeof a);
    FALSE_(sha_parse(&b, hex, 63));
    hex[5] = 'A';
    FALSE_(sha_parse(&b, hex, 64));
    hex[5] = 0;
    FALSE_(sha_parse(&b, hex, 64));
}
