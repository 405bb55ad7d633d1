/* SPDX-License-Identifier: Apache-2.0
 * Signatures against the examples of Amazon's documentation ("Signature Calculations for the Authorization Header"),
 * URLs, names, files of keys. */
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "hub/internal.h"
#include "test.h"

static const HubS3 DOC = {.key_id = "AKIAIOSFODNN7EXAMPLE",
                          .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                          .region = "us-east-1"};
enum { DOC_TIME = 1369353600 }; /* 20130524T000000Z */

static void signature(char out[80], const HubS3Request *r) {
    StrBuf b = {0};
    OK_(hub__s3_sign(&b, &DOC, r, DOC_TIME, TERR));
    const char *s = strstr(sb_str(&b), "Signature=");
    TRUE_(s);
    snprintf(out, 80, "%.64s", s + 10);
    sb_deinit(&b);
}

TEST(signs_as_the_examples_do) {
    static const char *const range[] = {"range: bytes=0-9"};
    static const char *const put[] = {"date: Fri, 24 May 2013 00:00:00 GMT",
                                      "x-amz-storage-class: REDUCED_REDUNDANCY"};
    char sig[80];
    signature(sig, &(HubS3Request){.method = "GET",
                                   .url = "https://examplebucket.s3.amazonaws.com/test.txt",
                                   .payload = HUB_EMPTY_SHA256,
                                   .headers = range,
                                   .n_headers = 1});
    EQ_STR(sig, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    signature(sig,
              &(HubS3Request){
                  .method = "PUT",
                  .url = "https://examplebucket.s3.amazonaws.com/test%24file.text",
                  .payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                  .headers = put,
                  .n_headers = 2});
    EQ_STR(sig, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    signature(sig, &(HubS3Request){.method = "GET",
                                   .url = "https://examplebucket.s3.amazonaws.com/?lifecycle=",
                                   .payload = HUB_EMPTY_SHA256});
    EQ_STR(sig, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    signature(sig,
              &(HubS3Request){.method = "GET",
                              .url = "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
                              .payload = HUB_EMPTY_SHA256});
    EQ_STR(sig, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(a_default_port_is_not_signed) {
    char with[80], without[80];
    signature(with, &(HubS3Request){"GET", "https://h.example:443/k", HUB_EMPTY_SHA256, NULL, 0});
    signature(without, &(HubS3Request){"GET", "https://h.example/k", HUB_EMPTY_SHA256, NULL, 0});
    EQ_STR(with, without);
    signature(with, &(HubS3Request){"GET", "http://h.example:443/k", HUB_EMPTY_SHA256, NULL, 0});
    NE(strcmp(with, without), 0);
}

TEST(without_keys_nothing_is_signed) {
    static const char *const own[] = {"x-amz-meta-sha256: 0"};
    HubS3 none = {.region = "r"};
    StrBuf b = {0};
    OK_(hub__s3_sign(&b, &none, &(HubS3Request){"GET", "https://h/k", HUB_EMPTY_SHA256, own, 1}, 0,
                     TERR));
    EQ_STR(sb_str(&b), "x-amz-meta-sha256: 0\n");
    sb_deinit(&b);
}

TEST(urls_by_endpoint_and_bucket) {
    Arena a;
    arena_init(&a, 1024);
    HubS3 s = {.region = "eu-1"};
    EQ_STR(hub__s3_url(&s, "b-1", "a b/\xc3\xbc+.gguf", NULL, &a),
           "https://b-1.s3.eu-1.amazonaws.com/a%20b/%C3%BC%2B.gguf");
    EQ_STR(hub__s3_url(&s, "b.1", "k", "uploads=", &a),
           "https://s3.eu-1.amazonaws.com/b.1/k?uploads=");
    s.endpoint = "http://127.0.0.1:9000";
    EQ_STR(hub__s3_url(&s, "b", "", "list-type=2", &a), "http://127.0.0.1:9000/b/?list-type=2");
    arena_deinit(&a);
}

TEST(names_are_split_and_checked) {
    Arena a;
    char *bucket = NULL, *key = NULL;
    arena_init(&a, 1024);
    OK_(hub__s3_split(&bucket, &key, "s3://models/a/b", &a, TERR));
    EQ_STR(bucket, "models");
    EQ_STR(key, "a/b");
    OK_(hub__s3_split(&bucket, &key, "s3://models", &a, TERR));
    EQ_STR(key, "");
    static const char *const bad[] = {"s3://",      "s3:///k",         "s3://ab/k", "s3://a b c/k",
                                      "s3://.ab/k", "s3://abc/x/../y", "s3://a@b/k"};
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        FAILS(ERR_ARG, hub__s3_split(&bucket, &key, bad[i], &a, TERR));
    arena_deinit(&a);
}

static const char *put_file(char *path, size_t cap, const char *name, const char *text) {
    IoWriter w;
    snprintf(path, cap, "%s/%s", test_tmpdir(), name);
    OK_(io_writer_open(&w, path, false, TERR));
    OK_(io_write(&w, text, strlen(text), TERR));
    OK_(io_writer_close(&w, TERR));
    return path;
}

TEST(keys_come_from_files_of_profiles) {
    char cred[256], conf[256];
    Arena a;
    HubS3 s;
    arena_init(&a, 1024);
    ConfigNet env = {
        .aws_credentials =
            put_file(cred, sizeof cred, "cred",
                     "# keys\n[default]\naws_access_key_id=D\naws_secret_access_key = d/+=\n"
                     "[work]\r\naws_access_key_id = W\r\naws_secret_access_key=w\r\n"
                     "aws_session_token = t\r\n"),
        .aws_config = put_file(conf, sizeof conf, "conf",
                               "[default]\nregion = eu-9\n[profile work]\nregion=us-1\n"
                               "endpoint_url = http://store:9000//\n")};
    OK_(hub__s3_init(&s, &env, &a, TERR));
    EQ_STR(s.key_id, "D");
    EQ_STR(s.secret, "d/+=");
    EQ_STR(s.token, NULL);
    EQ_STR(s.region, "eu-9");
    EQ_STR(s.endpoint, NULL);
    env.aws_profile = "work";
    OK_(hub__s3_init(&s, &env, &a, TERR));
    EQ_STR(s.key_id, "W");
    EQ_STR(s.token, "t");
    EQ_STR(s.region, "us-1");
    EQ_STR(s.endpoint, "http://store:9000");
    env.aws_profile = "none";
    FAILS(ERR_ARG, hub__s3_init(&s, &env, &a, TERR));
    env = (ConfigNet){.aws_key_id = "K"};
    FAILS(ERR_ARG, hub__s3_init(&s, &env, &a, TERR));
    env = (ConfigNet){.aws_key_id = "K", .aws_secret = "s", .aws_region = "a b"};
    FAILS(ERR_ARG, hub__s3_init(&s, &env, &a, TERR));
    env = (ConfigNet){.aws_key_id = "K", .aws_secret = "s", .aws_endpoint = "ftp://x"};
    FAILS(ERR_ARG, hub__s3_init(&s, &env, &a, TERR));
    env = (ConfigNet){0};
    OK_(hub__s3_init(&s, &env, &a, TERR));
    EQ_STR(s.key_id, NULL);
    EQ_STR(s.region, "us-east-1");
    arena_deinit(&a);
}

TEST(errors_are_read_from_xml) {
    StrBuf b = {0};
    hub__s3_error(&b, slice_of("<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code>"
                               "<Message>a &amp; b\x1b</Message></Error>"));
    EQ_STR(sb_str(&b), "NoSuchKey: a & b\\x1b");
    sb_clear(&b);
    hub__s3_error(&b, slice_of("<html>oops"));
    EQ_STR(sb_str(&b), "");
    sb_deinit(&b);
}
