/* SPDX-License-Identifier: Apache-2.0
 * Refusing GGUF files: each way a file can be wrong, with the line that says so. */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "format/gguf.h"
#include "support/gguf_build.h"

static Gguf *open_blob(const Blob *b) {
    Gguf *g = NULL;
    OK_(gguf_open_bytes(&g, b->p, b->n, TERR));
    return g;
}

/* b is refused with exactly this line, nothing is left allocated, and b is freed. */
static void refused(Blob *b, const char *msg) {
    Gguf *g = NULL;
    size_t live = mem_live_bytes();
    uint8_t *exact = malloc(b->n + (b->n == 0));
    if (b->n) memcpy(exact, b->p, b->n);
    FAILS(ERR_FORMAT, gguf_open_bytes(&g, exact, b->n, TERR));
    EQ_STR(test_err.msg, msg);
    TRUE_(g == NULL);
    EQ(mem_live_bytes(), live);
    free(exact);
    blob_free(b);
}

/* ---- header ---- */

TEST(empty_and_foreign_files) {
    Blob b = {0};
    refused(&b, "not a gguf file: it is empty");
    blob_put(&b, "PK\x03\x04", 4);
    refused(&b, "not a gguf file: it starts with bytes 50 4b 03 04, not \"GGUF\"");
    blob_put(&b, "GGU", 3);
    refused(&b, "the file ends in the magic: 4 bytes wanted at offset 0, 3 are left");
}

TEST(versions) {
    Blob b = {0};
    blob_head(&b, 1, 0, 0);
    refused(&b, "gguf version 1 is too old; versions 2 and 3 are read");
    blob_head(&b, 4, 0, 0);
    refused(&b, "gguf version 4 is not known; versions 2 and 3 are read");
    blob_head(&b, 0, 0, 0);
    refused(&b, "gguf version 0 is not known; versions 2 and 3 are read");
    blob_head(&b, 0x03000000, 0, 0);
    refused(&b, "big-endian gguf (version field 0x03000000); only little-endian files are read");
}

TEST(counts_beyond_the_file) {
    Blob b = {0};
    blob_head(&b, 3, 0, UINT64_MAX);
    refused(&b, "18446744073709551615 metadata entries, limit 262144");
    blob_head(&b, 3, UINT64_C(1) << 60, 0);
    refused(&b, "1152921504606846976 tensors, limit 262144");
    blob_head(&b, 3, 0, 2);
    blob_pad(&b, 51);
    refused(&b, "2 metadata entries do not fit: each takes at least 14 bytes, 27 are left");
    blob_head(&b, 3, 1, 0);
    blob_pad(&b, 56);
    refused(&b, "1 tensors do not fit: each takes at least 33 bytes, 32 are left");
    blob_head(&b, 3, 1, 1);
    blob_kv_u32(&b, "a long enough key", 1);
    refused(&b, "1 tensors do not fit: each takes at least 33 bytes, 0 are left");
}

/* ---- metadata ---- */

TEST(keys) {
    static char long_key[65537];
    Blob b = {0};
    memset(long_key, 'k', 65535);
    blob_head(&b, 3, 0, 1);
    blob_kv_u32(&b, "", 1);
    refused(&b, "key 1 of 1: name of 0 bytes, limit 1 to 65535");

    blob_head(&b, 3, 0, 1);
    blob_kv_u32(&b, long_key, 1);
    Gguf *g = open_blob(&b);
    TRUE_(gguf_find(g, long_key) != NULL);
    gguf_close(g);
    blob_free(&b);

    long_key[65535] = 'k';
    blob_head(&b, 3, 0, 1);
    blob_kv_u32(&b, long_key, 1);
    refused(&b, "key 1 of 1: name of 65536 bytes, limit 1 to 65535");

    blob_head(&b, 3, 0, 1);
    blob_u64(&b, 100);
    blob_pad(&b, 41);
    refused(&b, "key 1 of 1: the file ends in the name: 100 bytes wanted at offset 32, 9 are left");

    blob_head(&b, 3, 0, 1);
    blob_str_n(&b, "a\0b", 3);
    blob_u32(&b, GGUF_U32);
    blob_u32(&b, 1);
    refused(&b, "key \"a\\x00b\": the name has a zero byte");

    blob_head(&b, 3, 0, 2);
    blob_kv_u32(&b, "a.b\n", 1);
    blob_kv_u32(&b, "a.b\n", 2);
    refused(&b, "key \"a.b\\x0a\": is there twice");
}

/* An entry "k" of this type, then bytes. */
static void value_blob(Blob *b, uint32_t type) {
    blob_head(b, 3, 0, 1);
    blob_key(b, "k", type);
}

TEST(value_types) {
    Blob b = {0};
    value_blob(&b, 13);
    blob_u32(&b, 0);
    refused(&b, "key \"k\": value type 13 is not known, limit 12");
    value_blob(&b, UINT32_MAX);
    blob_u32(&b, 0);
    refused(&b, "key \"k\": value type 4294967295 is not known, limit 12");
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, 99, 0);
    refused(&b, "key \"k\": array type 99 is not known, limit 12");
    value_blob(&b, GGUF_U64);
    blob_u32(&b, 0);
    refused(&b, "key \"k\": the file ends in the value: 8 bytes wanted at offset 37, 4 are left");
    value_blob(&b, GGUF_BOOL);
    blob_u8(&b, 2);
    refused(&b, "key \"k\": bool with value 2, must be 0 or 1");
}

TEST(strings_and_arrays_beyond_the_file) {
    Blob b = {0};
    value_blob(&b, GGUF_STR);
    blob_u64(&b, UINT64_MAX);
    refused(&b, "key \"k\": string of 18446744073709551615 bytes at offset 45, 0 are left");
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, GGUF_U64, UINT64_C(1) << 61);
    blob_u64(&b, 0);
    refused(&b, "key \"k\": array of 2305843009213693952 u64 at offset 49, 8 bytes are left");
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, GGUF_STR, 2);
    blob_str(&b, "one, and room for the other");
    refused(
        &b,
        "key \"k\": the file ends in the string length: 8 bytes wanted at offset 84, 0 are left");
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, GGUF_BOOL, 3);
    blob_u8(&b, 1), blob_u8(&b, 0), blob_u8(&b, 255);
    refused(&b, "key \"k\": bool with value 255, must be 0 or 1");
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, GGUF_ARR, 1);
    blob_arr(&b, GGUF_U8, 1);
    refused(&b, "key \"k\": array of 1 u8 at offset 61, 0 bytes are left");
}

TEST(arrays_nest_to_depth_2) {
    Blob b = {0};
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, GGUF_ARR, 1);
    blob_arr(&b, GGUF_ARR, 0); /* its elements would be arrays, but it has none */
    gguf_close(open_blob(&b));
    blob_free(&b);
    value_blob(&b, GGUF_ARR);
    blob_arr(&b, GGUF_ARR, 1);
    blob_arr(&b, GGUF_ARR, 1);
    blob_arr(&b, GGUF_U8, 0);
    refused(&b, "key \"k\": arrays nested deeper than the limit of 2");
}

TEST(alignments) {
    static const uint32_t bad[] = {0, 1, 4, 24, 33, 131072, 0x80000000};
    Blob b = {0};
    char want[128];
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        blob_head(&b, 3, 0, 1);
        blob_kv_u32(&b, "general.alignment", bad[i]);
        snprintf(want, sizeof want,
                 "key \"general.alignment\": %u is not a power of two in 8 to 65536", bad[i]);
        refused(&b, want);
    }
    for (uint32_t a = 8; a <= 65536; a *= 2) {
        blob_head(&b, 3, 1, 1);
        blob_kv_u32(&b, "general.alignment", a);
        blob_tensor_1d(&b, "t", 1, DT_F32, a);
        blob_data(&b, a, a + 4);
        Gguf *g = open_blob(&b);
        EQ(gguf_alignment(g), a);
        gguf_close(g);
        blob_free(&b);
    }
    blob_head(&b, 3, 0, 1);
    blob_kv_str(&b, "general.alignment", "32");
    refused(&b, "key \"general.alignment\": type str, must be u32");
}

/* ---- tensors ---- */

/* One tensor "t" of one row and 64 bytes of data. */
static void tensor_blob(Blob *b, uint64_t ne, uint32_t type, uint64_t offset) {
    blob_head(b, 3, 1, 0);
    blob_tensor_1d(b, "t", ne, type, offset);
    blob_data(b, 32, 64);
}

TEST(tensor_names) {
    char name[130];
    Blob b = {0};
    memset(name, 'n', sizeof name);
    name[127] = 0;
    blob_head(&b, 3, 1, 0);
    blob_tensor_1d(&b, name, 1, DT_F32, 0);
    blob_data(&b, 32, 4);
    gguf_close(open_blob(&b));
    blob_free(&b);

    name[127] = 'n', name[128] = 0;
    blob_head(&b, 3, 1, 0);
    blob_tensor_1d(&b, name, 1, DT_F32, 0);
    refused(&b, "tensor 1 of 1: name of 128 bytes, limit 1 to 127");

    blob_head(&b, 3, 2, 0);
    blob_tensor_1d(&b, "a.b", 8, DT_F32, 0);
    blob_tensor_1d(&b, "a.b", 8, DT_F32, 32);
    blob_data(&b, 32, 64);
    refused(&b, "tensor \"a.b\": is there twice");
}

TEST(tensor_shapes) {
    static const uint64_t huge[] = {UINT64_C(1) << 32, UINT64_C(1) << 32, 1, 1};
    Blob b = {0};
    blob_head(&b, 3, 1, 0);
    blob_tensor(&b, "t", 0, NULL, DT_F32, 0);
    blob_data(&b, 32, 4);
    refused(&b, "tensor \"t\": 0 dims, limit 1 to 4");
    blob_head(&b, 3, 1, 0);
    blob_tensor(&b, "t", 5, (uint64_t[]){1, 1, 1, 1, 1}, DT_F32, 0);
    blob_data(&b, 32, 4);
    refused(&b, "tensor \"t\": 5 dims, limit 1 to 4");
    blob_head(&b, 3, 1, 0);
    blob_tensor(&b, "t", 3, (uint64_t[]){4, 0, 4}, DT_F32, 0);
    blob_data(&b, 32, 4);
    refused(&b, "tensor \"t\": dim 1 of 3 is 0");
    blob_head(&b, 3, 1, 0);
    blob_tensor(&b, "t", 2, huge, DT_F32, 0);
    blob_data(&b, 32, 4);
    refused(&b,
            "tensor \"t\": shape [4294967296, 4294967296, 1, 1] of f32 takes more than 2^64 bytes");
    tensor_blob(&b, UINT64_C(1) << 62, DT_F32, 0); /* elements fit 64 bits, bytes wrap to 0 */
    refused(&b,
            "tensor \"t\": shape [4611686018427387904, 1, 1, 1] of f32 takes more than 2^64 bytes");
    tensor_blob(&b, 33, DT_Q8_0, 0);
    refused(&b, "tensor \"t\": rows of 33 are not whole blocks of 32 (q8_0)");
}

TEST(tensor_types) {
    static const uint32_t bad[] = {4, 5, 31, 36, 97, UINT32_MAX};
    char want[64];
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Blob b = {0};
        blob_head(&b, 3, 1, 0);
        blob_tensor_1d(&b, "blk.0.x", 32, bad[i], 0);
        blob_data(&b, 32, 64);
        snprintf(want, sizeof want, "tensor \"blk.0.x\": type %u is not known", bad[i]);
        refused(&b, want);
    }
    Blob b = {0};
    blob_head(&b, 3, 1, 0);
    blob_tensor_1d(&b, "x", 256, 10, 0);
    refused(&b,
            "tensor \"x\": type 10 (q2_K) is not supported: convert the model to f16, q8_0, q4_0, "
            "q4_K, ...");
}

TEST(tensor_offsets) {
    Blob b = {0};
    tensor_blob(&b, 4, DT_F32, 16);
    refused(&b, "tensor \"t\": offset 16 is not a multiple of 32");
    tensor_blob(&b, 9, DT_F32, 32);
    refused(&b, "tensor \"t\": offset 32 + 36 bytes goes past the end of the data (64 bytes)");
    tensor_blob(&b, 17, DT_F32, 0);
    refused(&b, "tensor \"t\": offset 0 + 68 bytes goes past the end of the data (64 bytes)");
    tensor_blob(&b, 8, DT_F32, UINT64_MAX - 31);
    refused(&b,
            "tensor \"t\": offset 18446744073709551584 + 32 bytes goes past the end of the data "
            "(64 bytes)");
    tensor_blob(&b, (UINT64_C(1) << 62) - 8, DT_F32, 32); /* the end wraps to 0 */
    refused(&b,
            "tensor \"t\": offset 32 + 18446744073709551584 bytes goes past the end of the data "
            "(64 bytes)");
    blob_head(&b, 3, 1, 0); /* the header ends where the data would start, and so does the file */
    blob_tensor_1d(&b, "seven..", 1, DT_F32, 0);
    EQ(b.n, 63);
    refused(&b, "tensor \"seven..\": offset 0 + 4 bytes goes past the end of the data (0 bytes)");
}

TEST(tensors_that_overlap) {
    Blob b = {0};
    blob_head(&b, 3, 2, 0);
    blob_tensor_1d(&b, "a", 9, DT_F32, 0);
    blob_tensor_1d(&b, "b", 8, DT_F32, 32);
    blob_data(&b, 32, 64);
    refused(&b, "tensor \"b\": bytes 32 to 64 overlap tensor \"a\" (0 to 36)");
    blob_head(&b, 3, 3, 0);
    blob_tensor_1d(&b, "z", 1, DT_F32, 64);
    blob_tensor_1d(&b, "y", 8, DT_F32, 32);
    blob_tensor_1d(&b, "x", 24, DT_F16, 0);
    blob_data(&b, 32, 96);
    refused(&b, "tensor \"y\": bytes 32 to 64 overlap tensor \"x\" (0 to 48)");
    blob_head(&b, 3, 2, 0);
    blob_tensor_1d(&b, "same", 8, DT_F32, 0);
    blob_tensor_1d(&b, "place", 8, DT_F32, 0);
    blob_data(&b, 32, 96);
    refused(&b, "tensor \"place\": bytes 0 to 32 overlap tensor \"same\" (0 to 32)");
}

TEST(a_message_holds_name_value_and_limit_of_any_name) {
    char name[256];
    Blob b = {0};
    Gguf *g = NULL;
    memset(name, 1, sizeof name); /* each byte shown as four */
    blob_head(&b, 3, 2, 0);
    for (size_t i = 0; i < 2; i++) {
        name[0] = (char)(2 + i);
        blob_str_n(&b, name, 127);
        blob_u32(&b, 1);
        blob_u64(&b, UINT64_C(1) << 40);
        blob_u32(&b, DT_F32);
        blob_u64(&b, 0);
    }
    blob_data(&b, 32, 64);
    FAILS(ERR_FORMAT, gguf_open_bytes(&g, b.p, b.n, TERR));
    TRUE_(strstr(test_err.msg,
                 "...\": offset 0 + 4398046511104 bytes goes past the end of the data "
                 "(64 bytes)"));
    blob_free(&b);
}

/* ---- time ---- */

/* Two words w and w' of a name whose steps of sha_hash64 differ only in the highest bit of the
 * state, whatever came before, and two more that take the difference back. A name of n such
 * pairs has 2^n others with the same hash under every seed. */
static uint64_t rotr(uint64_t x, int n) { return x >> n | x << (64 - n); }

static uint64_t inverse(uint64_t odd) {
    uint64_t x = odd;
    for (int i = 0; i < 6; i++) x *= 2 - odd * x;
    return x;
}

static uint64_t other_word(uint64_t w, uint64_t flip) {
    const uint64_t p1 = UINT64_C(0x9e3779b185ebca87), p2 = UINT64_C(0xc2b2ae3d27d4eb4f);
    uint64_t mixed = w * p2;
    mixed = (mixed << 31 | mixed >> 33) * p1 ^ flip;
    return rotr(mixed * inverse(p1), 31) * inverse(p2);
}

static bool has_zero_byte(uint64_t w) { return memchr(&w, 0, sizeof w) != NULL; }

static void word_pair(uint64_t w[2], uint64_t *seed, uint64_t flip) {
    do {
        w[0] = *seed += UINT64_C(0x9e3779b97f4a7c15);
        w[1] = other_word(w[0], flip);
    } while (has_zero_byte(w[0]) || has_zero_byte(w[1]));
}

/* A file could keep the reader busy for minutes with names that all hash to one slot. */
TEST(names_made_to_collide_cost_no_time) {
    enum { BITS = 15, N = 1 << BITS };
    uint64_t first[BITS][2], second[BITS][2], seed = 1, name[2 * BITS];
    Blob b = {0};
    Gguf *g = NULL;
    for (int k = 0; k < BITS; k++) {
        word_pair(first[k], &seed, UINT64_C(1) << (63 - 27));
        word_pair(second[k], &seed, UINT64_C(1) << 63);
    }
    blob_head(&b, 3, 0, N);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < BITS; k++) {
            name[2 * k] = first[k][i >> k & 1];
            name[2 * k + 1] = second[k][i >> k & 1];
        }
        blob_str_n(&b, name, sizeof name);
        blob_u32(&b, GGUF_U8);
        blob_u8(&b, 0);
    }
    double start = clock_now_s();
    Status st = gguf_open_bytes(&g, b.p, b.n, TERR);
    TRUE_(clock_now_s() - start < 2);
    if (st != OK) TRUE_(strstr(test_err.msg, "collides with too many other names"));
    gguf_close(g);
    blob_free(&b);
}
