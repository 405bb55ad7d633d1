/* SPDX-License-Identifier: Apache-2.0
 * GGUF files made by hand, field by field, so that tests can make wrong ones. Every integer that
 * has a meaning to a reader is remembered with its place, for mutation. Out of memory ends the
 * program. */
#ifndef INGOT_TEST_GGUF_BUILD_H
#define INGOT_TEST_GGUF_BUILD_H

#include "format/gguf.h"

enum { BLOB_MAX_FIELDS = 512 };

typedef struct Blob {
    uint8_t *p; /* owned, by malloc */
    size_t n, cap;
    int n_fields;
    struct {
        size_t at;
        int width; /* 4 or 8 bytes */
    } field[BLOB_MAX_FIELDS];
} Blob;

/* A zeroed Blob is empty and ready. */
void blob_free(Blob *b);
void blob_put(Blob *b, const void *p, size_t n);
void blob_u8(Blob *b, uint8_t v);
void blob_u16(Blob *b, uint16_t v);
void blob_u32(Blob *b, uint32_t v);
void blob_u64(Blob *b, uint64_t v);
void blob_f32(Blob *b, float v);
void blob_f64(Blob *b, double v);
/* u64 length and the bytes. */
void blob_str(Blob *b, const char *s);
void blob_str_n(Blob *b, const void *p, size_t n);
/* Zeros up to a multiple of `to`, counted from the start. */
void blob_pad(Blob *b, size_t to);

/* "GGUF", version, counts. */
void blob_head(Blob *b, uint32_t version, uint64_t n_tensors, uint64_t n_kv);
/* Key and value type; the value follows by the calls above. */
void blob_key(Blob *b, const char *key, uint32_t type);
void blob_kv_u32(Blob *b, const char *key, uint32_t v);
void blob_kv_str(Blob *b, const char *key, const char *v);
/* Element type and length of an array; its elements follow. */
void blob_arr(Blob *b, uint32_t type, uint64_t n);
/* A tensor entry of n_dims dims. */
void blob_tensor(Blob *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
                 uint64_t offset);
/* The same with one dim. */
void blob_tensor_1d(Blob *b, const char *name, uint64_t ne, uint32_t type, uint64_t offset);
/* Padding to alignment, then n bytes of data that count up. */
void blob_data(Blob *b, size_t alignment, size_t n);

/* Good files of 100 bytes to 4 KB that between them hold every type and layout; i < BLOB_SEEDS. */
enum { BLOB_SEEDS = 5 };
const char *blob_seed_name(int i);
void blob_seed(Blob *b, int i);

#endif
