/* SPDX-License-Identifier: Apache-2.0
 * What the gguf_*.c files share: the opened file, the name index, and the words of messages. Not
 * for other folders. */
#ifndef INGOT_FORMAT_GGUF_INTERNAL_H
#define INGOT_FORMAT_GGUF_INTERNAL_H

#include "format/gguf.h"

/* Files are little endian and are read and written by memcpy. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "little-endian machines only");
_Static_assert(sizeof(size_t) == 8, "file offsets are held in size_t");

/* A message about a whole name stays inside Err.msg. */
enum { GGUF_SHOWN_NAME = 100 };
/* Smallest encodings: {length, 1 byte, type, 1 byte} and {length, 1 byte, n_dims, 1 dim, type,
 * offset}. */
enum { GGUF_MIN_KV_BYTES = 8 + 1 + 4 + 1, GGUF_MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8 };

/* Open-addressing hash table from a name to the place of its entry. Entries live in an array the
 * caller owns and start with their name (a Slice). */
typedef struct GgufIndex {
    uint32_t *slot; /* owned; place + 1, 0 is empty */
    size_t cap;     /* power of two, at least twice the entries */
    uint64_t seed;
} GgufIndex;

/* Entries of an array, as the index sees them. */
typedef struct GgufNames {
    const void *base; /* borrowed */
    size_t stride;
} GgufNames;

/* Make room for n_want entries; the first n_have of names are indexed already. False: out of
 * memory. */
MUST_CHECK bool gguf__index_reserve(GgufIndex *x, GgufNames names, size_t n_have, size_t n_want);
/* Place of the entry with this name, or SIZE_MAX. */
size_t gguf__index_find(const GgufIndex *x, GgufNames names, Slice name);
/* Add entry i, whose name is not in the index yet; room was reserved. False: its chain is longer
 * than chance makes chains, so the names were made to collide. */
MUST_CHECK bool gguf__index_add(GgufIndex *x, GgufNames names, size_t i);
void gguf__index_deinit(GgufIndex *x);

struct Gguf {
    IoMap map; /* owned where owns_map, else the caller's bytes */
    bool owns_map;
    size_t n_files;
    char **paths;     /* owned, and each owned; NULL where it is one file */
    IoMap *part;      /* owned [n_files], parts of map; NULL where it is one file */
    uint64_t n_bytes; /* of all files */
    uint32_t version, alignment;
    GgufKv *kv; /* owned */
    size_t n_kv;
    GgufTensor *tensor; /* owned */
    size_t n_tensors;
    GgufIndex kv_index, tensor_index;
};

static inline GgufNames gguf__kv_names(const Gguf *g) { return (GgufNames){g->kv, sizeof *g->kv}; }
static inline GgufNames gguf__tensor_names(const Gguf *g) {
    return (GgufNames){g->tensor, sizeof *g->tensor};
}

/* Reading position in the file; `kind` and `name` (or, before the name is read, `i` of `of`) say in
 * messages which entry it is in. */
typedef struct GgufCursor {
    const uint8_t *p;
    size_t n, at;
    const char *kind; /* "key", "tensor"; NULL: in the header */
    Slice name;       /* name.p NULL: not read yet */
    uint64_t i, of;
    Err *e;
} GgufCursor;

/* ERR_FORMAT with the cursor's entry before the message. */
Status gguf__bad(GgufCursor *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
MUST_CHECK Status gguf__take_u32(uint32_t *out, GgufCursor *c, const char *what);
MUST_CHECK Status gguf__take_u64(uint64_t *out, GgufCursor *c, const char *what);
/* A name of 1..max bytes without zero bytes; becomes the cursor's name. */
MUST_CHECK Status gguf__take_name(Slice *out, GgufCursor *c, uint64_t max);
/* Type and value of an entry whose key is read, checked to the last byte. */
MUST_CHECK Status gguf__take_value(GgufKv *kv, GgufCursor *c);
/* Tensor entries and where their data lies. */
MUST_CHECK Status gguf__take_tensors(Gguf *g, GgufCursor *c);

/* Open the n files of a split model by the name of one; the map is theirs. */
MUST_CHECK Status gguf__open_split(Gguf **out, const char *path, size_t n, Err *e);

/* Fill e with `kind "name": message`. */
Status gguf__err(Err *e, Status code, const char *kind, Slice name, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* Name of 1..max bytes without zero bytes; `code` on failure. */
MUST_CHECK Status gguf__check_name(const char *kind, Slice name, size_t max, Status code, Err *e);
/* Check n_dims, ne and type of t and fill in n_elem and n_bytes; `code` on failure. */
MUST_CHECK Status gguf__check_shape(GgufTensor *t, uint32_t type, Status code, Err *e);
bool gguf__alignment_ok(uint64_t a);
/* Bytes of a scalar of this type in a file; 0 for strings, arrays and unknown types. */
size_t gguf__type_size(uint32_t type);
/* "u32", "str", "arr". */
const char *gguf__type_name(GgufType type);
/* Decode one scalar (not a string) from its bytes into kv->v. */
void gguf__decode_scalar(GgufKv *kv, GgufType type, const uint8_t *p);

#endif
