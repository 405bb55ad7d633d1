/* SPDX-License-Identifier: Apache-2.0
 * Shards and meta.json, good and bad. */
#include "data/internal.h"
#include "test.h"

#include <stdio.h>

static const char GOOD[] =
    "{\"format\":1,\"dtype\":\"uint16\",\"n_vocab\":300,\"eot\":299,\"seed\":7,\"val_share\":0.25,"
    "\"train\":{\"files\":2,\"characters\":3,\"bytes\":4,\"tokens\":5},\"val\":{\"tokens\":1}}";

static void put(const char *name, const void *bytes, size_t n) {
    char path[200];
    IoWriter w;
    snprintf(path, sizeof path, "%s/%s", test_tmpdir(), name);
    OK_(io_writer_open(&w, path, true, TERR));
    OK_(io_write(&w, bytes, n, TERR));
    OK_(io_writer_close(&w, TERR));
}

static void put_good(void) {
    put("meta.json", GOOD, strlen(GOOD));
    put("train.bin", "\1\0\2\0\3\0\53\1\54\1", 10); /* 1 2 3 299 300 */
    put("val.bin", "\53\1", 2);
}

TEST(reads_16_bit_ids) {
    Shard s;
    int32_t ids[5] = {0};
    put_good();
    OK_(data_shard_open(&s, test_tmpdir(), "train", TERR));
    EQ(s.n_tok, 5);
    EQ(s.n_vocab, 300);
    EQ(s.eot, 299);
    OK_(data_shard_read(&s, 1, ids, 3, TERR));
    EQ(ids[0], 2);
    EQ(ids[2], 299);
    OK_(data_shard_read(&s, 5, ids, 0, TERR));
    FAILS(ERR_FORMAT, data_shard_read(&s, 2, ids, 3, TERR));
    TRUE_(strstr(test_err.msg, "token 4 of the shard is 300, the vocabulary has 300") != NULL);
    FAILS(ERR_ARG, data_shard_read(&s, 4, ids, 2, TERR));
    FAILS(ERR_ARG, data_shard_read(&s, UINT64_MAX, ids, 2, TERR));
    data_shard_close(&s);
    data_shard_close(&s);
    OK_(data_shard_open(&s, test_tmpdir(), "val", TERR));
    EQ(s.n_tok, 1);
    data_shard_close(&s);
    FAILS(ERR_ARG, data_shard_open(&s, test_tmpdir(), "test", TERR));
}

TEST(reads_32_bit_ids) {
    static const char meta[] =
        "{\"format\":1,\"dtype\":\"uint32\",\"n_vocab\":151936,\"eot\":151643,"
        "\"train\":{\"tokens\":2},\"val\":{\"tokens\":1}}";
    Shard s;
    int32_t ids[2];
    put("meta.json", meta, strlen(meta));
    put("train.bin", "\133\120\2\0\1\0\0\200", 8); /* 151643, 2^31 + 1 */
    OK_(data_shard_open(&s, test_tmpdir(), "train", TERR));
    OK_(data_shard_read(&s, 0, ids, 1, TERR));
    EQ(ids[0], 151643);
    FAILS(ERR_FORMAT, data_shard_read(&s, 0, ids, 2, TERR));
    data_shard_close(&s);
}

TEST(meta_survives_a_round_trip) {
    Meta a, b;
    StrBuf text = {0};
    OK_(data__meta_parse(&a, slice_of(GOOD), TERR));
    data__meta_format(&a, &text);
    OK_(data__meta_parse(&b, (Slice){text.p, text.n}, TERR));
    EQ(b.id_bytes, 2);
    EQ(b.seed, 7);
    NEAR(b.val_share, 0.25, 0);
    EQ(b.count.n_docs[0], 2);
    EQ(b.count.n_chars[0], 3);
    EQ(b.count.n_bytes[0], 4);
    EQ(b.count.n_tok[0], 5);
    EQ(b.count.n_tok[1], 1);
    sb_deinit(&text);
}

/* GOOD with the first `from` replaced by `to` must be refused with `words`. */
static void expect_bad(const char *from, const char *to, const char *words) {
    StrBuf b = {0};
    Meta m;
    const char *at = strstr(GOOD, from);
    TRUE_(at != NULL);
    sb_put(&b, GOOD, (size_t)(at - GOOD));
    sb_puts(&b, to);
    sb_puts(&b, at + strlen(from));
    FAILS(ERR_FORMAT, data__meta_parse(&m, (Slice){b.p, b.n}, TERR));
    if (!strstr(test_err.msg, words)) FAIL("\"%s\" lacks \"%s\"", test_err.msg, words);
    sb_deinit(&b);
}

TEST(bad_meta_is_refused) {
    expect_bad("\"format\":1", "\"format\":2", "format");
    expect_bad("\"format\":1,", "", "format");
    expect_bad("\"format\":1", "\"format\":\"1\"", "format");
    expect_bad("uint16", "float", "dtype");
    expect_bad("\"uint16\"", "16", "dtype");
    expect_bad("300", "65537", "n_vocab");
    expect_bad("300", "0", "n_vocab");
    expect_bad("300", "1e99", "n_vocab");
    expect_bad("\"eot\":299", "\"eot\":300", "eot");
    expect_bad("\"eot\":299", "\"eot\":-1", "eot");
    expect_bad("\"eot\":299", "\"eot\":[]", "eot");
    expect_bad("\"tokens\":5", "\"tokens\":0", "tokens");
    expect_bad("\"tokens\":5", "\"tokens\":-5", "tokens");
    expect_bad("\"tokens\":5", "\"tokens\":9223372036854775807", "tokens");
    expect_bad("\"tokens\":5", "\"tokens\":5.5", "tokens");
    expect_bad("\"tokens\":5", "\"x\":5", "tokens");
    expect_bad("{\"files\":2,\"characters\":3,\"bytes\":4,\"tokens\":5}", "[5]", "train");
    expect_bad("{\"tokens\":1}", "null", "val");
    expect_bad("}}", "}", "json");
}

TEST(size_of_the_file_must_be_what_meta_says) {
    Shard s;
    put_good();
    put("train.bin", "\1\0\2\0\3\0\53\1\54", 9);
    FAILS(ERR_FORMAT, data_shard_open(&s, test_tmpdir(), "train", TERR));
    TRUE_(strstr(test_err.msg, "train.bin: 9 bytes, meta.json says 5 tokens of 2 bytes") != NULL);
    put("train.bin", "", 0);
    FAILS(ERR_FORMAT, data_shard_open(&s, test_tmpdir(), "train", TERR));
}

TEST(absent_parts) {
    Shard s;
    char path[200];
    FAILS(ERR_NOT_FOUND, data_shard_open(&s, test_tmpdir(), "train", TERR));
    TRUE_(strstr(test_err.msg, "meta.json") != NULL);
    put_good();
    snprintf(path, sizeof path, "%s/val.bin", test_tmpdir());
    OK_(io_remove(path, TERR));
    FAILS(ERR_NOT_FOUND, data_shard_open(&s, test_tmpdir(), "val", TERR));
    put("meta.json", "{", 1);
    FAILS(ERR_FORMAT, data_shard_open(&s, test_tmpdir(), "train", TERR));
    TRUE_(strstr(test_err.msg, "meta.json") != NULL);
}
