/* SPDX-License-Identifier: Apache-2.0 */
#include "trust/manifest.h"

#include <stdio.h>

#include "base/mem.h"
#include "test.h"

#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD \
    "{\"format\":\"ingot-manifest-1\",\"tag\":\"a-v1.0.0\",\"created\":\"2026-01-31T12:00:00Z\""
#define FILE_OF(name) "{\"name\":\"" name "\",\"size\":3,\"sha256\":\"" HEX "\"}"
#define GOOD HEAD ",\"files\":[" FILE_OF("m.gguf") "]}"

static void refused(const char *text, const char *words) {
    Manifest m;
    size_t live = mem_live_bytes();
    TRUE_(trust_manifest_parse(&m, slice_of(text), TERR) != OK);
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    EQ(mem_live_bytes(), live);
    TRUE_(m.file == NULL && m.n_files == 0);
}

TEST(tags) {
    static const char *const good[] = {"qwen2.5-v1.0.1", "a-v0.0.0",
                                       "deep_seek.r1-distill-v12.0.345", "a-b-v1.2.3",
                                       "7b-v999999999.0.1"};
    static const char *const bad[] = {
        "",           "v1.0.0",     "-v1.0.0",     "a-v1.0",
        "a-v1.0.0.0", "a-v01.0.0",  "a-v1.0.0-rc", "A-v1.0.0",
        "a-1.0.0",    "a-v1.0.x",   "a--v1.0.0",   ".a-v1.0.0",
        "a b-v1.0.0", "a/b-v1.0.0", "a-v1..0",     "a-v1.0.1000000000",
        "latest",     "a-v1.0.0\n", "a.-v1.0.0"};
    for (size_t i = 0; i < COUNT_OF(good); i++) OK_(trust_check_tag(slice_of(good[i]), TERR));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        FAILS(ERR_ARG, trust_check_tag(slice_of(bad[i]), TERR));
    FAILS(ERR_ARG, trust_check_tag((Slice){"a\0b-v1.0.0", 10}, TERR));
}

TEST(names) {
    static const char *const good[] = {"m.gguf", "a/b/c.json", "...", "a b", "\u00e4", "-x"};
    static const char *const bad[] = {"",     "/a",  "a/",  "a//b", ".",    "..",   "a/../b",
                                      "../a", "./a", "a/.", "a\nb", "a\\b", "\x7f", "\xff"};
    for (size_t i = 0; i < COUNT_OF(good); i++) OK_(trust_check_name(slice_of(good[i]), TERR));
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        FAILS(ERR_FORMAT, trust_check_name(slice_of(bad[i]), TERR));
}

TEST(text_of_a_manifest_reads_back) {
    static const char text[] =
        HEAD ",\"base_model\":\"b \\\"q\\\" \u00e4\",\"licence\":\"mit\",\"dataset_sha256\":\"" HEX
             "\",\"quantization\":\"q4_K_M\",\"scores\":{\"x\":0.1,\"y\":-3,\"z\":1e-7},\"files\":"
             "[" FILE_OF("z") "," FILE_OF(
                 "a/b") "],\"tags\":[{\"tag\":\"a-v0.9.0\",\"fingerprint\":\"" HEX "\"}]}";
    Manifest m, n;
    StrBuf one = {0}, two = {0};
    Sha256 a, b;
    OK_(trust_manifest_parse(&m, slice_of(text), TERR));
    EQ(m.n_files, 2);
    TRUE_(slice_eq_str(m.file[0].name, "a/b")); /* by name */
    EQ(m.n_scores, 3);
    EQ(m.n_old, 1);
    trust_manifest_format(&one, &m);
    OK_(trust_manifest_parse(&n, (Slice){one.p, one.n}, TERR));
    trust_manifest_format(&two, &n);
    EQ_STR(one.p, two.p);
    OK_(trust_manifest_fingerprint(&a, &m, TERR));
    n.created = slice_of("2027-01-31T12:00:00Z");
    n.n_old = 0;
    OK_(trust_manifest_fingerprint(&b, &n, TERR));
    EQ_MEM(&a, &b, sizeof a);
    n.licence = slice_of("gpl");
    OK_(trust_manifest_fingerprint(&b, &n, TERR));
    TRUE_(memcmp(&a, &b, sizeof a) != 0);
    TRUE_(trust_manifest_find(&m, slice_of("z")) == &m.file[1]);
    TRUE_(trust_manifest_find(&m, slice_of("b")) == NULL);
    trust_manifest_deinit(&m);
    trust_manifest_deinit(&n);
    sb_deinit(&one);
    sb_deinit(&two);
}

TEST(hostile_manifests) {
    Manifest m;
    OK_(trust_manifest_parse(&m, slice_of(GOOD), TERR));
    trust_manifest_deinit(&m);
    refused("", "");
    refused("[]", "not a JSON object");
    refused("{}", "format is missing");
    refused("{\"format\":\"ingot-manifest-2\"}", "only ingot-manifest-1");
    refused("{\"format\":1}", "only ingot-manifest-1");
    refused(HEAD "}", "files are missing");
    refused(HEAD ",\"files\":[]}", "1 to 4096 files");
    refused(HEAD ",\"files\":{}}", "1 to 4096 files");
    refused(HEAD ",\"files\":[1]}", "files: name");
    refused(HEAD ",\"files\":[" FILE_OF("../x") "]}", "file \"../x\": not a plain path");
    refused(HEAD ",\"files\":[" FILE_OF("/etc/passwd") "]}", "not a plain path");
    refused(HEAD ",\"files\":[" FILE_OF("a\\u0000b") "]}", "files: name");
    refused(HEAD ",\"files\":[" FILE_OF("a") "," FILE_OF("b") "," FILE_OF("a") "]}",
            "file \"a\": is listed twice");
    refused(HEAD ",\"files\":[" FILE_OF("a") "],\"files\":[" FILE_OF("b") "]}", "");
    refused(HEAD ",\"files\":[{\"name\":\"a\",\"size\":-1,\"sha256\":\"" HEX "\"}]}",
            "files: size");
    refused(HEAD ",\"files\":[{\"name\":\"a\",\"size\":1.5,\"sha256\":\"" HEX "\"}]}",
            "files: size");
    refused(HEAD ",\"files\":[{\"name\":\"a\",\"size\":99999999999999999999,\"sha256\":\"" HEX
                 "\"}]}",
            "");
    refused(HEAD ",\"files\":[{\"name\":\"a\",\"size\":1,\"sha256\":\"00\"}]}", "files: sha256");
    refused(HEAD ",\"files\":[{\"name\":\"a\",\"size\":1,\"sha256\":\"" HEX "\",\"x\":1}]}",
            "files: name");
    refused(HEAD ",\"scores\":{\"a\":\"1\"},\"files\":[" FILE_OF("a") "]}", "scores");
    refused(HEAD ",\"scores\":[],\"files\":[" FILE_OF("a") "]}", "scores");
    refused(HEAD ",\"dataset_sha256\":\"x\",\"files\":[" FILE_OF("a") "]}", "dataset_sha256");
    refused(HEAD ",\"licence\":7,\"files\":[" FILE_OF("a") "]}", "licence");
    refused(HEAD ",\"licence\":\"\",\"files\":[" FILE_OF("a") "]}", "licence");
    refused(HEAD ",\"run\":\"rm\",\"files\":[" FILE_OF("a") "]}", "key \"run\": not known");
    refused(HEAD ",\"tags\":[{\"tag\":\"a\\\"\",\"fingerprint\":\"" HEX
                 "\"}],\"files\":[" FILE_OF("a") "]}",
            "tags: tag");
    refused("{\"format\":\"ingot-manifest-1\",\"tag\":\"A\",\"created\":\"2026-01-31T12:00:00Z\","
            "\"files\":[" FILE_OF("a") "]}",
            "tag \"A\"");
    refused("{\"format\":\"ingot-manifest-1\",\"tag\":\"a-v1.0.0\",\"created\":\"now\",\"files\":"
            "[" FILE_OF("a") "]}",
            "created");
    refused("{\"format\":\"ingot-manifest-1\",\"tag\":null,\"created\":\"2026-01-31T12:00:00Z\","
            "\"files\":[" FILE_OF("a") "]}",
            "tag");
}
